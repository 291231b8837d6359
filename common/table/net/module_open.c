#include "common/table/net/module_open.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/bounded.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define GRACE_MS 1000 /* so that a library that keeps to its limit is heard */

struct opening {
    struct module_opening o;
    struct module_why why;
    void *conn;
};

static void run(void *job)
{
    struct opening *x = job;
    x->conn = x->o.sql != NULL ? x->o.sql->open(&x->o.settings, x->o.host, x->o.timeout_ms, &x->why)
                               : x->o.ldap->open(&x->o.settings, x->o.timeout_ms, &x->why);
}

static void discard(void *job)
{
    struct opening *x = job;
    if (x->conn != NULL)
        (x->o.sql != NULL ? x->o.sql->close : x->o.ldap->close)(x->conn);
    table_content_unref(x->o.content);
    free(x);
}

void *module_open(const struct module_opening *o, struct module_why *why)
{
    struct opening *x = xcalloc(1, sizeof *x);
    x->o = *o;
    table_content_ref(o->content);
    switch (bounded_call("table", run, discard, x, clock_mono_ms() + o->timeout_ms + GRACE_MS)) {
    case BOUNDED_LATE:
        snprintf(why->text, sizeof why->text, "connecting takes too long");
        why->timed_out = true;
        return NULL;
    case BOUNDED_NO_THREAD:
        run(x);
        break;
    case BOUNDED_DONE:
        break;
    }
    void *conn = x->conn;
    *why = x->why;
    x->conn = NULL;
    discard(x);
    return conn;
}

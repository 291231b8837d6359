/*
 * newaliases: alias files are read as they are written, nothing has to be made from them. What is left to do is to say what is
 * wrong with them.
 */
#include "daemon/cmd/sendmail.h"

#include <sysexits.h>

#include "common/conf/params.h"
#include "common/table/table.h"

struct check {
    const struct sendmail *sm;
    int problems;
};

static void note(void *arg, bool is_error, const char *file, int line, const char *text)
{
    struct check *c = arg;
    sendmail_fail(c->sm, 0, "%s%s, line %d: %s", is_error ? "" : "warning: ", file, line, text);
    c->problems += is_error;
}

int sendmail_aliases(struct sendmail *sm)
{
    struct check c = { .sm = sm };
    struct table_registry *reg = table_registry_new(NULL);
    table_registry_use_conf(reg, sm->conf);
    struct table_notes notes = { .fn = note, .arg = &c };
    struct span rest = span_cstr(sm->o.arg != NULL ? sm->o.arg : sm->p->alias_database), item;
    while (conf_list_next(&rest, &item, NULL)) {
        struct err e = ERR_INIT;
        enum table_status st;
        struct table *t = table_open(reg, item, TABLE_ALIASES, &notes, &st, &e);
        if (st != TABLE_OK) {
            sendmail_fail(sm, 0, "%s", e.text);
            c.problems++;
        }
        table_close(&t);
    }
    table_registry_unref(&reg);
    return c.problems > 0 ? EX_CONFIG : 0;
}

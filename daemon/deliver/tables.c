#include "common/base/lock.h"
#include "common/base/mem.h"
#include "daemon/deliver/tables.h"

struct entry {
    char *list;          /* owned */
    struct maps *maps;   /* owned */
    struct entry *next;
};

struct deliver_tables {
    struct table_registry *registry; /* counted */
    struct log_src log;
    struct lock m;
    struct entry *first;             /* guarded by m; entries are immutable */
};

struct deliver_tables *deliver_tables_new(struct table_registry *r, const struct log_src *log)
{
    struct deliver_tables *t = xcalloc(1, sizeof *t);
    t->registry = table_registry_ref(r);
    t->log = *log;
    lock_init(&t->m, LOCK_DELIVER_TABLES);
    return t;
}

void deliver_tables_free(struct deliver_tables **tp)
{
    struct deliver_tables *t = *tp;
    if (t == NULL)
        return;
    while (t->first) {
        struct entry *e = t->first;
        t->first = e->next;
        maps_close(&e->maps);
        free(e->list);
        free(e);
    }
    table_registry_unref(&t->registry);
    lock_destroy(&t->m);
    free(t);
    *tp = NULL;
}

static struct entry *find(struct deliver_tables *t, const char *list) REQUIRES(&t->m)
{
    for (struct entry *e = t->first; e; e = e->next)
        if (strcmp(e->list, list) == 0)
            return e;
    return NULL;
}

static void problem(void *arg, struct span spec, enum table_status status, const struct err *e)
{
    struct deliver_tables *t = arg;
    (void)status;
    log_warn(&t->log, "table %.*s: %s", SPAN_ARG(spec), e->text);
}

const struct maps *deliver_tables_get(struct deliver_tables *t, const char *list)
{
    lock_take(&t->m);
    struct entry *e = find(t, list);
    lock_drop(&t->m);
    if (e)
        return e->maps;
    struct entry *fresh = xcalloc(1, sizeof *fresh);
    fresh->list = xstrdup(list);
    fresh->maps = maps_open(t->registry, span_cstr(list), NULL, problem, NULL, t);
    lock_take(&t->m);
    e = find(t, list); /* another thread may have been quicker */
    if (e == NULL) {
        fresh->next = t->first;
        t->first = e = fresh;
        fresh = NULL;
    }
    lock_drop(&t->m);
    if (fresh) {
        maps_close(&fresh->maps);
        free(fresh->list);
        free(fresh);
    }
    return e->maps;
}

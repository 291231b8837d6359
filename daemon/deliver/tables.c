#include "common/base/lock.h"
#include "common/base/mem.h"
#include "daemon/deliver/tables.h"

struct entry {
    char *list;          /* owned */
    bool parents;        /* of hosts */
    struct maps *maps;   /* owned, or NULL */
    struct match_list *hosts; /* owned, or NULL */
    unsigned flags;      /* TABLE_* of the maps */
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

static void free_entry(struct entry *e)
{
    maps_close(&e->maps);
    match_list_free(&e->hosts);
    free(e->list);
    free(e);
}

void deliver_tables_free(struct deliver_tables **tp)
{
    struct deliver_tables *t = *tp;
    if (t == NULL)
        return;
    while (t->first) {
        struct entry *e = t->first;
        t->first = e->next;
        free_entry(e);
    }
    table_registry_unref(&t->registry);
    lock_destroy(&t->m);
    free(t);
    *tp = NULL;
}

static struct entry *find(struct deliver_tables *t, const char *list, bool is_hosts, bool parents, unsigned flags) REQUIRES(&t->m)
{
    for (struct entry *e = t->first; e; e = e->next)
        if ((e->hosts != NULL) == is_hosts && e->parents == parents && e->flags == flags && strcmp(e->list, list) == 0)
            return e;
    return NULL;
}

static void problem(void *arg, struct span spec, enum table_status status, const struct err *e)
{
    struct deliver_tables *t = arg;
    (void)status;
    log_warn(&t->log, "table %.*s: %s", SPAN_ARG(spec), e->text);
}

static const struct entry *look(struct deliver_tables *t, const char *list, bool is_hosts, bool parents, unsigned flags)
{
    lock_take(&t->m);
    const struct entry *e = find(t, list, is_hosts, parents, flags);
    lock_drop(&t->m);
    return e;
}

/* Takes fresh; another thread may have been quicker, then the entry is that one's. */
static const struct entry *keep(struct deliver_tables *t, struct entry *fresh)
{
    lock_take(&t->m);
    struct entry *e = find(t, fresh->list, fresh->hosts != NULL, fresh->parents, fresh->flags);
    if (e == NULL) {
        fresh->next = t->first;
        t->first = e = fresh;
        fresh = NULL;
    }
    lock_drop(&t->m);
    if (fresh)
        free_entry(fresh);
    return e;
}

static unsigned no_references(void *arg UNUSED, struct span spec UNUSED)
{
    return TABLE_NO_REFERENCES;
}

static unsigned any_bytes(void *arg UNUSED, struct span spec UNUSED)
{
    return TABLE_BYTES;
}

static const struct maps *get(struct deliver_tables *t, const char *list, unsigned flags)
{
    const struct entry *e = look(t, list, false, false, flags);
    if (e == NULL) {
        struct entry *fresh = xcalloc(1, sizeof *fresh);
        fresh->list = xstrdup(list);
        fresh->flags = flags;
        fresh->maps = maps_open(t->registry, span_cstr(list), flags == TABLE_BYTES ? any_bytes : flags ? no_references : NULL, problem, NULL, t);
        e = keep(t, fresh);
    }
    return e->maps;
}

const struct maps *deliver_tables_get(struct deliver_tables *t, const char *list)
{
    return get(t, list, 0);
}

const struct maps *deliver_tables_get_literal(struct deliver_tables *t, const char *list)
{
    return get(t, list, TABLE_NO_REFERENCES);
}

const struct maps *deliver_tables_get_bytes(struct deliver_tables *t, const char *list)
{
    return get(t, list, TABLE_BYTES);
}

static void list_problem(void *arg, enum table_status status, const char *text)
{
    struct deliver_tables *t = arg;
    (void)status;
    log_warn(&t->log, "%s", text);
}

const struct match_list *deliver_tables_list(struct deliver_tables *t, const char *parameter, const char *list, bool parents)
{
    const struct entry *e = look(t, list, true, parents, 0);
    if (e == NULL) {
        struct entry *fresh = xcalloc(1, sizeof *fresh);
        fresh->list = xstrdup(list);
        fresh->parents = parents;
        struct match_options o = { .registry = t->registry, .list = span_cstr(fresh->list), .kind = MATCH_HOSTS, .parents = parents,
                                   .title = parameter, .problem = list_problem, .arg = t };
        fresh->hosts = match_list_compile(&o);
        e = keep(t, fresh);
    }
    return e->hosts;
}

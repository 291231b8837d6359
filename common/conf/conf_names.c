/*
 * conf_names: names in main.cf and -o that no table knows
 *
 * A site may define names of its own: macros used as $name, restriction classes, <transport>_ forms of a master.cf
 * service, and the parameters of a database table (ldap:NAME makes NAME_server_host one). What is none of these is most
 * likely misspelt, and the nearest known name is offered.
 */
#include "common/base/mem.h"
#include "common/conf/conf_internal.h"
#include "common/conf/expand.h"

#define UNKNOWN_MAX 200 /* more than this is no misspelling any more */

struct known {
    struct arena *arena;
    struct conf_dict *used;   /* referenced as $name, or a restriction class */
    struct conf_dict *tables; /* NAME of ldap:NAME and the like */
};

static void note_used_cb(void *arg, struct span name)
{
    struct known *k = arg;
    (void)conf_dict_set(k->used, name, SPAN_LIT(""), NULL, 0);
}

static void note_tables(struct known *k, const char *value)
{
    static const char *const types[] = { "ldap:", "mysql:", "pgsql:", "sqlite:", "memcache:" };
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        const char *at = value;
        while ((at = strstr(at, types[t])) != NULL) {
            at += strlen(types[t]);
            size_t n = strcspn(at, ", \t\r\n/{}");
            if (n > 0 && at[n] != '/')
                (void)conf_dict_set(k->tables, span_of(at, n), SPAN_LIT(""), NULL, 0);
        }
    }
}

static void note_values(struct known *k, const struct conf_dict *d)
{
    for (const struct conf_entry *e = conf_dict_first(d); e != NULL; e = e->next) {
        expand_names(span_cstr(e->value), note_used_cb, k);
        note_tables(k, e->value);
    }
}

static void note_classes(struct known *k, const struct params *p)
{
    struct span rest = span_cstr(p->smtpd_restriction_classes), item;
    while (conf_list_next(&rest, &item, NULL)) {
        if (item.n > 0)
            note_used_cb(k, item);
    }
}

static bool is_of_transport(const struct conf *c, struct span name)
{
    for (const struct master_line *l = c->lines; l != NULL; l = l->next) {
        if (param_transport_row(name, span_cstr(l->name)) != NULL)
            return true;
    }
    return false;
}

static bool is_of_table(const struct known *k, struct span name)
{
    for (size_t i = 1; i < name.n; i++) {
        if (name.p[i] == '_' && conf_dict_get(k->tables, span_of(name.p, i)) != NULL)
            return true;
    }
    return false;
}

static void check_dict(const struct conf *c, const struct known *k, const struct conf_dict *d, size_t *unknown,
                       struct conf_report *report)
{
    for (const struct conf_entry *e = conf_dict_first(d); e != NULL && *unknown < UNKNOWN_MAX; e = e->next) {
        struct span name = span_cstr(e->name);
        if (param_find(c->index, name) >= 0 || conf_dict_get(k->used, name) != NULL || is_of_table(k, name) ||
            is_of_transport(c, name))
            continue;
        const char *near = param_nearest(name);
        conf_report_add(report, CONF_WARNING, e->file, e->line,
                        "%s: no parameter has this name, and nothing uses it%s%s%s", e->name,
                        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
        ++*unknown;
    }
}

void conf_check_names(const struct conf *c, struct conf_report *report)
{
    size_t unknown = 0;
    struct known k = { .arena = arena_new(0) };
    k.used = conf_dict_new(k.arena);
    k.tables = conf_dict_new(k.arena);
    note_values(&k, c->main);
    note_classes(&k, c->global->params);
    for (const struct master_line *l = c->lines; l != NULL; l = l->next) {
        note_values(&k, l->overrides);
        for (size_t i = l->first_plain; i < l->argc; i++)
            expand_names(span_cstr(l->argv[i]), note_used_cb, &k);
    }
    for (size_t i = 0; i < c->service_count; i++)
        note_classes(&k, c->services[i].p);

    check_dict(c, &k, c->main, &unknown, report);
    for (const struct master_line *l = c->lines; l != NULL; l = l->next) {
        if (!l->replaced)
            check_dict(c, &k, l->overrides, &unknown, report);
    }
    conf_dict_free(&k.used);
    conf_dict_free(&k.tables);
    arena_free(&k.arena);
}

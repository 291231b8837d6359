/*
 * A search gives entries with attributes; each attribute is in one or more of four lists:
 *
 *   result    its values are results
 *   special   its values are names or URLs of other entries, which are asked for in turn
 *   terminal  its values are results, and nothing else of the entry counts
 *   leaf      its values are results unless the entry has special attributes
 *
 * Entries are copied before they are looked at, because a further search uses the same connection.
 */
#include "common/table/net/ldap_table.h"

#include <errno.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/pool.h"
#include "common/table/net/ldap_text.h"
#include "common/table/net/module_load.h"
#include "common/table/net/module_open.h"
#include "common/table/table_query.h"

#define IDLE_MS     60000
#define RESULT_MAX  (1 << 20)
#define FOUND_MAX   (16 << 20)
#define SEARCH_MAX  10000  /* of one lookup */

const char *const table_ldap_settings[] = {
    "server_host", "server_port", "timeout", "search_base", "query_filter", "result_format", "result_filter", "domain",
    "result_attribute", "special_result_attribute", "terminal_result_attribute", "leaf_result_attribute", "scope", "bind", "bind_dn",
    "bind_pw", "cache", "cache_expiry", "cache_size", "recursion_limit", "expansion_limit", "size_limit", "dereference",
    "chase_referrals", "version", "debuglevel", "sasl_mechs", "sasl_realm", "sasl_authz_id", "sasl_minssf", "start_tls",
    "tls_ca_cert_dir", "tls_ca_cert_file", "tls_cert", "tls_key", "tls_require_cert", "tls_random_file", "tls_cipher_suite", NULL,
};

enum attribute_list { LIST_RESULT, LIST_SPECIAL, LIST_TERMINAL, LIST_LEAF, LIST_COUNT };

struct attribute {
    char *name;        /* owned by the table's arena */
    unsigned lists;    /* bits of enum attribute_list */
};

struct ldap_table {
    struct table_content base;
    const struct table_ldap_driver *driver;
    struct arena *arena;             /* owned */
    struct table_config *settings;   /* owned */
    struct table_query *query;       /* owned: result_format, domain, and what search_base and query_filter need of a key */
    const char *search_base, *query_filter; /* of settings */
    struct attribute *attributes;    /* in the arena */
    size_t attribute_count;
    const char **names;              /* in the arena: of all attributes, ended by NULL */
    enum ldap_scope scope;
    int64_t timeout_ms, recursion_limit, expansion_limit, size_limit;
    struct pool *pool;               /* owned */
};

struct value {
    const struct attribute *a;
    struct span text;
    struct value *next;
};

struct entry {
    struct value *values, **values_end;
    unsigned lists;    /* those its attributes are in */
    struct entry *next;
};

/* One lookup. */
struct ldap_lookup {
    const struct ldap_table *t;
    struct span key;
    void *conn;
    int64_t deadline_ms;
    struct arena *arena;      /* owned; entries */
    struct buf result;
    int64_t count;
    int searches;
    enum pool_use use;        /* what the connection is worth */
    enum lookup answer;
};

static void ldap_free(struct table_content *c)
{
    struct ldap_table *t = (struct ldap_table *)c;
    pool_free(&t->pool);
    table_query_free(&t->query);
    table_config_free(&t->settings);
    arena_free(&t->arena);
    free(t);
}

/* ---- the driver, as the pool wants it ---- */

static void take_why(const struct module_why *why, struct err *e)
{
    err_set(e, "%s", why->text);
    if (e != NULL && why->timed_out)
        e->sys = ETIMEDOUT;
}

static void *open_cb(void *arg, size_t host, int64_t deadline_ms, struct err *e)
{
    const struct ldap_table *t = arg;
    struct module_why why = { .timed_out = false };
    int64_t left = deadline_ms - clock_mono_ms();
    struct module_opening o = { .content = (struct table_content *)(uintptr_t)&t->base, .settings = module_settings_of(t->settings),
                                .ldap = t->driver, .timeout_ms = left < t->timeout_ms ? left : t->timeout_ms };
    (void)host;
    void *conn = module_open(&o, &why);
    if (conn == NULL)
        take_why(&why, e);
    return conn;
}

static void close_cb(void *arg, void *conn)
{
    const struct ldap_table *t = arg;
    t->driver->close(conn);
}

static const struct pool_ops pool_ops = { open_cb, close_cb, NULL };

/* ---- one search ---- */

struct found {
    struct ldap_lookup *l;
    const struct attribute *const *wanted; /* NULL: all of the table's */
    struct entry *first, *last;
    bool is_too_large;                     /* not all of it is here */
};

static void entry_cb(void *arg, const char *dn)
{
    struct found *f = arg;
    struct entry *e = arena_alloc(f->l->arena, sizeof *e);
    (void)dn;
    e->values_end = &e->values;
    if (f->last != NULL)
        f->last->next = e;
    else
        f->first = e;
    f->last = e;
}

static const struct attribute *find_attribute(const struct ldap_table *t, const char *name)
{
    for (size_t i = 0; i < t->attribute_count; i++) {
        if (span_ieq_cstr(span_cstr(name), t->attributes[i].name))
            return &t->attributes[i];
    }
    return NULL;
}

static void value_cb(void *arg, const char *attribute, const char *text, size_t n)
{
    struct found *f = arg;
    const struct attribute *a = find_attribute(f->l->t, attribute);
    if (a == NULL || f->last == NULL || n == 0)
        return;
    if (arena_bytes(f->l->arena) + n > FOUND_MAX) {
        f->is_too_large = true;
        return;
    }
    struct value *v = arena_alloc(f->l->arena, sizeof *v);
    v->a = a;
    v->text = arena_dup_span(f->l->arena, span_of(text, n));
    f->last->lists |= a->lists;
    *f->last->values_end = v;
    f->last->values_end = &v->next;
}

/* False with *e and l->use set. What was found is in *f; nothing when the base is not there. */
static bool search(struct ldap_lookup *l, const char *base, const char *filter, enum ldap_scope scope, const char *const *names,
                   struct found *f, struct err *e)
{
    const struct ldap_table *t = l->t;
    struct module_why why = { .timed_out = false };
    int64_t left = l->deadline_ms - clock_mono_ms();
    struct ldap_question q = { .base = base, .filter = filter, .scope = scope, .attributes = names, .size_limit = t->size_limit,
                               .timeout_ms = left < t->timeout_ms ? left : t->timeout_ms };
    struct ldap_sink sink = { .entry = entry_cb, .value = value_cb, .arg = f };
    f->l = l;
    l->use = POOL_SPOILED;
    if (left <= 0 || ++l->searches > SEARCH_MAX) {
        err_set(e, left <= 0 ? "the lookup takes too long" : "the lookup needs too many searches");
        return false;
    }
    switch (t->driver->search(l->conn, &q, &sink, &why)) {
    case MODULE_OK:
    case MODULE_NONE:
        if (f->is_too_large || arena_bytes(l->arena) > FOUND_MAX) {
            err_set(e, "the answers are larger than %d bytes", FOUND_MAX);
            return false;
        }
        l->use = POOL_DONE;
        return true;
    case MODULE_REFUSED:
        l->use = POOL_DONE;
        break;
    case MODULE_LOST:
        l->use = POOL_BROKEN;
        break;
    }
    take_why(&why, e);
    return false;
}

/* ---- results ---- */

static bool add_result(struct ldap_lookup *l, struct span value, struct err *e)
{
    const struct ldap_table *t = l->t;
    if (table_query_result(t->query, l->key, value, &l->result))
        l->count++;
    if (t->expansion_limit > 0 && l->count > t->expansion_limit) {
        err_set(e, "more results than expansion_limit (%lld)", (long long)t->expansion_limit);
        return false;
    }
    if (!buf_ok(&l->result)) {
        err_set(e, "the answer is longer than %d bytes", RESULT_MAX);
        return false;
    }
    return true;
}

/* "mail;lang-de" is the attribute mail with an option. */
static bool is_same_attribute(struct span wanted, struct span have, bool *wanted_is_longer)
{
    ptrdiff_t a = span_find(wanted, ';'), b = span_find(have, ';');
    *wanted_is_longer = a >= 0 && b < 0;
    if ((a >= 0) != (b >= 0)) {
        wanted = a >= 0 ? span_of(wanted.p, (size_t)a) : wanted;
        have = b >= 0 ? span_of(have.p, (size_t)b) : have;
    }
    return span_ieq(wanted, have);
}

/* Those of the URL's attributes that the table knows too; NULL when there is none. */
static const char *const *common_names(struct ldap_lookup *l, const char *const *wanted)
{
    const struct ldap_table *t = l->t;
    const char **names = arena_alloc(l->arena, (t->attribute_count + 1) * sizeof *names);
    size_t n = 0;
    if (wanted == NULL)
        return t->names;
    for (size_t i = 0; i < t->attribute_count; i++) {
        for (const char *const *w = wanted; *w != NULL; w++) {
            bool longer;
            if (!is_same_attribute(span_cstr(*w), span_cstr(t->attributes[i].name), &longer))
                continue;
            names[n++] = longer ? *w : t->attributes[i].name;
            break;
        }
    }
    return n > 0 ? names : NULL;
}

/* A name or URL in a special attribute. What cannot be read as either, or is not there, adds nothing. */
static bool follow(struct ldap_lookup *l, struct span reference, struct found *f, struct err *e)
{
    struct ldap_url u = { .base = "", .filter = "(objectClass=*)", .scope = LDAP_IN_BASE };
    if (!ldap_is_url(reference))
        u.base = reference.p; /* arena_dup_span() has put a NUL behind it */
    else if (!ldap_url_parse(reference, l->arena, &u))
        return true;
    const char *const *names = common_names(l, u.attributes);
    return names == NULL || search(l, u.base, u.filter, u.scope, names, f, e);
}

/* Where one level of entries has got to; the levels above wait. */
struct level {
    const struct entry *entry;
    const struct value *value; /* of entry; the next */
    int64_t depth;
    struct level *above;
};

static struct level *begin_level(struct ldap_lookup *l, const struct found *f, struct level *above)
{
    if (f->first == NULL)
        return above;
    struct level *v = arena_alloc(l->arena, sizeof *v);
    *v = (struct level){ .entry = f->first, .value = f->first->values, .depth = above != NULL ? above->depth + 1 : 0, .above = above };
    return v;
}

static unsigned lists_of_results(const struct entry *n)
{
    if (n->lists & 1u << LIST_TERMINAL)
        return 1u << LIST_TERMINAL;
    return 1u << LIST_RESULT | (n->lists & 1u << LIST_SPECIAL ? 0 : 1u << LIST_LEAF);
}

/* Depth first, in the order of the values; without the stack of the thread, which a long chain of references would use up. */
static bool take_entries(struct ldap_lookup *l, const struct found *first, struct err *e)
{
    struct level *at = begin_level(l, first, NULL);
    while (at != NULL) {
        const struct value *v = at->value;
        const struct entry *n = at->entry;
        if (v == NULL) {
            at->entry = n->next;
            at->value = n->next != NULL ? n->next->values : NULL;
            at = at->entry != NULL ? at : at->above;
            continue;
        }
        at->value = v->next;
        if ((v->a->lists & lists_of_results(n)) && !add_result(l, v->text, e))
            return false;
        if (!(v->a->lists & 1u << LIST_SPECIAL) || (n->lists & 1u << LIST_TERMINAL))
            continue;
        struct found f = { .first = NULL };
        if (at->depth >= l->t->recursion_limit) {
            err_set(e, "entries refer to entries deeper than recursion_limit (%lld)", (long long)l->t->recursion_limit);
            return false;
        }
        if (!follow(l, v->text, &f, e))
            return false;
        at = begin_level(l, &f, at);
    }
    return true;
}

/* ---- a lookup ---- */

static bool quote_filter_cb(void *arg, struct span part, struct buf *out, struct err *e)
{
    (void)arg;
    (void)e;
    ldap_quote_filter(part, out);
    return true;
}

static bool quote_name_cb(void *arg, struct span part, struct buf *out, struct err *e)
{
    (void)arg;
    (void)e;
    ldap_quote_name(part, out);
    return true;
}

static enum pool_use use_cb(void *arg, void *conn, int64_t deadline_ms, struct err *e)
{
    struct ldap_lookup *l = arg;
    const struct ldap_table *t = l->t;
    struct buf base = BUF_INIT(RESULT_MAX), filter = BUF_INIT(RESULT_MAX);
    struct found f = { .first = NULL };
    l->conn = conn;
    l->deadline_ms = deadline_ms;
    l->answer = LOOKUP_TEMPFAIL;
    l->use = POOL_DONE;
    l->count = l->searches = 0;
    buf_reset(&l->result);
    arena_reset(l->arena);
    if (table_query_expand_other(t->search_base, l->key, quote_name_cb, NULL, &base, e)
        && table_query_expand_other(t->query_filter, l->key, quote_filter_cb, NULL, &filter, e)
        && search(l, buf_cstr(&base), buf_cstr(&filter), t->scope, t->names, &f, e) && take_entries(l, &f, e))
        l->answer = l->count > 0 ? LOOKUP_FOUND : LOOKUP_NONE;
    buf_free(&base);
    buf_free(&filter);
    return l->use;
}

static enum lookup ldap_find(const struct table_content *c, struct span key, struct arena *a, struct span *value, struct err *e)
{
    const struct ldap_table *t = (const struct ldap_table *)c;
    if (key.n > 0 && memchr(key.p, '\0', key.n) != NULL)
        return LOOKUP_NONE;
    enum lookup answer = table_query_admits(t->query, key, e);
    if (answer != LOOKUP_FOUND)
        return answer;
    struct ldap_lookup l = { .t = t, .key = key, .arena = arena_new(4096), .result = BUF_INIT(RESULT_MAX), .answer = LOOKUP_TEMPFAIL };
    struct err own = ERR_INIT;
    if (!pool_run(t->pool, use_cb, &l, clock_mono_ms() + LDAP_LOOKUP_MS, &own))
        l.answer = LOOKUP_TEMPFAIL;
    answer = l.answer == LOOKUP_FOUND ? table_found(buf_span(&l.result), a, value) : l.answer;
    if (answer == LOOKUP_TEMPFAIL)
        err_set(e, "%s: %s", table_config_text(t->settings, "server_host", "localhost"), own.text);
    arena_free(&l.arena);
    buf_free(&l.result);
    return answer;
}

static const struct table_ops ldap_ops = { ldap_find, ldap_free, NULL };

/* ---- loading ---- */

static void add_attributes(struct ldap_table *t, enum attribute_list list, const char *names)
{
    struct span rest = span_cstr(names), item;
    while (span_next_token(&rest, ", \t\r\n", &item)) {
        char *name = arena_strndup(t->arena, item.p, item.n);
        struct attribute *a = (struct attribute *)(uintptr_t)find_attribute(t, name);
        if (a == NULL) {
            a = &t->attributes[t->attribute_count++];
            a->name = name;
        }
        a->lists |= 1u << list;
    }
}

static void read_attributes(struct ldap_table *t)
{
    static const char *const settings[LIST_COUNT] = { "result_attribute", "special_result_attribute", "terminal_result_attribute",
                                                      "leaf_result_attribute" };
    const char *names[LIST_COUNT];
    size_t most = 1;
    for (int i = 0; i < LIST_COUNT; i++) {
        names[i] = table_config_text(t->settings, settings[i], i == LIST_RESULT ? "maildrop" : "");
        most += strlen(names[i]) / 2 + 1;
    }
    t->attributes = arena_alloc(t->arena, most * sizeof *t->attributes);
    for (int i = 0; i < LIST_COUNT; i++)
        add_attributes(t, (enum attribute_list)i, names[i]);
    t->names = arena_alloc(t->arena, (t->attribute_count + 1) * sizeof *t->names);
    for (size_t i = 0; i < t->attribute_count; i++)
        t->names[i] = t->attributes[i].name;
}

static bool read_words(struct ldap_table *t, struct err *e)
{
    static const char *const scopes[] = { [LDAP_IN_SUBTREE] = "sub", [LDAP_IN_BASE] = "base", [LDAP_IN_ONE_LEVEL] = "one" };
    static const char *const binds[] = { "yes", "no", "simple", "none", "sasl" };
    struct span scope = span_cstr(table_config_text(t->settings, "scope", "sub")), how = span_cstr(table_config_text(t->settings, "bind", "yes"));
    bool ok = false;
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        if (span_ieq_cstr(scope, scopes[i])) {
            t->scope = (enum ldap_scope)i;
            ok = true;
        }
    }
    if (!ok) {
        err_set(e, "scope = %.40s: expected sub, base or one", scope.p);
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(binds); i++) {
        if (span_ieq_cstr(how, binds[i]))
            return true;
    }
    err_set(e, "bind = %.40s: expected yes, no, simple, none or sasl", how.p);
    return false;
}

static bool read_numbers(struct ldap_table *t, struct err *e)
{
    const struct table_config *s = t->settings;
    int64_t timeout_s, other;
    bool flag;
    if (!table_config_int(s, "timeout", 10, 1, LDAP_LOOKUP_MS / 1000, &timeout_s, e)
        || !table_config_int(s, "recursion_limit", 1000, 1, INT32_MAX, &t->recursion_limit, e)
        || !table_config_int(s, "expansion_limit", 0, 0, INT32_MAX, &t->expansion_limit, e)
        || !table_config_int(s, "size_limit", t->expansion_limit, 0, INT32_MAX, &t->size_limit, e)
        || !table_config_int(s, "server_port", 389, 1, 65535, &other, e) || !table_config_int(s, "version", 2, 2, 3, &other, e)
        || !table_config_int(s, "dereference", 0, 0, 3, &other, e) || !table_config_int(s, "sasl_minssf", 0, 0, 4096, &other, e)
        || !table_config_int(s, "debuglevel", 0, 0, INT32_MAX, &other, e) || !table_config_bool(s, "start_tls", false, &flag, e)
        || !table_config_bool(s, "tls_require_cert", false, &flag, e))
        return false;
    t->timeout_ms = timeout_s * 1000;
    return true;
}

static void note_ignored(const struct ldap_table *t, const struct table_load *in)
{
    static const char *const ignored[] = { "cache", "cache_expiry", "cache_size" };
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++) {
        if (table_config_text(t->settings, ignored[i], NULL) != NULL)
            table_odd_line(in, 0, "%s: ignored, the library has no cache any more", ignored[i]);
    }
}

static bool read_query(struct ldap_table *t, const struct table_load *in, struct err *e)
{
    const struct table_config *s = t->settings;
    t->search_base = table_config_text(s, "search_base", "");
    t->query_filter = table_config_text(s, "query_filter", "(mailacceptinggeneralid=%s)");
    char *both = xasprintf("%s\n%s", t->search_base, t->query_filter);
    t->query = table_query_new(in, both, table_config_text(s, "result_format", table_config_text(s, "result_filter", NULL)),
                               table_config_text(s, "domain", NULL), e);
    free(both);
    return t->query != NULL;
}

static bool read_settings(struct ldap_table *t, const struct table_load *in, struct err *e)
{
    t->settings = table_config_read(in, table_ldap_settings, e);
    if (t->settings == NULL || !read_words(t, e) || !read_numbers(t, e) || !read_query(t, in, e))
        return false;
    read_attributes(t);
    note_ignored(t, in);
    struct pool_options o = { .ops = &pool_ops, .arg = t, .hosts = 1, .max_open = LDAP_CONNECTIONS, .attempts = 2,
                              .max_idle_ms = IDLE_MS, .max_ttl_ms = CLOCK_NEVER };
    t->pool = pool_new(&o);
    return true;
}

bool ldap_table_make(const struct table_load *in, const struct table_ldap_driver *driver, struct table_content **out, struct err *e)
{
    struct ldap_table *t = xcalloc(1, sizeof *t);
    t->base.ops = &ldap_ops;
    atomic_init(&t->base.refs, 1);
    t->driver = driver;
    t->arena = arena_new(1024);
    if (!read_settings(t, in, e)) {
        ldap_free(&t->base);
        return false;
    }
    *out = &t->base;
    return true;
}

bool table_ldap_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    const struct table_module *m = module_load(in, "ldap", e);
    return m != NULL && m->ldap != NULL && ldap_table_make(in, m->ldap, out, e);
}

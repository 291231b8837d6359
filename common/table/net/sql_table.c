#include "common/table/net/sql_table.h"

#include <errno.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/pool.h"
#include "common/table/net/module_load.h"
#include "common/table/net/module_open.h"
#include "common/table/table_query.h"

#define CONNECT_MS   10000
#define QUERY_MS     30000
#define QUERY_MAX    (1 << 20)
#define RESULT_MAX   (1 << 20)
#define HOSTS_MAX    64

#define SQL_SETTINGS "hosts", "user", "password", "dbname", "query", "result_format", "domain", "expansion_limit", "select_field", \
    "table", "where_field", "additional_conditions", "idle_interval", "retry_interval"

const char *const table_pgsql_settings[] = { SQL_SETTINGS, "select_function", "encoding", NULL };
const char *const table_mysql_settings[] = {
    SQL_SETTINGS, "option_file", "option_group", "require_result_set", "charset", "tls_cert_file", "tls_key_file", "tls_CAfile",
    "tls_CApath", "tls_ciphers", "tls_verify_cert", NULL,
};

struct sql_table {
    struct table_content base;
    const struct table_sql_driver *driver;
    struct table_config *settings;  /* owned */
    struct table_query *query;      /* owned */
    int64_t expansion_limit;
    char *hosts[HOSTS_MAX];         /* owned */
    size_t host_count, sockets;     /* sockets: so many of the first are unix: and tried before the others */
    struct pool *pool;              /* owned */
};

/* One lookup. */
struct sql_lookup {
    const struct sql_table *t;
    struct span key;
    void *conn;                     /* the one in use, for quoting */
    struct buf sql, result;
    int64_t count;
    enum lookup answer;
};

static void sql_free(struct table_content *c)
{
    struct sql_table *t = (struct sql_table *)c;
    pool_free(&t->pool);
    for (size_t i = 0; i < t->host_count; i++)
        free(t->hosts[i]);
    table_query_free(&t->query);
    table_config_free(&t->settings);
    free(t);
}

/* ---- the driver, as the pool wants it ---- */

static void take_why(const char *host, const struct module_why *why, struct err *e)
{
    err_set(e, "%s: %s", host, why->text);
    if (e != NULL && why->timed_out)
        e->sys = ETIMEDOUT;
}

static void *open_cb(void *arg, size_t host, int64_t deadline_ms, struct err *e)
{
    const struct sql_table *t = arg;
    struct module_why why = { .timed_out = false };
    int64_t left = deadline_ms - clock_mono_ms();
    struct module_opening o = { .content = (struct table_content *)(uintptr_t)&t->base, .settings = module_settings_of(t->settings),
                                .sql = t->driver, .host = t->hosts[host], .timeout_ms = left < CONNECT_MS ? left : CONNECT_MS };
    void *conn = module_open(&o, &why);
    if (conn == NULL)
        take_why(t->hosts[host], &why, e);
    return conn;
}

static void close_cb(void *arg, void *conn)
{
    const struct sql_table *t = arg;
    t->driver->close(conn);
}

static const struct pool_ops pool_ops = { open_cb, close_cb, NULL };

/* ---- a lookup ---- */

static bool quote_cb(void *arg, struct span part, struct buf *out, struct err *e)
{
    struct sql_lookup *l = arg;
    if (part.n > QUERY_MAX / 4 || !buf_reserve(out, 2 * part.n + 1)) {
        err_set(e, "the query for this key is too long");
        return false;
    }
    long n = l->t->driver->quote(l->conn, part.p, part.n, out->p + out->n);
    if (n < 0) {
        err_set(e, "this key cannot be put into a query");
        return false;
    }
    out->n += (size_t)n;
    return true;
}

static void cell_cb(void *arg, const char *text, size_t n)
{
    struct sql_lookup *l = arg;
    if (table_query_result(l->t->query, l->key, span_of(text, n), &l->result))
        l->count++;
}

static enum pool_use use_cb(void *arg, void *conn, int64_t deadline_ms, struct err *e)
{
    struct sql_lookup *l = arg;
    struct module_why why = { .timed_out = false };
    l->conn = conn;
    l->answer = LOOKUP_TEMPFAIL;
    buf_reset(&l->sql);
    buf_reset(&l->result);
    l->count = 0;
    if (!table_query_expand(l->t->query, l->key, quote_cb, l, &l->sql, e))
        return POOL_DONE;
    int64_t left = deadline_ms - clock_mono_ms();
    switch (l->t->driver->query(conn, buf_cstr(&l->sql), l->sql.n, left < QUERY_MS ? left : QUERY_MS, cell_cb, l, &why)) {
    case MODULE_OK:
        l->answer = l->count > 0 ? LOOKUP_FOUND : LOOKUP_NONE;
        return POOL_DONE;
    case MODULE_NONE:
        l->answer = LOOKUP_NONE;
        return POOL_DONE;
    case MODULE_REFUSED: /* another host may know the table that this one has not */
    case MODULE_LOST:
        break;
    }
    err_set(e, "%s", why.text);
    if (why.timed_out)
        e->sys = ETIMEDOUT;
    return POOL_BROKEN;
}

static enum lookup answer_of(const struct sql_lookup *l, struct arena *a, struct span *value, struct err *e)
{
    const struct sql_table *t = l->t;
    if (l->answer != LOOKUP_FOUND)
        return l->answer;
    if (!buf_ok(&l->result)) {
        err_set(e, "the answer is longer than %d bytes", RESULT_MAX);
        return LOOKUP_TEMPFAIL;
    }
    if (t->expansion_limit > 0 && l->count > t->expansion_limit) {
        err_set(e, "%lld results are over expansion_limit (%lld)", (long long)l->count, (long long)t->expansion_limit);
        return LOOKUP_TEMPFAIL;
    }
    return table_found(buf_span(&l->result), a, value);
}

static enum lookup sql_find(const struct table_content *c, struct span key, struct arena *a, struct span *value, struct err *e)
{
    const struct sql_table *t = (const struct sql_table *)c;
    if (key.n > 0 && memchr(key.p, '\0', key.n) != NULL)
        return LOOKUP_NONE;
    enum lookup answer = table_query_admits(t->query, key, e);
    if (answer != LOOKUP_FOUND)
        return answer;
    struct sql_lookup l = { .t = t, .key = key, .sql = BUF_INIT(QUERY_MAX), .result = BUF_INIT(RESULT_MAX), .answer = LOOKUP_TEMPFAIL };
    struct err own = ERR_INIT;
    answer = pool_run(t->pool, use_cb, &l, clock_mono_ms() + SQL_LOOKUP_MS, &own) ? answer_of(&l, a, value, &own) : LOOKUP_TEMPFAIL;
    if (answer == LOOKUP_TEMPFAIL)
        err_set(e, "%s", own.text);
    buf_free(&l.sql);
    buf_free(&l.result);
    return answer;
}

static const struct table_ops sql_ops = { sql_find, sql_free, NULL };

/* ---- loading ---- */

static bool read_hosts(struct sql_table *t, struct err *e)
{
    struct span rest = span_cstr(table_config_text(t->settings, "hosts", "")), item;
    for (int sockets = 1; sockets >= 0; sockets--) {
        struct span items = rest;
        while (span_next_token(&items, ", \t\r\n", &item)) {
            bool is_first = !t->driver->sockets_first || span_starts_with(item, SPAN_LIT("unix:"));
            if (is_first != (sockets == 1))
                continue;
            if (t->host_count == HOSTS_MAX) {
                err_set(e, "hosts: more than %d", HOSTS_MAX);
                return false;
            }
            t->hosts[t->host_count++] = xstrndup(item.p, item.n);
        }
        if (sockets == 1)
            t->sockets = t->host_count;
    }
    if (t->host_count == 0)
        t->hosts[t->host_count++] = xstrdup("localhost");
    return true;
}

/* The interfaces from before there was `query`; *out is the caller's to free. */
static bool old_query(const struct table_config *s, char **out, struct err *e)
{
    const char *function = table_config_text(s, "select_function", "");
    const char *field = table_config_text(s, "select_field", ""), *from = table_config_text(s, "table", "");
    const char *where = table_config_text(s, "where_field", "");
    if (*function != '\0') {
        *out = xasprintf("SELECT %s('%%s')", function);
        return true;
    }
    if (*field == '\0' || *from == '\0' || *where == '\0') {
        err_set(e, "expected query = SELECT ...");
        return false;
    }
    *out = xasprintf("SELECT %s FROM %s WHERE %s = '%%s' %s", field, from, where, table_config_text(s, "additional_conditions", ""));
    return true;
}

static bool read_query(struct sql_table *t, const struct table_load *in, struct err *e)
{
    const char *query = table_config_text(t->settings, "query", "");
    char *old = NULL;
    if (*query == '\0' && !old_query(t->settings, &old, e))
        return false;
    t->query = table_query_new(in, old != NULL ? old : query, table_config_text(t->settings, "result_format", NULL),
                               table_config_text(t->settings, "domain", NULL), e);
    free(old);
    return t->query != NULL;
}

static bool read_settings(struct sql_table *t, const struct table_load *in, const char *const *known, struct err *e)
{
    int64_t idle_s, retry_s;
    t->settings = table_config_read(in, known, e);
    if (t->settings == NULL || !read_query(t, in, e) || !read_hosts(t, e)
        || !table_config_int(t->settings, "expansion_limit", 0, 0, INT32_MAX, &t->expansion_limit, e)
        || !table_config_int(t->settings, "idle_interval", 60, 1, INT32_MAX, &idle_s, e)
        || !table_config_int(t->settings, "retry_interval", 60, 1, INT32_MAX, &retry_s, e))
        return false;
    struct pool_options o = { .ops = &pool_ops, .arg = t, .hosts = t->host_count, .hosts_first = t->sockets, .max_open = SQL_CONNECTIONS,
                              .attempts = 1, .attempt_ms = QUERY_MS, .max_idle_ms = idle_s * 1000, .max_ttl_ms = CLOCK_NEVER,
                              .retry_ms = retry_s * 1000 };
    t->pool = pool_new(&o);
    return true;
}

bool sql_table_make(const struct table_load *in, const char *const *known, const struct table_sql_driver *driver,
                    struct table_content **out, struct err *e)
{

    struct sql_table *t = xcalloc(1, sizeof *t);
    t->base.ops = &sql_ops;
    atomic_init(&t->base.refs, 1);
    t->driver = driver;
    if (!read_settings(t, in, known, e)) {
        sql_free(&t->base);
        return false;
    }
    *out = &t->base;
    return true;
}

static bool load(const struct table_load *in, const char *type, const char *const *known, struct table_content **out, struct err *e)
{
    const struct table_module *m = module_load(in, type, e);
    return m != NULL && m->sql != NULL && sql_table_make(in, known, m->sql, out, e);
}

bool table_pgsql_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    return load(in, "pgsql", table_pgsql_settings, out, e);
}

bool table_mysql_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    return load(in, "mysql", table_mysql_settings, out, e);
}

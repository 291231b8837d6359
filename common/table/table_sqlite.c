/*
 * sqlite: a query in a database file
 *
 * A part of the key that stands alone between quotes in the query ('%s') becomes a parameter of a statement that each
 * connection prepares once; any other query is put together as text for each key. A connection is used by one thread at a
 * time and waits in a small pool between look-ups; when another file takes the database's name the waiting ones are closed.
 */
#include <sqlite3.h>
#include <sys/stat.h>

#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "common/table/table_config.h"
#include "common/table/table_query.h"

#define IDLE_MAX       8
#define PARTS_MAX      32
#define BUSY_MS        3000
#define DEADLINE_MS    10000
#define STEPS_A_LOOK   10000   /* of SQLite's machine, between looks at the clock */
#define LOOK_EVERY_MS  1000
#define QUERY_BYTES_MAX (256u << 10)
#define VALUE_BYTES_MAX (4u << 20)

struct conn {
    sqlite3 *db;             /* owned */
    sqlite3_stmt *stmt;      /* owned; NULL: the query is made as text */
    unsigned generation;
    int64_t deadline_ms;     /* of the query that runs */
};

struct pool {
    struct lock lock;
    struct conn *idle[IDLE_MAX]; /* guarded by lock; owned */
    size_t count;                /* guarded by lock */
    unsigned generation;         /* guarded by lock: rises when the file is another one */
    dev_t dev;                   /* guarded by lock */
    ino_t ino;                   /* guarded by lock */
    int64_t next_look_ms;        /* guarded by lock */
};

struct sqlite_content {
    struct table_content base;
    struct table_config *config; /* owned */
    struct table_query *query;   /* owned */
    const char *path;            /* in config */
    char *text;                  /* owned: the query as written */
    char *prepared;              /* owned: with ? for its parts, or NULL when it cannot be prepared */
    char parts[PARTS_MAX];       /* what the parameters stand for */
    int part_count;
    int64_t expansion_limit;
    struct pool *pool;           /* owned */
};

static void conn_close(struct conn *c)
{
    if (c == NULL)
        return;
    sqlite3_finalize(c->stmt);
    sqlite3_close(c->db);
    free(c);
}

static void sqlite_free(struct table_content *c)
{
    struct sqlite_content *s = (struct sqlite_content *)c;
    for (size_t i = 0; i < s->pool->count; i++)
        conn_close(s->pool->idle[i]);
    lock_destroy(&s->pool->lock);
    free(s->pool);
    table_query_free(&s->query);
    table_config_free(&s->config);
    free(s->text);
    free(s->prepared);
    free(s);
}

/* ---- connections ---- */

static int is_late(void *arg)
{
    const struct conn *c = arg;
    return clock_mono_ms() > c->deadline_ms;
}

static struct conn *conn_open(const struct sqlite_content *s, unsigned generation, struct err *e)
{
    struct conn *c = xcalloc(1, sizeof *c);
    const char *tail = "";
    c->generation = generation;
    c->deadline_ms = clock_mono_ms() + DEADLINE_MS;
    int rc = sqlite3_open_v2(s->path, &c->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_busy_timeout(c->db, BUSY_MS);
        sqlite3_progress_handler(c->db, STEPS_A_LOOK, is_late, c);
        if (s->prepared != NULL)
            rc = sqlite3_prepare_v3(c->db, s->prepared, -1, SQLITE_PREPARE_PERSISTENT, &c->stmt, &tail);
    }
    if (rc == SQLITE_OK && (c->stmt == NULL || span_trim(span_cstr(tail)).n == 0))
        return c;
    if (rc == SQLITE_OK) { /* several statements: as text */
        sqlite3_finalize(c->stmt);
        c->stmt = NULL;
        return c;
    }
    err_set(e, "%s: %s", s->path, c->db != NULL ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc));
    conn_close(c);
    return NULL;
}

/* Looks at most once a second whether the path is still the file that the connections have open. */
static void look_at_file(const struct sqlite_content *s)
{
    struct pool *p = s->pool;
    struct stat st;
    int64_t now = clock_mono_ms();
    lock_take(&p->lock);
    bool is_due = now >= p->next_look_ms;
    p->next_look_ms = is_due ? now + LOOK_EVERY_MS : p->next_look_ms;
    lock_drop(&p->lock);
    if (!is_due || stat(s->path, &st) != 0)
        return;
    lock_take(&p->lock);
    if (st.st_dev != p->dev || st.st_ino != p->ino) {
        p->generation++;
        p->dev = st.st_dev;
        p->ino = st.st_ino;
    }
    lock_drop(&p->lock);
}

static struct conn *conn_take(const struct sqlite_content *s, struct err *e)
{
    struct pool *p = s->pool;
    look_at_file(s);
    for (;;) {
        lock_take(&p->lock);
        struct conn *c = p->count > 0 ? p->idle[--p->count] : NULL;
        unsigned generation = p->generation;
        lock_drop(&p->lock);
        if (c == NULL)
            return conn_open(s, generation, e);
        if (c->generation == generation)
            return c;
        conn_close(c);
    }
}

static void conn_give_back(const struct sqlite_content *s, struct conn *c, bool is_good)
{
    struct pool *p = s->pool;
    lock_take(&p->lock);
    bool keep = is_good && p->count < IDLE_MAX && c->generation == p->generation;
    if (keep)
        p->idle[p->count++] = c;
    lock_drop(&p->lock);
    if (!keep)
        conn_close(c);
}

/* ---- asking ---- */

struct answer {
    const struct sqlite_content *s;
    struct span key;
    struct buf value;
    int64_t count;
};

static enum lookup failed(const struct conn *c, struct err *e)
{
    err_set(e, "%s", clock_mono_ms() > c->deadline_ms ? "the query takes too long" : sqlite3_errmsg(c->db));
    return LOOKUP_TEMPFAIL;
}

/* Steps through the rows; the first column is the result. */
static enum lookup collect(struct answer *a, struct conn *c, sqlite3_stmt *stmt, struct err *e)
{
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        struct span result = span_of(text, text != NULL ? (size_t)sqlite3_column_bytes(stmt, 0) : 0);
        if (!table_query_result(a->s->query, a->key, result, &a->value))
            continue;
        if (a->s->expansion_limit > 0 && ++a->count > a->s->expansion_limit) {
            err_set(e, "more than expansion_limit = %lld results for one key", (long long)a->s->expansion_limit);
            return LOOKUP_TEMPFAIL;
        }
        if (!buf_ok(&a->value)) {
            err_set(e, "the results of one key are longer than %u bytes", VALUE_BYTES_MAX);
            return LOOKUP_TEMPFAIL;
        }
    }
    return rc == SQLITE_DONE ? LOOKUP_NONE : failed(c, e);
}

static enum lookup ask_prepared(struct answer *a, struct conn *c, struct err *e)
{
    for (int i = 0; i < a->s->part_count; i++) {
        struct span part = table_query_part(a->s->parts[i], a->key);
        if (sqlite3_bind_text64(c->stmt, i + 1, part.p != NULL ? part.p : "", part.n, SQLITE_STATIC, SQLITE_UTF8) != SQLITE_OK)
            return failed(c, e);
    }
    enum lookup got = collect(a, c, c->stmt, e);
    sqlite3_reset(c->stmt);
    sqlite3_clear_bindings(c->stmt);
    return got;
}

static bool quote(void *arg, struct span part, struct buf *out, struct err *e)
{
    (void)arg;
    if (part.n > 0 && memchr(part.p, '\0', part.n) != NULL) {
        err_set(e, "a NUL byte in the key");
        return false;
    }
    for (size_t i = 0; i < part.n; i++) {
        if (part.p[i] == '\'')
            buf_putc(out, '\'');
        buf_putc(out, part.p[i]);
    }
    return true;
}

static enum lookup ask_text(struct answer *a, struct conn *c, struct err *e)
{
    struct buf sql = BUF_INIT(QUERY_BYTES_MAX);
    enum lookup got = LOOKUP_NONE;
    if (!table_query_expand(a->s->query, a->key, quote, NULL, &sql, e)) {
        buf_free(&sql);
        return LOOKUP_TEMPFAIL;
    }
    const char *rest = buf_cstr(&sql);
    while (got == LOOKUP_NONE && *rest != '\0') {
        sqlite3_stmt *stmt = NULL;
        if (sqlite3_prepare_v2(c->db, rest, -1, &stmt, &rest) != SQLITE_OK) {
            got = failed(c, e);
        } else if (stmt != NULL) {
            got = collect(a, c, stmt, e);
        }
        sqlite3_finalize(stmt);
    }
    buf_free(&sql);
    return got;
}

static enum lookup sqlite_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                               struct err *e)
{
    const struct sqlite_content *s = (const struct sqlite_content *)c;
    enum lookup got = table_query_admits(s->query, key, e);
    if (got != LOOKUP_FOUND)
        return got;
    struct conn *conn = conn_take(s, e);
    if (conn == NULL)
        return LOOKUP_TEMPFAIL;
    conn->deadline_ms = clock_mono_ms() + DEADLINE_MS;
    struct answer x = { .s = s, .key = key, .value = BUF_INIT(VALUE_BYTES_MAX) };
    got = conn->stmt != NULL ? ask_prepared(&x, conn, e) : ask_text(&x, conn, e);
    conn_give_back(s, conn, got != LOOKUP_TEMPFAIL);
    if (got == LOOKUP_NONE && x.value.n > 0)
        got = table_found(buf_span(&x.value), a, value);
    buf_free(&x.value);
    return got;
}

static const struct table_ops sqlite_ops = { .find = sqlite_find, .free = sqlite_free };

/* ---- loading ---- */

/* Length of the quoted piece of SQL at p, both quotes included; 0 when it has no end. A doubled quote is part of it. */
static size_t quoted_length(const char *p)
{
    for (size_t i = 1; p[i] != '\0'; i++) {
        if (p[i] == p[0] && p[i + 1] != p[0])
            return i + 1;
        i += p[i] == p[0];
    }
    return 0;
}

static bool is_part(const char *p, size_t n)
{
    return n == 4 && p[0] == '\'' && p[1] == '%' && strchr("sudSUD123456789", p[2]) != NULL;
}

/* The query with ? for its quoted parts; NULL when a part stands anywhere else. */
static char *prepared_form(const char *text, char parts[PARTS_MAX], int *count)
{
    struct buf b = BUF_INIT(0);
    *count = 0;
    for (const char *p = text; *p != '\0';) {
        size_t n = *p == '\'' || *p == '"' ? quoted_length(p) : 1;
        if (is_part(p, n) && *count < PARTS_MAX) {
            parts[(*count)++] = p[2];
            buf_printf(&b, "?%d", *count);
        } else if (n == 0 || memchr(p, '%', n) != NULL || (n == 1 && (*p == '?' || *p == '`' || *p == '[' || (*p == '-' && p[1] == '-')
                                                             || (*p == '/' && p[1] == '*')))) {
            buf_free(&b); /* rarely needed: not worth to be understood here */
            return NULL;
        } else {
            buf_add(&b, p, n);
        }
        p += n;
    }
    return buf_detach(&b);
}

const char *const table_sqlite_settings[] = { "dbpath", "query", "result_format", "domain", "expansion_limit", "select_field",
                                              "table", "where_field", "additional_conditions", NULL };

/* query, or what the parameters of old said in its place. */
static char *query_text(const struct table_config *c)
{
    const char *query = table_config_text(c, "query", NULL);
    if (query != NULL)
        return xstrdup(query);
    const char *select = table_config_text(c, "select_field", NULL), *table = table_config_text(c, "table", NULL),
               *where = table_config_text(c, "where_field", NULL);
    if (select == NULL || table == NULL || where == NULL)
        return NULL;
    return xasprintf("SELECT %s FROM %s WHERE %s = '%%s' %s", select, table, where,
                     table_config_text(c, "additional_conditions", ""));
}

static bool read_config(struct sqlite_content *s, const struct table_load *in, struct err *e)
{
    s->config = table_config_read(in, table_sqlite_settings, e);
    if (s->config == NULL)
        return false;
    s->path = table_config_text(s->config, "dbpath", NULL);
    s->text = query_text(s->config);
    if (s->path == NULL || *s->path == '\0' || s->text == NULL) {
        err_set(e, "%.*s: %s is not set", SPAN_ARG(in->name), s->text == NULL ? "query" : "dbpath");
        return false;
    }
    if (!table_config_int(s->config, "expansion_limit", 0, 0, INT32_MAX, &s->expansion_limit, e))
        return false;
    s->query = table_query_new(in, s->text, table_config_text(s->config, "result_format", NULL),
                               table_config_text(s->config, "domain", NULL), e);
    s->prepared = prepared_form(s->text, s->parts, &s->part_count);
    return s->query != NULL;
}

bool table_sqlite_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    struct sqlite_content *s = xcalloc(1, sizeof *s);
    s->base.ops = &sqlite_ops;
    atomic_init(&s->base.refs, 1);
    s->pool = xcalloc(1, sizeof *s->pool);
    lock_init(&s->pool->lock, LOCK_TABLE_POOL);
    if (!read_config(s, in, e)) {
        sqlite_free(&s->base);
        return false;
    }
    struct err why = ERR_INIT;
    struct conn *c = conn_take(s, &why);
    if (c != NULL)
        conn_give_back(s, c, true);
    else
        table_odd_line(in, 0, "look-ups will fail until this is mended: %s", why.text);
    *out = &s->base;
    return true;
}

/*
 * Three fences, because what is typed on a command line ends here: the file is opened read-only, query_only is on,
 * and the authorizer knows three things that a statement may do: select, read a column, call a function that computes.
 *
 * The progress handler looks at the clock every few thousand instructions of SQLite's machine; between steps the caller
 * may wait for a slow reader, so query_step() looks as well.
 */
#include "queue/query.h"

#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "queue/index_internal.h"
#include "queue/query_internal.h"

#define PROGRESS_STEPS 4000
#define BUSY_MS 5000
#define SQL_BYTES_MAX (1 << 20)
#define VALUE_BYTES_MAX (16 << 20) /* the daemon runs queries, too: one expression must not take all of its memory */

/* ---- fences ---- */

/* Functions that do more than compute. */
static bool is_forbidden_function(const char *name)
{
    static const char *const names[] = { "load_extension", "fts3_tokenizer", "writefile", "readfile", "edit" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (ascii_casecmp(name, names[i]) == 0)
            return true;
    return false;
}

/* PRAGMAs by which people look around; none of them takes a value. */
static bool is_harmless_pragma(const char *name, const char *value)
{
    static const char *const with_value[] = { "table_info", "table_xinfo", "index_list", "index_info", "index_xinfo" };
    static const char *const without[] = { "table_list", "database_list", "user_version", "page_count", "page_size", "freelist_count" };
    for (size_t i = 0; i < ARRAY_LEN(with_value); i++)
        if (ascii_casecmp(name, with_value[i]) == 0)
            return true;
    for (size_t i = 0; i < ARRAY_LEN(without); i++)
        if (ascii_casecmp(name, without[i]) == 0)
            return value == NULL;
    return false;
}

static int authorize(void *arg, int action, const char *a, const char *b, const char *db UNUSED, const char *trigger UNUSED)
{
    struct query *q = arg;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
        return SQLITE_OK;
    case SQLITE_FUNCTION:
        if (!is_forbidden_function(b != NULL ? b : ""))
            return SQLITE_OK;
        break;
    case SQLITE_PRAGMA:
        if (is_harmless_pragma(a != NULL ? a : "", b))
            return SQLITE_OK;
        break;
    default:
        break;
    }
    q->is_denied = true;
    return SQLITE_DENY;
}

static int progress(void *arg)
{
    struct query *q = arg;
    if (q->until_ms != 0 && clock_mono_ms() >= q->until_ms)
        q->is_late = true;
    else if (q->stop != NULL && q->stop(q->stop_arg))
        q->is_stopped = true;
    return q->is_late || q->is_stopped || atomic_load_explicit(&q->is_interrupted, memory_order_relaxed);
}

/* ---- opening ---- */

bool query_run(struct query *q, const char *sql, struct err *e)
{
    if (sqlite3_exec(q->db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return true;
    err_set(e, "index.db: %s", sqlite3_errmsg(q->db));
    return false;
}

static bool check_version(struct query *q, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int64_t version = -1;
    if (sqlite3_prepare_v2(q->db, "SELECT value FROM main.meta WHERE key = 'schema_version'", -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        version = sqlite3_column_int64(st, 0);
    if (version < 0)
        err_set(e, "index.db cannot be read: %s", sqlite3_errmsg(q->db));
    else if (version != INDEX_SCHEMA_VERSION)
        err_set(e, "index.db has schema version %lld, this program reads %d: is another version of posthoused running?",
                (long long)version, INDEX_SCHEMA_VERSION);
    sqlite3_finalize(st);
    return version == INDEX_SCHEMA_VERSION;
}

struct query *query_new(const char *path, bool read_only, struct err *e)
{
    struct query *q = xcalloc(1, sizeof *q);
    int flags = SQLITE_OPEN_NOMUTEX | (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    if (sqlite3_open_v2(path, &q->db, flags, NULL) != SQLITE_OK) {
        err_set(e, "%s: %s", path, q->db != NULL ? sqlite3_errmsg(q->db) : "out of memory");
        query_close(&q);
        return NULL;
    }
    sqlite3_busy_timeout(q->db, BUSY_MS);
    return q;
}

/* From here on it can only read. */
bool query_seal(struct query *q, struct err *e)
{
    sqlite3_limit(q->db, SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES_MAX);
    sqlite3_limit(q->db, SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX);
    sqlite3_limit(q->db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_limit(q->db, SQLITE_LIMIT_TRIGGER_DEPTH, 1);
    if (!query_run(q, "PRAGMA query_only = ON; PRAGMA cache_size = -8192; PRAGMA trusted_schema = OFF", e))
        return false;
    sqlite3_db_config(q->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_set_authorizer(q->db, authorize, q);
    sqlite3_progress_handler(q->db, PROGRESS_STEPS, progress, q);
    return true;
}

struct query *query_open(const char *index_path, struct err *e)
{
    struct query *q = query_new(index_path, true, e);
    if (q != NULL && !(check_version(q, e) && query_seal(q, e)))
        query_close(&q);
    return q;
}

void query_close(struct query **qp)
{
    struct query *q = *qp;
    *qp = NULL;
    if (q == NULL)
        return;
    sqlite3_close_v2(q->db);
    free(q);
}

void query_limit(struct query *q, int64_t limit_ms)
{
    q->until_ms = limit_ms > 0 ? clock_mono_ms() + limit_ms : 0;
    q->limit_ms = limit_ms;
    q->is_late = false;
}

void query_on_progress(struct query *q, bool (*stop)(void *arg), void *arg)
{
    q->stop = stop;
    q->stop_arg = arg;
}

void query_interrupt(struct query *q)
{
    atomic_store_explicit(&q->is_interrupted, true, memory_order_relaxed);
}

bool query_add_function(struct query *q, const char *name, int argc, void (*fn)(sqlite3_context *, int, sqlite3_value **),
                        void *data, void (*free_data)(void *), struct err *e)
{
    int rc = sqlite3_create_function_v2(q->db, name, argc, SQLITE_UTF8 | SQLITE_DETERMINISTIC, data, fn, NULL, NULL, free_data);
    if (rc != SQLITE_OK)
        err_set(e, "index.db: %s", sqlite3_errmsg(q->db));
    return rc == SQLITE_OK;
}

/* ---- statements ---- */

static enum query_status why(struct query *q, int rc, struct err *e)
{
    if (q->is_late) {
        err_set(e, "the query was ended after %lld seconds; make it narrower, or give it more time", (long long)q->limit_ms / 1000);
        return QUERY_TIMEOUT;
    }
    if (q->is_stopped || rc == SQLITE_INTERRUPT) {
        err_set(e, "the query was interrupted");
        return QUERY_INTERRUPTED;
    }
    if (q->is_denied || rc == SQLITE_READONLY || rc == SQLITE_AUTH) {
        err_set(e, "only reading is allowed: %s", sqlite3_errmsg(q->db));
        return QUERY_DENIED;
    }
    err_set(e, "%s", sqlite3_errmsg(q->db));
    return rc == SQLITE_ERROR || rc == SQLITE_RANGE || rc == SQLITE_TOOBIG || rc == SQLITE_MISMATCH ? QUERY_BAD : QUERY_FAILED;
}

/* Nothing but space, comments and semicolons. */
static bool is_blank(struct query *q, const char *tail, const char *end)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(q->db, tail, (int)(end - tail), &st, NULL);
    bool blank = rc == SQLITE_OK && st == NULL;
    sqlite3_finalize(st);
    return blank;
}

enum query_status query_prepare(struct query *q, struct span sql, sqlite3_stmt **out, struct err *e)
{
    sqlite3_stmt *st = NULL;
    const char *tail = NULL;
    if (sql.n == 0 || sql.n > SQL_BYTES_MAX || memchr(sql.p, '\0', sql.n) != NULL) {
        err_set(e, "%s", sql.n == 0 ? "there is no SQL statement" : "the SQL statement is too long, or contains a NUL byte");
        return QUERY_BAD;
    }
    q->is_denied = false;
    int rc = sqlite3_prepare_v2(q->db, sql.p, (int)sql.n, &st, &tail);
    if (rc != SQLITE_OK)
        return why(q, rc, e);
    if (st == NULL) {
        err_set(e, "there is no SQL statement");
        return QUERY_BAD;
    }
    if (!is_blank(q, tail, sql.p + sql.n)) {
        err_set(e, "one SQL statement at a time");
        sqlite3_finalize(st);
        return QUERY_BAD;
    }
    if (!sqlite3_stmt_readonly(st)) {
        err_set(e, "only reading is allowed");
        sqlite3_finalize(st);
        return QUERY_DENIED;
    }
    *out = st;
    return QUERY_OK;
}

enum query_status query_step(struct query *q, sqlite3_stmt *st, struct err *e)
{
    int rc = progress(q) ? SQLITE_INTERRUPT : sqlite3_step(st);
    if (rc == SQLITE_ROW)
        return QUERY_ROW;
    if (rc == SQLITE_DONE)
        return QUERY_OK;
    enum query_status k = why(q, rc & 0xff, e);
    sqlite3_reset(st);
    return k;
}

void query_bind(sqlite3_stmt *st, int at, struct span s)
{
    sqlite3_bind_text(st, at, s.p != NULL ? s.p : "", (int)s.n, SQLITE_STATIC);
}

struct span query_column(sqlite3_stmt *st, int column)
{
    const void *p = sqlite3_column_text(st, column); /* before the length, as SQLite asks */
    return span_of(p, (size_t)sqlite3_column_bytes(st, column));
}

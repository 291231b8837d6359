/*
 * Opening the database, its schema, and the connections. The journal is the truth: whatever is wrong with index.db (not a
 * database, other version, no mark), it is renamed to index.db.bad-TIME and a new one is filled from the checkpoint,
 * the journal and the result log (recover.c). Damage that shows only later, in a flush, leaves the file index.bad
 * behind, which makes the next start do the same.
 *
 * WAL with synchronous=FULL: when a flush has been committed its mark is on the disk, and the keeper may give away
 * what lies before it. There is one flush in a few seconds, so the extra fsync costs nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/index_internal.h"

#define READERS_KEPT 8
/* Messages made due in one transaction: a queue of a million takes a minute, and everything else is to go on meanwhile. */
#define MAKE_DUE_PIECE 5000
#define SHRINK_MIN_PAGES 16384 /* 64 MiB: what the next backlog will want is not given away */
#define BUSY_MS 10000

/* Documented in posthouse-index(5); a change that old readers cannot take raises INDEX_SCHEMA_VERSION. */
#define MESSAGE_COLUMNS \
    " id INTEGER PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL, size INTEGER NOT NULL," \
    " is_large INTEGER NOT NULL, arrival_us INTEGER NOT NULL, sender TEXT NOT NULL COLLATE NOCASE, message_id TEXT NOT NULL," \
    " client_name TEXT NOT NULL COLLATE NOCASE, client_addr TEXT NOT NULL, rcpt_count INTEGER NOT NULL, on_hold INTEGER NOT NULL," \
    " due_us INTEGER NOT NULL, delay_warned INTEGER NOT NULL, forced_expire INTEGER NOT NULL"
#define RECIPIENT_COLUMNS \
    " message INTEGER NOT NULL, rcpt INTEGER NOT NULL, address TEXT NOT NULL COLLATE NOCASE, state INTEGER NOT NULL," \
    " attempts INTEGER NOT NULL, due_us INTEGER NOT NULL, transport TEXT NOT NULL, nexthop TEXT NOT NULL COLLATE NOCASE," \
    " dsn TEXT NOT NULL, mta TEXT NOT NULL, reason TEXT NOT NULL, readdressed INTEGER NOT NULL, reason_class TEXT NOT NULL, PRIMARY KEY (message, rcpt)"

/* Tables whose rows recovery and tools put in; with "TEMP" or nothing in front of "TABLE". */
#define TABLES(temp) \
    "CREATE " temp " TABLE messages (" MESSAGE_COLUMNS ");" \
    "CREATE " temp " TABLE recipients (" RECIPIENT_COLUMNS ") WITHOUT ROWID;" \
    "CREATE " temp " TABLE attempts (" \
    " message INTEGER NOT NULL, rcpt INTEGER NOT NULL, slot INTEGER NOT NULL, attempt INTEGER NOT NULL," \
    " at_us INTEGER NOT NULL, dsn TEXT NOT NULL, mta TEXT NOT NULL, reason TEXT NOT NULL," \
    " PRIMARY KEY (message, rcpt, slot)) WITHOUT ROWID;" \
    "CREATE " temp " TABLE deleted_messages (" MESSAGE_COLUMNS ", deleted_us INTEGER NOT NULL);" \
    "CREATE " temp " TABLE deleted_recipients (" RECIPIENT_COLUMNS ") WITHOUT ROWID;"

const char index_schema_temp[] = TABLES("TEMP");

const char index_schema[] =
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    TABLES("")
    "CREATE INDEX messages_due ON messages (due_us, id) WHERE on_hold = 0;"
    "CREATE INDEX messages_hold ON messages (id) WHERE on_hold = 1;"
    "CREATE INDEX messages_sender ON messages (sender);"
    "CREATE INDEX messages_place ON messages (segment, offset, size, is_large);"
    "CREATE INDEX recipients_nexthop ON recipients (nexthop, message, state) WHERE state <> 2;"
    "CREATE INDEX recipients_reason ON recipients (reason_class, state) WHERE state <> 2;"
    "CREATE INDEX deleted_messages_time ON deleted_messages (deleted_us);"
    "CREATE VIEW queue AS SELECT printf('%X', m.id) AS queue_id,"
    " CASE WHEN m.on_hold THEN 'hold' ELSE 'deferred' END AS queue, datetime(m.arrival_us / 1000000, 'unixepoch') AS arrival,"
    " m.size AS size, m.sender AS sender, r.address AS recipient, r.transport AS transport, r.nexthop AS nexthop,"
    " r.attempts AS attempts, datetime(r.due_us / 1000000, 'unixepoch') AS next_try, r.dsn AS dsn, r.mta AS host, r.reason AS reason"
    " FROM messages m JOIN recipients r ON r.message = m.id WHERE r.state <> 2;"
    "CREATE VIEW queue_messages AS SELECT printf('%X', id) AS queue_id,"
    " CASE WHEN on_hold THEN 'hold' ELSE 'deferred' END AS queue, datetime(arrival_us / 1000000, 'unixepoch') AS arrival,"
    " size, sender, rcpt_count AS recipients, datetime(due_us / 1000000, 'unixepoch') AS next_try, client_name, client_addr, message_id"
    " FROM messages;"
    "CREATE VIEW queue_destinations AS SELECT nexthop, transport, count(*) AS recipients, count(DISTINCT message) AS messages,"
    " max(attempts) AS most_attempts, datetime(min(due_us) / 1000000, 'unixepoch') AS next_try"
    " FROM recipients WHERE state <> 2 GROUP BY nexthop, transport;"
    "CREATE VIEW queue_attempts AS SELECT printf('%X', a.message) AS queue_id, r.address AS recipient, a.attempt AS attempt,"
    " datetime(a.at_us / 1000000, 'unixepoch') AS at, a.dsn AS dsn, a.mta AS host, a.reason AS reason"
    " FROM attempts a JOIN recipients r ON r.message = a.message AND r.rcpt = a.rcpt;"
    "CREATE VIEW queue_deleted AS SELECT printf('%X', id) AS queue_id, datetime(deleted_us / 1000000, 'unixepoch') AS deleted,"
    " datetime(arrival_us / 1000000, 'unixepoch') AS arrival, size, sender, rcpt_count AS recipients, client_name, client_addr, message_id"
    " FROM deleted_messages;";

static const char *const sql_text[] = {
#define INDEX_STMT(name, sql) [IX_##name] = sql,
#include "queue/index_sql.def"
#undef INDEX_STMT
};

/* ---- connections ---- */

static void tell_cb(void *src, int code, const char *text)
{
    if ((code & 0xff) != SQLITE_NOTICE)
        log_warn(src, "SQLite: %s (%s)", text, sqlite3_errstr(code));
}

void index_log_errors(const struct log_src *src)
{
    if (sqlite3_config(SQLITE_CONFIG_LOG, tell_cb, (void *)(uintptr_t)src) != SQLITE_OK)
        log_warn(src, "SQLite will not log its errors");
}

static void set_err(struct err *e, sqlite3 *db, const char *what)
{
    err_set(e, "index.db: %s: %s", what, db != NULL ? sqlite3_errmsg(db) : "out of memory");
}

bool index_exec(struct index_conn *c, const char *sql, struct err *e)
{
    if (sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return true;
    set_err(e, c->db, "database");
    return false;
}

static void conn_free(struct index_conn *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < IX_STMT_COUNT; i++)
        sqlite3_finalize(c->stmt[i]);
    sqlite3_close(c->db);
    free(c);
}

static struct index_conn *conn_open(const char *path, bool create, struct err *e)
{
    struct index_conn *c = xcalloc(1, sizeof *c);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    if (sqlite3_open_v2(path, &c->db, flags, NULL) != SQLITE_OK) {
        set_err(e, c->db, "open");
        conn_free(c);
        return NULL;
    }
    sqlite3_busy_timeout(c->db, BUSY_MS);
    if (!index_exec(c, "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192", e)) {
        conn_free(c);
        return NULL;
    }
    return c;
}

struct index_conn *index_conn_take(struct index *ix, struct err *e)
{
    lock_take(&ix->m);
    struct index_conn *c = ix->readers;
    if (c != NULL) {
        ix->readers = c->next;
        ix->reader_count--;
    }
    lock_drop(&ix->m);
    return c != NULL ? c : conn_open(ix->path, false, e);
}

void index_conn_give(struct index *ix, struct index_conn *c)
{
    lock_take(&ix->m);
    bool keep = ix->reader_count < READERS_KEPT;
    if (keep) {
        c->next = ix->readers;
        ix->readers = c;
        ix->reader_count++;
    }
    lock_drop(&ix->m);
    if (!keep)
        conn_free(c);
}

sqlite3_stmt *index_stmt(struct index_conn *c, enum index_stmt k, struct err *e)
{
    if (c->stmt[k] == NULL &&
        sqlite3_prepare_v3(c->db, sql_text[k], -1, SQLITE_PREPARE_PERSISTENT, &c->stmt[k], NULL) != SQLITE_OK)
        set_err(e, c->db, "prepare");
    return c->stmt[k];
}

bool index_run(struct index_conn *c, sqlite3_stmt *st, struct err *e)
{
    int rc = st != NULL ? sqlite3_step(st) : SQLITE_ERROR;
    if (rc != SQLITE_DONE && st != NULL)
        set_err(e, c->db, "write");
    sqlite3_reset(st);
    return rc == SQLITE_DONE;
}

void index_bind_span(sqlite3_stmt *st, int at, struct span s)
{
    /* The bytes live until the statement is reset. */
    sqlite3_bind_text(st, at, s.p != NULL ? s.p : "", (int)s.n, SQLITE_STATIC);
}

/* ---- open ---- */

static bool meta_int(struct index_conn *c, const char *key, int64_t *out, struct err *e)
{
    sqlite3_stmt *st = index_stmt(c, IX_META_GET, e);
    if (st == NULL)
        return false;
    index_bind_span(st, 1, span_cstr(key));
    bool ok = sqlite3_step(st) == SQLITE_ROW;
    if (ok)
        *out = sqlite3_column_int64(st, 0);
    else if (sqlite3_errcode(c->db) == SQLITE_DONE)
        err_set(e, "index.db: no %s", key);
    else
        set_err(e, c->db, key);
    sqlite3_reset(st);
    return ok;
}

bool index_read_mark(struct index *ix, struct index_mark *k, struct err *e)
{
    int64_t segment, offset, results;
    if (!meta_int(ix->writer, "mark_segment", &segment, e) || !meta_int(ix->writer, "mark_offset", &offset, e) ||
        !meta_int(ix->writer, "mark_results", &results, e))
        return false;
    *k = (struct index_mark){ { (uint64_t)segment, (uint64_t)offset }, (uint64_t)results };
    /* Numbers rise even when the clock was set back: results of finished messages are found by number. */
    int64_t last;
    struct err why = ERR_INIT;
    if (meta_int(ix->writer, "last_id", &last, &why))
        qid_seen(&ix->s->qids, (uint64_t)last);
    else
        log_warn(ix->log, "%s: the numbers of finished messages are not known", why.text);
    return true;
}

static bool meta_set(struct index *ix, const char *key, uint64_t v, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, IX_META_SET, e);
    if (st == NULL)
        return false;
    index_bind_span(st, 1, span_cstr(key));
    sqlite3_bind_int64(st, 2, (int64_t)v);
    return index_run(ix->writer, st, e);
}

bool index_write_mark(struct index *ix, const struct index_mark *k, struct err *e)
{
    return meta_set(ix, "mark_segment", k->journal.segment, e) && meta_set(ix, "mark_offset", k->journal.offset, e) &&
           meta_set(ix, "mark_results", k->results, e) &&
           meta_set(ix, "last_id", atomic_load_explicit(&ix->s->qids.last, memory_order_relaxed), e);
}

struct index_mark index_durable_mark(struct index *ix)
{
    lock_take(&ix->m);
    struct index_mark k = ix->durable;
    lock_drop(&ix->m);
    return k;
}

/* True when the database is one of ours that can be used as it is. */
static bool is_usable(struct index *ix, struct err *e)
{
    int64_t version = 0;
    char *bad = xasprintf("%s/index.bad", ix->s->o.dir);
    bool marked = access(bad, F_OK) == 0;
    free(bad);
    if (marked) {
        err_set(e, "index.db was found damaged in use, or a new one was asked for");
        return false;
    }
    ix->writer = conn_open(ix->path, false, e);
    if (ix->writer == NULL || !meta_int(ix->writer, "schema_version", &version, e))
        return false;
    if (version != INDEX_SCHEMA_VERSION) {
        err_set(e, "index.db has schema version %lld, this program writes %d: the next start makes it anew, or posthousectl queue rebuild", (long long)version, INDEX_SCHEMA_VERSION);
        return false;
    }
    /* Somebody else may be writing in it. Mail is not to wait for him: after BUSY_MS a new one is made. */
    return index_read_mark(ix, &ix->durable, e) &&
           (ix->s->o.read_only || index_exec(ix->writer, "BEGIN IMMEDIATE; ROLLBACK", e));
}

static void set_aside(struct index *ix, const char *why)
{
    static const char *const parts[] = { "", "-wal", "-shm" };
    const char *dir = ix->s->o.dir;
    char *to = xasprintf("%s/index.db.bad-%lld", dir, (long long)clock_wall_s()), *bad = xasprintf("%s/index.bad", dir);
    spool_tell(ix->s, SPOOL_TROUBLE_INDEX, "%s: set aside as %s, a new index is made from the journal", why, to);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        char *a = xasprintf("%s%s", ix->path, parts[i]), *b = xasprintf("%s%s", to, parts[i]);
        if (rename(a, b) != 0 && errno != ENOENT && unlink(a) != 0)
            log_warn(ix->log, "cannot rename %s: %m", a);
        free(a);
        free(b);
    }
    unlink(bad);
    free(to);
    free(bad);
}

static bool create(struct index *ix, struct err *e)
{
    struct index_mark zero = { { 0, 0 }, 0 };
    ix->writer = conn_open(ix->path, true, e);
    if (ix->writer == NULL || !index_exec(ix->writer, "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE", e))
        return false;
    /* The mark stands only when recovery has filled it: a start that is cut short begins again. */
    return index_exec(ix->writer, index_schema, e) && meta_set(ix, "schema_version", INDEX_SCHEMA_VERSION, e) &&
           index_write_mark(ix, &zero, e) && index_exec(ix->writer, "COMMIT", e);
}

/* An index that is made beside the one in use begins empty. */
static void remove_leftovers(struct index *ix)
{
    static const char *const parts[] = { "-wal", "-shm", "" };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        char *path = xasprintf("%s%s", ix->path, parts[i]);
        if (unlink(path) != 0 && errno != ENOENT)
            log_warn(ix->log, "cannot remove %s: %m", path);
        free(path);
    }
}

static bool count_rows(struct index *ix, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, IX_COUNT, e);
    bool ok = st != NULL && sqlite3_step(st) == SQLITE_ROW;
    if (ok)
        atomic_init(&ix->count, sqlite3_column_int64(st, 0));
    else if (st != NULL)
        set_err(e, ix->writer->db, "count");
    sqlite3_reset(st);
    return ok;
}

struct index *index_open(struct spool *s, struct err *e)
{
    struct index *ix = xcalloc(1, sizeof *ix);
    struct err why = ERR_INIT;
    *ix = (struct index){ .s = s, .log = s->o.log, .path = xasprintf("%s/%s", s->o.dir, spool_index_name(s)) };
    ix->due_piece = MAKE_DUE_PIECE;
    ix->shrink_min_pages = SHRINK_MIN_PAGES;
    lock_init(&ix->m, LOCK_INDEX_INBOX);
    cond_init(&ix->wake);
    ix->jobs_tail = &ix->jobs;
    if (s->o.index_name != NULL && !s->o.read_only)
        remove_leftovers(ix);
    bool exists = access(ix->path, F_OK) == 0 || errno != ENOENT;
    if (!exists || !is_usable(ix, &why)) {
        conn_free(ix->writer);
        ix->writer = NULL;
        ix->durable = (struct index_mark){ { 0, 0 }, 0 }; /* what it covered, the new one does not */
        if (s->o.read_only) {
            err_set(e, "%s", exists ? why.text : "there is no index.db yet: start the daemon once");
            index_close(&ix);
            return NULL;
        }
        if (exists)
            set_aside(ix, why.text);
        ix->is_new = true;
        if (!create(ix, e)) {
            index_close(&ix);
            return NULL;
        }
    }
    /* A mark of zero is that of a database which no recovery has finished. */
    ix->is_new = ix->is_new || (ix->durable.journal.segment == 0 && ix->durable.results == 0);
    if (!count_rows(ix, e))
        index_close(&ix);
    return ix;
}

void index_close(struct index **ixp)
{
    struct index *ix = *ixp;
    *ixp = NULL;
    if (ix == NULL)
        return;
    index_stop(ix);
    while (ix->readers != NULL) {
        struct index_conn *c = ix->readers;
        ix->readers = c->next;
        conn_free(c);
    }
    /* Closing would do the same, without a word when it fails; what is not copied then is in the -wal file. */
    if (ix->writer != NULL && !ix->s->o.read_only &&
        sqlite3_wal_checkpoint_v2(ix->writer->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) != SQLITE_OK)
        log_warn(ix->log, "index.db: checkpoint at the end: %s", sqlite3_errmsg(ix->writer->db));
    conn_free(ix->writer);
    while (ix->moves != NULL) {
        struct pending_move *p = ix->moves;
        ix->moves = p->next;
        free(p);
    }
    cond_destroy(&ix->wake);
    lock_destroy(&ix->m);
    free(ix->path);
    free(ix);
}

bool index_start(struct index *ix, struct err *e)
{
    int rc = thread_start(&ix->thread, "indexer", 512 * 1024, index_thread, ix);
    if (rc != 0)
        err_set_sys(e, rc, "start the indexer thread");
    ix->running = rc == 0;
    return ix->running;
}

void index_stop(struct index *ix)
{
    if (!ix->running)
        return;
    lock_take(&ix->m);
    ix->stopping = true;
    cond_signal(&ix->wake);
    lock_drop(&ix->m);
    pthread_join(ix->thread, NULL);
    ix->running = false;
}

int64_t index_count(struct index *ix)
{
    return atomic_load_explicit(&ix->count, memory_order_relaxed);
}

/*
 * The file of verification results: one SQLite table beside the name that address_verify_map gives, NAME.sqlite. It is a
 * cache: what cannot be read is thrown away with a warning and begun anew.
 *
 *   CREATE TABLE result (address TEXT PRIMARY KEY, status INTEGER, updated INTEGER, text TEXT) WITHOUT ROWID
 *
 * status: enum verify_status; updated: seconds since 1970. Written behind, many changes in one transaction, without waiting for
 * the disk. Everything runs on the keeper thread.
 */
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "policy/verify_internal.h"

#define SCHEMA "CREATE TABLE IF NOT EXISTS result (address TEXT PRIMARY KEY, status INTEGER NOT NULL, updated INTEGER NOT NULL, text TEXT NOT NULL) WITHOUT ROWID"
#define PIECE 200 /* rows taken under the lock at a time */

/* "btree:/path" -> "/path.sqlite"; NULL: results are kept in memory alone. */
static char *path_of(struct verifier *v, const struct params *p)
{
    struct span spec = span_trim(span_cstr(p->address_verify_map));
    while (span_istarts_with(spec, SPAN_LIT("proxy:")))
        spec = span_from(spec, 6);
    if (spec.n == 0)
        return NULL;
    ptrdiff_t colon = span_find(spec, ':');
    struct span name = colon < 0 ? spec : span_from(spec, (size_t)colon + 1);
    if (name.n > 0 && name.p[0] == '/')
        return xasprintf("%.*s.sqlite", SPAN_ARG(name));
    log_warn(v->o.log, "address_verify_map = %s: expected type:/path; results of address verification are kept in memory only", p->address_verify_map);
    return NULL;
}

static bool run(struct verifier *v, const char *sql)
{
    return sqlite3_exec(v->db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

static bool try_open(struct verifier *v)
{
    if (sqlite3_open_v2(v->path, &v->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK &&
        run(v, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000;") && run(v, SCHEMA))
        return true;
    log_warn(v->o.log, "%s: %s", v->path, v->db != NULL ? sqlite3_errmsg(v->db) : "no memory");
    sqlite3_close(v->db);
    v->db = NULL;
    return false;
}

static void remove_file(struct verifier *v)
{
    static const char *const tails[] = { "", "-wal", "-shm" };
    for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
        char *path = xasprintf("%s%s", v->path, tails[i]);
        (void)unlink(path);
        free(path);
    }
}

/* Something is wrong with it: from here on there is memory alone. */
static void give_up(struct verifier *v, const char *doing)
{
    log_warn(v->o.log, "%s: %s: %s; results of address verification are kept in memory only", v->path, doing, sqlite3_errmsg(v->db));
    verify_file_close(v);
}

struct row {
    char *address, *text;
    int64_t updated;
    int status;
};

static void take_row(struct verifier *v, sqlite3_stmt *st)
{
    struct span address = span_of((const char *)sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0));
    struct span text = span_of((const char *)sqlite3_column_text(st, 3), (size_t)sqlite3_column_bytes(st, 3));
    int status = sqlite3_column_int(st, 1);
    int64_t updated = sqlite3_column_int64(st, 2);
    if (address.n == 0 || address.n > 1000 || status < VERIFY_OK || status > VERIFY_BOUNCE || text.p == NULL)
        return;
    lock_take(&v->m);
    struct entry *e = verify_entry_get_locked(v, address);
    if (e == NULL)
        e = verify_entry_add_locked(v, address);
    if (e->updated_s == 0)
        verify_entry_set_locked(v, e, (enum verify_status)status, text, updated);
    lock_drop(&v->m);
}

/* The newest ones, the oldest of them first. */
static bool read_all(struct verifier *v)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(v->db, "SELECT address, status, updated, text FROM (SELECT * FROM result ORDER BY updated DESC LIMIT ?1) ORDER BY updated",
                                -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(st, 1, VERIFY_ENTRIES_MAX);
    while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        take_row(v, st);
        rc = SQLITE_OK;
    }
    (void)sqlite3_finalize(st);
    return rc == SQLITE_DONE;
}

void verify_file_open(struct verifier *v, const struct params *p)
{
    v->path = path_of(v, p);
    if (v->path == NULL)
        return;
    if (try_open(v) && read_all(v))
        return;
    log_warn(v->o.log, "%s: begun anew", v->path);
    verify_file_close(v);
    remove_file(v);
    if (!try_open(v))
        log_warn(v->o.log, "%s: cannot be used; results of address verification are kept in memory only", v->path);
}

void verify_file_close(struct verifier *v)
{
    sqlite3_close(v->db);
    v->db = NULL;
}

/* ---- writing ---- */

static bool do_row(sqlite3_stmt *st, const struct row *r, bool is_deletion)
{
    bool ok = sqlite3_bind_text(st, 1, r->address, -1, SQLITE_STATIC) == SQLITE_OK;
    if (!is_deletion)
        ok = ok && sqlite3_bind_int(st, 2, r->status) == SQLITE_OK && sqlite3_bind_int64(st, 3, r->updated) == SQLITE_OK &&
             sqlite3_bind_text(st, 4, r->text, -1, SQLITE_STATIC) == SQLITE_OK;
    ok = ok && sqlite3_step(st) == SQLITE_DONE;
    return sqlite3_reset(st) == SQLITE_OK && ok;
}

/* Up to PIECE rows that the file does not have. */
static size_t take_dirty_locked(struct verifier *v, struct row *rows) REQUIRES(&v->m);
static size_t take_dirty_locked(struct verifier *v, struct row *rows)
{
    size_t n = 0;
    struct entry *e;
    while (n < PIECE && (e = v->dirty) != NULL) {
        verify_entry_clean_locked(v, e);
        rows[n++] = (struct row){ xstrndup(e->address, e->n), xstrdup(e->text), e->updated_s, e->status };
    }
    return n;
}

static bool write_all(struct verifier *v, struct entry *gone)
{
    sqlite3_stmt *put = NULL, *drop = NULL;
    struct row rows[PIECE];
    size_t n = 0;
    bool ok = sqlite3_prepare_v2(v->db, "INSERT OR REPLACE INTO result VALUES (?1, ?2, ?3, ?4)", -1, &put, NULL) == SQLITE_OK &&
              sqlite3_prepare_v2(v->db, "DELETE FROM result WHERE address = ?1", -1, &drop, NULL) == SQLITE_OK && run(v, "BEGIN");
    for (struct entry *e = gone; e != NULL; e = e->next)
        ok = ok && do_row(drop, &(struct row){ .address = e->address }, true);
    do {
        lock_take(&v->m);
        n = take_dirty_locked(v, rows);
        lock_drop(&v->m);
        for (size_t i = 0; i < n; i++) {
            ok = ok && do_row(put, &rows[i], false);
            free(rows[i].address);
            free(rows[i].text);
        }
    } while (n == PIECE);
    (void)sqlite3_finalize(put);
    (void)sqlite3_finalize(drop);
    return ok && run(v, "COMMIT");
}

void verify_file_flush(struct verifier *v)
{
    lock_take(&v->m);
    struct entry *gone = v->gone;
    v->gone = NULL;
    v->is_dirty = false;
    v->flush_ms = CLOCK_NEVER;
    lock_drop(&v->m);
    if (v->db != NULL && !write_all(v, gone))
        give_up(v, "write");
    while (gone != NULL) {
        struct entry *e = gone;
        gone = e->next;
        free(e->text);
        free(e);
    }
}

void verify_file_cleanup(struct verifier *v, const struct params *p)
{
    struct verify_ages ages = verify_ages_of(p);
    struct entry mark, *e = &mark;
    size_t kept = 0, dropped = 0;
    int64_t now = clock_wall_s();
    char sql[300];
    lock_take(&v->m);
    verify_walk_begin_locked(v, &mark, false);
    lock_drop(&v->m);
    while (e != NULL) {
        lock_take(&v->m);
        for (int i = 0; i < VERIFY_PIECE && (e = verify_walk_locked(v, &mark, false)) != NULL; i++) {
            bool drop = verify_is_expired(e, &ages, now) && !e->is_queued && !e->is_running && e->waiters == 0;
            kept += !drop;
            dropped += drop;
            if (drop)
                verify_entry_drop_locked(v, e);
        }
        lock_drop(&v->m);
    }
    verify_file_flush(v);
    /* and rows that never came into memory */
    snprintf(sql, sizeof sql, "DELETE FROM result WHERE status = %d AND updated < %lld OR status <> %d AND updated < %lld", VERIFY_OK,
             (long long)(now - ages.positive_expire), VERIFY_OK, (long long)(now - ages.negative_expire));
    if (v->db != NULL && !run(v, sql))
        give_up(v, "clean up");
    log_info(v->o.log, "cache %s full cleanup: retained=%zu dropped=%zu entries", p->address_verify_map, kept, dropped);
}

/*
 * sqlite: table map(key, value) in FILE.sqlite. Look-ups go through a file that says so, FILE.cf, which is written when there
 * is none.
 */
#include "daemon/cmd/map_file.h"

#include <cdb.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sqlite3.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/table/table_database.h"

#define LMDB_ROOM  (UINT64_C(16) << 20)
#define LMDB_TRIES 6

static bool add_row(void *arg, struct span key, struct span value)
{
    (void)map_rows_add(arg, key, value, false);
    return true;
}

typedef bool database_fn(struct span file, table_database_row_fn *fn, void *arg, struct err *e);

static bool read_with(database_fn *database, const char *path, struct map_rows *r, struct err *e)
{
    struct buf bytes = BUF_INIT((UINT64_C(1) << 32) - 1);
    bool ok = io_read_file(path, &bytes, e);
    if (ok && bytes.n > 0 && !database(buf_span(&bytes), add_row, r, e)) {
        err_prefix(e, "%s", path);
        ok = false;
    }
    buf_free(&bytes);
    return ok;
}

/* ---- lmdb ---- */

static bool lmdb_read(const char *path, struct map_rows *r, struct err *e)
{
    return read_with(table_database_lmdb, path, r, e);
}

struct sorted {
    const struct strmap *map;
    const struct strmap_row **rows; /* owned */
};

static int by_key(const void *a, const void *b, void *arg)
{
    const struct strmap *m = arg;
    struct span x = strmap_key(m, *(const struct strmap_row *const *)a), y = strmap_key(m, *(const struct strmap_row *const *)b);
    int c = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    return c != 0 ? c : (x.n > y.n) - (x.n < y.n);
}

static const struct strmap_row **sorted_rows(const struct map_rows *r)
{
    const struct strmap_row **rows = xcalloc((size_t)r->map.count + 1, sizeof *rows);
    for (uint32_t i = 0; i < r->map.count; i++)
        rows[i] = &r->map.rows[i];
    qsort_r(rows, r->map.count, sizeof *rows, by_key, (void *)(uintptr_t)&r->map);
    return rows;
}

/* n bytes and, if wanted, a NUL behind them; in `room`. */
static MDB_val lmdb_value(struct span s, bool with_nul, struct buf *room)
{
    if (!with_nul)
        return (MDB_val){ .mv_size = s.n, .mv_data = (void *)(uintptr_t)s.p };
    buf_reset(room);
    buf_add_span(room, s);
    buf_putc(room, '\0');
    return (MDB_val){ .mv_size = room->n, .mv_data = room->p };
}

static int lmdb_put_all(MDB_txn *txn, MDB_dbi dbi, const struct map_rows *r, bool with_nul, struct span *at)
{
    const struct strmap_row **rows = sorted_rows(r);
    struct buf k = BUF_INIT(0), v = BUF_INIT(0);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < r->map.count; i++) {
        MDB_val key = lmdb_value(strmap_key(&r->map, rows[i]), with_nul, &k);
        MDB_val value = lmdb_value(strmap_value(&r->map, rows[i]), with_nul, &v);
        *at = strmap_key(&r->map, rows[i]);
        rc = mdb_put(txn, dbi, &key, &value, MDB_APPEND);
    }
    buf_free(&k);
    buf_free(&v);
    free(rows);
    return rc;
}

static int lmdb_try(const char *path, size_t room, const struct map_rows *r, bool with_nul, struct span *at)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_dbi dbi;
    int rc = mdb_env_create(&env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(env, room);
    if (rc == 0)
        rc = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC, 0600);
    if (rc == 0)
        rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (rc == 0)
        rc = mdb_dbi_open(txn, NULL, 0, &dbi);
    if (rc == 0)
        rc = lmdb_put_all(txn, dbi, r, with_nul, at);
    if (rc == 0) {
        rc = mdb_txn_commit(txn);
        txn = NULL;
    }
    if (txn != NULL)
        mdb_txn_abort(txn);
    if (rc == 0)
        rc = mdb_env_sync(env, 1);
    mdb_env_close(env);
    return rc;
}

static bool lmdb_write(const char *path, const struct map_rows *r, bool with_nul, struct err *e)
{
    struct span at = { NULL, 0 };
    size_t room = LMDB_ROOM + r->bytes.n * 2 + (size_t)r->map.count * 64;
    int rc = MDB_MAP_FULL;
    for (int i = 0; rc == MDB_MAP_FULL && i < LMDB_TRIES; i++, room *= 2) {
        if (truncate(path, 0) != 0) {
            err_set_sys(e, errno, "%s", path);
            return false;
        }
        rc = lmdb_try(path, room, r, with_nul, &at);
    }
    if (rc == MDB_BAD_VALSIZE)
        err_set(e, "%s: the key \"%.60s...\" is too long: an lmdb database takes up to 511 bytes", path, at.p != NULL ? at.p : "");
    else if (rc != 0)
        err_set(e, "%s: %s", path, mdb_strerror(rc));
    return rc == 0;
}

/* ---- cdb ---- */

static bool cdb_read_rows(const char *path, struct map_rows *r, struct err *e)
{
    return read_with(table_database_cdb, path, r, e);
}

static bool cdb_write(const char *path, const struct map_rows *r, bool with_nul, struct err *e)
{
    struct cdb_make make;
    struct buf k = BUF_INIT(0), v = BUF_INIT(0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool ok = fd >= 0 && cdb_make_start(&make, fd) == 0;
    for (uint32_t i = 0; ok && i < r->map.count; i++) {
        MDB_val key = lmdb_value(strmap_key(&r->map, &r->map.rows[i]), with_nul, &k);
        MDB_val value = lmdb_value(strmap_value(&r->map, &r->map.rows[i]), with_nul, &v);
        ok = cdb_make_add(&make, key.mv_data, (unsigned)key.mv_size, value.mv_data, (unsigned)value.mv_size) == 0;
    }
    ok = ok && cdb_make_finish(&make) == 0 && fsync(fd) == 0;
    if (!ok)
        err_set_sys(e, errno, "%s", path);
    io_close(&fd);
    buf_free(&k);
    buf_free(&v);
    return ok;
}

/* ---- sqlite ---- */

static bool sqlite_failed(sqlite3 *db, const char *path, struct err *e)
{
    err_set(e, "%s: %s", path, db != NULL ? sqlite3_errmsg(db) : "out of memory");
    return false;
}

static bool sqlite_read(const char *path, struct map_rows *r, struct err *e)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "SELECT key, value FROM map", -1, &st, NULL);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
        if (rc != SQLITE_ROW)
            break;
        const char *k = (const char *)sqlite3_column_text(st, 0), *v = (const char *)sqlite3_column_text(st, 1);
        if (k != NULL && v != NULL)
            (void)map_rows_add(r, span_of(k, (size_t)sqlite3_column_bytes(st, 0)), span_of(v, (size_t)sqlite3_column_bytes(st, 1)),
                               false);
    }
    bool ok = rc == SQLITE_DONE || sqlite_failed(db, path, e);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return ok;
}

static int sqlite_insert(sqlite3_stmt *st, const struct map_rows *r, const struct strmap_row *row)
{
    struct span k = strmap_key(&r->map, row), v = strmap_value(&r->map, row);
    sqlite3_bind_text64(st, 1, k.p, k.n, SQLITE_STATIC, SQLITE_UTF8);
    sqlite3_bind_text64(st, 2, v.p, v.n, SQLITE_STATIC, SQLITE_UTF8);
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static bool sqlite_write(const char *path, const struct map_rows *r, bool with_nul, struct err *e)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    const struct strmap_row **rows = sorted_rows(r);
    (void)with_nul;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (rc == SQLITE_OK) /* the file takes its name whole: no journal of its own */
        rc = sqlite3_exec(db, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;"
                              "CREATE TABLE map(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "INSERT INTO map VALUES(?1, ?2)", -1, &st, NULL);
    for (uint32_t i = 0; rc == SQLITE_OK && i < r->map.count; i++)
        rc = sqlite_insert(st, r, rows[i]);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    bool ok = rc == SQLITE_OK || sqlite_failed(db, path, e);
    sqlite3_finalize(st);
    sqlite3_close(db);
    free(rows);
    return ok;
}

static bool write_description(const char *path, mode_t mode, struct err *e)
{
    char *cf = xasprintf("%s.cf", path);
    int fd = open(cf, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    bool ok = fd >= 0 || errno == EEXIST;
    if (fd >= 0) {
        char *name = xasprintf("%s.sqlite", path), *full = realpath(name, NULL);
        char *text = xasprintf("dbpath = %s\nquery = SELECT value FROM map WHERE key = '%%s'\n", full != NULL ? full : name);
        ok = io_write_all(fd, text, strlen(text)) && fsync(fd) == 0;
        free(text);
        free(full);
        free(name);
    }
    if (!ok)
        err_set_sys(e, errno, "%s", cf);
    io_close(&fd);
    free(cf);
    return ok;
}

/* ---- all ---- */

static const struct map_type types[] = {
    { "lmdb", ".lmdb", true, lmdb_read, lmdb_write },
    { "cdb", ".cdb", false, cdb_read_rows, cdb_write },
    { "sqlite", ".sqlite", false, sqlite_read, sqlite_write },
};

const struct map_type *map_type_find(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (span_ieq_cstr(name, types[i].name))
            return &types[i];
    }
    return NULL;
}

static bool sync_file(const char *path, mode_t mode)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fchmod(fd, mode) == 0 && fsync(fd) == 0;
    io_close(&fd);
    return ok;
}

static bool sync_directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash == NULL ? xstrdup(".") : xstrndup(path, slash == path ? 1 : (size_t)(slash - path));
    bool ok = io_sync_dir(dir);
    free(dir);
    return ok;
}

bool map_file_write(const struct map_type *t, const char *path, mode_t mode, bool with_nul, const struct map_rows *r,
                    struct err *e)
{
    char *name = xasprintf("%s%s", path, t->suffix), *fresh = xasprintf("%s%s.XXXXXX", path, t->suffix);
    int fd = mkstemp(fresh);
    bool ok = fd >= 0;
    if (!ok)
        err_set_sys(e, errno, "%s", fresh);
    io_close(&fd);
    ok = ok && t->write(fresh, r, with_nul, e);
    if (ok && (!sync_file(fresh, mode) || rename(fresh, name) != 0 || !sync_directory_of(name))) {
        err_set_sys(e, errno, "%s", name);
        ok = false;
    }
    if (ok && strcmp(t->name, "sqlite") == 0)
        ok = write_description(path, mode, e);
    if (!ok)
        unlink(fresh);
    free(name);
    free(fresh);
    return ok;
}

bool map_file_read(const struct map_type *t, const char *path, struct map_rows *r, int *fd, struct err *e)
{
    char *name = xasprintf("%s%s", path, t->suffix);
    /* the whole file, as the writers of lmdb do; one byte of sqlite's, which has locks of its own further behind */
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = strcmp(t->name, "sqlite") == 0 };
    *fd = open(name, O_RDWR | O_CLOEXEC);
    bool ok = *fd >= 0 || errno == ENOENT;
    if (*fd >= 0)
        ok = fcntl(*fd, F_OFD_SETLKW, &l) == 0;
    if (!ok)
        err_set_sys(e, errno, "%s", name);
    if (ok && *fd >= 0)
        ok = t->read(name, r, e);
    free(name);
    return ok;
}

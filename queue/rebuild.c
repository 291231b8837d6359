/*
 * The index made anew while no daemon runs: a start's own recovery, into a file of another name. Until the last rename the
 * old index is untouched, and between the two renames there is none, which the next start takes for a reason to make
 * one; so it can be killed anywhere.
 *
 * What recovery cannot know, the attempts and reasons older than the checkpoint, is copied from the old index as far as it can be
 * read. That it cannot is no failure: it is why people rebuild.
 */
#include <errno.h>
#include <sqlite3.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/index_internal.h"

#define NEW_NAME "index.db.new"
#define OLD_NAME "index.db.old"

/* The log goes first: the database of another name must never find it. */
static const char *const parts[] = { "-wal", "-shm", "" };

static void remove_all(const struct spool *s, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        char *path = xasprintf("%s/%s%s", s->o.dir, name, parts[i]);
        if (unlink(path) != 0 && errno != ENOENT)
            log_warn(s->o.log, "cannot remove %s: %m", path);
        free(path);
    }
}

static bool rename_all(const struct spool *s, const char *from, const char *to, struct err *e)
{
    bool ok = true;
    for (size_t i = 0; ok && i < ARRAY_LEN(parts); i++) {
        char *a = xasprintf("%s/%s%s", s->o.dir, from, parts[i]), *b = xasprintf("%s/%s%s", s->o.dir, to, parts[i]);
        ok = s->io->rename(s->io->arg, a, b) == 0 || errno == ENOENT;
        if (!ok)
            err_set_sys(e, errno, "rename %s", a);
        free(a);
        free(b);
    }
    return ok;
}

/* Of the messages that are still queued; both schemas must be the one this program writes. */
static const char take_history[] =
    "BEGIN IMMEDIATE;"
    "INSERT OR IGNORE INTO attempts SELECT a.* FROM old.attempts a JOIN messages m ON m.id = a.message"
    " WHERE (SELECT value FROM old.meta WHERE key = 'schema_version') = (SELECT value FROM main.meta WHERE key = 'schema_version');"
    "UPDATE recipients SET transport = o.transport, nexthop = o.nexthop, dsn = o.dsn, mta = o.mta, reason = o.reason,"
    " reason_class = o.reason_class"
    " FROM old.recipients o WHERE o.message = recipients.message AND o.rcpt = recipients.rcpt AND recipients.reason = ''"
    " AND o.address = recipients.address AND recipients.state <> 2;"
    "COMMIT;";

static bool copy_history(const struct spool *s)
{
    char *old = xasprintf("%s/index.db", s->o.dir), *new = xasprintf("%s/" NEW_NAME, s->o.dir);
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    bool ok = access(old, F_OK) == 0 && sqlite3_open_v2(new, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK &&
              sqlite3_prepare_v2(db, "ATTACH ?1 AS old", -1, &st, NULL) == SQLITE_OK &&
              sqlite3_bind_text(st, 1, old, -1, SQLITE_STATIC) == SQLITE_OK && sqlite3_step(st) == SQLITE_DONE;
    sqlite3_finalize(st);
    ok = ok && sqlite3_exec(db, take_history, NULL, NULL, NULL) == SQLITE_OK;
    if (!ok && db != NULL && !sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close_v2(db);
    free(old);
    free(new);
    return ok;
}

static bool put_in_place(struct spool *s, struct err *e)
{
    char *bad = xasprintf("%s/index.bad", s->o.dir);
    remove_all(s, OLD_NAME);
    bool ok = rename_all(s, "index.db", OLD_NAME, e) && rename_all(s, NEW_NAME, "index.db", e);
    if (ok && s->io->sync_dir(s->io->arg, s->o.dir) != 0) {
        err_set_sys(e, errno, "flush of directory %s", s->o.dir);
        ok = false;
    }
    if (ok)
        unlink(bad);
    free(bad);
    return ok;
}

/* Recovery as at a start, and no thread. */
static bool fill(struct spool *s, struct rebuild_totals *t, struct err *e)
{
    if (!result_log_begin(&s->results, e) || !spool_recover(s, e))
        return false;
    char *old = xasprintf("%s/index.db", s->o.dir);
    t->had_old = access(old, F_OK) == 0;
    free(old);
    t->messages = index_count(s->index);
    index_close(&s->index);
    t->has_history = copy_history(s);
    if (spool_is_told_to_stop(s, "putting it in place", 0, 0)) {
        err_set(e, "interrupted");
        return false;
    }
    return put_in_place(s, e);
}

struct watch {
    const struct spool_options *o;
    bool is_stopped;
};

static bool watch_cb(void *arg, const char *what, uint64_t done, uint64_t total)
{
    struct watch *w = arg;
    w->is_stopped = w->is_stopped || (w->o->progress != NULL && !w->o->progress(w->o->progress_arg, what, done, total));
    return !w->is_stopped;
}

enum spool_open_status spool_rebuild_index(const struct spool_options *o, struct rebuild_totals *t, struct err *e)
{
    struct watch w = { .o = o };
    struct spool_options mine = *o;
    struct spool *s = NULL;
    mine.create = false;
    mine.read_only = false;
    mine.index_name = NEW_NAME;
    mine.progress = watch_cb;
    mine.progress_arg = &w;
    *t = (struct rebuild_totals){ 0 };
    enum spool_open_status k = spool_open(&mine, &s, e);
    if (k == SPOOL_OPEN_OK && !fill(s, t, e)) {
        index_close(&s->index);
        remove_all(s, NEW_NAME);
        k = SPOOL_OPEN_FAILED;
    }
    t->is_cancelled = w.is_stopped;
    spool_close(&s);
    return k;
}

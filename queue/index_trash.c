/*
 * Rows of deleted messages that can be restored. They stand in tables of their own, so that whoever reads the tables of
 * the queue sees the queue.
 *
 * A purge removes rows first and gives the place in the journal back when that has been committed. The other way
 * round a process that is killed in between would leave rows of messages whose segment may be used again.
 */
#include "common/base/mem.h"
#include "queue/index_internal.h"

bool index_deleted_us(struct index *ix, uint64_t id, int64_t *deleted_us, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, IX_FETCH_DELETED, e);
    if (st == NULL)
        return false;
    sqlite3_bind_int64(st, 1, (int64_t)id);
    bool ok = sqlite3_step(st) == SQLITE_ROW;
    if (ok)
        *deleted_us = sqlite3_column_int64(st, 7);
    else
        err_set(e, "index.db: %s", sqlite3_errmsg(ix->writer->db));
    sqlite3_reset(st);
    return ok;
}

bool index_trash(struct index *ix, uint64_t id, int64_t deleted_us, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, IX_TRASH_MESSAGE, e);
    if (st == NULL)
        return false;
    sqlite3_bind_int64(st, 1, (int64_t)id);
    sqlite3_bind_int64(st, 2, deleted_us);
    if (!index_run(ix->writer, st, e))
        return false;
    if (sqlite3_changes(ix->writer->db) == 0)
        return true;
    atomic_fetch_sub_explicit(&ix->count, 1, memory_order_relaxed);
    return index_by_id(ix, IX_TRASH_RCPTS, id, e) && index_by_id(ix, IX_DELETE_MESSAGE, id, e) && index_by_id(ix, IX_DELETE_RCPTS, id, e);
}

bool index_restore(struct index *ix, uint64_t id, struct err *e)
{
    bool has, deleted;
    if (!index_look(ix, id, &has, &deleted, e) || !index_by_id(ix, IX_RESTORE_MESSAGE, id, e))
        return false;
    if (sqlite3_changes(ix->writer->db) == 0)
        return true;
    atomic_fetch_add_explicit(&ix->count, !has, memory_order_relaxed);
    return index_by_id(ix, IX_RESTORE_RCPTS, id, e) && index_by_id(ix, IX_PURGE_MESSAGE, id, e) && index_by_id(ix, IX_PURGE_RCPTS, id, e);
}

int index_deleted_until(struct index *ix, int64_t until_us, uint64_t *ids, int limit, int64_t *next_us, struct err *e)
{
    struct index_conn *c = index_conn_take(ix, e);
    int n = 0, rc = SQLITE_ERROR;
    if (c == NULL)
        return -1;
    sqlite3_stmt *st = index_stmt(c, IX_DELETED_UNTIL, e), *next = index_stmt(c, IX_DELETED_AFTER, e);
    if (st != NULL && next != NULL) {
        sqlite3_bind_int64(st, 1, until_us);
        sqlite3_bind_int(st, 2, limit);
        while (n < limit && (rc = sqlite3_step(st)) == SQLITE_ROW)
            ids[n++] = (uint64_t)sqlite3_column_int64(st, 0);
        sqlite3_bind_int64(next, 1, until_us);
        if (rc == SQLITE_ROW || rc == SQLITE_DONE)
            rc = sqlite3_step(next);
        if (rc == SQLITE_ROW)
            *next_us = sqlite3_column_type(next, 0) == SQLITE_INTEGER ? sqlite3_column_int64(next, 0) : INT64_MAX;
        else
            err_set(e, "index.db: %s", sqlite3_errmsg(c->db));
        sqlite3_reset(st);
        sqlite3_reset(next);
    }
    index_conn_give(ix, c);
    return rc == SQLITE_ROW ? n : -1;
}

/* ---- for good ---- */

void index_purge(struct index *ix, const uint64_t *ids, size_t n, void (*cb)(void *arg, int status), void *arg)
{
    struct index_job *j = index_job_new(INDEX_JOB_PURGE, cb, arg);
    j->purged = arena_alloc(j->arena, (n > 0 ? n : 1) * sizeof *j->purged);
    j->n = n;
    for (size_t i = 0; i < n; i++)
        j->purged[i].id = ids[i];
    index_submit(ix, j);
}

bool index_purge_rows(struct index *ix, struct index_job *j, struct err *e)
{
    for (size_t i = 0; i < j->n; i++) {
        struct index_purged *p = &j->purged[i];
        sqlite3_stmt *st = index_stmt(ix->writer, IX_DELETED_PLACE, e);
        if (st == NULL)
            return false;
        sqlite3_bind_int64(st, 1, (int64_t)p->id);
        p->found = sqlite3_step(st) == SQLITE_ROW;
        if (p->found) {
            p->pos = (struct journal_pos){ (uint64_t)sqlite3_column_int64(st, 0), (uint64_t)sqlite3_column_int64(st, 1) };
            p->size = (uint64_t)sqlite3_column_int64(st, 2);
            p->is_large = sqlite3_column_int(st, 3) != 0;
        }
        sqlite3_reset(st);
        if (!index_by_id(ix, IX_PURGE_MESSAGE, p->id, e) || !index_by_id(ix, IX_PURGE_RCPTS, p->id, e) ||
            !index_by_id(ix, IX_DELETE_ATTEMPTS, p->id, e))
            return false;
    }
    return true;
}

void index_purge_places(struct index *ix, const struct index_job *j)
{
    for (size_t i = 0; i < j->n; i++) {
        const struct index_purged *p = &j->purged[i];
        if (!p->found)
            continue;
        segments_note_done(&ix->s->journal.segs, p->id, p->pos, segment_weight(p->size, p->is_large));
        if (p->is_large)
            spool_large_done(ix->s, p->id);
    }
}

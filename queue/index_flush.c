/*
 * The indexer: one transaction for each change set, with the mark it covers. What compaction moved before the mark was
 * taken is in the same transaction or an earlier one, because moves are put on the list before the position they end at
 * is announced.
 *
 * A recipient's attempts go round in ATTEMPTS_KEPT rows (slot = attempt modulo that), so that mail which is tried for
 * days does not grow its history without end.
 */
#include <fcntl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/index_internal.h"
#include "queue/reason_class.h"

#define ATTEMPTS_KEPT 10
/* One page in so many free: worth writing the others anew. */
#define SHRINK_SHARE 4
/* Unasked, when one page in so many is used; and how often that is looked at. */
#define SHRINK_LEFT 8
#define SHRINK_LOOK_MS 60000

/* ---- handing over ---- */

static struct span span_copy(struct arena *a, struct span s)
{
    return s.n > 0 ? arena_dup_span(a, s) : span_of("", 0);
}

static void copy_change(struct arena *a, const struct index_change *from, struct index_change *to)
{
    *to = *from;
    if (from->kind == INDEX_DELETE)
        return;
    to->m = msg_ref(from->m);
    struct index_rcpt *r = arena_alloc(a, (from->rcpt_count ? from->rcpt_count : 1) * sizeof *r);
    for (uint32_t i = 0; i < from->rcpt_count; i++) {
        r[i] = from->rcpts[i];
        r[i].addr = span_copy(a, r[i].addr);
        r[i].transport = span_copy(a, r[i].transport);
        r[i].nexthop = span_copy(a, r[i].nexthop);
        r[i].dsn = span_copy(a, r[i].dsn);
        r[i].mta = span_copy(a, r[i].mta);
        r[i].reason = span_copy(a, r[i].reason);
    }
    to->rcpts = r;
}

struct index_job *index_job_new(enum index_job_kind k, void (*cb)(void *arg, int status), void *arg)
{
    struct index_job *j = xcalloc(1, sizeof *j);
    *j = (struct index_job){ .kind = k, .arena = arena_new(16384), .cb = cb, .arg = arg };
    return j;
}

static void job_free(struct index_job *j)
{
    for (size_t i = 0; j->changes != NULL && i < j->n; i++)
        msg_unref(&j->changes[i].m);
    free(j->changes);
    arena_free(&j->arena);
    free(j);
}

void index_submit(struct index *ix, struct index_job *j)
{
    lock_take(&ix->m);
    bool late = ix->stopping;
    if (!late) {
        *ix->jobs_tail = j;
        ix->jobs_tail = &j->next;
        cond_signal(&ix->wake);
    }
    lock_drop(&ix->m);
    if (!late)
        return;
    if (j->cb != NULL)
        j->cb(j->arg, -1);
    job_free(j);
}

void index_flush(struct index *ix, const struct index_change *c, size_t n, const struct index_mark *mark,
                 void (*cb)(void *arg, int status), void *arg)
{
    struct index_job *j = index_job_new(INDEX_JOB_FLUSH, cb, arg);
    j->changes = xcalloc(n ? n : 1, sizeof *j->changes);
    j->n = n;
    j->mark = *mark;
    for (size_t i = 0; i < n; i++)
        copy_change(j->arena, &c[i], &j->changes[i]);
    index_submit(ix, j);
}

void index_make_due(struct index *ix, int64_t due_us, const struct span *nexthop, void (*cb)(void *arg, int status), void *arg)
{
    struct index_job *j = index_job_new(INDEX_JOB_MAKE_DUE, cb, arg);
    j->due_us = due_us;
    j->has_nexthop = nexthop != NULL;
    if (nexthop != NULL)
        j->nexthop = span_copy(j->arena, *nexthop);
    index_submit(ix, j);
}

void index_make_due_transport(struct index *ix, int64_t due_us, struct span transport, void (*cb)(void *arg, int status), void *arg)
{
    struct index_job *j = index_job_new(INDEX_JOB_MAKE_DUE, cb, arg);
    j->due_us = due_us;
    j->has_transport = true;
    j->nexthop = span_copy(j->arena, transport);
    index_submit(ix, j);
}

/* ---- rows ---- */

static bool look(struct index *ix, enum index_stmt k, uint64_t id, bool *has, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, k, e);
    if (st == NULL)
        return false;
    sqlite3_bind_int64(st, 1, (int64_t)id);
    int rc = sqlite3_step(st);
    bool ok = rc == SQLITE_DONE || rc == SQLITE_ROW;
    if (ok)
        *has = rc == SQLITE_ROW;
    else
        err_set(e, "index.db: %s", sqlite3_errmsg(ix->writer->db));
    sqlite3_reset(st);
    return ok;
}

bool index_look(struct index *ix, uint64_t id, bool *has, bool *deleted, struct err *e)
{
    return look(ix, IX_HAS, id, has, e) && look(ix, IX_HAS_DELETED, id, deleted, e);
}

bool index_has(struct index *ix, uint64_t id)
{
    bool has;
    return !look(ix, IX_HAS, id, &has, NULL) || has;
}

bool index_has_deleted(struct index *ix, uint64_t id)
{
    bool has;
    return !look(ix, IX_HAS_DELETED, id, &has, NULL) || has;
}

static bool put_message(struct index *ix, const struct index_change *c, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, IX_PUT_MESSAGE, e);
    const struct envelope *v = &c->m->env;
    struct journal_pos pos = segments_where(&ix->s->journal.segs, c->id, c->m->pos);
    if (st == NULL)
        return false;
    bool has;
    if (!look(ix, IX_HAS, c->id, &has, e))
        return false;
    sqlite3_bind_int64(st, 1, (int64_t)c->id);
    sqlite3_bind_int64(st, 2, (int64_t)pos.segment);
    sqlite3_bind_int64(st, 3, (int64_t)pos.offset);
    sqlite3_bind_int64(st, 4, (int64_t)v->content_bytes);
    sqlite3_bind_int(st, 5, c->m->is_large);
    sqlite3_bind_int64(st, 6, v->arrival_us);
    index_bind_span(st, 7, v->sender);
    index_bind_span(st, 8, v->message_id);
    index_bind_span(st, 9, v->client_name);
    index_bind_span(st, 10, v->client_addr);
    sqlite3_bind_int64(st, 11, v->rcpt_count);
    sqlite3_bind_int(st, 12, c->on_hold);
    sqlite3_bind_int64(st, 13, c->due_us);
    sqlite3_bind_int(st, 14, c->delay_warned);
    sqlite3_bind_int(st, 15, c->forced_expire);
    if (!index_run(ix->writer, st, e))
        return false;
    atomic_fetch_add_explicit(&ix->count, !has, memory_order_relaxed);
    return true;
}

static bool put_attempt(struct index *ix, uint64_t id, const struct index_rcpt *r, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, IX_PUT_ATTEMPT, e);
    if (st == NULL)
        return false;
    sqlite3_bind_int64(st, 1, (int64_t)id);
    sqlite3_bind_int64(st, 2, r->rcpt);
    sqlite3_bind_int(st, 3, r->attempts % ATTEMPTS_KEPT);
    sqlite3_bind_int(st, 4, r->attempts);
    sqlite3_bind_int64(st, 5, r->when_us != 0 ? r->when_us : clock_wall_us());
    index_bind_span(st, 6, r->dsn);
    index_bind_span(st, 7, r->mta);
    index_bind_span(st, 8, r->reason);
    return index_run(ix->writer, st, e);
}

static bool put_rcpt(struct index *ix, enum index_stmt k, const struct index_change *c, const struct index_rcpt *r, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, k, e);
    if (st == NULL || r->rcpt >= c->m->env.rcpt_count)
        return st != NULL;
    sqlite3_bind_int64(st, 1, (int64_t)c->id);
    sqlite3_bind_int64(st, 2, r->rcpt);
    index_bind_span(st, 3, r->addr.n > 0 ? r->addr : c->m->env.rcpts[r->rcpt].addr);
    sqlite3_bind_int(st, 4, r->state == RCPT_DONE ? RCPT_DONE : r->is_alone ? ROW_ALONE : RCPT_TODO);
    sqlite3_bind_int(st, 5, r->attempts);
    sqlite3_bind_int64(st, 6, r->due_us);
    index_bind_span(st, 7, r->transport);
    index_bind_span(st, 8, r->nexthop);
    index_bind_span(st, 9, r->dsn);
    index_bind_span(st, 10, r->mta);
    index_bind_span(st, 11, r->reason);
    sqlite3_bind_int(st, 12, r->is_readdressed);
    struct buf class = BUF_INIT(2 * REASON_CLASS_MAX + r->reason.n);
    reason_class(&class, r->reason);
    index_bind_span(st, 13, buf_span(&class));
    bool ok = index_run(ix->writer, st, e);
    buf_free(&class);
    return ok && (r->attempts == 0 || r->reason.n + r->dsn.n == 0 || put_attempt(ix, c->id, r, e));
}

/* A new message: what was not mentioned has not been tried. Nobody else changes the message of one that mentions a part. */
static bool put_unmentioned(struct index *ix, const struct index_change *c, struct err *e)
{
    for (uint32_t i = 0; i < c->m->env.rcpt_count; i++) {
        struct index_rcpt r = { .rcpt = i, .state = RCPT_TODO };
        if (!put_rcpt(ix, IX_PUT_RCPT, c, &r, e))
            return false;
    }
    return true;
}

static bool set_message(struct index *ix, const struct index_change *c, bool *missing, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, IX_SET_MESSAGE, e);
    if (st == NULL)
        return false;
    sqlite3_bind_int64(st, 1, (int64_t)c->id);
    sqlite3_bind_int(st, 2, c->on_hold);
    sqlite3_bind_int64(st, 3, c->due_us);
    sqlite3_bind_int(st, 4, c->delay_warned);
    sqlite3_bind_int(st, 5, c->forced_expire);
    if (!index_run(ix->writer, st, e))
        return false;
    *missing = sqlite3_changes(ix->writer->db) == 0;
    return true;
}

bool index_by_id(struct index *ix, enum index_stmt k, uint64_t id, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, k, e);
    if (st == NULL)
        return false;
    sqlite3_bind_int64(st, 1, (int64_t)id);
    return index_run(ix->writer, st, e);
}

bool index_delete(struct index *ix, uint64_t id, struct err *e)
{
    if (!index_by_id(ix, IX_DELETE_MESSAGE, id, e))
        return false;
    if (sqlite3_changes(ix->writer->db) == 0)
        return true;
    atomic_fetch_sub_explicit(&ix->count, 1, memory_order_relaxed);
    return index_by_id(ix, IX_DELETE_RCPTS, id, e) && index_by_id(ix, IX_DELETE_ATTEMPTS, id, e);
}

bool index_apply_change(struct index *ix, const struct index_change *c, struct err *e)
{
    bool missing = false;
    if (c->kind == INDEX_DELETE)
        return (!c->was_deleted || index_restore(ix, c->id, e)) && index_delete(ix, c->id, e);
    if (c->was_deleted && !index_restore(ix, c->id, e))
        return false;
    if (!c->is_new && !set_message(ix, c, &missing, e))
        return false;
    if (missing) { /* the change is a part; after a failure all of it is handed over, as it then is */
        err_set(e, "index.db: the rows of %llX are gone: they are written anew", (unsigned long long)c->id);
        return false;
    }
    if (c->is_new && !put_message(ix, c, e))
        return false;
    if (c->is_new && c->rcpt_count < c->m->env.rcpt_count && !put_unmentioned(ix, c, e))
        return false;
    for (uint32_t i = 0; i < c->rcpt_count; i++)
        if (!put_rcpt(ix, c->is_new ? IX_PUT_RCPT : IX_SET_RCPT, c, &c->rcpts[i], e))
            return false;
    return c->kind != INDEX_TRASH || index_trash(ix, c->id, c->deleted_us, e);
}

static bool set_place(struct index *ix, enum index_stmt k, uint64_t id, struct journal_pos pos, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, k, e);
    if (st == NULL)
        return false;
    sqlite3_bind_int64(st, 1, (int64_t)id);
    sqlite3_bind_int64(st, 2, (int64_t)pos.segment);
    sqlite3_bind_int64(st, 3, (int64_t)pos.offset);
    return index_run(ix->writer, st, e);
}

bool index_set_place(struct index *ix, uint64_t id, struct journal_pos pos, struct err *e)
{
    if (!set_place(ix, IX_SET_PLACE, id, pos, e))
        return false;
    return sqlite3_changes(ix->writer->db) > 0 || set_place(ix, IX_SET_DELETED_PLACE, id, pos, e);
}

bool index_put_msg(struct index *ix, struct msg *m, struct err *e)
{
    const struct envelope *v = &m->env;
    struct index_rcpt *r = xcalloc(v->rcpt_count ? v->rcpt_count : 1, sizeof *r);
    struct index_change c = { .kind = INDEX_UPSERT, .id = v->id, .m = m, .is_new = true, .due_us = INT64_MAX, .rcpts = r,
                              .on_hold = (v->flags & ENV_HOLD) != 0, .rcpt_count = v->rcpt_count,
                              .delay_warned = (v->flags & ENV_NO_DELAY_WARNING) != 0,
                              .forced_expire = (v->flags & ENV_FORCED_EXPIRE) != 0 };
    for (uint32_t i = 0; i < v->rcpt_count; i++) {
        const struct msg_rcpt *t = &v->rcpts[i];
        r[i] = (struct index_rcpt){ .rcpt = i, .state = t->state, .is_alone = t->is_alone, .attempts = t->attempts, .due_us = t->due_us,
                                    .is_readdressed = t->is_readdressed,
                                    .transport = t->route.transport, .nexthop = t->route.nexthop, .dsn = t->last_dsn,
                                    .mta = t->last_mta, .reason = t->last_reason };
        if (t->state != RCPT_DONE && t->due_us < c.due_us)
            c.due_us = t->due_us;
    }
    bool ok = index_apply_change(ix, &c, e);
    free(r);
    return ok;
}

/* ---- the thread ---- */

static bool apply_moves(struct index *ix, struct err *e)
{
    struct pending_move *p = segments_take_moves(&ix->s->journal.segs), *next;
    for (; p != NULL; p = next) { /* newest first there; oldest first here, behind those that wait from before */
        next = p->next;
        struct pending_move **at = &ix->moves;
        while (*at != NULL && pos_compare((*at)->to, p->to) < 0)
            at = &(*at)->next;
        p->next = *at;
        *at = p;
    }
    for (p = ix->moves; p != NULL; p = p->next)
        if (!index_set_place(ix, p->id, p->to, e))
            return false;
    return true;
}

static bool do_flush(struct index *ix, struct index_job *j, struct err *e)
{
    if (!apply_moves(ix, e))
        return false;
    for (size_t i = 0; i < j->n; i++)
        if (!index_apply_change(ix, &j->changes[i], e))
            return false;
    return index_write_mark(ix, &j->mark, e);
}

static bool run_due(struct index *ix, enum index_stmt k, const struct index_job *j, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, k, e);
    if (st == NULL)
        return false;
    sqlite3_bind_int64(st, 1, j->due_us);
    if (j->has_nexthop || j->has_transport)
        index_bind_span(st, 2, j->nexthop);
    sqlite3_bind_int64(st, 3, (int64_t)j->after_id);
    sqlite3_bind_int64(st, 4, (int64_t)j->last_id);
    return index_run(ix->writer, st, e);
}

/* The next piece of a long queue: (after_id, last_id]. */
static bool find_piece(struct index *ix, struct index_job *j, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, IX_MAKE_DUE_PIECE, e);
    if (st == NULL)
        return false;
    j->after_id = j->last_id;
    sqlite3_bind_int64(st, 1, (int64_t)j->after_id);
    sqlite3_bind_int64(st, 2, j->due_us);
    sqlite3_bind_int(st, 3, (int)ix->due_piece);
    bool ok = sqlite3_step(st) == SQLITE_ROW;
    if (!ok)
        err_set(e, "index.db: %s", sqlite3_errmsg(ix->writer->db));
    j->has_more = ok && sqlite3_column_int64(st, 1) == (int64_t)ix->due_piece;
    j->last_id = j->has_more ? (uint64_t)sqlite3_column_int64(st, 0) : INT64_MAX;
    sqlite3_reset(st);
    return ok;
}

/* The last piece goes to the end: also recipients of messages that are due themselves already. */
static bool do_make_due(struct index *ix, struct index_job *j, struct err *e)
{
    if (!find_piece(ix, j, e))
        return false;
    if (j->has_transport)
        return run_due(ix, IX_MAKE_TRANSPORT_DUE, j, e) && run_due(ix, IX_MAKE_DUE_WITH_RCPTS, j, e);
    /* A message that is due before any of its recipients: index_fetch.c takes it that all are meant. */
    if (!j->has_nexthop)
        return run_due(ix, IX_MAKE_ALL_DUE, j, e);
    return run_due(ix, IX_MAKE_RCPTS_DUE, j, e) && run_due(ix, IX_MAKE_HOP_DUE, j, e);
}

static bool do_job(struct index *ix, struct index_job *j, struct err *e)
{
    switch (j->kind) {
    case INDEX_JOB_FLUSH:
        return do_flush(ix, j, e);
    case INDEX_JOB_MAKE_DUE:
        return do_make_due(ix, j, e);
    case INDEX_JOB_PURGE:
        return index_purge_rows(ix, j, e);
    case INDEX_JOB_SHRINK: /* not in a transaction */
        break;
    }
    return false;
}

/* The next start shall make a new one. */
static void mark_as_bad(struct index *ix)
{
    char *path = xasprintf("%s/index.bad", ix->s->o.dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        log_warn(ix->log, "create %s: %m", path);
    else
        spool_tell(ix->s, SPOOL_TROUBLE_INDEX, "index.db is damaged; mail is safe in the journal, and a restart makes a new index from it");
    io_close(&fd);
    free(path);
}

static void forget_moves(struct index *ix)
{
    while (ix->moves != NULL) {
        struct pending_move *p = ix->moves;
        ix->moves = p->next;
        free(p);
    }
}

static int64_t pragma_number(struct index *ix, const char *sql)
{
    sqlite3_stmt *st = NULL;
    int64_t n = 0;
    if (sqlite3_prepare_v2(ix->writer->db, sql, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
        n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return n;
}

/* VACUUM writes all that is left anew, so it must be worth it. Readers that hold the log only put it off. */
static bool do_shrink(struct index *ix, struct err *e)
{
    int64_t pages = pragma_number(ix, "PRAGMA page_count"), unused = pragma_number(ix, "PRAGMA freelist_count");
    bool ok = true;
    if (unused * SHRINK_SHARE > pages)
        ok = index_exec(ix->writer, "VACUUM", e);
    return ok && index_exec(ix->writer, "PRAGMA wal_checkpoint(TRUNCATE)", e);
}

struct shrink_wait {
    struct lock *m;
    struct cond done;
    bool is_done;
};

static void shrink_cb(void *arg, int status UNUSED)
{
    struct shrink_wait *w = arg;
    lock_take(w->m);
    w->is_done = true;
    cond_signal(&w->done);
    lock_drop(w->m);
}

void index_shrink(struct index *ix)
{
    struct shrink_wait w = { .m = &ix->m };
    cond_init(&w.done);
    index_submit(ix, index_job_new(INDEX_JOB_SHRINK, shrink_cb, &w));
    lock_take(&ix->m);
    while (!w.is_done)
        cond_wait(&w.done, &ix->m);
    lock_drop(&ix->m);
    cond_destroy(&w.done);
}

/*
 * After a backlog is gone its pages go back to the disk without being asked for, when few rows are left: then what VACUUM
 * copies is small beside what it frees.
 */
static void maybe_shrink(struct index *ix)
{
    struct err e = ERR_INIT;
    int64_t now = clock_mono_ms();
    if (now < ix->shrink_look_ms)
        return;
    ix->shrink_look_ms = now + SHRINK_LOOK_MS;
    ix->shrink_wanted = false;
    int64_t pages = pragma_number(ix, "PRAGMA page_count"), unused = pragma_number(ix, "PRAGMA freelist_count");
    if (unused < ix->shrink_min_pages || (pages - unused) * SHRINK_LEFT > unused)
        return;
    if (do_shrink(ix, &e))
        log_info(ix->log, "index.db: %lld unused pages given back", (long long)unused);
    else
        log_warn(ix->log, "%s: its file keeps its size", e.text);
}

static bool run_job(struct index *ix, struct index_job *j)
{
    struct err e = ERR_INIT;
    if (j->kind == INDEX_JOB_SHRINK) {
        if (do_shrink(ix, &e))
            return true;
        log_warn(ix->log, "%s: its file keeps its size", e.text);
        return false;
    }
    int64_t count = atomic_load(&ix->count);
    bool begun = index_exec(ix->writer, "BEGIN IMMEDIATE", &e);
    bool ok = begun && do_job(ix, j, &e) && index_exec(ix->writer, "COMMIT", &e);
    if (!ok) {
        int code = sqlite3_errcode(ix->writer->db);
        atomic_fetch_add(&ix->failures, 1);
        log_error(ix->log, "%s", e.text);
        if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
            mark_as_bad(ix);
        if (begun && !sqlite3_get_autocommit(ix->writer->db) && !index_exec(ix->writer, "ROLLBACK", &e))
            log_error(ix->log, "%s", e.text);
        atomic_store(&ix->count, count);
        return false;
    }
    if (j->kind == INDEX_JOB_PURGE)
        index_purge_places(ix, j);
    if (j->kind == INDEX_JOB_FLUSH) {
        forget_moves(ix);
        lock_take(&ix->m);
        ix->durable = j->mark;
        lock_drop(&ix->m);
        keeper_wake(ix->s);
        ix->shrink_wanted = true;
        maybe_shrink(ix);
    }
    return true;
}

/* The next piece, behind what others handed over meanwhile; false at a stop. */
static bool submit_again(struct index *ix, struct index_job *j)
{
    lock_take(&ix->m);
    bool go_on = !ix->stopping;
    if (go_on) {
        j->next = NULL;
        *ix->jobs_tail = j;
        ix->jobs_tail = &j->next;
    }
    lock_drop(&ix->m);
    return go_on;
}

/* What was written last may have been the end of a backlog: nothing more comes then, and the file is to become small all the same. */
static void wait_for_job(struct index *ix) REQUIRES(ix->m)
{
    while (ix->jobs == NULL && !ix->stopping) {
        if (!ix->shrink_wanted) {
            cond_wait(&ix->wake, &ix->m);
        } else if (!cond_wait_until(&ix->wake, &ix->m, ix->shrink_look_ms)) {
            lock_drop(&ix->m);
            maybe_shrink(ix);
            lock_take(&ix->m);
        }
    }
}

void *index_thread(void *arg)
{
    struct index *ix = arg;
    lock_take(&ix->m);
    for (;;) {
        wait_for_job(ix);
        struct index_job *j = ix->jobs;
        if (j == NULL)
            break;
        ix->jobs = j->next;
        if (ix->jobs == NULL)
            ix->jobs_tail = &ix->jobs;
        lock_drop(&ix->m);
        bool ok = run_job(ix, j), is_piece = ok && j->has_more;
        if (is_piece && j->cb != NULL)
            j->cb(j->arg, 1);
        if (is_piece && submit_again(ix, j)) {
            lock_take(&ix->m);
            continue;
        }
        if (j->cb != NULL)
            j->cb(j->arg, ok ? 0 : -1);
        job_free(j);
        lock_take(&ix->m);
    }
    lock_drop(&ix->m);
    return NULL;
}

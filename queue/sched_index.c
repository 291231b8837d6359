/*
 * Feeding the index, and fetching from it what is due.
 *
 * Every change of a message puts it on the dirty list with the number of the present epoch. A tick takes a mark (the
 * positions in journal and result log that a flush would cover) and ends the epoch; the NEXT tick hands over what was
 * dirty in that epoch and still is, with that mark. So a message delivered within an interval is never written, although
 * the mark passes over it, and whatever happened before the mark is either in the change set or over.
 *
 * Fetching goes through the rows in order of (due, id) with a cursor: everything at or before the cursor is in memory or has
 * been changed since. A message that is dropped from memory with a time before the cursor sets it back. Rows of finished
 * messages can still be read until their deletion is flushed; their struct msg_sched stays in by_id until then and stops them.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

#define FETCH_BATCH 1000
#define SYNC_WAIT_MS 30000
#define FETCH_AGAIN_MS 30000 /* after a database error */

/* ---- flushing ---- */

struct change_set {
    struct index_change *c;
    struct msg_sched **ms;
    struct msg **m;          /* counted: borrowed by index_flush() after the lock was dropped */
    size_t n, cap;
};

static void change_room(struct change_set *x)
{
    if (x->n < x->cap)
        return;
    x->cap = x->cap ? 2 * x->cap : 256;
    x->c = xrealloc(x->c, x->cap * sizeof *x->c);
    x->ms = xrealloc(x->ms, x->cap * sizeof *x->ms);
    x->m = xrealloc(x->m, x->cap * sizeof *x->m);
}

static void copy_rcpts(struct msg_sched *ms, struct index_change *c, struct arena *a)
{
    const struct envelope *e = &ms->m->env;
    struct index_rcpt *out = arena_alloc(a, (e->rcpt_count ? e->rcpt_count : 1) * sizeof *out);
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->rcpt_count; i++) {
        const struct msg_rcpt *r = &e->rcpts[i];
        if (!ms->is_all_dirty && !(ms->rx[i].flags & RX_DIRTY))
            continue;
        out[n++] = (struct index_rcpt){
            .rcpt = i, .state = r->state == RCPT_BUSY ? RCPT_TODO : r->state, .is_alone = ms->rx[i].flags & RX_ALONE,
            .is_readdressed = r->is_readdressed,
            .attempts = r->attempts, .due_us = r->due_us, .addr = r->addr,
            .when_us = r->last_us,
            .transport = r->route.transport, .nexthop = r->route.nexthop,
            .dsn = r->last_dsn, .mta = r->last_mta, .reason = r->last_reason,
        };
        ms->rx[i].flags &= (uint8_t)~RX_DIRTY;
    }
    c->rcpts = out;
    c->rcpt_count = n;
}

static int64_t earliest_due(const struct msg_sched *ms)
{
    int64_t due = INT64_MAX;
    for (uint32_t i = 0; i < ms->m->env.rcpt_count; i++)
        if (ms->m->env.rcpts[i].state != RCPT_DONE && ms->m->env.rcpts[i].due_us < due)
            due = ms->m->env.rcpts[i].due_us;
    return due == INT64_MAX ? 0 : due;
}

static void collect_locked(struct sched *s, struct change_set *x, struct arena *a)
{
    struct msg_sched *ms = s->dirty;
    change_room(x);
    struct index_change *c = &x->c[x->n];
    *c = (struct index_change){ .kind = ms->m == NULL ? INDEX_DELETE : ms->is_trashed ? INDEX_TRASH : INDEX_UPSERT, .id = ms->id,
                                .was_deleted = ms->was_trashed };
    if (ms->m != NULL) {
        c->m = ms->m;
        c->is_new = ms->is_all_dirty;
        c->deleted_us = ms->trash_us;
        ms->was_trashed |= ms->is_trashed;
        c->on_hold = ms->is_trashed ? ms->is_trash_hold : ms->is_hold;
        s->n_row_hold += (uint64_t)ms->is_hold - (uint64_t)ms->is_row_hold;
        ms->is_row_hold = ms->is_hold;
        c->delay_warned = ms->is_delay_warned;
        c->forced_expire = ms->is_expire_wanted;
        c->due_us = earliest_due(ms);
        copy_rcpts(ms, c, a);
    }
    x->ms[x->n] = ms;
    x->m[x->n] = ms->m ? msg_ref(ms->m) : NULL;
    x->n++;
    DL_DELETE2(s->dirty, ms, d_prev, d_next);
    s->n_dirty--;
    ms->is_dirty = false;
    ms->is_flushing = true;
    ms->is_all_dirty = false;
    ms->flushed_version = ms->version;
}

void sched_flush_cb(void *arg, int status)
{
    struct sched *s = arg;
    lock_take(&s->m);
    s->flush_state = status == 0 ? FLUSH_DONE : FLUSH_FAILED;
    if (s->sync_done < s->sync_begun) {
        s->sync_done = s->sync_begun;
        if (status != 0)
            s->sync_failed = s->sync_begun;
    }
    sched_kick_locked(s);
    cond_broadcast(&s->answered);
    lock_drop(&s->m);
}

static void flush_epoch(struct sched *s, uint32_t epoch, const struct index_mark *mark)
{
    struct change_set x = { 0 };
    struct arena *a = arena_new(65536);
    bool more = true;
    while (more) {
        lock_take(&s->m);
        for (int i = 0; i < SCHED_PIECE && (more = s->dirty != NULL && (int32_t)(s->dirty->epoch - epoch) <= 0); i++)
            collect_locked(s, &x, a);
        lock_drop(&s->m);
    }
    bool same = memcmp(mark, &s->flushed_mark, sizeof *mark) == 0;
    if (x.n > 0 || !same) {
        lock_take(&s->m);
        s->flush_state = FLUSH_UNDER_WAY;
        lock_drop(&s->m);
        s->flushing = x.ms;
        s->flushing_n = x.n;
        x.ms = NULL;
        s->flushed_mark = *mark;
        index_flush(s->ix, x.c, x.n, mark, sched_flush_cb, s);
    }
    for (size_t i = 0; i < x.n; i++)
        msg_unref(&x.m[i]);
    free(x.c);
    free(x.m);
    free(x.ms);
    arena_free(&a);
}

/* ---- after a flush ---- */

void ms_redo_locked(struct sched *s, struct msg_sched *ms)
{
    if (ms->is_dirty)
        DL_DELETE2(s->dirty, ms, d_prev, d_next);
    else
        s->n_dirty++;
    ms->is_dirty = true;
    ms->is_all_dirty = ms->m != NULL;
    ms->epoch = s->epoch - UINT32_C(0x40000000); /* before any epoch that is still open */
    DL_PREPEND2(s->dirty, ms, d_prev, d_next);
}

static bool may_drop(const struct sched *s, const struct msg_sched *ms, int64_t now_us)
{
    if (ms->is_dirty || ms->is_active || ms->in_inbox || ms->is_routing || ms->pins > 0)
        return false;
    return ms_is_stopped(ms) || ms->next_due_us > now_us + SCHED_KEEP_US || sched_room_locked(s, false) == 0;
}

void fetch_again_from_locked(struct sched *s, int64_t due_us)
{
    if (due_us < s->index_next_due_us)
        s->index_next_due_us = due_us;
    if (due_us <= s->cursor.due_us)
        s->cursor = (struct index_cursor){ due_us - 1, UINT64_MAX };
}

static void flushed_locked(struct sched *s, struct msg_sched *ms, bool ok, int64_t now_us)
{
    ms->is_flushing = false;
    if (!ok) {
        ms_redo_locked(s, ms);
        return;
    }
    if (ms->is_trashed && !ms->is_dirty && ms->trash_us < s->purge_at_us)
        s->purge_at_us = INT64_MIN;
    bool has_row = (ms->m != NULL && !ms->is_trashed) || ms->is_dirty; /* finished since: its deletion is on the dirty list */
    if (has_row != ms->in_index) {
        ms->in_index = has_row;
        s->n_in_index += has_row ? 1 : (uint64_t)-1;
    }
    if (ms->m == NULL) {
        if (!ms->is_dirty && ms->pins == 0)
            ms_free_locked(s, ms);
        return;
    }
    if (!may_drop(s, ms, now_us))
        return;
    if (!ms->is_hold && !ms->is_trashed)
        fetch_again_from_locked(s, ms->next_due_us);
    ms_free_locked(s, ms);
}

static void take_note_of_flush(struct sched *s, bool ok)
{
    int64_t now_us = clock_wall_us();
    for (size_t i = 0; i < s->flushing_n;) {
        lock_take(&s->m);
        for (int k = 0; k < SCHED_PIECE && i < s->flushing_n; k++, i++)
            flushed_locked(s, s->flushing[i], ok, now_us);
        lock_drop(&s->m);
    }
    free(s->flushing);
    s->flushing = NULL;
    s->flushing_n = 0;
    park_take_note(s, ok);
    if (!ok) {
        memset(&s->flushed_mark, 0, sizeof s->flushed_mark);
        log_error(&s->log, "the queue index cannot be written; what it lacks stays in memory and in the journal");
    }
}

/*
 * A new mark, and a new epoch behind it. Not while a command's records are in the journal and what they say is not in memory
 * yet: the mark would cover them. Then the old one stays, which claims less.
 */
static void take_mark(struct sched *s)
{
    struct index_mark k = spool_index_mark(s->spool);
    lock_take(&s->m);
    if (s->changes_out == 0) {
        s->mark = k;
        s->has_mark = true;
        s->mark_epoch = s->epoch++;
    }
    lock_drop(&s->m);
}

/*
 * sched_index_sync(): one flush answers all who asked before its mark was taken. The rows of parked messages go first, in
 * pieces with the mark as it was; the flush that moves it is the last.
 */
static bool sync_tick(struct sched *s)
{
    lock_take(&s->m);
    bool wanted = s->sync_wanted != s->sync_begun && (s->has_mark || s->changes_out == 0);
    bool is_new = wanted && s->sync_seen == s->sync_begun;
    if (is_new) {
        s->sync_seen = s->sync_wanted;
        s->sync_epoch = s->epoch; /* before the mark opens another */
    }
    lock_drop(&s->m);
    if (!wanted)
        return false;
    if (is_new)
        take_mark(s);
    enum park_flush parked = park_flush(s, s->sync_epoch);
    if (parked == PARK_SENT)
        return true;
    lock_take(&s->m);
    s->sync_begun = s->sync_seen;
    if (parked == PARK_STUCK)
        s->sync_failed = s->sync_begun;
    uint32_t epoch = s->epoch;
    lock_drop(&s->m);
    if (parked == PARK_NOTHING)
        flush_epoch(s, epoch, &s->mark);
    lock_take(&s->m);
    if (s->flush_state == FLUSH_NONE) { /* nothing to write */
        s->sync_done = s->sync_begun;
        cond_broadcast(&s->answered);
    }
    lock_drop(&s->m);
    return true;
}

/* A piece of parked messages could not be written: nothing more is tried before the next tick, and who waits is told. */
static void give_up_for_now(struct sched *s, int64_t next_ms)
{
    s->next_tick_ms = next_ms;
    lock_take(&s->m);
    if (s->sync_seen != s->sync_begun) {
        s->sync_begun = s->sync_done = s->sync_failed = s->sync_seen;
        cond_broadcast(&s->answered);
    }
    lock_drop(&s->m);
}

/* Everything dirty now; or a piece of the parked messages, and then it is called again. */
static void flush_last(struct sched *s)
{
    take_mark(s);
    if (park_flush(s, s->mark_epoch) == PARK_NOTHING)
        flush_epoch(s, s->epoch, &s->mark);
}

bool index_tick(struct sched *s, bool is_last)
{
    int64_t now_ms = clock_mono_ms();
    lock_take(&s->m);
    enum flush_state state = s->flush_state;
    if (state == FLUSH_DONE || state == FLUSH_FAILED)
        s->flush_state = FLUSH_NONE;
    bool many = (s->n_dirty > s->n_active + SCHED_DIRTY_MANY || s->n_unwritten > SCHED_PARKED_MANY) && state != FLUSH_FAILED;
    int64_t every_ms = sched_params_locked(s)->index_flush_interval;
    lock_drop(&s->m);
    if (state == FLUSH_UNDER_WAY)
        return false;
    if (state != FLUSH_NONE)
        take_note_of_flush(s, state == FLUSH_DONE);
    if (state == FLUSH_FAILED && !is_last)
        give_up_for_now(s, now_ms + every_ms);
    if (is_last) {
        flush_last(s);
        return true;
    }
    if (sync_tick(s))
        return true;
    if (!many && now_ms < s->next_tick_ms)
        return state != FLUSH_NONE;
    enum park_flush parked = s->has_mark ? park_flush(s, s->mark_epoch) : PARK_NOTHING;
    if (parked == PARK_SENT)
        return true;
    s->next_tick_ms = now_ms + every_ms;
    /* The mark waits for a parked message that cannot be read; everything else does not. */
    struct index_mark mark = parked == PARK_STUCK ? index_durable_mark(s->ix) : s->mark;
    if (s->has_mark)
        flush_epoch(s, s->mark_epoch, &mark);
    take_mark(s);
    return parked != PARK_STUCK || state != FLUSH_NONE;
}

bool sched_index_sync(struct sched *s, struct err *e)
{
    int64_t until_ms = clock_mono_ms() + SYNC_WAIT_MS;
    lock_take(&s->m);
    uint64_t mine = ++s->sync_wanted;
    sched_kick_locked(s);
    while (s->sync_done < mine && s->is_started && cond_wait_until(&s->answered, &s->m, until_ms))
        ;
    bool done = s->sync_done >= mine, failed = done && s->sync_failed >= mine, started = s->is_started;
    lock_drop(&s->m);
    if (!done)
        err_set(e, "%s", started ? "the queue index could not be brought up to date in time" : "posthoused is stopping");
    else if (failed)
        err_set(e, "the queue index cannot be written; see the log");
    return done && !failed;
}

void index_tick_end(struct sched *s)
{
    if (s->flush_state == FLUSH_DONE || s->flush_state == FLUSH_FAILED)
        take_note_of_flush(s, s->flush_state == FLUSH_DONE);
    s->flush_state = FLUSH_NONE;
}

/* ---- fetching ---- */

/* Rows are fetched in batches of at least a tenth of the limit; see ms_deactivate_locked(). */
uint64_t sched_fetch_room_locked(const struct sched *s)
{
    uint64_t limit = (uint64_t)sched_params_locked(s)->qmgr_message_active_limit, room = sched_room_locked(s, true);
    uint64_t max = park_wait_max_locked(s) / 2;
    if ((room < limit / 10 && s->n_backlog > 0) || HASH_COUNT(s->parked) >= SCHED_PARKED_MANY)
        return 0;
    if (s->n_active >= max - max / 4) /* in lines of their own they wait as well in the index */
        return s->n_backlog > 0 ? 0 : room < max / 4 + 1 ? room : max / 4 + 1;
    room = room < max - s->n_active ? room : max - s->n_active;
    return room < FETCH_BATCH ? room : FETCH_BATCH;
}

static uint64_t fetch_room(struct sched *s)
{
    lock_take(&s->m);
    uint64_t room = sched_fetch_room_locked(s);
    lock_drop(&s->m);
    return room;
}

static void merge_locked(struct sched *s, struct msg *m, bool is_now, int64_t now_us, struct after *a)
{
    if (ms_find_locked(s, m->env.id) != NULL || park_has_locked(s, m->env.id))
        return;
    struct msg_sched *ms = ms_new_locked(s, m);
    ms->in_index = true;
    s->n_in_index++;
    for (uint32_t i = 0; i < m->env.rcpt_count; i++)
        ms->is_forced |= s->flush_stamp_us != 0 && m->env.rcpts[i].due_us == s->flush_stamp_us;
    if (is_now)
        for (uint32_t i = 0; i < m->env.rcpt_count; i++)
            if (m->env.rcpts[i].state == RCPT_TODO && m->env.rcpts[i].due_us > now_us)
                m->env.rcpts[i].due_us = now_us;
    if (ms->idle == 0) {
        ms_settle_locked(s, ms, a);
        return;
    }
    ms->is_backlog = true;
    ms_activate_locked(s, ms, now_us);
    ms_to_inbox_locked(s, ms);
}

static void merge(struct sched *s, struct msg **v, int n, bool is_now)
{
    int64_t now_us = clock_wall_us();
    for (int i = 0; i < n; i++) {
        struct after a = AFTER_INIT;
        lock_take(&s->m);
        merge_locked(s, v[i], is_now, now_us, &a);
        lock_drop(&s->m);
        sched_after(s, &a);
        msg_unref(&v[i]);
    }
}

/* The time of the first row behind the cursor. */
static void look_ahead(struct sched *s)
{
    struct msg *m = NULL;
    struct err e = ERR_INIT;
    struct index_cursor cur = s->cursor;
    int64_t at = INT64_MAX;
    int n = index_fetch_due(s->ix, INT64_MAX, &cur, 1, &m, &e);
    if (n > 0) {
        at = cur.due_us;
        msg_unref(&m);
    } else if (n < 0) {
        at = clock_wall_us() + FETCH_AGAIN_MS * INT64_C(1000);
    }
    lock_take(&s->m);
    s->index_next_due_us = at;
    s->index_has_due = at <= clock_wall_us();
    lock_drop(&s->m);
}

/*
 * Rows due later than any retry can be: the clock was set back after they were written. They are tried now.
 */
static bool fetch_far(struct sched *s, struct msg **v, uint64_t room)
{
    struct err e = ERR_INIT;
    lock_take(&s->m);
    const struct params *p = sched_params_locked(s);
    int64_t far_us = clock_wall_us() + 1000 * (p->maximal_backoff_time + p->queue_run_delay + 60000);
    s->next_far_scan_ms = clock_mono_ms() + p->queue_run_delay;
    lock_drop(&s->m);
    struct index_cursor cur = { far_us, 0 };
    int n = index_fetch_due(s->ix, INT64_MAX, &cur, (int)room, v, &e);
    if (n <= 0)
        return false;
    log_warn(&s->log, "%d messages had a retry time beyond the maximal back-off: they are tried now", n);
    merge(s, v, n, true);
    return true;
}

/* Rows that could not be read (too many open files, a file that was away) lie behind the cursor: they get another chance. */
static void look_again(struct sched *s)
{
    uint64_t n = index_passed_over(s->ix);
    if (n == s->passed_over)
        return;
    s->passed_over = n;
    lock_take(&s->m);
    s->want_rescan = true;
    lock_drop(&s->m);
}

bool index_fetch_work(struct sched *s)
{
    struct err e = ERR_INIT;
    int64_t now_us = clock_wall_us();
    if (clock_mono_ms() >= s->next_far_scan_ms)
        look_again(s);
    lock_take(&s->m);
    if (s->want_rescan) {
        s->want_rescan = false;
        s->cursor = (struct index_cursor){ .due_us = INT64_MIN };
        s->index_next_due_us = INT64_MIN;
    }
    if (s->has_more_due) { /* behind the cursor, in order of id, as long as it has not passed their time */
        s->has_more_due = false;
        if (s->cursor.due_us > s->due_stamp_us)
            fetch_again_from_locked(s, s->due_stamp_us);
        else if (s->due_stamp_us < s->index_next_due_us)
            s->index_next_due_us = s->due_stamp_us;
    }
    bool is_due = s->index_next_due_us <= now_us && !s->is_stopping;
    lock_drop(&s->m);
    bool is_far = clock_mono_ms() >= s->next_far_scan_ms;
    uint64_t room = is_due || is_far ? fetch_room(s) : 0;
    if (room == 0) {
        lock_take(&s->m);
        s->index_has_due = is_due;
        lock_drop(&s->m);
        return false;
    }
    struct msg **v = xcalloc(room, sizeof *v);
    bool did = is_far && fetch_far(s, v, room);
    if (is_due) {
        int n = index_fetch_due(s->ix, now_us, &s->cursor, (int)room, v, &e);
        if (n > 0)
            merge(s, v, n, false);
        if (n < 0)
            log_error(&s->log, "reading the queue index: %s", e.text);
        did |= n > 0;
        if (n >= 0 && (uint64_t)n < room) {
            look_ahead(s);
        } else if (n < 0) {
            lock_take(&s->m);
            s->index_next_due_us = now_us + FETCH_AGAIN_MS * INT64_C(1000);
            lock_drop(&s->m);
        }
    }
    free(v);
    return did;
}

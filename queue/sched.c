/*
 * The scheduler as a whole: made, started, fed with committed messages, reconfigured, counted, stopped.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

#define STOP_FLUSHES 200 /* of parked messages; what cannot be written is found in the journal at the next start */
#define STOP_WAIT_MS 30000 /* for notifications and the last index flush */

struct sched *sched_new(const struct sched_options *o, struct err *e)
{
    if (o->spool == NULL || o->conf == NULL || o->resolve == NULL) {
        err_set(e, "scheduler: spool, configuration and resolver are needed");
        return NULL;
    }
    struct sched *s = xcalloc(1, sizeof *s);
    s->spool = o->spool;
    s->log = *o->log;
    s->log_error = s->log_super = s->log_bounce = s->log;
    s->log_error.prog = "error";
    s->log_super.prog = "postsuper";
    s->log_bounce.prog = "bounce";
    s->resolve = o->resolve;
    s->resolve_arg = o->resolve_arg;
    s->may_wait = o->may_wait;
    s->own = o->own;
    s->wake = o->wake;
    s->wake_arg = o->wake_arg;
    lock_init(&s->m, LOCK_SCHED_INBOX);
    cond_init(&s->kick);
    cond_init(&s->answered);
    router_begin(s);
    s->conf = conf_ref(o->conf);
    s->gen = 1;
    s->notices_tail = &s->notices;
    s->index_next_due_us = INT64_MIN; /* the first look finds out */
    s->cursor = (struct index_cursor){ .due_us = INT64_MIN };
    s->rng = (uint64_t)clock_wall_us() * UINT64_C(0x9e3779b97f4a7c15) | 1;
    int64_t now_ms = clock_mono_ms();
    wall_watch_note(&s->wall, clock_wall_us(), now_ms);
    s->next_tick_ms = now_ms + conf_global(s->conf)->index_flush_interval;
    s->next_far_scan_ms = now_ms;
    pauses_begin(s, o->pauses_path);
    s->ix = spool_index(s->spool); /* commands work before the start, and without one on a spool opened read-only */
    return s;
}

int sched_start(struct sched *s)
{
    lock_take(&s->m);
    s->ix = spool_index(s->spool);
    s->mark = index_durable_mark(s->ix); /* what is flushed before the first tick claims no more */
    s->is_started = true;
    lock_drop(&s->m);
    int rc = thread_start(&s->thread, "sched", 0, sched_thread_main, s);
    if (rc != 0)
        s->is_started = false;
    else
        router_use(s, s->may_wait != NULL && s->may_wait(s->resolve_arg, s->conf));
    return rc;
}

/* Bounded: a spool that answers no more must not keep the process. */
static void wait_while(struct sched *s, bool (*pending)(const struct sched *s))
{
    int64_t until_ms = clock_mono_ms() + STOP_WAIT_MS;
    lock_take(&s->m);
    while (pending(s) && cond_wait_until(&s->answered, &s->m, until_ms))
        ;
    lock_drop(&s->m);
}

static bool notices_pending(const struct sched *s)
{
    return s->notices_out > 0 || s->flushes_out > 0;
}

static bool flush_pending(const struct sched *s)
{
    return s->flush_state == FLUSH_UNDER_WAY;
}

void sched_end_jobs(struct sched *s)
{
    lock_take(&s->m);
    s->is_closed = true;
    lock_drop(&s->m);
}

bool sched_stop(struct sched *s)
{
    lock_take(&s->m);
    bool was_started = s->is_started;
    s->is_stopping = true;
    sched_kick_locked(s);
    lock_drop(&s->m);
    if (!was_started)
        return true; /* nothing to tell the index, and perhaps no indexer that would answer */
    pthread_join(s->thread, NULL);
    bool is_over = router_stop(s);
    if (!is_over)
        router_leave(s);
    lock_take(&s->m);
    s->is_started = false;
    cond_broadcast(&s->answered);
    lock_drop(&s->m);
    wait_while(s, notices_pending);
    notify_thread(s);
    while (commands_work(s))
        ;
    if (s->ix == NULL)
        return is_over;
    wait_while(s, flush_pending);
    for (int i = 0; i < STOP_FLUSHES && park_has_unwritten(s); i++) {
        index_tick(s, true);
        wait_while(s, flush_pending);
    }
    index_tick(s, true);
    wait_while(s, flush_pending);
    index_tick_end(s);
    return is_over;
}

void sched_free(struct sched **sp)
{
    struct sched *s = *sp;
    if (s == NULL)
        return;
    struct msg_sched *ms, *tmp;
    HASH_ITER(hh, s->by_id, ms, tmp) {
        if (ms->m != NULL)
            sched_unqueue_message_locked(s, ms);
        ms_free_locked(s, ms);
    }
    router_end(s);
    park_free(s);
    transports_free(s);
    pauses_end(s);
    heap_free(&s->due);
    heap_free(&s->dest_timers);
    heap_free(&s->transport_timers);
    free(s->flushing);
    free(s->purging);
    conf_unref(&s->conf);
    cond_destroy(&s->kick);
    cond_destroy(&s->answered);
    lock_destroy(&s->m);
    free(s);
    *sp = NULL;
}

/* ---- new messages ---- */

/* The recipients can be enqueued here and now: all due, routed, and not too many for one lock section. */
static bool is_simple(const struct msg *m, int64_t now_us)
{
    const struct envelope *e = &m->env;
    if (e->rcpt_count > SCHED_PIECE || e->rcpt_count == 0)
        return false;
    for (uint32_t i = 0; i < e->rcpt_count; i++)
        if (e->rcpts[i].state != RCPT_TODO || e->rcpts[i].due_us > now_us || e->rcpts[i].route.transport.n == 0 ||
            e->rcpts[i].route.nexthop.n == 0)
            return false;
    return true;
}

/* Recovered from the journal: there may be a row in the index already. New mail has the time at which it was received. */
static bool is_recovered(const struct msg *m)
{
    return m->received_ms == 0;
}

/* Due from its arrival on, so that what has to wait for room does so in order with the rest of the queue. */
static void queue_up_locked(struct sched *s, struct msg_sched *ms)
{
    for (uint32_t i = 0; i < ms->m->env.rcpt_count; i++)
        if (ms->m->env.rcpts[i].due_us == 0)
            ms->m->env.rcpts[i].due_us = ms->m->env.arrival_us;
    ms_recompute_due_locked(s, ms);
}

static struct msg_sched *admit_locked(struct sched *s, struct msg *m, bool simple, int64_t now_us, struct after *a)
{
    if (ms_find_locked(s, m->env.id) != NULL)
        return NULL;
    struct msg_sched *ms = ms_new_locked(s, m);
    ms->is_all_dirty = true;
    if (is_recovered(m)) {
        ms->in_index = true;
        s->n_in_index++;
    }
    if (m->env.flags & ENV_HOLD) {
        ms->is_hold = true;
        s->n_hold++;
    }
    ms_dirty_locked(s, ms);
    /* A message to many does not keep out those to one. */
    bool has_room = sched_room_locked(s, false) > 0 ||
                    (m->env.rcpt_count == 1 && s->n_active < (uint64_t)sched_params_locked(s)->qmgr_message_active_limit);
    if (ms->idle == 0 || ms->is_hold || ms->is_expire_wanted || !simple || !has_room) {
        queue_up_locked(s, ms);
        if (ms->idle == 0)
            ms_settle_locked(s, ms, a);
        return NULL;
    }
    ms_activate_locked(s, ms, now_us);
    ms->is_routing = true;
    ms->pins++;
    return ms;
}

void sched_committed(void *arg, struct msg *m)
{
    struct sched *s = arg;
    struct after a = AFTER_INIT;
    int64_t now_us = clock_wall_us();
    bool simple = is_simple(m, now_us);
    if (!is_recovered(m)) {
        rates_count(&s->rates, RATE_ACCEPTED, 1);
        rates_count(&s->rates, RATE_RECIPIENTS, m->env.rcpt_count);
        rates_count(&s->rates, RATE_BYTES, m->env.content_bytes);
    }
    lock_take(&s->m);
    if (simple && !is_recovered(m) && park_new_locked(s, m)) {
        lock_drop(&s->m);
        return;
    }
    struct conf *c = conf_ref(s->conf);
    struct msg_sched *ms = admit_locked(s, m, simple, now_us, &a);
    lock_drop(&s->m);
    if (ms != NULL) {
        /* Logged before a delivery thread can log what became of it. */
        log_active(s, conf_global(c), m);
        lock_take(&s->m);
        ms->is_routing = false;
        for (uint32_t i = 0; i < m->env.rcpt_count && ms->m != NULL && !ms_is_stopped(ms) && !ms->is_delete_wanted; i++)
            sched_enqueue_locked(s, ms, i, &a);
        if (ms->m != NULL && ms->queued == 0)
            ms_settle_locked(s, ms, &a);
        ms_unpin_locked(s, ms);
        lock_drop(&s->m);
    }
    conf_unref(&c);
    sched_after(s, &a);
}

/* ---- the rest ---- */

void sched_reconfigure(struct sched *s, struct conf *c)
{
    if (s->is_started)
        router_use(s, s->may_wait != NULL && s->may_wait(s->resolve_arg, c));
    lock_take(&s->m);
    struct conf *old = s->conf;
    s->conf = conf_ref(c);
    s->gen++;
    s->purge_at_us = INT64_MIN; /* queue_undelete_time may be another */
    transports_reload_locked(s);
    s->want_walk = true;
    sched_kick_locked(s);
    lock_drop(&s->m);
    conf_unref(&old);
}

struct sched_counts sched_counts(struct sched *s)
{
    struct sched_counts c = { 0 };
    uint64_t rows = s->ix ? (uint64_t)index_count(s->ix) : 0;
    uint64_t held = s->ix ? (uint64_t)index_hold_count(s->ix) : 0;
    lock_take(&s->m);
    uint64_t all = s->n_messages + s->n_parked_new + (rows > s->n_in_index ? rows - s->n_in_index : 0);
    c.active = s->n_active;
    c.hold = s->n_hold + (held > s->n_row_hold ? held - s->n_row_hold : 0);
    c.in_delivery = s->n_busy_jobs;
    c.jobs_waiting = s->n_entries;
    c.deferred = all > c.active + c.hold ? all - c.active - c.hold : 0;
    lock_drop(&s->m);
    return c;
}

int64_t sched_rates(struct sched *s, int64_t window_ms, uint64_t out[RATE_COUNT])
{
    int64_t now_ms = clock_mono_ms();
    lock_take(&s->m);
    rates_sample(&s->rates, now_ms);
    int64_t over_ms = rates_over(&s->rates, window_ms, now_ms, out);
    lock_drop(&s->m);
    return over_ms;
}

bool sched_is_idle(struct sched *s)
{
    lock_take(&s->m);
    bool idle = s->n_busy_jobs == 0 && s->notices_out == 0;
    lock_drop(&s->m);
    return idle;
}

/*
 * The scheduler thread: all that has a time, and all that needs look-ups.
 *
 * sched_run_once() does everything that can be done now and says when there is more; the thread is a loop around it, and
 * tests call it themselves. Fetching rows, dropping messages and taking note of finished index flushes all happen
 * here, one after the other: a row read from the index is merged before anything else can make it stale.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

#define LOOK_AT_CLOCK_MS 10000 /* at least so often, to notice a wall clock that was set */

/* ---- activation of what is due in memory ---- */

static bool pop_due(struct sched *s, int64_t now_us)
{
    unsigned n = 0;
    lock_take(&s->m);
    struct heap_item *it;
    while (n < SCHED_PIECE && !s->is_stopping && (it = heap_first(&s->due)) != NULL && it->key <= now_us) {
        struct msg_sched *ms = (struct msg_sched *)((char *)it - offsetof(struct msg_sched, due));
        if (!ms->is_active && sched_room_locked(s, false) == 0)
            break;
        ms_activate_locked(s, ms, now_us);
        ms_to_inbox_locked(s, ms);
        n++;
    }
    lock_drop(&s->m);
    return n > 0;
}

/* ---- suspended recipients: deferred without an attempt ---- */

static struct sjob *own_job_from_entry_locked(struct sched *s, struct entry *e)
{
    struct dest *d = e->dest;
    struct sjob *j = job_from_entry_locked(s, e, SCHED_PIECE, NULL);
    j->pub.conf = conf_ref(s->conf);
    j->pub.taken_us = clock_wall_us();
    if (d != NULL) {
        dest_update_locked(s, d);
        dest_release_locked(s, d);
    }
    return j;
}

struct suspension {
    char dsn[16], mta[256], reason[1024];
    enum suspend_why why;
};

static void describe(struct suspension *x, enum suspend_why why, const struct dest *d, const char *transport)
{
    x->why = why;
    x->mta[0] = '\0';
    switch (why) {
    case SUSPEND_DEAD:
        snprintf(x->dsn, sizeof x->dsn, "%s", d->dead_dsn ? d->dead_dsn : "4.4.1");
        snprintf(x->mta, sizeof x->mta, "%s", d->dead_mta ? d->dead_mta : "");
        /* A reason that was itself a suspension is not wrapped again. */
        snprintf(x->reason, sizeof x->reason, "delivery temporarily suspended: %s", d->dead_reason ? d->dead_reason : "unavailable");
        break;
    case SUSPEND_DEFER_TRANSPORTS:
        snprintf(x->dsn, sizeof x->dsn, "4.3.2");
        snprintf(x->reason, sizeof x->reason, "deferred transport");
        break;
    case SUSPEND_NO_TRANSPORT:
        snprintf(x->dsn, sizeof x->dsn, "4.3.5");
        snprintf(x->reason, sizeof x->reason, "mail transport unavailable: %s", transport);
        break;
    }
}

/* The queue of a paused destination is emptied, an entry at a time. */
static bool park_next(struct sched *s)
{
    struct after a = AFTER_INIT;
    lock_take(&s->m);
    struct dest *d = s->draining;
    bool did = !s->is_stopping && d != NULL && d->is_paused && d->flows != NULL;
    if (did)
        dest_park_first_locked(s, d, &a);
    lock_drop(&s->m);
    sched_after(s, &a);
    return did;
}

static bool suspend_next(struct sched *s)
{
    if (park_next(s))
        return true;
    struct suspension x;
    struct sjob *j = NULL;
    lock_take(&s->m);
    struct dest *d = s->draining;
    if (s->is_stopping) {
        /* what was not tried stays as it is */
    } else if (s->suspended != NULL) {
        struct entry *e = s->suspended;
        struct span t = e->ms->m->env.rcpts[e->first].route.transport;
        char name[64];
        snprintf(name, sizeof name, "%.*s", SPAN_ARG(t));
        describe(&x, (enum suspend_why)e->why, e->dest, name);
        j = own_job_from_entry_locked(s, e);
    } else if (d != NULL && !d->is_paused) {
        describe(&x, SUSPEND_DEAD, d, "");
        j = own_job_from_entry_locked(s, d->flows->entries);
    }
    lock_drop(&s->m);
    if (j == NULL)
        return false;
    struct delivery_result r = { .outcome = OUTCOME_DEFERRED, .dsn = span_cstr(x.dsn), .remote_mta = span_cstr(x.mta),
                                 .reason = span_cstr(x.reason) };
    sched_answer(s, j, &r);
    return true;
}

/* ---- after a reload: queued messages are resolved anew ---- */

static bool walk_piece(struct sched *s)
{
    unsigned n = 0;
    lock_take(&s->m);
    bool is_new = s->want_walk && s->parked_gen != s->gen;
    s->parked_gen = s->gen;
    lock_drop(&s->m);
    if (is_new)
        park_forget_routes(s);
    lock_take(&s->m);
    while (s->want_walk && n < SCHED_PIECE) {
        struct msg_sched *ms = s->active;
        if (ms == NULL || ms->walk_gen == s->gen) {
            s->want_walk = false;
            break;
        }
        /* To the end of the list, marked: when the first one is marked all have been seen. */
        ms->walk_gen = s->gen;
        DL_DELETE2(s->active, ms, a_prev, a_next);
        DL_APPEND2(s->active, ms, a_prev, a_next);
        n++;
        if (ms->queued == 0)
            continue;
        sched_unqueue_message_locked(s, ms);
        if (!ms->is_routing) /* else it is looked at again when its look-ups are done */
            ms_to_inbox_locked(s, ms);
    }
    lock_drop(&s->m);
    return n > 0;
}

/* ---- the loop ---- */

/* The clock was set back: no wait may be longer than the longest back-off counted from now. */
static void pull_in(struct sched *s, int64_t now_us)
{
    struct msg_sched *ms, *tmp;
    lock_take(&s->m);
    int64_t far_us = now_us + 1000 * sched_params_locked(s)->maximal_backoff_time;
    HASH_ITER(hh, s->by_id, ms, tmp) {
        if (ms->m == NULL || ms->due.slot == 0 || ms->next_due_us <= far_us)
            continue;
        for (uint32_t i = 0; i < ms->m->env.rcpt_count; i++)
            if (ms->m->env.rcpts[i].state == RCPT_TODO && ms->m->env.rcpts[i].due_us > far_us)
                ms->m->env.rcpts[i].due_us = far_us;
        ms_recompute_due_locked(s, ms);
    }
    lock_drop(&s->m);
}

int64_t sched_now_locked(struct sched *s)
{
    int64_t now_us = clock_wall_us(), jump_us = wall_watch_note(&s->wall, now_us, clock_mono_ms());
    if (jump_us > 0)
        s->set_forward_us += jump_us;
    else
        s->set_back_us -= jump_us;
    return now_us;
}

static int64_t note_clock(struct sched *s, int64_t now_ms)
{
    lock_take(&s->m);
    int64_t now_us = sched_now_locked(s), forward_us = s->set_forward_us, back_us = s->set_back_us;
    s->set_forward_us = s->set_back_us = 0;
    lock_drop(&s->m);
    if (back_us > 0) {
        pull_in(s, now_us);
        log_warn(&s->log, "the clock was set back by %lld seconds", (long long)back_us / 1000000);
    }
    if (forward_us > 0)
        log_warn(&s->log, "the clock was set forward by %lld seconds", (long long)forward_us / 1000000);
    if (back_us > 0 || forward_us > 0)
        s->next_far_scan_ms = now_ms;
    return now_us;
}

static int64_t next_time_ms(struct sched *s, int64_t now_us, int64_t now_ms)
{
    int64_t at = now_ms + LOOK_AT_CLOCK_MS;
    const struct heap_item *it;
    lock_take(&s->m);
    if ((it = heap_first(&s->dest_timers)) != NULL && it->key < at)
        at = it->key;
    if ((it = heap_first(&s->transport_timers)) != NULL && it->key < at)
        at = it->key;
    /* Without room nothing that is due can start: the end of a message kicks. */
    int64_t due_us = sched_fetch_room_locked(s) > 0 ? s->index_next_due_us : INT64_MAX;
    if (s->purge_at_us < due_us && s->purging == NULL)
        due_us = s->purge_at_us;
    if (sched_room_locked(s, false) > 0 && (it = heap_first(&s->due)) != NULL && it->key < due_us)
        due_us = it->key;
    lock_drop(&s->m);
    if (due_us != INT64_MAX) {
        int64_t due_ms = due_us <= now_us ? now_ms : due_us - now_us > INT64_C(86400000000) ? at : now_ms + (due_us - now_us) / 1000 + 1;
        if (due_ms < at)
            at = due_ms;
    }
    if (s->next_sample_ms < at)
        at = s->next_sample_ms;
    return s->next_tick_ms < at ? s->next_tick_ms : at;
}

int64_t sched_run_once(struct sched *s)
{
    bool busy = true;
    int64_t now_us = 0, now_ms = 0;
    for (int turns = 0; busy && turns < 100000; turns++) {
        struct after a = AFTER_INIT;
        now_ms = clock_mono_ms();
        now_us = note_clock(s, now_ms);
        lock_take(&s->m);
        s->is_kicked = false;
        sched_timers_locked(s, now_ms, &a);
        s->next_sample_ms = rates_sample(&s->rates, now_ms);
        lock_drop(&s->m);
        sched_after(s, &a);
        busy = notify_thread(s);
        for (int n = 0; n < SCHED_PIECE && suspend_next(s); n++)
            busy = true;
        busy |= walk_piece(s);
        busy |= index_tick(s, false);
        busy |= commands_work(s);
        busy |= trash_work(s);
        busy |= park_work(s);
        busy |= index_fetch_work(s);
        busy |= pop_due(s, now_us);
        for (int n = 0; n < SCHED_PIECE && route_returned(s); n++)
            busy = true;
        for (int n = 0; n < SCHED_PIECE && route_first(s); n++)
            busy = true;
        busy |= !router_takes_delays(s) && notify_delays(s);
    }
    return next_time_ms(s, now_us, now_ms);
}

void *sched_thread_main(void *arg)
{
    struct sched *s = arg;
    lock_take(&s->m);
    while (!s->is_stopping) {
        lock_drop(&s->m);
        int64_t at = sched_run_once(s);
        lock_take(&s->m);
        s->is_sleeping = true;
        while (!s->is_kicked && !s->is_stopping && cond_wait_until(&s->kick, &s->m, at))
            ;
        s->is_sleeping = false;
    }
    lock_drop(&s->m);
    return NULL;
}

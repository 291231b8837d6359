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

/* ---- routing and enqueueing ---- */

static bool is_due(const struct msg_sched *ms, uint32_t i, int64_t now_us)
{
    const struct msg_rcpt *r = &ms->m->env.rcpts[i];
    return r->state == RCPT_TODO && !(ms->rx[i].flags & RX_QUEUED) && r->due_us <= now_us;
}

/* A job of our own for idle recipients, to defer or bounce them without an attempt. */
static struct sjob *own_job_locked(struct sched *s, struct msg_sched *ms, const uint32_t *at, uint32_t n)
{
    struct sjob *j = xcalloc(1, sizeof *j + n * sizeof *j->rcpts);
    j->pub.rcpts = j->rcpts;
    j->pub.rcpt_count = n;
    j->pub.sched_private = j;
    j->pub.msg = msg_ref(ms->m);
    j->pub.conf = conf_ref(s->conf);
    j->pub.active_us = ms->active_us;
    j->pub.taken_us = clock_wall_us();
    j->ms = ms;
    for (uint32_t k = 0; k < n; k++) {
        j->rcpts[k].index = at[k];
        ms->m->env.rcpts[at[k]].state = RCPT_BUSY;
    }
    ms->idle -= n;
    ms->busy += n;
    ms->jobs++;
    return j;
}

static void answer_unroutable(struct sched *s, struct sjob *j, int status, struct span dsn, struct span why)
{
    struct delivery_result r = {
        .outcome = status < 0 ? OUTCOME_DEFERRED : OUTCOME_BOUNCED,
        .dsn = dsn.n ? dsn : status < 0 ? SPAN_LIT("4.3.0") : SPAN_LIT("5.3.0"),
        .reason = why.n ? why : status < 0 ? SPAN_LIT("address resolver failure") : SPAN_LIT("address cannot be resolved"),
    };
    sched_answer(s, j, &r);
}

/* Asks for the route of recipient i with no lock held, then stores it. Only this thread changes routes and addresses of idle recipients. */
static void resolve_one(struct sched *s, struct msg_sched *ms, struct msg *m, uint32_t i, struct conf *c, uint32_t gen)
{
    struct arena *a = arena_new(512);
    lock_take(&s->m); /* its progress may be changed by a command */
    struct msg_rcpt copy = m->env.rcpts[i];
    lock_drop(&s->m);
    struct span dsn = { 0 }, why = { 0 }, before = copy.addr;
    copy.route = (struct msg_route){ 0 };
    int status = s->resolve(s->resolve_arg, c, m->env.sender, m->env.filter, &copy, a, &dsn, &why);
    struct sjob *j = NULL;
    lock_take(&s->m);
    /* Readdressed meanwhile: looked up again with its new address. */
    if (ms->m != NULL && m->env.rcpts[i].state == RCPT_TODO && span_eq(m->env.rcpts[i].addr, before)) {
        struct msg_rcpt *r = &m->env.rcpts[i];
        if (status == 0 && copy.route.transport.n > 0 && copy.route.nexthop.n > 0) {
            if (!span_eq(r->addr, copy.addr))
                r->addr = arena_dup_span(m->arena, copy.addr);
            if (!span_eq(r->route.transport, copy.route.transport))
                r->route.transport = arena_dup_span(m->arena, copy.route.transport);
            if (!span_eq(r->route.nexthop, copy.route.nexthop))
                r->route.nexthop = arena_dup_span(m->arena, copy.route.nexthop);
            ms->rx[i].gen = gen;
        } else if (!ms_is_stopped(ms) && !ms->is_delete_wanted) {
            j = own_job_locked(s, ms, &i, 1);
            status = status == 0 ? -1 : status;
        }
    }
    lock_drop(&s->m);
    if (j != NULL)
        answer_unroutable(s, j, status, dsn, why);
    arena_free(&a);
}

/* Resolves those of recipients [from, to) that need it. */
static void resolve_piece(struct sched *s, struct msg_sched *ms, struct msg *m, uint32_t from, uint32_t to, int64_t now_us)
{
    uint32_t todo[SCHED_PIECE], n = 0;
    lock_take(&s->m);
    uint32_t gen = s->gen;
    struct conf *c = conf_ref(s->conf);
    for (uint32_t i = from; i < to && ms->m != NULL; i++)
        if (is_due(ms, i, now_us) && (ms->rx[i].gen != gen || m->env.rcpts[i].route.transport.n == 0))
            todo[n++] = i;
    lock_drop(&s->m);
    for (uint32_t k = 0; k < n; k++)
        resolve_one(s, ms, m, todo[k], c, gen);
    conf_unref(&c);
}

static void enqueue_piece(struct sched *s, struct msg_sched *ms, uint32_t from, uint32_t to, int64_t now_us)
{
    struct after a = AFTER_INIT;
    lock_take(&s->m);
    if (ms->m != NULL && ms->is_backlog && !ms->is_delete_wanted && is_due(ms, 0, now_us) && !ms->was_parked)
        ms->wants_parking = park_wants_row_locked(s, ms);
    if (ms->wants_parking)
        to = from;
    for (uint32_t i = from; i < to && ms->m != NULL && !ms_is_stopped(ms) && !ms->is_delete_wanted; i++)
        if (is_due(ms, i, now_us) && ms->m->env.rcpts[i].route.transport.n > 0)
            sched_enqueue_locked(s, ms, i, &a);
    lock_drop(&s->m);
    sched_after(s, &a);
}

/* ADMIN_EXPIRE: what waits is given up now, with the reason of its last attempt. */
static void expire_recipients(struct sched *s, struct msg_sched *ms, struct msg *m)
{
    uint32_t *at = xcalloc(m->env.rcpt_count, sizeof *at), n = 0;
    struct delivery_result r = { .outcome = OUTCOME_EXPIRED, .dsn = SPAN_LIT("4.7.0"), .reason = SPAN_LIT("expired by the administrator") };
    struct sjob *j = NULL;
    lock_take(&s->m);
    for (uint32_t i = 0; i < m->env.rcpt_count && ms->m != NULL; i++) {
        if (!is_due(ms, i, INT64_MAX))
            continue;
        at[n++] = i;
        if (m->env.rcpts[i].last_reason.n > 0) {
            r.reason = m->env.rcpts[i].last_reason;
            r.dsn = m->env.rcpts[i].last_dsn;
            r.remote_mta = m->env.rcpts[i].last_mta;
        }
    }
    if (n > 0)
        j = own_job_locked(s, ms, at, n);
    lock_drop(&s->m);
    free(at);
    if (j != NULL)
        sched_answer(s, j, &r);
}

/* The message is pinned and is_routing. */
static void route_recipients(struct sched *s, struct msg_sched *ms, struct msg *m)
{
    int64_t now_us = clock_wall_us();
    uint32_t n = m->env.rcpt_count;
    for (uint32_t from = 0; from < n; from += SCHED_PIECE) {
        uint32_t to = n - from > SCHED_PIECE ? from + SCHED_PIECE : n;
        resolve_piece(s, ms, m, from, to, now_us);
        enqueue_piece(s, ms, from, to, now_us);
    }
}

/* Back into its row; true: it is gone from memory. */
static bool leave_to_row_locked(struct sched *s, struct msg_sched *ms)
{
    bool yes = ms->wants_parking && ms->m != NULL && ms->idle == 1 && !ms->is_hold && !ms->is_delete_wanted &&
               park_wants_row_locked(s, ms);
    ms->wants_parking = false;
    if (!yes)
        return false;
    ms_deactivate_locked(s, ms);
    park_row_locked(s, ms);
    ms->pins--;
    ms_free_locked(s, ms);
    return true;
}

void route_now(struct sched *s, struct msg_sched *ms)
{
    struct after a = AFTER_INIT;
    lock_take(&s->m);
    DL_DELETE2(s->inbox, ms, in_prev, in_next);
    ms->in_inbox = false;
    ms->is_routing = true;
    ms->pins++;
    struct msg *m = msg_ref(ms->m);
    struct conf *c = conf_ref(s->conf);
    bool is_stopped = ms_is_stopped(ms), is_expired = ms->is_expire_wanted && ms->frozen == 0 && !ms->is_trashed;
    lock_drop(&s->m);
    if (is_expired) {
        expire_recipients(s, ms, m);
    } else if (!is_stopped) {
        log_active(s, conf_global(c), m);
        route_recipients(s, ms, m);
    }
    lock_take(&s->m);
    ms->is_routing = false;
    if (!leave_to_row_locked(s, ms)) {
        if (ms->m != NULL) {
            ms_recompute_due_locked(s, ms);
            ms_settle_locked(s, ms, &a);
        }
        ms_unpin_locked(s, ms);
    }
    lock_drop(&s->m);
    sched_after(s, &a);
    msg_unref(&m);
    conf_unref(&c);
}

static bool route_first(struct sched *s)
{
    lock_take(&s->m);
    struct msg_sched *ms = s->is_stopping ? NULL : s->inbox; /* only this thread takes it off the list or frees it */
    lock_drop(&s->m);
    if (ms != NULL)
        route_now(s, ms);
    return ms != NULL;
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
        for (int n = 0; n < SCHED_PIECE && route_first(s); n++)
            busy = true;
        busy |= notify_delays(s);
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

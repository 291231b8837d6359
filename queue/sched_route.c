/*
 * Routes: who goes where, and into the queue of that destination.
 *
 * Look-ups in files are made here and now. When some table of the routing may wait for a server, a message that needs a look-up is
 * lent to the threads of sched_router.c instead: it stays pinned and is_routing, and comes back through router.done. They store
 * routes and nothing else; only the scheduler's thread enqueues a message, parks it or lets it come to rest. A reload in
 * between makes the routes old (rx.gen), and they are looked up again before anything is enqueued.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

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

static bool needs_route(const struct sched *s, const struct msg_sched *ms, uint32_t i)
{
    return ms->rx[i].gen != s->gen || ms->m->env.rcpts[i].route.transport.n == 0;
}

void route_one(struct sched *s, struct msg_sched *ms, struct msg *m, uint32_t i, struct conf *c, uint32_t gen)
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
        if (status == 0 && ms->is_warning && s->router.is_in_use && !span_eq(r->addr, copy.addr)) {
            status = -1; /* another thread reads the addresses */
            why = SPAN_LIT("the notice of its delay is being written");
        }
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
        if (is_due(ms, i, now_us) && needs_route(s, ms, i))
            todo[n++] = i;
    lock_drop(&s->m);
    for (uint32_t k = 0; k < n; k++)
        route_one(s, ms, m, todo[k], c, gen);
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
        if (is_due(ms, i, now_us) && !needs_route(s, ms, i))
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

static void end_routing(struct sched *s, struct msg_sched *ms)
{
    struct after a = AFTER_INIT;
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
}

/* ---- with the router ---- */

bool route_wants_locked(const struct sched *s, const struct msg_sched *ms, uint32_t i, int64_t now_us)
{
    return ms->m != NULL && !ms_is_stopped(ms) && !ms->is_delete_wanted && !s->is_stopping && is_due(ms, i, now_us) && needs_route(s, ms, i);
}

/* Lends the message when a recipient of it needs a look-up; those whose domains answer at once go first. */
static bool lend(struct sched *s, struct msg_sched *ms, uint32_t n)
{
    int64_t now_us = clock_wall_us(), now_ms = clock_mono_ms();
    bool is_found = false, is_slow = true;
    uint64_t slow = 0;
    for (uint32_t i = 0; i < n && is_slow;) {
        lock_take(&s->m);
        for (uint32_t k = 0; k < SCHED_PIECE && i < n && is_slow; k++, i++) {
            if (!route_wants_locked(s, ms, i, now_us))
                continue;
            uint64_t domain = router_domain(ms->m->env.rcpts[i].addr);
            is_slow = router_is_slow_locked(s, NULL, domain, now_ms);
            slow = is_found ? slow : domain;
            is_found = true;
        }
        lock_drop(&s->m);
    }
    if (!is_found)
        return false;
    lock_take(&s->m);
    router_lend_locked(s, ms, is_slow ? &slow : NULL);
    lock_drop(&s->m);
    return true;
}

static void enqueue_all(struct sched *s, struct msg_sched *ms, uint32_t n)
{
    int64_t now_us = clock_wall_us();
    for (uint32_t from = 0; from < n; from += SCHED_PIECE)
        enqueue_piece(s, ms, from, n - from > SCHED_PIECE ? from + SCHED_PIECE : n, now_us);
}

bool route_returned(struct sched *s)
{
    lock_take(&s->m);
    struct msg_sched *ms = s->is_stopping ? NULL : s->router.done;
    struct msg *m = NULL;
    if (ms != NULL) {
        DL_DELETE2(s->router.done, ms, in_prev, in_next);
        s->router.lent--;
        m = ms->m != NULL ? msg_ref(ms->m) : NULL;
    }
    lock_drop(&s->m);
    if (ms == NULL)
        return false;
    if (m != NULL)
        enqueue_all(s, ms, m->env.rcpt_count);
    if (m == NULL || !lend(s, ms, m->env.rcpt_count))
        end_routing(s, ms);
    msg_unref(&m);
    return true;
}

/* ---- from the inbox ---- */

void route_now(struct sched *s, struct msg_sched *ms)
{
    lock_take(&s->m);
    DL_DELETE2(s->inbox, ms, in_prev, in_next);
    ms->in_inbox = false;
    ms->is_routing = true;
    ms->pins++;
    struct msg *m = msg_ref(ms->m);
    struct conf *c = conf_ref(s->conf);
    bool is_stopped = ms_is_stopped(ms), is_expired = ms->is_expire_wanted && ms->frozen == 0 && !ms->is_trashed;
    bool may_lend = s->router.is_in_use && m->env.filter.n == 0, is_lent = false;
    lock_drop(&s->m);
    if (is_expired) {
        expire_recipients(s, ms, m);
    } else if (!is_stopped) {
        log_active(s, conf_global(c), m);
        if (may_lend)
            enqueue_all(s, ms, m->env.rcpt_count);
        is_lent = may_lend && lend(s, ms, m->env.rcpt_count);
        if (!may_lend)
            route_recipients(s, ms, m);
    }
    if (!is_lent)
        end_routing(s, ms);
    msg_unref(&m);
    conf_unref(&c);
}

bool route_first(struct sched *s)
{
    lock_take(&s->m);
    struct msg_sched *ms = s->is_stopping ? NULL : s->inbox; /* only this thread takes it off the list or frees it */
    lock_drop(&s->m);
    if (ms != NULL)
        route_now(s, ms);
    return ms != NULL;
}

/*
 * The router: look-ups that may wait for a server, so that the scheduler does not.
 *
 * Messages that are lent wait in one line, `quick`, in order. One thread goes along it, so that routes are found one after the other
 * and in order, as with tables in files. When its look-up takes longer than STALL_MS the next thread takes the next message, and so on:
 * a table at some distance gets several questions at a time, and one answer that does not come holds up one thread.
 *
 * A domain with a look-up of SLOW_MS or more is slow for a while, and so is one for which a thread waits when the next one comes to it
 * (until that look-up turns out not to be slow). Threads of the quick line pass over the recipients of slow domains. What is
 * left of a message when only those are left waits with its domain; the slow domains form a ring, take turns with one recipient
 * each, and have one thread each and no more than half of all threads together. So however much mail waits for slow domains,
 * the first recipient of a domain that nothing is known of finds a thread. One quick answer, and the domain is no longer slow.
 *
 * Notices that the scheduler's own thread has to send have their addresses looked up, too, and count as slow.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "queue/sched_internal.h"

#define STALL_MS    20
#define SLOW_MS     200
#define SLOW_FOR_MS 60000
#define SLOW_MAX    2000  /* domains; beyond, the others are looked up as if they were quick */
#define STOP_MS     3000  /* for look-ups under way to end */

struct work {
    struct msg_sched *ms;
    struct slow_domain *d;  /* NULL: a message of the quick line */
    struct notice *n;       /* NULL with neither of them: a delay warning */
};

uint64_t router_domain(struct span addr)
{
    ptrdiff_t at = span_rfind(addr, '@');
    return sched_hash_address(at < 0 ? span_of("", 0) : span_from(addr, (size_t)at + 1));
}

/* ---- slow domains ---- */

static void forget_locked(struct router *r, struct slow_domain *d)
{
    struct msg_sched *ms, *tmp;
    DL_FOREACH_SAFE2(d->waiting, ms, tmp, in_next) {
        DL_DELETE2(d->waiting, ms, in_prev, in_next);
        DL_APPEND2(r->quick, ms, in_prev, in_next);
    }
    HASH_DEL(r->slow, d);
    free(d);
}

/* Those of which nothing was heard for long, when there are too many. */
static void forget_old_locked(struct router *r, int64_t now_ms)
{
    struct slow_domain *d, *tmp;
    HASH_ITER(hh, r->slow, d, tmp)
        if (d->waiting == NULL && !d->is_busy && now_ms >= d->until_ms)
            forget_locked(r, d);
}

static struct slow_domain *slow_find(struct router *r, uint64_t domain)
{
    struct slow_domain *d;
    HASH_FIND(hh, r->slow, &domain, sizeof domain, d);
    return d;
}

/* NULL: there are too many. */
static struct slow_domain *mark_slow_locked(struct router *r, uint64_t domain, int64_t now_ms)
{
    struct slow_domain *d = slow_find(r, domain);
    if (d == NULL && HASH_COUNT(r->slow) >= SLOW_MAX)
        forget_old_locked(r, now_ms);
    if (d == NULL && HASH_COUNT(r->slow) >= SLOW_MAX)
        return NULL;
    if (d == NULL) {
        d = xcalloc(1, sizeof *d);
        d->domain = domain;
        HASH_ADD(hh, r->slow, domain, sizeof d->domain, d);
    }
    d->until_ms = now_ms + SLOW_FOR_MS;
    return d;
}

bool router_is_slow_locked(struct sched *s, const struct router_thread *me, uint64_t domain, int64_t now_ms)
{
    struct router *r = &s->router;
    struct slow_domain *d = slow_find(r, domain);
    if (d != NULL && (d->waiting != NULL || d->is_busy || now_ms < d->until_ms))
        return true;
    for (unsigned i = 0; i < r->count; i++) {
        struct router_thread *t = &r->threads[i];
        if (t == me || t->since_ms == 0 || t->domain != domain || now_ms - t->since_ms < r->stall_ms)
            continue;
        d = mark_slow_locked(r, domain, now_ms);
        if (d == NULL)
            return false;
        d->is_busy = t->is_stuck = true; /* counted where it belongs, until its look-up ends */
        r->at_slow++;
        return true;
    }
    return false;
}

/* A look-up in this domain is over. */
static void note_time_locked(struct router *r, uint64_t domain, int64_t took_ms, bool was_its_thread, int64_t now_ms)
{
    struct slow_domain *d = took_ms >= SLOW_MS ? mark_slow_locked(r, domain, now_ms) : slow_find(r, domain);
    if (was_its_thread) {
        r->at_slow--;
        d->is_busy = false;
        if (took_ms < SLOW_MS)
            forget_locked(r, d);
        else if (d->waiting != NULL)
            DL_APPEND(r->ring, d);
        cond_signal(&r->kick);
    }
}

void router_lend_locked(struct sched *s, struct msg_sched *ms, const uint64_t *slow_domain)
{
    struct router *r = &s->router;
    struct slow_domain *d = slow_domain != NULL ? slow_find(r, *slow_domain) : NULL;
    if (d == NULL) {
        DL_APPEND2(r->quick, ms, in_prev, in_next);
    } else {
        if (d->waiting == NULL && !d->is_busy)
            DL_APPEND(r->ring, d);
        DL_APPEND2(d->waiting, ms, in_prev, in_next);
    }
    r->lent++;
    cond_signal(&r->kick);
}

/* ---- one look-up ---- */

static void give_back(struct sched *s, struct msg_sched *ms)
{
    lock_take(&s->m);
    DL_APPEND2(s->router.done, ms, in_prev, in_next);
    sched_kick_locked(s);
    lock_drop(&s->m);
}

/* Recipient i, when it (still) wants to be looked up. d: the thread has this domain; NULL: it passes over slow ones. */
static void look_up(struct router_thread *t, struct msg_sched *ms, struct msg *m, uint32_t i, const struct slow_domain *d)
{
    struct sched *s = t->s;
    int64_t begin_ms = clock_mono_ms();
    lock_take(&s->m);
    bool wants = route_wants_locked(s, ms, i, clock_wall_us());
    t->domain = wants ? router_domain(m->env.rcpts[i].addr) : 0;
    wants = wants && (d != NULL ? d->domain == t->domain : !router_is_slow_locked(s, t, t->domain, begin_ms));
    t->since_ms = wants ? begin_ms : 0;
    uint32_t gen = s->gen;
    struct conf *c = wants ? conf_ref(s->conf) : NULL;
    lock_drop(&s->m);
    if (!wants)
        return;
    route_one(s, ms, m, i, c, gen);
    int64_t end_ms = clock_mono_ms();
    lock_take(&s->m);
    t->since_ms = 0;
    note_time_locked(&s->router, t->domain, end_ms - begin_ms, t->is_stuck, end_ms);
    t->is_stuck = false;
    lock_drop(&s->m);
    conf_unref(&c);
}

static bool is_over(struct sched *s)
{
    lock_take(&s->m);
    bool over = s->router.is_stopping;
    lock_drop(&s->m);
    return over;
}

static struct msg *hold(struct sched *s, const struct msg_sched *ms)
{
    lock_take(&s->m);
    struct msg *m = ms->m != NULL ? msg_ref(ms->m) : NULL; /* deleted meanwhile */
    lock_drop(&s->m);
    return m;
}

static void do_quick(struct router_thread *t, struct msg_sched *ms)
{
    struct sched *s = t->s;
    struct msg *m = hold(s, ms);
    for (uint32_t i = 0; m != NULL && i < m->env.rcpt_count && !is_over(s); i++)
        look_up(t, ms, m, i, NULL);
    msg_unref(&m);
    give_back(s, ms);
    lock_take(&s->m);
    t->is_quick = false;
    lock_drop(&s->m);
}

static uint32_t first_of(struct sched *s, struct msg_sched *ms, uint32_t n, uint64_t domain)
{
    int64_t now_us = clock_wall_us();
    bool found = false;
    uint32_t i = 0;
    while (i < n && !found) {
        lock_take(&s->m);
        for (uint32_t k = 0; k < SCHED_PIECE && i < n && !found; k++)
            if (!(found = route_wants_locked(s, ms, i, now_us) && router_domain(ms->m->env.rcpts[i].addr) == domain))
                i++;
        lock_drop(&s->m);
    }
    return i;
}

/* One recipient of the domain. */
static void do_slow(struct router_thread *t, struct slow_domain *d, struct msg_sched *ms)
{
    struct sched *s = t->s;
    struct router *r = &s->router;
    struct msg *m = hold(s, ms);
    uint32_t i = m != NULL ? first_of(s, ms, m->env.rcpt_count, d->domain) : 0;
    if (m != NULL && i < m->env.rcpt_count)
        look_up(t, ms, m, i, d);
    msg_unref(&m);
    give_back(s, ms);
    lock_take(&s->m);
    if (t->is_stuck) { /* there was nothing to look up any more */
        r->at_slow--;
        d->is_busy = t->is_stuck = false;
        if (d->waiting != NULL)
            DL_APPEND(r->ring, d);
    }
    lock_drop(&s->m);
}

static void do_notice(struct router_thread *t, struct notice *n)
{
    struct sched *s = t->s;
    if (n != NULL)
        notify_lent(s, n, false);
    else
        notify_delays(s);
    lock_take(&s->m);
    s->router.at_slow--;
    lock_drop(&s->m);
}

/* ---- what is next ---- */

/* When the next message of the quick line may be begun: once all who are at it wait. */
static int64_t quick_at(const struct router *r, int64_t now_ms)
{
    int64_t at = INT64_MIN;
    for (unsigned i = 0; i < r->count; i++) {
        const struct router_thread *t = &r->threads[i];
        int64_t its = (t->since_ms != 0 ? t->since_ms : now_ms) + r->stall_ms;
        if (t->is_quick && !t->is_stuck && its > at)
            at = its;
    }
    return at;
}

static bool take_notice_locked(struct sched *s, struct work *w)
{
    struct router *r = &s->router;
    *w = (struct work){ .n = r->notices };
    if (r->notices != NULL)
        LL_DELETE(r->notices, w->n);
    else if (s->warn == NULL || s->is_stopping)
        return false;
    r->notice_turn = false;
    return true;
}

static bool take_slow_locked(struct router_thread *t, struct work *w)
{
    struct sched *s = t->s;
    struct router *r = &s->router;
    if (r->at_slow >= ROUTER_THREADS / 2)
        return false;
    if (r->notice_turn || r->ring == NULL) {
        if (take_notice_locked(s, w)) {
            r->at_slow++;
            return true;
        }
        if (r->ring == NULL)
            return false;
    }
    struct slow_domain *d = r->ring;
    *w = (struct work){ .ms = d->waiting, .d = d };
    DL_DELETE(r->ring, d);
    DL_DELETE2(d->waiting, w->ms, in_prev, in_next);
    d->is_busy = t->is_stuck = true;
    r->at_slow++;
    r->notice_turn = true;
    return true;
}

static bool take_locked(struct router_thread *t, struct work *w, int64_t *look_again_ms)
{
    struct router *r = &t->s->router;
    int64_t now_ms = clock_mono_ms(), at = r->quick != NULL ? quick_at(r, now_ms) : INT64_MAX;
    if (at <= now_ms) {
        *w = (struct work){ .ms = r->quick };
        DL_DELETE2(r->quick, w->ms, in_prev, in_next);
        t->is_quick = true;
        return true;
    }
    *look_again_ms = at;
    return take_slow_locked(t, w);
}

/* Waits for it; false: no more. One of those who wait looks from time to time whether a thread of the quick line is stuck. */
static bool next_work(struct router_thread *t, struct work *w)
{
    struct sched *s = t->s;
    struct router *r = &s->router;
    int64_t again_ms;
    bool got = false;
    lock_take(&s->m);
    while (!r->is_stopping && !(got = take_locked(t, w, &again_ms))) {
        if (again_ms == INT64_MAX || r->has_standby) {
            cond_wait(&r->kick, &s->m);
            continue;
        }
        r->has_standby = true;
        (void)cond_wait_until(&r->kick, &s->m, again_ms);
        r->has_standby = false;
    }
    if (!got && --r->running == 0)
        cond_broadcast(&r->ended);
    if (got)
        cond_signal(&r->kick); /* for what is left, and for the place of the one who looked from time to time */
    lock_drop(&s->m);
    return got;
}

static void *thread_main(void *arg)
{
    struct router_thread *t = arg;
    struct work w;
    while (next_work(t, &w)) {
        if (w.ms == NULL)
            do_notice(t, w.n);
        else if (w.d != NULL)
            do_slow(t, w.d, w.ms);
        else
            do_quick(t, w.ms);
    }
    return NULL;
}

/* ---- notices ---- */

bool router_takes_notice(struct sched *s, struct notice *n, struct conf *c, struct bounce_rcpt *rcpts)
{
    struct router *r = &s->router;
    lock_take(&s->m);
    bool takes = r->is_in_use && !r->is_stopping;
    if (takes) {
        n->rcpts = rcpts;
        n->conf = conf_ref(c);
        LL_APPEND(r->notices, n);
        cond_signal(&r->kick);
    }
    lock_drop(&s->m);
    return takes;
}

bool router_takes_delays(struct sched *s)
{
    struct router *r = &s->router;
    lock_take(&s->m);
    bool takes = r->is_in_use;
    if (takes && s->warn != NULL)
        cond_signal(&r->kick);
    lock_drop(&s->m);
    return takes;
}

/* ---- begin and end ---- */

void router_begin(struct sched *s)
{
    s->router.stop_ms = STOP_MS;
    s->router.stall_ms = STALL_MS;
    cond_init(&s->router.kick);
    cond_init(&s->router.ended);
}

static void start_threads(struct sched *s)
{
    struct router *r = &s->router;
    while (r->count < ROUTER_THREADS) {
        struct router_thread *t = &r->threads[r->count];
        t->s = s;
        lock_take(&s->m);
        r->running++;
        lock_drop(&s->m);
        int rc = thread_start(&t->id, "route", 0, thread_main, t);
        lock_take(&s->m);
        r->running -= rc != 0;
        r->count += rc == 0;
        lock_drop(&s->m);
        if (rc != 0) {
            log_warn(&s->log, "only %u of %d threads for look-ups could be started", r->count, ROUTER_THREADS);
            return;
        }
    }
}

void router_use(struct sched *s, bool may_wait)
{
    if (may_wait)
        start_threads(s);
    lock_take(&s->m);
    s->router.is_in_use = may_wait && s->router.count > 0;
    lock_drop(&s->m);
}

bool router_stop(struct sched *s)
{
    struct router *r = &s->router;
    int64_t until_ms = clock_mono_ms() + r->stop_ms;
    lock_take(&s->m);
    r->is_stopping = true;
    cond_broadcast(&r->kick);
    while (r->running > 0 && cond_wait_until(&r->ended, &s->m, until_ms))
        ;
    bool is_over = r->running == 0;
    struct notice *n, *tmp, *left = r->notices;
    r->notices = NULL;
    lock_drop(&s->m);
    LL_FOREACH_SAFE(left, n, tmp)
        notify_lent(s, n, true);
    for (unsigned i = 0; is_over && i < r->count; i++)
        pthread_join(r->threads[i].id, NULL);
    r->count = is_over ? 0 : r->count;
    return is_over;
}

void router_leave(struct sched *s)
{
    for (unsigned i = 0; i < s->router.count; i++)
        pthread_detach(s->router.threads[i].id);
}

void router_end(struct sched *s)
{
    struct slow_domain *d, *tmp;
    HASH_ITER(hh, s->router.slow, d, tmp) {
        HASH_DEL(s->router.slow, d);
        free(d);
    }
    cond_destroy(&s->router.kick);
    cond_destroy(&s->router.ended);
}

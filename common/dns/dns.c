/*
 * A caller looks into the cache under the lock. When the answer is not there, its waiter joins the question under way,
 * or becomes the first of a new one, which goes into the inbox; the eventfd is written only when the inbox was empty.
 *
 * The thread owns the exchanges: at most DNS_INFLIGHT_MAX have a socket and are in `running`, ordered by deadline; the
 * rest are in `queued`. Each try is a fresh socket in epoll. A socket has at most one event in a batch and only its own
 * event or its deadline ends an exchange, so no event of a batch can point to one that is gone.
 *
 * Start: dns_start(). Stop: dns_stop() sets `stopping`, the thread answers everything DNS_TEMPFAIL and ends; then the
 * rest is freed.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <utlist.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "common/dns/dns_cache.h"
#include "common/dns/dns_internal.h"

#define EVENTS_MAX      64
#define HURRY_MS        1000  /* for a question when the process is about to end */
#define SERVER_BAD_MS   30000 /* how long a server that did not answer is asked last */
#define RESOLV_CONF     "/etc/resolv.conf"

struct dns {
    struct lock lock;                  /* DNS_CACHE; cond of the waiting callers goes with it */
    struct dns_cache *cache;           /* guarded by lock */
    struct dns_exchange *inbox;        /* guarded by lock: new questions, list by next */
    struct dns_servers *next_servers;  /* guarded by lock: of a reconfiguration, handed to the thread */
    bool stopping, hurrying;           /* guarded by lock */
    bool is_hurried;                   /* the thread only */
    struct dns_stats stats;            /* guarded by lock, but for sent and timeouts */
    atomic_uint_least64_t sent, timeouts;

    struct log_src log;                /* immutable */
    int wake_fd, epfd;                 /* immutable; closed by dns_stop() */
    pthread_t thread;

    /* the dns thread only */
    struct dns_servers *servers;       /* counted */
    struct dns_exchange *running, *queued;
    size_t running_count;
    _Atomic int64_t bad_logged_ms, full_logged_ms;
    _Atomic uint64_t bad_swallowed, full_swallowed;
};

/* ---- the thread: exchanges ---- */

static void give(struct dns_waiter *w, struct dns_answer *a)
{
    while (w) {
        struct dns_waiter *next = w->next;
        w->cb(w->arg, dns_answer_ref(a));
        free(w);
        w = next;
    }
}

/* Ends x, which is in no list, with answer a (one reference, taken). */
static void finish(struct dns *d, struct dns_exchange *x, struct dns_answer *a)
{
    int64_t now = clock_mono_ms();
    lock_take(&d->lock);
    /* An answer from resolvers that were replaced meanwhile is given out but not kept. */
    bool keep = a->status != DNS_TEMPFAIL && a->status != DNS_INVALID && x->servers == d->servers && !d->next_servers;
    struct dns_waiter *w = dns_cache_answered(d->cache, &x->q, a, keep, now);
    lock_drop(&d->lock);
    give(w, a);
    dns_answer_unref(&a);
    dns_exchange_free(&x);
}

static void give_up(struct dns *d, struct dns_exchange *x, const char *why)
{
    struct dns_answer *a = x->answer ? x->answer : dns_answer_failed(&x->q, span_cstr(""), DNS_TEMPFAIL, why);
    x->answer = NULL;
    finish(d, x, a);
}

static void insert_by_deadline(struct dns *d, struct dns_exchange *x)
{
    struct dns_exchange *after = d->running ? d->running->prev : NULL; /* the tail */
    while (after && after->deadline_ms > x->deadline_ms)
        after = after == d->running ? NULL : after->prev;
    if (after)
        DL_APPEND_ELEM(d->running, after, x);
    else
        DL_PREPEND(d->running, x);
    d->running_count++;
}

static void take_out(struct dns *d, struct dns_exchange *x)
{
    DL_DELETE(d->running, x);
    d->running_count--;
    dns_exchange_close(x);
}

static void server_is_bad(struct dns *d, struct dns_exchange *x)
{
    struct dns_server *s = &x->servers->s[x->server];
    uint64_t swallowed;
    char text[IP_TEXT_MAX];
    s->bad_until_ms = clock_mono_ms() + SERVER_BAD_MS;
    if (log_once_a_minute(&d->bad_logged_ms, &d->bad_swallowed, &swallowed))
        log_warn(&d->log, "no answer from resolver %s port %u (question %s)", ip_print(&s->ip, text), s->port,
                 x->q.name);
}

/* Sends x again to the same server, or (`move`) to the next; x is in no list. Ends it when its tries are used up. */
static void try_on(struct dns *d, struct dns_exchange *x, bool move)
{
    for (;; move = true) {
        int64_t now = clock_mono_ms();
        if (move) {
            bool was_tried = x->server != SIZE_MAX;
            if (x->tries_left-- <= 0 || (was_tried && now >= x->give_up_ms)) {
                give_up(d, x, NULL);
                return;
            }
            x->server = dns_servers_pick(x->servers, x->server, now);
            x->use_tcp = x->plain = false;
        }
        atomic_fetch_add_explicit(&d->sent, 1, memory_order_relaxed);
        if (dns_exchange_send(x, d->epfd)) {
            x->deadline_ms = now + (d->is_hurried && x->servers->timeout_ms > HURRY_MS ? HURRY_MS : x->servers->timeout_ms);
            insert_by_deadline(d, x);
            return;
        }
        dns_exchange_close(x);
    }
}

static void start_queued(struct dns *d)
{
    while (d->queued && d->running_count < DNS_INFLIGHT_MAX) {
        struct dns_exchange *x = d->queued;
        DL_DELETE(d->queued, x);
        x->servers = d->servers;
        x->servers->refs++;
        x->tries_left = x->servers->tries;
        try_on(d, x, true);
    }
}

static void on_event(struct dns *d, struct dns_exchange *x)
{
    switch (dns_exchange_event(x, d->epfd)) {
    case DNS_EV_WAIT:
        return;
    case DNS_EV_ANSWER: {
        struct dns_answer *a = x->answer;
        take_out(d, x);
        x->answer = NULL;
        finish(d, x, a);
        return;
    }
    case DNS_EV_FAILED:
        take_out(d, x);
        if (!x->replied)
            server_is_bad(d, x);
        /* Another server may know better than one that said SERVFAIL; asking the same again at once would not help. */
        if (x->failures < x->servers->count)
            try_on(d, x, true);
        else
            give_up(d, x, NULL);
        return;
    case DNS_EV_AGAIN:
        take_out(d, x);
        try_on(d, x, false);
        return;
    }
}

static void expire(struct dns *d)
{
    int64_t now = clock_mono_ms();
    while (d->running && d->running->deadline_ms <= now) {
        struct dns_exchange *x = d->running;
        take_out(d, x);
        server_is_bad(d, x);
        atomic_fetch_add_explicit(&d->timeouts, 1, memory_order_relaxed);
        if (d->is_hurried)
            give_up(d, x, NULL);
        else
            try_on(d, x, true);
    }
    /* With resolvers that do not answer, who waits for a turn waits no longer than who got one. */
    while (d->queued && d->queued->give_up_ms <= now) {
        struct dns_exchange *x = d->queued;
        DL_DELETE(d->queued, x);
        give_up(d, x, NULL);
    }
}

/* ---- the thread: loop ---- */

/* A limit for all keeps their order. */
static void hurry_up(struct dns *d, int64_t until_ms)
{
    struct dns_exchange *x;
    d->is_hurried = true;
    DL_FOREACH(d->running, x)
        x->deadline_ms = x->deadline_ms < until_ms ? x->deadline_ms : until_ms;
    DL_FOREACH(d->queued, x)
        x->give_up_ms = x->give_up_ms < until_ms ? x->give_up_ms : until_ms;
}

/* False: stop. */
static bool take_inbox(struct dns *d)
{
    struct dns_exchange *x, *next;
    lock_take(&d->lock);
    x = d->inbox;
    d->inbox = NULL;
    if (d->next_servers) {
        if (!dns_servers_same(d->servers, d->next_servers))
            dns_cache_clear(d->cache);
        dns_servers_unref(&d->servers);
        d->servers = d->next_servers;
        d->next_servers = NULL;
    }
    bool stop = d->stopping, hurry = d->hurrying;
    lock_drop(&d->lock);
    struct dns_exchange *fresh = NULL;
    int64_t now = clock_mono_ms(), give_up_ms = now + (int64_t)d->servers->timeout_ms * d->servers->tries;
    if (hurry && give_up_ms > now + HURRY_MS)
        give_up_ms = now + HURRY_MS;
    if (hurry && !d->is_hurried)
        hurry_up(d, now + HURRY_MS);
    for (; x; x = next) {
        next = x->next;
        x->give_up_ms = give_up_ms;
        /* The inbox is a stack; reversed here, so the oldest starts first. */
        DL_PREPEND(fresh, x);
    }
    DL_CONCAT(d->queued, fresh);
    return !stop;
}

static void answer_all(struct dns *d)
{
    while (d->running) {
        struct dns_exchange *x = d->running;
        take_out(d, x);
        give_up(d, x, "Host not found, try again (shutting down)");
    }
    while (d->queued) {
        struct dns_exchange *x = d->queued;
        DL_DELETE(d->queued, x);
        give_up(d, x, "Host not found, try again (shutting down)");
    }
}

static void *dns_main(void *arg)
{
    struct dns *d = arg;
    struct epoll_event ev[EVENTS_MAX];
    bool go = true;
    while (go) {
        int n = epoll_wait(d->epfd, ev, EVENTS_MAX, d->running ? clock_poll_ms(d->running->deadline_ms) : -1);
        for (int i = 0; i < n; i++) {
            uint64_t count;
            if (ev[i].data.ptr)
                on_event(d, ev[i].data.ptr);
            else if (read(d->wake_fd, &count, sizeof count) > 0)
                go = take_inbox(d);
        }
        expire(d);
        start_queued(d);
    }
    (void)take_inbox(d);
    answer_all(d);
    return NULL;
}

static void wake(struct dns *d)
{
    uint64_t one = 1;
    /* It can only fail when the counter is full, and then the thread is awake already. */
    (void)!write(d->wake_fd, &one, sizeof one);
}

/* ---- public: life ---- */

static const char *conf_path(const struct dns_options *o)
{
    return o->resolv_conf ? o->resolv_conf : RESOLV_CONF;
}

static void destroy(struct dns *d)
{
    dns_servers_unref(&d->servers);
    dns_servers_unref(&d->next_servers);
    dns_cache_free(&d->cache);
    io_close(&d->wake_fd);
    io_close(&d->epfd);
    lock_destroy(&d->lock);
    free(d);
}

struct dns *dns_start(const struct dns_options *o, struct err *e)
{
    struct dns_servers *servers = dns_servers_new(o, conf_path(o), e);
    uint64_t seed = 0;
    if (!servers)
        return NULL;
    struct dns *d = xcalloc(1, sizeof *d);
    lock_init(&d->lock, LOCK_DNS_CACHE);
    (void)!getrandom(&seed, sizeof seed, 0);
    d->cache = dns_cache_new(seed);
    d->servers = servers;
    if (o->log)
        d->log = *o->log;
    d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };
    int rc = d->wake_fd < 0 || d->epfd < 0 || epoll_ctl(d->epfd, EPOLL_CTL_ADD, d->wake_fd, &ev) != 0 ? errno : 0;
    if (rc == 0)
        rc = thread_start(&d->thread, "dns", 0, dns_main, d);
    if (rc != 0) {
        err_set_sys(e, rc, "cannot start the dns thread");
        destroy(d);
        return NULL;
    }
    return d;
}

void dns_hurry(struct dns *d)
{
    lock_take(&d->lock);
    d->hurrying = true;
    lock_drop(&d->lock);
    wake(d);
}

void dns_halt(struct dns *d)
{
    lock_take(&d->lock);
    bool is_first = !d->stopping;
    d->stopping = true;
    lock_drop(&d->lock);
    if (!is_first)
        return;
    wake(d);
    pthread_join(d->thread, NULL);
}

void dns_stop(struct dns **dp)
{
    struct dns *d = *dp;
    *dp = NULL;
    if (!d)
        return;
    dns_halt(d);
    destroy(d);
}

bool dns_reconfigure(struct dns *d, const struct dns_options *o, struct err *e)
{
    struct dns_servers *servers = dns_servers_new(o, conf_path(o), e);
    if (!servers)
        return false;
    lock_take(&d->lock);
    struct dns_servers *unused = d->next_servers;
    d->next_servers = servers;
    lock_drop(&d->lock);
    dns_servers_unref(&unused);
    wake(d);
    return true;
}

/* ---- public: questions ---- */

static void refuse(struct dns *d, const struct dns_question *q, bool stopping, dns_cb *cb, void *arg)
{
    uint64_t swallowed;
    if (!stopping && log_once_a_minute(&d->full_logged_ms, &d->full_swallowed, &swallowed))
        log_warn(&d->log, "more than %d DNS questions under way (DNS_PENDING_MAX): new ones are deferred",
                 DNS_PENDING_MAX);
    cb(arg, dns_answer_failed(q, span_cstr(""), DNS_TEMPFAIL, NULL));
}

void dns_query(struct dns *d, struct span name, enum dns_type type, dns_cb *cb, void *arg)
{
    struct dns_question q;
    if (!dns_question_init(&q, name, type)) {
        cb(arg, dns_answer_bad_name(name));
        return;
    }
    struct dns_waiter *w = xcalloc(1, sizeof *w);
    struct dns_answer *a = NULL;
    w->cb = cb;
    w->arg = arg;
    int64_t now = clock_mono_ms();
    bool was_empty = false;
    lock_take(&d->lock);
    d->stats.queries++;
    bool stopping = d->stopping;
    enum dns_cache_result r = stopping ? DNS_CACHE_FULL : dns_cache_ask(d->cache, &q, now, w, &a);
    if (r == DNS_CACHE_ASK) {
        struct dns_exchange *x = dns_exchange_new(&q);
        was_empty = !d->inbox;
        x->next = d->inbox;
        d->inbox = x;
    }
    d->stats.hits += r == DNS_CACHE_HIT;
    d->stats.joined += r == DNS_CACHE_JOINED;
    d->stats.refused += r == DNS_CACHE_FULL;
    lock_drop(&d->lock);
    if (was_empty)
        wake(d);
    if (r == DNS_CACHE_HIT || r == DNS_CACHE_FULL)
        free(w);
    if (r == DNS_CACHE_HIT)
        cb(arg, a);
    else if (r == DNS_CACHE_FULL)
        refuse(d, &q, stopping, cb, arg);
}

struct dns_answer *dns_query_cached(struct dns *d, struct span name, enum dns_type type)
{
    struct dns_question q;
    if (!dns_question_init(&q, name, type))
        return NULL;
    int64_t now = clock_mono_ms();
    lock_take(&d->lock);
    struct dns_answer *a = dns_cache_find(d->cache, &q, now);
    lock_drop(&d->lock);
    return a;
}

/* Lives until both sides let go: the caller may leave at its deadline, the callback still comes. */
struct wait {
    struct dns *d;
    struct cond arrived;
    struct dns_answer *answer;  /* guarded by d->lock */
    bool abandoned;             /* guarded by d->lock */
};

static void wait_free(struct wait *w)
{
    cond_destroy(&w->arrived);
    free(w);
}

static void wait_cb(void *arg, struct dns_answer *a)
{
    struct wait *w = arg;
    struct lock *l = &w->d->lock;
    lock_take(l);
    bool abandoned = w->abandoned;
    w->answer = a;
    /* Under the lock: once it is dropped the caller may free w. */
    cond_signal(&w->arrived);
    lock_drop(l);
    if (abandoned) {
        dns_answer_unref(&a);
        wait_free(w);
    }
}

struct dns_answer *dns_query_wait(struct dns *d, struct span name, enum dns_type type, int64_t deadline_ms)
{
    struct dns_answer *a = dns_query_cached(d, name, type);
    if (a)
        return a;
    struct wait *w = xcalloc(1, sizeof *w);
    w->d = d;
    cond_init(&w->arrived);
    dns_query(d, name, type, wait_cb, w);
    lock_take(&d->lock);
    while (!w->answer && cond_wait_until(&w->arrived, &d->lock, deadline_ms))
        continue;
    a = w->answer;
    w->abandoned = !a;
    lock_drop(&d->lock);
    if (a) {
        wait_free(w);
        return a;
    }
    struct dns_question q;
    bool ok = dns_question_init(&q, name, type);
    return dns_answer_failed(ok ? &q : NULL, name, DNS_TEMPFAIL, NULL);
}

void dns_stats(struct dns *d, struct dns_stats *out)
{
    lock_take(&d->lock);
    *out = d->stats;
    out->cached = dns_cache_answers(d->cache);
    out->pending = dns_cache_pending(d->cache);
    lock_drop(&d->lock);
    out->sent = atomic_load_explicit(&d->sent, memory_order_relaxed);
    out->timeouts = atomic_load_explicit(&d->timeouts, memory_order_relaxed);
}

/*
 * Life of a session here:
 *
 *   accept -> NEW -> RUNNABLE -> RUNNING -+-> PARKED (in the wheel, armed in epoll) -> RUNNABLE
 *                                         +-> WAIT_TIMER (in the wheel only)        -> RUNNABLE
 *                                         +-> WAIT_COMMIT (a callback will come)    -> RUNNABLE
 *                                         +-> CLOSED
 *
 * PARKED and WAIT_TIMER sessions are in the wheel; who takes one out of it under `m` owns it. Events carry slot and
 * generation, never a pointer: a stale event of a closed session finds another generation or no session.
 * Arming is the last thing a worker does with a session it parks; then it touches nothing of it.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "daemon/reactor_internal.h"

#define KEY_WAKE UINT64_MAX
#define KEY_LISTENER (UINT64_C(1) << 63) /* | index; session generations stay below 2^31 */
#define ACCEPT_PAUSE_MS 1000
#define SLEEP_MAX_MS 10000 /* only timers shorter than this have to wake a sleeping poller */

struct counted_listener {
    struct listener l;
    atomic_uint refs;
    void (*free_arg)(void *arg);
};

struct listener *listener_new(const struct conf_service *svc, struct conf *conf, int fd, void *arg,
                              void (*free_arg)(void *arg))
{
    struct counted_listener *c = xcalloc(1, sizeof *c);
    c->l = (struct listener){ .service = svc, .conf = conf_ref(conf), .arg = arg, .fd = fd };
    atomic_init(&c->refs, 1);
    c->free_arg = free_arg;
    return &c->l;
}

struct listener *listener_ref(struct listener *l)
{
    atomic_fetch_add_explicit(&((struct counted_listener *)l)->refs, 1, memory_order_relaxed);
    return l;
}

void listener_unref(struct listener **lp)
{
    struct counted_listener *c = (struct counted_listener *)*lp;
    *lp = NULL;
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (c->free_arg != NULL)
        c->free_arg(c->l.arg);
    conf_unref(&c->l.conf);
    free(c);
}

/* Legal changes of place; anything else is our mistake. */
void sess_set_place(struct sess *s, enum sess_place to)
{
    enum sess_place from = atomic_load_explicit(&s->place, memory_order_relaxed);
    static const uint16_t allowed[] = {
        [SESS_NEW] = 1 << SESS_RUNNABLE | 1 << SESS_CLOSED,
        [SESS_PARKED] = 1 << SESS_RUNNABLE,
        [SESS_RUNNABLE] = 1 << SESS_RUNNING,
        [SESS_RUNNING] = 1 << SESS_PARKED | 1 << SESS_RUNNABLE | 1 << SESS_WAIT_COMMIT | 1 << SESS_WAIT_TIMER |
                         1 << SESS_CLOSED,
        [SESS_WAIT_COMMIT] = 1 << SESS_RUNNABLE,
        [SESS_WAIT_DNS] = 1 << SESS_RUNNABLE,
        [SESS_WAIT_TIMER] = 1 << SESS_RUNNABLE,
        [SESS_CLOSED] = 0,
    };
    if (UNLIKELY((allowed[from] & 1 << to) == 0)) {
        fprintf(stderr, "posthoused: session place %d -> %d\n", from, to);
        abort();
    }
    /* Handing over is ordered by the lock or the epoll call that follows; the field itself is for checks. */
    atomic_store_explicit(&s->place, (uint8_t)to, memory_order_relaxed);
}

struct reactor *reactor_new(const struct reactor_options *o, struct err *e)
{
    struct reactor *r = xcalloc(1, sizeof *r);
    r->o = *o;
    r->session_limit.parameter = "session_limit";
    r->epfd = epoll_create1(EPOLL_CLOEXEC);
    r->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = { .events = EPOLLIN, .data.u64 = KEY_WAKE };
    if (r->epfd < 0 || r->wakefd < 0 || epoll_ctl(r->epfd, EPOLL_CTL_ADD, r->wakefd, &ev) != 0) {
        err_set_sys(e, errno, "reactor: epoll");
        io_close(&r->epfd);
        io_close(&r->wakefd);
        free(r);
        return NULL;
    }
    lock_init(&r->m, LOCK_REACTOR_INBOX);
    lock_init(&r->q, LOCK_RUN_QUEUE);
    cond_init(&r->watchdog_wake);
    cond_init(&r->drained);
    cond_init(&r->accept_over);
    wheel_init(&r->wheel, clock_mono_ms());
    r->slot_count = o->session_limit;
    r->slots = xcalloc(r->slot_count, sizeof *r->slots);
    r->generations = xcalloc(r->slot_count, sizeof *r->generations);
    r->free_slots = xcalloc(r->slot_count, sizeof *r->free_slots);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    r->cpus = cpus > 0 ? (unsigned)cpus : 1;
    return r;
}

int reactor_start(struct reactor *r)
{
    return workers_start(r);
}

void reactor_wake_poller(struct reactor *r)
{
    uint64_t one = 1;
    if (write(r->wakefd, &one, sizeof one) < 0) { /* EAGAIN: the counter is full, so a wake-up is pending anyway */ }
}

/* The caller will close descriptors, and their numbers may become something else. A turn of accepting is short. */
static void wait_accept_over_locked(struct reactor *r) REQUIRES(&r->m)
{
    while (r->is_accepting)
        cond_wait(&r->accept_over, &r->m);
}

bool reactor_set_listeners(struct reactor *r, struct listener **l, size_t n, struct err *e)
{
    struct listener **copy = xcalloc(n, sizeof *copy);
    memcpy(copy, l, n * sizeof *copy);
    lock_take(&r->m);
    struct listener **old = r->listeners;
    size_t old_n = r->listener_count;
    for (size_t i = 0; i < old_n; i++)
        epoll_ctl(r->epfd, EPOLL_CTL_DEL, old[i]->fd, NULL);
    r->listeners = copy;
    r->listener_count = n;
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct epoll_event ev = { .events = EPOLLIN, .data.u64 = KEY_LISTENER | i };
        if (epoll_ctl(r->epfd, EPOLL_CTL_ADD, copy[i]->fd, &ev) != 0) {
            err_set_sys(e, errno, "watching the listening socket of service %s", copy[i]->service->name);
            ok = false;
        }
    }
    wait_accept_over_locked(r);
    lock_drop(&r->m);
    for (size_t i = 0; i < old_n; i++)
        listener_unref(&old[i]);
    free(old);
    return ok;
}

/* Gives the session a slot; false when session_limit is reached. */
static bool slot_take(struct reactor *r, struct sess *s)
{
    lock_take(&r->m);
    bool ok = (r->free_count > 0 || r->slots_used < r->slot_count) && !r->is_draining;
    if (ok) {
        s->slot = r->free_count > 0 ? r->free_slots[--r->free_count] : r->slots_used++;
        r->generations[s->slot] = (r->generations[s->slot] + 1) & 0x7fffffff;
        s->generation = r->generations[s->slot];
        r->slots[s->slot] = s;
        atomic_fetch_add_explicit(&r->sessions, 1, memory_order_relaxed);
    }
    lock_drop(&r->m);
    return ok;
}

static void slot_release(struct reactor *r, struct sess *s)
{
    lock_take(&r->m);
    r->slots[s->slot] = NULL;
    r->free_slots[r->free_count++] = s->slot;
    if (atomic_fetch_sub_explicit(&r->sessions, 1, memory_order_relaxed) == 1 && r->is_draining)
        cond_broadcast(&r->drained);
    lock_drop(&r->m);
}

/* The one place where a session ends. */
static void sess_end(struct reactor *r, struct sess *s)
{
    struct listener *l = s->listener;
    io_close(&s->fd);
    sess_set_place(s, SESS_CLOSED);
    slot_release(r, s);
    s->ops->destroy(s);
    listener_unref(&l);
}

static void refuse_over_limit(struct reactor *r, int fd)
{
    static const char text[] = "421 4.3.2 All server ports are busy\r\n";
    if (send(fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) { /* it is told, or it is gone */ }
    close(fd);
    atomic_fetch_add_explicit(&r->refused, 1, memory_order_relaxed);
    limit_reached(&r->session_limit, r->o.log, r->o.session_limit, "connections are refused");
}

static void accept_one(struct reactor *r, struct listener *l, int fd, const struct sockaddr_storage *ss,
                       struct run_list *out)
{
    struct ip_addr peer;
    uint16_t port = 0;
    if (!ip_from_sockaddr((const struct sockaddr *)ss, &peer, &port)) {
        close(fd);
        return;
    }
    struct sess *s = r->o.create(l, fd, &peer, port, r->o.create_arg);
    if (s == NULL) {
        close(fd);
        return;
    }
    s->reactor = r;
    s->fd = fd;
    s->peer = peer;
    s->peer_port = port;
    s->listener = listener_ref(l);
    if (!slot_take(r, s)) {
        refuse_over_limit(r, fd);
        s->fd = -1;
        struct listener *own = s->listener;
        sess_set_place(s, SESS_CLOSED);
        s->ops->destroy(s);
        listener_unref(&own);
        return;
    }
    atomic_fetch_add_explicit(&r->accepted, 1, memory_order_relaxed);
    s->wake = WAKE_START;
    sess_set_place(s, SESS_RUNNABLE);
    run_list_push(out, s);
}

static void pause_accepting(struct reactor *r, int sys)
{
    char why[128];
    char text[200];
    uint64_t missed = 0;
    r->accept_pause_until_ms = clock_mono_ms() + ACCEPT_PAUSE_MS;
    if (!log_once_a_minute(&r->pause_told_ms, &r->pause_untold, &missed))
        return;
    snprintf(text, sizeof text, "accept: %s: no new connections for %d ms", strerror_r(sys, why, sizeof why), ACCEPT_PAUSE_MS);
    log_warn(r->o.log, "%s", text);
    if (r->o.trouble != NULL)
        r->o.trouble(r->o.trouble_arg, "accept", text);
}

static void accept_ready(struct reactor *r, size_t index, unsigned room, struct run_list *out)
{
    struct listener *l = NULL;
    if (out->n >= room)
        return; /* they wait in the kernel */
    lock_take(&r->m);
    if (index < r->listener_count) {
        l = listener_ref(r->listeners[index]);
        r->is_accepting = true;
    }
    lock_drop(&r->m);
    if (l == NULL)
        return;
    for (unsigned i = 0; i < room && out->n < room && r->accept_pause_until_ms <= clock_mono_ms(); i++) {
        struct sockaddr_storage ss;
        socklen_t len = sizeof ss;
        int fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accept_one(r, l, fd, &ss, out);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            pause_accepting(r, errno);
        else if (errno == EINTR || errno == ECONNABORTED)
            continue;
        break;
    }
    lock_take(&r->m);
    r->is_accepting = false;
    cond_broadcast(&r->accept_over);
    lock_drop(&r->m);
    listener_unref(&l);
}

/* An event of a session: ours when it is still parked in that generation. */
static void session_ready(struct reactor *r, uint64_t key, struct run_list *out)
{
    uint32_t slot = (uint32_t)key, generation = (uint32_t)(key >> 32);
    lock_take(&r->m);
    struct sess *s = slot < r->slot_count ? r->slots[slot] : NULL;
    if (s != NULL && s->generation == generation &&
        atomic_load_explicit(&s->place, memory_order_relaxed) == SESS_PARKED) {
        wheel_remove(&r->wheel, s);
        sess_set_place(s, SESS_RUNNABLE);
        s->wake = WAKE_READY;
        run_list_push(out, s);
    }
    lock_drop(&r->m);
}

static void expire_timers(struct reactor *r, struct run_list *out)
{
    int64_t now = clock_mono_ms();
    struct sess *s;
    lock_take(&r->m);
    while ((s = wheel_expire(&r->wheel, now)) != NULL) {
        sess_set_place(s, SESS_RUNNABLE);
        s->wake = WAKE_TIMEOUT;
        run_list_push(out, s);
    }
    lock_drop(&r->m);
}

int reactor_timer_wait_ms(struct reactor *r)
{
    int64_t now = clock_mono_ms();
    lock_take(&r->m);
    int ms = wheel_wait_ms(&r->wheel, now);
    if (ms < 0 || ms > SLEEP_MAX_MS)
        ms = SLEEP_MAX_MS;
    r->sleep_until_ms = now + ms;
    lock_drop(&r->m);
    return ms;
}

/* While accepting is paused, listening sockets stay readable: waiting for them would spin, so their events are masked. */
static void mask_listeners(struct reactor *r, bool off)
{
    lock_take(&r->m);
    for (size_t i = 0; i < r->listener_count; i++) {
        struct epoll_event ev = { .events = off ? 0 : EPOLLIN, .data.u64 = KEY_LISTENER | i };
        epoll_ctl(r->epfd, EPOLL_CTL_MOD, r->listeners[i]->fd, &ev);
    }
    lock_drop(&r->m);
}

static void handle_event(struct reactor *r, const struct epoll_event *ev, unsigned room, struct run_list *out, struct run_list *fresh)
{
    uint64_t key = ev->data.u64;
    if (key == KEY_WAKE) {
        uint64_t n;
        if (read(r->wakefd, &n, sizeof n) < 0) { /* somebody else drained it */ }
    } else if (key & KEY_LISTENER) {
        accept_ready(r, (size_t)(key & ~KEY_LISTENER), room, fresh);
    } else {
        session_ready(r, key, out);
    }
}

void reactor_poll(struct reactor *r, int timeout_ms, unsigned room, struct run_list *out, struct run_list *fresh)
{
    struct epoll_event ev[POLL_EVENTS];
    bool paused = r->accept_pause_until_ms != 0;
    if (paused && clock_mono_ms() >= r->accept_pause_until_ms) {
        r->accept_pause_until_ms = 0;
        mask_listeners(r, false);
    } else if (paused) {
        mask_listeners(r, true);
        int left = clock_poll_ms(r->accept_pause_until_ms);
        if (timeout_ms < 0 || timeout_ms > left)
            timeout_ms = left;
    }
    int n = epoll_wait(r->epfd, ev, POLL_EVENTS, timeout_ms);
    lock_take(&r->m);
    r->sleep_until_ms = 0;
    lock_drop(&r->m);
    atomic_fetch_add_explicit(&r->polls, 1, memory_order_relaxed);
    for (int i = 0; i < n; i++)
        handle_event(r, &ev[i], room, out, fresh);
    expire_timers(r, out);
}

/* Inserts into the wheel; true when the poller sleeps past that time and must be woken (after dropping the lock). */
static bool set_timer_locked(struct reactor *r, struct sess *s) REQUIRES(&r->m)
{
    wheel_insert(&r->wheel, s, s->deadline_ms);
    if (s->deadline_ms >= r->sleep_until_ms)
        return false;
    r->sleep_until_ms = s->deadline_ms;
    return true;
}

/*
 * Arming is done under the lock, although it is a system call: between dropping the lock and arming, a timer or a
 * drain could end the session, and its descriptor number could already be another session's.
 */
static bool park(struct reactor *r, struct sess *s, enum sess_wait w)
{
    if (s->ops->park != NULL)
        s->ops->park(s);
    int op = s->is_armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    bool failed = false, wake = false;
    struct epoll_event ev = {
        .events = (w == WAIT_OUTPUT ? EPOLLOUT : EPOLLIN | EPOLLRDHUP) | EPOLLONESHOT,
        .data.u64 = (uint64_t)s->generation << 32 | s->slot,
    };
    lock_take(&r->m);
    bool draining = r->is_draining && !s->was_shutdown;
    if (!draining) {
        s->is_armed = true;
        sess_set_place(s, SESS_PARKED);
        wake = set_timer_locked(r, s);
        failed = epoll_ctl(r->epfd, op, s->fd, &ev) != 0;
    }
    lock_drop(&r->m);
    if (draining) { /* it would never be told otherwise */
        s->wake = WAKE_SHUTDOWN;
        return true;
    }
    if (wake)
        reactor_wake_poller(r);
    if (failed) /* no memory for the watch: the timer still finds the session */
        log_warn(r->o.log, "epoll_ctl: %m: a session waits for its time-out");
    return false;
}

bool reactor_settle(struct reactor *r, struct sess *s, enum sess_wait w)
{
    uint8_t expected = 0;
    bool wake;
    switch (w) {
    case WAIT_INPUT:
    case WAIT_OUTPUT:
        return park(r, s, w);
    case WAIT_TIMER:
        lock_take(&r->m);
        if (r->is_draining && !s->was_shutdown) { /* who drains has looked at those that waited */
            lock_drop(&r->m);
            s->wake = WAKE_SHUTDOWN;
            return true;
        }
        sess_set_place(s, SESS_WAIT_TIMER);
        wake = set_timer_locked(r, s);
        lock_drop(&r->m);
        if (wake)
            reactor_wake_poller(r);
        return false;
    case WAIT_CALLBACK:
        sess_set_place(s, SESS_WAIT_COMMIT);
        /* 0 -> 1: the callback will queue it; it was 2: the callback came first. Pairs with sess_resume(). */
        if (atomic_compare_exchange_strong(&s->resume_state, &expected, 1))
            return false;
        atomic_store(&s->resume_state, 0);
        sess_set_place(s, SESS_RUNNABLE);
        sess_set_place(s, SESS_RUNNING);
        s->wake = WAKE_CALLBACK;
        return true;
    case WAIT_AGAIN:
        s->wake = WAKE_READY;
        return true;
    case WAIT_DONE:
        sess_end(r, s);
        return false;
    }
    abort();
}

void sess_resume(struct sess *s)
{
    uint8_t expected = 1;
    if (!atomic_compare_exchange_strong(&s->resume_state, &expected, 0)) {
        expected = 0;
        if (atomic_compare_exchange_strong(&s->resume_state, &expected, 2))
            return; /* early: reactor_settle() will see it */
        expected = 1;
        if (!atomic_compare_exchange_strong(&s->resume_state, &expected, 0))
            abort(); /* resumed twice */
    }
    struct run_list one = { 0 };
    sess_set_place(s, SESS_RUNNABLE);
    s->wake = WAKE_CALLBACK;
    run_list_push(&one, s);
    workers_push(s->reactor, &one, true);
}

const struct limit *reactor_session_limit(const struct reactor *r)
{
    return &r->session_limit;
}

bool reactor_is_crowded(struct reactor *r)
{
    unsigned n = atomic_load_explicit(&r->sessions, memory_order_relaxed);
    return n > r->o.session_limit - r->o.session_limit / 10;
}

bool reactor_drain(struct reactor *r, int64_t deadline_ms)
{
    struct run_list l = { 0 };
    struct listener **old;
    lock_take(&r->m);
    r->is_draining = true;
    old = r->listeners;
    size_t n = r->listener_count;
    for (size_t i = 0; i < n; i++)
        epoll_ctl(r->epfd, EPOLL_CTL_DEL, old[i]->fd, NULL);
    r->listeners = NULL;
    r->listener_count = 0;
    wait_accept_over_locked(r);
    for (uint32_t i = 0; i < r->slot_count; i++) {
        struct sess *s = r->slots[i];
        enum sess_place p = s ? atomic_load_explicit(&s->place, memory_order_relaxed) : SESS_CLOSED;
        if (p != SESS_PARKED && p != SESS_WAIT_TIMER)
            continue;
        wheel_remove(&r->wheel, s);
        sess_set_place(s, SESS_RUNNABLE);
        s->wake = WAKE_SHUTDOWN;
        run_list_push(&l, s);
    }
    lock_drop(&r->m);
    for (size_t i = 0; i < n; i++)
        listener_unref(&old[i]);
    free(old);
    workers_push(r, &l, false);
    lock_take(&r->m);
    while (atomic_load(&r->sessions) > 0 && cond_wait_until(&r->drained, &r->m, deadline_ms)) { }
    bool gone = atomic_load(&r->sessions) == 0;
    lock_drop(&r->m);
    return gone;
}

void reactor_free(struct reactor **rp)
{
    struct reactor *r = *rp;
    if (r == NULL)
        return;
    workers_stop(r);
    for (uint32_t i = 0; i < r->slot_count; i++) {
        struct sess *s = r->slots[i];
        if (s == NULL)
            continue;
        struct listener *l = s->listener;
        io_close(&s->fd);
        s->ops->destroy(s);
        listener_unref(&l);
    }
    for (size_t i = 0; i < r->listener_count; i++)
        listener_unref(&r->listeners[i]);
    free(r->listeners);
    io_close(&r->epfd);
    io_close(&r->wakefd);
    free(r->slots);
    free(r->generations);
    free(r->free_slots);
    cond_destroy(&r->watchdog_wake);
    cond_destroy(&r->drained);
    cond_destroy(&r->accept_over);
    lock_destroy(&r->m);
    lock_destroy(&r->q);
    free(r);
    *rp = NULL;
}

/*
 * The pool: leader and followers.
 *
 * A worker takes the next runnable session; when there is none and nobody polls, it polls (it is the leader); when
 * somebody does, it goes to sleep on the idle stack. A batch of events is queued; the leader takes its first session
 * itself and wakes one more worker when WAKE_FROM others are left, which wakes the next, as long as fewer workers than processors
 * are awake (running, woken, or looking for work; not asleep in epoll_wait): more would only take turns. Steps that block say so (reactor_will_block) or are noticed by the watchdog, which then
 * wakes workers beyond that number, up to the pool's limit.
 *
 * Wake-ups are safe because everything that decides (queues, has_poller, idle stack, woken) is under `q`: a session is
 * queued before the waker looks for an idle worker, and a worker looks at the queues before it goes idle.
 */
#include <errno.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "daemon/reactor_internal.h"

#define WAKE_FROM 3         /* sessions left: fewer are done before another worker is awake, and cost less so */
#define POLL_EVERY_POPS 16  /* with a long queue, look for new events this often */
#define WATCH_BUSY_MS 5
#define WATCH_IDLE_MS 100
#define WORKER_STACK_BYTES (512 * 1024)

void run_list_push(struct run_list *l, struct sess *s)
{
    s->run_next = NULL;
    if (l->tail != NULL)
        l->tail->run_next = s;
    else
        l->head = s;
    l->tail = s;
    l->n++;
}

static struct sess *run_list_pop(struct run_list *l)
{
    struct sess *s = l->head;
    if (s == NULL)
        return NULL;
    l->head = s->run_next;
    if (l->head == NULL)
        l->tail = NULL;
    l->n--;
    s->run_next = NULL;
    return s;
}

static void run_list_join(struct run_list *to, struct run_list *from)
{
    if (from->head == NULL)
        return;
    if (to->tail != NULL)
        to->tail->run_next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    to->n += from->n;
    *from = (struct run_list){ 0 };
}

static void *worker_main(void *arg);

/* The newest idle worker, as one that is woken: the caller signals it. NULL when none is idle. */
static struct worker *take_idle_locked(struct reactor *r) REQUIRES(&r->q)
{
    struct worker *w = r->idle;
    if (w == NULL)
        return NULL;
    r->idle = w->idle_next;
    r->idle_count--;
    w->woken = true;
    r->awake++;
    atomic_fetch_add_explicit(&r->wakeups, 1, memory_order_relaxed);
    return w;
}

/* Wakes the newest idle worker, or starts one. False when neither is possible. */
static bool wake_one_locked(struct reactor *r) REQUIRES(&r->q)
{
    struct worker *w = take_idle_locked(r);
    if (w != NULL) {
        cond_signal(&w->wake);
        return true;
    }
    if (r->started >= r->o.workers || r->stopping)
        return false;
    w = &r->workers[r->started];
    w->r = r;
    cond_init(&w->wake);
    int rc = thread_start(&w->thread, "worker", WORKER_STACK_BYTES, worker_main, w);
    if (rc != 0) {
        cond_destroy(&w->wake);
        atomic_store(&r->thread_error, rc);
        return false;
    }
    r->started++;
    r->awake++;
    return true;
}

/* What wake_one_locked() could not say under its lock. Those that run go on with the sessions. */
static void tell_no_thread(struct reactor *r)
{
    char text[160];
    uint64_t missed;
    int rc = atomic_load_explicit(&r->thread_error, memory_order_relaxed) != 0 ? atomic_exchange(&r->thread_error, 0) : 0;
    if (rc == 0 || !log_once_a_minute(&r->thread_told_ms, &r->thread_untold, &missed))
        return;
    lock_take(&r->q);
    unsigned running = r->started;
    lock_drop(&r->q);
    snprintf(text, sizeof text, "cannot start a worker thread (%u running): %s", running, strerrordesc_np(rc));
    log_error(r->o.log, "%s", text);
    if (r->o.trouble != NULL)
        r->o.trouble(r->o.trouble_arg, "worker thread", text);
}

static unsigned queued_locked(const struct reactor *r)
{
    return r->resumed.n + r->ready.n + r->fresh.n + r->bulk.n;
}

/*
 * Two lists for those that must not keep the others waiting at every command they send: who sends as fast as it can always has input,
 * and a turn of it is long (64 KiB); and new sessions come as fast as somebody likes to connect. Both have a share of the turns.
 * More new ones than ACCEPT_PER_TURN are left to the kernel.
 */
static void put_bulk_aside_locked(struct reactor *r) REQUIRES(&r->q)
{
    while (r->ready.head != NULL && r->ready.head->is_bulk)
        run_list_push(&r->bulk, run_list_pop(&r->ready));
}

struct sess *run_next_locked(struct reactor *r)
{
    struct sess *s;
    if (r->bulk.n > 0 && r->pops % BULK_EVERY_POPS == 0)
        return run_list_pop(&r->bulk);
    if (r->fresh.n > 0 && r->pops % FRESH_EVERY_POPS == FRESH_EVERY_POPS / 2)
        return run_list_pop(&r->fresh);
    if ((s = run_list_pop(&r->resumed)) != NULL)
        return s;
    put_bulk_aside_locked(r);
    if ((s = run_list_pop(&r->ready)) != NULL || (s = run_list_pop(&r->fresh)) != NULL)
        return s;
    return run_list_pop(&r->bulk);
}

/*
 * With a queue that does not end new events are looked for every POLL_EVERY_POPS turns. When only those are left who send as fast as
 * they can, before each turn: it is long, and whoever else has something to say would wait for as many of them at every command.
 */
bool is_time_to_look_locked(struct reactor *r)
{
    if (r->has_poller || r->pops == r->looked_at_pops)
        return false;
    if (r->pops % POLL_EVERY_POPS == POLL_EVERY_POPS - 1)
        return true;
    put_bulk_aside_locked(r);
    return r->resumed.n == 0 && r->ready.n == 0 && r->fresh.n == 0 && r->bulk.n > 0;
}

void workers_push(struct reactor *r, struct run_list *l, bool resumed)
{
    bool kick = false;
    lock_take(&r->q);
    run_list_join(resumed ? &r->resumed : &r->ready, l);
    unsigned queued = queued_locked(r);
    if ((queued >= WAKE_FROM || (queued > 0 && r->awake == 0)) && r->awake < r->cpus &&
        !wake_one_locked(r)) /* under the lock: who calls may be slower than the end of the reactor */
        kick = r->poller_sleeps;
    lock_drop(&r->q);
    if (kick)
        reactor_wake_poller(r);
    tell_no_thread(r);
}

/* Runs one session until it waits or has had its turn. True when it must be queued again. */
static bool run_session(struct reactor *r, struct worker *w, struct sess *s)
{
    sess_set_place(s, SESS_RUNNING);
    s->worker = w;
    for (int i = 0; i < STEPS_PER_TURN; i++) {
        enum sess_wake why = s->wake;
        if (why == WAKE_SHUTDOWN)
            s->was_shutdown = true;
        atomic_fetch_add_explicit(&r->steps, 1, memory_order_relaxed);
        enum sess_wait wait = s->ops->step(s, why);
        if (!reactor_settle(r, s, wait))
            return false;
    }
    sess_set_place(s, SESS_RUNNABLE);
    return true;
}

static void step_locked(struct reactor *r, struct worker *w, struct sess *s) REQUIRES(&r->q)
{
    r->in_step++;
    r->pops++;
    struct worker *next = NULL;
    if (queued_locked(r) >= WAKE_FROM && r->awake < r->cpus && (next = take_idle_locked(r)) == NULL)
        (void)wake_one_locked(r);
    lock_drop(&r->q);
    if (next != NULL) /* under the lock it would wake only to wait for it */
        cond_signal(&next->wake);
    bool again = run_session(r, w, s);
    lock_take(&r->q);
    r->in_step--;
    if (w->is_blocking) {
        w->is_blocking = false;
        r->awake++;
    }
    if (again)
        run_list_push(&r->ready, s);
}

static void poll_locked(struct reactor *r, bool may_sleep) REQUIRES(&r->q)
{
    struct run_list found = { 0 }, fresh = { 0 };
    unsigned room = r->fresh.n < ACCEPT_PER_TURN ? ACCEPT_PER_TURN - r->fresh.n : 0;
    r->has_poller = true;
    r->looked_at_pops = r->pops;
    r->poller_sleeps = may_sleep;
    r->awake -= may_sleep;
    lock_drop(&r->q);
    reactor_poll(r, may_sleep ? reactor_timer_wait_ms(r) : 0, room, &found, &fresh);
    lock_take(&r->q);
    r->has_poller = false;
    r->poller_sleeps = false;
    r->awake += may_sleep;
    run_list_join(&r->ready, &found);
    run_list_join(&r->fresh, &fresh);
}

static void go_idle_locked(struct reactor *r, struct worker *w) REQUIRES(&r->q)
{
    w->woken = false;
    w->idle_next = r->idle;
    r->idle = w;
    r->idle_count++;
    r->awake--;
    while (!w->woken && !r->stopping)
        cond_wait(&w->wake, &r->q);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct reactor *r = w->r;
    lock_take(&r->q);
    while (!r->stopping) {
        if (is_time_to_look_locked(r))
            poll_locked(r, false);
        struct sess *s = run_next_locked(r);
        if (s != NULL)
            step_locked(r, w, s);
        else if (!r->has_poller)
            poll_locked(r, true);
        else
            go_idle_locked(r, w);
    }
    lock_drop(&r->q);
    return NULL;
}

void reactor_will_block(struct sess *s)
{
    struct reactor *r = s->reactor;
    lock_take(&r->q);
    if (!s->worker->is_blocking) {
        s->worker->is_blocking = true;
        r->awake--;
        if (!r->has_poller || queued_locked(r) > 0)
            (void)wake_one_locked(r);
    }
    lock_drop(&r->q);
    tell_no_thread(r);
}

/* Notices steps that take long without having said so: nobody popped a session for a tick, yet there is work or no poller. */
static void *watchdog_main(void *arg)
{
    struct reactor *r = arg;
    uint64_t seen = 0;
    lock_take(&r->q);
    while (!r->stopping) {
        bool busy = r->in_step > 0;
        bool stuck = busy && r->pops == seen && (!r->has_poller || queued_locked(r) > 0);
        if (stuck)
            (void)wake_one_locked(r);
        seen = r->pops;
        (void)cond_wait_until(&r->watchdog_wake, &r->q, clock_mono_ms() + (busy ? WATCH_BUSY_MS : WATCH_IDLE_MS));
    }
    lock_drop(&r->q);
    return NULL;
}

int workers_start(struct reactor *r)
{
    r->workers = xcalloc(r->o.workers, sizeof *r->workers);
    lock_take(&r->q);
    bool ok = wake_one_locked(r);
    lock_drop(&r->q);
    if (!ok)
        return EAGAIN;
    int rc = thread_start(&r->watchdog, "watchdog", 64 * 1024, watchdog_main, r);
    r->watchdog_started = rc == 0;
    return rc;
}

void workers_stop(struct reactor *r)
{
    lock_take(&r->q);
    r->stopping = true;
    unsigned n = r->started;
    for (unsigned i = 0; i < n; i++)
        cond_signal(&r->workers[i].wake);
    cond_signal(&r->watchdog_wake);
    lock_drop(&r->q);
    reactor_wake_poller(r);
    for (unsigned i = 0; i < n; i++)
        pthread_join(r->workers[i].thread, NULL);
    if (r->watchdog_started)
        pthread_join(r->watchdog, NULL);
    for (unsigned i = 0; i < n; i++) /* nobody signals them any more */
        cond_destroy(&r->workers[i].wake);
    free(r->workers);
    r->workers = NULL;
}

struct reactor_stats reactor_stats(struct reactor *r)
{
    struct reactor_stats st = {
        .sessions = atomic_load(&r->sessions), .accepted = atomic_load(&r->accepted),
        .refused = atomic_load(&r->refused), .steps = atomic_load(&r->steps), .polls = atomic_load(&r->polls),
        .wakeups = atomic_load(&r->wakeups),
    };
    lock_take(&r->q);
    st.workers = r->started;
    st.workers_idle = r->idle_count;
    lock_drop(&r->q);
    return st;
}

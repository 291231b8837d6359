/*
 * The pool of delivery threads.
 *
 * Threads are started when the scheduler says there is work and none is idle, up to the limit. Idle ones lie on a stack,
 * newest on top; each has a condition variable of its own, so a wake-up disturbs exactly one thread and the same few stay
 * hot. A thread that was idle for IDLE_MS ends and puts itself on the list of ended threads; whoever comes next joins it.
 * One is started with the pool and the last one never ends: when the system has no more threads to give, mail still leaves.
 *
 * Wake-ups are handed on like buckets: deliver_pool_wake() notes how many jobs wait (`wanted`) and wakes one thread; a
 * thread that got a job wakes the next, if jobs still wait, before it begins. So jobs that take microseconds are done by
 * a few threads that stay hot, and slow ones soon have as many threads as the scheduler allows.
 *
 * No wake-up is lost: deliver_pool_wake() counts itself in `calls`. A thread reads `calls` before it asks the scheduler
 * and looks again, under the lock, before it lies down; if it changed it asks once more.
 *
 * Parked connections are closed by the thread at the bottom of the stack, the one that is woken last: it sleeps until
 * the first of them expires. A thread that parked one with an earlier expiry than the bottom thread knows wakes it.
 */
#include <errno.h>
#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "daemon/deliver.h"
#include "daemon/smtp/conn_cache.h"

#define IDLE_MS     30000
#define STACK_BYTES (256 * 1024)

struct worker {
    struct deliver_pool *pool;  /* immutable */
    pthread_t thread;           /* written by the thread itself, read by who joins it */
    struct cond wake;           /* with pool->m */
    bool is_woken;              /* guarded by pool->m: taken off the idle stack by somebody else */
    bool is_waking;             /* guarded by pool->m: woken or started, and has not asked for a job since */
    struct worker *above, *below; /* idle stack, guarded by pool->m */
    struct worker *ended_next;  /* ended or spare, guarded by pool->m */
};

struct deliver_pool {
    struct deliver_env env;     /* immutable */
    unsigned limit;             /* immutable */
    struct lock m;              /* DELIVERY_POOL: all below that is not atomic */
    struct cond changed;        /* a thread was started or ended, for deliver_pool_stop() */
    struct worker *top, *bottom;
    struct worker *ended;       /* threads to join */
    struct worker *spare;       /* to be used again, never freed before the pool: who woke one may still be about to signal it */
    unsigned count;             /* threads that exist or are being started */
    _Atomic bool is_stopping;   /* changed under m; read without by threads about to ask */
    _Atomic uint64_t calls;     /* of deliver_pool_wake(); changed under m; read without by threads about to ask */
    _Atomic unsigned wanted;    /* jobs announced and not yet taken, at a guess; changed under m, read without */
    unsigned waking;            /* threads with is_waking */
    _Atomic int64_t told_ms;    /* of a thread that could not be started */
    _Atomic uint64_t untold;
    _Atomic int64_t watch_ms;   /* when the bottom thread looks at the parked connections; CLOCK_NEVER: nobody idle looks */
};

static void push_idle(struct deliver_pool *p, struct worker *w) REQUIRES(&p->m)
{
    w->is_woken = false;
    w->above = NULL;
    w->below = p->top;
    if (p->top)
        p->top->above = w;
    else
        p->bottom = w;
    p->top = w;
}

static void take_idle(struct deliver_pool *p, struct worker *w) REQUIRES(&p->m)
{
    if (w->above)
        w->above->below = w->below;
    else
        p->top = w->below;
    if (w->below)
        w->below->above = w->above;
    else
        p->bottom = w->above;
    w->above = w->below = NULL;
}

/* The bottom thread must learn of an earlier expiry, or of its new duty. */
static void tell_bottom(struct deliver_pool *p) REQUIRES(&p->m)
{
    if (p->bottom && conn_cache_next_ms(p->env.conn_cache) < atomic_load(&p->watch_ms))
        cond_signal(&p->bottom->wake);
}

/* It has asked for a job, or gives up. */
static void stop_waking(struct deliver_pool *p, struct worker *w) REQUIRES(&p->m)
{
    if (w->is_waking)
        p->waking--;
    w->is_waking = false;
}

/* The thread ends: in the same breath as the decision, so that a wake-up that comes now starts another. */
static void leave(struct deliver_pool *p, struct worker *w) REQUIRES(&p->m)
{
    stop_waking(p, w);
    w->ended_next = p->ended;
    p->ended = w;
    p->count--;
    cond_broadcast(&p->changed);
}

/* Lies down until woken. False when the thread has left the pool and shall end. */
static bool wait_idle(struct worker *w, uint64_t seen)
{
    struct deliver_pool *p = w->pool;
    int64_t end_ms = clock_mono_ms() + IDLE_MS;
    bool go_on = true;
    lock_take(&p->m);
    if (!p->is_stopping && atomic_load(&p->calls) == seen) {
        atomic_store(&p->wanted, 0); /* nothing was announced since the scheduler had nothing */
        stop_waking(p, w);
        push_idle(p, w);
        tell_bottom(p);
        while (!w->is_woken && !p->is_stopping) {
            int64_t until = end_ms;
            if (p->bottom == w) {
                int64_t next = conn_cache_next_ms(p->env.conn_cache);
                until = next < end_ms ? next : end_ms;
                atomic_store(&p->watch_ms, next < end_ms ? next : CLOCK_NEVER);
            }
            if (cond_wait_until(&w->wake, &p->m, until) || w->is_woken)
                continue;
            int64_t now = clock_mono_ms();
            if (p->bottom == w && conn_cache_next_ms(p->env.conn_cache) <= now) {
                lock_drop(&p->m);
                conn_cache_sweep(p->env.conn_cache, now);
                lock_take(&p->m);
            } else if (now >= end_ms && p->count == 1) {
                end_ms = now + IDLE_MS; /* the last one stays: see the top */
            } else if (now >= end_ms && (p->bottom != w || conn_cache_next_ms(p->env.conn_cache) == CLOCK_NEVER)) {
                go_on = false; /* the bottom thread stays while connections are parked */
                break;
            }
        }
        if (!w->is_woken)
            take_idle(p, w);
        if (p->bottom == NULL)
            atomic_store(&p->watch_ms, CLOCK_NEVER);
        else
            tell_bottom(p);
    }
    if (p->is_stopping)
        go_on = false;
    if (!go_on)
        leave(p, w);
    lock_drop(&p->m);
    return go_on;
}

/* Nothing is known of the command: the mail waits until master.cf is mended. */
static void no_agent(struct deliver_env *env, struct job *j)
{
    struct delivery_result r = { .outcome = OUTCOME_DEFERRED, .dsn = SPAN_LIT("4.3.0"), .relay = SPAN_LIT("none"),
                                 .reason = SPAN_LIT("mail transport unavailable") };
    log_warn(env->log, "transport %s: this program cannot run command %s", j->transport->name, j->transport->command);
    sched_report_all(env->sched, j, &r);
    sched_finish(env->sched, &j, SITE_NEUTRAL);
}

static void run_job(struct deliver_pool *p, struct job *j)
{
    deliver_fn *agent = deliver_agent(j->transport->command);
    (agent ? agent : no_agent)(&p->env, j);
    if (conn_cache_next_ms(p->env.conn_cache) < atomic_load(&p->watch_ms)) {
        lock_take(&p->m);
        tell_bottom(p);
        lock_drop(&p->m);
    }
}

static void wake_next(struct deliver_pool *p);

/* This thread has taken a job: the next one wakes when more are waiting. */
static void hand_on(struct worker *w)
{
    struct deliver_pool *p = w->pool;
    if (atomic_load_explicit(&p->wanted, memory_order_relaxed) == 0 && !w->is_waking)
        return;
    lock_take(&p->m);
    stop_waking(p, w);
    unsigned wanted = atomic_load(&p->wanted);
    if (wanted > 0)
        atomic_store(&p->wanted, wanted - 1);
    lock_drop(&p->m);
    if (wanted > 1)
        wake_next(p);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct deliver_pool *p = w->pool;
    uint64_t seen;
    w->thread = pthread_self();
    do {
        struct job *j;
        seen = atomic_load(&p->calls);
        while (!atomic_load(&p->is_stopping) && (j = sched_next(p->env.sched, NULL)) != NULL) {
            hand_on(w);
            run_job(p, j);
        }
    } while (wait_idle(w, seen));
    return NULL;
}

static void spare_put(struct deliver_pool *p, struct worker *w) REQUIRES(&p->m)
{
    w->ended_next = p->spare;
    p->spare = w;
}

static struct worker *spare_take(struct deliver_pool *p)
{
    lock_take(&p->m);
    struct worker *w = p->spare;
    if (w != NULL)
        p->spare = w->ended_next;
    lock_drop(&p->m);
    if (w == NULL) {
        w = xcalloc(1, sizeof *w);
        w->pool = p;
        cond_init(&w->wake);
    }
    return w;
}

static void join_ended(struct deliver_pool *p, struct worker *list)
{
    while (list) {
        struct worker *w = list;
        list = w->ended_next;
        pthread_join(w->thread, NULL);
        lock_take(&p->m);
        spare_put(p, w);
        lock_drop(&p->m);
    }
}

/* The place is already counted, in count and waking; a failure gives it back. Returns errno. */
static int start_one(struct deliver_pool *p)
{
    pthread_t id;
    struct worker *w = spare_take(p);
    w->is_waking = true;
    int rc = thread_start(&id, "delivery", STACK_BYTES, worker_main, w);
    if (rc == 0)
        return 0;
    lock_take(&p->m);
    spare_put(p, w);
    p->count--;
    p->waking--;
    cond_broadcast(&p->changed);
    lock_drop(&p->m);
    return rc;
}

static void tell_no_thread(struct deliver_pool *p, int rc)
{
    char text[160];
    uint64_t missed;
    if (!log_once_a_minute(&p->told_ms, &p->untold, &missed))
        return;
    lock_take(&p->m);
    unsigned left = p->count;
    lock_drop(&p->m);
    snprintf(text, sizeof text, "cannot start a delivery thread (%u running): %s", left, strerrordesc_np(rc));
    log_error(p->env.log, "%s", text);
    if (p->env.trouble != NULL)
        p->env.trouble(p->env.notices, "delivery thread", text);
}

/* Wakes the newest idle thread or starts one, unless one is on its way already: that one will hand on. */
static void wake_next(struct deliver_pool *p)
{
    bool start = false, wake = false;
    lock_take(&p->m);
    struct worker *ended = p->ended;
    p->ended = NULL;
    struct worker *w = p->top;
    if (p->waking == 0 && w != NULL) {
        take_idle(p, w);
        w->is_woken = w->is_waking = true;
        p->waking++;
        wake = true;
        if (p->bottom == NULL)
            atomic_store(&p->watch_ms, CLOCK_NEVER);
    } else if (p->waking == 0 && p->count < p->limit && !atomic_load(&p->is_stopping)) {
        start = true;
        p->waking++;
        p->count++;
    }
    lock_drop(&p->m);
    if (wake) /* under the lock it would wake only to wait for it */
        cond_signal(&w->wake);
    int rc = start ? start_one(p) : 0;
    if (rc != 0)
        tell_no_thread(p, rc); /* those that run take what waits */
    join_ended(p, ended);
}

void deliver_pool_wake(void *pool, unsigned count)
{
    struct deliver_pool *p = pool;
    lock_take(&p->m);
    unsigned wanted = atomic_load(&p->wanted);
    atomic_store(&p->wanted, count < p->limit - wanted ? wanted + count : p->limit);
    atomic_fetch_add(&p->calls, 1);
    bool needed = p->waking == 0;
    lock_drop(&p->m);
    if (needed)
        wake_next(p);
}

struct deliver_pool *deliver_pool_new(const struct deliver_env *env, unsigned threads, struct err *e)
{
    if (threads == 0) {
        err_set(e, "delivery_threads is 0: no mail could leave");
        return NULL;
    }
    struct deliver_pool *p = xcalloc(1, sizeof *p);
    p->env = *env;
    p->limit = threads;
    lock_init(&p->m, LOCK_DELIVERY_POOL);
    cond_init(&p->changed);
    atomic_init(&p->watch_ms, CLOCK_NEVER);
    p->count = p->waking = 1;
    int rc = start_one(p);
    if (rc != 0) {
        err_set_sys(e, rc, "starting a delivery thread");
        deliver_pool_free(&p);
    }
    return p;
}

bool deliver_pool_stop(struct deliver_pool *p, int64_t deadline_ms)
{
    lock_take(&p->m);
    atomic_store(&p->is_stopping, true);
    for (struct worker *w = p->top; w; w = w->below)
        cond_signal(&w->wake);
    while (p->count > 0 && cond_wait_until(&p->changed, &p->m, deadline_ms))
        ;
    bool all = p->count == 0;
    struct worker *ended = p->ended;
    p->ended = NULL;
    lock_drop(&p->m);
    join_ended(p, ended);
    return all;
}

void deliver_pool_free(struct deliver_pool **pp)
{
    struct deliver_pool *p = *pp;
    if (p == NULL)
        return;
    bool all = deliver_pool_stop(p, CLOCK_NEVER);
    (void)all;
    for (struct worker *w = p->spare, *next; w != NULL; w = next) {
        next = w->ended_next;
        cond_destroy(&w->wake);
        free(w);
    }
    cond_destroy(&p->changed);
    lock_destroy(&p->m);
    free(p);
    *pp = NULL;
}

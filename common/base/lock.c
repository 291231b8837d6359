#include <errno.h>
#include <signal.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/lock.h"

static const struct {
    const char *name;
    int rank;
} rows[] = {
#define LOCK(id, rank, guards) [LOCK_##id] = { #id, rank },
#include "common/base/locks.def"
#undef LOCK
};

#ifdef POSTHOUSE_DEBUG
#define HELD_MAX 16
static _Thread_local enum lock_id held[HELD_MAX];
static _Thread_local unsigned held_count;

static NORETURN void lock_breach(const char *what, enum lock_id id)
{
    fprintf(stderr, "lock order: %s %s (rank %d)", what, rows[id].name, rows[id].rank);
    for (unsigned i = 0; i < held_count; i++)
        fprintf(stderr, ", held %s (rank %d)", rows[held[i]].name, rows[held[i]].rank);
    fputc('\n', stderr);
    abort();
}

static void note_taken(enum lock_id id)
{
    for (unsigned i = 0; i < held_count; i++)
        if (rows[held[i]].rank >= rows[id].rank)
            lock_breach("taking", id);
    if (held_count == HELD_MAX)
        lock_breach("too many locks with", id);
    held[held_count++] = id;
}

static void note_dropped(enum lock_id id)
{
    for (unsigned i = held_count; i-- > 0;) {
        if (held[i] == id) {
            held[i] = held[--held_count];
            return;
        }
    }
    lock_breach("dropping", id);
}
#else
static inline void note_taken(enum lock_id id UNUSED) {}
static inline void note_dropped(enum lock_id id UNUSED) {}
#endif

static void must(int rc, const char *what)
{
    if (UNLIKELY(rc != 0)) {
        char why[128];
        fprintf(stderr, "posthouse: %s: %s\n", what, strerror_r(rc, why, sizeof why));
        abort();
    }
}

void lock_init(struct lock *l, enum lock_id id)
{
    /* Sections are short: who finds a lock taken looks a few more times before it sleeps, which costs more than most of them. */
    pthread_mutexattr_t a;
    must(pthread_mutexattr_init(&a), "pthread_mutexattr_init");
    must(pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ADAPTIVE_NP), "pthread_mutexattr_settype");
    must(pthread_mutex_init(&l->m, &a), "pthread_mutex_init");
    must(pthread_mutexattr_destroy(&a), "pthread_mutexattr_destroy");
    l->id = id;
}

void lock_destroy(struct lock *l)
{
    must(pthread_mutex_destroy(&l->m), "pthread_mutex_destroy");
}

void lock_take(struct lock *l) NO_THREAD_SAFETY
{
    note_taken(l->id);
    must(pthread_mutex_lock(&l->m), "pthread_mutex_lock");
}

void lock_drop(struct lock *l) NO_THREAD_SAFETY
{
    must(pthread_mutex_unlock(&l->m), "pthread_mutex_unlock");
    note_dropped(l->id);
}

void lock_assert_held(const struct lock *l UNUSED)
{
#ifdef POSTHOUSE_DEBUG
    for (unsigned i = 0; i < held_count; i++)
        if (held[i] == l->id)
            return;
    lock_breach("not held:", l->id);
#endif
}

const char *lock_name(enum lock_id id)
{
    return rows[id].name;
}

int lock_rank(enum lock_id id)
{
    return rows[id].rank;
}

void cond_init(struct cond *c)
{
    pthread_condattr_t attr;
    must(pthread_condattr_init(&attr), "pthread_condattr_init");
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC), "pthread_condattr_setclock");
    must(pthread_cond_init(&c->c, &attr), "pthread_cond_init");
    pthread_condattr_destroy(&attr);
}

void cond_destroy(struct cond *c)
{
    must(pthread_cond_destroy(&c->c), "pthread_cond_destroy");
}

void cond_wait(struct cond *c, struct lock *l)
{
    must(pthread_cond_wait(&c->c, &l->m), "pthread_cond_wait");
}

static bool timed_wait(struct cond *c, struct lock *l, const struct timespec *until)
{
    int rc = pthread_cond_timedwait(&c->c, &l->m, until);
    if (rc == ETIMEDOUT)
        return false;
    must(rc, "pthread_cond_timedwait");
    return true;
}

bool cond_wait_until(struct cond *c, struct lock *l, int64_t deadline_ms)
{
    if (deadline_ms == CLOCK_NEVER) {
        cond_wait(c, l);
        return true;
    }
    struct timespec ts = clock_timespec(deadline_ms);
    return timed_wait(c, l, &ts);
}

bool cond_wait_us(struct cond *c, struct lock *l, int64_t us)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t ns = ts.tv_nsec + us % 1000000 * 1000;
    ts.tv_sec += us / 1000000 + ns / 1000000000;
    ts.tv_nsec = ns % 1000000000;
    return timed_wait(c, l, &ts);
}

void cond_signal(struct cond *c)
{
    must(pthread_cond_signal(&c->c), "pthread_cond_signal");
}

void cond_broadcast(struct cond *c)
{
    must(pthread_cond_broadcast(&c->c), "pthread_cond_broadcast");
}

int thread_start(pthread_t *out, const char *name, size_t stack_bytes, void *(*fn)(void *), void *arg)
{
    pthread_attr_t attr;
    sigset_t all, old;
    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        return rc;
    if (stack_bytes != 0)
        rc = pthread_attr_setstacksize(&attr, stack_bytes);
    if (rc == 0) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        rc = pthread_create(out, &attr, fn, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    pthread_attr_destroy(&attr);
    if (rc == 0) {
        char short_name[16];
        snprintf(short_name, sizeof short_name, "%s", name);
        pthread_setname_np(*out, short_name);
    }
    return rc;
}

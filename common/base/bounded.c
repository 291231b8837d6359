#include "common/base/bounded.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/lock.h"
#include "common/base/mem.h"

struct call {
    void (*run)(void *job);
    void (*discard)(void *job);
    void *job;
    atomic_uint refs;        /* the caller and the thread; the last one frees it */
    struct lock m;
    struct cond ended;
    bool is_over, is_left;   /* guarded by m: run() has returned; nobody waits any more */
};

static void drop(struct call *c)
{
    /* acquire pairs with the release of the other: it has left the lock */
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    cond_destroy(&c->ended);
    lock_destroy(&c->m);
    free(c);
}

static void *thread_main(void *arg)
{
    struct call *c = arg;
    c->run(c->job);
    lock_take(&c->m);
    c->is_over = true;
    bool is_left = c->is_left;
    cond_signal(&c->ended);
    lock_drop(&c->m);
    if (is_left)
        c->discard(c->job);
    drop(c);
    return NULL;
}

enum bounded bounded_call(const char *name, void (*run)(void *job), void (*discard)(void *job), void *job, int64_t deadline_ms)
{
    struct call *c = xcalloc(1, sizeof *c);
    pthread_t id;
    *c = (struct call){ .run = run, .discard = discard, .job = job };
    atomic_init(&c->refs, 2);
    lock_init(&c->m, LOCK_BOUNDED_CALL);
    cond_init(&c->ended);
    if (thread_start(&id, name, 0, thread_main, c) != 0) {
        atomic_init(&c->refs, 1);
        drop(c);
        return BOUNDED_NO_THREAD;
    }
    lock_take(&c->m);
    while (!c->is_over && cond_wait_until(&c->ended, &c->m, deadline_ms)) { }
    bool is_over = c->is_over;
    c->is_left = !is_over;
    lock_drop(&c->m);
    if (is_over)
        pthread_join(id, NULL);
    else
        pthread_detach(id);
    drop(c);
    return is_over ? BOUNDED_DONE : BOUNDED_LATE;
}

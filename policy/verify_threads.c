/*
 * The keeper answers those whose time is over and looks after the file; probe threads take addresses from the queue, the
 * oldest first, but no more than VERIFY_PER_DOMAIN of one domain at a time: a domain whose hosts do not answer must not hold
 * all threads. A probe thread without work ends after IDLE_MS.
 */
#include <string.h>

#include "common/base/clock.h"
#include "policy/policy_internal.h"
#include "policy/verify_internal.h"

#define IDLE_MS     10000
#define FLUSH_MS    1000   /* changes of that long go to the file together */
#define STACK_BYTES (256 * 1024)

static struct span domain_of(const struct entry *e)
{
    return span_of(e->address + e->domain_at, e->n - e->domain_at);
}

static unsigned running_for_locked(struct verifier *v, struct span domain) REQUIRES(&v->m);
static unsigned running_for_locked(struct verifier *v, struct span domain)
{
    unsigned n = 0;
    for (size_t i = 0; i < VERIFY_THREADS; i++)
        n += v->slots[i].entry != NULL && span_eq(domain_of(v->slots[i].entry), domain);
    return n;
}

static struct entry *pick_locked(struct verifier *v) REQUIRES(&v->m);
static struct entry *pick_locked(struct verifier *v)
{
    struct entry *e, *next;
    if (!v->is_loaded || v->is_stopping)
        return NULL;
    DL_FOREACH_SAFE2(v->todo, e, next, todo_next) {
        if (running_for_locked(v, domain_of(e)) >= VERIFY_PER_DOMAIN)
            continue;
        verify_unqueue_locked(v, e);
        e->is_running = true;
        return e;
    }
    return NULL;
}

/* What the probe found is kept, unless it is a failure and the address is known to be good, or failures are not kept. */
static void keep_locked(struct verifier *v, struct entry *e, const struct params *p, const struct verify_result *r) REQUIRES(&v->m);
static void keep_locked(struct verifier *v, struct entry *e, const struct params *p, const struct verify_result *r)
{
    struct verify_ages ages = verify_ages_of(p);
    int64_t now = clock_wall_s();
    bool is_known_good = e->updated_s != 0 && e->status == VERIFY_OK && !verify_is_expired(e, &ages, now);
    if (r->status != VERIFY_OK && (r->status == VERIFY_TODO || is_known_good))
        return;
    if (r->status == VERIFY_OK || p->address_verify_negative_cache) {
        verify_entry_set_locked(v, e, r->status, span_cstr(r->text), now);
        verify_entry_dirty_locked(v, e);
    } else if (e->updated_s != 0) {
        verify_entry_set_locked(v, e, r->status, span_cstr(r->text), 1); /* expired */
        verify_entry_dirty_locked(v, e);
    }
}

static void probe_one(struct slot *s, struct entry *e)
{
    struct verifier *v = s->v;
    struct verify_result r = { .status = VERIFY_TODO, .text = "" };
    struct waiter *waiters = NULL;
    v->o.probe(v->o.arg, span_of(e->address, e->n), &r);
    struct policy *p = v->o.policy(v->o.arg);
    lock_take(&v->m);
    e->is_running = false;
    s->entry = NULL;
    keep_locked(v, e, p->p, &r);
    (void)verify_take_waiters_locked(v, e, 0, &waiters);
    if (e->updated_s == 0)
        verify_entry_drop_locked(v, e);
    if (v->flush_ms == CLOCK_NEVER && v->is_dirty) {
        v->flush_ms = clock_mono_ms() + FLUSH_MS;
        cond_signal(&v->wake_keeper);
    }
    lock_drop(&v->m);
    verify_answer_all(waiters, &r);
    policy_unref(&p);
}

static void *probe_main(void *arg)
{
    struct slot *s = arg;
    struct verifier *v = s->v;
    lock_take(&v->m);
    s->state = SLOT_USED;
    int64_t idle_since = clock_mono_ms();
    while (!v->is_stopping) {
        struct entry *e = pick_locked(v);
        if (e == NULL) {
            if (clock_mono_ms() >= idle_since + IDLE_MS)
                break;
            v->idle_probes++;
            (void)cond_wait_until(&v->wake_probe, &v->m, idle_since + IDLE_MS);
            v->idle_probes--;
            continue;
        }
        s->entry = e;
        lock_drop(&v->m);
        probe_one(s, e);
        lock_take(&v->m);
        idle_since = clock_mono_ms();
    }
    s->state = SLOT_ENDED;
    v->probes--;
    cond_broadcast(&v->changed);
    lock_drop(&v->m);
    return NULL;
}

/* ---- the keeper ---- */

/* Who waited for the file: what it had answers, and needs no probe. */
static void answer_loaded(struct verifier *v, const struct params *p)
{
    struct verify_ages ages = verify_ages_of(p);
    int64_t now = clock_wall_s();
    for (;;) {
        struct waiter *w, *mine = NULL;
        struct verify_result r;
        lock_take(&v->m);
        for (w = v->waiters; w != NULL; w = w->next)
            if (w->entry->updated_s != 0 && !verify_is_expired(w->entry, &ages, now))
                break;
        if (w != NULL) {
            struct entry *e = w->entry;
            verify_copy_result(e, &r);
            (void)verify_take_waiters_locked(v, e, 0, &mine);
            if (e->is_queued && !verify_is_refresh_due(e, &ages, now))
                verify_unqueue_locked(v, e);
        }
        lock_drop(&v->m);
        if (mine == NULL)
            return;
        verify_answer_all(mine, &r);
    }
}

static void load(struct verifier *v)
{
    struct policy *p = v->o.policy(v->o.arg);
    verify_file_open(v, p->p);
    answer_loaded(v, p->p);
    lock_take(&v->m);
    v->is_loaded = true;
    cond_broadcast(&v->wake_probe);
    cond_broadcast(&v->changed);
    lock_drop(&v->m);
    policy_unref(&p);
}

static void do_cleanup(struct verifier *v)
{
    struct policy *p = v->o.policy(v->o.arg);
    int64_t every = p->p->address_verify_cache_cleanup_interval;
    if (every > 0)
        verify_file_cleanup(v, p->p);
    lock_take(&v->m);
    v->next_cleanup_ms = clock_mono_ms() + (every > 0 ? every : 3600000); /* looks again whether a reload wants it */
    lock_drop(&v->m);
    policy_unref(&p);
}

static void *keeper_main(void *arg)
{
    struct slot *s = arg;
    struct verifier *v = s->v;
    struct verify_result todo = { .status = VERIFY_TODO, .text = "Address verification in progress" };
    load(v);
    do_cleanup(v);
    lock_take(&v->m);
    while (!v->is_ending) {
        struct waiter *late = NULL;
        int64_t now = clock_mono_ms();
        int64_t next = verify_take_waiters_locked(v, NULL, v->is_stopping ? CLOCK_NEVER : now, &late);
        bool flush = v->is_dirty && v->flush_ms <= now, clean = v->next_cleanup_ms <= now;
        if (late == NULL && !flush && !clean) {
            next = v->flush_ms < next ? v->flush_ms : next;
            next = v->next_cleanup_ms < next ? v->next_cleanup_ms : next;
            (void)cond_wait_until(&v->wake_keeper, &v->m, next);
            continue;
        }
        lock_drop(&v->m);
        verify_answer_all(late, &todo);
        if (flush)
            verify_file_flush(v);
        if (clean)
            do_cleanup(v);
        lock_take(&v->m);
    }
    lock_drop(&v->m);
    verify_file_flush(v);
    verify_file_close(v);
    return NULL;
}

/* ---- starting and ending ---- */

static struct slot *free_slot_locked(struct verifier *v) REQUIRES(&v->m);
static struct slot *free_slot_locked(struct verifier *v)
{
    for (size_t i = 0; i < VERIFY_THREADS; i++)
        if (v->slots[i].state == SLOT_FREE || v->slots[i].state == SLOT_ENDED)
            return &v->slots[i];
    return NULL;
}

static void start(struct verifier *v, struct slot *s, bool was_used, const char *name, void *(*fn)(void *))
{
    struct waiter *all = NULL;
    struct verify_result todo = { .status = VERIFY_TODO, .text = "Address verification is not possible now" };
    if (was_used)
        (void)pthread_join(s->thread, NULL);
    int rc = thread_start(&s->thread, name, STACK_BYTES, fn, s);
    if (rc == 0) { /* s->thread is set: whoever stops may join it */
        lock_take(&v->m);
        if (s == &v->keeper)
            v->keeper.state = SLOT_USED;
        cond_broadcast(&v->changed);
        lock_drop(&v->m);
        return;
    }
    log_error(v->o.log, "cannot start the thread %s of address verification: %s", name, strerrordesc_np(rc));
    lock_take(&v->m);
    s->state = SLOT_FREE;
    if (s != &v->keeper)
        v->probes--;
    else /* nobody else would tell them that their time is over */
        (void)verify_take_waiters_locked(v, NULL, CLOCK_NEVER, &all);
    cond_broadcast(&v->changed);
    lock_drop(&v->m);
    verify_answer_all(all, &todo);
}

void verify_threads_wake(struct verifier *v)
{
    struct slot *s = NULL;
    bool keeper = false, was_used = false;
    lock_take(&v->m);
    if (!v->is_stopping) {
        keeper = v->keeper.state == SLOT_FREE;
        if (keeper)
            v->keeper.state = SLOT_STARTING;
        if (v->idle_probes > 0)
            cond_signal(&v->wake_probe);
        if (v->todo_count > v->idle_probes) /* who was woken for another address counts as idle until it is awake */
            s = free_slot_locked(v);
        if (s != NULL) {
            was_used = s->state == SLOT_ENDED;
            s->state = SLOT_STARTING;
            v->probes++;
        }
        if (v->is_dirty && v->flush_ms == CLOCK_NEVER)
            v->flush_ms = clock_mono_ms() + FLUSH_MS;
        cond_signal(&v->wake_keeper);
    }
    lock_drop(&v->m);
    if (keeper)
        start(v, &v->keeper, false, "verify", keeper_main);
    if (s != NULL)
        start(v, s, was_used, "probe", probe_main);
}

void verifier_load(struct verifier *v)
{
    int64_t until = clock_mono_ms() + 10000;
    verify_threads_wake(v);
    lock_take(&v->m);
    while (!v->is_loaded && (v->keeper.state == SLOT_USED || v->keeper.state == SLOT_STARTING) && cond_wait_until(&v->changed, &v->m, until)) { }
    lock_drop(&v->m);
}

/* Who waits is answered here: the keeper may not run yet, or not any more. From now on nobody begins to wait. */
void verifier_halt(struct verifier *v)
{
    struct waiter *all = NULL;
    struct verify_result todo = { .status = VERIFY_TODO, .text = "Address verification in progress" };
    lock_take(&v->m);
    v->is_stopping = true;
    (void)verify_take_waiters_locked(v, NULL, CLOCK_NEVER, &all);
    cond_broadcast(&v->wake_probe);
    cond_signal(&v->wake_keeper);
    lock_drop(&v->m);
    verify_answer_all(all, &todo);
}

bool verifier_stop(struct verifier *v, int64_t deadline_ms)
{
    verifier_halt(v);
    lock_take(&v->m);
    while (v->keeper.state == SLOT_STARTING) /* moments */
        cond_wait(&v->changed, &v->m);
    while (v->probes > 0 && cond_wait_until(&v->changed, &v->m, deadline_ms)) { }
    bool all = v->probes == 0;
    bool has_keeper = v->keeper.state == SLOT_USED;
    v->keeper.state = SLOT_ENDED;
    v->is_ending = true;
    cond_signal(&v->wake_keeper);
    lock_drop(&v->m);
    if (has_keeper)
        (void)pthread_join(v->keeper.thread, NULL);
    for (size_t i = 0; i < VERIFY_THREADS; i++) {
        if (v->slots[i].state == SLOT_ENDED)
            (void)pthread_join(v->slots[i].thread, NULL);
        if (v->slots[i].state == SLOT_ENDED)
            v->slots[i].state = SLOT_FREE;
    }
    return all;
}

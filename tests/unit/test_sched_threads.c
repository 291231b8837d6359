/* Eight delivery threads, a committer, the real scheduler thread, and commands at the same time. */
#include "unit.h"
#include <pthread.h>
#include <stdatomic.h>

#include "common/base/clock.h"
#include "sched_bench.h"

#define THREADS 8
#define MESSAGES 6000

struct run {
    struct bench *b;
    _Atomic bool is_over;
    _Atomic unsigned jobs;
};

static void *deliver(void *arg)
{
    struct run *r = arg;
    unsigned n = 0;
    while (!atomic_load(&r->is_over)) {
        struct job *j = sched_next(r->b->sched, NULL);
        if (j == NULL) {
            struct timespec t = { .tv_nsec = 100000 };
            nanosleep(&t, NULL);
            continue;
        }
        while (j != NULL) {
            unsigned k = n++ % 16;
            struct delivery_result res = bench_result(k == 3 ? OUTCOME_DEFERRED : k == 5 ? OUTCOME_BOUNCED : OUTCOME_SENT);
            sched_report(r->b->sched, j, 0, &res);
            sched_report_all(r->b->sched, j, &res);
            atomic_fetch_add(&r->jobs, 1);
            if (k % 2) {
                j = sched_finish_next(r->b->sched, &j, SITE_OK);
            } else {
                sched_finish(r->b->sched, &j, SITE_OK);
                j = NULL;
            }
        }
    }
    return NULL;
}

static void *commit(void *arg)
{
    struct run *r = arg;
    while (!atomic_load(&r->is_over)) {
        if (fake_commit_all(r->b->spool) == 0) {
            struct timespec t = { .tv_nsec = 100000 };
            nanosleep(&t, NULL);
        }
    }
    return NULL;
}

static bool count_one(void *arg, struct msg *m, enum sched_where w UNUSED)
{
    unsigned *n = arg;
    *n += m->env.rcpt_count > 0;
    return *n < 100;
}

/* Every eighth look-up takes a moment, some long enough for the next thread to take over. */
static bool look_up_slowly(struct bench *b, struct conf *c UNUSED, struct msg_rcpt *r, struct arena *a UNUSED)
{
    unsigned n = atomic_load(&b->resolved);
    struct timespec t = { .tv_nsec = n % 256 == 0 ? 30000000 : 1000000 };
    if (n % 8 == 0 && r->addr.n > 0)
        nanosleep(&t, NULL);
    return false;
}

static void all_at_once(void **state)
{
    struct run r = { .b = bench_new("queue_run_delay = 1s\nminimal_backoff_time = 1s\nmaximal_backoff_time = 1s\nindex_flush_interval = 1s\n"
                                    "qmgr_message_active_limit = 500\n", NULL) };
    struct bench *b = r.b;
    pthread_t t[THREADS], committer;
    b->look_up = look_up_slowly;
    b->may_wait = *state != NULL;
    assert_int_equal(sched_start(b->sched), 0);
    pthread_create(&committer, NULL, commit, &r);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, deliver, &r);
    char sender[32], addr[64], hop[32];
    for (unsigned i = 0; i < MESSAGES; i++) {
        snprintf(sender, sizeof sender, "s%u@example.org", i % 7);
        snprintf(hop, sizeof hop, "d%u.example.net", i % 11);
        snprintf(addr, sizeof addr, "u%u@%s", i, hop);
        struct msg *m = bench_msg(b, i % 50 ? sender : "");
        bench_rcpt(m, addr, i % 5 ? "smtp" : NULL, hop);
        if (i % 10 == 0)
            bench_rcpt(m, "other@example.com", "smtp", "example.com");
        uint64_t id = bench_commit(b, m);
        if (i % 97 == 0) {
            struct err e = ERR_INIT;
            (void)sched_admin(b->sched, i % 2 ? ADMIN_HOLD : ADMIN_REQUEUE, id, &e);
            (void)sched_admin(b->sched, i % 3 ? ADMIN_RELEASE : ADMIN_DELETE, id, &e);
        }
        if (i % 500 == 0) {
            unsigned n = 0;
            sched_list(b->sched, count_one, &n);
            sched_flush_all(b->sched);
            sched_reconfigure(b->sched, b->conf);
        }
    }
    int64_t until_ms = clock_mono_ms() + 60000;
    struct sched_counts c;
    do {
        struct timespec wait = { .tv_nsec = 20000000 };
        nanosleep(&wait, NULL);
        sched_flush_all(b->sched);
        c = sched_counts(b->sched);
    } while (c.active + c.deferred + c.hold > 0 && clock_mono_ms() < until_ms);
    atomic_store(&r.is_over, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    pthread_join(committer, NULL);
    fake_commit_all(b->spool);
    assert_int_equal(c.active + c.deferred + c.hold, 0);
    assert_true(atomic_load(&r.jobs) >= MESSAGES);
    assert_true(b->spool->dones >= MESSAGES);
    sched_stop(b->sched);
    assert_int_equal(b->spool->rows_n, 0);
    bench_free(&r.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_at_once),
        { .name = "all_at_once_with_slow_tables", .test_func = all_at_once, .initial_state = &(int){ 1 } },
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

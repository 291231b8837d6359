/* Look-ups that wait for a server: who they hold up, and who they do not. The real scheduler thread and its helpers. */
#include "unit.h"
#include <pthread.h>
#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/conf/params.h"
#include "sched_bench.h"

#define PATIENCE_MS 30000

/* The server behind the tables: does not answer for "slow*" while it is shut. */
struct server {
    pthread_mutex_t m;
    pthread_cond_t changed;
    bool is_shut;
    unsigned waiting, asked_slow;
};

static void server_open(struct server *v, bool open)
{
    pthread_mutex_lock(&v->m);
    v->is_shut = !open;
    pthread_cond_broadcast(&v->changed);
    pthread_mutex_unlock(&v->m);
}

static bool ask(struct bench *b, struct conf *c, struct msg_rcpt *r, struct arena *a)
{
    struct server *v = b->look_up_arg;
    ptrdiff_t at = span_rfind(r->addr, '@');
    if (span_starts_with(span_from(r->addr, (size_t)at + 1), SPAN_LIT("slow"))) {
        pthread_mutex_lock(&v->m);
        v->asked_slow++;
        v->waiting++;
        while (v->is_shut)
            pthread_cond_wait(&v->changed, &v->m);
        v->waiting--;
        pthread_mutex_unlock(&v->m);
    }
    r->route.transport = SPAN_LIT("smtp");
    r->route.nexthop = span_cstr(arena_printf(a, "%.*s%s", SPAN_ARG(span_from(r->addr, (size_t)at + 1)), conf_global(c)->relayhost));
    return true;
}

static void nap(void)
{
    struct timespec t = { .tv_nsec = 1000000 };
    nanosleep(&t, NULL);
}

static struct bench *begin(struct server *v, const char *main_cf)
{
    struct bench *b = bench_new(main_cf, NULL);
    *v = (struct server){ .is_shut = true };
    pthread_mutex_init(&v->m, NULL);
    pthread_cond_init(&v->changed, NULL);
    b->look_up_arg = v;
    b->look_up = ask;
    b->may_wait = true;
    assert_int_equal(sched_start(b->sched), 0);
    return b;
}

static void end(struct bench **b, struct server *v)
{
    server_open(v, true);
    assert_true(sched_stop((*b)->sched));
    bench_free(b);
    pthread_mutex_destroy(&v->m);
    pthread_cond_destroy(&v->changed);
}

/* The next job, waited for; NULL: none came. */
static struct job *next_job(struct bench *b)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    struct job *j;
    while ((j = bench_next(b)) == NULL && clock_mono_ms() < until_ms)
        nap();
    return j;
}

static void deliver_to(struct bench *b, const char *addr)
{
    struct job *j = next_job(b);
    assert_non_null(j);
    struct span to = j->msg->env.rcpts[j->rcpts[0].index].addr;
    assert_int_equal(to.n, strlen(addr));
    assert_memory_equal(to.p, addr, to.n);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
}

static void wait_until_asked(struct server *v, unsigned waiting)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    unsigned n;
    do {
        nap();
        pthread_mutex_lock(&v->m);
        n = v->waiting;
        pthread_mutex_unlock(&v->m);
    } while (n < waiting && clock_mono_ms() < until_ms);
    assert_true(n >= waiting);
}

static void slow_domain_holds_up_nobody_else(void **state UNUSED)
{
    struct server v;
    struct err e = ERR_INIT;
    struct bench *b = begin(&v, NULL);
    char addr[64];
    uint64_t held = bench_send(b, "s@example.org", "u0@slow.example", NULL, NULL);
    for (unsigned i = 1; i < 100; i++) {
        snprintf(addr, sizeof addr, "u%u@slow%u.example", i, i / 50);
        bench_send(b, "s@example.org", addr, NULL, NULL);
    }
    wait_until_asked(&v, 1);
    for (unsigned i = 0; i < 5; i++) {
        snprintf(addr, sizeof addr, "u@d%u.example", i);
        bench_send(b, "s@example.org", addr, NULL, NULL);
    }
    for (unsigned i = 0; i < 5; i++) {
        struct job *j = next_job(b);
        assert_non_null(j);
        assert_true(span_starts_with(j->nexthop, SPAN_LIT("d")));
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    }
    assert_null(bench_next(b));
    /* Commands need the scheduler's thread. */
    assert_int_equal(sched_admin(b->sched, ADMIN_HOLD, held, &e), SCHED_CMD_OK);
    assert_true(sched_index_sync(b->sched, &e));
    assert_true(sched_counts(b->sched).active >= 99);
    server_open(&v, true);
    for (unsigned i = 1; i < 100; i++) {
        struct job *j = next_job(b);
        assert_non_null(j);
        assert_int_not_equal(j->msg->env.id, held);
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    }
    assert_int_equal(sched_admin(b->sched, ADMIN_RELEASE, held, &e), SCHED_CMD_OK);
    deliver_to(b, "u0@slow.example");
    end(&b, &v);
}

static void slow_recipient_holds_up_no_other_of_its_message(void **state UNUSED)
{
    struct server v;
    struct bench *b = begin(&v, NULL);
    for (unsigned i = 0; i < 20; i++) {
        struct msg *m = bench_msg(b, "s@example.org");
        bench_rcpt(m, "a@slow.example", NULL, NULL);
        bench_rcpt(m, "b@slow.example", NULL, NULL);
        bench_rcpt(m, "c@quick.example", NULL, NULL);
        bench_commit(b, m);
    }
    /* One or two threads may be stuck at the first recipients, before it is known that they are slow. */
    wait_until_asked(&v, 1);
    for (unsigned i = 0; i < 16; i++)
        deliver_to(b, "c@quick.example");
    pthread_mutex_lock(&v.m);
    assert_true(v.waiting <= ROUTER_THREADS / 2);
    pthread_mutex_unlock(&v.m);
    server_open(&v, true);
    unsigned n = 16;
    while (n < 60) {
        struct job *j = next_job(b);
        assert_non_null(j);
        n += j->rcpt_count;
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    }
    assert_int_equal(n, 60);
    end(&b, &v);
}

/* Messages that are due at the same moment come to the router in no certain order: until the scheduler has this one. */
static void wait_until_taken(struct bench *b)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    bool is_taken = false;
    while (!is_taken && clock_mono_ms() < until_ms) {
        lock_take(&b->sched->m);
        is_taken = heap_first(&b->sched->due) == NULL && b->sched->inbox == NULL;
        lock_drop(&b->sched->m);
    }
    assert_true(is_taken);
}

static void quick_look_ups_keep_the_order(void **state UNUSED)
{
    struct server v;
    char addr[64];
    struct bench *b = begin(&v, "smtp_destination_recipient_limit = 5\nqmgr_message_active_limit = 2000\n");
    b->sched->router.stall_ms = PATIENCE_MS; /* however slow this machine is, no look-up is slow */
    for (unsigned i = 0; i < 200; i++) {
        snprintf(addr, sizeof addr, "u%u@quick.example", i);
        bench_send(b, "s@example.org", addr, NULL, NULL);
        wait_until_taken(b);
    }
    for (unsigned i = 0; i < 200; i++) {
        snprintf(addr, sizeof addr, "u%u@quick.example", i);
        deliver_to(b, addr);
    }
    end(&b, &v);
}

static void reload_while_a_look_up_waits(void **state UNUSED)
{
    struct server v;
    struct bench *b = begin(&v, NULL);
    bench_send(b, "s@example.org", "u@slow.example", NULL, NULL);
    wait_until_asked(&v, 1);
    struct conf *c = bench_conf("relayhost = .new\n", NULL);
    sched_reconfigure(b->sched, c);
    server_open(&v, true);
    struct job *j = next_job(b);
    assert_non_null(j);
    assert_true(span_eq(j->nexthop, SPAN_LIT("slow.example.new")));
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_null(bench_next(b));
    conf_unref(&c);
    end(&b, &v);
}

static void tables_that_wait_no_more(void **state UNUSED)
{
    struct server v;
    struct bench *b = begin(&v, NULL);
    bench_send(b, "s@example.org", "u@slow.example", NULL, NULL);
    wait_until_asked(&v, 1);
    b->may_wait = false;
    sched_reconfigure(b->sched, b->conf);
    bench_send(b, "s@example.org", "u@quick.example", NULL, NULL);
    deliver_to(b, "u@quick.example");
    assert_false(b->sched->router.is_in_use);
    server_open(&v, true);
    deliver_to(b, "u@slow.example");
    end(&b, &v);
}

static void deleted_while_a_look_up_waits(void **state UNUSED)
{
    struct server v;
    struct err e = ERR_INIT;
    struct bench *b = begin(&v, NULL);
    uint64_t gone = bench_send(b, "s@example.org", "u@slow.example", NULL, NULL);
    uint64_t gone_behind = bench_send(b, "s@example.org", "u2@slow.example", NULL, NULL);
    wait_until_asked(&v, 1);
    assert_int_equal(sched_admin(b->sched, ADMIN_DELETE, gone, &e), SCHED_CMD_OK);
    assert_int_equal(sched_admin(b->sched, ADMIN_DELETE, gone_behind, &e), SCHED_CMD_OK);
    assert_int_equal(sched_counts(b->sched).active, 0);
    server_open(&v, true);
    bench_send(b, "s@example.org", "u3@slow.example", NULL, NULL);
    deliver_to(b, "u3@slow.example");
    assert_null(bench_next(b));
    end(&b, &v);
}

/* The sender's address of a failure notice is looked up, too: here it never is. */
static bool expand_slowly(void *arg, struct span rcpt UNUSED, struct arena *a UNUSED, struct span **out UNUSED, size_t *n UNUSED, struct err *e)
{
    struct server *v = arg;
    pthread_mutex_lock(&v->m);
    v->waiting++;
    while (v->is_shut)
        pthread_cond_wait(&v->changed, &v->m);
    v->waiting--;
    pthread_mutex_unlock(&v->m);
    err_set(e, "no answer");
    return false;
}

static void notices_hold_up_nobody(void **state UNUSED)
{
    struct server v;
    struct err e = ERR_INIT;
    struct bench *b = begin(&v, NULL);
    b->sched->own = (struct own_policy){ .expand = expand_slowly, .arg = &v };
    uint64_t id = bench_send(b, "s@example.org", "u@d.example", "nowhere", "d.example");
    assert_int_equal(sched_admin(b->sched, ADMIN_EXPIRE, id, &e), SCHED_CMD_OK);
    wait_until_asked(&v, 1);
    bench_send(b, "s@example.org", "u@quick.example", NULL, NULL);
    deliver_to(b, "u@quick.example");
    end(&b, &v);
}

static void stop_is_bounded(void **state UNUSED)
{
    struct server v;
    struct bench *b = begin(&v, NULL);
    bench_send(b, "s@example.org", "u@slow.example", NULL, NULL);
    wait_until_asked(&v, 1);
    b->sched->router.stop_ms = 50;
    int64_t begin_ms = clock_mono_ms();
    assert_false(router_stop(b->sched));
    assert_true(clock_mono_ms() - begin_ms < PATIENCE_MS);
    /* The daemon would end with that thread still waiting; here it is waited for. */
    server_open(&v, true);
    assert_true(router_stop(b->sched));
    end(&b, &v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_domain_holds_up_nobody_else),
        cmocka_unit_test(slow_recipient_holds_up_no_other_of_its_message),
        cmocka_unit_test(quick_look_ups_keep_the_order),
        cmocka_unit_test(reload_while_a_look_up_waits),
        cmocka_unit_test(tables_that_wait_no_more),
        cmocka_unit_test(deleted_while_a_look_up_waits),
        cmocka_unit_test(notices_hold_up_nobody),
        cmocka_unit_test(stop_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Connections to servers: used again, replaced, hosts passed over, limits. The servers are counters. */
#include "tests/unit/unit.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/pool.h"

#define HOSTS 4

struct servers {
    bool is_down[HOSTS];
    int open_errno;             /* for those that are down */
    int breaks;                 /* so many uses find their connection broken */
    bool is_unfit;
    atomic_int opened[HOSTS], open_now, used, most_in_use, in_use;
    int hold_us;
};

struct conn {
    size_t host;
};

static void *open_cb(void *arg, size_t host, int64_t deadline_ms, struct err *e)
{
    struct servers *s = arg;
    (void)deadline_ms;
    s->opened[host]++;
    if (s->is_down[host]) {
        err_set(e, "host %zu is down", host);
        e->sys = s->open_errno;
        return NULL;
    }
    struct conn *c = xcalloc(1, sizeof *c);
    c->host = host;
    s->open_now++;
    return c;
}

static void close_cb(void *arg, void *conn)
{
    struct servers *s = arg;
    s->open_now--;
    free(conn);
}

static bool fit_cb(void *arg, void *conn)
{
    const struct servers *s = arg;
    (void)conn;
    return !s->is_unfit;
}

static enum pool_use use_cb(void *arg, void *conn, int64_t deadline_ms, struct err *e)
{
    struct servers *s = arg;
    (void)conn;
    (void)deadline_ms;
    int now = ++s->in_use, most = s->most_in_use;
    while (now > most && !atomic_compare_exchange_weak(&s->most_in_use, &most, now)) { }
    if (s->hold_us > 0) {
        struct timespec t = { .tv_nsec = s->hold_us * 1000L };
        nanosleep(&t, NULL);
    }
    s->in_use--;
    s->used++;
    if (s->breaks > 0) {
        s->breaks--;
        err_set(e, "broken");
        return POOL_BROKEN;
    }
    return POOL_DONE;
}

static const struct pool_ops ops = { open_cb, close_cb, fit_cb };

static struct pool *make(struct servers *s, struct pool_options o)
{
    o.ops = &ops;
    o.arg = s;
    if (o.max_open == 0)
        o.max_open = 5;
    if (o.attempts == 0)
        o.attempts = 1;
    if (o.max_idle_ms == 0)
        o.max_idle_ms = 1000;
    if (o.max_ttl_ms == 0)
        o.max_ttl_ms = CLOCK_NEVER;
    return pool_new(&o);
}

static bool ask(struct pool *p, struct servers *s, struct err *e)
{
    *e = ERR_INIT;
    return pool_run(p, use_cb, s, clock_mono_ms() + 2000, e);
}

static void test_used_again(void **state)
{
    (void)state;
    struct servers s = { .open_errno = 0 };
    struct err e;
    struct pool *p = make(&s, (struct pool_options){ .hosts = 1, .max_idle_ms = 1000, .max_ttl_ms = 5000 });
    for (int i = 0; i < 3; i++)
        assert_true(ask(p, &s, &e));
    assert_int_equal(s.opened[0], 1);
    clock_advance_for_test(1500, 0); /* idle for too long */
    assert_true(ask(p, &s, &e));
    assert_int_equal(s.opened[0], 2);
    for (int i = 0; i < 8; i++) {    /* never idle for long, but old in the end */
        clock_advance_for_test(800, 0);
        assert_true(ask(p, &s, &e));
    }
    assert_int_equal(s.opened[0], 3);
    s.is_unfit = true;
    assert_true(ask(p, &s, &e));
    assert_int_equal(s.opened[0], 4);
    assert_int_equal(s.open_now, 1);
    pool_free(&p);
    assert_int_equal(s.open_now, 0);
}

/* What breaks while idle is no attempt; what breaks when fresh is. */
static void test_broken(void **state)
{
    (void)state;
    struct servers s = { .open_errno = 0 };
    struct err e;
    struct pool *p = make(&s, (struct pool_options){ .hosts = 1, .attempts = 2 });
    assert_true(ask(p, &s, &e));
    s.breaks = 2; /* the idle one and the first fresh one */
    assert_true(ask(p, &s, &e));
    assert_int_equal(s.opened[0], 3);
    s.breaks = 3;
    assert_false(ask(p, &s, &e));
    assert_string_equal(e.text, "broken");
    assert_int_equal(s.opened[0], 5);
    assert_true(ask(p, &s, &e)); /* the only host is asked again at once */
    assert_int_equal(s.open_now, 1);
    pool_free(&p);
}

static void test_fail_over(void **state)
{
    (void)state;
    struct servers s = { .is_down = { [1] = true, [2] = true } };
    struct err e;
    struct pool *p = make(&s, (struct pool_options){ .hosts = 3, .retry_ms = 60000, .max_idle_ms = 1 });
    for (int i = 0; i < 30; i++) {
        clock_advance_for_test(100, 0); /* so that each opens anew */
        assert_true(ask(p, &s, &e));
    }
    assert_in_range(s.opened[1], 0, 1);
    assert_in_range(s.opened[2], 0, 1);
    assert_true(s.opened[1] + s.opened[2] >= 1); /* 30 random choices that all hit host 0: once in 3^30 */
    s.is_down[0] = true;
    clock_advance_for_test(100, 0);
    assert_false(ask(p, &s, &e));
    assert_non_null(strstr(e.text, "is down"));
    int before = s.opened[0] + s.opened[1] + s.opened[2];
    assert_false(ask(p, &s, &e));
    assert_non_null(strstr(e.text, "failed a moment ago"));
    assert_int_equal(s.opened[0] + s.opened[1] + s.opened[2], before);
    s.is_down[1] = false;
    clock_advance_for_test(61000, 0);
    assert_true(ask(p, &s, &e));
    pool_free(&p);
}

static void test_order(void **state)
{
    (void)state;
    struct servers s = { .open_errno = 0 };
    struct err e;
    struct pool *p = make(&s, (struct pool_options){ .hosts = 4, .hosts_first = 2, .retry_ms = 60000, .max_idle_ms = 1 });
    for (int i = 0; i < 40; i++) {
        clock_advance_for_test(100, 0);
        assert_true(ask(p, &s, &e));
    }
    assert_true(s.opened[0] > 0 && s.opened[1] > 0); /* both of the first part: else 2^-39 */
    assert_int_equal(s.opened[2] + s.opened[3], 0);
    s.is_down[0] = s.is_down[1] = true;
    clock_advance_for_test(100, 0);
    assert_true(ask(p, &s, &e));
    assert_int_equal(s.opened[2] + s.opened[3], 1);
    pool_free(&p);
}

/* Who does not answer in time is spared for a while, even when there is nobody else: else everybody hangs. */
static void test_timed_out(void **state)
{
    (void)state;
    struct servers s = { .is_down = { true }, .open_errno = ETIMEDOUT };
    struct err e;
    struct pool *p = make(&s, (struct pool_options){ .hosts = 1 });
    assert_false(ask(p, &s, &e));
    assert_int_equal(e.sys, ETIMEDOUT);
    assert_false(ask(p, &s, &e));
    assert_int_equal(s.opened[0], 1);
    s.open_errno = ECONNREFUSED;
    clock_advance_for_test(6000, 0);
    assert_false(ask(p, &s, &e));
    assert_false(ask(p, &s, &e));
    assert_int_equal(s.opened[0], 3);
    pool_free(&p);
}

struct crowd {
    struct pool *p;
    struct servers *s;
    atomic_int failed;
};

static void *crowd_thread(void *arg)
{
    struct crowd *c = arg;
    struct err e;
    for (int i = 0; i < 20; i++) {
        if (!ask(c->p, c->s, &e))
            c->failed++;
    }
    return NULL;
}

static void test_crowd(void **state)
{
    (void)state;
    struct servers s = { .hold_us = 500 };
    struct crowd c = { .s = &s };
    pthread_t t[12];
    c.p = make(&s, (struct pool_options){ .hosts = 1, .max_open = 3 });
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, crowd_thread, &c), 0);
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        pthread_join(t[i], NULL);
    assert_int_equal(c.failed, 0);
    assert_int_equal(s.used, 240);
    assert_in_range(s.most_in_use, 1, 3);
    assert_in_range(s.opened[0], 1, 3);
    pool_free(&c.p);
    assert_int_equal(s.open_now, 0);
}

/* The turn does not come before the deadline. */
static void *holder_thread(void *arg)
{
    struct crowd *c = arg;
    struct err e;
    if (!ask(c->p, c->s, &e))
        c->failed++;
    return NULL;
}

static void test_no_room(void **state)
{
    (void)state;
    struct servers s = { .hold_us = 300000 };
    struct crowd c = { .s = &s };
    struct err e = ERR_INIT;
    pthread_t t;
    c.p = make(&s, (struct pool_options){ .hosts = 1, .max_open = 1 });
    assert_int_equal(pthread_create(&t, NULL, holder_thread, &c), 0);
    while (s.in_use == 0) {
        struct timespec nap = { .tv_nsec = 1000000 };
        nanosleep(&nap, NULL);
    }
    assert_false(pool_run(c.p, use_cb, &s, clock_mono_ms() + 20, &e));
    assert_non_null(strstr(e.text, "all 1 connections are busy"));
    pthread_join(t, NULL);
    assert_int_equal(c.failed, 0);
    pool_free(&c.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_used_again), cmocka_unit_test(test_broken), cmocka_unit_test(test_fail_over), cmocka_unit_test(test_order),
        cmocka_unit_test(test_timed_out), cmocka_unit_test(test_crowd), cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

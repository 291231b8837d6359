#include "unit.h"
#include <pthread.h>

#include "common/base/clock.h"
#include "sched_bench.h"

#define HOUR_MS INT64_C(3600000)
#define DAY_MS  (24 * HOUR_MS)

static void defer_next(struct bench *b)
{
    struct job *j = bench_next(b);
    assert_non_null(j);
    bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
    bench_run(b);
}

/* Walks through days in steps of ten minutes, deferring every attempt; returns the number of attempts. */
static unsigned days(struct bench *b, int64_t ms, int64_t *last_gap_ms)
{
    unsigned attempts = 0;
    int64_t last = 0;
    for (int64_t t = 0; t < ms; t += 60000) {
        bench_advance(b, 60000);
        struct job *j;
        while ((j = bench_next(b)) != NULL) {
            if (last != 0)
                *last_gap_ms = t - last;
            last = t;
            attempts++;
            bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
        }
    }
    return attempts;
}

static void timeline(void **state UNUSED)
{
    struct bench *b = bench_new("maximal_queue_lifetime = 2d\n", NULL);
    uint64_t id = bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    defer_next(b);
    int64_t gap = 0;
    unsigned first = days(b, 2 * HOUR_MS, &gap);
    assert_in_range(first, 4, 6); /* 5, 10, 20, 40, 80 minutes after arrival, then every 67 */
    assert_in_range(gap, 35 * 60000, 60 * 60000);
    unsigned rest = days(b, 2 * DAY_MS - 3 * HOUR_MS, &gap);
    assert_in_range(rest, 39, 45);
    assert_in_range(gap, 62 * 60000, 69 * 60000);
    assert_int_equal(b->spool->dones, 0);
    assert_int_equal(b->spool->committed_n, 0);
    /* The attempt after the lifetime is the last; its reason goes to the sender. */
    days(b, 3 * HOUR_MS, &gap);
    assert_int_equal(b->spool->committed_n, 1);
    struct msg *n = b->spool->committed[0];
    assert_int_equal(n->env.sender.n, 0);
    assert_true(span_eq(n->env.rcpts[0].addr, SPAN_LIT("a@example.org")));
    assert_non_null(strstr(n->content, "connect to mx.example.net[192.0.2.1]:25: Connection"));
    char want[100];
    snprintf(want, sizeof want, "%llX: from=<a@example.org>, status=expired, returned to sender\n", (unsigned long long)id);
    assert_int_equal(bench_log_count(b, want), 1);
    snprintf(want, sizeof want, "result %llX 0 expired;applied 1;done %llX;", (unsigned long long)id, (unsigned long long)id);
    assert_true(fake_traced(b->spool, want));
    bench_free(&b);
}

/* The same with settings: 10, 20 and then every 30 minutes, looked at every 10. */
static void timeline_by_settings(void **state UNUSED)
{
    struct bench *b = bench_new("minimal_backoff_time = 600s\n" "maximal_backoff_time = 1800s\n" "queue_run_delay = 600s\n", NULL);
    bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    defer_next(b);
    int64_t gap = 0;
    assert_int_equal(days(b, 9 * 60000, &gap), 0);
    assert_in_range(days(b, 6 * HOUR_MS, &gap), 8, 14);
    assert_in_range(gap, 25 * 60000, 42 * 60000);
    bench_free(&b);
}

static void lifetime_zero_is_one_attempt(void **state UNUSED)
{
    struct bench *b = bench_new("maximal_queue_lifetime = 0\nbounce_queue_lifetime = 1d\n", NULL);
    bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    bench_send(b, "", "u@example.net", "smtp", "example.net");
    defer_next(b);
    defer_next(b);
    assert_int_equal(b->spool->dones, 1);
    assert_int_equal(bench_log_count(b, "status=expired"), 1);
    bench_free(&b);
    b = bench_new("bounce_queue_lifetime = 0\n", NULL);
    bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    bench_send(b, "", "u@example.net", "smtp", "example.net");
    defer_next(b);
    defer_next(b);
    assert_int_equal(b->spool->dones, 1);
    assert_int_equal(b->spool->committed_n, 0); /* nobody is told of an undeliverable notification */
    assert_int_equal(bench_log_count(b, "undeliverable notification discarded"), 1);
    bench_free(&b);
}

static void warned_once(void **state UNUSED)
{
    struct bench *b = bench_new("delay_warning_time = 1h\n", NULL);
    uint64_t id = bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    struct msg *m = bench_msg(b, "silent@example.org");
    bench_rcpt(m, "u@example.net", "smtp", "example.net")->notify = NOTIFY_FAILURE;
    bench_commit(b, m);
    defer_next(b);
    defer_next(b);
    int64_t gap;
    days(b, 50 * 60000, &gap);
    assert_int_equal(b->spool->committed_n, 0);
    days(b, 4 * HOUR_MS, &gap);
    /* The notification itself waits for delivery; it is never warned about. */
    assert_int_equal(b->spool->committed_n, 1);
    assert_true(span_eq(b->spool->committed[0]->env.rcpts[0].addr, SPAN_LIT("a@example.org")));
    assert_non_null(strstr(b->spool->committed[0]->content, "Action: delayed"));
    assert_int_equal(bench_log_count(b, "sender delay notification: "), 1);
    assert_true(fake_row(b->spool, id)->m->env.flags & ENV_NO_DELAY_WARNING);
    bench_free(&b);
}

static void soft_bounce(void **state UNUSED)
{
    struct bench *b = bench_new("soft_bounce = yes\n", NULL);
    bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    struct job *j = bench_next(b);
    bench_finish(b, &j, OUTCOME_BOUNCED, SITE_OK);
    bench_run(b);
    assert_int_equal(b->spool->dones, 0);
    assert_int_equal(b->spool->committed_n, 0);
    assert_int_equal(bench_log_count(b, "dsn=4.1.1, status=SOFTBOUNCE (host mx.example.net[192.0.2.1] said: 550"), 1);
    bench_advance(b, 330000);
    j = bench_next(b);
    assert_non_null(j);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    bench_free(&b);
}

static void failure_waits_for_its_notification(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct msg *m = bench_msg(b, "a@example.org");
    bench_rcpt(m, "u@example.net", "smtp", "example.net");
    bench_rcpt(m, "v@example.net", "smtp", "example.net");
    bench_rcpt(m, "w@example.net", "smtp", "example.net");
    uint64_t id = bench_commit(b, m);
    struct job *j = bench_next(b);
    struct delivery_result bad = bench_result(OUTCOME_BOUNCED), good = bench_result(OUTCOME_SENT);
    sched_report(b->sched, j, 0, &bad);
    sched_report(b->sched, j, 1, &good);
    sched_report(b->sched, j, 2, &bad);
    sched_finish(b->sched, &j, SITE_OK);
    sched_run_once(b->sched);
    /* One notification for both; no record yet. */
    assert_int_equal(b->spool->waiting_n, 1);
    assert_false(fake_traced(b->spool, "bounced"));
    assert_false(sched_is_idle(b->sched));
    assert_int_equal(b->spool->dones, 0);
    b->spool->fail_submit = SPOOL_FULL;
    bench_run(b);
    char want[100];
    snprintf(want, sizeof want, "result %llX 0 deferred;result %llX 2 deferred;applied 2;", (unsigned long long)id, (unsigned long long)id);
    assert_true(fake_traced(b->spool, want));
    b->spool->fail_submit = 0;
    bench_advance(b, 330000);
    j = bench_next(b);
    assert_int_equal(j->rcpt_count, 2);
    bench_finish(b, &j, OUTCOME_BOUNCED, SITE_OK);
    bench_run(b);
    snprintf(want, sizeof want, "result %llX 0 bounced;result %llX 2 bounced;applied 2;done %llX;", (unsigned long long)id,
             (unsigned long long)id, (unsigned long long)id);
    assert_true(fake_traced(b->spool, want));
    assert_int_equal(b->spool->committed_n, 1);
    assert_int_equal(bench_log_count(b, "sender non-delivery notification: "), 1);
    /* The notification goes out by the same scheduler. */
    j = bench_next(b);
    assert_non_null(j);
    assert_int_equal(j->msg->env.sender.n, 0);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 2);
    bench_free(&b);
}

static void success_is_reported_when_asked(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct msg *m = bench_msg(b, "a@example.org");
    bench_rcpt(m, "u@example.net", "smtp", "example.net")->notify = NOTIFY_SUCCESS;
    bench_rcpt(m, "v@example.net", "smtp", "example.net")->notify = NOTIFY_SUCCESS;
    bench_rcpt(m, "w@example.net", "smtp", "example.net");
    bench_rcpt(m, "x@example.net", "smtp", "example.net")->notify = NOTIFY_SUCCESS;
    bench_commit(b, m);
    struct job *j = bench_next(b);
    struct delivery_result r = bench_result(OUTCOME_SENT), final = r, relayed = r;
    final.is_final_delivery = true;
    relayed.is_dsn_relayed = true;
    sched_report(b->sched, j, 0, &final);
    sched_report(b->sched, j, 1, &relayed);
    sched_report(b->sched, j, 2, &final);
    sched_report(b->sched, j, 3, &r); /* the next hop took NOTIFY over */
    sched_finish(b->sched, &j, SITE_OK);
    assert_int_equal(b->spool->dones, 1);
    bench_run(b);
    assert_int_equal(b->spool->committed_n, 1);
    const char *t = b->spool->committed[0]->content;
    assert_non_null(strstr(t, "Action: delivered"));
    assert_non_null(strstr(t, "Action: relayed"));
    assert_non_null(strstr(t, "u@example.net"));
    assert_null(strstr(t, "w@example.net"));
    assert_null(strstr(t, "x@example.net"));
    bench_free(&b);
}

static void clock_set_forward_expires_nothing(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    defer_next(b);
    clock_advance_for_test(1000, 400 * DAY_MS * 1000);
    bench_run(b);
    struct job *j = bench_next(b);
    assert_non_null(j);
    bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
    bench_run(b);
    assert_int_equal(bench_log_count(b, "status=expired"), 0);
    assert_int_equal(bench_log_count(b, "the clock was set forward by"), 1);
    clock_advance_for_test(0, -400 * DAY_MS * 1000);
    bench_run(b);
    bench_free(&b);
}

static void clock_set_back_delays_nothing_for_long(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    bench_send(b, "a@example.org", "u@example.com", "smtp", "example.com");
    defer_next(b);
    bench_advance(b, 6000);
    bench_advance(b, 6000); /* the first has its row and is not in memory */
    defer_next(b);
    clock_advance_for_test(1000, -30 * DAY_MS * 1000);
    bench_run(b);
    unsigned got = 0;
    for (int i = 0; i < 80; i++) {
        struct job *j;
        bench_advance(b, 60000);
        while ((j = bench_next(b)) != NULL) {
            bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
            got++;
        }
    }
    assert_int_equal(got, 2);
    clock_advance_for_test(0, 30 * DAY_MS * 1000);
    bench_run(b);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeline),
        cmocka_unit_test(timeline_by_settings),
        cmocka_unit_test(lifetime_zero_is_one_attempt),
        cmocka_unit_test(warned_once),
        cmocka_unit_test(soft_bounce),
        cmocka_unit_test(failure_waits_for_its_notification),
        cmocka_unit_test(success_is_reported_when_asked),
        cmocka_unit_test(clock_set_forward_expires_nothing),
        cmocka_unit_test(clock_set_back_delays_nothing_for_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

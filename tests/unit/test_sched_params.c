/* One case for each parameter that the other tests of the scheduler do not vary. */
#include "unit.h"
#include <pthread.h>

#include "common/base/clock.h"
#include "sched_bench.h"

static unsigned startable(struct bench *b, struct job *j[64])
{
    unsigned n = 0;
    while (n < 64 && (j[n] = bench_next(b)) != NULL)
        n++;
    return n;
}

static void finish_all(struct bench *b, struct job *j[64], unsigned n, enum outcome o, enum site_verdict v)
{
    for (unsigned i = 0; i < n; i++)
        bench_finish(b, &j[i], o, v);
}

/* How many jobs may run after five deliveries that all fared like this. */
static unsigned window_after(const char *conf, enum site_verdict v)
{
    struct bench *b = bench_new(conf, NULL);
    struct job *j[64];
    for (int i = 0; i < 60; i++)
        bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    unsigned n = startable(b, j);
    finish_all(b, j, n, OUTCOME_SENT, v);
    n = startable(b, j);
    finish_all(b, j, n, OUTCOME_SENT, SITE_NEUTRAL);
    bench_free(&b);
    return n;
}

static void feedback_and_cohorts(void **state UNUSED)
{
    assert_int_equal(window_after("", SITE_OK), 8); /* it stays within five of what is really busy */
    assert_int_equal(window_after("default_destination_concurrency_positive_feedback = 1/5\n", SITE_OK), 6);
    assert_int_equal(window_after("smtp_destination_concurrency_positive_feedback = 0\n", SITE_OK), 5);
    assert_int_equal(window_after("", SITE_UNAVAILABLE), 0);
    assert_int_equal(window_after("default_destination_concurrency_failed_cohort_limit = 10\n", SITE_UNAVAILABLE), 1);
    assert_int_equal(window_after("smtp_destination_concurrency_failed_cohort_limit = 10\n"
                                  "default_destination_concurrency_negative_feedback = 0\n", SITE_UNAVAILABLE), 5);
    assert_int_equal(window_after("smtp_destination_concurrency_failed_cohort_limit = 10\n"
                                  "smtp_destination_concurrency_negative_feedback = 1/5\n", SITE_UNAVAILABLE), 4);
    assert_int_equal(window_after("initial_destination_concurrency = 7\nsmtp_destination_concurrency_positive_feedback = 0\n", SITE_OK), 7);
    assert_int_equal(window_after("default_destination_concurrency_limit = 3\n", SITE_OK), 3);
}

static void defaults_of_every_transport(void **state UNUSED)
{
    struct bench *b = bench_new("default_destination_rate_delay = 2s\n", NULL);
    struct job *j[64];
    for (int i = 0; i < 3; i++)
        bench_send(b, "a@example.org", "u@example.net", i ? "smtp" : "relay", "example.net");
    unsigned n = startable(b, j);
    assert_int_equal(n, 2);
    finish_all(b, j, n, OUTCOME_SENT, SITE_OK);
    bench_free(&b);
    b = bench_new("default_transport_rate_delay = 2s\n", NULL);
    bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    bench_send(b, "a@example.org", "u@example.com", "smtp", "example.com");
    n = startable(b, j);
    assert_int_equal(n, 1);
    finish_all(b, j, n, OUTCOME_SENT, SITE_OK);
    bench_free(&b);
    b = bench_new("default_destination_recipient_limit = 2\n", NULL);
    struct msg *m = bench_msg(b, "a@example.org");
    for (int i = 0; i < 4; i++)
        bench_rcpt(m, "u@example.net", "smtp", "example.net");
    bench_commit(b, m);
    n = startable(b, j);
    assert_int_equal(n, 2);
    finish_all(b, j, n, OUTCOME_SENT, SITE_OK);
    bench_free(&b);
}

static void default_process_limit(void **state UNUSED)
{
    struct bench *b = bench_new("default_process_limit = 2\n", NULL);
    struct job *j[64];
    for (int i = 0; i < 5; i++)
        bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    unsigned n = startable(b, j);
    assert_int_equal(n, 2);
    finish_all(b, j, n, OUTCOME_SENT, SITE_OK);
    bench_free(&b);
}

static void qmgr_message_recipient_limit(void **state UNUSED)
{
    struct bench *b = bench_new("qmgr_message_recipient_limit = 5\n", NULL);
    for (int i = 0; i < 3; i++) {
        struct msg *m = bench_msg(b, "a@example.org");
        for (int k = 0; k < 4; k++)
            bench_rcpt(m, "u@example.net", "smtp", "example.net");
        bench_commit(b, m);
    }
    assert_int_equal(b->sched->n_active, 2); /* the second one passes the limit */
    struct job *j[64];
    unsigned n = startable(b, j);
    finish_all(b, j, n, OUTCOME_SENT, SITE_OK);
    bench_run(b);
    n = startable(b, j);
    assert_int_equal(n, 1);
    finish_all(b, j, n, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 3);
    bench_free(&b);
}

static void index_flush_interval(void **state UNUSED)
{
    struct bench *b = bench_new("index_flush_interval = 60s\n", NULL);
    struct job *j;
    bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    j = bench_next(b);
    bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
    for (int i = 0; i < 11; i++)
        bench_advance(b, 5000);
    assert_int_equal(b->spool->rows_n, 0);
    for (int i = 0; i < 13; i++)
        bench_advance(b, 5000);
    assert_int_equal(b->spool->rows_n, 1);
    bench_free(&b);
}

static void confirm_delay_cleared(void **state UNUSED)
{
    for (int on = 0; on < 2; on++) {
        struct bench *b = bench_new(on ? "confirm_delay_cleared = yes\ndelay_warning_time = 1h\n" : "delay_warning_time = 1h\n", NULL);
        bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
        struct job *j = bench_next(b);
        bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
        bench_advance(b, 3700000);
        j = bench_next(b);
        bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
        bench_run(b);
        assert_int_equal(b->spool->committed_n, 1);
        bench_advance(b, 4200000);
        while ((j = bench_next(b)) != NULL)
            bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        bench_run(b);
        assert_int_equal(b->spool->committed_n, 1 + on);
        bench_free(&b);
    }
}

static void log_parameters(void **state UNUSED)
{
    static const struct { const char *conf, *delays, *addr; } cases[] = {
        { "", "/0.03/1.2, ", "to=<\"odd user\"@example.net>" },
        { "delay_logging_resolution_limit = 0\n", "/0/1, ", "to=<\"odd user\"@example.net>" },
        { "info_log_address_format = internal\n", "/0.03/1.2, ", "to=<odd user@example.net>" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bench *b = bench_new(cases[i].conf, NULL);
        bench_send(b, "a@example.org", "odd user@example.net", "smtp", "example.net");
        struct job *j = bench_next(b);
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        assert_int_equal(bench_log_count(b, cases[i].delays), 1);
        assert_int_equal(bench_log_count(b, cases[i].addr), 1);
        bench_free(&b);
    }
}

static void delay_format(void **state UNUSED)
{
    static const struct { int64_t us, limit; const char *text; } cases[] = {
        { 0, 2, "0" }, { -5, 2, "0" }, { 4000, 2, "0" }, { 5000, 2, "0.01" }, { 12345, 2, "0.01" }, { 12345, 4, "0.012" },
        { 99999, 6, "0.1" }, { 100000, 2, "0.1" }, { 123456, 2, "0.12" }, { 1234567, 2, "1.2" }, { 1000000, 2, "1" },
        { 9960000, 2, "10" }, { 12345678, 2, "12" }, { INT64_C(123456789012), 2, "123457" }, { 12, 6, "0.000012" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char t[33];
        t[log_format_delay(t, cases[i].us, cases[i].limit)] = '\0';
        if (strcmp(t, cases[i].text) != 0)
            fail_msg("%lld: '%s', not '%s'", (long long)cases[i].us, t, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(feedback_and_cohorts),
        cmocka_unit_test(defaults_of_every_transport),
        cmocka_unit_test(default_process_limit),
        cmocka_unit_test(qmgr_message_recipient_limit),
        cmocka_unit_test(index_flush_interval),
        cmocka_unit_test(confirm_delay_cleared),
        cmocka_unit_test(log_parameters),
        cmocka_unit_test(delay_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "unit.h"
#include <pthread.h>

#include "common/base/clock.h"
#include "sched_bench.h"

static void delivered_at_once(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    uint64_t id = bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    assert_int_equal(b->wakes, 1);
    struct job *j = bench_next(b);
    assert_non_null(j);
    assert_int_equal(j->msg->env.id, id);
    assert_int_equal(j->rcpt_count, 1);
    assert_string_equal(j->transport->name, "smtp");
    assert_true(span_eq(j->nexthop, SPAN_LIT("example.net")));
    assert_null(bench_next(b));
    assert_false(sched_is_idle(b->sched));
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_null(j);
    assert_true(sched_is_idle(b->sched));
    bench_run(b);
    struct sched_counts c = sched_counts(b->sched);
    assert_int_equal(c.active + c.deferred + c.hold + c.in_delivery + c.jobs_waiting, 0);
    /* The record is there before the message is done, and the index never heard of it. */
    char want[64];
    snprintf(want, sizeof want, "result %llX 0 sent;applied 1;done %llX;", (unsigned long long)id, (unsigned long long)id);
    assert_true(fake_traced(b->spool, want));
    bench_advance(b, 11000);
    bench_advance(b, 11000);
    assert_int_equal(b->spool->upserts + b->spool->deletes, 0);
    char *log = bench_log(b);
    snprintf(want, sizeof want, "%llX: from=<a@example.org>, size=32, nrcpt=1 (queue active)\n", (unsigned long long)id);
    assert_non_null(strstr(log, want));
    assert_non_null(strstr(log, "posthouse/smtp[7]: "));
    assert_non_null(strstr(log, ": to=<u@example.net>, relay=mx.example.net[192.0.2.1]:25, delay=0"));
    assert_non_null(strstr(log, "/0.03/1.2, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as X)\n"));
    snprintf(want, sizeof want, "posthouse/qmgr[7]: %llX: removed\n", (unsigned long long)id);
    assert_non_null(strstr(log, want));
    free(log);
    bench_free(&b);
}

static void deferred_then_sent(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    uint64_t id = bench_send(b, "a@example.org", "u@example.net", "relay", "example.net");
    struct job *j = bench_next(b);
    bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
    assert_int_equal(b->spool->drops, 1);
    bench_run(b);
    assert_null(bench_next(b));
    /* Two ticks later the row is there and the message is not in memory. */
    bench_advance(b, 6000);
    bench_advance(b, 6000);
    assert_int_equal(b->spool->rows_n, 1);
    assert_int_equal(b->sched->n_messages, 0);
    assert_int_equal(sched_counts(b->sched).deferred, 1);
    assert_int_equal(fake_row(b->spool, id)->m->env.rcpts[0].attempts, 1);
    bench_advance(b, 250000);
    assert_null(bench_next(b));
    bench_advance(b, 60000);
    j = bench_next(b);
    assert_non_null(j);
    assert_int_equal(j->msg->env.id, id);
    assert_int_equal(b->resolved, 1); /* rows have no route */
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 1);
    bench_advance(b, 6000);
    bench_advance(b, 6000);
    assert_int_equal(b->spool->rows_n, 0);
    assert_int_equal(b->sched->n_gone, 0);
    assert_int_equal(bench_log_count(b, "posthouse/relay/smtp[7]: "), 1);
    assert_int_equal(bench_log_count(b, "status=deferred (connect to mx.example.net[192.0.2.1]:25: Connection refused)"), 1);
    assert_int_equal(bench_log_count(b, "(queue active)"), 2);
    bench_free(&b);
}

static void unreported_is_tried_again(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct msg *m = bench_msg(b, "a@example.org");
    bench_rcpt(m, "u@example.net", "smtp", "example.net");
    bench_rcpt(m, "v@example.net", "smtp", "example.net");
    bench_commit(b, m);
    struct job *j = bench_next(b);
    assert_int_equal(j->rcpt_count, 2);
    struct delivery_result r = bench_result(OUTCOME_SENT);
    sched_report(b->sched, j, 1, &r);
    sched_finish(b->sched, &j, SITE_NEUTRAL);
    assert_int_equal(b->spool->dones, 0);
    bench_advance(b, 11000);
    j = bench_next(b);
    assert_non_null(j);
    assert_int_equal(j->rcpt_count, 1);
    assert_int_equal(j->rcpts[0].index, 0);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 1);
    bench_free(&b);
}

static void recovered_is_resolved(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct msg *m = bench_msg(b, "a@example.org");
    m->received_ms = 0;
    bench_rcpt(m, "done@example.net", NULL, NULL)->state = RCPT_DONE;
    bench_rcpt(m, "u@example.net", NULL, NULL);
    bench_rcpt(m, "later@example.net", NULL, NULL)->due_us = clock_wall_us() + INT64_C(100000000);
    bench_commit(b, m);
    assert_null(bench_next(b));
    bench_run(b);
    struct job *j = bench_next(b);
    assert_non_null(j);
    assert_int_equal(j->rcpt_count, 1);
    assert_int_equal(j->rcpts[0].index, 1);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 0);
    bench_advance(b, 101000);
    j = bench_next(b);
    assert_int_equal(j->rcpts[0].index, 2);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 1);
    /* It may have had a row from before the crash. */
    bench_advance(b, 6000);
    bench_advance(b, 6000);
    assert_true(b->spool->deletes >= 1);
    bench_free(&b);
}

static void resolver_refuses(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    b->resolve_status = -1;
    b->resolve_why = "table lookup failure";
    uint64_t id = bench_send(b, "a@example.org", "u@example.net", NULL, NULL);
    bench_run(b);
    assert_null(bench_next(b));
    assert_int_equal(bench_log_count(b, "relay=none, delay=0"), 1);
    assert_int_equal(bench_log_count(b, "dsn=4.3.0, status=deferred (table lookup failure)"), 1);
    b->resolve_status = 1;
    b->resolve_why = "unknown";
    bench_advance(b, 400000);
    assert_int_equal(bench_log_count(b, "status=bounced (unknown)"), 2); /* the notification cannot be resolved either */
    assert_int_equal(b->spool->committed_n, 1);
    assert_true(span_eq(b->spool->committed[0]->env.rcpts[0].addr, SPAN_LIT("a@example.org")));
    char want[64];
    snprintf(want, sizeof want, "done %llX;", (unsigned long long)id);
    assert_true(fake_traced(b->spool, want));
    bench_free(&b);
}

static void next_for_a_kept_connection(void **state UNUSED)
{
    struct bench *b = bench_new("smtp_destination_concurrency_limit = 1\n", NULL);
    for (int i = 0; i < 3; i++)
        bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    bench_send(b, "a@example.org", "u@example.com", "smtp", "example.com");
    struct job *j = bench_next(b);
    assert_true(span_eq(j->nexthop, SPAN_LIT("example.net")));
    struct delivery_result r = bench_result(OUTCOME_SENT);
    sched_report_all(b->sched, j, &r);
    struct job *k = sched_finish_next(b->sched, &j, SITE_OK);
    assert_non_null(k);
    assert_true(span_eq(k->nexthop, SPAN_LIT("example.net")));
    /* The other form: a copy of the hint, finished first. */
    struct conf *c = conf_ref(k->conf);
    struct job hint = { .conf = c, .transport = k->transport, .nexthop = SPAN_LIT("example.net") };
    assert_null(sched_next(b->sched, &hint));
    bench_finish(b, &k, OUTCOME_SENT, SITE_OK);
    k = sched_next(b->sched, &hint);
    assert_non_null(k);
    assert_true(span_eq(k->nexthop, SPAN_LIT("example.net")));
    bench_finish(b, &k, OUTCOME_SENT, SITE_OK);
    assert_null(sched_next(b->sched, &hint));
    conf_unref(&c);
    k = bench_next(b);
    assert_true(span_eq(k->nexthop, SPAN_LIT("example.com")));
    bench_finish(b, &k, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 4);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivered_at_once),
        cmocka_unit_test(deferred_then_sent),
        cmocka_unit_test(unreported_is_tried_again),
        cmocka_unit_test(recovered_is_resolved),
        cmocka_unit_test(resolver_refuses),
        cmocka_unit_test(next_for_a_kept_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "unit.h"
#include <pthread.h>

#include "common/base/clock.h"
#include "sched_bench.h"

static uint64_t defer_one(struct bench *b, const char *hop)
{
    uint64_t id = bench_send(b, "a@example.org", "u@example.net", "smtp", hop);
    struct job *j = bench_next(b);
    assert_non_null(j);
    bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
    return id;
}

/* A message delivered while the flush that contains it is under way: its row goes with the next one, and is never fetched. */
static void delivered_during_the_flush(void **state UNUSED)
{
    struct bench *b = bench_new("queue_run_delay = 1s\nminimal_backoff_time = 7s\nmaximal_backoff_time = 7s\n", NULL);
    defer_one(b, "example.net");
    bench_run(b);
    bench_advance(b, 5100);
    b->spool->keep_flush = true;
    bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 1);
    struct job *j = bench_next(b); /* due again after 7 s */
    assert_non_null(j);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 1);
    b->spool->keep_flush = false;
    fake_flush_answer(b->spool, 0);
    for (int i = 0; i < 4; i++) {
        bench_advance(b, 5100);
        assert_null(bench_next(b));
    }
    assert_int_equal(b->spool->rows_n, 0);
    assert_int_equal(b->sched->n_gone, 0);
    assert_int_equal(b->spool->dones, 1);
    bench_free(&b);
}

/* Deferred again while the flush is under way: the row must not stay at the old state. */
static void changed_during_the_flush(void **state UNUSED)
{
    struct bench *b = bench_new("queue_run_delay = 1s\nminimal_backoff_time = 7s\nmaximal_backoff_time = 4000s\n", NULL);
    uint64_t id = defer_one(b, "example.net");
    bench_run(b);
    bench_advance(b, 5100);
    b->spool->keep_flush = true;
    bench_advance(b, 5100);
    struct job *j = bench_next(b);
    bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
    b->spool->keep_flush = false;
    fake_flush_answer(b->spool, 0);
    bench_advance(b, 5100);
    bench_advance(b, 5100);
    assert_int_equal(fake_row(b->spool, id)->m->env.rcpts[0].attempts, 2);
    bench_free(&b);
}

static void a_failed_flush_is_repeated(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    defer_one(b, "example.net");
    b->spool->fail_flush = -1;
    for (int i = 0; i < 4; i++)
        bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 0);
    assert_int_equal(b->sched->n_messages, 1); /* stays in memory */
    assert_true(bench_log_count(b, "the queue index cannot be written") >= 1);
    b->spool->fail_flush = 0;
    bench_advance(b, 5100);
    bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 1);
    assert_int_equal(b->sched->n_messages, 0);
    bench_free(&b);
}

/* 3,000 messages wait for room of 100: memory follows the limit, all get delivered, none twice. */
static void memory_does_not_grow_with_the_backlog(void **state UNUSED)
{
    struct bench *b = bench_new("qmgr_message_active_limit = 100\n", NULL);
    const unsigned n = 3000;
    char hop[40];
    for (unsigned i = 0; i < n; i++) {
        snprintf(hop, sizeof hop, "d%u.example.net", i % 7);
        bench_send(b, "a@example.org", "u@example.net", "smtp", hop);
    }
    assert_true(b->sched->n_active <= 100);
    bench_advance(b, 5100);
    bench_advance(b, 5100);
    bench_advance(b, 5100);
    assert_true(b->sched->n_messages <= 200);
    assert_in_range(b->spool->rows_n, n - 200, n);
    unsigned sent = 0, most = 0;
    for (int i = 0; i < 20000 && sent < n; i++) {
        struct job *j = bench_next(b);
        if (j == NULL) {
            bench_advance(b, 100);
            continue;
        }
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        sent++;
        if (i % 10 == 0)
            bench_run(b);
        assert_true(b->sched->n_active <= 100);
        if (b->sched->n_messages > most)
            most = (unsigned)b->sched->n_messages;
    }
    assert_int_equal(sent, n);
    assert_int_equal(b->spool->dones, n);
    assert_true(most <= 300);
    bench_advance(b, 5100);
    bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 0);
    assert_null(bench_next(b));
    bench_free(&b);
}

/* New mail is tried although the backlog is larger than the limit, and the backlog moves on although new mail keeps coming. */
static void backlog_and_new_mail_share_the_room(void **state UNUSED)
{
    struct bench *b = bench_new("qmgr_message_active_limit = 50\n", NULL);
    for (int i = 0; i < 500; i++)
        bench_send(b, "old@example.org", "u@example.net", "smtp", "example.net");
    for (int i = 0; i < 4; i++)
        bench_advance(b, 5100);
    assert_true(b->spool->rows_n > 300);
    unsigned fresh = 0, old = 0;
    for (int i = 0; i < 400; i++) {
        bench_send(b, "new@example.org", "u@example.com", "smtp", "example.com");
        struct job *j = bench_next(b);
        if (j != NULL) {
            fresh += j->msg->env.sender.p[0] == 'n';
            old += j->msg->env.sender.p[0] == 'o';
            bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        }
        bench_run(b);
    }
    assert_true(fresh > 50);
    assert_true(old > 50);
    bench_free(&b);
}

/* Who is to be tried alone is so after the message was only in the index meanwhile, as it is with the usual back-off. */
static void tried_alone_after_a_fetch(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct msg *m = bench_msg(b, "a@example.org");
    for (int i = 0; i < 3; i++)
        bench_rcpt(m, "u@example.net", "lmtp", "example.net");
    bench_commit(b, m);
    struct job *j = bench_next(b);
    assert_non_null(j);
    assert_int_equal(j->rcpt_count, 3);
    struct delivery_result r = bench_result(OUTCOME_DEFERRED);
    r.retry_alone = true;
    sched_report_all(b->sched, j, &r);
    sched_finish(b->sched, &j, SITE_NEUTRAL);
    for (int i = 0; i < 3; i++)
        bench_advance(b, 5100);
    assert_int_equal(b->sched->n_messages, 0);
    bench_advance(b, 400000);
    unsigned jobs = 0;
    for (; (j = bench_next(b)) != NULL; jobs++) {
        assert_int_equal(j->rcpt_count, 1);
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    }
    assert_int_equal(jobs, 3);
    bench_free(&b);
}

/* A row that cannot be read for a while is fetched when it can, without a restart. */
static void what_could_not_be_read_is_tried_again(void **state UNUSED)
{
    struct bench *b = bench_new("queue_run_delay = 20s\nminimal_backoff_time = 30s\nmaximal_backoff_time = 30s\n", NULL);
    defer_one(b, "example.net");
    bench_run(b);
    bench_advance(b, 5100);
    bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 1);
    assert_int_equal(b->sched->n_messages, 0);
    b->spool->fail_read = 3;
    struct job *j = NULL;
    for (int i = 0; i < 100 && j == NULL; i++) {
        bench_advance(b, 2000);
        j = bench_next(b);
    }
    assert_int_equal(b->spool->fail_read, 0);
    assert_non_null(j);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    bench_free(&b);
}

/* A thread that is waited for is given no more work, although it holds a connection and there is mail for it. */
static void the_last_job_of_a_thread(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    for (int i = 0; i < 3; i++)
        bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    struct job *j = bench_next(b);
    assert_non_null(j);
    struct delivery_result r = bench_result(OUTCOME_SENT);
    sched_report_all(b->sched, j, &r);
    j = sched_finish_next(b->sched, &j, SITE_OK);
    assert_non_null(j);
    sched_end_jobs(b->sched);
    sched_report_all(b->sched, j, &r);
    assert_null(sched_finish_next(b->sched, &j, SITE_OK));
    assert_null(bench_next(b));
    assert_int_equal(b->spool->dones, 2);
    bench_free(&b);
}

static void stop_writes_everything(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    defer_one(b, "example.net");
    bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    assert_int_equal(sched_start(b->sched), 0);
    sched_stop(b->sched);
    assert_int_equal(b->spool->rows_n, 2);
    assert_null(bench_next(b));
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivered_during_the_flush),
        cmocka_unit_test(changed_during_the_flush),
        cmocka_unit_test(a_failed_flush_is_repeated),
        cmocka_unit_test(memory_does_not_grow_with_the_backlog),
        cmocka_unit_test(backlog_and_new_mail_share_the_room),
        cmocka_unit_test(tried_alone_after_a_fetch),
        cmocka_unit_test(what_could_not_be_read_is_tried_again),
        cmocka_unit_test(the_last_job_of_a_thread),
        cmocka_unit_test(stop_writes_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

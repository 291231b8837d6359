#include "unit.h"
#include <pthread.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sched_bench.h"

#define JOBS_MAX 64

/* Takes all jobs that may start now. */
static unsigned take_all(struct bench *b, struct job *j[JOBS_MAX])
{
    unsigned n = 0;
    while (n < JOBS_MAX && (j[n] = bench_next(b)) != NULL)
        n++;
    return n;
}

static void send_many(struct bench *b, unsigned n, const char *sender, const char *hop)
{
    char addr[100];
    for (unsigned i = 0; i < n; i++) {
        snprintf(addr, sizeof addr, "u%u@%s", i, hop);
        bench_send(b, sender, addr, "smtp", hop);
    }
}

static void window_grows_and_shrinks(void **state UNUSED)
{
    struct bench *b = bench_new("smtp_destination_concurrency_limit = 8\n", NULL);
    struct job *j[JOBS_MAX];
    send_many(b, 60, "a@example.org", "example.net");
    unsigned n = take_all(b, j);
    assert_int_equal(n, 5);
    for (unsigned i = 0; i < n; i++)
        bench_finish(b, &j[i], OUTCOME_SENT, SITE_OK);
    n = take_all(b, j);
    assert_int_equal(n, 8);
    bench_finish(b, &j[0], OUTCOME_DEFERRED, SITE_UNAVAILABLE);
    bench_finish(b, &j[1], OUTCOME_DEFERRED, SITE_UNAVAILABLE);
    assert_null(bench_next(b)); /* 6 busy, window 6 */
    for (unsigned i = 2; i < n; i++)
        bench_finish(b, &j[i], OUTCOME_SENT, SITE_NEUTRAL);
    n = take_all(b, j);
    assert_int_equal(n, 6);
    for (unsigned i = 0; i < n; i++)
        bench_finish(b, &j[i], OUTCOME_SENT, SITE_NEUTRAL);
    bench_free(&b);
}

/* A reload takes the mail of a site that died a moment ago out of its queue, before it was deferred there. */
static void a_reload_meets_a_dying_site(void **state UNUSED)
{
    struct bench *b = bench_new("initial_destination_concurrency = 2\n", NULL);
    struct job *j[JOBS_MAX];
    unsigned many = 3 * SCHED_PIECE; /* the thread defers and resolves them piece by piece */
    send_many(b, many, "a@example.org", "example.net");
    unsigned n = take_all(b, j);
    for (unsigned i = 0; i < n; i++)
        bench_finish(b, &j[i], OUTCOME_DEFERRED, SITE_UNAVAILABLE);
    sched_reconfigure(b->sched, b->conf);
    bench_run(b);
    assert_null(bench_next(b));
    assert_int_equal(bench_log_count(b, "temporarily suspended"), many - 2);
    bench_advance(b, 335000);
    n = take_all(b, j);
    assert_int_equal(n, 2);
    for (unsigned i = 0; i < n; i++)
        bench_finish(b, &j[i], OUTCOME_SENT, SITE_OK);
    bench_free(&b);
}

static void a_dead_site_is_left_alone(void **state UNUSED)
{
    struct bench *b = bench_new("initial_destination_concurrency = 2\n", NULL);
    struct job *j[JOBS_MAX];
    send_many(b, 10, "a@example.org", "example.net");
    unsigned n = take_all(b, j);
    assert_int_equal(n, 2);
    for (unsigned i = 0; i < n; i++)
        bench_finish(b, &j[i], OUTCOME_DEFERRED, SITE_UNAVAILABLE);
    assert_null(bench_next(b));
    bench_run(b);
    assert_null(bench_next(b));
    assert_int_equal(bench_log_count(b, "posthouse/error[7]"), 8);
    assert_int_equal(bench_log_count(b, "relay=none, "), 8);
    assert_int_equal(bench_log_count(b, "status=deferred (delivery temporarily suspended: connect to mx.example.net[192.0.2.1]:25: Connection refused)"), 8);
    /* New mail for it does not try either; other sites are not concerned. */
    bench_send(b, "b@example.org", "x@example.net", "smtp", "example.net");
    bench_send(b, "b@example.org", "x@example.com", "smtp", "example.com");
    bench_run(b);
    n = take_all(b, j);
    assert_int_equal(n, 1);
    assert_true(span_eq(j[0]->nexthop, SPAN_LIT("example.com")));
    bench_finish(b, &j[0], OUTCOME_SENT, SITE_OK);
    assert_int_equal(bench_log_count(b, "temporarily suspended"), 9);
    /* After the back-off it is tried again, as an unknown site. */
    bench_advance(b, 335000);
    n = take_all(b, j);
    assert_int_equal(n, 2);
    for (unsigned i = 0; i < n; i++)
        bench_finish(b, &j[i], OUTCOME_SENT, SITE_OK);
    n = take_all(b, j);
    assert_true(n > 2);
    for (unsigned i = 0; i < n; i++)
        bench_finish(b, &j[i], OUTCOME_SENT, SITE_OK);
    bench_free(&b);
}

static void a_late_success_revives(void **state UNUSED)
{
    struct bench *b = bench_new("initial_destination_concurrency = 2\n", NULL);
    struct job *j[JOBS_MAX];
    send_many(b, 6, "a@example.org", "example.net");
    assert_int_equal(take_all(b, j), 2);
    struct job *late = j[1];
    bench_finish(b, &j[0], OUTCOME_DEFERRED, SITE_UNAVAILABLE);
    j[0] = bench_next(b);
    assert_null(j[0]); /* window 1, one busy */
    /* A failed cohort needs 1/2 + 1/1. */
    bench_finish(b, &late, OUTCOME_SENT, SITE_OK);
    struct job *k = bench_next(b);
    assert_non_null(k);
    bench_finish(b, &k, OUTCOME_SENT, SITE_OK);
    bench_free(&b);
}

static void senders_take_turns(void **state UNUSED)
{
    struct bench *b = bench_new("smtp_destination_concurrency_limit = 1\n", NULL);
    send_many(b, 5000, "list@example.org", "example.net");
    struct job *j = bench_next(b);
    uint64_t id = bench_send(b, "person@example.org", "u@example.net", "smtp", "example.net");
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    unsigned waited = 0;
    for (; waited < 10; waited++) {
        j = bench_next(b);
        bool is_it = j->msg->env.id == id;
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        if (is_it)
            break;
    }
    assert_true(waited <= 1);
    /* Three senders: each gets a third. */
    send_many(b, 30, "p@example.org", "example.net");
    send_many(b, 30, "q@example.org", "example.net");
    unsigned list = 0, p = 0, q = 0;
    for (int i = 0; i < 30; i++) {
        j = bench_next(b);
        list += j->msg->env.sender.p[0] == 'l';
        p += j->msg->env.sender.p[0] == 'p';
        q += j->msg->env.sender.p[0] == 'q';
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    }
    assert_int_equal(list, 10);
    assert_int_equal(p, 10);
    assert_int_equal(q, 10);
    bench_free(&b);
}

static void a_large_mailing_yields_to_the_same_senders_mail(void **state UNUSED)
{
    struct bench *b = bench_new("smtp_destination_concurrency_limit = 1\n", NULL);
    struct msg *m = bench_msg(b, "a@example.org");
    char addr[64];
    for (int i = 0; i < 500; i++) {
        snprintf(addr, sizeof addr, "u%d@example.net", i);
        bench_rcpt(m, addr, "smtp", "example.net");
    }
    uint64_t big = bench_commit(b, m);
    bench_run(b); /* too many recipients for the committer's thread */
    uint64_t small = bench_send(b, "a@example.org", "one@example.net", "smtp", "example.net");
    struct job *j = bench_next(b);
    assert_int_equal(j->msg->env.id, big);
    assert_int_equal(j->rcpt_count, 50);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    j = bench_next(b);
    assert_int_equal(j->msg->env.id, small);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    unsigned jobs = 1;
    for (; (j = bench_next(b)) != NULL; jobs++)
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_int_equal(jobs, 10);
    assert_int_equal(b->spool->dones, 2);
    bench_free(&b);
}

static void hanging_destinations_cost_others_nothing(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    char hop[32];
    for (int i = 0; i < 10; i++)
        for (int d = 0; d < 20; d++) {
            snprintf(hop, sizeof hop, "d%d.example.net", d);
            bench_send(b, "a@example.org", "u@x", "smtp", hop);
        }
    /* The odd ones never answer; the process limit is 100, so 10 times 5 stay busy. */
    struct job *hung[100];
    unsigned hanging = 0, sent = 0;
    struct job *j;
    while ((j = bench_next(b)) != NULL) {
        if ((j->nexthop.n == 15 ? j->nexthop.p[2] - '0' : j->nexthop.p[1] - '0') % 2 == 1) {
            assert_true(hanging < 100);
            hung[hanging++] = j;
        } else {
            bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
            sent++;
        }
    }
    assert_int_equal(hanging, 50);
    assert_int_equal(sent, 100);
    for (unsigned i = 0; i < hanging; i++)
        bench_finish(b, &hung[i], OUTCOME_DEFERRED, SITE_UNAVAILABLE);
    bench_free(&b);
}

static void transport_process_limit(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, "smtp unix - - n - 3 smtp\nrelay unix - - n - - smtp\nretry unix - - n - - error\n");
    char hop[32];
    struct job *j[JOBS_MAX];
    for (int d = 0; d < 6; d++) {
        snprintf(hop, sizeof hop, "d%d.example.net", d);
        bench_send(b, "a@example.org", "u@x", "smtp", hop);
        bench_send(b, "a@example.org", "u@x", "relay", hop);
    }
    assert_int_equal(take_all(b, j), 9);
    unsigned smtp = 0;
    for (int i = 0; i < 9; i++)
        smtp += j[i]->transport->name[0] == 's';
    assert_int_equal(smtp, 3);
    for (int i = 0; i < 9; i++)
        bench_finish(b, &j[i], OUTCOME_SENT, SITE_OK);
    assert_int_equal(take_all(b, j), 3);
    for (int i = 0; i < 3; i++)
        bench_finish(b, &j[i], OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 12);
    bench_free(&b);
}

/* flags=D and O name the recipient in the content: one copy each, whatever the limit says. */
static void recipient_fields_need_a_copy_each(void **state UNUSED)
{
    static const struct { const char *flags; unsigned jobs; } cases[] = {
        { "", 1 }, { " flags=RX", 1 }, { " flags=D", 3 }, { " flags=RO", 3 },
    };
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        char *master = xasprintf("smtp unix - - n - - smtp%s\n", cases[c].flags), addr[64];
        struct bench *b = bench_new(NULL, master);
        struct msg *m = bench_msg(b, "a@example.org");
        for (int i = 0; i < 3; i++) {
            snprintf(addr, sizeof addr, "u%d@example.net", i);
            bench_rcpt(m, addr, "smtp", "example.net");
        }
        bench_commit(b, m);
        unsigned jobs = 0;
        for (struct job *j; (j = bench_next(b)) != NULL; jobs++)
            bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        assert_int_equal(jobs, cases[c].jobs);
        bench_free(&b);
        free(master);
    }
}

static void recipients_are_split(void **state UNUSED)
{
    struct bench *b = bench_new("smtp_destination_recipient_limit = 3\nrelay_destination_recipient_limit = 0\n", NULL);
    struct msg *m = bench_msg(b, "a@example.org");
    char addr[64];
    for (int i = 0; i < 10; i++) {
        snprintf(addr, sizeof addr, "u%d@example.net", i);
        bench_rcpt(m, addr, i % 2 ? "relay" : "smtp", "example.net");
    }
    bench_rcpt(m, "x@example.com", "smtp", "example.com");
    bench_commit(b, m);
    struct job *j[JOBS_MAX];
    unsigned n = take_all(b, j), seen = 0;
    assert_int_equal(n, 4); /* smtp 3 + 2, example.com 1, relay 5 */
    for (unsigned i = 0; i < n; i++) {
        assert_true(j[i]->rcpt_count <= 3 || j[i]->transport->name[0] == 'r');
        for (uint32_t k = 0; k < j[i]->rcpt_count; k++)
            seen |= 1U << j[i]->rcpts[k].index;
    }
    assert_int_equal(seen, 0x7ff);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(b->spool->dones, 0);
        bench_finish(b, &j[i], OUTCOME_SENT, SITE_OK);
    }
    assert_int_equal(b->spool->dones, 1);
    bench_free(&b);
}

/* Recipient limit 1: limits count per recipient, and different recipients do not wait for each other. */
static void one_recipient_each(void **state UNUSED)
{
    struct bench *b = bench_new("virtual_destination_recipient_limit = 1\nvirtual_destination_concurrency_limit = 1\n", NULL);
    for (int i = 0; i < 3; i++) {
        bench_send(b, "a@example.org", "u@example.net", "virtual", "example.net");
        bench_send(b, "a@example.org", "v@example.net", "virtual", "example.net");
    }
    struct job *j[JOBS_MAX];
    assert_int_equal(take_all(b, j), 2);
    assert_true(span_eq(j[0]->nexthop, SPAN_LIT("example.net")));
    struct job hint = *j[0];
    hint.conf = conf_ref(j[0]->conf);
    hint.nexthop = SPAN_LIT("example.net");
    bench_finish(b, &j[0], OUTCOME_SENT, SITE_OK);
    struct job *k = sched_next(b->sched, &hint);
    assert_non_null(k);
    bench_finish(b, &k, OUTCOME_SENT, SITE_OK);
    conf_unref(&hint.conf);
    bench_finish(b, &j[1], OUTCOME_SENT, SITE_OK);
    while ((k = bench_next(b)) != NULL)
        bench_finish(b, &k, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 6);
    bench_free(&b);
}

static void rate_delays(void **state UNUSED)
{
    struct bench *b = bench_new("smtp_destination_rate_delay = 2s\nrelay_transport_rate_delay = 3s\n", NULL);
    struct job *j[JOBS_MAX];
    send_many(b, 3, "a@example.org", "example.net");
    send_many(b, 1, "a@example.org", "example.com");
    assert_int_equal(take_all(b, j), 2); /* one for each destination */
    bench_finish(b, &j[0], OUTCOME_SENT, SITE_OK);
    bench_finish(b, &j[1], OUTCOME_SENT, SITE_OK);
    assert_null(bench_next(b));
    bench_advance(b, 1000);
    assert_null(bench_next(b));
    unsigned wakes = b->wakes;
    bench_advance(b, 1001);
    assert_int_equal(b->wakes, wakes + 1);
    assert_int_equal(take_all(b, j), 1);
    bench_finish(b, &j[0], OUTCOME_SENT, SITE_OK);
    bench_advance(b, 2001);
    assert_int_equal(take_all(b, j), 1);
    bench_finish(b, &j[0], OUTCOME_SENT, SITE_OK);
    for (int i = 0; i < 3; i++)
        bench_send(b, "a@example.org", "u@x", "relay", i ? "x" : "y");
    assert_int_equal(take_all(b, j), 1);
    bench_finish(b, &j[0], OUTCOME_SENT, SITE_OK);
    assert_null(bench_next(b));
    bench_advance(b, 3001);
    assert_int_equal(take_all(b, j), 1);
    bench_finish(b, &j[0], OUTCOME_SENT, SITE_OK);
    bench_free(&b);
}

static void deferred_and_missing_transports(void **state UNUSED)
{
    struct bench *b = bench_new("defer_transports = relay\n", NULL);
    bench_send(b, "a@example.org", "u@x", "relay", "x");
    bench_send(b, "a@example.org", "u@y", "uucp", "y");
    bench_run(b);
    assert_null(bench_next(b));
    assert_int_equal(bench_log_count(b, "dsn=4.3.2, status=deferred (deferred transport)"), 1);
    assert_int_equal(bench_log_count(b, "status=deferred (mail transport unavailable: uucp)"), 1);
    sched_flush_all(b->sched);
    b->resolved = 0;
    bench_run(b);
    struct job *j = bench_next(b);
    assert_non_null(j); /* a flush tries deferred transports */
    assert_string_equal(j->transport->name, "relay");
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_null(bench_next(b));
    bench_free(&b);
}

static void reload_resolves_anew(void **state UNUSED)
{
    struct bench *b = bench_new("smtp_destination_concurrency_limit = 1\n", NULL);
    for (int i = 0; i < 4; i++)
        bench_send(b, "a@example.org", "u@new.example.net", "relay", "old");
    struct job *j = bench_next(b);
    struct conf *c = bench_conf("smtp_destination_concurrency_limit = 3\n", NULL);
    sched_reconfigure(b->sched, c);
    bench_run(b);
    assert_int_equal(b->resolved, 3);
    struct job *k[JOBS_MAX];
    assert_int_equal(take_all(b, k), 3);
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(k[i]->conf, c);
        assert_string_equal(k[i]->transport->name, "smtp");
        assert_true(span_eq(k[i]->nexthop, SPAN_LIT("new.example.net")));
        bench_finish(b, &k[i], OUTCOME_SENT, SITE_OK);
    }
    assert_ptr_not_equal(j->conf, c);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 4);
    conf_unref(&c);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(window_grows_and_shrinks),
        cmocka_unit_test(a_dead_site_is_left_alone),
        cmocka_unit_test(a_reload_meets_a_dying_site),
        cmocka_unit_test(a_late_success_revives),
        cmocka_unit_test(senders_take_turns),
        cmocka_unit_test(a_large_mailing_yields_to_the_same_senders_mail),
        cmocka_unit_test(hanging_destinations_cost_others_nothing),
        cmocka_unit_test(transport_process_limit),
        cmocka_unit_test(recipient_fields_need_a_copy_each),
        cmocka_unit_test(recipients_are_split),
        cmocka_unit_test(one_recipient_each),
        cmocka_unit_test(rate_delays),
        cmocka_unit_test(deferred_and_missing_transports),
        cmocka_unit_test(reload_resolves_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

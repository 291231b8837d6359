/* what waits in line behind many others: out of memory, in order, once, and in nobody's way */
#include "unit.h"

#include "common/base/clock.h"
#include "sched_bench.h"

static void send_line(struct bench *b, unsigned n, const char *sender, const char *hop)
{
    char addr[40];
    for (unsigned i = 0; i < n; i++) {
        snprintf(addr, sizeof addr, "u%05u@example.net", i);
        bench_send(b, sender, addr, "smtp", hop);
    }
}

/* Takes and delivers everything; *in_order tells whether the addresses rose. */
static unsigned deliver_all(struct bench *b, bool *in_order)
{
    unsigned n = 0;
    char last[40] = "";
    *in_order = true;
    for (int idle = 0; idle < 3;) {
        struct job *j = bench_next(b);
        if (j == NULL) {
            bench_run(b);
            idle++;
            continue;
        }
        struct span a = j->msg->env.rcpts[j->rcpts[0].index].addr;
        *in_order = *in_order && strncmp(last, a.p, a.n) < 0;
        snprintf(last, sizeof last, "%.*s", SPAN_ARG(a));
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        n++;
        idle = 0;
    }
    return n;
}

static void a_line_waits_outside(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    bool in_order;
    send_line(b, 5000, "a@example.org", "example.net");
    assert_true(b->sched->n_messages <= 256);
    assert_int_equal(sched_counts(b->sched).active + sched_counts(b->sched).deferred, 5000);
    assert_int_equal(deliver_all(b, &in_order), 5000);
    assert_true(in_order);
    assert_int_equal(b->spool->dones, 5000);
    assert_int_equal(b->spool->upserts, 0); /* too quick for the index */
    assert_int_equal(b->sched->n_parked_new, 0);
    bench_free(&b);
}

/* 10,000 for a site that hangs, and a sender with a long line: one message of somebody else is next all the same. */
static void others_pass(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct job *j, *hang[64];
    unsigned hung = 0;
    send_line(b, 10000, "a@example.org", "hangs.example");
    while ((j = bench_next(b)) != NULL)
        hang[hung++] = j;
    send_line(b, 3000, "many@example.org", "example.net");
    bench_run(b);
    bench_send(b, "one@example.org", "only@example.net", "smtp", "example.net");
    bench_send(b, "two@example.org", "only@example.com", "smtp", "example.com");
    unsigned jobs = 0, found = 0;
    while (jobs < 6 && (j = bench_next(b)) != NULL) {
        found += span_starts_with(j->msg->env.rcpts[0].addr, SPAN_LIT("only@"));
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        jobs++;
    }
    assert_int_equal(found, 2);
    assert_true(b->sched->n_messages < 1000);
    for (unsigned i = 0; i < hung; i++)
        bench_finish(b, &hang[i], OUTCOME_SENT, SITE_OK);
    bool in_order;
    deliver_all(b, &in_order);
    assert_int_equal(b->spool->dones, 13002);
    bench_free(&b);
}

/* The mark of the index moves only when every parked message that it covers has its row. */
static void rows_before_the_mark(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct job *j, *hang[64];
    unsigned hung = 0;
    send_line(b, 4000, "a@example.org", "example.net");
    while ((j = bench_next(b)) != NULL)
        hang[hung++] = j;
    b->spool->mark = 77;
    b->spool->fail_flush = -1;
    for (int i = 0; i < 4; i++)
        bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 0);
    assert_true(b->sched->n_parked_new > 3000);
    assert_int_equal(b->spool->written_mark, 0);
    b->spool->fail_flush = 0;
    b->spool->fail_id = b->sched->unwritten->id; /* the mark waits for it */
    b->spool->fail_errno = EMFILE;
    for (int i = 0; i < 3; i++)
        bench_advance(b, 5100);
    assert_int_equal(b->spool->written_mark, 0);
    assert_int_equal(b->sched->n_parked_new, 1);
    assert_int_equal(b->spool->rows_n, 3999); /* nobody else does */
    b->spool->fail_id = 0;
    bench_advance(b, 5100);
    bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 4000);
    assert_int_equal(b->spool->written_mark, 77);
    assert_int_equal(b->sched->n_parked_new, 0);
    for (unsigned i = 0; i < hung; i++)
        bench_finish(b, &hang[i], OUTCOME_SENT, SITE_OK);
    bool in_order;
    deliver_all(b, &in_order);
    assert_int_equal(b->spool->dones, 4000);
    bench_advance(b, 5100);
    bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 0);
    bench_free(&b);
}

/* One of them is damaged: nobody waits for it, neither in the line nor for the mark of the index. */
static void a_damaged_record_holds_nobody(void **state UNUSED)
{
    for (int is_flushed = 0; is_flushed < 2; is_flushed++) {
        struct bench *b = bench_new(NULL, NULL);
        bool in_order;
        send_line(b, 600, "a@example.org", "example.net");
        b->spool->mark = 77;
        b->spool->fail_id = b->sched->unwritten->id;
        for (int i = 0; i < 4 && is_flushed; i++)
            bench_advance(b, 5100);
        assert_int_equal(b->spool->written_mark, is_flushed ? 77 : 0);
        assert_int_equal(b->sched->n_parked_new, is_flushed ? 0 : 600 - b->sched->n_messages);
        assert_int_equal(deliver_all(b, &in_order), 599);
        assert_true(in_order);
        assert_int_equal(b->spool->kept, 1);
        assert_int_equal(b->sched->n_parked_new, 0);
        bench_free(&b);
    }
}

/* Read back while its row was being written, and the writing failed: the row comes with a later flush. */
static void read_back_during_a_flush_that_fails(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct job *j;
    send_line(b, 1000, "a@example.org", "example.net");
    bench_run(b);
    bench_advance(b, 5100);
    b->spool->keep_flush = true;
    bench_advance(b, 5100);
    unsigned n = 0;
    while (n < 400 && (j = bench_next(b)) != NULL) { /* reads back some of those that were parked */
        bench_finish(b, &j, n < 300 ? OUTCOME_SENT : OUTCOME_DEFERRED, SITE_OK);
        n++;
        bench_run(b);
    }
    assert_int_equal(n, 400);
    b->spool->keep_flush = false;
    fake_flush_answer(b->spool, -1);
    for (int i = 0; i < 4; i++)
        bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 700);
    bool in_order;
    assert_int_equal(deliver_all(b, &in_order), 600);
    bench_advance(b, 400000);
    assert_int_equal(deliver_all(b, &in_order), 100);
    assert_int_equal(b->spool->dones, 1000);
    for (int i = 0; i < 3; i++)
        bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 0);
    bench_free(&b);
}

static bool count_one(void *arg, struct msg *m UNUSED, enum sched_where w UNUSED)
{
    ++*(unsigned *)arg;
    return true;
}

/* Commands reach what is parked, before and after it has a row. */
static void commands_find_it(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct err e = ERR_INIT;
    enum sched_where w;
    bool in_order;
    send_line(b, 1000, "a@example.org", "example.net");
    uint64_t last = bench_send(b, "a@example.org", "u9@example.net", "smtp", "example.net");
    uint64_t other = bench_send(b, "a@example.org", "u99@example.net", "smtp", "example.net");
    for (int round = 0; round < 2; round++) {
        unsigned n = 0;
        sched_list(b->sched, count_one, &n);
        assert_int_equal(n, 1002);
        struct msg *m = sched_find(b->sched, last, &w);
        assert_non_null(m);
        assert_true(span_eq(m->env.rcpts[0].addr, SPAN_LIT("u9@example.net")));
        msg_unref(&m);
        m = sched_ref(b->sched, other);
        assert_non_null(m);
        msg_unref(&m);
        bench_advance(b, 5100);
        bench_advance(b, 5100);
    }
    assert_int_equal(sched_admin(b->sched, ADMIN_DELETE, last, &e), SCHED_CMD_OK);
    assert_int_equal(sched_admin(b->sched, ADMIN_HOLD, other, &e), SCHED_CMD_OK);
    assert_null(sched_find(b->sched, last, &w));
    assert_int_equal(deliver_all(b, &in_order), 1000);
    assert_int_equal(sched_admin(b->sched, ADMIN_RELEASE, other, &e), SCHED_CMD_OK);
    bench_run(b);
    assert_int_equal(deliver_all(b, &in_order), 1);
    for (int i = 0; i < 3; i++)
        bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 0);
    bench_free(&b);
}

/* After a reload routes are asked for anew, also of what was parked. */
static void a_reload_finds_new_routes(void **state UNUSED)
{
    for (int with_rows = 0; with_rows < 2; with_rows++) {
        struct bench *b = bench_new(NULL, NULL);
        bool in_order;
        send_line(b, 1000, "a@example.org", "example.net");
        for (int i = 0; i < 2 * with_rows; i++)
            bench_advance(b, 5100);
        unsigned before = b->resolved;
        sched_reconfigure(b->sched, b->conf);
        bench_run(b);
        assert_int_equal(deliver_all(b, &in_order), 1000);
        assert_true(b->resolved >= before + 1000);
        for (int i = 0; i < 3; i++)
            bench_advance(b, 5100);
        assert_int_equal(b->spool->rows_n, 0);
        assert_int_equal(b->spool->dones, 1000);
        bench_free(&b);
    }
}

/* A site that is dead: what is parked for it is deferred like the rest, and tried when it is back. */
static void a_site_dies(void **state UNUSED)
{
    struct bench *b = bench_new("initial_destination_concurrency = 2\n", NULL);
    struct job *j[2];
    bool in_order;
    send_line(b, 2000, "a@example.org", "example.net");
    for (int i = 0; i < 2; i++)
        assert_non_null(j[i] = bench_next(b));
    for (int i = 0; i < 2; i++)
        bench_finish(b, &j[i], OUTCOME_DEFERRED, SITE_UNAVAILABLE);
    bench_run(b);
    assert_int_equal(bench_log_count(b, "temporarily suspended"), 1998);
    for (int i = 0; i < 3; i++)
        bench_advance(b, 5100);
    assert_int_equal(b->spool->rows_n, 2000);
    assert_int_equal(b->sched->n_messages, 0);
    bench_advance(b, 400000);
    assert_int_equal(deliver_all(b, &in_order), 2000);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_waits_outside),
        cmocka_unit_test(others_pass),
        cmocka_unit_test(rows_before_the_mark),
        cmocka_unit_test(a_damaged_record_holds_nobody),
        cmocka_unit_test(read_back_during_a_flush_that_fails),
        cmocka_unit_test(commands_find_it),
        cmocka_unit_test(a_reload_finds_new_routes),
        cmocka_unit_test(a_site_dies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

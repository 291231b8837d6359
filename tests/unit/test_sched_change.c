/*
 * Changes that an administrator makes of many messages: in each place that a message can be in, and what is written before it
 * is true. Deletions that can be undone, and readdressing.
 */
#include "unit.h"

#include "common/base/clock.h"
#include "sched_bench.h"

static void settle(struct bench *b)
{
    bench_advance(b, 6000);
    bench_advance(b, 6000);
}

static enum sched_cmd_status change(struct bench *b, enum spool_admin what, uint64_t id)
{
    struct err e = ERR_INIT;
    struct sched_change c = { .what = what, .from = SPAN_LIT("U@example.net"), .to = SPAN_LIT("new@example.com") };
    enum sched_cmd_status st;
    sched_change(b->sched, &c, &id, 1, &st, &e);
    bench_run(b);
    return st;
}

static bool is_listed(struct bench *b, uint64_t id)
{
    enum sched_where w;
    struct msg *m = sched_find(b->sched, id, &w);
    bool yes = m != NULL;
    msg_unref(&m);
    return yes;
}

static uint64_t queued(struct bench *b)
{
    struct sched_counts c = sched_counts(b->sched);
    return c.active + c.deferred + c.hold;
}

static void a_deletion_is_undone(void **state UNUSED)
{
    for (enum bench_place p = QUEUED; p <= IN_INDEX; p++) {
        for (int flushed = 0; flushed < 2; flushed++) {
            struct bench *b = bench_new(NULL, NULL);
            struct job *j;
            uint64_t id = bench_put(b, p, &j);
            enum sched_cmd_status st = change(b, ADMIN_TRASH, id);
            if (st != (p == BUSY ? SCHED_CMD_BUSY : SCHED_CMD_OK))
                fail_msg("delete while %s: %d", bench_place_name(p), (int)st);
            if (j != NULL)
                bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
            if (is_listed(b, id) || queued(b) != 0 || bench_next(b) != NULL || b->spool->dones != 0)
                fail_msg("deleted while %s: still there", bench_place_name(p));
            assert_int_equal(bench_log_count(b, ": removed\n"), 1);
            if (flushed) {
                settle(b);
                assert_int_equal(b->sched->n_messages, 0);
                assert_true(fake_row(b->spool, id)->deleted_us != 0);
                assert_int_equal(queued(b), 0);
            }
            assert_int_equal(change(b, ADMIN_HOLD, id), SCHED_CMD_NOT_FOUND);
            assert_int_equal(change(b, ADMIN_TRASH, id), SCHED_CMD_NOT_FOUND);
            assert_int_equal(change(b, ADMIN_UNDELETE, id), SCHED_CMD_OK);
            assert_int_equal(queued(b), 1);
            assert_int_equal(change(b, ADMIN_UNDELETE, id), SCHED_CMD_NOT_FOUND);
            j = bench_next(b);
            if (j == NULL)
                fail_msg("restored after delete while %s: not tried", bench_place_name(p));
            bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
            assert_int_equal(b->spool->dones, 1);
            settle(b);
            assert_int_equal(b->spool->rows_n, 0);
            assert_int_equal(queued(b), 0);
            bench_free(&b);
        }
    }
}

static void a_held_one_comes_back_held(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct job *j;
    uint64_t id = bench_put(b, QUEUED, &j);
    assert_int_equal(change(b, ADMIN_HOLD, id), SCHED_CMD_OK);
    settle(b);
    assert_int_equal(change(b, ADMIN_TRASH, id), SCHED_CMD_OK);
    assert_int_equal(sched_counts(b->sched).hold, 0);
    settle(b);
    assert_int_equal(sched_counts(b->sched).hold, 0);
    assert_int_equal(change(b, ADMIN_UNDELETE, id), SCHED_CMD_OK);
    assert_int_equal(sched_counts(b->sched).hold, 1);
    settle(b);
    assert_int_equal(sched_counts(b->sched).hold, 1);
    assert_null(bench_next(b));
    bench_free(&b);
}

static void queue_undelete_time(void **state UNUSED)
{
    struct bench *b = bench_new("queue_undelete_time = 60s\n", NULL);
    struct job *j;
    uint64_t id = bench_put(b, WAITING, &j);
    assert_int_equal(change(b, ADMIN_TRASH, id), SCHED_CMD_OK);
    settle(b);
    bench_advance(b, 40000);
    assert_int_equal(b->spool->rows_n, 1);
    bench_advance(b, 20000);
    assert_int_equal(b->spool->rows_n, 0);
    assert_true(fake_traced(b->spool, "purge "));
    assert_int_equal(change(b, ADMIN_UNDELETE, id), SCHED_CMD_NOT_FOUND);
    bench_free(&b);
}

static void delivered_while_it_is_deleted_is_finished(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct job *j;
    uint64_t id = bench_put(b, BUSY, &j);
    assert_int_equal(change(b, ADMIN_TRASH, id), SCHED_CMD_BUSY);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 1);
    assert_int_equal(change(b, ADMIN_UNDELETE, id), SCHED_CMD_NOT_FOUND);
    bench_free(&b);
}

static void readdressed_in_each_place(void **state UNUSED)
{
    for (enum bench_place p = QUEUED; p <= IN_INDEX; p++) {
        struct bench *b = bench_new(NULL, NULL);
        struct job *j;
        uint64_t id = bench_put(b, p, &j);
        enum sched_cmd_status st = change(b, ADMIN_READDRESS, id);
        if (p == BUSY) {
            assert_int_equal(st, SCHED_CMD_BUSY);
            assert_int_equal(fake_trace_at(b->spool, "admin 5 "), -1);
            bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
            bench_run(b);
            st = change(b, ADMIN_READDRESS, id);
        }
        if (st != SCHED_CMD_OK)
            fail_msg("readdress while %s: %d", bench_place_name(p), (int)st);
        assert_int_equal(change(b, ADMIN_READDRESS, id), SCHED_CMD_NOT_FOUND); /* nobody has that address now */
        j = bench_next(b);
        if (j == NULL)
            fail_msg("readdressed while %s: not tried", bench_place_name(p));
        const struct msg_rcpt *r = &j->msg->env.rcpts[0];
        assert_true(span_eq(r->addr, SPAN_LIT("new@example.com")) && span_eq(r->orig, SPAN_LIT("u@example.net")));
        assert_true(r->is_readdressed);
        bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
        settle(b);
        assert_true(span_eq(fake_row(b->spool, id)->m->env.rcpts[0].addr, SPAN_LIT("new@example.com")));
        bench_free(&b);
    }
}

/* A command over the whole queue brings all of it into memory, a piece at a time. */
static void what_was_not_changed_leaves_memory(void **state UNUSED)
{
    static const struct { enum spool_admin what; enum sched_cmd_status want; } cases[] = {
        { ADMIN_RELEASE, SCHED_CMD_OK }, { ADMIN_READDRESS, SCHED_CMD_NOT_FOUND }, { ADMIN_UNDELETE, SCHED_CMD_NOT_FOUND },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bench *b = bench_new(NULL, NULL);
        struct err e = ERR_INIT;
        struct job *j;
        struct sched_change c = { .what = cases[i].what, .from = SPAN_LIT("nobody@example.net"), .to = SPAN_LIT("new@example.com") };
        enum sched_cmd_status st;
        uint64_t id = bench_put(b, IN_INDEX, &j);
        sched_change(b->sched, &c, &id, 1, &st, &e);
        assert_int_equal(st, cases[i].want);
        assert_int_equal(b->sched->n_messages, 1);
        settle(b);
        assert_int_equal(b->sched->n_messages, 0);
        assert_int_equal(queued(b), 1);
        assert_true(is_listed(b, id));
        bench_free(&b);
    }
}

/* A notice reads the addresses while it is made, on another thread. */
static void not_readdressed_under_a_delay_warning(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct job *j;
    uint64_t id = bench_put(b, WAITING, &j);
    ms_find_locked(b->sched, id)->is_warning = true;
    assert_int_equal(change(b, ADMIN_READDRESS, id), SCHED_CMD_BUSY);
    ms_find_locked(b->sched, id)->is_warning = false;
    assert_int_equal(change(b, ADMIN_READDRESS, id), SCHED_CMD_OK);
    bench_free(&b);
}

static void only_who_is_meant_is_readdressed(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct err e = ERR_INIT;
    struct msg *m = bench_msg(b, "a@example.org");
    bench_rcpt(m, "a@old.example", "smtp", "old.example");
    bench_rcpt(m, "b@OLD.example", "smtp", "old.example");
    bench_rcpt(m, "c@cold.example", "smtp", "cold.example");
    uint64_t id = bench_commit(b, m);
    struct sched_change c = { .what = ADMIN_READDRESS, .from = SPAN_LIT("@old.example"), .to = SPAN_LIT("@new.example") };
    enum sched_cmd_status st;
    enum sched_where w;
    sched_change(b->sched, &c, &id, 1, &st, &e);
    assert_int_equal(st, SCHED_CMD_OK);
    struct msg *copy = sched_find(b->sched, id, &w);
    assert_true(span_eq(copy->env.rcpts[0].addr, SPAN_LIT("a@new.example")));
    assert_true(span_eq(copy->env.rcpts[1].addr, SPAN_LIT("b@new.example")));
    assert_true(span_eq(copy->env.rcpts[2].addr, SPAN_LIT("c@cold.example")));
    assert_false(copy->env.rcpts[2].is_readdressed);
    msg_unref(&copy);
    bench_free(&b);
}

static void many_have_an_answer_each(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct err e = ERR_INIT;
    uint64_t ids[600];
    enum sched_cmd_status st[600];
    struct sched_change c = { .what = ADMIN_HOLD };
    for (unsigned i = 0; i < 600; i++)
        ids[i] = i % 3 == 2 ? i + 1 : bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    sched_change(b->sched, &c, ids, 600, st, &e);
    for (unsigned i = 0; i < 600; i++)
        assert_int_equal(st[i], i % 3 == 2 ? SCHED_CMD_NOT_FOUND : SCHED_CMD_OK);
    assert_int_equal(sched_counts(b->sched).hold, 400);
    b->spool->fail_submit = SPOOL_IO;
    c.what = ADMIN_RELEASE;
    sched_change(b->sched, &c, ids, 600, st, &e);
    for (unsigned i = 0; i < 600; i++)
        assert_int_equal(st[i], i % 3 == 2 ? SCHED_CMD_NOT_FOUND : SCHED_CMD_FAILED);
    assert_non_null(strstr(e.text, "journal"));
    assert_int_equal(sched_counts(b->sched).hold, 400);
    b->spool->fail_submit = 0;
    c = (struct sched_change){ .what = ADMIN_READDRESS, .from = SPAN_LIT("u@example.net"), .to = SPAN_LIT("v@example.net") };
    b->spool->fail_submit = SPOOL_IO;
    sched_change(b->sched, &c, ids, 600, st, &e);
    assert_int_equal(st[0], SCHED_CMD_FAILED);
    b->spool->fail_submit = 0;
    c.what = ADMIN_RELEASE;
    sched_change(b->sched, &c, ids, 2, st, &e);
    bench_run(b);
    struct job *j = bench_next(b); /* not frozen for ever, and with its old address */
    assert_non_null(j);
    assert_true(span_eq(j->msg->env.rcpts[0].addr, SPAN_LIT("u@example.net")));
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    bench_free(&b);
}

static void no_mark_between_record_and_change(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct job *j;
    bench_put(b, WAITING, &j);
    settle(b);
    struct index_mark before = b->sched->mark;
    b->sched->changes_out = 1;
    b->spool->mark += 100;
    settle(b);
    assert_memory_equal(&before, &b->sched->mark, sizeof before);
    b->sched->changes_out = 0;
    settle(b);
    assert_int_equal(b->sched->mark.results, b->spool->mark);
    bench_free(&b);
}

static void it_says_why_it_waits(void **state UNUSED)
{
    static const struct { enum bench_place p; const char *want; } cases[] = {
        { QUEUED, "delivery-thread" }, { BUSY, "delivery" }, { WAITING, "back-off" }, { IN_INDEX, "back-off" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bench *b = bench_new(NULL, NULL);
        struct job *j;
        struct sched_wait w[1];
        enum sched_where where;
        uint64_t id = bench_put(b, cases[i].p, &j);
        struct msg *m = sched_find(b->sched, id, &where);
        sched_explain(b->sched, m, where, w);
        assert_string_equal(w[0].why, cases[i].want);
        assert_true((w[0].until_us > clock_wall_us()) == (cases[i].p >= WAITING));
        msg_unref(&m);
        assert_int_equal(change(b, ADMIN_HOLD, id), SCHED_CMD_OK);
        m = sched_find(b->sched, id, &where);
        sched_explain(b->sched, m, where, w);
        assert_string_equal(w[0].why, cases[i].p == BUSY ? "delivery" : "hold");
        msg_unref(&m);
        if (j != NULL)
            bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        bench_free(&b);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deletion_is_undone),
        cmocka_unit_test(a_held_one_comes_back_held),
        cmocka_unit_test(queue_undelete_time),
        cmocka_unit_test(delivered_while_it_is_deleted_is_finished),
        cmocka_unit_test(readdressed_in_each_place),
        cmocka_unit_test(what_was_not_changed_leaves_memory),
        cmocka_unit_test(not_readdressed_under_a_delay_warning),
        cmocka_unit_test(only_who_is_meant_is_readdressed),
        cmocka_unit_test(many_have_an_answer_each),
        cmocka_unit_test(no_mark_between_record_and_change),
        cmocka_unit_test(it_says_why_it_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "unit.h"
#include <pthread.h>

#include "common/base/clock.h"
#include "sched_bench.h"

static enum sched_cmd_status admin(struct bench *b, enum spool_admin what, uint64_t id)
{
    struct err e = ERR_INIT;
    enum sched_cmd_status st = sched_admin(b->sched, what, id, &e);
    bench_run(b);
    return st;
}

static enum sched_where where(struct bench *b, uint64_t id)
{
    enum sched_where w = SCHED_ACTIVE;
    struct msg *m = sched_find(b->sched, id, &w);
    if (m == NULL)
        return (enum sched_where)99;
    msg_unref(&m);
    return w;
}

static void hold_and_release(void **state UNUSED)
{
    for (enum bench_place p = QUEUED; p <= IN_INDEX; p++) {
        struct bench *b = bench_new(NULL, NULL);
        struct job *j;
        uint64_t id = bench_put(b, p, &j);
        if (admin(b, ADMIN_HOLD, id) != SCHED_CMD_OK)
            fail_msg("hold while %s", bench_place_name(p));
        if (j != NULL)
            bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
        assert_int_equal(where(b, id), SCHED_HOLD);
        assert_int_equal(sched_counts(b->sched).hold, 1);
        bench_advance(b, 6000);
        bench_advance(b, 6000);
        assert_int_equal(b->sched->n_messages, 0); /* held mail is in the index only */
        assert_int_equal(sched_counts(b->sched).hold, 1);
        bench_advance(b, 10000000);
        assert_null(bench_next(b));
        sched_flush_all(b->sched);
        bench_run(b);
        assert_null(bench_next(b));
        assert_int_equal(sched_flush_id(b->sched, id), SCHED_CMD_BUSY);
        assert_int_equal(admin(b, ADMIN_RELEASE, id), SCHED_CMD_OK);
        assert_int_equal(sched_counts(b->sched).hold, 0);
        j = bench_next(b);
        if (j == NULL)
            fail_msg("release after hold while %s", bench_place_name(p));
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        assert_int_equal(b->spool->dones, 1);
        assert_int_equal(bench_log_count(b, "postsuper[7]: "), 2);
        bench_advance(b, 6000);
        bench_advance(b, 6000);
        assert_int_equal(b->spool->rows_n, 0);
        bench_free(&b);
    }
}

static void delete_in_each_place(void **state UNUSED)
{
    for (enum bench_place p = QUEUED; p <= IN_INDEX; p++) {
        struct bench *b = bench_new(NULL, NULL);
        struct job *j;
        uint64_t id = bench_put(b, p, &j);
        enum sched_cmd_status st = admin(b, ADMIN_DELETE, id);
        if (st != (p == BUSY ? SCHED_CMD_BUSY : SCHED_CMD_OK))
            fail_msg("delete while %s", bench_place_name(p));
        if (j != NULL) {
            assert_int_equal(b->spool->dones, 0);
            bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
        }
        char want[64];
        snprintf(want, sizeof want, "posthouse/postsuper[7]: %llX: removed\n", (unsigned long long)id);
        assert_int_equal(bench_log_count(b, want), 1);
        assert_int_equal(b->spool->dones, 1);
        assert_int_equal(where(b, id), 99);
        bench_advance(b, 6000);
        bench_advance(b, 6000);
        assert_int_equal(b->spool->rows_n, 0);
        bench_advance(b, 10000000);
        assert_null(bench_next(b));
        assert_int_equal(b->spool->committed_n, 0);
        assert_int_equal(admin(b, ADMIN_DELETE, id), SCHED_CMD_NOT_FOUND);
        bench_free(&b);
    }
}

static void requeue_in_each_place(void **state UNUSED)
{
    for (enum bench_place p = QUEUED; p <= IN_INDEX; p++) {
        struct bench *b = bench_new(NULL, NULL);
        struct job *j;
        uint64_t id = bench_put(b, p, &j);
        b->resolved = 0;
        assert_int_equal(admin(b, ADMIN_REQUEUE, id), SCHED_CMD_OK);
        if (p == BUSY) { /* what is in delivery stays there */
            assert_null(bench_next(b));
            bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        } else {
            assert_int_equal(b->resolved, 1);
            j = bench_next(b);
            if (j == NULL)
                fail_msg("requeue while %s", bench_place_name(p));
            bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        }
        assert_int_equal(b->spool->dones, 1);
        bench_free(&b);
    }
}

static void expire_now(void **state UNUSED)
{
    for (enum bench_place p = QUEUED; p <= IN_INDEX; p++) {
        struct bench *b = bench_new(NULL, NULL);
        struct job *j;
        uint64_t id = bench_put(b, p, &j);
        assert_int_equal(admin(b, ADMIN_EXPIRE, id), SCHED_CMD_OK);
        if (j != NULL) {
            bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
            bench_advance(b, 400000);
        }
        char want[100];
        snprintf(want, sizeof want, "%llX: from=<a@example.org>, status=force-expired, returned to sender\n", (unsigned long long)id);
        if (bench_log_count(b, want) != 1)
            fail_msg("expire while %s", bench_place_name(p));
        assert_int_equal(b->spool->committed_n, 1);
        assert_int_equal(b->spool->dones, 1);
        bench_free(&b);
    }
}

static void flush_one_and_all(void **state UNUSED)
{
    for (enum bench_place p = WAITING; p <= IN_INDEX; p++) {
        struct bench *b = bench_new(NULL, NULL);
        struct job *j;
        uint64_t id = bench_put(b, p, &j);
        assert_int_equal(sched_flush_id(b->sched, id), SCHED_CMD_OK);
        bench_run(b);
        j = bench_next(b);
        assert_non_null(j);
        bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
        bench_run(b);
        assert_null(bench_next(b));
        if (p == IN_INDEX) {
            bench_advance(b, 6000);
            bench_advance(b, 6000);
        }
        sched_flush_all(b->sched);
        bench_run(b);
        j = bench_next(b);
        assert_non_null(j);
        bench_finish(b, &j, OUTCOME_DEFERRED, SITE_OK);
        bench_run(b);
        sched_flush_nexthop(b->sched, SPAN_LIT("EXAMPLE.net"));
        bench_run(b);
        j = bench_next(b);
        assert_non_null(j);
        bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
        assert_int_equal(sched_flush_id(b->sched, id + 1000), SCHED_CMD_NOT_FOUND);
        bench_free(&b);
    }
}

static void flush_revives_a_dead_site(void **state UNUSED)
{
    struct bench *b = bench_new("initial_destination_concurrency = 1\n", NULL);
    uint64_t one = bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    uint64_t two = bench_send(b, "a@example.org", "v@example.net", "smtp", "example.net");
    struct job *j = bench_next(b);
    bench_finish(b, &j, OUTCOME_DEFERRED, SITE_UNAVAILABLE);
    bench_run(b);
    assert_null(bench_next(b));
    assert_int_equal(sched_flush_id(b->sched, two), SCHED_CMD_OK);
    bench_run(b);
    j = bench_next(b);
    assert_non_null(j);
    assert_int_equal(j->msg->env.id, two);
    bench_finish(b, &j, OUTCOME_DEFERRED, SITE_UNAVAILABLE);
    bench_run(b);
    sched_flush_all(b->sched);
    bench_run(b);
    j = bench_next(b);
    assert_non_null(j);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    j = bench_next(b);
    assert_non_null(j);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    assert_int_equal(b->spool->dones, 2);
    (void)one;
    bench_free(&b);
}

struct listing {
    unsigned n, in[4];
    uint64_t ids[16];
};

static bool add(void *arg, struct msg *m, enum sched_where w)
{
    struct listing *l = arg;
    assert_true(l->n < 16);
    for (unsigned i = 0; i < l->n; i++)
        assert_true(l->ids[i] != m->env.id);
    l->ids[l->n++] = m->env.id;
    l->in[w]++;
    assert_true(span_eq(m->env.rcpts[0].addr, SPAN_LIT("u@example.net")));
    return true;
}

static void list_everything_once(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct job *j, *k;
    uint64_t id = bench_put(b, IN_INDEX, &j);
    uint64_t held = bench_put(b, IN_INDEX, &j);
    assert_int_equal(admin(b, ADMIN_HOLD, held), SCHED_CMD_OK);
    bench_advance(b, 6000);
    bench_advance(b, 6000);
    bench_put(b, WAITING, &j);
    bench_put(b, BUSY, &k);
    bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    struct listing l = { 0 };
    sched_list(b->sched, add, &l);
    assert_int_equal(l.n, 5);
    assert_int_equal(l.in[SCHED_ACTIVE], 2);
    assert_int_equal(l.in[SCHED_DEFERRED], 2);
    assert_int_equal(l.in[SCHED_HOLD], 1);
    struct sched_counts c = sched_counts(b->sched);
    assert_int_equal(c.active, 2);
    assert_int_equal(c.deferred, 2);
    assert_int_equal(c.hold, 1);
    assert_int_equal(c.in_delivery, 1);
    assert_int_equal(c.jobs_waiting, 1);
    enum sched_where w;
    struct msg *m = sched_find(b->sched, id, &w);
    assert_non_null(m);
    assert_true(span_eq(m->env.rcpts[0].last_dsn, SPAN_LIT("4.4.1")));
    msg_unref(&m);
    assert_null(sched_find(b->sched, 1, &w));
    bench_finish(b, &k, OUTCOME_SENT, SITE_OK);
    bench_free(&b);
}

static void a_failed_journal_changes_nothing(void **state UNUSED)
{
    struct bench *b = bench_new(NULL, NULL);
    struct job *j;
    uint64_t id = bench_put(b, QUEUED, &j);
    struct err e = ERR_INIT;
    b->spool->fail_submit = SPOOL_IO;
    assert_int_equal(sched_admin(b->sched, ADMIN_DELETE, id, &e), SCHED_CMD_FAILED);
    assert_true(e.text[0] != '\0');
    b->spool->fail_submit = 0;
    j = bench_next(b);
    assert_non_null(j);
    bench_finish(b, &j, OUTCOME_SENT, SITE_OK);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hold_and_release),
        cmocka_unit_test(delete_in_each_place),
        cmocka_unit_test(requeue_in_each_place),
        cmocka_unit_test(expire_now),
        cmocka_unit_test(flush_one_and_all),
        cmocka_unit_test(flush_revives_a_dead_site),
        cmocka_unit_test(list_everything_once),
        cmocka_unit_test(a_failed_journal_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

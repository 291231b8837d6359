/* the spool as a whole: what was answered is there after a restart, what is finished is not */
#include "tests/unit/spool_fixture.h"

#include <errno.h>

#include "queue/index.h"
#include "queue/spool_io.h"

static void messages_survive_a_restart_in_order(void **state)
{
    struct fixture *f = *state;
    uint64_t ids[50];
    for (int i = 0; i < 50; i++)
        assert_int_equal(fixture_send(f, 1 + (uint32_t)i % 3, (size_t)i * 100, &ids[i]), SPOOL_OK);
    assert_int_equal(f->got_n, 50);
    fixture_restart(f);
    assert_int_equal(f->got_n, 50);
    for (int i = 0; i < 50; i++) {
        assert_true(f->got[i]->env.id == ids[i]);
        assert_true(f->got[i]->content == NULL);
        assert_true(fixture_content_is_right(f, f->got[i]));
        assert_int_equal(f->got[i]->env.rcpt_count, 1 + i % 3);
    }
}

static void large_content_goes_to_a_file_and_away_with_the_message(void **state)
{
    struct fixture *f = *state;
    uint64_t id;
    assert_int_equal(fixture_send(f, 1, 300000, &id), SPOOL_OK);
    char *path = spool_large_path(f->s, id);
    assert_int_equal(access(path, F_OK), 0);
    fixture_restart(f);
    struct msg *m = fixture_find(f, id);
    assert_non_null(m);
    assert_true(m->is_large && fixture_content_is_right(f, m));
    assert_int_equal(fixture_result(f, id, 0, OUTCOME_SENT, 0), SPOOL_OK);
    spool_message_done(f->s, m);
    for (int i = 0; i < 200 && access(path, F_OK) == 0; i++)
        usleep(10000);
    assert_int_equal(access(path, F_OK), -1);
    free(path);
    fixture_restart(f);
    assert_int_equal(f->got_n, 0);
}

static void results_are_remembered(void **state)
{
    struct fixture *f = *state;
    uint64_t done, partly, fresh;
    assert_int_equal(fixture_send(f, 2, 10, &done), SPOOL_OK);
    assert_int_equal(fixture_send(f, 3, 10, &partly), SPOOL_OK);
    assert_int_equal(fixture_send(f, 1, 10, &fresh), SPOOL_OK);
    fixture_result(f, done, 0, OUTCOME_SENT, 0);
    fixture_result(f, done, 1, OUTCOME_BOUNCED, 0);
    fixture_result(f, partly, 1, OUTCOME_SENT, 0);
    fixture_result(f, partly, 2, OUTCOME_DEFERRED, 500);
    fixture_result(f, partly, 2, OUTCOME_DEFERRED, 900);
    fixture_restart(f);
    assert_int_equal(f->got_n, 2);
    assert_null(fixture_find(f, done));
    assert_non_null(fixture_find(f, fresh));
    struct msg *m = fixture_find(f, partly);
    assert_non_null(m);
    assert_int_equal(m->env.rcpts[0].state, RCPT_TODO);
    assert_int_equal(m->env.rcpts[1].state, RCPT_DONE);
    assert_int_equal(m->env.rcpts[2].state, RCPT_TODO);
    assert_int_equal(m->env.rcpts[2].attempts, 2);
    assert_int_equal(m->env.rcpts[2].due_us, 900);
    assert_true(span_eq(m->env.rcpts[2].last_mta, SPAN_LIT("mx.example.net")));
}

static void administration_is_remembered(void **state)
{
    struct fixture *f = *state;
    uint64_t held, released, deleted;
    fixture_send(f, 1, 10, &held);
    fixture_send(f, 1, 10, &released);
    fixture_send(f, 1, 10, &deleted);
    assert_int_equal(fixture_admin(f, ADMIN_HOLD, held), SPOOL_OK);
    assert_int_equal(fixture_admin(f, ADMIN_HOLD, released), SPOOL_OK);
    assert_int_equal(fixture_admin(f, ADMIN_RELEASE, released), SPOOL_OK);
    assert_int_equal(fixture_admin(f, ADMIN_DELETE, deleted), SPOOL_OK);
    fixture_restart(f);
    assert_int_equal(f->got_n, 2);
    assert_true(fixture_find(f, held)->env.flags & ENV_HOLD);
    assert_false(fixture_find(f, released)->env.flags & ENV_HOLD);
}

/* Results are found by number: a number that comes again would find those of the message that had it before. */
static void numbers_rise_although_the_clock_is_set_back(void **state)
{
    struct fixture *f = *state;
    uint64_t before, after;
    struct index_mark k;
    fixture_send(f, 1, 10, &before);
    fixture_result(f, before, 0, OUTCOME_SENT, 0);
    spool_message_done(f->s, f->got[0]);
    k = spool_index_mark(f->s);
    for (int i = 0; i < 3; i++) { /* from the journal, from the index when the mark has passed, and again */
        if (i == 1) {
            struct span none = SPAN_LIT("");
            index_flush(spool_index(f->s), NULL, 0, &k, NULL, NULL);
            index_make_due(spool_index(f->s), 1, &none, NULL, NULL);
        }
        clock_advance_for_test(0, -3600 * INT64_C(1000000));
        fixture_restart(f);
        assert_int_equal(f->got_n, 0);
        after = qid_new(spool_qids(f->s));
        assert_true(after > before);
    }
    clock_advance_for_test(0, 3 * 3600 * INT64_C(1000000));
}

static void a_record_whose_large_file_is_gone_is_passed_over(void **state)
{
    struct fixture *f = *state;
    struct msg *m = fixture_msg(f, 1, 300000);
    char *path = spool_large_path(f->s, m->env.id);
    uint64_t id = m->env.id;
    spool_submit(f->s, m);
    assert_true(fixture_wait(f, 1));
    unlink(path); /* as after a refusal; its record is in the journal all the same */
    fixture_restart(f);
    assert_null(fixture_find(f, id));
    assert_int_equal(fixture_send(f, 1, 10, NULL), SPOOL_OK);
    free(path);
}

static void a_thousand_recipients(void **state)
{
    struct fixture *f = *state;
    uint64_t id;
    assert_int_equal(fixture_send(f, 20000, 10, &id), SPOOL_OK); /* more than a segment holds */
    fixture_restart(f);
    struct msg *m = fixture_find(f, id);
    assert_non_null(m);
    assert_int_equal(m->env.rcpt_count, 20000);
    assert_true(span_eq(m->env.rcpts[19999].addr, SPAN_LIT("user19999@example.net")));
}

static void journal_space_is_reused(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    f->discard = true;
    for (int i = 0; i < 600; i++) {
        struct msg *m = fixture_msg(f, 1, 4000), *mine = msg_ref(m);
        spool_submit(f->s, m);
        assert_true(fixture_wait(f, (unsigned)i + 1));
        fixture_result(f, mine->env.id, 0, OUTCOME_SENT, 0);
        spool_message_done(f->s, mine);
        msg_unref(&mine);
    }
    assert_int_equal(f->ok, 600);
    for (int i = 0; i < 200; i++) { /* the keeper works behind */
        usleep(10000);
        lock_take(&f->s->journal.segs.m);
        size_t n = f->s->journal.segs.n;
        lock_drop(&f->s->journal.segs.m);
        if (n <= 2)
            break;
    }
    lock_take(&f->s->journal.segs.m);
    size_t left = f->s->journal.segs.n;
    lock_drop(&f->s->journal.segs.m);
    assert_true(left <= 2);
    assert_int_equal(stat(f->dir, &st), 0);
    f->discard = false;
    fixture_restart(f);
    assert_int_equal(f->got_n, 0);
}

static void content_can_be_dropped_while_somebody_reads(void **state)
{
    struct fixture *f = *state;
    uint64_t id;
    struct content_view a, b;
    struct err e = ERR_INIT;
    fixture_send(f, 1, 2000, &id);
    struct msg *m = fixture_find(f, id);
    assert_true(content_acquire(f->s, m, &a, &e));
    content_drop(f->s, m);
    assert_non_null(m->content);
    assert_int_equal(memcmp(a.p, m->content, a.n), 0);
    content_release(&a);
    assert_null(m->content);
    assert_true(content_acquire(f->s, m, &b, &e));
    content_release(&b);
    assert_true(fixture_content_is_right(f, m));
    fixture_forget(f);
    for (int i = 0; i < 500 && atomic_load(&f->s->pool.used_bytes) != 0; i++)
        usleep(10000); /* the committer may not have let go of its reference */
    assert_true(atomic_load(&f->s->pool.used_bytes) == 0);
}

static void over_budget_content_goes_to_files(void **state)
{
    struct fixture *f = *state;
    uint64_t id;
    f->o.memory_limit_bytes = 5000;
    fixture_restart(f);
    assert_int_equal(fixture_send(f, 1, 20000, &id), SPOOL_OK);
    struct msg *m = fixture_find(f, id);
    assert_true(m->is_large && m->content == NULL);
    assert_true(fixture_content_is_right(f, m));
}

/* Many large messages at a time: their write buffers are the budget's too, and an eighth of it is left for beginnings. */
static void many_files_stay_within_the_budget(void **state)
{
    struct fixture *f = *state;
    struct content_writer *w[20];
    char block[5000] = "x";
    f->o.memory_limit_bytes = 400000;
    fixture_restart(f);
    for (size_t i = 0; i < ARRAY_LEN(w); i++) {
        w[i] = content_begin(f->s, 1000 + i);
        for (int k = 0; k < 80; k++) {
            assert_int_equal(content_append(w[i], span_of(block, sizeof block)), SPOOL_OK);
            assert_true(atomic_load(&f->s->pool.used_bytes) <= 350000);
        }
        assert_true(content_is_file(w[i]));
    }
    assert_true(limit_count(spool_memory_limit(f->s)) > 0);
    uint64_t id;
    assert_int_equal(fixture_send(f, 1, 10000, &id), SPOOL_OK); /* an ordinary message beside them stays in memory */
    assert_false(fixture_find(f, id)->is_large);
    assert_false(spool_memory_take(f->s, 400000));
    for (size_t i = 0; i < ARRAY_LEN(w); i++) {
        if (i % 2) {
            content_abort(&w[i]);
            continue;
        }
        struct msg *m = msg_new();
        assert_int_equal(content_finish(&w[i], m), SPOOL_OK);
        assert_int_equal(m->env.content_bytes, 400000);
        msg_unref(&m);
    }
    fixture_forget(f);
    for (int i = 0; i < 500 && atomic_load(&f->s->pool.used_bytes) != 0; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&f->s->pool.used_bytes), 0);
}

static void an_aborted_file_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct content_writer *w = content_begin(f->s, 42);
    char block[5000] = "x";
    for (int i = 0; i < 20; i++)
        assert_int_equal(content_append(w, span_of(block, sizeof block)), SPOOL_OK);
    assert_int_equal(content_bytes(w), 100000);
    char *path = spool_large_path(f->s, 42);
    assert_int_equal(access(path, F_OK), 0);
    content_abort(&w);
    assert_int_equal(access(path, F_OK), -1);
    free(path);
    content_abort(&w);
}

static void a_second_daemon_is_refused(void **state)
{
    struct fixture *f = *state;
    struct spool *two = NULL;
    struct err e = ERR_INIT;
    assert_int_equal(spool_open(&f->o, &two, &e), SPOOL_OPEN_LOCKED);
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    if (strstr(e.text, pid) == NULL)
        fail_msg("who holds it? \"%s\"", e.text);
}

static void a_newer_format_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err e = ERR_INIT;
    char path[200];
    spool_stop(f->s);
    spool_close(&f->s);
    snprintf(path, sizeof path, "%s/format", f->dir);
    FILE *o = fopen(path, "w");
    fputs("posthouse-spool 99\n", o);
    fclose(o);
    assert_int_equal(spool_open(&f->o, &f->s, &e), SPOOL_OPEN_NEWER);
    o = fopen(path, "w");
    fputs("something else\n", o);
    fclose(o);
    assert_int_equal(spool_open(&f->o, &f->s, &e), SPOOL_OPEN_FAILED);
}

static void room_is_checked(void **state)
{
    struct fixture *f = *state;
    assert_true(spool_has_room(f->s, 1000));
    assert_false(spool_has_room(f->s, UINT64_MAX / 2));
    f->o.minfree_bytes = INT64_MAX;
    fixture_restart(f);
    assert_false(spool_has_room(f->s, 0));
}

/* A delivery thread that is faster than the committer: delivered, and a mark taken, before the record is announced. */
struct hasty {
    struct fixture *f;
    struct index_mark mark;
};

static void deliver_at_once(void *arg, struct msg *m)
{
    struct hasty *h = arg;
    fixture_result(h->f, m->env.id, 0, OUTCOME_SENT, 0);
    h->mark = spool_index_mark(h->f->s);
}

static void a_mark_does_not_pass_results_of_what_is_replayed(void **state)
{
    struct fixture *f = *state;
    struct hasty h = { .f = f };
    struct err e = ERR_INIT;
    spool_stop(f->s);
    spool_close(&f->s);
    assert_int_equal(spool_open(&f->o, &f->s, &e), SPOOL_OPEN_OK);
    assert_true(spool_start(f->s, &(struct spool_sink){ deliver_at_once, &h }, &e));
    assert_int_equal(fixture_send(f, 1, 10, NULL), SPOOL_OK);
    index_flush(spool_index(f->s), NULL, 0, &h.mark, NULL, NULL);
    fixture_restart(f);
    assert_int_equal(f->got_n, 0); /* else it would be delivered again */
}

static int no_space(void *arg UNUSED, int fd UNUSED, off_t bytes UNUSED)
{
    errno = ENOSPC;
    return -1;
}

static void a_restart_needs_no_more_disk(void **state)
{
    struct fixture *f = *state;
    struct spool_io io = spool_io_system;
    char *spare = xasprintf("%s/results/spare", f->dir);
    uint64_t id;
    assert_int_equal(fixture_send(f, 2, 10, &id), SPOOL_OK);
    for (int i = 0; i < 200 && access(spare, F_OK) != 0; i++) /* the keeper makes it */
        usleep(10000);
    io.fallocate = no_space;
    f->o.io = &io;
    fixture_restart(f);
    assert_int_equal(fixture_result(f, id, 0, OUTCOME_SENT, 0), SPOOL_OK);
    f->o.io = NULL;
    fixture_restart(f);
    struct err e = ERR_INIT;
    struct msg *m = index_fetch(spool_index(f->s), id, NULL, &e);
    assert_non_null(m);
    assert_int_equal(m->env.rcpts[0].state, RCPT_DONE);
    assert_int_equal(m->env.rcpts[1].state, RCPT_TODO);
    msg_unref(&m);
    free(spare);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_mark_does_not_pass_results_of_what_is_replayed),
        T(messages_survive_a_restart_in_order),
        T(large_content_goes_to_a_file_and_away_with_the_message),
        T(results_are_remembered),
        T(administration_is_remembered),
        T(numbers_rise_although_the_clock_is_set_back),
        T(a_record_whose_large_file_is_gone_is_passed_over),
        T(a_thousand_recipients),
        T(journal_space_is_reused),
        T(content_can_be_dropped_while_somebody_reads),
        T(over_budget_content_goes_to_files),
        T(many_files_stay_within_the_budget),
        T(an_aborted_file_leaves_nothing),
        T(a_second_daemon_is_refused),
        T(a_newer_format_is_refused),
        T(room_is_checked),
        T(a_restart_needs_no_more_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

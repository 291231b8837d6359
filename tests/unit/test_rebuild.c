/* spool_rebuild_index() stopped at every place where it can be: the index in use stays as it was, and the spool starts. */
#include "tests/unit/spool_fixture.h"

#define MESSAGES 5

struct stop {
    unsigned calls, at; /* stops at call number `at` */
};

static bool progress(void *arg, const char *what UNUSED, uint64_t done UNUSED, uint64_t total UNUSED)
{
    struct stop *s = arg;
    return ++s->calls != s->at;
}

static bool exists(struct fixture *f, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    return access(path, F_OK) == 0;
}

static void fill(struct fixture *f)
{
    fixture_start(f);
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct msg *m = fixture_msg(f, 2, 500);
        m->done_cb = fixture_done;
        m->done_arg = f;
        spool_submit(f->s, m);
    }
    lock_take(&f->m);
    while (f->answered < MESSAGES)
        cond_wait(&f->changed, &f->m);
    lock_drop(&f->m);
    fixture_stop(f);
    fixture_forget(f);
    spool_close(&f->s);
}

/* What a start finds: the messages reach the index by recovery. */
static void expect_all(struct fixture *f)
{
    fixture_start(f);
    assert_int_equal(index_count(spool_index(f->s)), MESSAGES);
    fixture_stop(f);
    fixture_forget(f);
    spool_close(&f->s);
}

static void test_stopped_anywhere(void **state UNUSED)
{
    struct fixture f;
    struct rebuild_totals t;
    struct err e = ERR_INIT;
    unsigned stopped = 0;
    fixture_init(&f);
    fill(&f);
    expect_all(&f);
    for (unsigned at = 1;; at++) {
        struct stop s = { .at = at };
        struct spool_options o = f.o;
        o.progress = progress;
        o.progress_arg = &s;
        enum spool_open_status k = spool_rebuild_index(&o, &t, &e);
        assert_false(exists(&f, "index.db.new"));
        assert_true(exists(&f, "index.db"));
        if (k == SPOOL_OPEN_OK) {
            assert_true(s.calls < at);
            break;
        }
        assert_true(t.is_cancelled);
        assert_false(exists(&f, "index.db.old"));
        expect_all(&f);
        stopped++;
    }
    assert_true(stopped >= 2);
    assert_int_equal(t.messages, MESSAGES);
    assert_true(t.has_history);
    assert_true(exists(&f, "index.db.old"));
    expect_all(&f);
    fixture_free(&f);
}

/* With a daemon on the spool nothing is touched. */
static void test_locked(void **state UNUSED)
{
    struct fixture f;
    struct rebuild_totals t;
    struct err e = ERR_INIT;
    fixture_init(&f);
    fixture_start(&f);
    assert_int_equal(spool_rebuild_index(&f.o, &t, &e), SPOOL_OPEN_LOCKED);
    assert_false(exists(&f, "index.db.new"));
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_stopped_anywhere), cmocka_unit_test(test_locked) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* maildrop/: every file once, whenever the daemon is killed; what is not a message is put aside. */
#include "tests/unit/ctl_fixture.h"

#include <fcntl.h>
#include <time.h>

static char *below(struct fixture *f, const char *name)
{
    return xasprintf("%s/%s", f->spool_dir, name);
}

static void test_taken_at_start_and_later(void **state)
{
    struct fixture *f = *state;
    drop_one(f);
    assert_int_equal(count_files(f, "maildrop", NULL), 1);
    fixture_start_spool(f, true);
    pickup_recover(f->pickup);
    assert_int_equal(pickup_start(f->pickup), 0);
    wait_got(f, 1);
    drop_one(f); /* seen by the watch: a round is a minute away */
    drop_one(f);
    wait_got(f, 3);
    wait_files(f, "maildrop", 0);
    wait_files(f, "maildrop/active", 0);
    const struct envelope *e = &f->sched.got[0]->env;
    assert_true(span_eq(e->sender, SPAN_LIT("joe@example.net")));
    assert_int_equal(e->rcpt_count, 2);
    assert_true(span_eq(e->rcpts[0].addr, SPAN_LIT("bob@example.net")));
    assert_true(span_eq(e->rcpts[1].addr, SPAN_LIT("alice@example.org")));
    assert_true(e->flags & ENV_LOCAL_SUBMIT);
    assert_true(e->message_id.n > 0);
}

/* The first life commits and is killed before the unlink: its sink does not unlink. */
static void test_killed_between_flush_and_unlink(void **state)
{
    struct fixture *f = *state;
    drop_one(f);
    fixture_start_spool(f, false);
    assert_int_equal(pickup_start(f->pickup), 0);
    wait_got(f, 1);
    wait_files(f, "maildrop/active", 1);
    fixture_end_life(f);

    fixture_begin_life(f);
    fixture_start_spool(f, true);
    assert_int_equal(got_count(f), 1); /* recovered */
    assert_int_equal(count_files(f, "maildrop/active", NULL), 0);
    pickup_recover(f->pickup);
    drop_one(f);
    assert_int_equal(pickup_start(f->pickup), 0);
    wait_got(f, 2); /* the new one; rounds go over active/ first, so the old one would have come before it */
    assert_int_equal(got_count(f), 2);
}

/* Claimed, but never committed: taken again. */
static void test_killed_before_flush(void **state)
{
    struct fixture *f = *state;
    char name[256];
    drop_one(f);
    count_files(f, "maildrop", name);
    char *from = xasprintf("%s/maildrop/%s", f->spool_dir, name);
    char *to = below(f, "maildrop/active/5F00DF00D1234");
    assert_int_equal(rename(from, to), 0);
    fixture_start_spool(f, true);
    pickup_recover(f->pickup);
    assert_int_equal(count_files(f, "maildrop/active", NULL), 1);
    assert_int_equal(pickup_start(f->pickup), 0);
    wait_got(f, 1);
    wait_files(f, "maildrop/active", 0);
    free(from);
    free(to);
}

/* Recovery left the message in the index and gave it to nobody: the file goes before the scheduler runs. */
static void test_leftover_of_an_indexed_message(void **state)
{
    struct fixture *f = *state;
    char name[256];
    drop_one(f);
    count_files(f, "maildrop", name);
    char *from = xasprintf("%s/maildrop/%s", f->spool_dir, name);
    char *to = below(f, "maildrop/active/5F00DF00D1234");
    assert_int_equal(rename(from, to), 0);
    f->sched.pretend_id = 0x5F00DF00D1234;
    fixture_start_spool(f, true);
    pickup_recover(f->pickup);
    assert_int_equal(count_files(f, "maildrop/active", NULL), 0);
    assert_int_equal(got_count(f), 0);
    free(from);
    free(to);
}

static void put_text(struct fixture *f, const char *name, const char *text)
{
    char *path = below(f, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    free(path);
}

#define HEAD "{\"posthouse_submission\":1,\"sender\":\"a\",\"recipients\":[\"b\"],\"content_bytes\":"

static void test_what_is_no_message(void **state)
{
    struct fixture *f = *state;
    put_text(f, "maildrop/aa", "garbage");
    put_text(f, "maildrop/bb", "garbage\nmore\n");
    put_text(f, "maildrop/cc", HEAD "10}\nshort");
    put_text(f, "maildrop/dd", HEAD "3}\nlonger");
    put_text(f, "maildrop/ee", "");
    put_text(f, "outside", HEAD "2}\nx\n");
    char *outside = below(f, "outside"), *path = below(f, "maildrop/ff");
    assert_int_equal(symlink(outside, path), 0);
    free(path);
    path = below(f, "maildrop/gg");
    assert_int_equal(link(outside, path), 0);
    free(path);
    path = below(f, "maildrop/hh");
    assert_int_equal(mkfifo(path, 0644), 0);
    free(path);
    path = below(f, "maildrop/ii");
    assert_int_equal(mkdir(path, 0755), 0);
    free(path);
    fixture_start_spool(f, true);
    assert_int_equal(pickup_start(f->pickup), 0);
    wait_files(f, "corrupt", 9);
    wait_files(f, "maildrop", 0);
    assert_int_equal(got_count(f), 0);
    assert_int_equal(access(outside, F_OK), 0);
    free(outside);
}

static void test_files_being_written(void **state)
{
    struct fixture *f = *state;
    put_text(f, "maildrop/.new", HEAD "2}\nx\n");
    put_text(f, "maildrop/.old", "half");
    char *path = below(f, "maildrop/.old");
    struct timespec then[2] = { { .tv_sec = time(NULL) - 3 * 86400 }, { .tv_sec = time(NULL) - 3 * 86400 } };
    assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
    free(path);
    fixture_start_spool(f, true);
    assert_int_equal(pickup_start(f->pickup), 0);
    wait_files(f, "maildrop", 1);
    path = below(f, "maildrop/.new");
    assert_int_equal(access(path, F_OK), 0);
    free(path);
    assert_int_equal(got_count(f), 0);
}

static void test_directories_are_closed(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    char *path = below(f, "maildrop");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 01733);
    free(path);
    path = below(f, "maildrop/active");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    free(path);
    fixture_start_spool(f, true);
}

static void test_no_maildrop(void **state)
{
    struct fixture *f = *state;
    struct mail_input in;
    struct err e = ERR_INIT;
    struct submission s = sample(&in, "x\n");
    fixture_start_spool(f, true);
    assert_int_equal(submit_to_maildrop("/nonexistent", &s, &in, &e), 75);
    assert_non_null(strstr(e.text, "/nonexistent/maildrop"));
    mail_input_free(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_taken_at_start_and_later, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_between_flush_and_unlink, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_before_flush, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leftover_of_an_indexed_message, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_message, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_being_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directories_are_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_maildrop, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

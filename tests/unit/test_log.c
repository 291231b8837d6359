/* The log: shape of a line, sanitising, threads, drops, rotation. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/log.h"

static char path[] = "/tmp/posthouse-test-log-XXXXXX";

static struct log *open_log(void)
{
    struct err e = ERR_INIT;
    struct log_options o = { .dest = LOG_TO_FILE, .path = path };
    struct log *l = log_open(&o, &e);
    if (l == NULL)
        fail_msg("%s", e.text);
    assert_int_equal(log_start(l), 0);
    return l;
}

static struct buf slurp(void)
{
    struct buf b = BUF_INIT(0);
    struct err e = ERR_INIT;
    if (!io_read_file(path, &b, &e))
        fail_msg("%s", e.text);
    return b;
}

static void line_has_postfix_shape(void **state)
{
    (void)state;
    struct log *l = open_log();
    struct log_src src = { l, "posthouse", "smtpd", 4711 };
    log_info(&src, "connect from %s", "localhost[127.0.0.1]");
    log_warn(&src, "bad %s", "a\r\nb\x01\xc3\xa9\xff");
    log_debug(&src, "must not appear");
    log_flush(l);
    struct buf b = slurp();
    const char *s = buf_cstr(&b);
    assert_non_null(strstr(s, " posthouse/smtpd[4711]: connect from localhost[127.0.0.1]\n"));
    assert_non_null(strstr(s, "[4711]: warning: bad a??b?\xc3\xa9?\n"));
    assert_null(strstr(s, "must not appear"));
    assert_int_equal(s[3], ' ');
    assert_int_equal(s[9], ':');
    buf_free(&b);
    log_close(&l);
}

static void *shout(void *arg)
{
    struct log_src src = { arg, "posthouse", "qmgr", 1 };
    for (int i = 0; i < 2000; i++)
        log_info(&src, "line %d", i);
    return NULL;
}

static void threads_lose_nothing(void **state)
{
    (void)state;
    struct log *l = open_log();
    pthread_t t[4];
    if (truncate(path, 0) != 0)
        fail();
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, shout, l), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    log_flush(l);
    struct buf b = slurp();
    size_t lines = 0;
    for (size_t i = 0; i < b.n; i++)
        lines += b.p[i] == '\n';
    assert_int_equal(lines, 8000);
    assert_int_equal(log_dropped(l), 0);
    buf_free(&b);
    log_close(&l);
}

static void reopen_after_rotation(void **state)
{
    (void)state;
    struct err e = ERR_INIT;
    struct log *l = open_log();
    struct log_src src = { l, "posthouse", "master", 1 };
    struct log_options o = { .dest = LOG_TO_FILE, .path = path };
    struct log_options bad = { .dest = LOG_TO_FILE, .path = "/nonexistent/dir/log" };
    assert_int_equal(unlink(path), 0);
    assert_true(log_reopen(l, &o, &e));
    log_info(&src, "after rotation");
    assert_false(log_reopen(l, &bad, &e));
    log_info(&src, "still here");
    log_close(&l);
    struct buf b = slurp();
    assert_non_null(strstr(buf_cstr(&b), "after rotation\n"));
    assert_non_null(strstr(buf_cstr(&b), "still here\n"));
    buf_free(&b);
}

/* A full pipe holds up the log thread only: who flushes or reopens gets an answer. */
static void nobody_waits_for_a_stuck_destination(void **state)
{
    (void)state;
    char fifo[80], text[1000];
    struct err e = ERR_INIT;
    snprintf(fifo, sizeof fifo, "%s.fifo", path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    int reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    struct log_options o = { .dest = LOG_TO_FILE, .path = fifo }, other = { .dest = LOG_TO_FILE, .path = path };
    struct log *l = log_open(&o, &e);
    assert_non_null(l);
    assert_int_equal(log_start(l), 0);
    struct log_src src = { l, "posthouse", "master", 1 };
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 200; i++)
        log_text(&src, LOG_LV_INFO, span_of(text, sizeof text));
    assert_false(log_flush(l));
    assert_false(log_reopen(l, &other, &e));
    ssize_t n;
    do
        while ((n = read(reader, text, sizeof text)) > 0) { }
    while (n < 0 && errno == EAGAIN && !log_flush(l));
    assert_true(log_reopen(l, &other, &e));
    log_close(&l);
    close(reader);
    assert_int_equal(unlink(fifo), 0);
}

static void facility_names(void **state)
{
    (void)state;
    assert_int_equal(log_facility_number("mail"), 2);
    assert_int_equal(log_facility_number("local7"), 23);
    assert_int_equal(log_facility_number("local8"), -1);
    assert_int_equal(log_facility_number("nonsense"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_has_postfix_shape),
        cmocka_unit_test(threads_lose_nothing),
        cmocka_unit_test(reopen_after_rotation),
        cmocka_unit_test(nobody_waits_for_a_stuck_destination),
        cmocka_unit_test(facility_names),
    };
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return rc;
}

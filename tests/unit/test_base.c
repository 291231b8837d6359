/* common/base without the log: numbers, spans, buffers, arenas, checksums, lock order, errors. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crc32c.h"
#include "common/base/err.h"
#include "common/base/io.h"
#include "common/base/lock.h"
#include "common/base/num.h"
#include "common/base/printable.h"
#include "common/base/span.h"
#include "common/base/span_set.h"

static void num_parse_is_strict(void **state)
{
    (void)state;
    static const struct {
        const char *name, *in;
        int64_t min, max, want;
        bool ok;
    } cases[] = {
        { "plain", "42", 0, 100, 42, true },
        { "leading zeros", "007", 0, 100, 7, true },
        { "trailing junk", "42x", 0, 100, 0, false },
        { "leading space", " 42", 0, 100, 0, false },
        { "empty", "", 0, 100, 0, false },
        { "sign not allowed", "-1", 0, 100, 0, false },
        { "sign allowed", "-1", -5, 100, -1, true },
        { "lone sign", "-", -5, 100, 0, false },
        { "above", "101", 0, 100, 0, false },
        { "overflow", "99999999999999999999", 0, INT64_MAX, 0, false },
        { "largest", "9223372036854775807", 0, INT64_MAX, INT64_MAX, true },
        { "smallest", "-9223372036854775808", INT64_MIN, 0, INT64_MIN, true },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t v = 0;
        bool ok = num_parse(span_cstr(cases[i].in), cases[i].min, cases[i].max, &v);
        if (ok != cases[i].ok || v != cases[i].want)
            fail_msg("%s: ok=%d v=%lld", cases[i].name, ok, (long long)v);
    }
}

static void buf_remembers_overflow(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(8);
    buf_puts(&b, "12345");
    buf_puts(&b, "6789");
    assert_false(buf_ok(&b));
    buf_puts(&b, "1");
    assert_int_equal(b.n, 5);
    assert_string_equal(buf_cstr(&b), "12345");
    buf_reset(&b);
    buf_printf(&b, "%s-%d", "abc", 1234);
    assert_true(buf_ok(&b));
    assert_string_equal(buf_cstr(&b), "abc-1234");
    buf_free(&b);
}

static void buf_printf_long(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    buf_printf(&b, "%01000d", 7);
    assert_int_equal(b.n, 1000);
    assert_int_equal(buf_cstr(&b)[999], '7');
    buf_consume(&b, 998);
    assert_string_equal(buf_cstr(&b), "07");
    buf_put_uint(&b, 0);
    buf_put_uint(&b, UINT64_MAX);
    assert_string_equal(buf_cstr(&b), "07018446744073709551615");
    buf_free(&b);
}

static void span_tokens(void **state)
{
    (void)state;
    struct span rest = span_cstr(", a,b  c,,d "), t;
    const char *want[] = { "a", "b", "c", "d" };
    size_t i = 0;
    while (span_next_token(&rest, ", ", &t)) {
        assert_true(i < 4);
        assert_true(span_eq(t, span_cstr(want[i])));
        i++;
    }
    assert_int_equal(i, 4);
    assert_true(span_iends_with(SPAN_LIT("Example.COM"), SPAN_LIT(".com")));
    assert_false(span_iends_with(SPAN_LIT("om"), SPAN_LIT(".com")));
    assert_int_equal(span_rfind(SPAN_LIT("a@b@c"), '@'), 3);
    assert_true(span_eq(span_trim(SPAN_LIT(" \t x y\r\n")), SPAN_LIT("x y")));
}

static void arena_keeps_and_clears(void **state)
{
    (void)state;
    struct arena *a = arena_new(256);
    char *s = arena_strdup(a, "hello");
    char *big = arena_alloc(a, 10000);
    char *t = arena_printf(a, "%d:%s", 5, s);
    big[9999] = 1;
    assert_string_equal(s, "hello");
    assert_string_equal(t, "5:hello");
    arena_reset(a);
    char *z = arena_alloc(a, 64);
    for (int i = 0; i < 64; i++)
        assert_int_equal(z[i], 0);
    arena_free(&a);
    assert_null(a);
}

static void span_set_knows_each_once(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    struct span_set set = { 0 };
    char text[16] = "x0";
    struct span kept, first;
    assert_false(span_set_has(&set, SPAN_LIT("x0")));
    assert_true(span_set_add(&set, a, span_of(text, 2), &first));
    assert_false(span_set_add(&set, a, span_of(text, 2), &kept));
    assert_true(span_set_add(&set, a, SPAN_LIT(""), NULL));
    for (int i = 1; i < 1000; i++)
        assert_true(span_set_add(&set, a, span_of(text, (size_t)snprintf(text, sizeof text, "x%d", i)), &kept));
    assert_int_equal(set.count, 1001);
    assert_true(set.cap >= 2 * set.count);
    assert_true(span_eq(first, SPAN_LIT("x0")) && span_eq(kept, SPAN_LIT("x999")));
    assert_true(span_set_has(&set, SPAN_LIT("x500")) && span_set_has(&set, SPAN_LIT("")) && !span_set_has(&set, SPAN_LIT("x1000")));
    arena_free(&a);
}

static void crc32c_known_values(void **state)
{
    (void)state;
    char zeros[32] = { 0 };
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283u);
    assert_int_equal(crc32c(0, zeros, 32), 0x8A9136AAu);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xE3069283u);
}

static void err_tells_the_story(void **state)
{
    (void)state;
    struct err e = ERR_INIT;
    err_set_sys(&e, ENOENT, "open %s", "/x");
    err_prefix(&e, "main.cf");
    assert_string_equal(e.text, "main.cf: open /x: No such file or directory");
    assert_int_equal(e.sys, ENOENT);
    err_set(NULL, "nobody listens");
}

static void clock_can_be_shifted(void **state)
{
    (void)state;
    int64_t a = clock_mono_ms(), w = clock_wall_us();
    clock_advance_for_test(60000, 5000000);
    assert_true(clock_mono_ms() - a >= 60000);
    assert_true(clock_wall_us() - w >= 5000000);
    clock_advance_for_test(-60000, -5000000);
    assert_int_equal(clock_poll_ms(CLOCK_NEVER), -1);
    assert_int_equal(clock_poll_ms(0), 0);
}

static void lock_order_breach_aborts(void **state)
{
    (void)state;
#ifndef POSTHOUSE_DEBUG
    skip();
#else
    pid_t pid = fork();
    if (pid == 0) {
        struct lock a, b;
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(3);
        lock_init(&a, LOCK_TEST_A);
        lock_init(&b, LOCK_TEST_B);
        lock_take(&b);
        lock_take(&a);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
#endif
}

static void lock_ranks_rise(void **state)
{
    (void)state;
    for (int i = 1; i < LOCK_COUNT; i++)
        assert_true(lock_rank((enum lock_id)i) > lock_rank((enum lock_id)(i - 1)));
}

static void test_printable(void **state)
{
    (void)state;
    static const struct { const char *in, *out; } cases[] = {
        { "plain text", "plain text" }, { "gr\xc3\xbcn \xe2\x82\xac \xf0\x9f\x98\x80", "gr\xc3\xbcn \xe2\x82\xac \xf0\x9f\x98\x80" },
        { "\x1b[2J\a\r\n\t\x7f", "?[2J?????" }, { "\xc2\x9b" "2J", "??2J" }, { "\xc2\xa0", "\xc2\xa0" }, { "\xff\xc3", "??" },
        { "\xe0\x80\x9b\xc1\x9b", "?????" }, { "\xf0\x80\x80\x9b", "????" }, { "\xe2\x82", "??" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *copy = strdup(cases[i].in);
        assert_non_null(copy);
        text_make_printable(copy, strlen(copy));
        assert_string_equal(copy, cases[i].out);
        assert_int_equal(text_is_printable(span_cstr(cases[i].in)), strcmp(cases[i].in, cases[i].out) == 0);
        free(copy);
    }
}

/* A plain mapping would end the process by SIGBUS behind the end of the file. */
static void what_cannot_be_read_is_mapped_as_zeros(void **state)
{
    (void)state;
    char path[] = "/tmp/posthouse-test-base.XXXXXX", bytes[5000];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bad = 99;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    memset(bytes, 'x', sizeof bytes);
    assert_true(io_write_all(fd, bytes, sizeof bytes));
    const char *p = io_map_readable(fd, sizeof bytes, &bad);
    assert_non_null(p);
    assert_int_equal(bad, 0);
    assert_memory_equal(p, bytes, sizeof bytes);
    io_unmap(p, sizeof bytes);

    size_t n = 10 * page;
    p = io_map_readable(fd, n, &bad);
    assert_non_null(p);
    assert_int_equal(bad, n - (sizeof bytes + page - 1) / page * page);
    assert_memory_equal(p, bytes, sizeof bytes);
    for (size_t i = sizeof bytes; i < n; i++)
        assert_int_equal(p[i], 0);
    io_unmap(p, n);
    close(fd);
    assert_null(io_map_readable(fd, n, &bad));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_printable),
        cmocka_unit_test(num_parse_is_strict),
        cmocka_unit_test(buf_remembers_overflow),
        cmocka_unit_test(buf_printf_long),
        cmocka_unit_test(span_tokens),
        cmocka_unit_test(arena_keeps_and_clears),
        cmocka_unit_test(span_set_knows_each_once),
        cmocka_unit_test(crc32c_known_values),
        cmocka_unit_test(err_tells_the_story),
        cmocka_unit_test(clock_can_be_shifted),
        cmocka_unit_test(lock_order_breach_aborts),
        cmocka_unit_test(lock_ranks_rise),
        cmocka_unit_test(what_cannot_be_read_is_mapped_as_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

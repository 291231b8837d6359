#include "unit.h"
#include <fcntl.h>
#include <unistd.h>
#include "common/base/mem.h"
#include "common/mail/transcript.h"

static char *print(const struct transcript *t)
{
    struct buf b = BUF_INIT(0);
    transcript_print(t, &b);
    buf_puts(&b, "");
    char *text = buf_detach(&b);
    return text;
}

static void expect(const struct transcript *t, const char *want)
{
    char *got = print(t);
    assert_string_equal(got, want);
    free(got);
}

static void both_sides(void **state UNUSED)
{
    struct transcript t;
    transcript_init(&t);
    transcript_reply(&t, false, SPAN_LIT("250-one\r\n250 two\r\n"));
    transcript_command(&t, true, SPAN_LIT("NOOP \x01\xff"));
    transcript_note(&t, "[%d bytes]", 7);
    expect(&t, "Out: 250-one\nOut: 250 two\nIn:  NOOP ??\n     [7 bytes]\n");
    assert_int_equal(t.lines, 4);
    transcript_reset(&t);
    expect(&t, "");
    assert_int_equal(t.lines, 0);
    transcript_free(&t);
}

static void logins_are_cut(void **state UNUSED)
{
    struct transcript t;
    transcript_init(&t);
    transcript_command(&t, true, SPAN_LIT("AUTH PLAIN AHUAcGFzcw=="));
    transcript_unknown(&t, SPAN_LIT("cGFzcw=="));
    transcript_reset(&t); /* still inside the login */
    transcript_unknown(&t, SPAN_LIT("bW9yZQ=="));
    transcript_command(&t, true, SPAN_LIT("NOOP"));
    transcript_unknown(&t, SPAN_LIT("WORD"));
    transcript_unknown(&t, SPAN_LIT("auth"));
    transcript_unknown(&t, SPAN_LIT("AUTH\tLOGIN\tdXNlcg=="));
    transcript_unknown(&t, SPAN_LIT("AUTHORIZE cGFzcw=="));
    transcript_command(&t, false, SPAN_LIT("AUTH averyveryverylongmechanismnamethatisapassword x"));
    expect(&t, "In:  [not shown]\nIn:  NOOP\nIn:  WORD\nIn:  AUTH \nIn:  AUTH LOGIN [not shown]\nIn:  [not shown]\nOut: AUTH  [not shown]\n");
    transcript_free(&t);
}

static void keeps_both_ends(void **state UNUSED)
{
    struct transcript t;
    char line[1000];
    transcript_init(&t);
    for (int i = 0; i < 3000; i++) {
        int n = snprintf(line, sizeof line, "line %d %0*d", i, i % 700, 0);
        transcript_command(&t, true, span_of(line, (size_t)n));
        assert_true(t.text.n <= TRANSCRIPT_MAX);
    }
    char *got = print(&t);
    assert_memory_equal(got, "In:  line 0 0\nIn:  line 1 0\n", 28);
    assert_non_null(strstr(got, "In:  line 2999 "));
    unsigned shown = 0;
    for (const char *p = got; (p = strchr(p, '\n')) != NULL; p++)
        shown++;
    assert_int_equal(shown - 1 + t.left_out, 3000);
    assert_int_equal(t.lines, 3000);
    free(got);
    transcript_free(&t);
}

/* What is logged beside: nothing that a transcript would not show. */
static void lines_are_logged(void **state UNUSED)
{
    char path[] = "/tmp/transcript-test-XXXXXX", text[1000];
    struct err e = ERR_INIT;
    struct transcript t;
    int fd = mkstemp(path);
    struct log_options lo = { .dest = LOG_TO_FILE, .path = path };
    struct log *l = log_open(&lo, &e);
    assert_non_null(l);
    assert_int_equal(log_start(l), 0);
    struct log_src src = { .log = l, .name = "x", .prog = "smtpd", .pid = 1 };
    transcript_init(&t);
    for (int level = 0; level < 3; level++) {
        transcript_echo(&t, &src, level == 0 ? "zero" : level == 1 ? "one" : "two", level);
        transcript_command(&t, true, SPAN_LIT("AUTH PLAIN AHUAcGFzcw=="));
        transcript_reset(&t);
        transcript_reply(&t, false, SPAN_LIT("250-a\r\n250 b\r\n"));
        transcript_note(&t, "[%d bytes]", 7);
    }
    transcript_echo(&t, NULL, "", 0);
    transcript_command(&t, true, SPAN_LIT("NOOP"));
    transcript_free(&t);
    log_close(&l);
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    static const char *const want[] = { "< one: AUTH PLAIN [not shown]\n", "> one: 250-a\n", "> one: 250 b\n",
                                        "< two: AUTH PLAIN [not shown]\n", "> two: 250-a\n", "> two: 250 b\n", "= two: [7 bytes]\n" };
    const char *at = text;
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        at = strstr(at, want[i]);
        if (at == NULL)
            fail_msg("not logged, or not here: %s in %s", want[i], text);
    }
    unsigned lines = 0;
    for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    assert_int_equal(lines, ARRAY_LEN(want));
    close(fd);
    unlink(path);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides),
        cmocka_unit_test(logins_are_cut),
        cmocka_unit_test(keeps_both_ends),
        cmocka_unit_test(lines_are_logged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

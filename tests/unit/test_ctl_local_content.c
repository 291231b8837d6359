/* What a local user's message becomes: header fields dropped and added, line ends, flags; for every way to cut it. */
#include "tests/unit/unit.h"

#include <string.h>

#include "common/base/arena.h"
#include "daemon/control/local_content.h"
#include "daemon/control/submission.h"

#define RECEIVED "Received: by h (P, from userid 7)\r\n\tid Q; D\r\n"

static struct local_content_options options = { /* drop_headers: main() */
    .received = { RECEIVED, sizeof RECEIVED - 1 },
    .undisclosed = "", .sender = { "joe@x.example", 13 }, .origin = { "x.example", 9 }, .full_name = { "Joe User", 8 },
    .message_id = { "<1.Q@h>", 7 }, .date = "Thu, 1 Jan 1970 00:00:00 +0000 (UTC)",
};

#define MSGID "Message-Id: <1.Q@h>\r\n"
#define DATE "Date: Thu, 1 Jan 1970 00:00:00 +0000 (UTC)\r\n"
#define FROM "From: Joe User <joe@x.example>\r\n"
#define ALL "From: a\nDate: d\nMessage-Id: <m@x>\n"
#define ALL_OUT "From: a\r\nDate: d\r\nMessage-Id: <m@x>\r\n"

static const struct row {
    const char *name, *text;
    size_t n;          /* 0: strlen(text) */
    const char *want;  /* behind Received */
    uint32_t flags;
} rows[] = {
    { "empty", "", 0, MSGID DATE FROM "\r\n", 0 },
    { "all missing", "Subject: s\n\nhi\n", 0, "Subject: s\r\n" MSGID DATE FROM "\r\nhi\r\n", 0 },
    { "nothing missing", ALL "\nhi\n", 0, ALL_OUT "\r\nhi\r\n", 0 },
    { "crlf", "From: a\r\nDate: d\r\nMessage-Id: <m@x>\r\n\r\nhi\r\nho\r\n", 0, ALL_OUT "\r\nhi\r\nho\r\n", 0 },
    { "no final end", ALL "\nhi", 0, ALL_OUT "\r\nhi\r\n", 0 },
    { "header only", "Subject: s", 0, "Subject: s\r\n" MSGID DATE FROM "\r\n", 0 },
    { "dropped", ALL "Bcc: x,\n\ty\nReturn-Path: <z>\nTo: t\n\nBcc: body\n", 0, ALL_OUT "To: t\r\n\r\nBcc: body\r\n", 0 },
    { "no header", "just text\nmore\n", 0, MSGID DATE FROM "\r\njust text\r\nmore\r\n", 0 },
    { "resent", ALL "Resent-To: r@s\n\nx\n", 0,
      ALL_OUT "Resent-To: r@s\r\nResent-Message-Id: <1.Q@h>\r\nResent-Date: Thu, 1 Jan 1970 00:00:00 +0000 (UTC)\r\n"
      "Resent-From: Joe User <joe@x.example>\r\n\r\nx\r\n", 0 },
    { "dot line", ALL "\n.x\n", 0, ALL_OUT "\r\n.x\r\n", CONTENT_HAS_DOT_LINE },
    { "dot inside", ALL "\nx.\n", 0, ALL_OUT "\r\nx.\r\n", 0 },
    { "bare cr", ALL "\na\rb\n", 0, ALL_OUT "\r\na\rb\r\n", CONTENT_HAS_BARE_CR },
    { "cr cr lf", ALL "\na\r\r\nb\n", 0, ALL_OUT "\r\na\r\r\nb\r\n", CONTENT_HAS_BARE_CR },
    { "cr at the end", ALL "\na\r", 0, ALL_OUT "\r\na\r\r\n", CONTENT_HAS_BARE_CR },
    { "8 bit", ALL "\n\xc3\xa4\n", 0, ALL_OUT "\r\n\xc3\xa4\r\n", CONTENT_HAS_8BIT },
    { "8 bit header", ALL "Subject: \xc3\xa4\n\nx\n", 0, ALL_OUT "Subject: \xc3\xa4\r\n\r\nx\r\n",
      CONTENT_HAS_8BIT | CONTENT_HAS_8BIT_HEADER },
    { "empty lines", ALL "\n\n\na\n\n", 0, ALL_OUT "\r\n\r\n\r\na\r\n\r\n", 0 },
};

static bool gather(void *arg, struct span bytes)
{
    buf_add_span(arg, bytes);
    return true;
}

static void check(const struct row *r, size_t cut)
{
    struct local_content c;
    struct arena *a = arena_new(0);
    struct buf out = BUF_INIT(0);
    size_t n = r->n > 0 ? r->n : strlen(r->text);
    local_content_begin(&c, &options, a, gather, &out);
    assert_true(local_content_add(&c, span_of(r->text, cut)));
    assert_true(local_content_add(&c, span_of(r->text + cut, n - cut)));
    assert_true(local_content_end(&c));
    const char *got = buf_cstr(&out);
    if (strncmp(got, RECEIVED, sizeof RECEIVED - 1) != 0 || strcmp(got + sizeof RECEIVED - 1, r->want) != 0)
        fail_msg("%s, cut at %zu: \"%s\"", r->name, cut, got);
    if (c.flags != r->flags)
        fail_msg("%s, cut at %zu: flags %x, wanted %x", r->name, cut, c.flags, r->flags);
    buf_free(&out);
    arena_free(&a);
}

static void test_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t n = rows[i].n > 0 ? rows[i].n : strlen(rows[i].text);
        for (size_t cut = 0; cut <= n; cut++)
            check(&rows[i], cut);
    }
}

static void from_line(const struct local_content_options *o, const char *want)
{
    struct local_content c;
    struct arena *a = arena_new(0);
    struct buf out = BUF_INIT(0);
    local_content_begin(&c, o, a, gather, &out);
    assert_true(local_content_add(&c, SPAN_LIT("Subject: x\n\n")));
    assert_true(local_content_end(&c));
    if (strstr(buf_cstr(&out), want) == NULL)
        fail_msg("no %s in %s", want, buf_cstr(&out));
    buf_free(&out);
    arena_free(&a);
}

static void test_from(void **state)
{
    (void)state;
    struct local_content_options o = options;
    o.full_name = SPAN_LIT("");
    from_line(&o, "\r\nFrom: joe@x.example\r\n");
    o.full_name = SPAN_LIT("Joe \"Q.\" User");
    from_line(&o, "\r\nFrom: \"Joe \\\"Q.\\\" User\" <joe@x.example>\r\n");
    o.from_is_obsolete = true;
    o.full_name = SPAN_LIT("Joe (x) User");
    from_line(&o, "\r\nFrom: joe@x.example (Joe  x  User)\r\n");
    o = options;
    o.full_name = o.sender = SPAN_LIT("");
    from_line(&o, "\r\nFrom: MAILER-DAEMON@x.example\r\n");
    o = options;
    o.undisclosed = "To: undisclosed-recipients:;";
    from_line(&o, "\r\nTo: undisclosed-recipients:;\r\n\r\n");
    o = options;
    o.full_name = SPAN_LIT("a\r\nX-Evil: b");
    from_line(&o, "\r\nFrom: \"a  X-Evil: b\" <joe@x.example>\r\n");
}

static void test_endless_header(void **state)
{
    (void)state;
    struct local_content c;
    struct arena *a = arena_new(0);
    struct buf out = BUF_INIT(0);
    char piece[8192];
    memset(piece, 'x', sizeof piece);
    memcpy(piece, "X: ", 3);
    local_content_begin(&c, &options, a, gather, &out);
    bool ok = true;
    for (int i = 0; i < 1000 && ok; i++)
        ok = local_content_add(&c, span_of(piece, sizeof piece));
    assert_false(ok);
    assert_true(c.is_too_big);
    local_content_abort(&c);
    buf_free(&out);
    arena_free(&a);
}

static void test_submission(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    struct span rcpts[] = { SPAN_LIT("bob"), SPAN_LIT("joe user@b.example") };
    struct submission s = { .sender = SPAN_LIT("me@x.example"), .full_name = SPAN_LIT("Me"), .rcpts = rcpts, .rcpt_count = 2,
                            .notify = NOTIFY_DELAY, .ret = DSN_RET_HDRS, .envid = SPAN_LIT("e1"), .is_8bitmime = true,
                            .time_us = 5, .content_bytes = 77 };
    struct submission t;
    struct err e = ERR_INIT;
    json_t *j = submission_encode(&s);
    assert_true(submission_decode(j, a, &t, &e));
    assert_true(span_eq(t.sender, s.sender) && span_eq(t.full_name, s.full_name) && span_eq(t.envid, s.envid));
    assert_int_equal(t.rcpt_count, 2);
    assert_true(span_eq(t.rcpts[1], rcpts[1]));
    assert_true(t.notify == s.notify && t.ret == s.ret && t.is_8bitmime && !t.is_smtputf8);
    assert_true(t.time_us == 5 && t.content_bytes == 77);
    json_decref(j);
    static const char *const bad[] = {
        "{}",
        "{\"posthouse_submission\": 2, \"sender\": \"\", \"recipients\": [\"a\"], \"content_bytes\": 1}",
        "{\"posthouse_submission\": 1, \"recipients\": [\"a\"], \"content_bytes\": 1}",
        "{\"posthouse_submission\": 1, \"sender\": \"\", \"recipients\": [], \"content_bytes\": 1}",
        "{\"posthouse_submission\": 1, \"sender\": \"\", \"recipients\": [\"\"], \"content_bytes\": 1}",
        "{\"posthouse_submission\": 1, \"sender\": \"\", \"recipients\": [7], \"content_bytes\": 1}",
        "{\"posthouse_submission\": 1, \"sender\": \"\", \"recipients\": [\"a\\r\\nb\"], \"content_bytes\": 1}",
        "{\"posthouse_submission\": 1, \"sender\": \"a@-\", \"recipients\": [\"a\"], \"content_bytes\": 1}",
        "{\"posthouse_submission\": 1, \"sender\": \"\", \"envelope_id\": \"e\\r\\nX\", \"recipients\": [\"a\"], \"content_bytes\": 1}",
        ("{\"posthouse_submission\": 1, \"sender\": \"\", \"envelope_id\": \"0123456789012345678901234567890123456789012345678901"
         "0123456789012345678901234567890123456789012345678901\", \"recipients\": [\"a\"], \"content_bytes\": 1}"),
        "{\"posthouse_submission\": 1, \"sender\": \"\", \"recipients\": [\"a\"], \"content_bytes\": -1}",
        "{\"posthouse_submission\": 1, \"sender\": \"\", \"recipients\": [\"a\"]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        json_error_t je;
        j = json_loads(bad[i], 0, &je);
        assert_non_null(j);
        if (submission_decode(j, a, &t, &e))
            fail_msg("taken: %s", bad[i]);
        json_decref(j);
    }
    arena_free(&a);
}

int main(void)
{
    options.drop_headers = hdr_names_of("bcc, content-length, resent-bcc, return-path");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut), cmocka_unit_test(test_from), cmocka_unit_test(test_endless_header),
        cmocka_unit_test(test_submission),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

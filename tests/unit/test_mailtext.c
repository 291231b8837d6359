/* headers, maildate and smtpreply */
#include "tests/unit/unit.h"
#include <time.h>
#include "common/mail/hdr_names.h"
#include "common/mail/headers.h"
#include "common/mail/maildate.h"
#include "common/mail/smtpreply.h"

static void scan(struct hdr_scan *h, const char *text, enum hdr_line *kinds)
{
    struct span rest = span_cstr(text);
    for (int i = 0; rest.n > 0; i++) {
        size_t n = (size_t)span_find(rest, '\n');
        kinds[i] = hdr_scan_line(h, span_of(rest.p, n));
        rest = span_from(rest, n + 1);
    }
}

static void test_headers(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    struct hdr_scan h;
    enum hdr_line k[16];
    hdr_scan_init(&h, a);
    scan(&h, "Received: from x\n\tby y\nReceived: z\nmessage-id :\n <1@a>\nMessage-ID: <2@b>\nFROM: j\xc3\xb6\n\n", k);
    static const enum hdr_line want[] = { HDR_LINE_FIELD, HDR_LINE_FOLDED, HDR_LINE_FIELD, HDR_LINE_FIELD,
                                          HDR_LINE_FOLDED, HDR_LINE_FIELD, HDR_LINE_FIELD, HDR_LINE_EMPTY };
    assert_memory_equal(k, want, sizeof want);
    assert_int_equal(h.received_count, 2);
    assert_true(span_eq(h.message_id, SPAN_LIT("<1@a>")));
    assert_true(hdr_has(&h, HDR_FROM) && hdr_has(&h, HDR_MESSAGE_ID) && !hdr_has(&h, HDR_DATE));
    assert_true(h.is_done && h.has_8bit);

    hdr_scan_init(&h, a);
    scan(&h, "Subject: x\nno header here\n", k);
    assert_int_equal(k[1], HDR_LINE_BODY);
    hdr_scan_init(&h, a);
    scan(&h, " folded at the start\n", k);
    assert_int_equal(k[0], HDR_LINE_BODY);
    hdr_scan_init(&h, a);
    scan(&h, "j\xc3\xb6 text\n", k);
    assert_int_equal(k[0], HDR_LINE_BODY);
    assert_false(h.has_8bit);
    assert_int_equal(hdr_name_length(SPAN_LIT("To \t: x")), 2);
    assert_int_equal(hdr_name_length(SPAN_LIT(": x")), 0);
    assert_int_equal(hdr_name_length(SPAN_LIT("To x: y")), 0);
    arena_free(&a);
}

/* A Message-ID that is folded after every byte costs no more than its limit, and is joined. */
static void test_folded_message_id(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    struct hdr_scan h;
    hdr_scan_init(&h, a);
    assert_int_equal(hdr_scan_line(&h, SPAN_LIT("Message-ID: <")), HDR_LINE_FIELD);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(hdr_scan_line(&h, SPAN_LIT(" x")), HDR_LINE_FOLDED);
    assert_int_equal(h.message_id.n, HDR_MESSAGE_ID_MAX);
    assert_memory_equal(h.message_id.p, "<xxx", 4);
    if (arena_bytes(a) > 16384)
        fail_msg("%zu bytes", arena_bytes(a));
    arena_free(&a);
}

static void test_date(void **state)
{
    (void)state;
    static const struct { const char *tz; int64_t t; const char *want; } cases[] = {
        { "UTC0", 0, "Thu, 1 Jan 1970 00:00:00 +0000 (UTC)" },
        { "CET-1", 1795246265, "Sat, 21 Nov 2026 08:31:05 +0100 (CET)" },
        { "NST3:30", 1795246265, "Sat, 21 Nov 2026 04:01:05 -0330 (NST)" },
        { "<+0545>-5:45", 1795246265, "Sat, 21 Nov 2026 13:16:05 +0545 (+0545)" },
    };
    char out[MAIL_DATE_MAX];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        setenv("TZ", cases[i].tz, 1);
        tzset();
        assert_int_equal(mail_date_format(cases[i].t, out), strlen(cases[i].want));
        assert_string_equal(out, cases[i].want);
    }
    assert_true(mail_date_format(INT64_MAX, out) > 0);
}

static void test_reply(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    smtp_reply_put(&b, 550, SPAN_LIT("5.1.1"), SPAN_LIT("<a@b>: no\nreally not\n"));
    smtp_reply_put(&b, 250, SPAN_LIT(""), SPAN_LIT("ok"));
    smtp_reply_put(&b, 220, SPAN_LIT(""), SPAN_LIT(""));
    assert_string_equal(buf_cstr(&b), "550-5.1.1 <a@b>: no\r\n550 5.1.1 really not\r\n250 ok\r\n220 \r\n");
    buf_free(&b);

    struct smtp_reply_line r;
    assert_true(smtp_reply_parse(SPAN_LIT("550-5.1.1 no such user"), &r));
    assert_true(r.code == 550 && r.more && span_eq(r.dsn, SPAN_LIT("5.1.1")) && span_eq(r.text, SPAN_LIT("no such user")));
    assert_true(smtp_reply_parse(SPAN_LIT("250"), &r));
    assert_true(r.code == 250 && !r.more && r.dsn.n == 0 && r.text.n == 0);
    assert_true(smtp_reply_parse(SPAN_LIT("250 5.1.1 class of another code"), &r));
    assert_int_equal(r.dsn.n, 0);
    assert_true(smtp_reply_parse(SPAN_LIT("250 2.0.0"), &r));
    assert_true(span_eq(r.dsn, SPAN_LIT("2.0.0")) && r.text.n == 0);
    assert_false(smtp_reply_parse(SPAN_LIT("25"), &r));
    assert_false(smtp_reply_parse(SPAN_LIT("250x"), &r));
    assert_false(smtp_reply_parse(SPAN_LIT("650 x"), &r));
    assert_int_equal(dsn_code_length(SPAN_LIT("5.123.999 x")), 9);
    assert_int_equal(dsn_code_length(SPAN_LIT("5.1234.1")), 0);
    assert_int_equal(dsn_code_length(SPAN_LIT("3.1.1")), 0);
    assert_int_equal(dsn_code_length(SPAN_LIT("5.1.")), 0);
    assert_int_equal(dsn_code_length(SPAN_LIT("5.1.1x")), 0);
}

static void test_names(void **state)
{
    (void)state;
    struct hdr_names h = hdr_names_of("bcc, Return-Path\n content-length"), none = { 0 }, empty = hdr_names_of("");
    static const char *const in[] = { "Bcc", "BCC", "return-path", "Content-Length" }, *const out[] = { "", "Bc", "Bccc", "Received", "Content-Type", "To" };
    for (size_t i = 0; i < ARRAY_LEN(in); i++)
        assert_true(hdr_names_has(&h, span_cstr(in[i])));
    for (size_t i = 0; i < ARRAY_LEN(out); i++)
        assert_false(hdr_names_has(&h, span_cstr(out[i])));
    assert_false(hdr_names_has(&none, SPAN_LIT("Bcc")) || hdr_names_has(&empty, SPAN_LIT("Bcc")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers), cmocka_unit_test(test_names), cmocka_unit_test(test_folded_message_id), cmocka_unit_test(test_date), cmocka_unit_test(test_reply),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

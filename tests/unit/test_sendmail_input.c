/* Address lists, -t, and the message on standard input. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/cmd/header_rcpts.h"
#include "daemon/cmd/mail_input.h"

struct row {
    const char *name, *text;
    const char *want;   /* addresses joined by '|'; NULL: refused */
};

static const struct row lists[] = {
    { "one", "a@b.example", "a@b.example" },
    { "bare user", "root", "root" },
    { "several", "a@b.example, c@d.example ,e", "a@b.example|c@d.example|e" },
    { "phrase", "Joe User <joe@b.example>", "joe@b.example" },
    { "quoted comma", "\"User, Joe\" <joe@b.example>, x@y.example", "joe@b.example|x@y.example" },
    { "comment comma", "joe@b.example (Joe, home), x@y.example", "joe@b.example|x@y.example" },
    { "nested comment", "joe@b.example (a (b, c) d), x@y.example", "joe@b.example|x@y.example" },
    { "escaped quote", "\"a\\\", b\" <joe@b.example>", "joe@b.example" },
    { "empty places", ", a@b.example,, ", "a@b.example" },
    { "group", "Friends: a@b.example, c@d.example;, e@f.example", "a@b.example|c@d.example|e@f.example" },
    { "empty group", "undisclosed-recipients:;", "" },
    { "comment alone", "(nobody)", "" },
    { "quoted local part", "\"joe user\"@b.example", "joe user@b.example" },
    { "literal", "joe@[192.0.2.1]", "joe@[192.0.2.1]" },
    { "literal with colons", "joe@[IPv6:2001:db8::1]", "joe@[IPv6:2001:db8::1]" },
    { "route", "<@relay.example:joe@b.example>", "joe@b.example" },
    { "utf-8", "j\xc3\xb6@b.example", "j\xc3\xb6@b.example" },
    { "two words", "joe user@b.example x", NULL },
    { "no local part", "@b.example", NULL },
    { "unclosed", "<joe@b.example", NULL },
};

static const struct row headers[] = {
    { "to cc bcc", "From: x\nTo: a@b.example\nSubject: s\nCc: c@d.example\nBcc: e@f.example\n\nTo: no@no.example\n",
      "a@b.example|c@d.example|e@f.example" },
    { "folded", "To: a@b.example,\n\tc@d.example,\n  e@f.example\nSubject: x\n\n", "a@b.example|c@d.example|e@f.example" },
    { "case and blanks", "tO : a@b.example\nBCC:c@d.example\n\n", "a@b.example|c@d.example" },
    { "resent only", "To: a@b.example\nResent-To: r@s.example\nBcc: x@y.example\nResent-Bcc: t@u.example\n\n",
      "r@s.example|t@u.example" },
    { "two fields", "To: a@b.example\nTo: c@d.example\n\n", "a@b.example|c@d.example" },
    { "body only", "hello\nTo: a@b.example\n", "" },
    { "crlf", "To: a@b.example\r\n\r\nTo: c@d.example\r\n", "a@b.example" },
    { "no end", "To: a@b.example", "a@b.example" },
    { "bad one", "To: a@b.example, joe user@x\n\n", NULL },
};

static void check(const struct row *r, bool is_header)
{
    struct rcpt_list l = { .arena = arena_new(0) };
    struct err e = ERR_INIT;
    struct buf got = BUF_INIT(0);
    bool ok = is_header ? rcpts_add_header(&l, span_cstr(r->text), &e) : rcpts_add_list(&l, span_cstr(r->text), &e);
    for (size_t i = 0; i < l.n; i++) {
        if (i > 0)
            buf_putc(&got, '|');
        buf_add_span(&got, l.items[i]);
    }
    if (ok != (r->want != NULL) || (ok && strcmp(buf_cstr(&got), r->want) != 0))
        fail_msg("%s: %s \"%s\" %s", r->name, ok ? "taken" : "refused", buf_cstr(&got), e.text);
    buf_free(&got);
    rcpt_list_free(&l);
    arena_free(&l.arena);
}

static void test_lists(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        check(&lists[i], false);
}

static void test_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        check(&headers[i], true);
}

static bool gather(void *arg, struct span piece)
{
    buf_add_span(arg, piece);
    return true;
}

static enum mail_input_status take(const char *text, size_t n, bool keep_dots, uint64_t limit, struct buf *out)
{
    struct mail_input in;
    struct err e = ERR_INIT;
    FILE *f = fmemopen((void *)(uintptr_t)text, n, "r");
    enum mail_input_status st = mail_input_read(&in, f, keep_dots, limit, &e);
    if (st == INPUT_OK) {
        assert_true(mail_input_each(&in, gather, out));
        assert_int_equal(in.bytes, out->n);
    } else {
        assert_true(e.text[0] != '\0');
    }
    fclose(f);
    mail_input_free(&in);
    return st;
}

static void test_input(void **state)
{
    (void)state;
    static const struct { const char *name, *text, *want; bool keep_dots; } rows[] = {
        { "plain", "a\nb\n", "a\nb\n", false },
        { "no last end", "a\nb", "a\nb\n", false },
        { "crlf", "a\r\nb\r\n", "a\nb\n", false },
        { "lone cr stays", "a\rb\n", "a\rb\n", false },
        { "dot ends", "a\n.\nb\n", "a\n", false },
        { "dot kept", "a\n.\nb\n", "a\n.\nb\n", true },
        { "dots are not stuffed", "a\n..\n.b\n", "a\n..\n.b\n", false },
        { "mailbox line", "From joe Tue\n>From x\nSubject: y\n\nFrom z\n", "Subject: y\n\nFrom z\n", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = BUF_INIT(0);
        assert_int_equal(take(rows[i].text, strlen(rows[i].text), rows[i].keep_dots, 0, &b), INPUT_OK);
        if (strcmp(buf_cstr(&b), rows[i].want) != 0)
            fail_msg("%s: \"%s\"", rows[i].name, buf_cstr(&b));
        buf_free(&b);
    }
}

static void test_input_limits(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    assert_int_equal(take("0123456789\n", 11, false, 10, &b), INPUT_TOO_BIG);
    assert_int_equal(take("012345678\n", 10, false, 10, &b), INPUT_OK);
    buf_reset(&b);
    size_t n = INPUT_MEMORY_MAX + 300000;
    char *big = malloc(n);
    for (size_t i = 0; i < n; i++)
        big[i] = i % 64 == 63 ? '\n' : (char)('a' + i / 64 % 26);
    assert_int_equal(take(big, n, false, 0, &b), INPUT_OK);
    assert_true(b.n >= n && memcmp(b.p, big, n) == 0);
    free(big);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists), cmocka_unit_test(test_headers), cmocka_unit_test(test_input),
        cmocka_unit_test(test_input_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

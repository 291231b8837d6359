/*
 * The content scanner alone. Each case is fed whole, byte by byte, and split in two at every place, and must come out the
 * same each time; what follows the end of data must not be taken.
 */
#include "tests/unit/unit.h"
#include <string.h>
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "daemon/smtpd/content.h"
#include "queue/msg.h"

enum { LOOSE = 1, NO_DOTS = 2, KEEP_CR = 4, NO_END = 8, BARE_LF = 16 };

struct content_case {
    const char *name, *in;
    unsigned how;
    const char *out;       /* stored; "^" stands for where header_end() was called */
    const char *rest;      /* not taken */
    uint32_t flags;
};

#define H "a: b\r\n^\r\n"  /* a header as it comes out */
#define I "a: b\r\n\r\n"   /* and goes in */

#define LONG_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define LONG_128 LONG_64 LONG_64
#define LONG_256 LONG_128 LONG_128
#define LONG_512 LONG_256 LONG_256
#define LONG_1K LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64
#define LONG_4K LONG_1K LONG_1K LONG_1K LONG_1K

static const struct content_case cases[] = {
    { "plain", I "x\r\n.\r\nQUIT\r\n", 0, H "x\r\n", "QUIT\r\n", 0 },
    { "empty", ".\r\nQ", 0, "^", "Q", 0 },
    { "header only", "a: b\r\n.\r\n", 0, "a: b\r\n^", "", 0 },
    { "no header", "text\r\n.\r\n", 0, "^\r\ntext\r\n", "", 0 },
    { "header ends without a line", "a: b\r\ntext here\r\n.\r\n", 0, "a: b\r\n^\r\ntext here\r\n", "", 0 },
    { "folded", "a: b\r\n c\r\n\td\r\n\r\nx\r\n.\r\n", 0, "a: b\r\n c\r\n\td\r\n^\r\nx\r\n", "", 0 },
    { "empty line first", "\r\nx\r\n.\r\n", 0, "^\r\nx\r\n", "", 0 },
    { "folded first", " x\r\n.\r\n", 0, "^\r\n x\r\n", "", 0 },
    { "mailbox line", ">From joe\r\na: b\r\n\r\n.\r\n", 0, "Mailbox-Line: >From joe\r\na: b\r\n^\r\n", "", 0 },
    { "dots", I "..\r\n..x\r\n...\r\nx.\r\n.\r\n", 0, H ".\r\n.x\r\n..\r\nx.\r\n", "", CONTENT_HAS_DOT_LINE },
    { "one dot too few", I ".x\r\n.\r\n", 0, H "x\r\n", "", 0 },
    { "dot in the header", "..a: b\r\n.c: d\r\n\r\n.\r\n", 0, ".a: b\r\nc: d\r\n^\r\n", "", CONTENT_HAS_DOT_LINE },
    { "8-bit", I "\xc3\xb6\r\n.\r\n", 0, H "\xc3\xb6\r\n", "", CONTENT_HAS_8BIT },
    { "8-bit header", "a: \xc3\xb6\r\n\r\n.\r\n", 0, "a: \xc3\xb6\r\n^\r\n", "", CONTENT_HAS_8BIT | CONTENT_HAS_8BIT_HEADER },
    { "8-bit behind the part of a long header line that is looked at", "a: " LONG_4K "\xc3\xb6\r\n\r\n.\r\n", 0, "a: " LONG_4K "\xc3\xb6\r\n^\r\n", "",
      CONTENT_HAS_8BIT | CONTENT_HAS_8BIT_HEADER | CONTENT_HAS_LONG_LINE },
    { "a field name longer than what is looked at", LONG_4K "y: b\r\n\r\n.\r\n", 0, "^\r\n" LONG_4K "y: b\r\n\r\n", "", CONTENT_HAS_LONG_LINE },
    { "the same behind a dot", ".." LONG_4K ": b\r\n.\r\n", 0, "^\r\n." LONG_4K ": b\r\n", "", CONTENT_HAS_DOT_LINE | CONTENT_HAS_LONG_LINE },
    { "8-bit in a mailbox line", "From \xc3\xb6\r\n\r\n.\r\n", 0, "Mailbox-Line: From \xc3\xb6\r\n^\r\n", "", CONTENT_HAS_8BIT | CONTENT_HAS_8BIT_HEADER },
    { "a mailbox line that is long as a field", "From " LONG_512 LONG_256 LONG_128 LONG_64 "0123456789abcdef0123456789\r\n\r\n.\r\n", 0,
      "Mailbox-Line: From " LONG_512 LONG_256 LONG_128 LONG_64 "0123456789abcdef0123456789\r\n^\r\n", "", CONTENT_HAS_LONG_LINE },
    { "stray CR", I "a\rb\r\r\n\r\r\n.\r\n", 0, H "a b \r\n \r\n", "", 0 },
    { "stray CR kept", I "a\rb\r\r\n.\r\n", KEEP_CR, H "a\rb\r\r\n", "", CONTENT_HAS_BARE_CR },
    { "bare LF", I "a\nb\n\r\n.\r\n", BARE_LF, H "a\r\nb\r\n\r\n", "", 0 },
    { "bare LF header", "a: b\n\nx\n\r\n.\r\n", BARE_LF, "a: b\r\n^\r\nx\r\n\r\n", "", 0 },

    /* Smuggling (CVE-2023-51764): only CRLF . CRLF ends the data. */
    { "LF . LF", I "x\n.\nMAIL\r\n.\r\n", BARE_LF, H "x\r\n\r\nMAIL\r\n", "", 0 },
    { "LF . CRLF", I "x\n.\r\nMAIL\r\n.\r\n", BARE_LF, H "x\r\n\r\nMAIL\r\n", "", 0 },
    { "CRLF . LF", I "x\r\n.\nMAIL\r\n.\r\n", BARE_LF, H "x\r\n\r\nMAIL\r\n", "", 0 },
    { "CR . CR", I "x\r.\rMAIL\r\n.\r\n", 0, H "x . MAIL\r\n", "", 0 },
    { "CR . CRLF", I "x\r.\r\nMAIL\r\n.\r\n", 0, H "x .\r\nMAIL\r\n", "", 0 },
    { "CR . LF", I "x\r.\nMAIL\r\n.\r\n", BARE_LF, H "x .\r\nMAIL\r\n", "", 0 },
    { "CRLF . CR", I "x\r\n.\rMAIL\r\n.\r\n", 0, H "x\r\n MAIL\r\n", "", 0 },
    { "CRLF . CRCRLF", I "x\r\n.\r\r\nMAIL\r\n.\r\n", 0, H "x\r\n \r\nMAIL\r\n", "", 0 },
    { "LF . CR LF after CRCR", I "x\r\r\n.\r\nMAIL\r\n", 0, H "x \r\n", "MAIL\r\n", 0 },
    { "LFCR . CRLF", I "x\n\r.\r\nMAIL\r\n.\r\n", BARE_LF, H "x\r\n .\r\nMAIL\r\n", "", 0 },
    { "first line . LF", ".\nx\r\n.\r\n", BARE_LF, "^\r\nx\r\n", "", 0 },
    { "two after a real one", I ".\r\n.\r\n", 0, H, ".\r\n", 0 },

    /* smtpd_forbid_bare_newline = no */
    { "loose LF . LF", I "x\n.\nMAIL", LOOSE | BARE_LF, H "x\r\n", "MAIL", 0 },
    { "loose LF . CRLF", I "x\n.\r\nMAIL", LOOSE | BARE_LF, H "x\r\n", "MAIL", 0 },
    { "loose CRLF . LF", I "x\r\n.\nMAIL", LOOSE, H "x\r\n", "MAIL", 0 },
    { "loose CR . CR is text", I "x\r.\r\r\n.\r\n", LOOSE, H "x . \r\n", "", 0 },

    /* BDAT */
    { "chunk", I ".x\r\n.\r\nend", NO_DOTS | NO_END, H ".x\r\n.\r\nend\r\n", "", CONTENT_HAS_DOT_LINE },
    { "chunk with CR at its end", I "x\r", NO_DOTS | NO_END, H "x \r\n", "", 0 },
    { "chunk of a lone CR", I "x\r\n\r", NO_DOTS | NO_END, H "x\r\n", "", 0 },
    { "chunk with LF", I "x\ny\n", NO_DOTS | NO_END | BARE_LF, H "x\r\ny\r\n", "", 0 },
    { "chunk without a body", "a: b", NO_DOTS | NO_END, "a: b\r\n^", "", 0 },
    { "chunk that ends in a dropped field", "a: b\r\nBcc: x", NO_DOTS | NO_END, "a: b\r\n^", "", 0 },

    /* message_drop_headers = bcc, Return-Path */
    { "dropped fields", "Bcc: x,\r\n\ty\r\na: b\r\nRETURN-path : <>\r\nbc: d\r\nbccc: e\r\n\r\nBcc: z\r\n.\r\n", 0,
      "a: b\r\nbc: d\r\nbccc: e\r\n^\r\nBcc: z\r\n", "", 0 },
    { "dropped field, folded at its end", "a: b\r\nBcc: x\r\n y\r\n\r\nz\r\n.\r\n", 0, "a: b\r\n^\r\nz\r\n", "", 0 },
    { "dropped field, bare LF", "Bcc: x\n y\na: b\r\n\r\n.\r\n", BARE_LF, "a: b\r\n^\r\n", "", 0 },
    { "dropped field, dots", ".bcc: x\r\n..y: z\r\n\r\n.\r\n", 0, ".y: z\r\n^\r\n", "", CONTENT_HAS_DOT_LINE },
    { "nothing but a dropped field", "bcc: x\r\n.\r\n", 0, "^", "", 0 },
    { "text behind a dropped field", "bcc: x\r\ntext here\r\n.\r\n", 0, "^\r\ntext here\r\n", "", 0 },
    { "chunk of nothing", "", NO_DOTS | NO_END, "^", "", 0 },
};

static void put_cb(void *arg, struct span b)
{
    buf_add_span(arg, b);
}

static void header_end_cb(void *arg)
{
    buf_putc(arg, '^');
}

/* Feeds in as pieces that end at the given places; what stays behind comes again in front of the next piece. */
static bool run_case(const struct content_case *c, struct span in, size_t step, size_t first, struct content_scan *s, struct buf *out,
                     struct buf *rest)
{
    struct arena *a = arena_new(0);
    struct content_options o = { .dots = !(c->how & NO_DOTS), .standard_end_only = !(c->how & LOOSE),
                                 .keep_stray_cr = c->how & KEEP_CR, .drop = hdr_names_of("bcc, Return-Path"), .put = put_cb, .header_end = header_end_cb, .arg = out };
    bool ended = false;
    content_scan_init(s, &o, a);
    buf_reset(out);
    buf_reset(rest);
    for (size_t at = 0; at < in.n;) {
        size_t n = at == 0 && first > 0 ? first : step;
        if (n > in.n - at)
            n = in.n - at;
        buf_add(rest, in.p + at, n);
        at += n;
        if (!ended)
            buf_consume(rest, content_scan_feed(s, rest->p, rest->n, &ended));
    }
    if (c->how & NO_END) {
        content_scan_finish(s, rest->n ? rest->p : NULL, rest->n);
        buf_reset(rest);
    }
    arena_free(&a);
    return ended;
}

static bool is_right(const struct content_case *c, size_t step, size_t first)
{
    struct content_scan s;
    struct buf out = BUF_INIT(0), rest = BUF_INIT(0);
    bool ended = run_case(c, span_cstr(c->in), step, first, &s, &out, &rest);
    bool ok = ended == !(c->how & NO_END) && span_eq(buf_span(&out), span_cstr(c->out)) &&
              span_eq(buf_span(&rest), span_cstr(c->rest)) && s.flags == c->flags && s.saw_bare_lf == ((c->how & BARE_LF) != 0);
    if (ok && !(c->how & NO_END))
        ok = s.taken == strlen(c->in) - rest.n;
    if (!ok)
        print_error("%s (pieces of %zu, first %zu): ended %d flags %x bare %d taken %llu\n  out \"%s\"\n  rest \"%s\"\n", c->name, step,
                    first, ended, s.flags, s.saw_bare_lf, (unsigned long long)s.taken, buf_cstr(&out), buf_cstr(&rest));
    buf_free(&out);
    buf_free(&rest);
    return ok;
}

static void test_cases(void **state)
{
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = strlen(cases[i].in);
        bool ok = is_right(&cases[i], n ? n : 1, 0) && is_right(&cases[i], 1, 0);
        for (size_t k = 1; ok && k < n; k++)
            ok = is_right(&cases[i], n, k);
        bad += !ok;
    }
    assert_int_equal(bad, 0);
}

static const struct content_case any = { .how = 0 };

/* A dropped field may be longer than what the scanner waits for. */
static void test_long_dropped_field(void **state)
{
    (void)state;
    struct buf in = BUF_INIT(0), out = BUF_INIT(0), rest = BUF_INIT(0);
    struct content_scan s;
    buf_puts(&in, "a: b\r\nBcc: ");
    for (int i = 0; i < 20000; i++)
        buf_putc(&in, 'x');
    buf_puts(&in, "\r\n y\r\nc: d\r\n\r\n.\r\n");
    for (size_t step = 1000; step <= 30000; step += 4500) {
        assert_true(run_case(&any, buf_span(&in), step, 0, &s, &out, &rest));
        assert_string_equal(buf_cstr(&out), "a: b\r\nc: d\r\n^\r\n");
    }
    buf_free(&in);
    buf_free(&out);
    buf_free(&rest);
}

/* Long lines stay whole, and are noted. */
static void test_long_lines(void **state)
{
    (void)state;
    for (size_t len = 997; len <= 20000; len = len < 1000 ? len + 1 : len * 3) {
        struct buf in = BUF_INIT(0), out = BUF_INIT(0), rest = BUF_INIT(0);
        struct content_scan s;
        buf_puts(&in, "x: ");
        for (size_t i = 3; i < len; i++)
            buf_putc(&in, 'h');
        buf_puts(&in, "\r\n\r\n");
        for (size_t i = 0; i < len; i++)
            buf_putc(&in, 'b');
        buf_puts(&in, "\r\n.\r\n");
        for (size_t step = 100; step <= 100000; step *= 10) {
            assert_true(run_case(&any, buf_span(&in), step, 0, &s, &out, &rest));
            assert_int_equal(out.n, in.n - 3 + 1); /* without the final dot, with the mark */
            assert_int_equal(s.flags, len > 998 ? CONTENT_HAS_LONG_LINE : 0);
            assert_true(s.hdr.is_done);
        }
        buf_free(&in);
        buf_free(&out);
        buf_free(&rest);
    }
}

static void test_nul_and_strip(void **state)
{
    (void)state;
    static const char text[] = "a: b\r\n\r\nx\0y\x01z\r\n.\r\n";
    bool strip[256] = { [0] = true }, reject[256] = { [1] = true };
    struct buf out = BUF_INIT(0);
    struct content_scan s;
    struct arena *a = arena_new(0);
    bool ended;
    char in[sizeof text];
    struct content_options o = { .dots = true, .standard_end_only = true, .put = put_cb, .header_end = header_end_cb, .arg = &out };
    memcpy(in, text, sizeof text);
    content_scan_init(&s, &o, a);
    content_scan_feed(&s, in, sizeof text - 1, &ended);
    assert_true(ended && s.flags == CONTENT_HAS_NUL && !s.saw_rejected);
    assert_int_equal(out.n, sizeof text - 1 - 3 + 1);
    buf_reset(&out);
    o.strip = strip;
    o.reject = reject;
    content_scan_init(&s, &o, a);
    content_scan_feed(&s, in, sizeof text - 1, &ended);
    assert_true(s.saw_rejected);
    assert_string_equal(buf_cstr(&out), "a: b\r\n^\r\nxy\x01z\r\n");

    /* What is left may begin with a dot; line ends stay whatever is stripped. */
    static const char dot[] = "a: b\r\n\r\n\0.\r\nMAIL\r\n.\r\n";
    char in2[sizeof dot];
    strip['\r'] = strip['\n'] = reject['\r'] = reject['\n'] = true;
    memcpy(in2, dot, sizeof dot);
    buf_reset(&out);
    content_scan_init(&s, &o, a);
    content_scan_feed(&s, in2, sizeof dot - 1, &ended);
    assert_true(ended && !s.saw_rejected);
    assert_string_equal(buf_cstr(&out), "a: b\r\n^\r\n.\r\nMAIL\r\n");
    assert_true(s.flags & CONTENT_HAS_DOT_LINE);
    buf_free(&out);
    arena_free(&a);
}

static void test_8bit_search(void **state)
{
    (void)state;
    char p[100];
    memset(p, 'a', sizeof p);
    assert_false(content_has_8bit(p, sizeof p));
    for (size_t i = 0; i < sizeof p; i++) {
        p[i] = (char)0x80;
        assert_true(content_has_8bit(p, sizeof p));
        assert_false(content_has_8bit(p, i));
        assert_false(content_has_8bit(p + i + 1, sizeof p - i - 1));
        p[i] = 'a';
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases), cmocka_unit_test(test_long_dropped_field),
        cmocka_unit_test(test_long_lines), cmocka_unit_test(test_nul_and_strip),
        cmocka_unit_test(test_8bit_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The walk through MIME parts: what kind each line is, and what is known of the parts. */
#include "tests/unit/unit.h"

#include <stdlib.h>

#include "common/mail/mime.h"

#define MULTI(b) "Content-Type: multipart/mixed; boundary=" b "\r\n\r\n"
#define L8       "Content-Transfer-Encoding: 8bit\r\n"

/*
 * One letter a piece: f field, b body line, - boundary; a header's end is the type (t leaf, m multipart, r message,
 * p fragment) followed by 8 when the part says that it is 8-bit.
 */
struct walk {
    const char *name, *text, *want;
    size_t boundary_bytes, nesting;   /* 0: 2048 and 100 */
    bool is_too_deep;
};

static const struct walk walks[] = {
    { .name = "nothing", "", "t" },
    { .name = "a header alone", "A: b\r\n", "ft" },
    { .name = "no end of line", "A: b", "ft" },
    { .name = "only a body", "\r\nx\r\n", "tb" },
    { .name = "text that is no header", "hello there\r\nA: b\r\n", "tbb" },
    { .name = "folded", "A: b\r\n c\r\n\td\r\nB: e\r\n\r\n", "fft" },
    { .name = "8bit", L8 "\r\nx\r\n", "ft8b" },
    { .name = "binary", "Content-transfer-encoding: BINARY\r\n\r\n", "ft8" },
    { .name = "comments", "content-TRANSFER-encoding: (a (b) \\) c) 8BIT; x\r\n\r\n", "ft8" },
    { .name = "folded value", "Content-Transfer-Encoding:\r\n 8bit\r\n\r\n", "ft8" },
    { .name = "quoted is no token", "Content-Transfer-Encoding: \"8bit\"\r\n\r\n", "ft" },
    { .name = "the last one counts", L8 "Content-Transfer-Encoding: 7bit\r\n\r\n", "fft" },
    { .name = "blank before the colon", "Content-Transfer-Encoding : 8bit\r\n\r\n", "ft8" },
    { .name = "multipart", MULTI("x") "p\r\n--x\r\n" L8 "\r\n1\r\n--x\r\n\r\n2\r\n--x--\r\ne\r\n", "fmb-ft8b-tb-b" },
    { .name = "no closing boundary", MULTI("x") "--x\r\n" L8 "\r\n1\r\n", "fm-ft8b" },
    { .name = "blanks behind a boundary", MULTI("x") "--x \t\r\n\r\n1\r\n--x-- \r\n\r\n", "fm-tb-b" },
    { .name = "closed is closed", MULTI("x") "--x--\r\n--x\r\n" L8 "\r\n", "fm-bbb" },
    { .name = "header cut by a boundary", MULTI("x") "--x\r\n" L8 "--x\r\n\r\n--x--\r\n", "fm-ft8-t-" },
    { .name = "header without an empty line", MULTI("x") "--x\r\n" L8 "not a field\r\n--x--\r\n", "fm-ft8b-" },
    { .name = "nested", MULTI("o") "--o\r\n" MULTI("i") "--i\r\n" L8 "\r\n1\r\n--i--\r\ne\r\n--o\r\n\r\n2\r\n--o--\r\n", "fm-fm-ft8b-b-tb-" },
    { .name = "inner left open", MULTI("o") "--o\r\n" MULTI("i") "--i\r\n" L8 "\r\n1\r\n--o\r\n\r\n--i\r\n--o--\r\n", "fm-fm-ft8b-tb-" },
    { .name = "the longer boundary counts", MULTI("out1") "--out1\r\n" MULTI("out") "--out\r\n\r\n--out1--\r\n--out\r\n", "fm-fm-t-b" },
    { .name = "inner boundary begins like the outer", MULTI("out") "--out\r\n" MULTI("out1") "--out1\r\n\r\n--out1--\r\n--out--\r\n", "fm-fm-t--" },
    { .name = "message", "Content-Type: message/rfc822\r\n\r\nA: b\r\n" L8 "\r\n1\r\n", "frfft8b" },
    { .name = "message of nothing", "Content-Type: message/rfc822\r\n\r\n", "frt" },
    { .name = "message with parts", "Content-Type: Message/RFC822\r\n\r\n" MULTI("x") "--x\r\n\r\n--x--\r\n", "frfm-t-" },
    { .name = "digest", "Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\n" L8 "\r\n1\r\n--x--\r\n", "fm-rft8b-" },
    { .name = "fragments", "Content-Type: message/partial\r\n" L8 "\r\n" L8 "\r\n", "ffp8bb" },
    { .name = "a report's part", "Content-Type: message/delivery-status\r\n\r\nA: b\r\n", "fpb" },
    { .name = "global may be encoded", "Content-Type: message/global\r\n" L8 "\r\nA: b\r\n", "fft8b" },
    { .name = "multipart without boundary", "Content-Type: multipart/mixed\r\n\r\n--x\r\nA: b\r\n", "fmbb" },
    { .name = "empty boundary", "Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n--x\r\n", "fmbb" },
    { .name = "quoted boundary", "Content-Type: multipart/mixed; a=\"b;c\"; boundary=\"x \\\"y\"\r\n\r\n--x \"y\r\n\r\n--x \"y--\r\n", "fm-t-" },
    { .name = "comments between", "Content-Type: (c) MultiPart (d) / mixed (e); (f) boundary (g) = (h) xy (i)\r\n\r\n--xy\r\n\r\n", "fm-t" },
    { .name = "folded boundary", "Content-Type: multipart/mixed;\r\n\tboundary=\r\n x\r\n\r\n--x\r\n\r\n", "fm-t" },
    { .name = "not a token, and meant all the same", "Content-Type: multipart/mixed; boundary=----=_P\r\n\r\n------=_P\r\n\r\n-----\r\n", "fm-tb" },
    { .name = "nonsense before the boundary", "Content-Type: multipart/mixed; = ;; x boundary=y; boundary=x\r\n\r\n--x\r\n\r\n", "fm-t" },
    { .name = "boundary cut to its limit", MULTI("abcdef") "--abcXX\r\n\r\n--abcdef--\r\nx\r\n", "fm-t-b", .boundary_bytes = 3 },
    { .name = "boundary at its limit", MULTI("abc") "--abd\r\n--abc\r\n\r\n--abc--\r\nx\r\n", "fmb-t-b", .boundary_bytes = 3 },
    { .name = "as deep as may be", MULTI("a") "--a\r\n" MULTI("b") "--b\r\n" MULTI("c") "--c\r\n\r\n", "fm-fm-fm-t", .nesting = 1 },
    { .name = "too deep", MULTI("a") "--a\r\n" MULTI("b") "--b\r\n" MULTI("c") "--c\r\n" MULTI("d") "--d\r\n--a--\r\n", "fm-fm-fm-fmb-",
      .nesting = 1, .is_too_deep = true },
    { .name = "bare line ends", "Content-Type: multipart/mixed; boundary=x\n\n--x\n" "Content-Transfer-Encoding: 8bit\n\n1\n--x--\n", "fm-ft8b-" },
};

static void walk(const struct walk *w)
{
    struct mime_limits limits = { w->boundary_bytes ? w->boundary_bytes : 2048, w->nesting ? w->nesting : 100 };
    struct buf got = BUF_INIT(0), all = BUF_INIT(0);
    struct mime m;
    struct mime_piece piece;
    mime_init(&m, span_cstr(w->text), limits);
    while (mime_next(&m, &piece)) {
        buf_add_span(&all, piece.text);
        if (piece.kind == MIME_HEADER_END) {
            buf_putc(&got, "tmrp"[m.type]);
            if (mime_is_8bit(&m))
                buf_putc(&got, '8');
        } else {
            buf_putc(&got, piece.kind == MIME_FIELD ? 'f' : piece.kind == MIME_BODY ? 'b' : '-');
        }
    }
    if (strcmp(buf_cstr(&got), w->want) != 0)
        fail_msg("%s: %s, wanted %s", w->name, buf_cstr(&got), w->want);
    if (!span_eq(buf_span(&all), span_cstr(w->text)))
        fail_msg("%s: the pieces are not the content", w->name);
    if (m.is_too_deep != w->is_too_deep)
        fail_msg("%s: %s too deep", w->name, m.is_too_deep ? "found" : "not found");
    mime_free(&m);
    buf_free(&got);
    buf_free(&all);
}

static void every_walk(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(walks); i++)
        walk(&walks[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_walk) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The pipe alone, with a stage that writes down what it is given and does what the text says (drop, change, ...). Each
 * case is fed whole, split in two at every place, and byte by byte, and must come out the same each time.
 */
#include "tests/unit/unit.h"
#include <string.h>
#include "common/base/mem.h"
#include "policy/pipe.h"

enum { NO_LINES = 1, NO_MIME = 2, OWN_ONLY = 4 };

struct pipe_case {
    const char *name, *header, *body; /* body: from the empty line on; NULL: none */
    unsigned how;
    const char *seen;  /* "m" main field, "i" MIME, "n" nested; "b" body line; "p" part: text with '|' for a fold */
    const char *out;   /* NULL: as it came */
    size_t header_bytes, line_bytes;
};

#define MULTI(b) "Content-Type: multipart/mixed; boundary=" b "\r\n"
#define SEEN_MULTI(b) "i:Content-Type: multipart/mixed; boundary=" b "\n"

#define LONG_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define LONG_256 LONG_64 LONG_64 LONG_64 LONG_64
#define LONG_1K LONG_256 LONG_256 LONG_256 LONG_256

static const struct pipe_case cases[] = {
    { "plain", "A: b\r\nC: d\r\n", "\r\nx\r\ny\r\n", 0, "m:A: b\nm:C: d\np:l7\nb:x\nb:y\n", NULL, 0, 0 },
    { "folded", "A: b\r\n c\r\n\t d\r\nE: f\r\n", "\r\n", 0, "m:A: b| c|\t d\nm:E: f\np:l7\n", NULL, 0, 0 },
    { "no body", "A: b\r\n", NULL, 0, "m:A: b\np:l7\n", NULL, 0, 0 },
    { "no header", "", "\r\nA: b\r\n", 0, "p:l7\nb:A: b\n", NULL, 0, 0 },
    { "nothing", "", NULL, 0, "p:l7\n", NULL, 0, 0 },
    { "MIME fields of the message", "Mime-Version: 1.0\r\nContent-type: text/plain\r\nContent-Length: 3\r\n", "\r\nx\r\n", 0,
      "i:Mime-Version: 1.0\ni:Content-type: text/plain\nm:Content-Length: 3\np:l7\nb:x\n", NULL, 0, 0 },
    { "no MIME", "Content-Type: multipart/mixed; boundary=a\r\n", "\r\n--a\r\nB: c\r\n", NO_MIME,
      "m:Content-Type: multipart/mixed; boundary=a\np:l7\nb:--a\nb:B: c\n", NULL, 0, 0 },
    { "parts", MULTI("a"), "\r\npre\r\n--a\r\nX: y\r\n z\r\n\r\none\r\n--a\r\n\r\ntwo\r\n--a--\r\npost\r\n", 0,
      SEEN_MULTI("a") "p:m7\nb:pre\nb:--a\ni:X: y| z\np:l7\nb:one\nb:--a\np:l7\nb:two\np:l7\nb:--a--\nb:post\n", NULL, 0, 0 },
    { "parts, body not looked at", MULTI("a"), "\r\npre\r\n--a\r\nX: y\r\n z\r\n\r\n-one\r\n-\r\n--a\r\nZ: z\r\n\r\ntwo\r\n--a--\r\npost\r\n--a\r\nnot: this\r\n",
      NO_LINES, SEEN_MULTI("a") "p:m7\ni:X: y| z\np:l7\ni:Z: z\np:l7\np:l7\n", NULL, 0, 0 },
    { "own header only", MULTI("a"), "\r\n--a\r\nX: y\r\n\r\n", NO_LINES | OWN_ONLY, SEEN_MULTI("a") "p:m7\n", NULL, 0, 0 },
    { "message inside", "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n", "\r\nS: t\r\nMIME-Version: 1\r\n\r\nx\r\n", 0,
      "i:Content-Type: message/rfc822\ni:Content-Transfer-Encoding: 8bit\np:M8\nn:S: t\ni:MIME-Version: 1\np:l7\nb:x\n", NULL, 0, 0 },
    { "parts of a message inside", MULTI("a"), "\r\n--a\r\nContent-Type: message/rfc822\r\n\r\nN: n\r\n" MULTI("b") "\r\n--b\r\nP: p\r\n\r\nx\r\n--a--\r\n", NO_LINES,
      SEEN_MULTI("a") "p:m7\ni:Content-Type: message/rfc822\np:M7\nn:N: n\n" SEEN_MULTI("b") "p:m7\ni:P: p\np:l7\np:l7\n", NULL, 0, 0 },
    { "digest", "Content-Type: multipart/digest; boundary=a\r\n", "\r\n--a\r\n\r\nN: n\r\n\r\nx\r\n--a--\r\n", NO_LINES,
      "i:Content-Type: multipart/digest; boundary=a\np:m7\np:M7\nn:N: n\np:l7\np:l7\n", NULL, 0, 0 },
    { "header of a part without end", MULTI("a"), "\r\n--a\r\nX: y\r\nno field\r\nZ: z\r\n--a\r\nX: 2\r\n--a--\r\n", 0,
      SEEN_MULTI("a") "p:m7\nb:--a\ni:X: y\np:l7\nb:no field\nb:Z: z\nb:--a\ni:X: 2\np:l7\np:l7\nb:--a--\n", NULL, 0, 0 },
    { "boundary where a message inside should begin", MULTI("a"), "\r\n--a\r\nContent-Type: message/rfc822\r\n--a\r\nX: y\r\n\r\n", 0,
      SEEN_MULTI("a") "p:m7\nb:--a\ni:Content-Type: message/rfc822\np:M7\np:l7\nb:--a\ni:X: y\np:l7\n", NULL, 0, 0 },
    { "ends in a part's header", MULTI("a"), "\r\n--a\r\nX: y\r\n", NO_LINES, SEEN_MULTI("a") "p:m7\ni:X: y\np:l7\n", NULL, 0, 0 },
    { "too deep", MULTI("a"), "\r\n--a\r\n" MULTI("b") "\r\n--b\r\n" MULTI("c") "\r\n--c\r\n" MULTI("d") "\r\n--d\r\nX: y\r\n\r\n", NO_LINES,
      SEEN_MULTI("a") "p:m7\n" SEEN_MULTI("b") "p:m7\n" SEEN_MULTI("c") "p:m7\n" SEEN_MULTI("d") "p:m7!\n", NULL, 0, 0 },
    { "long boundaries", MULTI("a"), "\r\n--a 3456789\r\nX: y\r\n\r\none\r\n--a--567X: 1\r\nend\r\n", NO_LINES,
      SEEN_MULTI("a") "p:m7\ni:X: y\np:l7\np:l7\n", NULL, 0, 5 },
    { "long boundaries, seen", MULTI("a"), "\r\n--a 3456789\r\nX: y\r\n\r\none\r\n--a--567X: 1\r\nend\r\n", 0,
      SEEN_MULTI("a") "p:m7\nb:--a 3\nb:45678\nb:9\ni:X: y\np:l7\nb:one\np:l7\nb:--a--\nb:567X:\nb: 1\nb:end\n", NULL, 0, 5 },
    { "long boundary in a part's header", MULTI("a"), "\r\n--a\r\nX: y\r\n--a" LONG_1K "\r\nZ: z\r\n\r\n", NO_LINES,
      SEEN_MULTI("a") "p:m7\ni:X: y\np:l7\ni:Z: z\np:l7\n", NULL, 0, 5 },
    { "long line", "A: b\r\n", "\r\n0123456789\r\n01234\r\n0123456\r\n", 0, "m:A: b\np:l7\nb:01234\nb:56789\nb:01234\nb:01234\nb:56\n", NULL, 0, 5 },
    { "long field", "A: 0123456789\r\nB: 01234567\r\n89\r\nC: 0\r\n 1\r\n 2\r\n 3456\r\n", "\r\n", 0,
      "m:A: 0123456\nm:B: 0123456\nm:C: 0| 1\np:l7\n", "A: 0123456\r\nB: 0123456\r\n89\r\nC: 0\r\n 1\r\n\r\n", 10, 0 },
    { "drop", "A: DROP\r\nB: c\r\n", "\r\nx\r\nDROP\r\ny\r\n", 0, "m:A: DROP\nm:B: c\np:l7\nb:x\nb:DROP\nb:y\n", "B: c\r\n\r\nx\r\ny\r\n", 0, 0 },
    { "replace", "A: b\r\n CHANGE\r\nB: c\r\n", "\r\nCHANGE\r\n", 0, "m:A: b| CHANGE\nm:B: c\np:l7\nb:CHANGE\n",
      "New: 1\r\n 2\r\nB: c\r\n\r\nNew: 1\r\n 2\r\n", 0, 0 },
    { "prepend", "A: BEFORE\r\n", "\r\nBEFORE\r\n", 0, "m:A: BEFORE\np:l7\nb:BEFORE\n", "Pre: x\r\nA: BEFORE\r\n\r\nPre: x\r\nBEFORE\r\n", 0, 0 },
    { "dropped by name", "Bcc: x\r\nA: b\r\nbCC: DROP\r\n", "\r\n", 0, "m:Bcc: x\nm:A: b\nm:bCC: DROP\np:l7\n", "A: b\r\n\r\n", 0, 0 },
    { "not dropped by name in a message inside", "Content-Type: message/rfc822\r\n", "\r\nBcc: x\r\n\r\n", NO_LINES,
      "i:Content-Type: message/rfc822\np:M7\nn:Bcc: x\np:l7\n", NULL, 0, 0 },
    { "stop", "A: b\r\nB: STOP\r\nC: d\r\n", "\r\nx\r\n", 0, "m:A: b\nm:B: STOP\n", "A: b\r\n", 0, 0 },
    { "stop in a part's header that ends without an empty line", MULTI("a"), "\r\n--a\r\nX: STOP\r\nno field\r\n", 0,
      SEEN_MULTI("a") "p:m7\nb:--a\ni:X: STOP\n", MULTI("a") "\r\n--a\r\n", 0, 0 },
    { "stop in the body", "A: b\r\n", "\r\nx\r\nSTOP\r\ny\r\n", 0, "m:A: b\np:l7\nb:x\nb:STOP\n", "A: b\r\n\r\nx\r\n", 0, 0 },
};

struct run {
    struct buf seen, out;
};

static bool has(struct span s, const char *word)
{
    return s.n > 0 && memmem(s.p, s.n, word, strlen(word)) != NULL;
}

static void note(struct run *r, char what, struct span text)
{
    buf_printf(&r->seen, "%c:", what);
    for (size_t i = 0; i < text.n; i++)
        buf_putc(&r->seen, text.p[i] == '\n' ? '|' : text.p[i]);
    buf_putc(&r->seen, '\n');
}

static enum pipe_answer obey(struct content_pipe *p, struct span text, struct buf *out)
{
    if (has(text, "BEFORE"))
        pipe_put_line(p, SPAN_LIT("Pre: x"));
    if (has(text, "CHANGE"))
        buf_puts(out, "New: 1\n 2");
    return has(text, "DROP") ? PIPE_DROP : has(text, "CHANGE") ? PIPE_REPLACE : has(text, "STOP") ? PIPE_STOP : PIPE_KEEP;
}

static enum pipe_answer on_field(void *arg, struct content_pipe *p, const struct pipe_field *f, struct buf *out)
{
    note(arg, "min"[f->cls], f->text);
    assert_int_equal(f->name_n, span_find(f->text, ':') < 0 ? 0 : span_find(f->text, ':'));
    return obey(p, f->text, out);
}

static enum pipe_answer on_line(void *arg, struct content_pipe *p, struct span line, struct buf *out)
{
    note(arg, 'b', line);
    return obey(p, line, out);
}

static bool on_part(void *arg, struct content_pipe *p, const struct pipe_part *part)
{
    char text[4] = { "lmMf"[part->type], "78bEu"[part->encoding], part->is_too_deep ? '!' : '\0', '\0' };
    (void)p;
    note(arg, 'p', span_cstr(text));
    return true;
}

static void on_put(void *arg, struct span bytes)
{
    struct run *r = arg;
    buf_add_span(&r->out, bytes);
}

/* step 0: cut once, at `at`. */
static void feed_split(struct content_pipe *p, struct span s, size_t at, size_t step)
{
    while (s.n > 0) {
        size_t n = step > 0 ? step : at < s.n ? at : s.n;
        n = n > 0 && n < s.n ? n : s.n;
        char *copy = xmalloc(n); /* nothing may be read again later */
        memcpy(copy, s.p, n);
        pipe_feed(p, span_of(copy, n));
        free(copy);
        s = span_from(s, n);
        at = s.n;
    }
}

static void check(const struct pipe_case *t, size_t at, size_t step)
{
    struct run r = { .seen = BUF_INIT(0), .out = BUF_INIT(0) };
    struct arena *a = arena_new(0);
    struct content_pipe p;
    struct pipe_options o = {
        .header_bytes = t->header_bytes ? t->header_bytes : 1000, .line_bytes = t->line_bytes ? t->line_bytes : 998,
        .mime = { .boundary_bytes = 2048, .nesting = 1 }, .is_mime = !(t->how & NO_MIME), .drop = hdr_names_of("Resent-Bcc, bcc"), .stage_count = 1,
        .put = on_put, .arg = &r,
        .stages[0] = { .arg = &r, .field = on_field, .line = t->how & NO_LINES ? NULL : on_line, .part = on_part,
                       .own_header_only = (t->how & OWN_ONLY) != 0 },
    };
    pipe_init(&p, &o, a);
    feed_split(&p, span_cstr(t->header), at, step);
    pipe_end_header(&p);
    if (t->body != NULL)
        feed_split(&p, span_cstr(t->body), at, step);
    pipe_end(&p);
    struct buf want = BUF_INIT(0);
    if (t->out != NULL)
        buf_puts(&want, t->out);
    else
        buf_printf(&want, "%s%s", t->header, t->body ? t->body : "");
    if (!span_eq(buf_span(&r.seen), span_cstr(t->seen)) || !span_eq(buf_span(&r.out), buf_span(&want)))
        fail_msg("%s, split at %zu/%zu: seen\n%.*s\nout\n%.*s", t->name, at, step, SPAN_ARG(buf_span(&r.seen)), SPAN_ARG(buf_span(&r.out)));
    pipe_free(&p);
    arena_free(&a);
    buf_free(&want);
    buf_free(&r.seen);
    buf_free(&r.out);
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = strlen(cases[i].header) + (cases[i].body ? strlen(cases[i].body) : 0);
        for (size_t at = 0; at < n; at++)
            check(&cases[i], at, 0);
        check(&cases[i], 0, 1);
        check(&cases[i], 0, 3);
    }
}

/* Pieces of one line, of which some go: what follows them may begin a line, and no line stays without an end. */
static void test_pieces_of_a_line(void **state)
{
    static const struct { const char *body, *out; bool has_dot_line; } rows[] = {
        { "\r\n0DROP.\r\ny\r\n", "\r\n.\r\ny\r\n", true },
        { "\r\n0DROPx.\r\ny\r\n", "\r\nx.\r\ny\r\n", false },
        { "\r\n01234.5\r\ny\r\n", "\r\n01234.5\r\ny\r\n", false },
        { "\r\n01234.DROP\r\n", "\r\n01234\r\n", false },
        { "\r\n0DROP1DROP\r\ny\r\n", "\r\ny\r\n", false },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct run r = { .seen = BUF_INIT(0), .out = BUF_INIT(0) };
        struct arena *a = arena_new(0);
        struct content_pipe p;
        struct pipe_options o = { .header_bytes = 1000, .line_bytes = 5, .stage_count = 1, .put = on_put, .arg = &r,
                                  .stages[0] = { .arg = &r, .field = on_field, .line = on_line } };
        pipe_init(&p, &o, a);
        pipe_end_header(&p);
        pipe_feed(&p, span_cstr(rows[i].body));
        pipe_end(&p);
        assert_true(span_eq(buf_span(&r.out), span_cstr(rows[i].out)));
        assert_int_equal(p.made_dot_line, rows[i].has_dot_line);
        pipe_free(&p);
        arena_free(&a);
        buf_free(&r.seen);
        buf_free(&r.out);
    }
}

/* What the message's own header has, as it is written. */
static void test_header_facts(void **state)
{
    (void)state;
    struct run r = { .seen = BUF_INIT(0), .out = BUF_INIT(0) };
    struct arena *a = arena_new(0);
    struct content_pipe p;
    struct pipe_options o = { .header_bytes = 1000, .line_bytes = 998, .is_mime = true, .stage_count = 1, .put = on_put, .arg = &r,
                              .stages[0] = { .arg = &r, .field = on_field } };
    pipe_init(&p, &o, a);
    pipe_feed(&p, SPAN_LIT("Received: a\r\nReceived: DROP\r\nDate: DROP\r\nSubject: \xc3\xb6 DROP\r\nMessage-Id:\r\n <a@b>\r\nTo: c\r\n"));
    pipe_end_header(&p);
    assert_int_equal(p.hdr.received_count, 1);
    assert_false(hdr_has(&p.hdr, HDR_DATE));
    assert_true(hdr_has(&p.hdr, HDR_TO));
    assert_false(p.hdr.has_8bit);
    assert_true(span_eq(p.hdr.message_id, SPAN_LIT("<a@b>")));
    pipe_free(&p);
    arena_free(&a);
    buf_free(&r.seen);
    buf_free(&r.out);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_cases), cmocka_unit_test(test_pieces_of_a_line),
                                       cmocka_unit_test(test_header_facts) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Content on its way into the spool: the scanner with the pipe behind it. Three bytes pick what the stage wants, the limits
 * and where the input is cut. However it is cut, the stage must see the same and the same must come out; a stage that changes
 * nothing must get out what goes in; and the fields and headers must be those that the walk in memory (mime.h) finds.
 */
#include <stdio.h>
#include <stdlib.h>

#include "daemon/smtpd/content.h"
#include "policy/pipe.h"
#include "tests/fuzz/fuzz.h"

enum { WANT_LINES = 1, WANT_MIME = 2, WANT_CHANGES = 4, WANT_OWN_ONLY = 8, WANT_SMALL_LIMITS = 16 };

struct run {
    struct buf seen, out, plain; /* plain: what the scanner gave */
    size_t fields, headers;
    unsigned how;
    struct content_pipe pipe;
};

static void note(struct run *r, char what, struct span text)
{
    buf_putc(&r->seen, what);
    buf_add_span(&r->seen, text);
    buf_putc(&r->seen, '\0');
}

/* The text itself says what becomes of it. */
static enum pipe_answer obey(struct run *r, struct content_pipe *p, struct span text, struct buf *out)
{
    unsigned sum = 0;
    for (size_t i = 0; i < text.n; i++)
        sum = sum * 31 + (unsigned char)text.p[i];
    if (!(r->how & WANT_CHANGES))
        return PIPE_KEEP;
    if (sum % 7 == 0)
        pipe_put_line(p, SPAN_LIT("X-Before: 1"));
    if (sum % 5 == 0)
        buf_puts(out, "X-New: 1\n 2");
    return sum % 11 == 0 ? PIPE_DROP : sum % 5 == 0 ? PIPE_REPLACE : sum % 101 == 0 ? PIPE_STOP : PIPE_KEEP;
}

static enum pipe_answer on_field(void *arg, struct content_pipe *p, const struct pipe_field *f, struct buf *out)
{
    struct run *r = arg;
    CHECK(f->name_n > 0 && f->name_n < f->text.n && f->text.p[f->text.n - 1] != '\n');
    CHECK(f->text.n <= p->o.header_bytes || p->o.header_bytes < 1024);
    r->fields++;
    note(r, (char)('0' + f->cls), f->text);
    return obey(r, p, f->text, out);
}

static enum pipe_answer on_line(void *arg, struct content_pipe *p, struct span line, struct buf *out)
{
    CHECK(line.n <= p->o.line_bytes || line.n <= 1024);
    CHECK(line.n == 0 || memchr(line.p, '\n', line.n) == NULL);
    note(arg, 'b', line);
    return obey(arg, p, line, out);
}

static bool on_part(void *arg, struct content_pipe *p, const struct pipe_part *part)
{
    struct run *r = arg;
    (void)p;
    r->headers++;
    char text[4] = { (char)part->type, (char)part->encoding, part->is_too_deep, part->has_empty_line };
    note(r, 'p', span_of(text, sizeof text));
    return true;
}

static void on_put(void *arg, struct span bytes)
{
    struct run *r = arg;
    buf_add_span(&r->out, bytes);
}

static void on_scanned(void *arg, struct span bytes)
{
    struct run *r = arg;
    char *copy = malloc(bytes.n + 1); /* whoever looks at it later is caught */
    memcpy(copy, bytes.p, bytes.n);
    buf_add_span(&r->plain, bytes);
    pipe_feed(&r->pipe, span_of(copy, bytes.n));
    free(copy);
}

static void on_header_end(void *arg)
{
    struct run *r = arg;
    pipe_end_header(&r->pipe);
}

/* step 0: all at once. */
static void run(struct run *r, struct span in, unsigned how, size_t step)
{
    struct arena *a = arena_new(0);
    struct pipe_options po = {
        .header_bytes = how & WANT_SMALL_LIMITS ? 1024 : 1 << 20, .line_bytes = how & WANT_SMALL_LIMITS ? 16 : 2048, .drop = hdr_names_of("Bcc"),
        .mime = { .boundary_bytes = how & WANT_SMALL_LIMITS ? 3 : 2048, .nesting = 2 }, .is_mime = (how & WANT_MIME) != 0, .stage_count = 1,
        .put = on_put, .arg = r,
        .stages[0] = { .arg = r, .field = on_field, .line = how & WANT_LINES ? on_line : NULL, .part = on_part, .own_header_only = (how & WANT_OWN_ONLY) != 0 },
    };
    struct content_options co = { .put = on_scanned, .header_end = on_header_end, .arg = r };
    struct content_scan scan;
    struct buf rest = BUF_INIT(0);
    bool ended;
    *r = (struct run){ .seen = BUF_INIT(0), .out = BUF_INIT(0), .plain = BUF_INIT(0), .how = how };
    pipe_init(&r->pipe, &po, a);
    content_scan_init(&scan, &co, a);
    while (in.n > 0) {
        size_t n = step > 0 && step < in.n ? step : in.n;
        buf_add(&rest, in.p, n);
        in = span_from(in, n);
        buf_consume(&rest, content_scan_feed(&scan, rest.p, rest.n, &ended));
    }
    content_scan_finish(&scan, rest.p, rest.n);
    pipe_end(&r->pipe);
    pipe_free(&r->pipe);
    arena_free(&a);
    buf_free(&rest);
}

static void end(struct run *r)
{
    buf_free(&r->seen);
    buf_free(&r->out);
    buf_free(&r->plain);
}

static bool has_long_line(struct span s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        n = s.p[i] == '\n' ? 0 : n + 1;
        if (n > 1000)
            return true;
    }
    return false;
}

/* The same structure as that of the whole content in memory. */
static void compare_with_walk(const struct run *r)
{
    struct mime m;
    struct mime_piece piece;
    size_t fields = 0;
    mime_init(&m, buf_span(&r->plain), (struct mime_limits){ .boundary_bytes = 2048, .nesting = 2 });
    while (mime_next(&m, &piece))
        fields += piece.kind == MIME_FIELD;
    mime_free(&m);
    CHECK(fields == r->fields);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of((const char *)data, n);
    unsigned how = fuzz_byte(&in);
    size_t step = fuzz_byte(&in) % 67 + 1;
    struct run whole, cut;
    run(&whole, in, how, 0);
    run(&cut, in, how, step);
    CHECK(span_eq(buf_span(&whole.plain), buf_span(&cut.plain)));
    CHECK(span_eq(buf_span(&whole.seen), buf_span(&cut.seen)));
    CHECK(span_eq(buf_span(&whole.out), buf_span(&cut.out)));
    bool is_dropping = memmem(in.p, in.n, "cc", 2) != NULL || memmem(in.p, in.n, "CC", 2) != NULL || memmem(in.p, in.n, "cC", 2) != NULL ||
                       memmem(in.p, in.n, "Cc", 2) != NULL;
    bool is_long = has_long_line(buf_span(&whole.plain));
    if (!(how & (WANT_CHANGES | WANT_SMALL_LIMITS)) && !is_dropping)
        CHECK(span_eq(buf_span(&whole.plain), buf_span(&whole.out)));
    if ((how & (WANT_CHANGES | WANT_SMALL_LIMITS | WANT_OWN_ONLY | WANT_MIME)) == WANT_MIME && !is_long)
        compare_with_walk(&whole);
    end(&whole);
    end(&cut);
    return 0;
}

/*
 * What follows DATA or BDAT. The first byte picks the rules, the second where the input is cut. However it is cut, the
 * result is the same; it has CRLF line ends only, and a receiver that reads it with dots stuffed finds the same single
 * end: nothing in a message can be taken for a second one.
 */
#include "tests/fuzz/fuzz.h"

#include "daemon/smtpd/content.h"
#include "queue/msg.h"

enum { LOOSE = 1, CHUNK = 2, KEEP_CR = 4, STRIP = 8, DROP = 16 };

struct run {
    struct buf out;
    struct content_scan scan;
    struct arena *arena;
    size_t used;
    unsigned header_ends;
    bool ended;
};

static void put(void *arg, struct span bytes)
{
    buf_add_span(&((struct run *)arg)->out, bytes);
}

static void header_end(void *arg)
{
    struct run *r = arg;
    r->header_ends++;
    buf_puts(&r->out, "Added: x\r\n");
}

/* Feeds in[0..n) in pieces as a session does: what is left over comes again with more behind it. */
static void run(struct run *r, struct span in, unsigned how, size_t first, size_t step)
{
    static bool strip[256] = { ['_'] = true, [0] = true };
    struct content_options o = {
        .dots = !(how & CHUNK), .standard_end_only = !(how & (LOOSE | CHUNK)), .keep_stray_cr = how & KEEP_CR,
        .strip = how & STRIP ? strip : NULL, .drop = hdr_names_of(how & DROP ? "bcc, x-drop" : ""),
        .put = put, .header_end = header_end, .arg = r,
    };
    struct buf b = BUF_INIT(0);
    *r = (struct run){ .arena = arena_new(0) };
    content_scan_init(&r->scan, &o, r->arena);
    for (size_t at = 0, n = first; at < in.n && !r->ended; at += n, n = step) {
        if (n > in.n - at)
            n = in.n - at;
        buf_add(&b, in.p + at, n);
        size_t used = content_scan_feed(&r->scan, b.p, b.n, &r->ended);
        CHECK(used <= b.n);
        r->used += used;
        buf_consume(&b, used);
        CHECK(r->ended || b.n < CONTENT_HEADER_LINE_MAX);
    }
    if (how & CHUNK) {
        CHECK(!r->ended);
        content_scan_finish(&r->scan, b.p, b.n);
    }
    buf_free(&b);
}

static void run_free(struct run *r)
{
    buf_free(&r->out);
    arena_free(&r->arena);
}

static void check_flags(const struct run *r, unsigned how)
{
    struct span s = buf_span(&r->out);
    uint32_t f = r->scan.flags;
    size_t line = 0;
    bool long_line = false, dot = false, bare_cr = false;
    for (size_t i = 0; i < s.n; i++) {
        dot |= s.p[i] == '.' && (i == 0 || s.p[i - 1] == '\n');
        bare_cr |= s.p[i] == '\r' && (i + 1 == s.n || s.p[i + 1] != '\n');
        line = s.p[i] == '\n' ? 0 : line + (s.p[i] != '\r');
        long_line |= line > 998;
    }
    CHECK(!dot || (f & CONTENT_HAS_DOT_LINE));
    CHECK(!bare_cr || (f & CONTENT_HAS_BARE_CR));
    CHECK(!long_line || (f & CONTENT_HAS_LONG_LINE));
    CHECK(!content_has_8bit(s.p, s.n) || (f & CONTENT_HAS_8BIT));
    CHECK(s.n == 0 || memchr(s.p, '\0', s.n) == NULL || (f & CONTENT_HAS_NUL));
    CHECK((how & KEEP_CR) || !bare_cr);
}

/* Reads the stored text with dots stuffed, strictly: it must come out again and end where it ends. */
static void check_sent_again(struct span stored)
{
    struct buf wire = BUF_INIT(0);
    for (size_t i = 0; i < stored.n; i++) {
        if (stored.p[i] == '.' && (i == 0 || stored.p[i - 1] == '\n'))
            buf_putc(&wire, '.');
        buf_putc(&wire, stored.p[i]);
    }
    CHECK(memmem(wire.p ? wire.p : "", wire.n, "\r\n.\r\n", 5) == NULL);
    CHECK(memmem(wire.p ? wire.p : "", wire.n, "\n.\n", 3) == NULL && memmem(wire.p ? wire.p : "", wire.n, "\n.\r", 3) == NULL);
    buf_free(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct run whole, cut;
    if (n < 3)
        return 0;
    unsigned how = data[0];
    struct span in = span_of((const char *)data + 3, n - 3);
    run(&whole, in, how, in.n, in.n);
    run(&cut, in, how, data[1] ? data[1] : 1, data[2] ? data[2] : 1);
    CHECK(whole.ended == cut.ended);
    if (whole.ended || (how & CHUNK)) {
        CHECK(span_eq(buf_span(&whole.out), buf_span(&cut.out)));
        CHECK(whole.scan.flags == cut.scan.flags && whole.scan.saw_bare_lf == cut.scan.saw_bare_lf);
        CHECK(whole.scan.taken == cut.scan.taken && whole.scan.hdr.received_count == cut.scan.hdr.received_count);
        CHECK(whole.scan.hdr.seen == cut.scan.hdr.seen);
        CHECK(span_eq(whole.scan.hdr.message_id, cut.scan.hdr.message_id));
        CHECK(whole.used == cut.used || (how & CHUNK));
        CHECK(whole.header_ends == 1 && cut.header_ends == 1);
        check_flags(&whole, how);
        CHECK((how & (KEEP_CR | STRIP)) || fuzz_has_crlf_lines_only(buf_span(&whole.out)));
        if (!(how & (KEEP_CR | STRIP)))
            check_sent_again(buf_span(&whole.out));
    }
    run_free(&whole);
    run_free(&cut);
    return 0;
}

/*
 * The content on its way out.
 *
 * What the receiving leg learned (CONTENT_*) decides: a message without lines that begin with a dot, without stray CR
 * and without overlong lines goes out as it lies in memory, one borrowed run. Otherwise each line is looked at and runs
 * between the changes are still borrowed.
 *
 *   line begins with '.'     DATA only: one more in front (RFC 5321 4.5.2)
 *   CR not before LF         becomes a space
 *   line over the limit      CR LF SPACE goes in, not inside a UTF-8 sequence; the dot that stuffs is not counted
 *   no end of line at the end   one is added
 *
 * For a host without 8BITMIME the content passes downgrade.c first and comes here in runs of whole lines.
 *
 * Large content goes out in pieces. Each wait for the peer has the time limit anew (smtp_data_xfer_timeout); with
 * smtp_per_request_deadline the whole has one.
 */
#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "daemon/smtp/request.h"

#define PIECE_BYTES (256 * 1024)
#define COPY_BELOW  256  /* shorter runs are copied: cheaper than a segment each */
#define LONG_LINE   998  /* what CONTENT_HAS_LONG_LINE speaks of */

struct out {
    struct smtp_request *r;
    bool stuff;        /* DATA */
    size_t limit;      /* of a line, 0: none */
    size_t pending;    /* bytes put since the last flush */
    bool is_passing;   /* the run is gone after the call: copy it */
};

static bool is_split_needed(const struct smtp_request *r)
{
    int64_t limit = r->cp->line_length_limit;
    return limit > 0 && ((request_content_flags(r) & CONTENT_HAS_LONG_LINE) || limit < LONG_LINE);
}

uint64_t content_wire_bytes(const struct smtp_request *r)
{
    if (is_split_needed(r) || r->is_downgraded)
        return 0;
    return r->extra.n + (r->inspected != NULL ? r->inspected->bytes : r->view.n) + (request_content_flags(r) & CONTENT_NO_FINAL_EOL ? 2 : 0);
}

/* Sends what is gathered. */
static void piece_done(struct out *o)
{
    if (o->pending < PIECE_BYTES)
        return;
    o->pending = 0;
    (void)!stream_flush(o->r->conn->stream); /* an error sticks and is seen at the end */
}

static void put_run(struct out *o, const char *p, size_t n)
{
    while (n > 0) {
        size_t k = n < PIECE_BYTES ? n : PIECE_BYTES;
        if (k < COPY_BELOW || o->is_passing)
            stream_put(o->r->conn->stream, span_of(p, k));
        else
            stream_put_borrowed(o->r->conn->stream, span_of(p, k));
        o->pending += k;
        p += k;
        n -= k;
        piece_done(o);
    }
}

/* Where a line of n bytes that is over the limit is to be broken. */
static size_t break_at(const char *p, size_t limit)
{
    size_t at = limit;
    while (at > 0 && limit - at < 3 && ((unsigned char)p[at] & 0xc0) == 0x80)
        at--;
    return ((unsigned char)p[at] & 0xc0) == 0x80 || at == 0 ? limit : at;
}

/* One line of n bytes without its end; run..p was not yet put. Returns the new start of the run. */
static const char *put_line(struct out *o, const char *run, const char *p, size_t n)
{
    if (o->stuff && n > 0 && *p == '.') {
        put_run(o, run, (size_t)(p - run));
        put_run(o, ".", 1);
        run = p;
    }
    size_t room = o->limit;
    const char *end = p + n;
    while (p < end) {
        size_t k = (size_t)(end - p);
        bool split = o->limit > 0 && k > room;
        if (split)
            k = break_at(p, room);
        for (const char *cr; (cr = memchr(p, '\r', k)) != NULL;) {
            put_run(o, run, (size_t)(cr - run));
            put_run(o, " ", 1);
            k -= (size_t)(cr + 1 - p);
            run = p = cr + 1;
        }
        p += k;
        if (split) {
            put_run(o, run, (size_t)(p - run));
            put_run(o, "\r\n ", 3);
            run = p;
            room = o->limit - 1;
        }
    }
    return run;
}

static void put_scanned(struct out *o, const char *p, size_t n)
{
    const char *end = p + n, *run = p;
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        const char *line_end = lf ? lf : end;
        size_t len = (size_t)(line_end - p);
        if (lf && len > 0 && lf[-1] == '\r')
            len--;
        run = put_line(o, run, p, len);
        p = lf ? lf + 1 : end;
    }
    put_run(o, run, (size_t)(end - run));
}

static void put_converted(void *ctx, struct span run, bool is_borrowed)
{
    struct out *o = ctx;
    o->is_passing = !is_borrowed;
    put_scanned(o, run.p, run.n);
    o->is_passing = false;
}

struct mime_limits content_mime_limits(const struct smtp_request *r)
{
    return (struct mime_limits){ .boundary_bytes = (size_t)r->p->mime_boundary_length_limit,
                                 .nesting = (size_t)r->p->mime_nesting_limit };
}

/* What inspect.c has made of the content, a piece after the other; each is whole lines. */
static void put_pieces(struct out *o, bool is_scanned)
{
    const struct inspected *x = o->r->inspected;
    for (size_t i = 0; i < x->count; i++) {
        struct span s = inspected_span(x, i);
        if (is_scanned)
            put_scanned(o, s.p, s.n);
        else
            put_run(o, s.p, s.n);
    }
}

static void put_content(struct out *o)
{
    struct smtp_request *r = o->r;
    uint32_t flags = request_content_flags(r);
    if (r->extra.n > 0)
        stream_put(r->conn->stream, buf_span(&r->extra));
    o->limit = is_split_needed(r) ? (size_t)(r->cp->line_length_limit > 16 ? r->cp->line_length_limit : 16) : 0;
    bool is_scanned = o->limit > 0 || (flags & CONTENT_HAS_BARE_CR) || (o->stuff && (flags & CONTENT_HAS_DOT_LINE));
    if (r->is_downgraded)
        downgrade(inspect_whole(r), content_mime_limits(r), put_converted, o);
    else if (r->inspected != NULL)
        put_pieces(o, is_scanned);
    else if (is_scanned)
        put_scanned(o, r->view.p, r->view.n);
    else
        put_run(o, r->view.p, r->view.n);
    if (flags & CONTENT_NO_FINAL_EOL)
        stream_put(r->conn->stream, SPAN_LIT("\r\n"));
}

/* With deadlines the whole content has one: the stage's time plus what the slowest allowed rate needs. */
static void begin_body(struct smtp_request *r)
{
    stage_begin(r, STAGE_BODY);
    if (r->cp->per_request_deadline) {
        uint64_t bytes = r->is_downgraded ? 3 * (uint64_t)r->view.n : r->view.n; /* =XX for each, at worst */
        int64_t rate_ms = (int64_t)(bytes / (uint64_t)r->cp->min_data_rate) * 1000;
        stream_set_deadline(r->conn->stream, clock_mono_ms() + r->cp->data_xfer_timeout + rate_ms);
    }
}

void content_put_data(struct smtp_request *r)
{
    struct out o = { .r = r, .stuff = true };
    begin_body(r);
    put_content(&o);
}

void content_put_bdat(struct smtp_request *r)
{
    struct out o = { .r = r };
    begin_body(r);
    put_content(&o);
}

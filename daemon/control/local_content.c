/*
 * The header is taken line by line and goes out as it came, but for dropped fields; at its end come the fields that were
 * missing. The body is copied run by run between line ends. A CR right before LF belongs to the line end; any other CR
 * is content (CONTENT_HAS_BARE_CR).
 */
#include "daemon/control/local_content.h"

#include <stdlib.h>

#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/mail/address.h"

#define OUT_BYTES 65536
#define LINE_LONG 998

static bool flush_out(struct local_content *c)
{
    if (c->out.n > 0 && !c->has_failed)
        c->has_failed = !c->sink(c->arg, buf_span(&c->out));
    buf_reset(&c->out);
    return !c->has_failed;
}

static void store(void *arg, struct span s)
{
    struct local_content *c = arg;
    buf_add_span(&c->out, s);
    if (c->out.n >= OUT_BYTES)
        flush_out(c);
}

static void put(struct local_content *c, struct span s)
{
    if (c->pipe != NULL && !c->is_past_pipe)
        pipe_feed(c->pipe, s);
    else
        store(c, s);
}

static void put_crlf(struct local_content *c)
{
    put(c, SPAN_LIT("\r\n"));
}

/* What a piece of one line (without its end) says for the flags. */
static void note_piece(struct local_content *c, struct span s, bool in_header)
{
    if (s.n == 0)
        return;
    if (c->line_bytes == 0 && s.p[0] == '.')
        c->flags |= CONTENT_HAS_DOT_LINE;
    c->line_bytes += s.n;
    if (c->line_bytes > LINE_LONG)
        c->flags |= CONTENT_HAS_LONG_LINE;
    if (memchr(s.p, '\r', s.n) != NULL)
        c->flags |= CONTENT_HAS_BARE_CR;
    if (memchr(s.p, '\0', s.n) != NULL)
        c->flags |= CONTENT_HAS_NUL;
    if (!span_is_ascii(s))
        c->flags |= in_header ? CONTENT_HAS_8BIT_HEADER | CONTENT_HAS_8BIT : CONTENT_HAS_8BIT;
}

static void put_line(struct local_content *c, struct span line, bool in_header)
{
    note_piece(c, line, in_header);
    put(c, line);
    put_crlf(c);
    c->line_bytes = 0;
}

/* A display name: as it is when it is made of atoms, else quoted. */
static void put_phrase(struct buf *b, struct span name)
{
    bool plain = true;
    for (size_t i = 0; i < name.n; i++)
        plain = plain && (ascii_is_alnum(name.p[i]) || ascii_is_8bit(name.p[i]) || strchr(" !#$%&'*+-/=?^_`{|}~", name.p[i]));
    if (!plain)
        buf_putc(b, '"');
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '"' || name.p[i] == '\\')
            buf_putc(b, '\\');
        buf_putc(b, (unsigned char)name.p[i] < 32 ? ' ' : name.p[i]);
    }
    if (!plain)
        buf_putc(b, '"');
}

static void put_from(struct local_content *c, const char *field)
{
    const struct local_content_options *o = &c->o;
    struct buf b = BUF_INIT(0);
    struct buf addr = BUF_INIT(0);
    if (o->sender.n > 0)
        addr_quote(&addr, o->sender);
    else
        buf_printf(&addr, "MAILER-DAEMON@%.*s", SPAN_ARG(o->origin));
    buf_printf(&b, "%s: ", field);
    if (o->full_name.n == 0) {
        buf_add_span(&b, buf_span(&addr));
    } else if (o->from_is_obsolete) {
        buf_add_span(&b, buf_span(&addr));
        buf_puts(&b, " (");
        for (size_t i = 0; i < o->full_name.n; i++)
            buf_putc(&b, strchr("()\\\r\n", o->full_name.p[i]) != NULL ? ' ' : o->full_name.p[i]);
        buf_putc(&b, ')');
    } else {
        put_phrase(&b, o->full_name);
        buf_printf(&b, " <%.*s>", SPAN_ARG(buf_span(&addr)));
    }
    put_line(c, buf_span(&b), true);
    buf_free(&addr);
    buf_free(&b);
}

static void put_field(struct local_content *c, const char *name, struct span value)
{
    struct buf b = BUF_INIT(0);
    buf_printf(&b, "%s: ", name);
    buf_add_span(&b, value);
    put_line(c, buf_span(&b), true);
    buf_free(&b);
}

/* Adds what a complete message has. */
static void add_missing(struct local_content *c, const struct hdr_scan *h)
{
    bool resent = hdr_has(h, HDR_RESENT_TO) || hdr_has(h, HDR_RESENT_CC) || hdr_has(h, HDR_RESENT_BCC) ||
                  hdr_has(h, HDR_RESENT_FROM) || hdr_has(h, HDR_RESENT_SENDER) || hdr_has(h, HDR_RESENT_DATE) ||
                  hdr_has(h, HDR_RESENT_MESSAGE_ID);
    if (!hdr_has(h, resent ? HDR_RESENT_MESSAGE_ID : HDR_MESSAGE_ID))
        put_field(c, resent ? "Resent-Message-Id" : "Message-Id", c->o.message_id);
    if (!hdr_has(h, resent ? HDR_RESENT_DATE : HDR_DATE))
        put_field(c, resent ? "Resent-Date" : "Date", span_cstr(c->o.date));
    if (!hdr_has(h, resent ? HDR_RESENT_FROM : HDR_FROM))
        put_from(c, resent ? "Resent-From" : "From");
    if (c->o.undisclosed[0] != '\0' && !hdr_has(h, HDR_TO) && !hdr_has(h, HDR_CC) && !hdr_has(h, HDR_RESENT_TO) &&
        !hdr_has(h, HDR_RESENT_CC))
        put_line(c, span_cstr(c->o.undisclosed), true);
}

/* The fields that were missing, and the empty line that ends the header. */
static void end_header(struct local_content *c)
{
    if (c->pipe != NULL)
        pipe_end_header(c->pipe);
    uint32_t before = c->flags;
    c->is_past_pipe = true;
    c->flags = 0;
    add_missing(c, c->pipe != NULL ? &c->pipe->hdr : &c->scan);
    c->is_past_pipe = false;
    c->added_flags = c->flags;
    c->flags |= before;
    put_crlf(c);
    c->in_body = true;
    c->at_line_start = true;
}

static bool is_dropped(const struct local_content *c, struct span line)
{
    if (c->pipe != NULL) /* which does it, after all have seen the field */
        return false;
    return hdr_names_has(&c->o.drop_headers, span_of(line.p, hdr_name_length(line)));
}

static void body_piece(struct local_content *c, struct span s)
{
    note_piece(c, s, false);
    put(c, s);
    if (s.n > 0)
        c->at_line_start = false;
}

static void body_line_end(struct local_content *c)
{
    put_crlf(c);
    c->line_bytes = 0;
    c->at_line_start = true;
}

static void header_line(struct local_content *c, struct span line)
{
    c->header_bytes += line.n + 2;
    switch (hdr_scan_line(&c->scan, line)) {
    case HDR_LINE_FIELD:
        c->is_dropping = is_dropped(c, line);
        break;
    case HDR_LINE_FOLDED:
        break;
    case HDR_LINE_EMPTY:
        end_header(c);
        return;
    case HDR_LINE_BODY:
        end_header(c);
        body_piece(c, line);
        body_line_end(c);
        return;
    }
    if (!c->is_dropping)
        put_line(c, line, true);
}

/* Takes header lines from *s until the header ends or the bytes do. */
static void add_header(struct local_content *c, struct span *s)
{
    while (s->n > 0 && !c->in_body) {
        ptrdiff_t nl = span_find(*s, '\n');
        buf_add(&c->line, s->p, nl < 0 ? s->n : (size_t)nl);
        if (c->header_bytes + c->line.n > LOCAL_HEADER_MAX) {
            c->is_too_big = c->has_failed = true;
            return;
        }
        *s = span_from(*s, nl < 0 ? s->n : (size_t)nl + 1);
        if (nl < 0)
            return;
        struct span line = buf_span(&c->line);
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        header_line(c, line);
        buf_reset(&c->line);
    }
}

static void add_body(struct local_content *c, struct span s)
{
    while (s.n > 0 && !c->has_failed) {
        ptrdiff_t nl = span_find(s, '\n');
        struct span piece = span_of(s.p, nl < 0 ? s.n : (size_t)nl);
        if (c->held_cr && (nl != 0)) /* the CR was not part of a line end */
            body_piece(c, SPAN_LIT("\r"));
        c->held_cr = piece.n > 0 && piece.p[piece.n - 1] == '\r';
        if (c->held_cr)
            piece.n--;
        body_piece(c, piece);
        if (nl < 0)
            return;
        c->held_cr = false;
        body_line_end(c);
        s = span_from(s, (size_t)nl + 1);
    }
}

void local_content_begin(struct local_content *c, const struct local_content_options *o, struct arena *a,
                         local_content_sink *sink, void *arg)
{
    *c = (struct local_content){ .o = *o, .sink = sink, .arg = arg };
    hdr_scan_init(&c->scan, a);
    if (o->inspect != NULL && o->inspect->stage_count > 0) {
        struct pipe_options po = *o->inspect;
        po.put = store;
        po.arg = c;
        c->pipe = xcalloc(1, sizeof *c->pipe);
        pipe_init(c->pipe, &po, a);
    }
    put(c, o->received);
}

bool local_content_add(struct local_content *c, struct span bytes)
{
    if (!c->in_body)
        add_header(c, &bytes);
    if (c->in_body)
        add_body(c, bytes);
    return !c->has_failed;
}

/* What others made of the content counts, not what it was. */
static void end_pipe(struct local_content *c)
{
    const struct content_pipe *p = c->pipe;
    if (p == NULL)
        return;
    pipe_end(c->pipe);
    c->scan = p->hdr;
    if (c->scan.received_count > 0)
        c->scan.received_count--;
    c->flags &= ~(uint32_t)CONTENT_HAS_8BIT_HEADER;
    c->flags |= p->hdr.has_8bit ? CONTENT_HAS_8BIT_HEADER | CONTENT_HAS_8BIT : 0;
    c->flags |= p->made_8bit ? CONTENT_HAS_8BIT : 0;
    c->flags |= p->made_long_line ? CONTENT_HAS_LONG_LINE : 0;
    c->flags |= p->made_dot_line ? CONTENT_HAS_DOT_LINE : 0;
    c->flags |= c->added_flags;
}

bool local_content_end(struct local_content *c)
{
    if (!c->in_body && c->line.n > 0 && !c->has_failed) { /* the last line had no end */
        struct span line = buf_span(&c->line);
        header_line(c, line);
    }
    if (!c->in_body)
        end_header(c);
    if (c->held_cr)
        body_piece(c, SPAN_LIT("\r"));
    if (!c->at_line_start)
        body_line_end(c);
    end_pipe(c);
    bool ok = flush_out(c);
    local_content_abort(c);
    return ok;
}

void local_content_abort(struct local_content *c)
{
    buf_free(&c->line);
    buf_free(&c->out);
    if (c->pipe != NULL)
        pipe_free(c->pipe);
    free(c->pipe);
    c->pipe = NULL;
}

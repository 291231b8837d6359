/*
 * The walk through the parts.
 *
 * A stack holds the multiparts that are open (mime_stack.h). One of its boundaries ends all parts inside that multipart,
 * also while a header is read (RFC 2046 5.1.2).
 *
 *   boundary line      a new part begins with its header; default type text, in a digest message/rfc822
 *   closing boundary   the multipart is over, what follows belongs to the one around it
 *   end of a header    message/rfc822: another header begins; multipart with a boundary: pushed; else the body
 */
#include "common/mail/mime.h"

#include "common/mail/headers.h"

static void begin_header(struct mime *m, enum mime_type default_type)
{
    m->in_header = true;
    m->type = default_type;
    m->encoding = MIME_7BIT;
    m->is_digest = false;
    m->content_type = span_of("", 0);
}

void mime_init(struct mime *m, struct span content, struct mime_limits limits)
{
    *m = (struct mime){ .rest = content, .stack.limits = limits };
    begin_header(m, MIME_LEAF);
}

void mime_free(struct mime *m)
{
    mime_stack_free(&m->stack);
    *m = (struct mime){ .rest = { NULL, 0 } };
}

/* Bytes of the next line with its end. */
static size_t line_bytes(struct span s)
{
    const char *lf = s.n > 0 ? memchr(s.p, '\n', s.n) : NULL;
    return lf ? (size_t)(lf + 1 - s.p) : s.n;
}

static struct span without_end(struct span line)
{
    if (line.n > 0 && line.p[line.n - 1] == '\n')
        line.n--;
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static struct span take(struct mime *m, size_t n)
{
    struct span s = span_of(m->rest.p, n);
    m->rest = span_from(m->rest, n);
    return s;
}

static void pass_boundary(struct mime *m, size_t level, struct span line)
{
    bool is_digest, is_end = mime_stack_pass(&m->stack, level, line, &is_digest);
    begin_header(m, is_digest && !is_end ? MIME_MESSAGE : MIME_LEAF);
    m->in_header = !is_end;
}

/* ---- headers ---- */

static void end_header(struct mime *m)
{
    m->in_header = false;
    if (m->type == MIME_MULTIPART && !mime_stack_push(&m->stack, m->content_type, m->is_digest))
        m->is_too_deep = true;
}

/* After the end of its header was given out: a message inside has a header of its own. */
static void enter_message(struct mime *m)
{
    if (!m->in_header && m->type == MIME_MESSAGE)
        begin_header(m, MIME_LEAF);
}

bool mime_is_field(struct span field, const char *name)
{
    size_t n = hdr_name_length(field);
    return n > 0 && span_ieq_cstr(span_of(field.p, n), name);
}

static void learn_field(struct mime *m, struct span field)
{
    struct span body = span_from(field, (size_t)span_find(field, ':') + 1);
    if (mime_is_field(field, "Content-Type")) {
        m->content_type = body;
        m->type = mime_type_of(body, &m->is_digest);
    } else if (mime_is_field(field, "Content-Transfer-Encoding")) {
        m->encoding = mime_encoding_of(body);
    }
}

/* The field that begins at the rest, with its folded lines. */
static size_t field_bytes(const struct mime *m)
{
    struct span s = m->rest;
    size_t n = 0;
    do
        n += line_bytes(span_from(s, n));
    while (n < s.n && (s.p[n] == ' ' || s.p[n] == '\t'));
    return n;
}

static struct mime_piece header_piece(struct mime *m)
{
    struct span line = without_end(span_of(m->rest.p, line_bytes(m->rest)));
    bool is_over = m->rest.n == 0 || mime_stack_find(&m->stack, line) < m->stack.count;
    if (!is_over && hdr_name_length(line) > 0) {
        struct mime_piece field = { MIME_FIELD, take(m, field_bytes(m)) };
        learn_field(m, field.text);
        return field;
    }
    end_header(m);
    return (struct mime_piece){ MIME_HEADER_END, take(m, !is_over && line.n == 0 ? line_bytes(m->rest) : 0) };
}

bool mime_next(struct mime *m, struct mime_piece *out)
{
    enter_message(m);
    if (m->in_header) {
        *out = header_piece(m);
        return true;
    }
    if (m->rest.n == 0)
        return false;
    struct span line = take(m, line_bytes(m->rest)), bare = without_end(line);
    size_t level = mime_stack_find(&m->stack, bare);
    bool is_boundary = level < m->stack.count;
    if (is_boundary)
        pass_boundary(m, level, bare);
    *out = (struct mime_piece){ is_boundary ? MIME_BOUNDARY : MIME_BODY, line };
    return true;
}

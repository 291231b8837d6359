/*
 * What a site may insist on beside its tables: 8-bit text only where it is announced, transfer encodings only where they are
 * allowed, and no structure that is too deep. Each fault is logged once for a message; the first one is the reply's, unless a
 * table says REJECT. The tables go on being asked.
 */
#include "policy/checks_internal.h"

#include "common/base/ascii.h"
#include "common/mail/address.h"

enum mime_fault { FAULT_8BIT_HEADER, FAULT_8BIT_BODY, FAULT_ENCODING, FAULT_NESTING };

static const char *const fault_texts[] = {
    [FAULT_8BIT_HEADER] = "improper use of 8-bit data in message header",
    [FAULT_8BIT_BODY] = "improper use of 8-bit data in message body",
    [FAULT_ENCODING] = "invalid message/* or multipart/* encoding domain",
    [FAULT_NESTING] = "MIME nesting exceeds safety limit",
};

static void fault(struct checks_run *r, enum mime_fault f, struct span where)
{
    const struct checks_message *m = r->m;
    if (r->had_mime_error[f])
        return;
    r->had_mime_error[f] = true;
    if (where.n > CHECKS_SHOWN)
        where.n = CHECKS_SHOWN;
    log_info(m->log, "%.*s: reject: mime-error %s: %.*s from %.*s; from=<%.*s> to=<%.*s>", SPAN_ARG(m->queue_id), fault_texts[f],
             SPAN_ARG(where), SPAN_ARG(m->origin), SPAN_ARG(m->sender), SPAN_ARG(m->recipient));
    if (r->status == CHECKS_OK)
        checks_refuse(r, "5.6.0", span_cstr(fault_texts[f]));
}

void checks_mime_field(struct checks_run *r, const struct pipe_field *f)
{
    if (r->c->is_strict_header && !r->m->is_utf8 && !span_is_ascii(f->text))
        fault(r, FAULT_8BIT_HEADER, f->text);
}

void checks_mime_line(struct checks_run *r, const struct content_pipe *p, struct span line)
{
    bool is_announced = p->encoding == MIME_8BIT || p->encoding == MIME_BINARY;
    if (r->c->is_strict_body && !is_announced && !span_is_ascii(line))
        fault(r, FAULT_8BIT_BODY, line);
}

static bool has_subtype(struct span content_type, const char *subtype)
{
    ptrdiff_t slash = span_find(content_type, '/');
    struct span s = span_trim(span_from(content_type, slash < 0 ? content_type.n : (size_t)slash + 1));
    size_t n = strlen(subtype);
    return span_istarts_with(s, span_of(subtype, n)) && (s.n == n || !(ascii_is_alnum(s.p[n]) || s.p[n] == '-'));
}

/*
 * RFC 2045 6.4: no encoding of a multipart or of message/rfc822. RFC 2046 5.2: message/partial and external-body are 7bit,
 * what 8bit and binary are not; an encoding of theirs passes.
 */
static bool is_bad_encoding(const struct content_pipe *p, const struct pipe_part *part)
{
    struct span type = buf_span(&p->content_type);
    if (part->type == MIME_MULTIPART || part->type == MIME_MESSAGE)
        return part->encoding == MIME_ENCODED;
    return part->type == MIME_FRAGMENT && (part->encoding == MIME_8BIT || part->encoding == MIME_BINARY) &&
           (has_subtype(type, "partial") || has_subtype(type, "external-body"));
}

void checks_mime_part(struct checks_run *r, const struct content_pipe *p, const struct pipe_part *part)
{
    if (r->c->is_strict_encoding && is_bad_encoding(p, part))
        fault(r, FAULT_ENCODING, span_trim(buf_span(&p->encoding_text)));
    if (part->is_too_deep)
        fault(r, FAULT_NESTING, span_cstr(arena_printf(r->scratch, "Content-Type:%.*s", SPAN_ARG(buf_span(&p->content_type)))));
}

/*
 * Addresses in header fields. A field is written again only when an address in it was changed; then it gets the form that
 * addr_list_print() gives it, folded behind commas where a line would become long.
 */
#include "policy/rewrite/rewrite.h"

#include "common/base/ascii.h"
#include "common/mail/address.h"
#include "policy/rewrite/addr_list.h"
#include "policy/rewrite/rewrite_internal.h"

#define LINE_WANTED 70 /* a line of a folded field is filled up to less than this */

/* The fields that hold addresses of senders and recipients; all others are nobody's to touch. */
static const struct {
    struct span name;
    enum rewrite_class cls;
} address_fields[] = {
    { SPAN_INIT("From"), REWRITE_HDR_SENDER },
    { SPAN_INIT("To"), REWRITE_HDR_RCPT },
    { SPAN_INIT("Cc"), REWRITE_HDR_RCPT },
    { SPAN_INIT("Sender"), REWRITE_HDR_SENDER },
    { SPAN_INIT("Reply-To"), REWRITE_HDR_SENDER },
    { SPAN_INIT("Bcc"), REWRITE_HDR_RCPT },
    { SPAN_INIT("Errors-To"), REWRITE_HDR_SENDER },
    { SPAN_INIT("Return-Receipt-To"), REWRITE_HDR_SENDER },
    { SPAN_INIT("Disposition-Notification-To"), REWRITE_HDR_SENDER },
    { SPAN_INIT("Mail-Followup-To"), REWRITE_HDR_SENDER },
    { SPAN_INIT("Apparently-To"), REWRITE_HDR_RCPT },
    { SPAN_INIT("Return-Path"), REWRITE_HDR_SENDER },
    { SPAN_INIT("Resent-From"), REWRITE_HDR_SENDER },
    { SPAN_INIT("Resent-Sender"), REWRITE_HDR_SENDER },
    { SPAN_INIT("Resent-Reply-To"), REWRITE_HDR_RCPT },
    { SPAN_INIT("Resent-To"), REWRITE_HDR_RCPT },
    { SPAN_INIT("Resent-Cc"), REWRITE_HDR_RCPT },
    { SPAN_INIT("Resent-Bcc"), REWRITE_HDR_RCPT },
};

static bool find_class(struct span name, enum rewrite_class *cls)
{
    for (size_t i = 0; i < ARRAY_LEN(address_fields); i++) {
        if (span_ieq(name, address_fields[i].name)) {
            *cls = address_fields[i].cls;
            return true;
        }
    }
    return false;
}

bool rewrite_may_change(const struct policy *p, bool has_maps, struct span field, size_t name_n)
{
    enum rewrite_class cls;
    ptrdiff_t colon = span_find(field, ':');
    if (colon < 0 || !find_class(span_of(field.p, name_n), &cls))
        return false;
    return (has_maps && rewrite_is_mapped(p->rewriter, cls)) || !rewrite_list_is_plain(span_from(field, (size_t)colon + 1));
}

enum rewrite_origin rewrite_remote_origin(const struct policy *p)
{
    return *p->p->remote_header_rewrite_domain != '\0' ? REWRITE_REMOTE : REWRITE_NOBODY;
}

static struct rewrite_context context_of(const struct policy *p, enum rewrite_origin origin)
{
    if (origin == REWRITE_LOCAL)
        return address_local_context(p);
    return (struct rewrite_context){ p->p->remote_header_rewrite_domain, p->p->remote_header_rewrite_domain };
}

/* FOUND: *item was changed. */
static enum lookup rewrite_item(const struct policy *p, const struct rewrite_context *x, enum rewrite_class cls, bool has_maps,
                                struct addr_item *item, struct arena *a, const struct rewrite_trace *t, struct err *e)
{
    if (span_eq(item->text, SPAN_LIT("\"\""))) /* the null address */
        return LOOKUP_NONE;
    struct span addr = address_rewrite_external(p, x, item->text, a, t);
    if (addr.n > 1 && addr.p[0] == '@') /* nobody at a domain is an address only with quotes */
        addr = span_cstr(arena_printf(a, "\"\"%.*s", SPAN_ARG(addr)));
    if (has_maps && rewrite_map_external(p, cls, &addr, a, t, e) == LOOKUP_TEMPFAIL)
        return LOOKUP_TEMPFAIL;
    if (span_eq(addr, item->text))
        return LOOKUP_NONE;
    item->text = addr;
    return LOOKUP_FOUND;
}

/* Quotes where an address as a whole needs them, not where its words do. */
static void requote(struct addr_list *l, struct arena *a)
{
    struct addr_item *item;
    for (size_t at = 0; (item = addr_list_next(l, &at)) != NULL;) {
        struct span plain = addr_external_to_internal(item->text, a);
        item->text = plain.n > 0 ? addr_quoted(a, plain) : SPAN_LIT("\"\"");
    }
}

/* Joins lines as long as the result is short; lines that go on begin with a tab. */
static struct span fold(struct span text, struct arena *a)
{
    struct buf b = BUF_INIT(0);
    size_t line = 0; /* bytes of the line that is being filled */
    bool is_first = true;
    for (bool more = true; more;) {
        ptrdiff_t nl = span_find(text, '\n');
        struct span piece = span_of(text.p, nl < 0 ? text.n : (size_t)nl);
        more = nl >= 0; /* a last comma has nothing behind it, but a blank */
        text = span_from(text, piece.n + 1);
        if (!is_first && line + 1 + piece.n < LINE_WANTED) {
            buf_putc(&b, ' ');
            line += 1;
        } else if (!is_first && piece.n > 0) {
            buf_putc(&b, '\n');
            if (!ascii_is_blank(piece.p[0]))
                buf_putc(&b, '\t');
            line = 0;
        }
        buf_add_span(&b, piece);
        line += piece.n;
        is_first = false;
    }
    struct span out = arena_dup_span(a, buf_span(&b));
    buf_free(&b);
    return out;
}

enum lookup rewrite_header(const struct policy *p, enum rewrite_origin origin, bool has_maps, struct span field, size_t name_n,
                           struct arena *a, struct span *out, const struct rewrite_trace *t, struct err *e)
{
    enum rewrite_class cls;
    bool is_changed = false;
    struct addr_list l;
    ptrdiff_t colon = span_find(field, ':');
    if (origin == REWRITE_NOBODY || colon < 0 || !find_class(span_of(field.p, name_n), &cls) || memchr(field.p, '\0', field.n) != NULL)
        return LOOKUP_NONE;
    has_maps = has_maps && rewrite_is_mapped(p->rewriter, cls);
    const struct rewrite_context x = context_of(p, origin);
    addr_list_parse(span_from(field, (size_t)colon + 1), (size_t)p->p->header_address_token_limit, a, &l);
    struct addr_item *item;
    for (size_t at = 0; (item = addr_list_next(&l, &at)) != NULL;) {
        enum lookup got = rewrite_item(p, &x, cls, has_maps, item, a, t, e);
        if (got == LOOKUP_TEMPFAIL)
            return got;
        is_changed |= got == LOOKUP_FOUND;
    }
    if (!is_changed)
        return LOOKUP_NONE;
    requote(&l, a);
    struct buf b = BUF_INIT(0);
    buf_add(&b, field.p, name_n);
    buf_puts(&b, ": ");
    addr_list_print(&b, &l);
    *out = fold(buf_span(&b), a);
    buf_free(&b);
    return LOOKUP_FOUND;
}

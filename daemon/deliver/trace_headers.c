#include "common/mail/address.h"
#include "daemon/deliver/trace_headers.h"

unsigned copy_flags_of(const char *const *argv)
{
    unsigned flags = 0;
    for (; argv && *argv; argv++) {
        if (!span_starts_with(span_cstr(*argv), SPAN_LIT("flags=")))
            continue;
        for (const char *c = *argv + 6; *c; c++)
            flags |= *c == 'D' ? COPY_DELIVERED_TO : *c == 'O' ? COPY_ORIGINAL_TO : *c == 'R' ? COPY_RETURN_PATH
                     : *c == 'X' ? COPY_FINAL : 0u;
    }
    return flags;
}

void trace_headers_add(struct buf *b, unsigned flags, const struct envelope *env, const struct msg_rcpt *rcpt, const char *eol)
{
    if (flags & COPY_RETURN_PATH) {
        buf_puts(b, "Return-Path: <");
        addr_quote(b, env->sender);
        buf_putc(b, '>');
        buf_puts(b, eol);
    }
    if ((flags & COPY_ORIGINAL_TO) && rcpt->orig.n > 0) {
        buf_puts(b, "X-Original-To: ");
        addr_quote(b, rcpt->orig);
        buf_puts(b, eol);
    }
    if (flags & COPY_DELIVERED_TO) {
        buf_puts(b, "Delivered-To: ");
        addr_quote(b, rcpt->addr);
        buf_puts(b, eol);
    }
}

bool trace_headers_has_delivered_to(struct span content, struct span addr)
{
    static const struct span name = { "delivered-to:", 13 };
    while (content.n > 0) {
        const char *lf = memchr(content.p, '\n', content.n);
        size_t n = lf ? (size_t)(lf - content.p) : content.n;
        struct span line = span_of(content.p, n);
        if (span_trim(line).n == 0)
            return false; /* end of the header */
        if (span_istarts_with(line, name)) {
            struct span value = span_trim(span_from(line, name.n));
            if (value.n >= 2 && value.p[0] == '<' && value.p[value.n - 1] == '>')
                value = span_of(value.p + 1, value.n - 2);
            if (span_ieq(value, addr))
                return true;
        }
        content = span_from(content, n + 1);
    }
    return false;
}

/*
 * Content-Type and Content-Transfer-Encoding, RFC 2045 5.1 and 6.1: tokens, quoted strings, and comments between them.
 *
 * A parameter's value without quotes reaches to the next blank, semicolon or comment: many programs write
 * boundary=----=_Part and mean all of it, though "=" would want quotes.
 */
#include "common/base/ascii.h"
#include "common/mail/mime.h"

/* Skips blanks, line ends and comments. */
static void skip_blanks(struct span *s)
{
    int comments = 0;
    size_t i = 0;
    for (; i < s->n; i++) {
        char c = s->p[i];
        if (c == '(')
            comments++;
        else if (comments > 0 && c == ')')
            comments--;
        else if (comments > 0 && c == '\\')
            i++;
        else if (comments == 0 && !(c == ' ' || c == '\t' || c == '\r' || c == '\n'))
            break;
    }
    *s = span_from(*s, i < s->n ? i : s->n);
}

static bool is_token_char(char c)
{
    return c > ' ' && c < 127 && !strchr("()<>@,;:\\\"/[]?=", c);
}

/* Up to a character that cannot be in a token; may be empty. */
static struct span take_token(struct span *s)
{
    size_t n = 0;
    skip_blanks(s);
    while (n < s->n && is_token_char(s->p[n]))
        n++;
    struct span token = span_of(s->p, n);
    *s = span_from(*s, n);
    return token;
}

static bool take_char(struct span *s, char c)
{
    skip_blanks(s);
    if (s->n == 0 || *s->p != c)
        return false;
    *s = span_from(*s, 1);
    return true;
}

enum mime_encoding mime_encoding_of(struct span body)
{
    static const struct { const char *name; enum mime_encoding encoding; } known[] = {
        { "7bit", MIME_7BIT }, { "8bit", MIME_8BIT }, { "binary", MIME_BINARY },
        { "base64", MIME_ENCODED }, { "quoted-printable", MIME_ENCODED },
    };
    struct span token = take_token(&body);
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (span_ieq_cstr(token, known[i].name))
            return known[i].encoding;
    return MIME_UNKNOWN;
}

/* message/global and its kin may be encoded (RFC 6532 3.7, RFC 6533 6), the others not (RFC 2046 5.2). */
static enum mime_type message_type(struct span subtype)
{
    if (span_ieq_cstr(subtype, "rfc822"))
        return MIME_MESSAGE;
    bool is_global = span_ieq_cstr(subtype, "global") || span_istarts_with(subtype, SPAN_LIT("global-"));
    return is_global ? MIME_LEAF : MIME_FRAGMENT;
}

enum mime_type mime_type_of(struct span body, bool *is_digest)
{
    struct span type = take_token(&body), subtype = span_of("", 0);
    if (take_char(&body, '/'))
        subtype = take_token(&body);
    *is_digest = false;
    if (span_ieq_cstr(type, "multipart")) {
        *is_digest = span_ieq_cstr(subtype, "digest");
        return MIME_MULTIPART;
    }
    return span_ieq_cstr(type, "message") ? message_type(subtype) : MIME_LEAF;
}

/* The text of a quoted string, or up to the next blank, semicolon or comment. */
static void take_value(struct span *s, size_t max, struct buf *out, bool *is_cut)
{
    size_t i = 0, taken = 0;
    skip_blanks(s);
    bool quoted = s->n > 0 && *s->p == '"';
    *is_cut = false;
    for (i = quoted; i < s->n; i++) {
        char c = s->p[i];
        if (quoted ? c == '"' : c <= ' ' || c == ';' || c == '(')
            break;
        if (quoted && c == '\\' && i + 1 < s->n)
            c = s->p[++i];
        if (c == '\r' || c == '\n')
            continue; /* folded */
        if (taken == max)
            *is_cut = true;
        else if (out) {
            buf_putc(out, c);
            taken++;
        }
    }
    *s = span_from(*s, i + quoted < s->n ? i + quoted : s->n);
}

bool mime_parameter(struct span body, const char *name, size_t max, struct buf *out, bool *is_cut)
{
    bool unused;
    (void)take_token(&body);
    if (take_char(&body, '/'))
        (void)take_token(&body);
    while (body.n > 0) {
        if (!take_char(&body, ';')) {
            body = span_from(body, body.n > 0); /* nonsense between parameters */
            continue;
        }
        struct span got = take_token(&body);
        if (!take_char(&body, '='))
            continue;
        if (span_ieq_cstr(got, name)) {
            size_t before = out->n;
            take_value(&body, max, out, is_cut);
            return out->n > before;
        }
        take_value(&body, 0, NULL, &unused);
    }
    return false;
}

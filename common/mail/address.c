/*
 * The parser reads the external form once from left to right into a scratch buffer that holds the internal form. It knows
 * the tokens of RFC 5322 (atom, quoted string, domain literal, comment, specials) and nothing of lists or groups. Where a
 * phrase stands before '<', what was gathered so far is thrown away.
 */
#include <idn2.h>

#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/mail/address.h"
#include "common/net/ipaddr.h"

bool span_is_ascii(struct span s)
{
    uint64_t all = 0, v;
    size_t i = 0;
    for (; i + sizeof v <= s.n; i += sizeof v) {
        memcpy(&v, s.p + i, sizeof v);
        all |= v;
    }
    for (; i < s.n; i++)
        all |= (unsigned char)s.p[i];
    return (all & UINT64_C(0x8080808080808080)) == 0;
}

/* Length of the sequence at p, 0 when malformed. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    unsigned char c = p[0];
    if (c < 0x80)
        return 1;
    size_t len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) ||
        (c == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

bool utf8_is_valid(struct span s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    for (size_t i = 0; i < s.n;) {
        size_t len = utf8_length(p + i, s.n - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

bool addr_split(struct span internal, struct span *local, struct span *domain)
{
    ptrdiff_t at = span_rfind(internal, '@');
    if (at < 0) {
        *local = internal;
        *domain = span_of(internal.n ? internal.p + internal.n : "", 0);
        return false;
    }
    *local = span_of(internal.p, (size_t)at);
    *domain = span_from(internal, (size_t)at + 1);
    return true;
}

/* ---- quoting ---- */

static bool is_atext(char c)
{
    return ascii_is_alnum(c) || ascii_is_8bit(c) || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

bool addr_local_is_plain(struct span local)
{
    if (local.n == 0 || local.p[0] == '.' || local.p[local.n - 1] == '.')
        return false;
    for (size_t i = 0; i < local.n; i++) {
        char c = local.p[i];
        if (c == '.' ? local.p[i - 1] == '.' : !is_atext(c))
            return false;
    }
    return true;
}

void addr_quote(struct buf *b, struct span internal)
{
    struct span local, domain;
    bool has_domain = addr_split(internal, &local, &domain);
    if (internal.n == 0 || addr_local_is_plain(local)) {
        buf_add_span(b, internal);
        return;
    }
    buf_putc(b, '"');
    for (size_t i = 0; i < local.n; i++) {
        char c = local.p[i];
        if (c == '"' || c == '\\' || c == '\r' || c == '\n')
            buf_putc(b, '\\');
        buf_putc(b, c);
    }
    buf_putc(b, '"');
    if (has_domain) {
        buf_putc(b, '@');
        buf_add_span(b, domain);
    }
}

struct span addr_quoted(struct arena *a, struct span internal)
{
    struct span local, domain;
    addr_split(internal, &local, &domain);
    if (internal.n == 0 || addr_local_is_plain(local))
        return internal;
    struct buf b = BUF_INIT(0);
    addr_quote(&b, internal);
    struct span out = arena_dup_span(a, buf_span(&b));
    buf_free(&b);
    return out;
}

struct span addr_unquoted(struct arena *a, struct span external)
{
    size_t n = 0, i = 1;
    if (external.n == 0 || external.p[0] != '"')
        return external;
    char *out = arena_alloc(a, external.n);
    for (; i < external.n && external.p[i] != '"'; i++) {
        i += external.p[i] == '\\' && i + 1 < external.n;
        out[n++] = external.p[i];
    }
    struct span rest = i < external.n ? span_from(external, i + 1) : span_of("", 0);
    if (rest.n == 0 || rest.p[0] != '@')
        return external;
    memcpy(out + n, rest.p, rest.n);
    return span_of(out, n + rest.n);
}

/* ---- domains ---- */

static bool hostname_is_valid(struct span d, bool numeric_ok)
{
    size_t label = 0;
    bool has_letter = false;
    if (d.n == 0 || d.n > ADDR_DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < d.n; i++) {
        char c = d.p[i];
        if (c == '.') {
            if (label == 0 || d.p[i - 1] == '-')
                return false;
            label = 0;
            continue;
        }
        if (!ascii_is_alnum(c) && c != '_' && (c != '-' || label == 0))
            return false;
        if (++label > ADDR_LABEL_MAX)
            return false;
        has_letter |= !ascii_is_digit(c);
    }
    return label > 0 && d.p[d.n - 1] != '-' && (has_letter || numeric_ok);
}

static bool international_is_valid(struct span d)
{
    char name[ADDR_MAX + 1];
    uint8_t *ascii = NULL;
    if (d.n > ADDR_MAX || memchr(d.p, '\0', d.n) != NULL || !utf8_is_valid(d))
        return false;
    memcpy(name, d.p, d.n);
    name[d.n] = '\0';
    int rc = idn2_lookup_u8((const uint8_t *)name, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    if (rc == IDN2_MALLOC)
        mem_exhausted();
    bool ok = rc == IDN2_OK && hostname_is_valid(span_cstr((const char *)ascii), false);
    idn2_free(ascii);
    return ok;
}

bool addr_domain_is_valid(struct span domain, bool utf8, bool numeric_ok)
{
    if (span_is_ascii(domain))
        return hostname_is_valid(domain, numeric_ok);
    return utf8 && international_is_valid(domain);
}

bool addr_literal_is_valid(struct span domain)
{
    struct ip_addr ip;
    return ip_parse_literal(domain, &ip);
}

/* ---- parsing ---- */

struct parser {
    const char *p, *end;
    unsigned flags;
    char out[ADDR_MAX];  /* internal form so far */
    size_t n;
    ptrdiff_t at;        /* where the '@' is in out, or -1 */
    bool in_angle, had_angle, too_long;
    bool gap;            /* white space or a comment since the last token */
    bool want_more;      /* the last token was '.' or '@': no second word may be joined without it */
    bool behind_quotes;  /* the last token was a quoted string: none but '.', '@' and '>' fit behind it */
};

static void put(struct parser *s, char c)
{
    if (s->n < sizeof s->out)
        s->out[s->n++] = c;
    else
        s->too_long = true;
}

static void forget(struct parser *s)
{
    s->n = 0;
    s->at = -1;
    s->gap = false;
    s->want_more = true;
    s->behind_quotes = false;
}

/* p is behind the '('. Comments nest. */
static bool skip_comment(struct parser *s)
{
    int depth = 1;
    while (s->p < s->end) {
        char c = *s->p++;
        if (c == '\\' && s->p < s->end)
            s->p++;
        else if (c == '(')
            depth++;
        else if (c == ')' && --depth == 0)
            return true;
    }
    return false;
}

static bool read_quoted(struct parser *s)
{
    while (s->p < s->end) {
        char c = *s->p++;
        if (c == '"')
            return true;
        if (c == '\\') {
            if (s->p == s->end)
                return false;
            c = *s->p++;
        }
        put(s, c);
    }
    return false;
}

/* p is behind the '['. Brackets are kept. */
static bool read_literal(struct parser *s)
{
    put(s, '[');
    while (s->p < s->end) {
        char c = *s->p++;
        if (c == '[' || c == '\\' || c == '@' || c == ' ' || !ascii_is_print(c))
            return false;
        put(s, c);
        if (c == ']')
            return true;
    }
    return false;
}

/* Words must be joined by '.' or '@'; before '<' they may be a phrase, which is thrown away later. */
static bool begin_word(struct parser *s)
{
    bool joined = s->want_more || !s->gap;
    s->gap = false;
    s->want_more = false;
    return joined;
}

/* "@a,@b:" behind '<'; p is at the '@'. False when it is no route (nothing consumed). */
static bool skip_route(struct parser *s)
{
    const char *q = s->p;
    for (; q < s->end && *q != ':' && *q != '>' && *q != '"' && *q != '('; q++)
        if (*q == '[')
            while (q + 1 < s->end && *q != ']')
                q++;
    if (q == s->end || *q != ':')
        return false;
    s->p = q + 1;
    return true;
}

static bool open_angle(struct parser *s)
{
    if (s->in_angle || s->had_angle || ((s->flags & ADDR_STRICT) && s->n > 0))
        return false;
    forget(s);
    s->in_angle = true;
    s->had_angle = true;
    while (s->p < s->end && ascii_is_blank(*s->p) && !(s->flags & ADDR_STRICT))
        s->p++;
    if (s->p < s->end && *s->p == '@')
        (void)skip_route(s);
    return true;
}

static bool read_specials(struct parser *s, char c, bool *loose_words)
{
    switch (c) {
    case '<':
        *loose_words = false;
        return open_angle(s);
    case '>':
        if (!s->in_angle)
            return false;
        s->in_angle = false;
        return true;
    case '(':
        s->gap = true;
        return !(s->flags & ADDR_STRICT) && skip_comment(s);
    case '@': /* of several the last one separates */
        s->at = (ptrdiff_t)s->n;
        put(s, c);
        s->want_more = true;
        s->behind_quotes = false;
        return true;
    case '.':
        put(s, c);
        s->want_more = true;
        s->behind_quotes = false;
        return true;
    case '[':
        return s->at >= 0 && s->n == (size_t)s->at + 1 && begin_word(s) && read_literal(s);
    default:
        return false;
    }
}

static bool read_word(struct parser *s, char c)
{
    if (c == '"') {
        if (s->at >= 0)
            return false;
        s->behind_quotes = true;
        return read_quoted(s);
    }
    if (c == '\\') {
        if (s->p == s->end || s->at >= 0)
            return false;
        put(s, *s->p++);
        return true;
    }
    if (!is_atext(c) && (c != ':' || (s->flags & ADDR_STRICT) || s->at >= 0))
        return false;
    put(s, c);
    return true;
}

static bool read_tokens(struct parser *s)
{
    bool loose_words = false; /* two words side by side: fine in a phrase only */
    while (s->p < s->end) {
        char c = *s->p++;
        if (s->had_angle && !s->in_angle && !ascii_is_space(c) && c != '(')
            return false; /* behind '>' */
        if (ascii_is_space(c)) {
            if ((s->flags & ADDR_STRICT) && !s->in_angle)
                return false;
            s->gap = true;
        } else if (c == '<' || c == '>' || c == '(' || c == '@' || c == '.' || c == '[') {
            if (!read_specials(s, c, &loose_words))
                return false;
        } else {
            bool starts = s->gap || s->want_more;
            if (starts ? !begin_word(s) : s->behind_quotes || c == '"')
                loose_words = true;
            if (!read_word(s, c))
                return false;
        }
    }
    return !s->in_angle && !loose_words && ((s->flags & ADDR_STRICT) == 0 || s->had_angle);
}

static enum addr_status check_bytes(const struct parser *s, const struct addr *r)
{
    if (r->is_ascii)
        return ADDR_OK;
    if ((s->flags & ADDR_UTF8) && utf8_is_valid(r->text))
        return ADDR_OK;
    return (s->flags & ADDR_ANY_8BIT) && span_is_ascii(r->domain) ? ADDR_OK : ADDR_NOT_ASCII;
}

static enum addr_status check_domain(const struct parser *s, const struct addr *r)
{
    bool from_quotes = s->at < 0; /* then any byte may be in it */
    if (!r->has_domain || ((s->flags & ADDR_ANY_DOMAIN) && !from_quotes))
        return ADDR_OK;
    bool ok = r->is_literal ? addr_literal_is_valid(r->domain)
                            : addr_domain_is_valid(r->domain, s->flags & ADDR_UTF8, s->flags & ADDR_NUMERIC_DOMAIN);
    return ok ? ADDR_OK : ADDR_BAD_DOMAIN;
}

/*
 * Quotes can hold any byte of RFC 822, those of RFC 5321 (qtextSMTP) cannot: a line feed or an escape would go on into log
 * lines, header fields and commands of ours. In a phrase or comment, which is thrown away, they do no harm.
 */
static bool has_control(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 32 || s.p[i] == 127)
            return true;
    return false;
}

/*
 * The domain is found again in the internal form, not remembered from the tokens: for "a@b" in quotes and without a
 * domain everybody who gets the address sees the domain b, so relay control must see it too.
 */
static enum addr_status finish(struct parser *s, struct arena *a, struct addr *out)
{
    struct addr r = { .text = span_of(s->out, s->n) };
    if (s->too_long)
        return ADDR_TOO_LONG;
    bool has_dot = s->at >= 0 && r.text.n > (size_t)s->at + 2 && s->out[s->n - 1] == '.' && s->out[s->n - 2] != '.';
    if (has_dot)
        r.text.n--;
    r.has_domain = addr_split(r.text, &r.local, &r.domain);
    if ((r.has_domain && r.local.n == 0 && (r.domain.n == 0 || (s->flags & ADDR_STRICT))) || has_control(r.text))
        return ADDR_SYNTAX;
    r.is_literal = r.domain.n > 0 && r.domain.p[0] == '[';
    r.is_ascii = span_is_ascii(r.text);
    enum addr_status st = check_bytes(s, &r);
    if (st == ADDR_OK)
        st = check_domain(s, &r);
    if (st != ADDR_OK)
        return st;
    r.given = arena_dup_span(a, span_of(r.text.p, r.text.n + has_dot));
    r.text = span_of(r.given.p, r.given.n - has_dot);
    addr_split(r.text, &r.local, &r.domain);
    *out = r;
    return ADDR_OK;
}

/* What old mailers put around an address: "<<a@b>>", "a@b>", "a@b,". */
static struct span without_strays(struct span s)
{
    while (s.n > 2 && s.p[0] == '<' && s.p[1] == '<' && s.p[s.n - 1] == '>' && s.p[s.n - 2] == '>')
        s = span_of(s.p + 1, s.n - 2);
    if (s.n > 1 && s.p[s.n - 1] == ',')
        s.n--;
    if (s.n > 1 && s.p[s.n - 1] == '>' && span_find(s, '<') < 0 && s.p[s.n - 2] != '\\')
        s.n--;
    return s;
}

enum addr_status addr_parse(struct span text, unsigned flags, struct arena *a, struct addr *out)
{
    if ((flags & ADDR_STRICT) == 0)
        text = without_strays(text);
    struct parser s = { .p = text.p, .end = text.p + text.n, .flags = flags, .at = -1, .want_more = true };
    if (text.n > 2 * ADDR_MAX)
        return ADDR_TOO_LONG;
    if (!read_tokens(&s))
        return ADDR_SYNTAX;
    return finish(&s, a, out);
}

size_t addr_path_length(struct span text)
{
    bool quoted = false, angle = false;
    size_t i;
    for (i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '\\' && i + 1 < text.n)
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && c == '<')
            angle = true;
        else if (!quoted && c == '>')
            angle = false;
        else if (!quoted && !angle && ascii_is_blank(c))
            break;
    }
    return i;
}

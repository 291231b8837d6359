#include "common/table/net/ldap_text.h"

#include "common/base/ascii.h"

void ldap_quote_filter(struct span part, struct buf *out)
{
    for (size_t i = 0; i < part.n; i++) {
        char c = part.p[i];
        if (c == '*' || c == '(' || c == ')' || c == '\\' || (unsigned char)c < ' ' || c == 0x7f)
            buf_printf(out, "\\%02x", (unsigned char)c);
        else
            buf_putc(out, c);
    }
}

void ldap_quote_name(struct span part, struct buf *out)
{
    for (size_t i = 0; i < part.n; i++) {
        char c = part.p[i];
        bool is_at_end = i == 0 || i + 1 == part.n;
        if ((c != '\0' && strchr(",+\"\\<>;=", c) != NULL) || (unsigned char)c < ' ' || c == 0x7f || (c == ' ' && is_at_end)
            || (c == '#' && i == 0))
            buf_printf(out, "\\%02X", (unsigned char)c);
        else
            buf_putc(out, c);
    }
}

bool ldap_is_url(struct span s)
{
    return span_istarts_with(s, SPAN_LIT("ldap://")) || span_istarts_with(s, SPAN_LIT("ldaps://"))
           || span_istarts_with(s, SPAN_LIT("ldapi://"));
}

/* Without %XX; NULL when one is broken, or stands for a NUL. */
static const char *decode(struct span s, struct arena *a)
{
    char *text = arena_alloc(a, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '%') {
            text[n++] = s.p[i];
            continue;
        }
        int high = s.n - i > 2 ? ascii_hex_value(s.p[i + 1]) : -1, low = s.n - i > 2 ? ascii_hex_value(s.p[i + 2]) : -1;
        if (high < 0 || low < 0)
            return NULL;
        text[n++] = (char)(high * 16 + low);
        i += 2;
    }
    text[n] = '\0';
    return memchr(text, '\0', n) == NULL ? text : NULL;
}

/* What is before the next '?'; *rest goes behind it. */
static struct span field(struct span *rest)
{
    ptrdiff_t mark = span_find(*rest, '?');
    struct span f = mark < 0 ? *rest : span_of(rest->p, (size_t)mark);
    *rest = mark < 0 ? span_of(NULL, 0) : span_from(*rest, (size_t)mark + 1);
    return f;
}

static bool read_attributes(struct span list, struct arena *a, struct ldap_url *u)
{
    struct span item;
    size_t n = 0;
    if (list.n == 0)
        return true;
    const char **names = arena_alloc(a, (list.n / 2 + 2) * sizeof *names);
    while (span_next_token(&list, ",", &item)) {
        names[n] = decode(item, a);
        if (names[n++] == NULL)
            return false;
    }
    if (n > 0)
        u->attributes = names;
    return true;
}

static bool read_scope(struct span s, struct ldap_url *u)
{
    if (s.n == 0 || span_ieq_cstr(s, "base"))
        u->scope = LDAP_IN_BASE;
    else if (span_ieq_cstr(s, "one"))
        u->scope = LDAP_IN_ONE_LEVEL;
    else if (span_ieq_cstr(s, "sub"))
        u->scope = LDAP_IN_SUBTREE;
    else
        return false;
    return true;
}

bool ldap_url_parse(struct span s, struct arena *a, struct ldap_url *out)
{
    struct ldap_url u = { .filter = "(objectClass=*)" };
    if (!ldap_is_url(s) || memchr(s.p, '\0', s.n) != NULL)
        return false;
    s = span_from(s, (size_t)span_find(s, ':') + 3);
    ptrdiff_t slash = span_find(s, '/');
    s = slash < 0 ? span_of(NULL, 0) : span_from(s, (size_t)slash + 1);
    u.base = decode(field(&s), a);
    if (u.base == NULL || !read_attributes(field(&s), a, &u) || !read_scope(field(&s), &u))
        return false;
    struct span filter = field(&s);
    if (filter.n > 0)
        u.filter = decode(filter, a);
    if (u.filter == NULL)
        return false;
    *out = u;
    return true;
}

#include "policy/dnsbl.h"

#include "common/base/ascii.h"

static void allow(uint64_t set[4], unsigned from, unsigned to)
{
    for (unsigned i = from; i <= to; i++)
        set[i / 64] |= UINT64_C(1) << i % 64;
}

static bool take(struct span *s, const char *what)
{
    size_t n = strlen(what);
    if (s->n < n || memcmp(s->p, what, n) != 0)
        return false;
    *s = span_from(*s, n);
    return true;
}

static bool take_number(struct span *s, unsigned *out)
{
    unsigned v = 0;
    size_t n = 0;
    while (n < s->n && n < 4 && ascii_is_digit(s->p[n]))
        v = v * 10 + (unsigned)(s->p[n++] - '0');
    *s = span_from(*s, n);
    *out = v;
    return n > 0 && v <= 255;
}

/* n or n..m */
static bool take_range(struct span *s, uint64_t set[4])
{
    unsigned from, to;
    if (!take_number(s, &from))
        return false;
    to = from;
    if (take(s, "..") && (!take_number(s, &to) || to < from))
        return false;
    allow(set, from, to);
    return true;
}

static bool take_octet(struct span *s, uint64_t set[4])
{
    unsigned v;
    if (!take(s, "[")) {
        if (!take_number(s, &v))
            return false;
        allow(set, v, v);
        return true;
    }
    do
        if (!take_range(s, set))
            return false;
    while (take(s, ";"));
    return take(s, "]");
}

static bool parse_filter(struct span s, struct dnsbl *d)
{
    for (int i = 0; i < 4; i++)
        if ((i > 0 && !take(&s, ".")) || !take_octet(&s, d->octet[i]))
            return false;
    return s.n == 0;
}

bool dnsbl_parse(struct span text, struct arena *a, struct dnsbl *out, const char **why)
{
    ptrdiff_t eq = span_find(text, '=');
    char name[256];
    struct span domain = eq >= 0 ? span_of(text.p, (size_t)eq) : text;
    *out = (struct dnsbl){ .has_filter = eq >= 0 };
    if (!dns_name_text(domain, name)) {
        *why = "expected the domain of a DNS list, such as list.example.com";
        return false;
    }
    out->domain = arena_dup_span(a, domain);
    if (eq >= 0 && !parse_filter(span_from(text, (size_t)eq + 1), out)) {
        *why = "expected an address pattern behind the '=', such as 127.0.0.2 or 127.0.[0..1].[2;4;10..12]";
        return false;
    }
    return true;
}

bool dnsbl_is_listed(const struct dnsbl *d, const struct dns_answer *answer)
{
    for (size_t i = 0; answer->status == DNS_OK && i < answer->count; i++) {
        uint8_t b[4];
        bool all = true;
        memcpy(b, &answer->rr[i].a, sizeof b);
        for (int k = 0; d->has_filter && k < 4; k++)
            all = all && (d->octet[k][b[k] / 64] >> b[k] % 64 & 1) != 0;
        if (all)
            return true;
    }
    return false;
}

struct span dnsbl_name_of_addr(const struct dnsbl *d, const struct ip_addr *addr, struct arena *a)
{
    const uint8_t *b = addr->b;
    if (addr->family == IP_V4)
        return span_cstr(arena_printf(a, "%u.%u.%u.%u.%.*s", b[3], b[2], b[1], b[0], SPAN_ARG(d->domain)));
    char nibbles[65];
    for (int i = 0; i < 16; i++) {
        static const char hex[] = "0123456789abcdef";
        char *to = nibbles + 4 * i;
        to[0] = hex[b[15 - i] & 15];
        to[2] = hex[b[15 - i] >> 4];
        to[1] = to[3] = '.';
    }
    nibbles[64] = '\0';
    return span_cstr(arena_printf(a, "%s%.*s", nibbles, SPAN_ARG(d->domain)));
}

struct span dnsbl_name_of_host(const struct dnsbl *d, struct span host, struct arena *a)
{
    while (host.n > 0 && host.p[host.n - 1] == '.')
        host.n--;
    return span_cstr(arena_printf(a, "%.*s.%.*s", SPAN_ARG(host), SPAN_ARG(d->domain)));
}

/*
 * Parsing goes through inet_pton() on a copy of at most INET6_ADDRSTRLEN bytes: it is strict (four decimal parts, no
 * octal, no spaces) and knows every IPv6 form.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>

#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/net/ipaddr.h"

static const uint8_t mapped_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

struct ip_addr ip_from_v4(struct in_addr a)
{
    struct ip_addr r = { .family = IP_V4 };
    memcpy(r.b, &a, 4);
    return r;
}

struct ip_addr ip_from_v6(struct in6_addr a)
{
    struct ip_addr r = { .family = IP_V6 };
    if (memcmp(&a, mapped_prefix, sizeof mapped_prefix) == 0) {
        r.family = IP_V4;
        memcpy(r.b, a.s6_addr + 12, 4);
    } else {
        memcpy(r.b, &a, 16);
    }
    return r;
}

static bool copy_text(struct span s, char *out, size_t size)
{
    if (s.n == 0 || s.n >= size || memchr(s.p, '\0', s.n))
        return false;
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return true;
}

bool ip_parse(struct span s, struct ip_addr *out)
{
    char text[INET6_ADDRSTRLEN + IF_NAMESIZE];
    uint32_t scope = 0;
    ptrdiff_t percent = span_find(s, '%');
    if (percent >= 0) {
        char name[IF_NAMESIZE];
        struct span zone = span_from(s, (size_t)percent + 1);
        int64_t index;
        if (!copy_text(zone, name, sizeof name))
            return false;
        if (num_parse(zone, 1, INT32_MAX, &index))
            scope = (uint32_t)index;
        else if ((scope = if_nametoindex(name)) == 0)
            return false;
        s.n = (size_t)percent;
    }
    if (!copy_text(s, text, sizeof text))
        return false;
    struct in_addr v4;
    struct in6_addr v6;
    struct ip_addr a;
    if (percent < 0 && inet_pton(AF_INET, text, &v4) == 1)
        a = ip_from_v4(v4);
    else if (inet_pton(AF_INET6, text, &v6) == 1)
        a = ip_from_v6(v6);
    else
        return false;
    if (percent >= 0 && a.family != IP_V6)
        return false;
    a.scope = scope;
    *out = a;
    return true;
}

static bool strip_brackets(struct span *s)
{
    if (s->n < 2 || s->p[0] != '[' || s->p[s->n - 1] != ']')
        return false;
    *s = span_of(s->p + 1, s->n - 2);
    return true;
}

bool ip_parse_any(struct span s, struct ip_addr *out)
{
    strip_brackets(&s);
    if (!span_istarts_with(s, SPAN_LIT("IPv6:")))
        return ip_parse(s, out);
    struct ip_addr a;
    s = span_from(s, 5);
    /* Judged by its text: "IPv6:::ffff:1.2.3.4" is right, "IPv6:1.2.3.4" is not. */
    if (span_find(s, ':') < 0 || !ip_parse(s, &a))
        return false;
    *out = a;
    return true;
}

bool ip_parse_literal(struct span s, struct ip_addr *out)
{
    if (!strip_brackets(&s) || span_find(s, '%') >= 0)
        return false;
    if (span_find(s, ':') >= 0 && !span_istarts_with(s, SPAN_LIT("IPv6:")))
        return false;
    return ip_parse_any(s, out);
}

bool ip_looks_like(struct span s)
{
    struct ip_addr a;
    strip_brackets(&s);
    if (span_istarts_with(s, SPAN_LIT("IPv6:")) || ip_parse(s, &a))
        return true;
    /* All digits and dots is never a host name (RFC 1123 2.1: the last label is alphabetic). */
    for (size_t i = 0; i < s.n; i++)
        if ((s.p[i] < '0' || s.p[i] > '9') && s.p[i] != '.')
            return false;
    return s.n > 0;
}

static char *put_octet(char *p, unsigned v)
{
    if (v >= 100)
        *p++ = (char)('0' + v / 100);
    if (v >= 10)
        *p++ = (char)('0' + v / 10 % 10);
    *p++ = (char)('0' + v % 10);
    return p;
}

/* By hand, because every session prints its client's address more than once. */
static const char *print_v4(const uint8_t b[4], char *out)
{
    char *p = out;
    for (int i = 0; i < 4; i++) {
        p = put_octet(p, b[i]);
        *p++ = i < 3 ? '.' : '\0';
    }
    return out;
}

static const char *print_with(const struct ip_addr *a, const char *before, const char *behind, char *out)
{
    char text[INET6_ADDRSTRLEN] = "unknown", zone[IF_NAMESIZE + 1] = "";
    if (a->family != IP_NONE)
        inet_ntop(a->family == IP_V4 ? AF_INET : AF_INET6, a->b, text, sizeof text);
    if (a->scope != 0) {
        zone[0] = '%';
        if (!if_indextoname(a->scope, zone + 1) && snprintf(zone + 1, sizeof zone - 1, "%u", a->scope) < 0)
            zone[0] = '\0';
    }
    if (snprintf(out, IP_TEXT_MAX, "%s%s%s%s", before, text, zone, behind) < 0)
        out[0] = '\0';
    return out;
}

const char *ip_print(const struct ip_addr *a, char out[static IP_TEXT_MAX])
{
    return a->family == IP_V4 ? print_v4(a->b, out) : print_with(a, "", "", out);
}

const char *ip_print_literal(const struct ip_addr *a, char out[static IP_TEXT_MAX])
{
    return print_with(a, a->family == IP_V6 ? "[IPv6:" : "[", "]", out);
}

const char *ip_net_print(const struct ip_net *n, char out[static IP_TEXT_MAX])
{
    char behind[16];
    bool v6 = n->addr.family == IP_V6;
    if (snprintf(behind, sizeof behind, "%s/%u", v6 ? "]" : "", n->bits) < 0)
        behind[0] = '\0';
    return print_with(&n->addr, v6 ? "[" : "", behind, out);
}

bool ip_from_sockaddr(const struct sockaddr *sa, struct ip_addr *out, uint16_t *port)
{
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        *out = ip_from_v4(in.sin_addr);
        if (port)
            *port = ntohs(in.sin_port);
        return true;
    }
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof in6);
        *out = ip_from_v6(in6.sin6_addr);
        if (out->family == IP_V6 && IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr))
            out->scope = in6.sin6_scope_id;
        if (port)
            *port = ntohs(in6.sin6_port);
        return true;
    }
    return false;
}

socklen_t ip_to_sockaddr(const struct ip_addr *a, uint16_t port, struct sockaddr_storage *ss)
{
    memset(ss, 0, sizeof *ss);
    if (a->family == IP_V4) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
        memcpy(&in.sin_addr, a->b, 4);
        memcpy(ss, &in, sizeof in);
        return sizeof in;
    }
    if (a->family == IP_V6) {
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = a->scope };
        memcpy(&in6.sin6_addr, a->b, 16);
        memcpy(ss, &in6, sizeof in6);
        return sizeof in6;
    }
    return 0;
}

int ip_cmp(const struct ip_addr *a, const struct ip_addr *b)
{
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    int c = memcmp(a->b, b->b, sizeof a->b);
    if (c != 0 || a->scope == b->scope)
        return c;
    return a->scope < b->scope ? -1 : 1;
}

bool ip_is_loopback(const struct ip_addr *a)
{
    static const uint8_t one[16] = { [15] = 1 };
    return a->family == IP_V4 ? a->b[0] == 127 : a->family == IP_V6 && memcmp(a->b, one, 16) == 0;
}

bool ip_is_any(const struct ip_addr *a)
{
    static const uint8_t zero[16];
    return a->family != IP_NONE && memcmp(a->b, zero, 16) == 0;
}

struct ip_net ip_net_of(const struct ip_addr *a, unsigned bits)
{
    unsigned all = a->family == IP_V4 ? 32 : 128;
    struct ip_net n = { .addr = *a, .bits = (uint8_t)(bits > all ? all : bits) };
    n.addr.scope = 0;
    for (unsigned i = 0; i < 16; i++) {
        unsigned keep = n.bits > i * 8 ? n.bits - i * 8 : 0;
        if (keep < 8)
            n.addr.b[i] &= (uint8_t)(0xff00u >> keep);
    }
    return n;
}

bool ip_net_parse(struct span s, struct ip_net *out, struct err *e)
{
    struct span whole = s, addr;
    struct ip_addr a;
    int64_t bits = -1;
    strip_brackets(&s);
    ptrdiff_t slash = span_rfind(s, '/');
    addr = slash >= 0 ? span_of(s.p, (size_t)slash) : s;
    if (addr.n > 0 && addr.p[0] == '[' && !strip_brackets(&addr)) {
        err_set(e, "\"%.*s\": a '[' without its ']'", SPAN_ARG(whole));
        return false;
    }
    if (!ip_parse(addr, &a) || a.scope != 0) {
        err_set(e, "\"%.*s\" is not a network: expected address/length, as in 192.0.2.0/24 or [2001:db8::]/32",
                SPAN_ARG(whole));
        return false;
    }
    /* [::ffff:127.0.0.0]/104 is how Debian's main.cf writes 127.0.0.0/8: the length counts the 96 bits in front. */
    bool is_mapped = a.family == IP_V4 && span_find(addr, ':') >= 0;
    int64_t least = is_mapped ? 96 : 0, all = a.family == IP_V4 ? 32 + least : 128;
    if (slash < 0) {
        bits = all;
    } else if (!num_parse(span_from(s, (size_t)slash + 1), least, all, &bits)) {
        err_set(e, "\"%.*s\": the length behind '/' must be a number from %d to %d", SPAN_ARG(whole), (int)least, (int)all);
        return false;
    }
    bits -= least;
    struct ip_net n = ip_net_of(&a, (unsigned)bits);
    if (!ip_eq(&n.addr, &a)) {
        char text[IP_TEXT_MAX];
        err_set(e, "\"%.*s\": the address has bits set behind the network part; perhaps %s is meant",
                SPAN_ARG(whole), ip_net_print(&n, text));
        return false;
    }
    *out = n;
    return true;
}

bool ip_net_contains(const struct ip_net *n, const struct ip_addr *a)
{
    if (a->family != n->addr.family)
        return false;
    unsigned whole = n->bits / 8, rest = n->bits % 8;
    if (memcmp(a->b, n->addr.b, whole) != 0)
        return false;
    return rest == 0 || ((a->b[whole] ^ n->addr.b[whole]) & (uint8_t)(0xff00u >> rest)) == 0;
}

static uint8_t mask_bits(const struct sockaddr *mask, enum ip_family family)
{
    struct ip_addr a;
    unsigned n = 0, bytes = family == IP_V4 ? 4 : 16;
    uint8_t raw[16] = { 0 };
    if (!mask)
        return (uint8_t)(bytes * 8);
    if (mask->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, mask, sizeof in6);
        memcpy(raw, &in6.sin6_addr, 16);
    } else if (ip_from_sockaddr(mask, &a, NULL)) {
        memcpy(raw, a.b, 4);
    }
    for (unsigned i = 0; i < bytes; i++)
        n += (unsigned)__builtin_popcount(raw[i]);
    return (uint8_t)n;
}

bool ip_local_list(struct ip_local **out, size_t *count, struct err *e)
{
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0) {
        err_set_sys(e, errno, "cannot list the network interfaces");
        return false;
    }
    size_t max = 0, n = 0;
    for (struct ifaddrs *i = all; i; i = i->ifa_next)
        max++;
    struct ip_local *list = xcalloc(max + 1, sizeof *list);
    for (struct ifaddrs *i = all; i; i = i->ifa_next) {
        struct ip_local l = { .loopback = (i->ifa_flags & IFF_LOOPBACK) != 0 };
        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || !ip_from_sockaddr(i->ifa_addr, &l.addr, NULL))
            continue;
        bool seen = false;
        for (size_t k = 0; k < n && !seen; k++)
            seen = ip_eq(&list[k].addr, &l.addr);
        if (seen)
            continue;
        l.bits = mask_bits(i->ifa_netmask, l.addr.family);
        if (snprintf(l.ifname, sizeof l.ifname, "%s", i->ifa_name) < 0)
            l.ifname[0] = '\0';
        list[n++] = l;
    }
    freeifaddrs(all);
    *out = list;
    *count = n;
    return true;
}

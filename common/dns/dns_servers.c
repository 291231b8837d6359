/* The resolvers: from dns_resolver_addresses, or from resolv.conf(5), of which search lists are ignored. */
#include <errno.h>

#include "common/base/buf.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/dns/dns_internal.h"

#define RESOLV_CONF_MAX 65536
#define TIMEOUT_MS      5000
#define TRIES           3

static bool add(struct dns_servers *s, struct ip_addr ip, uint16_t port)
{
    if (s->count == DNS_SERVERS_MAX)
        return false;
    s->s[s->count++] = (struct dns_server){ .ip = ip, .port = port, .trusted = ip_is_loopback(&ip) };
    return true;
}

/* "1.2.3.4", "1.2.3.4:53", "[::1]:53", "[::1]", "::1" */
static bool parse_server(struct span s, struct ip_addr *ip, uint16_t *port)
{
    int64_t v = 53;
    struct span host = s;
    ptrdiff_t colon = span_rfind(s, ':'), close = span_find(s, ']');
    bool has_port = colon > 0 && (close >= 0 ? colon == close + 1 : span_find(s, ':') == colon);
    if (has_port) {
        host.n = (size_t)colon;
        if (!num_parse(span_from(s, (size_t)colon + 1), 1, 65535, &v))
            return false;
    }
    *port = (uint16_t)v;
    return ip_parse_any(host, ip);
}

static bool parse_list(struct dns_servers *s, struct span list, struct err *e)
{
    struct span item;
    while (span_next_token(&list, ", \t\r\n", &item)) {
        struct ip_addr ip;
        uint16_t port;
        if (!parse_server(item, &ip, &port)) {
            err_set(e, "dns_resolver_addresses: \"%.*s\" is not a resolver: expected address or address:port, as in 127.0.0.1:53 or [::1]:53",
                    SPAN_ARG(item));
            return false;
        }
        if (!add(s, ip, port)) {
            err_set(e, "dns_resolver_addresses: more than %d resolvers", DNS_SERVERS_MAX);
            return false;
        }
    }
    return true;
}

bool dns_resolvers_are_good(const char *list, struct err *e)
{
    struct dns_servers *s = xcalloc(1, sizeof *s);
    bool ok = parse_list(s, span_cstr(list), e);
    free(s);
    return ok;
}

/* Value of "name:number" within limits that resolv.conf(5) gives. */
static bool option(struct span item, struct span name, int64_t max, int64_t *out)
{
    return span_starts_with(item, name) && num_parse(span_from(item, name.n), 1, max, out);
}

static bool parse_resolv_conf(struct dns_servers *s, const char *path, struct err *e)
{
    struct buf text = BUF_INIT(RESOLV_CONF_MAX);
    struct err why = ERR_INIT;
    bool trust_ad = false;
    if (!io_read_file(path, &text, &why) && why.sys != ENOENT) {
        if (e)
            *e = why;
        buf_free(&text);
        return false;
    }
    struct span rest = buf_span(&text), line;
    while (span_next_token(&rest, "\r\n", &line)) {
        struct span word, item;
        struct ip_addr ip;
        int64_t v;
        if (line.p[0] == '#' || line.p[0] == ';' || !span_next_token(&line, " \t", &word))
            continue;
        if (span_eq(word, SPAN_LIT("nameserver")) && span_next_token(&line, " \t", &item) && ip_parse(item, &ip))
            (void)add(s, ip, 53);
        if (!span_eq(word, SPAN_LIT("options")))
            continue;
        while (span_next_token(&line, " \t", &item)) {
            if (option(item, SPAN_LIT("timeout:"), 30, &v) && s->timeout_ms == 0)
                s->timeout_ms = (int)v * 1000;
            if (option(item, SPAN_LIT("attempts:"), 5, &v) && s->tries == 0)
                s->tries = (int)v * (s->count ? (int)s->count : 1);
            trust_ad = trust_ad || span_eq(item, SPAN_LIT("trust-ad"));
        }
    }
    buf_free(&text);
    if (s->count == 0)
        (void)add(s, (struct ip_addr){ .family = IP_V4, .b = { 127, 0, 0, 1 } }, 53);
    for (size_t i = 0; i < s->count; i++)
        s->s[i].trusted = s->s[i].trusted || trust_ad;
    return true;
}

struct dns_servers *dns_servers_new(const struct dns_options *o, const char *path, struct err *e)
{
    struct dns_servers *s = xcalloc(1, sizeof *s);
    s->refs = 1;
    s->timeout_ms = o->timeout_ms;
    s->tries = o->tries;
    bool ok = parse_list(s, span_cstr(o->resolvers), e);
    if (ok && s->count == 0)
        ok = parse_resolv_conf(s, path, e);
    if (!ok) {
        dns_servers_unref(&s);
        return NULL;
    }
    for (size_t i = 0; i < s->count; i++)
        s->s[i].trusted = s->s[i].trusted || o->trust_ad;
    if (s->timeout_ms <= 0)
        s->timeout_ms = TIMEOUT_MS;
    if (s->tries <= 0)
        s->tries = TRIES;
    return s;
}

bool dns_servers_same(const struct dns_servers *a, const struct dns_servers *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!ip_eq(&a->s[i].ip, &b->s[i].ip) || a->s[i].port != b->s[i].port || a->s[i].trusted != b->s[i].trusted)
            return false;
    return true;
}

void dns_servers_unref(struct dns_servers **s)
{
    if (*s && --(*s)->refs == 0)
        free(*s);
    *s = NULL;
}

size_t dns_servers_pick(const struct dns_servers *s, size_t last, int64_t now_ms)
{
    size_t first = last == SIZE_MAX ? 0 : (last + 1) % s->count;
    for (size_t i = 0; i < s->count; i++) {
        size_t k = (first + i) % s->count;
        if (s->s[k].bad_until_ms <= now_ms)
            return k;
    }
    return first;
}

#include <arpa/inet.h>
#include <netdb.h>

#include "common/base/num.h"
#include "common/net/dest.h"

/* Takes the bracketed host at the front of *s; *s keeps what follows the ']'. */
static bool take_brackets(struct span *s, struct span *host)
{
    ptrdiff_t close = span_find(*s, ']');
    if (close < 0)
        return false;
    *host = span_of(s->p + 1, (size_t)close - 1);
    *s = span_from(*s, (size_t)close + 1);
    return host->n > 0;
}

static bool parse_host(struct span s, struct dest *d)
{
    if (s.n > 0 && s.p[0] == '[') {
        if (!take_brackets(&s, &d->host))
            return false;
        d->no_mx = true;
        if (!ip_parse_any(d->host, &d->ip)) {
            d->ip = (struct ip_addr){ .family = IP_NONE };
            /* A name cannot hold a colon, and digits and dots alone are a broken address. */
            if (span_find(d->host, ':') >= 0 || ip_looks_like(d->host))
                return false;
        }
        if (s.n == 0)
            return true;
        if (s.p[0] != ':')
            return false;
        d->service = span_from(s, 1);
        return d->service.n > 0;
    }
    ptrdiff_t colon = span_find(s, ':');
    d->host = colon >= 0 ? span_of(s.p, (size_t)colon) : s;
    if (colon >= 0) {
        d->service = span_from(s, (size_t)colon + 1);
        if (d->service.n == 0)
            return false;
    }
    return d->host.n > 0;
}

bool dest_parse(struct span s, struct dest *out, struct err *e)
{
    struct dest d = { .is_unix = false };
    struct span whole = s = span_trim(s);
    if (span_starts_with(s, SPAN_LIT("unix:"))) {
        d.is_unix = true;
        d.path = span_from(s, 5);
        if (d.path.n == 0 || memchr(d.path.p, '\0', d.path.n)) {
            err_set(e, "\"%.*s\": a path must follow \"unix:\"", SPAN_ARG(whole));
            return false;
        }
        *out = d;
        return true;
    }
    if (span_starts_with(s, SPAN_LIT("inet:"))) {
        d.has_inet_prefix = true;
        s = span_from(s, 5);
    }
    bool odd = false;
    for (size_t i = 0; i < s.n; i++)
        odd = odd || (unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f;
    struct span rest = span_find(s, ']') >= 0 ? span_from(s, (size_t)span_find(s, ']')) : s;
    ptrdiff_t colon = span_find(rest, ':');
    odd = odd || (colon >= 0 && span_find(span_from(rest, (size_t)colon + 1), ':') >= 0);
    if (odd || !parse_host(s, &d)) {
        err_set(e, "\"%.*s\" is not a destination: expected host, host:port, [host]:port, [1.2.3.4]:port, "
                "[ipv6:address]:port or unix:path", SPAN_ARG(whole));
        return false;
    }
    *out = d;
    return true;
}

/* The number that an item "name=name=number" gives to `service`. */
static bool known_item(struct span item, struct span service, uint16_t *port)
{
    ptrdiff_t eq = span_rfind(item, '=');
    int64_t v;
    if (eq < 0 || !num_parse(span_trim(span_from(item, (size_t)eq + 1)), 1, 65535, &v))
        return false;
    struct span names = span_of(item.p, (size_t)eq), name;
    while (span_next_token(&names, "= \t\r\n", &name)) {
        if (span_ieq(name, service)) {
            *port = (uint16_t)v;
            return true;
        }
    }
    return false;
}

bool dest_port(struct span service, struct span known, uint16_t *port, struct err *e)
{
    int64_t v;
    struct span item;
    if (num_parse(service, 0, 65535, &v)) {
        *port = (uint16_t)v;
        return true;
    }
    while (span_next_token(&known, ",", &item))
        if (known_item(item, service, port))
            return true;
    char name[64], tmp[1024];
    struct servent se, *found = NULL;
    if (service.n > 0 && service.n < sizeof name && !memchr(service.p, '\0', service.n)) {
        memcpy(name, service.p, service.n);
        name[service.n] = '\0';
        if (getservbyname_r(name, "tcp", &se, tmp, sizeof tmp, &found) != 0)
            found = NULL;
    }
    if (!found) {
        err_set(e, "\"%.*s\" is not a port number (0 to 65535) nor a known TCP service", SPAN_ARG(service));
        return false;
    }
    *port = ntohs((uint16_t)found->s_port);
    return true;
}

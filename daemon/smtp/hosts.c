/*
 * One search: which names (MX, SRV, or the host), their addresses all asked at once, this machine taken out, order and
 * limit. A failure to find one name is noted and matters only when nothing was found; a temporary one outweighs
 * permanent ones, for the missing host might be the one that takes the mail.
 *
 * NXDOMAIN for the MX question ends the search (RFC 5321 5.1): there cannot be an address either, unless the native
 * name service may know the name.
 */
#include <stdarg.h>
#include <sys/random.h>

#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "daemon/smtp/hosts_internal.h"

/* splitmix64: spreading load needs no secrecy. */
uint32_t finder_random(struct finder *f)
{
    if (f->random == 0) {
        f->random = f->o->seed;
        while (f->random == 0)
            if (getrandom(&f->random, sizeof f->random, 0) != (ssize_t)sizeof f->random)
                f->random = (uint64_t)clock_wall_us();
    }
    uint64_t z = f->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

void finder_fail(struct finder *f, bool soft, const char *dsn, const char *fmt, ...)
{
    struct buf b = BUF_INIT(2000);
    va_list ap;
    if (f->failed && f->soft && !soft)
        return;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    f->failed = true;
    f->soft = soft;
    f->out->dsn = arena_printf(f->out->arena, "%c.%s", soft ? '4' : '5', dsn);
    f->out->text = arena_strdup(f->out->arena, buf_cstr(&b));
    buf_free(&b);
}

void finder_fail_dns(struct finder *f, const char *name, const char *type, const struct dns_answer *a)
{
    bool soft = a->status == DNS_TEMPFAIL;
    finder_fail(f, soft, soft ? "4.3" : "4.4",
                "Host or domain name not found. Name service error for name=%s type=%s: %s", name, type, a->why);
}

/* ---- names ---- */

struct names {
    struct host_name *n;   /* owned */
    size_t count;
    bool null;             /* the list says that there is no service (RFC 7505, RFC 2782) */
};

static void add_name(struct finder *f, struct names *l, const struct dns_rr *rr, bool secure)
{
    bool srv = rr->type == DNS_SRV;
    const char *host = srv ? rr->srv.host : rr->mx.host;
    if (*host == '\0')
        return;
    l->n[l->count++] = (struct host_name){
        .name = arena_strdup(f->out->arena, host),
        .pref = srv ? rr->srv.prio : rr->mx.pref,
        .port = srv ? rr->srv.port : f->o->port,
        .weight = srv ? rr->srv.weight : 0,
        .is_secure = secure,
    };
}

static void take_names(struct finder *f, const struct dns_answer *a, struct names *l)
{
    *l = (struct names){ .n = xcalloc(a->count + 1, sizeof *l->n) };
    for (size_t i = 0; i < a->count; i++)
        add_name(f, l, &a->rr[i], a->secure);
    l->null = l->count == 0;
    f->out->mx_secure = a->secure;
}

/* ---- self, order, result ---- */

static void drop_rank_from(struct finder *f, uint32_t rank)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->count; i++)
        if (f->found[i].rank < rank)
            f->found[kept++] = f->found[i];
    f->count = kept;
}

static void take_out_self(struct finder *f, const struct names *l)
{
    if (!f->o->loop_check)
        return;
    uint32_t self = hosts_self_rank(f, l->n, l->count);
    if (self == UINT32_MAX)
        return;
    f->out->found_self = true;
    drop_rank_from(f, self);
    if (f->count > 0)
        return;
    f->failed = false; /* what follows is the reason, whatever else failed */
    if (l->n[0].rank < self) {
        finder_fail(f, true, "4.4", "unable to find primary relay for %s", f->out->domain);
    } else {
        finder_fail(f, false, "4.6", "mail for %s loops back to myself", f->out->domain);
        f->out->status = HOSTS_SELF;
    }
}

/* Looks the sorted names up. */
static void use_names(struct finder *f, const struct names *l)
{
    hosts_prefetch(f, l->n, l->count);
    for (size_t i = 0; i < l->count; i++)
        (void)hosts_add_addresses(f, &l->n[i]);
    f->out->from_mx = true;
    if (f->count == 0 && f->failed && !f->soft && f->o->defer_if_no_mx_address) {
        const char *text = f->out->text;
        finder_fail(f, true, "4.4", "%s", text);
    }
    take_out_self(f, l);
}

static void use_host(struct finder *f, bool secure)
{
    struct host_name n = { .name = f->out->domain, .port = f->o->port, .is_secure = secure };
    hosts_prefetch(f, &n, 1);
    (void)hosts_add_addresses(f, &n);
}

static void finish(struct finder *f)
{
    struct hosts *h = f->out;
    if (f->count == 0) {
        if (!f->failed)
            finder_fail(f, true, "4.4", "no address found for %s", h->domain);
        if (h->status != HOSTS_SELF)
            h->status = f->soft ? HOSTS_DEFER : HOSTS_BOUNCE;
        return;
    }
    hosts_order_addresses(f);
    struct host_addr *a = arena_alloc(h->arena, f->count * sizeof *a);
    for (size_t i = 0; i < f->count; i++) {
        a[i] = f->found[i].pub;
        a[i].is_best = a[i].pref == f->found[0].pub.pref;
    }
    h->addr = a;
    h->count = f->count;
    h->status = HOSTS_OK;
    h->dsn = h->text = "";
}

/* ---- MX and SRV ---- */

static void find_by_mx(struct finder *f)
{
    const char *domain = f->out->domain;
    struct dns_answer *a = finder_ask(f, domain, DNS_MX);
    struct names l = { .n = NULL };
    switch (a->status) {
    case DNS_OK:
        take_names(f, a, &l);
        if (l.null) {
            finder_fail(f, false, "1.10", "Domain %s does not accept mail (nullMX)", domain);
            break;
        }
        l.count = hosts_sort_mx(f, l.n, l.count);
        use_names(f, &l);
        break;
    case DNS_NXDOMAIN:
        if (f->o->use_native)
            use_host(f, a->secure);
        else
            finder_fail_dns(f, domain, "MX", a);
        break;
    case DNS_NODATA:
        use_host(f, a->secure);
        break;
    case DNS_TEMPFAIL:
    case DNS_INVALID:
        if (f->o->ignore_mx_lookup_error)
            use_host(f, false);
        else
            finder_fail_dns(f, domain, "MX", a);
        break;
    }
    free(l.n);
    dns_answer_unref(&a);
}

static void find_without_srv(struct finder *f, const struct dest *d)
{
    if (f->o->use_mx && !d->no_mx && !f->o->disable_dns)
        find_by_mx(f);
    else
        use_host(f, true);
}

static void find_by_srv(struct finder *f, const struct dest *d)
{
    const char *name = arena_printf(f->out->arena, "_%.*s._tcp.%s", SPAN_ARG(d->service), f->out->domain);
    struct dns_answer *a = dns_query_wait(f->dns, span_cstr(name), DNS_SRV, CLOCK_NEVER);
    struct names l = { .n = NULL };
    bool absent = a->status == DNS_NXDOMAIN || a->status == DNS_NODATA;
    if (a->status == DNS_OK) {
        take_names(f, a, &l);
        if (l.null) {
            finder_fail(f, false, "4.4", "Domain %s does not offer the service %.*s (null SRV)", f->out->domain,
                        SPAN_ARG(d->service));
        } else {
            l.count = hosts_sort_srv(f, l.n, l.count);
            use_names(f, &l);
        }
    } else if (f->o->allow_srv_lookup_fallback || (!absent && f->o->ignore_srv_lookup_error)) {
        find_without_srv(f, d);
    } else {
        finder_fail_dns(f, name, "SRV", a);
    }
    free(l.n);
    dns_answer_unref(&a);
}

/* SRV needs a service by name that the list allows, and no brackets. */
static bool wants_srv(const struct hosts_options *o, const struct dest *d)
{
    struct span rest = span_cstr(o->use_srv), item;
    bool symbolic = d->service.n > 0 && !ascii_is_digit(d->service.p[0]);
    while (symbolic && !d->no_mx && !o->disable_dns && span_next_token(&rest, ", \t\r\n", &item))
        if (span_ieq(item, d->service))
            return true;
    return false;
}

static void find_literal(struct finder *f, const struct dest *d)
{
    char text[IP_TEXT_MAX];
    struct host_name n = { .name = f->out->domain, .port = f->o->port, .is_secure = true };
    ip_print(&d->ip, text);
    f->out->domain = arena_strdup(f->out->arena, text);
    hosts_add_address(f, &n, text, d->ip, true);
    if (f->count == 0)
        finder_fail(f, false, "4.4", "unable to reach [%s]: inet_protocols excludes IPv%d", text, d->ip.family);
}

/* The domain in A-labels, as the answers and texts have it. */
static bool set_domain(struct finder *f, const struct dest *d)
{
    char name[256];
    if (!dns_name_text(d->host, name)) {
        f->out->domain = arena_strndup(f->out->arena, d->host.p, d->host.n < 255 ? d->host.n : 255);
        finder_fail(f, false, "4.4", "Host or domain name not found. Name service error for name=%s type=%s: "
                    "Invalid host or domain name", f->out->domain, f->o->use_mx && !d->no_mx ? "MX" : "A");
        return false;
    }
    f->out->domain = arena_strdup(f->out->arena, name);
    return true;
}

void hosts_find(struct dns *dns, const struct dest *d, const struct hosts_options *o, struct hosts *out)
{
    struct finder f = { .dns = dns, .o = o, .out = out };
    *out = (struct hosts){ .status = HOSTS_DEFER, .dsn = "", .text = "", .domain = "", .arena = arena_new(1024) };
    if (d->ip.family != IP_NONE)
        find_literal(&f, d);
    else if (set_domain(&f, d)) {
        if (wants_srv(o, d))
            find_by_srv(&f, d);
        else
            find_without_srv(&f, d);
    }
    finish(&f);
    free(f.found);
}

void hosts_free(struct hosts *h)
{
    arena_free(&h->arena);
    *h = (struct hosts){ .status = HOSTS_DEFER, .dsn = "", .text = "", .domain = "" };
}

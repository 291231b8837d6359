#include "common/table/dns_filter.h"

#include <arpa/inet.h>

#include "common/base/buf.h"

#define TEXT_MAX 4096 /* of a record; a longer TXT is cut */

static void put_value(struct buf *b, const struct dns_rr *rr)
{
    char ip[INET6_ADDRSTRLEN];
    switch (rr->type) {
    case DNS_A:
        buf_puts(b, inet_ntop(AF_INET, &rr->a, ip, sizeof ip));
        break;
    case DNS_AAAA:
        buf_puts(b, inet_ntop(AF_INET6, &rr->aaaa, ip, sizeof ip));
        break;
    case DNS_MX:
        buf_printf(b, "%u %s.", rr->mx.pref, rr->mx.host);
        break;
    case DNS_TXT:
        buf_add_span(b, span_of(rr->txt.p, rr->txt.n < TEXT_MAX / 2 ? rr->txt.n : TEXT_MAX / 2));
        break;
    case DNS_TLSA:
        buf_printf(b, "%u %u %u ", rr->tlsa.usage, rr->tlsa.selector, rr->tlsa.matching);
        for (size_t i = 0; i < rr->tlsa.data.n && i < 256; i++)
            buf_printf(b, "%02X", (unsigned char)rr->tlsa.data.p[i]);
        break;
    case DNS_NS:
    case DNS_CNAME:
    case DNS_PTR:
    case DNS_SRV:
        break;
    }
}

static const char *type_name(enum dns_type t)
{
    switch (t) {
    case DNS_A:
        return "A";
    case DNS_AAAA:
        return "AAAA";
    case DNS_MX:
        return "MX";
    case DNS_TXT:
        return "TXT";
    case DNS_TLSA:
        return "TLSA";
    case DNS_NS:
    case DNS_CNAME:
    case DNS_PTR:
    case DNS_SRV:
        break;
    }
    return NULL; /* not filtered */
}

struct filtering {
    const struct dns_filter *f;
    struct arena *a;
    bool has_failed;
};

static bool is_ignored(struct filtering *x, struct span text)
{
    struct span value;
    struct err e = ERR_INIT;
    enum lookup got = maps_lookup(x->f->maps, text, false, x->a, &value, &e);
    if (got == LOOKUP_FOUND && span_ieq_cstr(span_trim(value), "IGNORE"))
        return true;
    x->has_failed |= got != LOOKUP_NONE;
    if (got == LOOKUP_FOUND)
        log_warn(x->f->log, "dns_reply_filter: \"%.*s\": unknown action \"%.*s\", expected IGNORE", SPAN_ARG(text),
                 (int)(value.n > 40 ? 40 : value.n), value.p);
    else if (got == LOOKUP_TEMPFAIL)
        log_warn(x->f->log, "dns_reply_filter: %s", e.text);
    return false;
}

static bool keep(void *arg, const struct dns_rr *rr)
{
    struct filtering *x = arg;
    struct buf b = BUF_INIT(TEXT_MAX);
    const char *type = type_name(rr->type);
    if (type == NULL || x->has_failed)
        return type == NULL;
    buf_printf(&b, "%s. %u IN %s ", rr->owner, rr->ttl_s, type);
    put_value(&b, rr);
    bool drop = is_ignored(x, buf_span(&b));
    if (drop)
        log_info(x->f->log, "ignoring DNS RR: %s", buf_cstr(&b));
    buf_free(&b);
    return !drop && !x->has_failed;
}

static bool keep_none(void *arg, const struct dns_rr *rr)
{
    (void)arg;
    (void)rr;
    return false;
}

struct dns_answer *dns_filter_apply(const struct dns_filter *f, struct dns_answer *a)
{
    struct filtering x = { .f = f };
    if (a->status != DNS_OK)
        return dns_answer_ref(a);
    x.a = arena_new(0);
    struct dns_answer *left = dns_answer_select(a, keep, &x, "DNS reply filter drops all results");
    if (x.has_failed) {
        dns_answer_unref(&left);
        left = dns_answer_select(a, keep_none, NULL, "DNS reply filter error");
    }
    arena_free(&x.a);
    return left;
}

/*
 * permit_mx_backup: mail for a domain of which this machine is an MX, but not one of the best (and, with
 * permit_mx_backup_networks, whose best MX hosts are in those networks). A domain without MX has no backup. What cannot be
 * looked up is a doubt: a later rejection becomes a deferral.
 */
#include "common/mail/address.h"
#include "policy/restrict_internal.h"

static void doubt(struct eval *ev, const char *what, const char *cause)
{
    const char *why = arena_printf(ev->a, "Unable to look up mail exchanger %s: %s", what, cause);
    eval_later(ev, &ev->reject, SUBJECT_RECIPIENT, 450, "4.4.4", why);
}

/* Does the host have an address for which `fits` says yes (all: do all of them)? No addresses, or none now, are a doubt. */
static bool any_address(struct eval *ev, struct span host, bool all, bool (*fits)(struct eval *ev, const struct ip_addr *a))
{
    static const enum dns_type types[] = { DNS_A, DNS_AAAA };
    bool any = false, every = true;
    const char *cause = "Name or service not known";
    size_t count = 0;
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        const struct dns_answer *a = eval_dns(ev, host, types[t]);
        if (a == NULL || a->status == DNS_TEMPFAIL || a->status == DNS_INVALID)
            cause = "Temporary failure in name resolution";
        count += a != NULL && a->status == DNS_OK ? a->count : 0;
        for (size_t i = 0; a != NULL && a->status == DNS_OK && i < a->count; i++) {
            struct ip_addr addr = types[t] == DNS_A ? ip_from_v4(a->rr[i].a) : ip_from_v6(a->rr[i].aaaa);
            bool ok = fits(ev, &addr);
            any = any || ok;
            every = every && ok;
        }
    }
    if (count == 0)
        doubt(ev, arena_printf(ev->a, "host %.*s", SPAN_ARG(host)), cause);
    return all ? any && every : any;
}

static bool is_own(struct eval *ev, const struct ip_addr *a)
{
    for (size_t i = 0; i < ev->p->own_addr_count; i++)
        if (ip_eq(&ev->p->own_addrs[i], a))
            return true;
    return false;
}

static bool is_primary(struct eval *ev, const struct ip_addr *a)
{
    char text[IP_TEXT_MAX];
    return policy_match_addr(ev->p, ev->s->svc, "permit_mx_backup_networks", a, span_cstr(ip_print(a, text)),
                             span_of("", 0)) == LOOKUP_FOUND;
}

static bool is_my_host(struct eval *ev, struct span host)
{
    struct err e = ERR_INIT;
    return span_ieq_cstr(host, ev->p->p->myhostname) || policy_is_local_domain(ev->p, host, &e) == LOOKUP_FOUND ||
           any_address(ev, host, false, is_own);
}

static uint16_t best_of(const struct dns_answer *mx)
{
    uint16_t best = UINT16_MAX;
    for (size_t i = 0; i < mx->count; i++)
        best = mx->rr[i].mx.pref < best ? mx->rr[i].mx.pref : best;
    return best;
}

/* One of the hosts, but none of the best. */
static bool am_backup(struct eval *ev, const struct dns_answer *mx)
{
    uint16_t best = best_of(mx), mine = UINT16_MAX;
    bool found = false;
    for (size_t i = 0; i < mx->count; i++) {
        if (!is_my_host(ev, span_cstr(mx->rr[i].mx.host)))
            continue;
        found = true;
        mine = mx->rr[i].mx.pref < mine ? mx->rr[i].mx.pref : mine;
    }
    return found && mine != best;
}

/* The hosts of the best preference; all of their addresses. */
static bool primaries_fit(struct eval *ev, const struct dns_answer *mx)
{
    uint16_t best = best_of(mx);
    for (size_t i = 0; i < mx->count; i++)
        if (mx->rr[i].mx.pref == best && !any_address(ev, span_cstr(mx->rr[i].mx.host), true, is_primary))
            return false;
    return true;
}

STEP_FN(step_permit_mx_backup)
{
    struct span local, domain;
    const struct route *r = ev->route;
    (void)s;
    if (r == NULL || r->is_bad_address)
        return ANSWER_DUNNO;
    if (eval_auth_destination(ev) == ANSWER_PERMIT)
        return ANSWER_PERMIT;
    if ((r->is_routed && !ev->s->p->allow_untrusted_routing) || !addr_split(r->recipient, &local, &domain) || domain.p[0] == '[')
        return ANSWER_DUNNO;
    const struct dns_answer *mx = eval_dns(ev, domain, DNS_MX);
    if (mx == NULL || (mx->status == DNS_OK && (mx->rr[0].mx.host[0] == '\0' || mx->count > EVAL_SERVERS_MAX)))
        return ANSWER_DUNNO;
    if (mx->status == DNS_NODATA || mx->status == DNS_NXDOMAIN)
        return ANSWER_DUNNO;
    if (mx->status != DNS_OK) {
        doubt(ev, "information", mx->why);
        return ANSWER_DUNNO;
    }
    bool fits = am_backup(ev, mx) && (*ev->s->p->permit_mx_backup_networks == '\0' || primaries_fit(ev, mx));
    return fits ? ANSWER_PERMIT : ANSWER_DUNNO;
}

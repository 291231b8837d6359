/*
 * permit_mx_backup: mail for a domain of which this machine is an MX (and, with permit_mx_backup_networks, whose best
 * MX hosts are in those networks). What cannot be looked up is a doubt: a later rejection becomes a deferral.
 */
#include "common/mail/address.h"
#include "policy/restrict_internal.h"

static void doubt(struct eval *ev, const char *cause)
{
    const char *why = arena_printf(ev->a, "Unable to look up mail exchanger information: %s", cause);
    eval_later(ev, &ev->reject, SUBJECT_RECIPIENT, 450, "4.4.4", why);
}

#define NOT_FOUND_NOW "Host not found, try again"

enum mine { MINE_NO, MINE_YES, MINE_UNKNOWN };

/* Does the host have an address for which `fits` says yes (all: do all of them)? */
static enum mine any_address(struct eval *ev, struct span host, bool all, bool (*fits)(struct eval *ev, const struct ip_addr *a))
{
    static const enum dns_type types[] = { DNS_A, DNS_AAAA };
    bool any = false, every = true, unknown = false;
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        const struct dns_answer *a = eval_dns(ev, host, types[t]);
        unknown = unknown || a == NULL || a->status == DNS_TEMPFAIL || a->status == DNS_INVALID;
        for (size_t i = 0; a != NULL && a->status == DNS_OK && i < a->count; i++) {
            struct ip_addr addr = types[t] == DNS_A ? ip_from_v4(a->rr[i].a) : ip_from_v6(a->rr[i].aaaa);
            bool ok = fits(ev, &addr);
            any = any || ok;
            every = every && ok;
        }
    }
    if (all ? !every : any)
        return all ? MINE_NO : MINE_YES;
    return unknown ? MINE_UNKNOWN : any ? MINE_YES : MINE_NO;
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

static enum mine is_my_host(struct eval *ev, struct span host)
{
    struct err e = ERR_INIT;
    if (span_ieq_cstr(host, ev->p->p->myhostname) || policy_is_local_domain(ev->p, host, &e) == LOOKUP_FOUND)
        return MINE_YES;
    return any_address(ev, host, false, is_own);
}

static enum mine am_among(struct eval *ev, const struct dns_answer *mx)
{
    enum mine got = MINE_NO;
    for (size_t i = 0; i < mx->count && got != MINE_YES; i++) {
        enum mine one = is_my_host(ev, span_cstr(mx->rr[i].mx.host));
        got = one == MINE_NO ? got : one;
    }
    return got;
}

/* The hosts of the best preference; all of their addresses. */
static enum mine primaries_fit(struct eval *ev, const struct dns_answer *mx)
{
    uint16_t best = UINT16_MAX;
    enum mine got = MINE_YES;
    for (size_t i = 0; i < mx->count; i++)
        best = mx->rr[i].mx.pref < best ? mx->rr[i].mx.pref : best;
    for (size_t i = 0; i < mx->count && got != MINE_NO; i++) {
        if (mx->rr[i].mx.pref != best)
            continue;
        enum mine one = any_address(ev, span_cstr(mx->rr[i].mx.host), true, is_primary);
        got = one == MINE_YES ? got : one;
    }
    return got;
}

static enum answer answer_of(struct eval *ev, enum mine m, const char *cause)
{
    if (m == MINE_UNKNOWN)
        doubt(ev, cause);
    return m == MINE_YES ? ANSWER_PERMIT : ANSWER_DUNNO;
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
        return answer_of(ev, any_address(ev, domain, false, is_own), NOT_FOUND_NOW);
    if (mx->status != DNS_OK)
        return answer_of(ev, MINE_UNKNOWN, mx->why);
    enum mine got = am_among(ev, mx);
    if (got == MINE_YES && *ev->s->p->permit_mx_backup_networks != '\0')
        got = primaries_fit(ev, mx);
    return answer_of(ev, got, NOT_FOUND_NOW);
}

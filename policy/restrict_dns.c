/*
 * Restrictions that ask whether a name exists: HELO, sender domain, recipient domain.
 *
 * Mail for a domain can be delivered when it has an MX that is not the null MX (RFC 7505), or an address. What cannot be
 * looked up now is deferred at the end, unless something rejects first (*_tempfail_action).
 */
#include "common/mail/address.h"
#include "policy/restrict_internal.h"

const struct dns_answer *eval_dns(struct eval *ev, struct span name, enum dns_type type)
{
    const struct dns_answer *a = policy_answers_get(ev->c->answers, name, type);
    if (a == NULL)
        ev->is_waiting = true;
    else if (ev->c->trace != NULL)
        policy_trace_dns(ev->c->trace, name, type, a);
    return a;
}

enum found { FOUND_YES, FOUND_NO, FOUND_NULL_MX, FOUND_BROKEN, FOUND_LATER, FOUND_WAIT };

/* The best of what is known: a record found wins, a doubt is stronger than a no. */
static enum found merge(enum found have, const struct dns_answer *a)
{
    if (a == NULL)
        return FOUND_WAIT;
    switch (a->status) {
    case DNS_OK:
        return FOUND_YES;
    case DNS_TEMPFAIL:
        return FOUND_LATER;
    case DNS_INVALID:
        return have == FOUND_LATER ? have : FOUND_BROKEN;
    case DNS_NODATA:
    case DNS_NXDOMAIN:
        break;
    }
    return have;
}

static bool is_null_mx(const struct dns_answer *a)
{
    return a->status == DNS_OK && a->count == 1 && a->rr[0].mx.host[0] == '\0';
}

/* Types are asked one after the other, as long as none has an answer that decides. */
static enum found find_any(struct eval *ev, struct span name, const enum dns_type *types, size_t n)
{
    enum found f = FOUND_NO;
    for (size_t i = 0; i < n; i++) {
        const struct dns_answer *a = eval_dns(ev, name, types[i]);
        if (a != NULL && types[i] == DNS_MX && is_null_mx(a))
            return FOUND_NULL_MX;
        f = merge(f, a);
        if (f == FOUND_YES || f == FOUND_WAIT)
            return f;
    }
    return f;
}

/* reject_unknown_*: what the domain's mail exchanger or address being there means. */
static enum answer unknown_domain(struct eval *ev, enum subject_kind k, struct span domain)
{
    static const enum dns_type types[] = { DNS_MX, DNS_A, DNS_AAAA };
    const struct params *p = ev->s->p;
    const char *null_mx;
    switch (find_any(ev, domain, types, ARRAY_LEN(types))) {
    case FOUND_YES:
    case FOUND_WAIT:
        break;
    case FOUND_NULL_MX:
        null_mx = arena_printf(ev->a, "Domain %.*s does not accept mail (nullMX)", SPAN_ARG(domain));
        return k == SUBJECT_RECIPIENT ? eval_reject_why(ev, k, 556, "5.1.10", null_mx)
                                      : eval_reject_why(ev, k, 550, "5.7.27", null_mx);
    case FOUND_NO:
        return eval_reject_why(ev, k, (int)p->unknown_address_reject_code, "4.1.8", "Domain not found");
    case FOUND_BROKEN:
        return eval_reject_why(ev, k, (int)p->unknown_address_reject_code, "4.1.8", "Malformed DNS server reply");
    case FOUND_LATER:
        return eval_doubt(ev, p->unknown_address_tempfail_action, k, "4.1.8", "Domain not found");
    }
    return ANSWER_DUNNO;
}

static bool is_literal(struct span domain)
{
    return domain.n > 1 && domain.p[0] == '[' && domain.p[domain.n - 1] == ']';
}

/* A domain that this hub answers for needs no DNS. */
static enum answer unknown_address(struct eval *ev, enum subject_kind k, struct span address, const struct route *r)
{
    struct span local, domain;
    if (r->cls == ROUTE_LOCAL || r->cls == ROUTE_VIRTUAL_ALIAS || r->cls == ROUTE_VIRTUAL_MAILBOX)
        return ANSWER_DUNNO;
    if (!addr_split(r->recipient.n > 0 ? r->recipient : address, &local, &domain) || is_literal(domain))
        return ANSWER_DUNNO;
    return unknown_domain(ev, k, domain);
}

STEP_FN(step_reject_unknown_sender_domain)
{
    (void)s;
    struct route r;
    struct err e = ERR_INIT;
    if (ev->c->sender.n == 0)
        return ANSWER_DUNNO;
    if (route_resolve_for(ev->p, ev->s->svc, span_of(NULL, 0), ev->c->sender, ev->a, &r, &e) != LOOKUP_FOUND)
        return eval_tempfail(ev, ev->c->sender, &e);
    return unknown_address(ev, SUBJECT_SENDER, ev->c->sender, &r);
}

STEP_FN(step_reject_unknown_recipient_domain)
{
    (void)s;
    return ev->route == NULL ? ANSWER_DUNNO : unknown_address(ev, SUBJECT_RECIPIENT, ev->c->recipient, ev->route);
}

STEP_FN(step_reject_unknown_helo)
{
    static const enum dns_type types[] = { DNS_A, DNS_AAAA, DNS_MX };
    const struct params *p = ev->s->p;
    struct span name = ev->c->helo;
    (void)s;
    if (name.n == 0)
        return ANSWER_DUNNO;
    if (name.p[0] == '[')
        return step_reject_invalid_helo(ev, s);
    switch (find_any(ev, name, types, ARRAY_LEN(types))) {
    case FOUND_YES:
    case FOUND_NULL_MX:
    case FOUND_WAIT:
        break;
    case FOUND_NO:
        return eval_reject_why(ev, SUBJECT_HELO, (int)p->unknown_hostname_reject_code, "4.7.1", "Host not found");
    case FOUND_BROKEN:
        return eval_reject_why(ev, SUBJECT_HELO, (int)p->unknown_hostname_reject_code, "4.7.1", "Malformed DNS server reply");
    case FOUND_LATER:
        return eval_doubt(ev, p->unknown_helo_hostname_tempfail_action, SUBJECT_HELO, "4.7.1", "Host not found");
    }
    return ANSWER_DUNNO;
}

/* The restrictions themselves, except access tables. Each is one function; restrict_table.c names them. */
#include "common/base/ascii.h"
#include "common/mail/address.h"
#include "common/mail/smtpreply.h"
#include "policy/restrict_internal.h"

/* ---- generic ---- */

STEP_FN(step_permit)
{
    (void)ev;
    (void)s;
    return ANSWER_PERMIT;
}

STEP_FN(step_reject)
{
    (void)s;
    return eval_reject_why(ev, eval_list_subject(ev), (int)ev->s->p->reject_code, "5.7.1", "Access denied");
}

STEP_FN(step_defer)
{
    (void)s;
    return eval_reject_why(ev, eval_list_subject(ev), (int)ev->s->p->defer_code, "4.3.2", "Try again later");
}

STEP_FN(step_defer_if_permit)
{
    (void)s;
    eval_later(ev, &ev->permit, eval_list_subject(ev), 450, "4.7.0", "defer_if_permit requested");
    return ANSWER_DUNNO;
}

STEP_FN(step_defer_if_reject)
{
    (void)s;
    eval_later(ev, &ev->reject, eval_list_subject(ev), 450, "4.7.0", "defer_if_reject requested");
    return ANSWER_DUNNO;
}

STEP_FN(step_reject_pipelining)
{
    (void)s;
    if (!ev->c->is_pipelining_early)
        return ANSWER_DUNNO;
    return eval_reject_why(ev, eval_list_subject(ev), 503, "5.5.0", "Improper use of SMTP command pipelining");
}

/* Mail without a sender is for one: the recipient being asked about would be the second. */
STEP_FN(step_reject_multi_bounce)
{
    (void)s;
    bool is_counted = ev->stage != STAGE_RCPT && ev->stage != STAGE_VRFY;
    if (ev->c->sender.n > 0 || ev->c->rcpt_count <= (is_counted ? 1u : 0u))
        return ANSWER_DUNNO;
    return eval_reject_why(ev, eval_list_subject(ev), (int)ev->s->p->multi_recipient_bounce_reject_code, "5.5.3", "Multi-recipient bounce");
}

STEP_FN(step_sleep)
{
    if (s->ms == 0 || ev->is_waiting || policy_answers_has_slept(ev->c->answers, ev->sleeps++, s->ms))
        return ANSWER_DUNNO;
    ev->is_waiting = true;
    return ANSWER_REJECT; /* nothing behind it is evaluated before its time */
}

/* ---- client ---- */

STEP_FN(step_permit_inet_interfaces)
{
    (void)s;
    for (size_t i = 0; i < ev->p->inet_addr_count; i++) {
        if (ip_eq(&ev->p->own_addrs[i], &ev->c->addr))
            return ANSWER_PERMIT;
    }
    return ANSWER_DUNNO;
}

STEP_FN(step_permit_mynetworks)
{
    (void)s;
    struct err e = ERR_INIT;
    enum lookup got = match_list_host(ev->s->mynetworks, ev->c->name, &ev->c->addr, ev->c->addr_text, &e);
    if (got == LOOKUP_TEMPFAIL)
        return eval_tempfail(ev, eval_subject_name(ev, SUBJECT_CLIENT), &e);
    return got == LOOKUP_FOUND ? ANSWER_PERMIT : ANSWER_DUNNO;
}

STEP_FN(step_permit_sasl)
{
    (void)s;
    return ev->c->sasl_user.n > 0 ? ANSWER_PERMIT : ANSWER_DUNNO;
}

static bool is_unknown(struct span name)
{
    return name.n == 0 || span_ieq_cstr(name, "unknown");
}

static int unknown_client_code(const struct eval *ev, bool is_tempfail)
{
    return is_tempfail ? 450 : (int)ev->s->p->unknown_client_reject_code;
}

STEP_FN(step_reject_unknown_client)
{
    (void)s;
    if (!is_unknown(ev->c->name))
        return ANSWER_DUNNO;
    return eval_reject(ev, SUBJECT_CLIENT, unknown_client_code(ev, ev->c->is_name_tempfail), "4.7.25",
                       "Client host rejected: cannot find your hostname, [%.*s]", SPAN_ARG(ev->c->addr_text));
}

STEP_FN(step_reject_unknown_reverse)
{
    (void)s;
    if (!is_unknown(ev->c->reverse_name))
        return ANSWER_DUNNO;
    return eval_reject(ev, SUBJECT_CLIENT, unknown_client_code(ev, ev->c->is_reverse_tempfail), "4.7.1",
                       "Client host rejected: cannot find your reverse hostname, [%.*s]", SPAN_ARG(ev->c->addr_text));
}

/* There is a name for the address, but it does not lead back to it. */
STEP_FN(step_reject_unknown_forward)
{
    (void)s;
    if (!is_unknown(ev->c->name) || is_unknown(ev->c->reverse_name))
        return ANSWER_DUNNO;
    return eval_reject(ev, SUBJECT_CLIENT, (int)ev->s->p->unknown_client_reject_code, "4.7.25",
                       "Client host rejected: cannot verify your hostname, [%.*s]", SPAN_ARG(ev->c->addr_text));
}

/* ---- HELO ---- */

static bool is_address_form(struct span name)
{
    struct ip_addr ip;
    return ip_parse(name, &ip);
}

static struct span without_dot(struct span name)
{
    if (name.n > 1 && name.p[name.n - 1] == '.')
        name.n--;
    return name;
}

static bool is_literal(struct span name)
{
    return name.n > 0 && name.p[0] == '[';
}

STEP_FN(step_reject_invalid_helo)
{
    (void)s;
    struct span name = without_dot(ev->c->helo);
    if (ev->c->helo.n == 0)
        return ANSWER_DUNNO;
    bool ok = is_literal(name) ? addr_literal_is_valid(name)
                               : addr_domain_is_valid(name, true, false) || is_address_form(name);
    if (ok)
        return ANSWER_DUNNO;
    return eval_reject_why(ev, SUBJECT_HELO, (int)ev->s->p->invalid_hostname_reject_code, "5.5.2",
                           is_literal(name) ? "invalid ip address" : "Invalid name");
}

STEP_FN(step_reject_non_fqdn_helo)
{
    (void)s;
    struct span name = without_dot(ev->c->helo);
    if (ev->c->helo.n == 0)
        return ANSWER_DUNNO;
    if (is_literal(name))
        return step_reject_invalid_helo(ev, s);
    if (addr_domain_is_valid(name, true, false) && span_find(name, '.') >= 0)
        return ANSWER_DUNNO;
    return eval_reject_why(ev, SUBJECT_HELO, (int)ev->s->p->non_fqdn_reject_code, "5.5.2",
                           "need fully-qualified hostname");
}

/* HELO 1.2.3.4: an address that is one is welcome. */
STEP_FN(step_permit_naked_ip)
{
    (void)s;
    struct span name = ev->c->helo;
    for (size_t i = 0; i < name.n; i++)
        if (!ascii_is_digit(name.p[i]) && name.p[i] != '.' && name.p[i] != ':')
            return ANSWER_DUNNO;
    struct ip_addr ip;
    if (name.n == 0)
        return ANSWER_DUNNO;
    if (ip_parse(name, &ip) && ip.family == IP_V4) /* one of IPv6 would have to say so, in brackets */
        return ANSWER_PERMIT;
    return eval_reject_why(ev, SUBJECT_HELO, (int)ev->s->p->invalid_hostname_reject_code, "5.5.2", "invalid ip address");
}

/* ---- addresses ---- */

static bool is_fqdn_address(struct span addr)
{
    struct span local, domain;
    if (!addr_split(addr, &local, &domain))
        return false;
    if (is_literal(domain))
        return true;
    domain = without_dot(domain);
    return span_find(domain, '.') >= 0 && addr_domain_is_valid(domain, true, false);
}

STEP_FN(step_reject_non_fqdn_sender)
{
    (void)s;
    if (ev->c->sender.n == 0 || is_fqdn_address(eval_sender_given(ev)))
        return ANSWER_DUNNO;
    return eval_reject_why(ev, SUBJECT_SENDER, (int)ev->s->p->non_fqdn_reject_code, "5.5.2", "need fully-qualified address");
}

STEP_FN(step_reject_non_fqdn_recipient)
{
    (void)s;
    if (ev->stage == STAGE_ETRN || ev->c->recipient.n == 0 || is_fqdn_address(ev->c->recipient) || span_ieq_cstr(ev->c->recipient, "postmaster"))
        return ANSWER_DUNNO;
    return eval_reject_why(ev, SUBJECT_RECIPIENT, (int)ev->s->p->non_fqdn_reject_code, "5.5.2",
                           "need fully-qualified address");
}

static int64_t unknown_code(const struct params *v, enum route_class cls)
{
    switch (cls) {
    case ROUTE_LOCAL:
        return v->unknown_local_recipient_reject_code;
    case ROUTE_VIRTUAL_ALIAS:
        return v->unknown_virtual_alias_reject_code;
    case ROUTE_VIRTUAL_MAILBOX:
        return v->unknown_virtual_mailbox_reject_code;
    case ROUTE_RELAY:
    case ROUTE_DEFAULT:
        break;
    }
    return v->unknown_relay_recipient_reject_code;
}

/* "5.1.2 text" of an error: or retry: next hop. */
static enum answer reject_by_transport(struct eval *ev, enum subject_kind k, int code, const struct route *r)
{
    struct span text = span_trim(r->nexthop);
    size_t n = dsn_code_length(text);
    char *dsn = n > 0 ? arena_strndup(ev->a, text.p, n) : arena_strdup(ev->a, code >= 500 ? "5.1.1" : "4.1.1");
    text = span_trim(span_from(text, n));
    if (text.n == 0)
        text = code >= 500 ? SPAN_LIT("mail to this address is not accepted") : SPAN_LIT("mail to this address is deferred");
    return eval_reject_why(ev, k, code, dsn, arena_strndup(ev->a, text.p, text.n));
}

static enum answer reject_unlisted(struct eval *ev, enum subject_kind k, const struct route *r)
{
    const struct params *v = ev->s->p;
    struct err e = ERR_INIT;
    if (r->validity_error != NULL) {
        err_set(&e, "%s", r->validity_error);
        return eval_tempfail(ev, eval_subject_name(ev, k), &e);
    }
    bool is_routed = !r->is_mapped && r->cls != ROUTE_VIRTUAL_ALIAS;
    if (is_routed && span_ieq_cstr(r->transport, "error")) /* whoever the tables of the class know */
        return reject_by_transport(ev, k, 550, r);
    if (is_routed && span_ieq_cstr(r->transport, "retry"))
        return reject_by_transport(ev, k, 450, r);
    if (r->is_unknown_user) {
        const char *why = "User unknown";
        if (v->show_user_unknown_table_name)
            why = arena_printf(ev->a, "User unknown in %s%s table", r->unknown_table,
                               r->cls == ROUTE_LOCAL || r->cls == ROUTE_RELAY ? " recipient" : "");
        return eval_reject_why(ev, k, (int)unknown_code(v, r->cls), k == SUBJECT_SENDER && r->cls != ROUTE_VIRTUAL_ALIAS ? "5.1.0" : "5.1.1", why);
    }
    return ANSWER_DUNNO;
}

STEP_FN(step_reject_unlisted_recipient)
{
    (void)s;
    if (ev->route == NULL)
        return ANSWER_DUNNO;
    if (!ev->warn_only)
        ev->recipient_checked = true;
    return reject_unlisted(ev, SUBJECT_RECIPIENT, ev->route);
}

STEP_FN(step_reject_unlisted_sender)
{
    (void)s;
    struct route r;
    struct err e = ERR_INIT;
    if (ev->c->sender.n == 0)
        return ANSWER_DUNNO;
    if (!ev->warn_only)
        ev->sender_checked = true;
    if (route_resolve_for(ev->p, ev->s->svc, span_of(NULL, 0), ev->c->sender, ev->a, &r, &e) != LOOKUP_FOUND)
        return eval_tempfail(ev, ev->c->sender, &e);
    return reject_unlisted(ev, SUBJECT_SENDER, &r);
}

/* ---- relay control ---- */

enum answer eval_auth_destination(struct eval *ev)
{
    const struct route *r = ev->route;
    if (r == NULL || r->is_bad_address)
        return ANSWER_DUNNO;
    if (r->is_postmaster)
        return ANSWER_PERMIT;
    if (r->is_routed && !ev->s->p->allow_untrusted_routing)
        return ANSWER_DUNNO;
    return r->cls != ROUTE_DEFAULT ? ANSWER_PERMIT : ANSWER_DUNNO;
}

STEP_FN(step_permit_auth_destination)
{
    (void)s;
    return eval_auth_destination(ev);
}

static enum answer deny_relay(struct eval *ev, int code, const char *dsn)
{
    if (ev->route == NULL || eval_auth_destination(ev) == ANSWER_PERMIT)
        return ANSWER_DUNNO;
    struct span name = eval_subject_name(ev, SUBJECT_RECIPIENT);
    return eval_reject(ev, SUBJECT_RECIPIENT, code, dsn, "<%.*s>: Relay access denied", SPAN_ARG(name));
}

STEP_FN(step_reject_unauth_destination)
{
    (void)s;
    return deny_relay(ev, (int)ev->s->p->relay_domains_reject_code, "5.7.1");
}

/* The old one: a client whose name is in relay_domains may relay, and what is not refused is permitted. */
STEP_FN(step_check_relay_domains)
{
    (void)s;
    struct err e = ERR_INIT;
    if (ev->route == NULL)
        return ANSWER_DUNNO;
    enum lookup got = match_list_name(ev->p->relay_domains, ev->c->name, &e);
    if (got == LOOKUP_TEMPFAIL)
        return eval_tempfail(ev, ev->c->recipient, &e);
    if (got == LOOKUP_FOUND || eval_auth_destination(ev) == ANSWER_PERMIT)
        return ANSWER_PERMIT;
    return eval_reject_why(ev, SUBJECT_RECIPIENT, (int)ev->s->p->relay_domains_reject_code, "5.7.1", "Relay access denied");
}

STEP_FN(step_defer_unauth_destination)
{
    (void)s;
    return deny_relay(ev, (int)ev->s->p->relay_domains_reject_code - 100, "4.7.1");
}

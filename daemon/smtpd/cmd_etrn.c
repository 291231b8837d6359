/*
 * ETRN: the mail that waits for a domain is tried now. RFC 1985; fast_flush_domains says for which domains.
 *
 * Postfix keeps a list of queue IDs for each such domain. Here the scheduler knows what waits for a next hop, so that is what is
 * flushed: the domain itself, and where the domain's mail would go now (a transport or relayhost may name another place).
 * Replies have no enhanced codes (reference/behaviours.md 10).
 */
#include "daemon/smtpd/smtpd_internal.h"

/* "@domain" and "#queue" are what RFC 1985 has for more than a domain; the sign is ignored, as Postfix does. False: replied. */
static bool parse(struct smtpd_sess *S, struct span arg, struct span *domain)
{
    if (arg.n == 0 || span_find(arg, ' ') >= 0) {
        smtpd_reply(S, 500, "", "Syntax: ETRN domain");
        return false;
    }
    *domain = arg;
    if (arg.p[0] == '@' || arg.p[0] == '#')
        *domain = span_from(arg, 1);
    if (addr_domain_is_valid(*domain, S->p->smtputf8_enable, false) || addr_literal_is_valid(*domain))
        return true;
    smtpd_reply(S, 501, "", "Error: invalid parameter syntax");
    return false;
}

static void flush(struct smtpd_sess *S, struct span domain)
{
    struct route route;
    struct err e = ERR_INIT;
    struct arena *a = smtpd_scratch(S);
    struct span rcpt = span_cstr(arena_printf(a, "postmaster@%.*s", SPAN_ARG(domain)));
    S->env->flush(S->env->flush_arg, domain);
    if (route_resolve_for(S->svc->policy, S->svc->svc, SPAN_LIT(""), rcpt, a, &route, &e) == LOOKUP_FOUND && route.nexthop.n > 0 &&
        !span_ieq(route.nexthop, domain))
        S->env->flush(S->env->flush_arg, route.nexthop);
}

enum cmd_result smtpd_cmd_ETRN(struct smtpd_sess *S, struct span arg)
{
    struct policy_client c;
    struct span domain;
    struct err e = ERR_INIT;
    if (S->helo == NULL && S->p->smtpd_helo_required) {
        smtpd_reply(S, 503, "", "Error: send HELO/EHLO first");
        return CMD_ERROR;
    }
    if (S->tx != NULL) {
        smtpd_reply(S, 503, "", "Error: MAIL transaction in progress");
        return CMD_ERROR;
    }
    if (!parse(S, arg, &domain))
        return CMD_ERROR;
    smtpd_policy_client(S, &c);
    c.recipient = domain;
    if (!smtpd_policy_ok(S, STAGE_ETRN, "ETRN", &c, SPAN_LIT("")))
        return CMD_ERROR;
    switch (policy_is_fast_flush(S->svc->policy, domain, &e)) {
    case LOOKUP_NONE:
        log_line(&S->log, LOG_LV_WARNING, "reject: ETRN %.100s... from %s", arena_strndup(smtpd_scratch(S), domain.p, domain.n), S->namaddr);
        smtpd_reply(S, 459, "", "<%.*s>: service unavailable", SPAN_ARG(domain));
        return CMD_ERROR;
    case LOOKUP_TEMPFAIL:
        log_line(&S->log, LOG_LV_WARNING, "fast_flush_domains: %s", e.text);
        smtpd_reply(S, 458, "", "Unable to queue messages");
        return CMD_ERROR;
    case LOOKUP_FOUND:
        break;
    }
    if (S->env->flush == NULL) { /* sendmail -bs */
        smtpd_reply(S, 458, "", "Unable to queue messages");
        return CMD_ERROR;
    }
    flush(S, domain);
    smtpd_reply(S, 250, "", "Queuing started");
    return CMD_OK;
}

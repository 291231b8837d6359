/*
 * smtpd_client_*_limit: who is counted, who is exempt, and what a client is told that passed a limit. Accounts (SASL user names)
 * and sender domains have limits of their own; those of accounts hold for exempt clients too, because a stolen password
 * is mostly used from somewhere that is trusted with it.
 *
 * A session is counted when it begins (polling thread), and judged when its name is known: a client may be exempt by name.
 */
#include "daemon/smtpd/smtpd_internal.h"

static bool has_client_limits(const struct params *p)
{
    return p->smtpd_client_connection_count_limit > 0 || p->smtpd_client_connection_rate_limit > 0 ||
           p->smtpd_client_message_rate_limit > 0 || p->smtpd_client_recipient_rate_limit > 0 ||
           p->sender_domain_message_rate_limit > 0 || p->sender_domain_recipient_rate_limit > 0;
}

static bool has_rate_limits(const struct params *p)
{
    return p->smtpd_client_connection_rate_limit > 0 || p->smtpd_client_message_rate_limit > 0 ||
           p->smtpd_client_recipient_rate_limit > 0;
}

static struct count_who client_of(const struct smtpd_sess *S)
{
    return count_client(S->svc->number, S->svc->svc->name, &S->s.peer, (unsigned)S->p->smtpd_client_ipv4_prefix_length,
                        (unsigned)S->p->smtpd_client_ipv6_prefix_length);
}

/* Whoever may say XCLIENT speaks for many: those are counted, once they have been named. */
static bool is_exempt(struct smtpd_sess *S, const char *name)
{
    char addr[IP_TEXT_MAX];
    if (smtpd_may_xclient(S) == LOOKUP_FOUND)
        return true;
    return policy_match_addr(S->svc->policy, S->svc->svc, "smtpd_client_event_limit_exceptions", &S->s.peer,
                             span_cstr(ip_print(&S->s.peer, addr)), span_cstr(name)) == LOOKUP_FOUND;
}

static void is_named(struct smtpd_sess *S, bool exempt)
{
    if (S->is_unnamed) {
        struct count_who w = client_of(S);
        client_is_named(S->env->clients, &w, exempt);
    }
    S->is_unnamed = false;
}

void smtpd_client_gone(struct smtpd_sess *S)
{
    is_named(S, true);
    if (S->is_counted) {
        struct count_who w = client_of(S);
        client_disconnect(S->env->clients, &w, has_rate_limits(S->p));
    }
    S->is_counted = false;
    S->has_limits = false;
}

static void refuse_connection(struct smtpd_sess *S, const char *kind, unsigned seen, enum smtpd_limit which, int64_t limit)
{
    char addr[IP_TEXT_MAX];
    smtpd_limit_reached(S, which, limit);
    atomic_fetch_add_explicit(&S->env->counters.limit_refusals, 1, memory_order_relaxed);
    smtpd_reply(S, 421, "4.7.0", "%s Error: too many connections from %s", S->p->myhostname, ip_print(&S->s.peer, addr));
    if (S->namaddr == NULL)
        smtpd_set_name(S, "unknown", "unknown");
    log_line(&S->log, LOG_LV_WARNING, "Connection %s limit exceeded: %u from %s for service %s", kind, seen, S->namaddr,
             S->svc->svc->name);
}

bool smtpd_client_may_enter(struct smtpd_sess *S, bool is_stressed)
{
    int64_t limit = S->p->smtpd_client_connection_count_limit;
    if (S->env->clients == NULL || !has_client_limits(S->p))
        return true;
    struct count_who w = client_of(S);
    struct client_count_now n = client_connect(S->env->clients, &w);
    S->has_limits = true;
    S->is_counted = S->is_unnamed = n.is_counted;
    S->client_connections = n.connections;
    S->client_unnamed = n.unnamed;
    S->client_rate = n.rate;
    if (!is_stressed || limit == 0 || n.connections <= limit || is_exempt(S, "unknown"))
        return true;
    refuse_connection(S, "concurrency", n.connections, SMTPD_LIMIT_CONNECTIONS, limit);
    return false;
}

bool smtpd_client_may_wait(struct smtpd_sess *S)
{
    int64_t limit = S->p->smtpd_client_connection_count_limit;
    if (S->has_limits && (S->out_fd >= 0 || is_exempt(S, "unknown")))
        smtpd_client_gone(S);
    return !S->has_limits || limit == 0 || S->client_connections <= limit || S->client_unnamed <= limit;
}

bool smtpd_client_check(struct smtpd_sess *S)
{
    int64_t count_limit = S->p->smtpd_client_connection_count_limit, rate_limit = S->p->smtpd_client_connection_rate_limit;
    if (S->has_limits && is_exempt(S, S->client_name))
        smtpd_client_gone(S);
    if (!S->has_limits)
        return true;
    is_named(S, false);
    if (count_limit > 0 && S->client_connections > count_limit)
        refuse_connection(S, "concurrency", S->client_connections, SMTPD_LIMIT_CONNECTIONS, count_limit);
    else if (rate_limit > 0 && S->client_rate > rate_limit)
        refuse_connection(S, "rate", S->client_rate, SMTPD_LIMIT_CONNECTION_RATE, rate_limit);
    else
        return true;
    return false;
}

/* ---- rates within a session ---- */

static const struct {
    const char *what;   /* in the log */
    const char *reply;
} events[CLIENT_EVENTS] = {
    [CLIENT_MESSAGE] = { "Message delivery request", "Error: too much mail from" },
    [CLIENT_RCPT] = { "Recipient address", "Error: too many recipients from" },
};

/* True: over the limit, replied. */
static bool is_over(struct smtpd_sess *S, const struct count_who *w, enum client_event ev, enum smtpd_limit which, int64_t limit,
                    const char *log_from, const char *reply_from)
{
    if (limit <= 0)
        return false;
    unsigned n = client_count_event(S->env->clients, w, ev);
    if (n <= limit)
        return false;
    smtpd_limit_reached(S, which, limit);
    atomic_fetch_add_explicit(&S->env->counters.limit_refusals, 1, memory_order_relaxed);
    log_line(&S->log, LOG_LV_WARNING, "%s rate limit exceeded: %u from %s for service %s", events[ev].what, n, log_from,
             S->svc->svc->name);
    smtpd_reply(S, 450, "4.7.1", "%s %s", events[ev].reply, reply_from);
    return true;
}

bool smtpd_client_over_rate(struct smtpd_sess *S, enum client_event ev)
{
    char addr[IP_TEXT_MAX];
    bool is_rcpt = ev == CLIENT_RCPT;
    int64_t limit = is_rcpt ? S->p->smtpd_client_recipient_rate_limit : S->p->smtpd_client_message_rate_limit;
    if (!S->has_limits || S->is_rerun || limit <= 0)
        return false;
    struct count_who w = client_of(S);
    return is_over(S, &w, ev, is_rcpt ? SMTPD_LIMIT_RCPT_RATE : SMTPD_LIMIT_MESSAGE_RATE, limit, S->namaddr,
                   ip_print(&S->s.peer, addr));
}

static bool account_over_rate(struct smtpd_sess *S, enum client_event ev)
{
    bool is_rcpt = ev == CLIENT_RCPT;
    int64_t limit = is_rcpt ? S->p->account_recipient_rate_limit : S->p->account_message_rate_limit;
    if (limit <= 0 || S->login == NULL || S->env->clients == NULL)
        return false;
    struct count_who w = count_text(S->env->clients, COUNT_ACCOUNT, S->svc->number, S->svc->svc->name, span_cstr(S->login));
    const char *from = arena_printf(smtpd_scratch(S), "sasl_username=%s", S->login);
    return is_over(S, &w, ev, is_rcpt ? SMTPD_LIMIT_ACCOUNT_RCPT : SMTPD_LIMIT_ACCOUNT_MESSAGE, limit, from, S->login);
}

static bool domain_over_rate(struct smtpd_sess *S, enum client_event ev, struct span sender)
{
    bool is_rcpt = ev == CLIENT_RCPT;
    int64_t limit = is_rcpt ? S->p->sender_domain_recipient_rate_limit : S->p->sender_domain_message_rate_limit;
    ptrdiff_t at = span_rfind(sender, '@');
    if (limit <= 0 || at < 0 || !S->has_limits)
        return false;
    struct span domain = span_from(sender, (size_t)at + 1);
    struct count_who w = count_text(S->env->clients, COUNT_SENDER_DOMAIN, S->svc->number, S->svc->svc->name, domain);
    const char *text = arena_printf(smtpd_scratch(S), "%.*s", SPAN_ARG(domain));
    const char *from = arena_printf(smtpd_scratch(S), "sender_domain=%s", text);
    return is_over(S, &w, ev, is_rcpt ? SMTPD_LIMIT_DOMAIN_RCPT : SMTPD_LIMIT_DOMAIN_MESSAGE, limit, from, text);
}

bool smtpd_sender_over_rate(struct smtpd_sess *S, enum client_event ev, struct span sender)
{
    return !S->is_rerun && (account_over_rate(S, ev) || domain_over_rate(S, ev, sender));
}

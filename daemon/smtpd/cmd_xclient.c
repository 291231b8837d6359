/*
 * XCLIENT: the session goes on as that of another client. XCLIENT_README of Postfix.
 *
 * All values are checked before the first takes effect. Then the session is as if the other client had just connected: limits,
 * smtpd_client_restrictions and the greeting come again (command.c: wants_greeting). HELO, PROTO and LOGIN hold only when this
 * command gave them; NAME, ADDR, PORT, DESTADDR and DESTPORT stay as an earlier one left them. Whoever has become a client
 * that is not in smtpd_authorized_xclient_hosts cannot go back.
 */
#include "daemon/smtpd/smtpd_internal.h"
#include "daemon/smtpd/xattr.h"

/* ---- who may ---- */

/* Also asked before the client has a name (limits under stress): that answer is not kept. */
static enum lookup look_up(struct smtpd_sess *S, const char *parameter, const char *list, uint8_t *known)
{
    char addr[IP_TEXT_MAX];
    if (*list == '\0' || S->out_fd >= 0)
        return LOOKUP_NONE;
    if (*known != 0)
        return (enum lookup)(*known - 1);
    enum lookup got = policy_match_addr(S->svc->policy, S->svc->svc, parameter, &S->s.peer, span_cstr(ip_print(&S->s.peer, addr)),
                                        span_cstr(S->client_name ? S->client_name : "unknown"));
    if (S->is_connected)
        *known = (uint8_t)(1 + got);
    return got;
}

enum lookup smtpd_may_xclient(struct smtpd_sess *S)
{
    return look_up(S, "smtpd_authorized_xclient_hosts", S->p->smtpd_authorized_xclient_hosts, &S->may_xclient);
}

enum lookup smtpd_may_xforward(struct smtpd_sess *S)
{
    return look_up(S, "smtpd_authorized_xforward_hosts", S->p->smtpd_authorized_xforward_hosts, &S->may_xforward);
}

void smtpd_refuse_unsure(struct smtpd_sess *S, const char *parameter)
{
    log_line(&S->log, LOG_LV_WARNING, "%s: it is not known whether %s is listed: a table failed", parameter, S->namaddr);
    smtpd_reject_text(S, smtpd_state_word(S), SPAN_LIT(""), 421, "4.3.0", "%s Server local data error", S->p->myhostname);
}

/* What XCLIENT and XFORWARD have in common. False: replied. */
bool smtpd_xattr_read(struct smtpd_sess *S, enum xattr_verb verb, struct span arg, struct xattrs *x)
{
    const struct xattr_rules rules = { .verb = verb, .has_v4 = S->svc->has_v4, .has_v6 = S->svc->has_v6 };
    bool is_client = verb == XATTR_XCLIENT;
    struct span why;
    if (S->tx != NULL) {
        smtpd_reply(S, 503, "5.5.1", "Error: MAIL transaction in progress");
        return false;
    }
    bool ok = xattr_parse(&rules, arg, smtpd_scratch(S), x, &why);
    if (ok || arg.n > 0) { /* without arguments the syntax is told first */
        enum lookup may = is_client ? smtpd_may_xclient(S) : smtpd_may_xforward(S);
        if (may == LOOKUP_TEMPFAIL) {
            smtpd_refuse_unsure(S, is_client ? "smtpd_authorized_xclient_hosts" : "smtpd_authorized_xforward_hosts");
            return false;
        }
        if (may == LOOKUP_NONE) {
            smtpd_reply(S, 550, "5.7.0", "Error: insufficient authorization");
            return false;
        }
    }
    if (!ok)
        smtpd_reply(S, 501, "5.5.4", "%.*s", SPAN_ARG(why));
    return ok;
}

/* ---- what it does ---- */

static const char *name_or_unknown(const struct xattrs *x, enum xattr_id id, struct arena *a)
{
    return x->text[id].n > 0 ? arena_strndup(a, x->text[id].p, x->text[id].n) : "unknown";
}

static void take_names(struct smtpd_sess *S, const struct xattrs *x)
{
    struct arena *a = smtpd_scratch(S);
    const char *name = S->client_name, *reverse = S->reverse_name;
    if (xattr_has(x, XATTR_NAME)) {
        name = name_or_unknown(x, XATTR_NAME, a);
        S->is_name_tempfail = (x->tempunavail & 1u << XATTR_NAME) != 0;
        if (x->text[XATTR_NAME].n > 0) { /* a verified name was the PTR's */
            reverse = name;
            S->is_reverse_tempfail = false;
        }
    }
    if (xattr_has(x, XATTR_REVERSE_NAME)) {
        reverse = name_or_unknown(x, XATTR_REVERSE_NAME, a);
        S->is_reverse_tempfail = (x->tempunavail & 1u << XATTR_REVERSE_NAME) != 0;
    }
    smtpd_set_name(S, arena_strdup(a, name), arena_strdup(a, reverse));
}

static void take_addresses(struct smtpd_sess *S, const struct xattrs *x)
{
    if (xattr_has(x, XATTR_ADDR))
        S->s.peer = x->addr[0];
    if (xattr_has(x, XATTR_PORT))
        S->s.peer_port = x->port[0];
    if (xattr_has(x, XATTR_DESTADDR) || xattr_has(x, XATTR_DESTPORT))
        smtpd_know_server(S);
    if (xattr_has(x, XATTR_DESTADDR))
        S->server_addr = x->addr[1];
    if (xattr_has(x, XATTR_DESTPORT))
        S->server_port = x->port[1];
}

static char *copy_or_null(const struct xattrs *x, enum xattr_id id)
{
    return x->text[id].n > 0 ? xstrndup(x->text[id].p, x->text[id].n) : NULL;
}

static void take_session(struct smtpd_sess *S, const struct xattrs *x)
{
    free(S->helo);
    S->helo = copy_or_null(x, XATTR_HELO);
    free(S->login);
    S->login = S->p->smtpd_sasl_auth_enable ? copy_or_null(x, XATTR_LOGIN) : NULL; /* else nobody can have logged in */
    S->is_esmtp = span_ieq_cstr(x->text[XATTR_PROTO], "ESMTP");
}

enum cmd_result smtpd_cmd_XCLIENT(struct smtpd_sess *S, struct span arg)
{
    struct xattrs x;
    if (!smtpd_xattr_read(S, XATTR_XCLIENT, arg, &x))
        return CMD_ERROR;
    (void)smtpd_may_xforward(S); /* that is decided by who really is there */
    smtpd_client_gone(S);
    take_addresses(S, &x);
    take_names(S, &x);
    take_session(S, &x);
    S->may_xclient = 0;
    S->bare_lf_excluded = 0;
    S->ehlo_discard = S->t->ehlo_discard;
    if (S->carry != NULL)
        memset(S->carry, 0, sizeof *S->carry);
    smtpd_forward_forget(S);
    S->wants_greeting = true;
    return CMD_OK;
}

/* RCPT TO. RFC 5321 4.1.1.3, 3461 (NOTIFY, ORCPT), 6533 (utf-8 ORCPT). Relay control and recipient validation are policy's. */
#include "common/mail/xtext.h"
#include "daemon/smtpd/smtpd_internal.h"

static bool take_notify(struct smtpd_sess *S, struct span list, struct rcpt_params *r)
{
    struct span word;
    bool dup = r->notify != 0;
    for (struct span rest = list; !dup && span_next_token(&rest, ",", &word);) {
        if (span_ieq_cstr(word, "NEVER"))
            r->notify |= NOTIFY_NEVER;
        else if (span_ieq_cstr(word, "SUCCESS"))
            r->notify |= NOTIFY_SUCCESS;
        else if (span_ieq_cstr(word, "FAILURE"))
            r->notify |= NOTIFY_FAILURE;
        else if (span_ieq_cstr(word, "DELAY"))
            r->notify |= NOTIFY_DELAY;
        else
            dup = true;
    }
    bool mixed = (r->notify & NOTIFY_NEVER) != 0 && r->notify != NOTIFY_NEVER;
    if (dup || mixed || r->notify == 0) {
        smtpd_reply(S, 501, "5.5.4", "Error: Bad NOTIFY parameter syntax");
        return false;
    }
    return true;
}

/* "rfc822;joe+40example.com" or "utf-8;j\x{F6}@example.com" */
static bool decode_orcpt(struct smtpd_sess *S, struct span v, struct span *out)
{
    struct arena *a = smtpd_scratch(S);
    struct span text, addr;
    ptrdiff_t semi = span_find(v, ';');
    if (semi < 1)
        return false;
    struct span type = span_of(v.p, (size_t)semi);
    bool utf8 = span_ieq_cstr(type, "utf-8");
    for (size_t i = 0; i < type.n; i++)
        if (!ascii_is_alnum(type.p[i]) && type.p[i] != '-')
            return false;
    if (!xtext_decode(span_from(v, (size_t)semi + 1), utf8 && S->tx->is_smtputf8, a, &text))
        return false;
    addr = text;
    if (utf8 && (!xtext_decode_unitext(text, a, &addr) || !utf8_is_valid(addr)))
        return false;
    for (size_t i = 0; i < addr.n; i++)
        if ((unsigned char)addr.p[i] < 32 || addr.p[i] == 127)
            return false;
    *out = span_cstr(arena_printf(a, "%.*s;%.*s", SPAN_ARG(type), SPAN_ARG(addr)));
    return true;
}

static bool take_param(struct smtpd_sess *S, struct span name, struct span value, bool has_value, struct rcpt_params *r)
{
    bool has_dsn = (S->ehlo_discard & 1u << EHLO_DSN) == 0;
    bool is_notify = span_ieq_cstr(name, "NOTIFY") && has_value, is_orcpt = span_ieq_cstr(name, "ORCPT") && has_value;
    if (!has_dsn && (is_notify || is_orcpt)) {
        smtpd_reply(S, 501, "5.7.1", "DSN support is disabled");
        return false;
    }
    if (is_notify)
        return take_notify(S, value, r);
    if (is_orcpt) {
        if (r->has_orcpt || !decode_orcpt(S, value, &r->orcpt)) {
            smtpd_reply(S, 501, "5.5.4", "Error: Bad ORCPT parameter syntax");
            return false;
        }
        r->has_orcpt = true;
        return true;
    }
    size_t n = name.n + (has_value ? value.n + 1 : 0);
    smtpd_reply(S, 555, "5.5.4", "Unsupported option: %.*s", SPAN_ARG(span_of(name.p, n)));
    return false;
}

/* A recipient that is one too many: within the overshoot not yet an error. */
static enum cmd_result overshoot(struct smtpd_sess *S)
{
    return S->tx->overshoot++ < (unsigned)S->p->smtpd_recipient_overshoot_limit ? CMD_OK : CMD_ERROR;
}

/* One more recipient fits, else replied. */
static bool has_room(struct smtpd_sess *S, enum cmd_result *res)
{
    if (S->tx->accepted < (unsigned)S->p->smtpd_recipient_limit)
        return true;
    smtpd_limit_reached(S, SMTPD_LIMIT_RECIPIENTS, S->p->smtpd_recipient_limit);
    smtpd_reply(S, 452, "4.5.3", "Error: too many recipients");
    *res = overshoot(S);
    return false;
}

/* Within the budget for all sessions, else replied. The array of recipients doubles (msg_add_rcpt). */
static bool has_memory(struct smtpd_sess *S, enum cmd_result *res)
{
    size_t n = S->tx->msg->env.rcpt_count;
    size_t growth = (n & (n - 1)) == 0 ? 2 * n * sizeof(struct msg_rcpt) : 0;
    if (smtpd_may_hold(S, smtpd_envelope_bytes(S) + growth))
        return true;
    smtpd_reply(S, 452, "4.3.1", "Insufficient system storage");
    *res = overshoot(S);
    return false;
}

static void lookup_failed(struct smtpd_sess *S, struct span rcpt, const struct err *e)
{
    log_line(&S->log, LOG_LV_WARNING, "%.*s: lookup failed: %s", SPAN_ARG(rcpt), e->text);
    smtpd_reject_text(S, "RCPT", rcpt, 451, "4.3.0", "<%.*s>: Temporary lookup failure", SPAN_ARG(rcpt));
}

bool smtpd_rcpt_is_welcome(struct smtpd_sess *S, enum policy_stage stage, struct span as_given, const struct addr *addr,
                           struct route *out)
{
    struct policy_client c;
    struct err e = ERR_INIT;
    struct span sender = S->tx ? S->tx->msg->env.sender : SPAN_LIT("");
    if (route_resolve_for(S->svc->policy, S->svc->svc, sender, addr->text, smtpd_scratch(S), out, &e) == LOOKUP_TEMPFAIL) {
        lookup_failed(S, as_given, &e);
        return false;
    }
    smtpd_policy_client(S, &c);
    c.recipient = addr->given; /* as the client said it; route has the address itself */
    c.route = out;
    return smtpd_policy_ok(S, stage, stage == STAGE_VRFY ? "VRFY" : "RCPT", &c, as_given);
}

/* Order of the checks as Postfix has it: state, syntax, rate, limits, policy. */
static bool read_arguments(struct smtpd_sess *S, struct span arg, struct rcpt_ctx *x)
{
    struct path_arg pa;
    struct span name, value;
    bool has_value;
    if (!smtpd_path_split(arg, "TO", &pa)) {
        smtpd_reply(S, 501, "5.5.4", "Syntax: RCPT TO:<address>");
        return false;
    }
    if (smtpd_client_over_rate(S, CLIENT_RCPT) || smtpd_sender_over_rate(S, CLIENT_RCPT, S->tx->msg->env.sender))
        return false;
    if (!smtpd_path_parse(S, pa.path, S->tx->is_smtputf8, "5.1.3", "Bad recipient address syntax", &x->addr))
        return false;
    if (x->addr.text.n == 0) {
        log_line(&S->log, LOG_LV_WARNING, "Illegal address syntax from %s in RCPT command: %.*s", S->namaddr, SPAN_ARG(pa.path));
        smtpd_reply(S, 501, "5.1.3", "Bad recipient address syntax");
        return false;
    }
    for (struct span rest = pa.params; smtpd_param_next(&rest, &name, &value, &has_value);)
        if (!take_param(S, name, value, has_value, &x->params))
            return false;
    return true;
}

enum cmd_result smtpd_cmd_RCPT(struct smtpd_sess *S, struct span arg)
{
    struct rcpt_ctx x = { .params.orcpt = SPAN_LIT("") };
    enum cmd_result res = CMD_ERROR;
    if (S->tx == NULL) {
        smtpd_reply(S, 503, "5.5.1", "Error: need MAIL command");
        return CMD_ERROR;
    }
    if (S->tx->is_bdat) {
        smtpd_reply(S, 503, "5.5.1", "Error: RCPT after BDAT");
        return CMD_ERROR;
    }
    if (!read_arguments(S, arg, &x) || !has_room(S, &res) || !has_memory(S, &res))
        return res;
    x.as_given = addr_quoted(smtpd_scratch(S), x.addr.given);
    if (!smtpd_rcpt_is_welcome(S, STAGE_RCPT, x.as_given, &x.addr, &x.route))
        return CMD_ERROR;
    if (!S->tx->has_qid)
        smtpd_tx_need_qid(S);
    smtpd_map_rcpt(S, &x);
    if (S->tx->accepted++ == 0)
        S->tx->first_rcpt = arena_dup_span(S->tx->msg->arena, x.addr.text);
    smtpd_reply_raw(S, SPAN_LIT("250 2.1.5 Ok\r\n"));
    return CMD_OK;
}

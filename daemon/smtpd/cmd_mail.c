/* MAIL FROM. RFC 5321 4.1.1.2, 1870 (SIZE), 6152 (BODY), 6531 (SMTPUTF8), 3461 (RET, ENVID), 4954 (AUTH=, ignored). */
#include "common/base/clock.h"
#include "common/base/num.h"
#include "common/mail/xtext.h"
#include "daemon/smtpd/smtpd_internal.h"

struct mail_params {
    uint64_t size;
    bool is_8bit, is_utf8, has_ret, has_envid;
    enum dsn_ret ret;
    struct span envid;
};

static bool bad(struct smtpd_sess *S, const char *text)
{
    smtpd_reply(S, 501, "5.5.4", "%s", text);
    return false;
}

static bool take_size(struct smtpd_sess *S, struct span v, struct mail_params *m)
{
    int64_t size = 0;
    for (size_t i = 0; i < v.n; i++)
        if (!ascii_is_digit(v.p[i]))
            return bad(S, "Bad message size syntax");
    if (v.n == 0)
        return bad(S, "Bad message size syntax");
    if (!num_parse(v, 0, INT64_MAX, &size)) {
        smtpd_reply(S, 552, "5.3.4", "Message size exceeds file system imposed limit");
        return false;
    }
    m->size = (uint64_t)size;
    return true;
}

static bool take_ret(struct smtpd_sess *S, struct span v, struct mail_params *m)
{
    if (m->has_ret || !(span_ieq_cstr(v, "FULL") || span_ieq_cstr(v, "HDRS")))
        return bad(S, "Bad RET parameter syntax");
    m->has_ret = true;
    m->ret = span_ieq_cstr(v, "FULL") ? DSN_RET_FULL : DSN_RET_HDRS;
    return true;
}

static bool take_envid(struct smtpd_sess *S, struct span v, struct mail_params *m)
{
    if (m->has_envid || v.n == 0 || v.n > 100 || !xtext_decode(v, false, smtpd_scratch(S), &m->envid))
        return bad(S, "Bad ENVID parameter syntax");
    for (size_t i = 0; i < m->envid.n; i++)
        if (!ascii_is_print(m->envid.p[i]))
            return bad(S, "Bad ENVID parameter syntax");
    m->has_envid = true;
    return true;
}

static bool is_offered(const struct smtpd_sess *S, enum ehlo_keyword k)
{
    return (S->ehlo_discard & 1u << k) == 0;
}

static bool take_param(struct smtpd_sess *S, struct span name, struct span value, bool has_value, struct mail_params *m)
{
    if (span_ieq_cstr(name, "SIZE") && has_value)
        return take_size(S, value, m);
    if (span_ieq_cstr(name, "BODY") && (span_ieq_cstr(value, "8BITMIME") || span_ieq_cstr(value, "7BIT"))) {
        m->is_8bit = value.p[0] == '8';
        return true;
    }
    if (span_ieq_cstr(name, "SMTPUTF8") && !has_value && S->p->smtputf8_enable && is_offered(S, EHLO_SMTPUTF8)) {
        m->is_utf8 = true;
        return true;
    }
    if (span_ieq_cstr(name, "AUTH") && has_value) /* RFC 4954 5: to be ignored where there is no trust */
        return true;
    bool is_ret = span_ieq_cstr(name, "RET") && has_value, is_envid = span_ieq_cstr(name, "ENVID") && has_value;
    if ((is_ret || is_envid) && !is_offered(S, EHLO_DSN)) {
        smtpd_reply(S, 501, "5.7.1", "DSN support is disabled");
        return false;
    }
    if (is_ret || is_envid)
        return is_ret ? take_ret(S, value, m) : take_envid(S, value, m);
    size_t n = name.n + (has_value ? value.n + 1 : 0);
    smtpd_reply(S, 555, "5.5.4", "Unsupported option: %.*s", SPAN_ARG(span_of(name.p, n)));
    return false;
}

/* The address is looked at before the parameters, but this one says how. */
static bool says_utf8(const struct smtpd_sess *S, struct span params)
{
    struct span name, value;
    bool has_value;
    while (S->p->smtputf8_enable && is_offered(S, EHLO_SMTPUTF8) && smtpd_param_next(&params, &name, &value, &has_value))
        if (!has_value && span_ieq_cstr(name, "SMTPUTF8"))
            return true;
    return false;
}

static bool has_room(struct smtpd_sess *S, uint64_t size)
{
    if (S->p->message_size_limit > 0 && size > (uint64_t)S->p->message_size_limit) {
        smtpd_limit_reached(S, SMTPD_LIMIT_SIZE, S->p->message_size_limit);
        smtpd_reject_text(S, "MAIL", SPAN_LIT(""), 552, "5.3.4", "Message size exceeds fixed limit");
        return false;
    }
    if (!spool_has_room(S->env->spool, size)) {
        smtpd_reject_text(S, "MAIL", SPAN_LIT(""), 452, "4.3.1", "Insufficient system storage");
        return false;
    }
    return true;
}

/* False: replied. */
static bool may_begin(struct smtpd_sess *S)
{
    if (S->helo == NULL && S->p->smtpd_helo_required) {
        smtpd_reply(S, 503, "5.5.1", "Error: send HELO/EHLO first");
        return false;
    }
    if (S->tx != NULL) {
        smtpd_reply(S, 503, "5.5.1", "Error: nested MAIL command");
        return false;
    }
    return !smtpd_client_over_rate(S, CLIENT_MESSAGE);
}

/* A sender without a domain is ours; recipients are completed by policy. */
static struct span complete(struct smtpd_sess *S, struct arena *a, const struct addr *from)
{
    if (from->has_domain || from->text.n == 0 || !S->p->append_at_myorigin)
        return arena_dup_span(a, from->text);
    return span_cstr(arena_printf(a, "%.*s@%s", SPAN_ARG(from->text), S->p->myorigin));
}

static void fill_envelope(struct smtpd_sess *S, struct smtpd_tx *tx, const struct addr *from, const struct mail_params *m)
{
    struct envelope *env = &tx->msg->env;
    struct arena *a = tx->msg->arena;
    env->arrival_us = clock_wall_us();
    tx->sender = env->sender = complete(S, a, from);
    tx->sender_given = span_eq(from->given, env->sender) ? env->sender : arena_dup_span(a, from->given);
    env->flags |= (m->is_utf8 ? (uint32_t)ENV_SMTPUTF8 : 0) | (m->is_8bit ? (uint32_t)ENV_8BITMIME : 0);
    env->ret = m->ret;
    env->envid = arena_dup_span(a, m->envid);
    tx->is_smtputf8 = m->is_utf8;
    tx->size_param = m->size;
    tx->mail_arg = addr_quoted(a, tx->sender_given);
}

enum cmd_result smtpd_cmd_MAIL(struct smtpd_sess *S, struct span arg)
{
    struct path_arg pa;
    struct mail_params m = { .envid = SPAN_LIT("") };
    struct addr from;
    struct span name, value;
    bool has_value;
    if (!may_begin(S))
        return CMD_ERROR;
    if (!smtpd_path_split(arg, "FROM", &pa)) {
        smtpd_reply(S, 501, "5.5.4", "Syntax: MAIL FROM:<address>");
        return CMD_ERROR;
    }
    if (!smtpd_path_parse(S, pa.path, says_utf8(S, pa.params), "5.1.7", "Bad sender address syntax", &from))
        return CMD_ERROR;
    for (struct span rest = pa.params; smtpd_param_next(&rest, &name, &value, &has_value);)
        if (!take_param(S, name, value, has_value, &m))
            return CMD_ERROR;
    if (smtpd_sender_over_rate(S, CLIENT_MESSAGE, from.text))
        return CMD_ERROR;
    struct smtpd_tx *tx = smtpd_tx_begin(S);
    fill_envelope(S, tx, &from, &m);
    struct policy_client c;
    smtpd_policy_client(S, &c);
    if (!has_room(S, m.size) || !smtpd_policy_ok(S, STAGE_MAIL, "MAIL", &c, SPAN_LIT(""))) {
        smtpd_tx_drop(S);
        return CMD_ERROR;
    }
    smtpd_map_sender(S);
    if (!S->p->smtpd_delay_open_until_valid_rcpt)
        smtpd_tx_need_qid(S);
    smtpd_reply_raw(S, SPAN_LIT("250 2.1.0 Ok\r\n"));
    return CMD_OK;
}

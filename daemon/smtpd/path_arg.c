/* What MAIL and RCPT have in common: "FROM:<path>" and the parameters behind it. RFC 5321 4.1.2. */
#include "daemon/smtpd/smtpd_internal.h"

bool smtpd_path_split(struct span arg, const char *keyword, struct path_arg *out)
{
    struct span key = span_cstr(keyword);
    if (!span_istarts_with(arg, key))
        return false;
    arg = span_from(arg, key.n);
    if (arg.n == 0 || arg.p[0] != ':')
        return false;
    arg = span_trim(span_from(arg, 1));
    size_t n = addr_path_length(arg);
    if (n == 0)
        return false;
    out->path = span_of(arg.p, n);
    out->params = span_from(arg, n);
    return true;
}

bool smtpd_path_parse(struct smtpd_sess *S, struct span path, bool utf8, const char *bad_dsn, const char *bad_text,
                      struct addr *out)
{
    unsigned flags = 0;
    if (S->p->strict_rfc821_envelopes)
        flags |= ADDR_STRICT;
    if (S->p->resolve_numeric_domain)
        flags |= ADDR_NUMERIC_DOMAIN;
    if (utf8)
        flags |= ADDR_UTF8;
    else if (!S->p->strict_smtputf8 || !S->p->smtputf8_enable)
        flags |= ADDR_ANY_8BIT;
    enum addr_status st = addr_parse(path, flags, smtpd_scratch(S), out);
    if (st == ADDR_OK)
        return true;
    if (st == ADDR_NOT_ASCII && S->p->smtputf8_enable && S->p->strict_smtputf8 && !utf8) {
        smtpd_reply(S, 553, "5.6.7", "Must declare SMTPUTF8 to send unicode address");
        return false;
    }
    log_line(&S->log, LOG_LV_WARNING, "Illegal address syntax from %s in %s command: %.*s", S->namaddr,
             smtpd_command_name((enum cmd_id)S->last_cmd), SPAN_ARG(path));
    smtpd_reply(S, 501, bad_dsn, "%s", bad_text);
    return false;
}

bool smtpd_param_next(struct span *rest, struct span *name, struct span *value, bool *has_value)
{
    struct span item;
    if (!span_next_token(rest, " \t", &item))
        return false;
    ptrdiff_t eq = span_find(item, '=');
    *has_value = eq >= 0;
    *name = eq >= 0 ? span_of(item.p, (size_t)eq) : item;
    *value = eq >= 0 ? span_from(item, (size_t)eq + 1) : span_of("", 0);
    return true;
}

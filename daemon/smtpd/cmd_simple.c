/* Commands of a few lines each: STARTTLS and AUTH, which are not offered, RSET, NOOP, HELP, QUIT, VRFY. RFC 5321 4.1.1. */
#include "daemon/smtpd/smtpd_internal.h"

enum cmd_result smtpd_cmd_STARTTLS(struct smtpd_sess *S, struct span arg)
{
    if (arg.n > 0)
        smtpd_reply(S, 501, "5.5.4", "Syntax: STARTTLS");
    else
        smtpd_reply(S, 502, "5.5.1", "Error: command not implemented");
    return CMD_ERROR;
}

enum cmd_result smtpd_cmd_AUTH(struct smtpd_sess *S, struct span arg)
{
    (void)arg;
    smtpd_reply(S, 503, "5.5.1", S->helo == NULL && S->p->smtpd_helo_required ? "Error: send HELO/EHLO first"
                                                                              : "Error: authentication not enabled");
    return CMD_ERROR;
}

enum cmd_result smtpd_cmd_RSET(struct smtpd_sess *S, struct span arg)
{
    if (arg.n > 0) {
        smtpd_reply(S, 501, "5.5.4", "Syntax: RSET");
        return CMD_ERROR;
    }
    smtpd_tx_drop(S);
    smtpd_reply_raw(S, SPAN_LIT("250 2.0.0 Ok\r\n"));
    return CMD_OK;
}

enum cmd_result smtpd_cmd_NOOP(struct smtpd_sess *S, struct span arg)
{
    (void)arg;
    smtpd_reply_raw(S, SPAN_LIT("250 2.0.0 Ok\r\n"));
    return CMD_OK;
}

enum cmd_result smtpd_cmd_HELP(struct smtpd_sess *S, struct span arg)
{
    (void)arg;
    smtpd_reply(S, 214, "2.0.0", "Commands: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY ETRN HELP QUIT\n"
                                 "See RFC 5321. Questions to postmaster@%s", S->p->myorigin);
    return CMD_OK;
}

enum cmd_result smtpd_cmd_QUIT(struct smtpd_sess *S, struct span arg)
{
    (void)arg;
    smtpd_reply_raw(S, SPAN_LIT("221 2.0.0 Bye\r\n"));
    smtpd_end_session(S);
    return CMD_OK;
}

enum cmd_result smtpd_cmd_VRFY(struct smtpd_sess *S, struct span arg)
{
    struct addr a;
    struct route route;
    size_t n = addr_path_length(arg);
    struct span path = span_of(arg.p, n), option = span_trim(span_from(arg, n));
    bool utf8 = option.n > 0 && span_ieq_cstr(option, "SMTPUTF8") && S->p->smtputf8_enable;
    if (S->p->disable_vrfy_command) {
        smtpd_reply(S, 502, "5.5.1", "VRFY command is disabled");
        return CMD_ERROR;
    }
    if (option.n > 0 && !utf8)
        path = arg; /* as a whole it may be a phrase and an address */
    if (n == 0) {
        smtpd_reply(S, 501, "5.5.4", "Syntax: VRFY address%s", S->p->smtputf8_enable ? " [SMTPUTF8]" : "");
        return CMD_ERROR;
    }
    if (!smtpd_path_parse(S, path, utf8, "5.1.3", "Bad recipient address syntax", &a))
        return CMD_ERROR;
    if (a.text.n == 0) {
        smtpd_reply(S, 501, "5.1.3", "Bad recipient address syntax");
        return CMD_ERROR;
    }
    if (!smtpd_rcpt_is_welcome(S, STAGE_VRFY, addr_quoted(smtpd_scratch(S), a.given), &a, &route))
        return CMD_ERROR;
    smtpd_reply(S, 252, "2.0.0", "%.*s", SPAN_ARG(path));
    return CMD_OK;
}

/* DATA. RFC 5321 4.1.1.4. What follows is message.c. */
#include "daemon/smtpd/smtpd_internal.h"

enum cmd_result smtpd_cmd_DATA(struct smtpd_sess *S, struct span arg)
{
    struct policy_client c;
    if (S->tx != NULL && S->tx->is_bdat) {
        smtpd_reply(S, 503, "5.5.1", "Error: DATA after BDAT");
        return CMD_ERROR;
    }
    if (S->tx == NULL) {
        smtpd_reply(S, 503, "5.5.1", "Error: need RCPT command");
        return CMD_ERROR;
    }
    if (S->tx->accepted == 0) {
        smtpd_reply(S, 554, "5.5.1", "Error: no valid recipients");
        return CMD_ERROR;
    }
    if (arg.n > 0) {
        smtpd_reply(S, 501, "5.5.4", "Syntax: DATA");
        return CMD_ERROR;
    }
    smtpd_policy_client(S, &c);
    if (S->tx->accepted == 1)
        c.recipient = S->tx->first_rcpt;
    if (!smtpd_policy_ok(S, STAGE_DATA, "DATA", &c, addr_quoted(smtpd_scratch(S), c.recipient)))
        return CMD_ERROR;
    smtpd_message_begin(S, true);
    smtpd_set_state(S, SMTPD_DATA);
    smtpd_reply_raw(S, SPAN_LIT("354 End data with <CR><LF>.<CR><LF>\r\n"));
    return CMD_LATER;
}

/*
 * XFORWARD: who gave the message to the one who gives it to us, for logs and for the next hop. XFORWARD_README of Postfix.
 *
 * The first command makes all attributes unknown; RSET, EHLO and the end of a message forget them (smtpd_tx_drop()). They
 * change nothing in what restrictions see.
 */
#include "daemon/smtpd/smtpd_internal.h"

void smtpd_forward_forget(struct smtpd_sess *S)
{
    if (S->forward == NULL)
        return;
    for (int i = 0; i < XATTR_COUNT; i++)
        free(S->forward->text[i]);
    free(S->forward);
    S->forward = NULL;
}

struct span smtpd_forwarded(const struct smtpd_sess *S, enum xattr_id id)
{
    const char *text = S->forward->text[id];
    return span_cstr(text ? text : "");
}

enum cmd_result smtpd_cmd_XFORWARD(struct smtpd_sess *S, struct span arg)
{
    struct xattrs x;
    if (!smtpd_xattr_read(S, XATTR_XFORWARD, arg, &x))
        return CMD_ERROR;
    if (S->forward == NULL)
        S->forward = xcalloc(1, sizeof *S->forward);
    for (int i = 0; i < XATTR_COUNT; i++) {
        if (!xattr_has(&x, (enum xattr_id)i))
            continue;
        free(S->forward->text[i]);
        S->forward->text[i] = xstrndup(x.text[i].p, x.text[i].n);
    }
    smtpd_reply_raw(S, SPAN_LIT("250 2.0.0 Ok\r\n"));
    return CMD_OK;
}

/* The trace field this server adds. RFC 5321 4.4; form: reference/wire-formats.md section 12. */
#include "common/base/clock.h"
#include "common/mail/maildate.h"
#include "daemon/smtpd/smtpd_internal.h"

#define HELO_SHOWN 255 /* more is no name (RFC 5321 4.5.3.1.2), and the line must stay below 998 bytes */
#define FOR_SHOWN  900

static void put_from(struct smtpd_sess *S, struct buf *b)
{
    char addr[IP_TEXT_MAX];
    buf_puts(b, "from ");
    const char *helo = S->helo ? S->helo : S->client_name;
    for (size_t i = 0; helo[i] != '\0' && i < HELO_SHOWN; i++)
        buf_putc(b, ascii_is_8bit(helo[i]) ? '?' : helo[i]);
    buf_puts(b, " (");
    buf_puts(b, S->client_name);
    buf_puts(b, S->s.peer.family == IP_V6 ? " [IPv6:" : " [");
    buf_puts(b, ip_print(&S->s.peer, addr));
    buf_puts(b, "])\r\n\t");
}

void smtpd_put_received(struct smtpd_sess *S, struct buf *b)
{
    char date[MAIL_DATE_MAX];
    const struct smtpd_tx *tx = S->tx;
    bool hidden = S->p->smtpd_hide_client_session;
    buf_puts(b, "Received: ");
    if (!hidden)
        put_from(S, b);
    buf_puts(b, "by ");
    buf_puts(b, S->p->myhostname);
    buf_puts(b, " (");
    buf_puts(b, S->p->mail_name);
    buf_putc(b, ')');
    if (!hidden)
        buf_puts(b, tx->is_smtputf8 ? " with UTF8SMTP" : S->is_esmtp ? " with ESMTP" : " with SMTP");
    buf_puts(b, " id ");
    buf_puts(b, smtpd_qid(S));
    /* The field is of seven bits, so that nobody needs SMTPUTF8 for it. */
    struct span rcpt = tx->accepted == 1 ? addr_quoted(smtpd_scratch(S), tx->first_rcpt) : SPAN_LIT("");
    if (rcpt.n > 0 && rcpt.n <= FOR_SHOWN && span_is_ascii(rcpt)) {
        buf_puts(b, "\r\n\tfor <");
        buf_add_span(b, rcpt);
        buf_puts(b, ">; ");
    } else {
        buf_puts(b, "; ");
    }
    buf_add(b, date, mail_date_format(clock_wall_s(), date));
    buf_puts(b, "\r\n");
}

/*
 * notify_classes for sessions: what was said is kept while a class that asks for transcripts is on, errors are sorted into
 * classes when their reply is made, and the notice goes out at the end of the session, or at EHLO, RSET and the end of a
 * message when smtpd_history_flush_threshold lines have come together.
 *
 *   policy     the client was refused: restrictions, limits, x.7.x
 *   protocol   any other 5xx, commands that are no SMTP
 *   data       a table was not available
 *   bounce     a recipient or a message was refused for good
 *
 * debug_peer_list uses the same transcript to log each line as it is said.
 *
 * Trouble of our own (resource, software) is not told from here: the spool and the reactor tell it once, and
 * not once for each client that came upon it.
 */
#include "daemon/smtpd/smtpd_internal.h"

#define CLASSES_HERE (NOTIFY_BIT(NOTIFY_CLASS_POLICY) | NOTIFY_BIT(NOTIFY_CLASS_PROTOCOL) | \
                      NOTIFY_BIT(NOTIFY_CLASS_DATA) | NOTIFY_BIT(NOTIFY_CLASS_BOUNCE))

unsigned smtpd_notify_classes(const struct params *p)
{
    return notify_mask(p->notify_classes) & CLASSES_HERE;
}

/* Not for a program that talks to us through sendmail -bs: it has the answers itself. */
void smtpd_notify_begin(struct smtpd_sess *S)
{
    if (S->env->notice == NULL || S->out_fd >= 0 || S->t->notify_classes == 0)
        return;
    S->transcript = xmalloc(sizeof *S->transcript);
    transcript_init(S->transcript);
}

void smtpd_debug_begin(struct smtpd_sess *S)
{
    struct policy_client c;
    if (*S->p->debug_peer_list == '\0' || S->p->debug_peer_level == 0 || S->out_fd >= 0)
        return;
    smtpd_policy_client(S, &c);
    if (policy_match_addr(S->svc->policy, S->svc->svc, "debug_peer_list", &c.addr, c.addr_text, c.name) != LOOKUP_FOUND)
        return;
    if (S->transcript == NULL) {
        S->transcript = xmalloc(sizeof *S->transcript);
        transcript_init(S->transcript);
    }
    transcript_echo(S->transcript, &S->log, S->namaddr, S->p->debug_peer_level);
}

void smtpd_notify_error(struct smtpd_sess *S, enum notify_class c)
{
    if (S->transcript == NULL)
        return;
    if (S->tx != NULL && own_mail_is_double_bounce(S->p, S->tx->msg->env.sender)) /* a notice never causes another */
        return;
    S->notify_errors |= NOTIFY_BIT(c) & S->t->notify_classes;
}

/* The enhanced code says what kind of error it is. */
static bool is_subject(const char *dsn, char subject)
{
    return dsn[0] != '\0' && dsn[1] == '.' && dsn[2] == subject;
}

void smtpd_notify_reply(struct smtpd_sess *S, int code, const char *dsn)
{
    if (code < 400 || is_subject(dsn, '4')) /* time-outs are no error of the dialogue */
        return;
    if (S->is_after_message && is_subject(dsn, '3')) /* the disk, not the client */
        return;
    if (is_subject(dsn, '7') || code == 452 || (code == 502 && S->last_cmd == CMD_VRFY))
        smtpd_notify_error(S, NOTIFY_CLASS_POLICY);
    else if (code == 451)
        smtpd_notify_error(S, NOTIFY_CLASS_DATA);
    else if (code >= 500)
        smtpd_notify_error(S, NOTIFY_CLASS_PROTOCOL);
}

void smtpd_notify_reject(struct smtpd_sess *S, const char *stage, int code, const char *dsn)
{
    bool is_end = strcmp(stage, "END-OF-MESSAGE") == 0;
    if (code < 500 && is_subject(dsn, '3')) {
        if (code != 452 && !is_end) /* else the disk is full or failed */
            smtpd_notify_error(S, NOTIFY_CLASS_DATA);
        return;
    }
    smtpd_notify_error(S, NOTIFY_CLASS_POLICY);
    if (code >= 500 && (is_end || strcmp(stage, "RCPT") == 0))
        smtpd_notify_error(S, NOTIFY_CLASS_BOUNCE);
}

/* ---- sending ---- */

static void put_classes(struct buf *b, unsigned classes)
{
    const char *before = "";
    for (int c = 0; c < NOTIFY_CLASSES; c++) {
        if (!(classes & NOTIFY_BIT(c)))
            continue;
        buf_printf(b, "%s%s", before, notify_class_word((enum notify_class)c));
        before = ", ";
    }
}

/* One mail for all classes: the limit counts for the gravest of them, in the order of the enumeration from behind. */
static enum notify_class main_class(unsigned classes)
{
    int c = NOTIFY_CLASSES - 1;
    while (!(classes & NOTIFY_BIT(c)))
        c--;
    return (enum notify_class)c;
}

static void send_to(struct smtpd_sess *S, unsigned classes, const char *to)
{
    char subject[400], addr[IP_TEXT_MAX];
    struct buf b = BUF_INIT(NOTICE_TEXT_MAX);
    if (classes == 0)
        return;
    snprintf(subject, sizeof subject, "SMTP server: errors from %.300s", S->namaddr);
    buf_puts(&b, "A client made errors of these kinds, or was refused: ");
    put_classes(&b, classes);
    buf_printf(&b, ".\n\nClient:  %s\nService: %s\n\nThis was said (In: by the client, Out: by this system):\n\n", S->namaddr,
               S->svc->svc->name);
    transcript_print(S->transcript, &b);
    buf_puts(&b, "\nThe log has the rest.\n");
    struct notice x = { .cls = main_class(classes), .about = span_cstr(ip_print(&S->s.peer, addr)), .to = to, .subject = subject,
                        .text = buf_span(&b) };
    S->env->notice(S->env->notice_arg, &x);
    buf_free(&b);
}

static void flush(struct smtpd_sess *S)
{
    unsigned bounce = S->notify_errors & NOTIFY_BIT(NOTIFY_CLASS_BOUNCE);
    /* One person gets one mail. */
    if (strcmp(S->p->bounce_notice_recipient, S->p->error_notice_recipient) == 0) {
        send_to(S, S->notify_errors, S->p->error_notice_recipient);
    } else {
        send_to(S, bounce, S->p->bounce_notice_recipient);
        send_to(S, S->notify_errors & ~bounce, S->p->error_notice_recipient);
    }
    S->notify_errors = 0;
    transcript_reset(S->transcript);
}

void smtpd_notify_flush_point(struct smtpd_sess *S)
{
    if (S->transcript != NULL && S->transcript->lines > (unsigned)S->p->smtpd_history_flush_threshold)
        flush(S);
}

void smtpd_notify_end(struct smtpd_sess *S)
{
    if (S->transcript == NULL)
        return;
    flush(S);
    transcript_free(S->transcript);
    free(S->transcript);
    S->transcript = NULL;
}

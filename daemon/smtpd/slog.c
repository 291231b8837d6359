/* The log lines of a session, in Postfix's words: reference/wire-formats.md section 8. */
#include "daemon/smtpd/smtpd_internal.h"

const char *smtpd_qid(const struct smtpd_sess *S)
{
    if (S->tx == NULL || !S->tx->has_qid)
        return "NOQUEUE";
    return S->tx->qid_text;
}

/* The lines of every message, without printf. */
static void log_parts(const struct log_src *src, const char *a, struct span b, const char *c, struct span d)
{
    char text[LOG_TEXT_MAX + 1];
    struct buf line = { .p = text, .cap = sizeof text, .max = sizeof text - 1 };
    if (src->log == NULL)
        return;
    buf_puts(&line, a);
    buf_add_span(&line, b);
    buf_puts(&line, c);
    buf_add_span(&line, d);
    log_text(src, LOG_LV_INFO, buf_span(&line));
}

void smtpd_log_connect(struct smtpd_sess *S)
{
    S->is_connected = true;
    log_parts(&S->log, "connect from ", span_cstr(S->namaddr), "", SPAN_LIT(""));
}

static const char *const count_names[CMD_COUNT] = {
#define CMD(id, verb, name, flags) [CMD_##id] = name,
#include "daemon/smtpd/commands.def"
#undef CMD
    [CMD_UNKNOWN] = "unknown",
};

void smtpd_log_disconnect(struct smtpd_sess *S)
{
    char text[512];
    struct buf b = { .p = text, .cap = sizeof text, .max = sizeof text - 1 };
    unsigned ok = 0, total = 0;
    if (S->log.log == NULL)
        return;
    buf_puts(&b, "disconnect from ");
    buf_puts(&b, S->namaddr);
    for (int i = 0; i < CMD_COUNT; i++) {
        if (S->count[i].total == 0)
            continue;
        ok += S->count[i].ok;
        total += S->count[i].total;
        buf_putc(&b, ' ');
        buf_puts(&b, count_names[i]);
        buf_putc(&b, '=');
        buf_put_uint(&b, S->count[i].ok);
        if (S->count[i].ok != S->count[i].total) {
            buf_putc(&b, '/');
            buf_put_uint(&b, S->count[i].total);
        }
    }
    buf_puts(&b, " commands=");
    buf_put_uint(&b, ok);
    if (ok != total || total == 0) {
        buf_putc(&b, '/');
        buf_put_uint(&b, total);
    }
    if (S->saw_bare_lf)
        buf_puts(&b, " notes=bare_lf");
    log_text(&S->log, LOG_LV_INFO, buf_span(&b));
}

/* Who is authenticated, and what XFORWARD says. */
static void log_client_more(struct smtpd_sess *S)
{
    char text[LOG_TEXT_MAX + 1];
    struct buf b = { .p = text, .cap = sizeof text, .max = sizeof text - 1 };
    buf_printf(&b, "%s: client=%s", smtpd_qid(S), S->namaddr);
    if (S->login != NULL)
        buf_printf(&b, ", sasl_method=XCLIENT, sasl_username=%s", S->login);
    if (S->forward != NULL) {
        struct span id = smtpd_forwarded(S, XATTR_IDENT), name = smtpd_forwarded(S, XATTR_NAME), addr = smtpd_forwarded(S, XATTR_ADDR);
        if (id.n > 0)
            buf_printf(&b, ", orig_queue_id=%.*s", SPAN_ARG(id));
        if (name.n > 0 || addr.n > 0)
            buf_printf(&b, ", orig_client=%.*s[%.*s]", SPAN_ARG(name.n ? name : SPAN_LIT("unknown")),
                       SPAN_ARG(addr.n ? addr : SPAN_LIT("unknown")));
    }
    log_text(&S->log, LOG_LV_INFO, buf_span(&b));
}

void smtpd_log_client(struct smtpd_sess *S)
{
    if (S->login == NULL && S->forward == NULL)
        log_parts(&S->log, "", span_cstr(smtpd_qid(S)), ": client=", span_cstr(S->namaddr));
    else
        log_client_more(S);
}

void smtpd_log_message_id(struct smtpd_sess *S)
{
    struct log_src src = S->log;
    struct span id = smtpd_header(S->tx)->message_id;
    src.prog = "cleanup";
    log_parts(&src, "", span_cstr(smtpd_qid(S)), ": message-id=", id.n ? id : SPAN_LIT("<>"));
}

static void put_address(struct buf *b, const char *name, struct span addr)
{
    buf_printf(b, " %s=<%.*s>", name, SPAN_ARG(addr));
}

void smtpd_log_event(struct smtpd_sess *S, const char *what, const char *stage, struct span rcpt, struct span text)
{
    struct buf b = BUF_INIT(LOG_TEXT_MAX);
    if (S->log.log == NULL)
        return;
    buf_printf(&b, "%s: %s: %s from %s: ", smtpd_qid(S), what, stage, S->namaddr);
    buf_add_span(&b, text);
    buf_putc(&b, ';');
    if (S->tx != NULL)
        put_address(&b, "from", S->tx->mail_arg);
    if (rcpt.n > 0)
        put_address(&b, "to", rcpt);
    buf_printf(&b, " proto=%s", S->is_esmtp ? "ESMTP" : "SMTP");
    if (S->helo != NULL)
        put_address(&b, "helo", span_cstr(S->helo));
    log_text(&S->log, LOG_LV_INFO, buf_span(&b));
    buf_free(&b);
}

void smtpd_log_pipelining(struct smtpd_sess *S, const char *after)
{
    struct span in = smtpd_input(S);
    struct buf b = BUF_INIT(0);
    if (in.n > UNAUTH_PIPELINE_SHOWN)
        in.n = UNAUTH_PIPELINE_SHOWN;
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        if (c == '\r')
            buf_puts(&b, "\\r");
        else if (c == '\n')
            buf_puts(&b, "\\n");
        else if (c == '\t')
            buf_puts(&b, "\\t");
        else if (c == '\\' || !ascii_is_print(c))
            buf_printf(&b, "\\%03o", (unsigned char)c);
        else
            buf_putc(&b, c);
    }
    log_line(&S->log, LOG_LV_INFO, "improper command pipelining after %s from %s: %s", after, S->namaddr, buf_cstr(&b));
    buf_free(&b);
}

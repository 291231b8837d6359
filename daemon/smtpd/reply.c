/*
 * Replies are gathered in out and written once per step. What a peer sent may be part of a text, so control bytes are
 * replaced here, at the one place where replies are made.
 */
#include "common/mail/smtpreply.h"
#include "daemon/smtpd/smtpd_internal.h"

static void count_reply(struct smtpd_sess *S, int code)
{
    struct smtpd_counters *n = &S->env->counters;
    if (code >= 500)
        atomic_fetch_add_explicit(&n->rejects, 1, memory_order_relaxed);
    else if (code >= 400)
        atomic_fetch_add_explicit(&n->tempfails, 1, memory_order_relaxed);
}

static void clean(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] < 32 && p[i] != '\n')
            p[i] = '?';
        else if (p[i] == 127)
            p[i] = '?';
}

/* soft_bounce: a refusal for good becomes one for now. */
static int soften(const struct smtpd_sess *S, int code, char *dsn)
{
    if (code < 500 || !S->p->soft_bounce)
        return code;
    if (*dsn != '\0')
        dsn[0] = '4';
    return code - 100;
}

static void put_with_footer(struct smtpd_sess *S, int code, struct span dsn, struct span text, int code_before)
{
    struct buf b = BUF_INIT(8192);
    buf_add_span(&b, text);
    smtpd_footer_add(S, code_before, dsn, &b);
    clean(b.p, b.n);
    smtp_reply_put(&S->out, code, dsn, buf_span(&b));
    buf_free(&b);
}

static void put_one(struct smtpd_sess *S, int code, const char *dsn, char *text, size_t n)
{
    char dsn_text[16];
    size_t dsn_n = strlen(dsn);
    int before_softening = code;
    if (dsn_n >= sizeof dsn_text)
        dsn_n = 0;
    memcpy(dsn_text, dsn, dsn_n);
    dsn_text[dsn_n] = '\0';
    code = soften(S, code, dsn_text);
    clean(text, n);
    count_reply(S, code);
    size_t before = S->out.n;
    if (UNLIKELY(S->t->has_footer) && code >= 400)
        put_with_footer(S, code, span_of(dsn_text, dsn_n), span_of(text, n), before_softening);
    else
        smtp_reply_put(&S->out, code, span_of(dsn_text, dsn_n), span_of(text, n));
    if (S->transcript != NULL)
        transcript_reply(S->transcript, false, span_from(buf_span(&S->out), before));
    if (S->errors >= (unsigned)S->p->smtpd_soft_error_limit && S->p->smtpd_error_sleep_time > 0)
        S->tarpit = true;
    if (code == 421 || code == 521)
        smtpd_end_session(S);
}

static void put_other(struct smtpd_sess *S, int code, const char *dsn, char *text, size_t n)
{
    struct arena *a = arena_new(0);
    struct smtpd_new_reply r;
    if (smtpd_reject_filter(S, a, code, span_cstr(dsn), span_of(text, n), &r))
        put_one(S, r.code, arena_strndup(a, r.dsn.p, r.dsn.n), arena_strndup(a, r.text.p, r.text.n), r.text.n);
    else
        put_one(S, code, dsn, text, n);
    arena_free(&a);
}

/* The text is changed in place. */
static void put_reply(struct smtpd_sess *S, int code, const char *dsn, char *text, size_t n)
{
    if (UNLIKELY(S->t->has_reject_filter) && code >= 400)
        put_other(S, code, dsn, text, n);
    else
        put_one(S, code, dsn, text, n);
}

static size_t format(char *text, size_t size, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
static size_t format(char *text, size_t size, const char *fmt, va_list ap)
{
    int n = vsnprintf(text, size, fmt, ap);
    return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

void smtpd_reply(struct smtpd_sess *S, int code, const char *dsn, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    size_t n = format(text, sizeof text, fmt, ap);
    va_end(ap);
    smtpd_notify_reply(S, code, dsn);
    put_reply(S, code, dsn, text, n);
}

void smtpd_reply_raw(struct smtpd_sess *S, struct span text)
{
    buf_add_span(&S->out, text);
    if (S->transcript != NULL)
        transcript_reply(S->transcript, false, text);
    if (S->errors >= (unsigned)S->p->smtpd_soft_error_limit && S->p->smtpd_error_sleep_time > 0)
        S->tarpit = true;
}

static void reject(struct smtpd_sess *S, const char *stage, struct span rcpt, int code, const char *dsn_given, char *text, size_t n)
{
    struct buf line = BUF_INIT(LOG_TEXT_MAX);
    char dsn[16];
    snprintf(dsn, sizeof dsn, "%s", dsn_given);
    code = soften(S, code, dsn);
    clean(text, n);
    smtpd_notify_reject(S, stage, code, dsn);
    buf_printf(&line, "%d %s%s%.*s", code, dsn, *dsn ? " " : "", (int)n, text);
    smtpd_log_event(S, "reject", stage, rcpt, buf_span(&line));
    buf_free(&line);
    put_reply(S, code, dsn, text, n);
}

void smtpd_reject(struct smtpd_sess *S, const char *stage, struct span rcpt, const struct verdict_reply *r)
{
    char text[1024], dsn[16];
    size_t n = r->text.n < sizeof text ? r->text.n : sizeof text;
    snprintf(dsn, sizeof dsn, "%.*s", SPAN_ARG(r->dsn));
    memcpy(text, r->text.p, n);
    reject(S, stage, rcpt, r->code, dsn, text, n);
}

void smtpd_reject_text(struct smtpd_sess *S, const char *stage, struct span rcpt, int code, const char *dsn, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    size_t n = format(text, sizeof text, fmt, ap);
    va_end(ap);
    reject(S, stage, rcpt, code, dsn, text, n);
}

void smtpd_end_session(struct smtpd_sess *S)
{
    smtpd_set_state(S, SMTPD_END);
}

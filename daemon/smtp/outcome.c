/*
 * The one place that turns (stage, reply) and (stage, loss) into outcome, status code and text.
 *
 *   reply 4xx                       deferral with its own or a made-up 4.0.0
 *   reply 5xx                       bounce
 *   552 to RCPT                     too many recipients: 452 (RFC 5321 4.5.3.1.10)
 *   another code than the stage allows   deferral 4.5.0
 *   greeting or HELO refused        "refused to talk to me"; a property of the host, as are 421 and every loss
 *   loss, time-out                  4.4.2; after the final dot the message may arrive twice, and the text says so; over
 *                                   LMTP the unanswered recipients are then retried one by one
 */
#include <stdarg.h>

#include "common/base/clock.h"
#include "daemon/deliver/trace_headers.h"
#include "daemon/smtp/request.h"

static const struct stage_info stages[STAGE_COUNT] = {
    [STAGE_GREETING] = { "receiving the initial server greeting", "initial server greeting" },
    [STAGE_EHLO] = { "performing the EHLO handshake", "EHLO command" },
    [STAGE_HELO] = { "performing the HELO handshake", "HELO command" },
    [STAGE_LHLO] = { "performing the LHLO handshake", "LHLO command" },
    [STAGE_XFORWARD_NAME] = { "sending XFORWARD name/address", "XFORWARD name/address command" },
    [STAGE_XFORWARD_PROTO] = { "sending XFORWARD protocol/helo_name", "XFORWARD protocol/helo_name command" },
    [STAGE_RSET] = { "sending RSET", "RSET command" },
    [STAGE_MAIL] = { "sending MAIL FROM", "MAIL FROM command" },
    [STAGE_RCPT] = { "sending RCPT TO", "RCPT TO command" },
    [STAGE_DATA] = { "sending DATA command", "DATA command" },
    [STAGE_BODY] = { "sending message body", "message body" },
    [STAGE_END] = { "sending end of data -- message may be sent more than once", "end of DATA command" },
};

const struct stage_info *stage_info(enum smtp_stage s) { return &stages[s]; }

void stage_begin(struct smtp_request *r, enum smtp_stage s)
{
    int64_t ms = 0;
    switch (s) {
    case STAGE_GREETING:
    case STAGE_EHLO:
    case STAGE_HELO:
    case STAGE_LHLO:
        ms = r->cp->helo_timeout;
        break;
    case STAGE_XFORWARD_NAME:
    case STAGE_XFORWARD_PROTO:
        ms = r->cp->xforward_timeout;
        break;
    case STAGE_RSET:
        ms = r->cp->rset_timeout;
        break;
    case STAGE_MAIL:
        ms = r->cp->mail_timeout;
        break;
    case STAGE_RCPT:
        ms = r->cp->rcpt_timeout;
        break;
    case STAGE_DATA:
        ms = r->cp->data_init_timeout;
        break;
    case STAGE_BODY:
        ms = r->cp->data_xfer_timeout;
        break;
    case STAGE_END:
        ms = r->cp->data_done_timeout;
        break;
    case STAGE_COUNT:
        break;
    }
    bool is_whole = r->cp->per_request_deadline;
    stream_set_deadline(r->conn->stream, is_whole ? clock_mono_ms() + ms : CLOCK_NEVER);
    stream_set_wait_limit(r->conn->stream, is_whole ? 0 : ms);
}

/* ---- failures ---- */

static void add_one_line(struct buf *b, struct span text)
{
    size_t from = b->n;
    buf_add_span(b, text);
    for (size_t i = from; i < b->n; i++)
        if (b->p[i] == '\n')
            b->p[i] = ' ';
}

static struct smtp_failure *fail_begin(struct smtp_request *r, struct span dsn, bool is_permanent)
{
    struct smtp_failure *f = &r->fail;
    f->is_set = true;
    f->is_permanent = is_permanent;
    f->is_site = f->is_for_one = false;
    size_t n = dsn.n < sizeof f->dsn ? dsn.n : sizeof f->dsn - 1;
    memcpy(f->dsn, dsn.p, n);
    f->dsn[n] = '\0';
    if (f->dsn[0] != '4' && f->dsn[0] != '5')
        memcpy(f->dsn, "4.5.0", 6);
    buf_reset(&f->reason);
    buf_reset(&f->diagnostic);
    snprintf(f->mta, sizeof f->mta, "%s", r->conn ? r->conn->host : "");
    snprintf(f->relay, sizeof f->relay, "%s", r->conn ? r->conn->relay : "none");
    return f;
}

void fail_words(struct smtp_request *r, const char *dsn, const char *fmt, ...)
{
    va_list ap;
    struct smtp_failure *f = fail_begin(r, span_cstr(dsn), dsn[0] == '5');
    va_start(ap, fmt);
    buf_vprintf(&f->reason, fmt, ap);
    va_end(ap);
}

void fail_refused(struct smtp_request *r, const struct smtp_reply *rep)
{
    struct smtp_failure *f = fail_begin(r, rep->dsn, rep->code / 100 == 5);
    notify_code(r, rep->code);
    buf_printf(&f->reason, "host %s refused to talk to me: ", r->conn->namaddr);
    add_one_line(&f->reason, rep->text);
    add_one_line(&f->diagnostic, rep->text);
    f->is_site = true;
    r->verdict = SITE_UNAVAILABLE;
}

void fail_reply(struct smtp_request *r, enum smtp_stage s, const struct smtp_reply *rep)
{
    bool too_many = s == STAGE_RCPT && rep->code == 552;
    struct smtp_failure *f = fail_begin(r, rep->dsn, rep->code / 100 == 5 && !too_many);
    if (too_many)
        f->dsn[0] = '4';
    notify_code(r, rep->code);
    buf_printf(&f->reason, "host %s said: ", r->conn->namaddr);
    add_one_line(&f->reason, rep->text);
    buf_printf(&f->reason, " (in reply to %s)", stage_info(s)->reply_to);
    add_one_line(&f->diagnostic, rep->text);
    f->is_site = rep->code == 421;
    r->verdict = f->is_site ? SITE_UNAVAILABLE : SITE_OK;
}

void fail_io(struct smtp_request *r, enum smtp_stage s, enum smtp_io io)
{
    const char *doing = stage_info(s)->doing, *peer = r->conn->namaddr;
    switch (io) {
    case SMTP_IO_OK:
    case SMTP_IO_LOST:
        fail_words(r, "4.4.2", "lost connection with %s while %s", peer, doing);
        break;
    case SMTP_IO_TIMEOUT:
        fail_words(r, "4.4.2", "conversation with %s timed out while %s", peer, doing);
        break;
    case SMTP_IO_PROTOCOL:
        notify_error(r, NOTIFY_CLASS_PROTOCOL);
        fail_words(r, "4.5.0", "protocol error: unreadable reply from %s while %s", peer, doing);
        break;
    case SMTP_IO_LOCAL:
        notify_error(r, NOTIFY_CLASS_DATA);
        fail_words(r, "4.3.0", "local data error while talking to %s", peer);
        break;
    }
    r->fail.is_site = true;
    r->verdict = io == SMTP_IO_LOCAL ? SITE_NEUTRAL : SITE_UNAVAILABLE;
    if (r->is_lmtp && s == STAGE_END && io != SMTP_IO_LOCAL) {
        /* One mailbox can have ended it: who is left is tried singly, and the others must not wait for the site to come back. */
        r->fail.is_for_one = true;
        if (io != SMTP_IO_TIMEOUT) /* a store that hangs would hold a thread for each of them */
            r->verdict = SITE_NEUTRAL;
    }
}

/* ---- reports ---- */

static void set_times(const struct smtp_request *r, struct delivery_result *res)
{
    int64_t now = clock_wall_us(), conn = r->conn_done_us ? r->conn_done_us : now;
    res->conn_us = conn - r->begun_us;
    res->xfer_us = now - conn;
}

static struct delivery_result failed_result(const struct smtp_request *r)
{
    const struct smtp_failure *f = &r->fail;
    struct delivery_result res = {
        .outcome = f->is_permanent ? OUTCOME_BOUNCED : OUTCOME_DEFERRED,
        .dsn = span_cstr(f->dsn),
        .relay = span_cstr(f->relay),
        .reason = buf_span(&f->reason),
        .remote_mta = span_cstr(f->mta),
        .diagnostic = buf_span(&f->diagnostic),
        .conn_use = r->conn ? r->conn->use_count : 0,
        .retry_alone = f->is_for_one,
    };
    set_times(r, &res);
    return res;
}

static void mark_done(struct smtp_request *r, uint32_t i)
{
    r->mark[i] = MARK_DONE;
    r->left--;
}

void report_failed(struct smtp_request *r, uint32_t i)
{
    struct delivery_result res = failed_result(r);
    sched_report(r->env->sched, r->job, i, &res);
    mark_done(r, i);
}

void report_left_failed(struct smtp_request *r)
{
    if (r->left == 0)
        return;
    struct delivery_result res = failed_result(r);
    sched_report_all(r->env->sched, r->job, &res);
    for (uint32_t i = 0; i < r->job->rcpt_count; i++)
        r->mark[i] = MARK_DONE;
    r->left = 0;
}

static struct delivery_result sent_result(const struct smtp_request *r, struct span text, const struct smtp_reply *rep)
{
    bool assume_final = r->is_lmtp && !(r->conn->features & FEAT_DSN) && r->cp->assume_final;
    struct delivery_result res = {
        .outcome = OUTCOME_SENT,
        .dsn = rep->dsn,
        .relay = span_cstr(r->conn->relay),
        .reason = text,
        .remote_mta = span_cstr(r->conn->host),
        .diagnostic = text,
        .conn_use = r->conn->use_count,
        .is_final_delivery = assume_final || (r->copy_flags & COPY_FINAL) != 0,
        .is_dsn_relayed = !(r->conn->features & FEAT_DSN),
    };
    set_times(r, &res);
    return res;
}

/* The reply as one line; borrowed from the failure's buffer only when it had several. */
static struct span one_line(struct smtp_request *r, struct span text)
{
    if (span_find(text, '\n') < 0)
        return text;
    buf_reset(&r->fail.diagnostic);
    add_one_line(&r->fail.diagnostic, text);
    return buf_span(&r->fail.diagnostic);
}

void report_sent(struct smtp_request *r, uint32_t i, const struct smtp_reply *rep)
{
    struct delivery_result res = sent_result(r, one_line(r, rep->text), rep);
    sched_report(r->env->sched, r->job, i, &res);
    mark_done(r, i);
    r->any_sent = true;
}

void report_all_sent(struct smtp_request *r, const struct smtp_reply *rep)
{
    struct delivery_result res = sent_result(r, one_line(r, rep->text), rep);
    sched_report_all(r->env->sched, r->job, &res);
    for (uint32_t i = 0; i < r->job->rcpt_count; i++)
        r->mark[i] = MARK_DONE;
    r->left = 0;
    r->any_sent = true;
}

void log_soft_failure(struct smtp_request *r)
{
    char id[QID_TEXT_MAX];
    if (r->is_last_host || r->fail.is_permanent)
        return;
    qid_format(r->job->msg->env.id, r->p->enable_long_queue_ids, id);
    log_info(&r->log, "%s: %.*s", id, SPAN_ARG(buf_span(&r->fail.reason)));
}

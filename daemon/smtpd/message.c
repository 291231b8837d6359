/*
 * The content of a message: from the read buffer through the scanner (content.h) into the spool's writer, and at its end
 * the checks, the hand-over to the committer and the reply.
 *
 * After a failure (too big, disk full) the rest is still read and thrown away, because SMTP has no other way.
 */
#include <time.h>

#include "common/base/clock.h"
#include "common/mail/maildate.h"
#include "daemon/smtpd/smtpd_internal.h"
#include "policy/answers.h"
#include "queue/copy.h"

bool smtpd_bare_lf_is_excluded(struct smtpd_sess *S)
{
    if (S->bare_lf_excluded == 0) {
        struct policy_client c;
        smtpd_policy_client(S, &c);
        bool yes = policy_match_addr(S->svc->policy, S->svc->svc, "smtpd_forbid_bare_newline_exclusions", &S->s.peer,
                                     c.addr_text, c.name) == LOOKUP_FOUND;
        S->bare_lf_excluded = yes ? 2 : 1;
    }
    return S->bare_lf_excluded == 2;
}

static void fail(struct smtpd_sess *S, enum spool_status st)
{
    if (S->tx->failed == SPOOL_OK)
        S->tx->failed = st;
    content_abort(&S->tx->writer);
}

static void put_cb(void *arg, struct span bytes)
{
    struct smtpd_sess *S = arg;
    if (S->tx->writer == NULL)
        return;
    enum spool_status st = content_append(S->tx->writer, bytes);
    if (st != SPOOL_OK)
        fail(S, st);
}

/* Where content goes that somebody wants to see before it is stored. */
static void pipe_cb(void *arg, struct span bytes)
{
    struct smtpd_sess *S = arg;
    pipe_feed(S->tx->pipe, bytes);
}

/* ---- fields that the client left out ---- */

static void add_message_id(struct smtpd_sess *S, struct buf *b, bool resent)
{
    char stamp[32];
    time_t now = (time_t)clock_wall_s();
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%d%H%M%S", &tm);
    char *id = arena_printf(S->tx->msg->arena, "<%s.%s@%s>", stamp, smtpd_qid(S), S->p->myhostname);
    buf_printf(b, "%sMessage-Id: %s\r\n", resent ? "Resent-" : "", id);
    if (!resent && S->tx->pipe != NULL)
        S->tx->pipe->hdr.message_id = span_cstr(id);
    else if (!resent)
        S->tx->scan.hdr.message_id = span_cstr(id);
}

static void add_missing(struct smtpd_sess *S, struct buf *b)
{
    const struct hdr_scan *h = smtpd_header(S->tx);
    uint32_t resent_bits = 1u << HDR_RESENT_BCC | 1u << HDR_RESENT_CC | 1u << HDR_RESENT_DATE | 1u << HDR_RESENT_FROM |
                           1u << HDR_RESENT_MESSAGE_ID | 1u << HDR_RESENT_SENDER | 1u << HDR_RESENT_TO;
    bool resent = (h->seen & resent_bits) != 0;
    const char *prefix = resent ? "Resent-" : "";
    char date[MAIL_DATE_MAX];
    if (!hdr_has(h, resent ? HDR_RESENT_MESSAGE_ID : HDR_MESSAGE_ID))
        add_message_id(S, b, resent);
    if (!hdr_has(h, resent ? HDR_RESENT_DATE : HDR_DATE)) {
        mail_date_format(clock_wall_s(), date);
        buf_printf(b, "%sDate: %s\r\n", prefix, date);
    }
    if (!hdr_has(h, resent ? HDR_RESENT_FROM : HDR_FROM)) {
        struct span sender = S->tx->msg->env.sender;
        struct span from = addr_quoted(S->tx->msg->arena, sender.n ? sender : SPAN_LIT("MAILER-DAEMON"));
        buf_printf(b, "%sFrom: %.*s\r\n", prefix, SPAN_ARG(from));
    }
    uint32_t to_bits = resent ? 1u << HDR_RESENT_TO | 1u << HDR_RESENT_CC : 1u << HDR_TO | 1u << HDR_CC;
    if ((h->seen & to_bits) == 0 && *S->p->undisclosed_recipients_header != '\0')
        buf_printf(b, "%s\r\n", S->p->undisclosed_recipients_header);
}

static void header_end_cb(void *arg)
{
    struct smtpd_sess *S = arg;
    struct smtpd_tx *tx = S->tx;
    unsigned own = 1; /* our own Received is not in the scan */
    if (tx->pipe != NULL) {
        pipe_end_header(tx->pipe);
        own = 0;
    }
    if (smtpd_header(tx)->received_count + own >= (unsigned)S->p->hopcount_limit)
        tx->too_many_hops = true;
    if (tx->header_origin == REWRITE_LOCAL)
        tx->msg->env.flags |= ENV_SOURCE_LOCAL;
    if (tx->header_origin == REWRITE_NOBODY && !S->p->always_add_missing_headers)
        return;
    struct buf b = BUF_INIT(0);
    add_missing(S, &b);
    put_cb(S, buf_span(&b));
    buf_free(&b);
}

/* ---- receiving ---- */

void smtpd_message_begin(struct smtpd_sess *S, bool dots)
{
    struct smtpd_tx *tx = S->tx;
    char text[4096]; /* more than the field can have: received.c */
    struct buf received = { .p = text, .cap = sizeof text, .max = sizeof text - 1 };
    smtpd_inspect_begin(S, put_cb);
    void (*sink)(void *, struct span) = tx->pipe != NULL ? pipe_cb : put_cb;
    struct content_options o = {
        .dots = dots,
        .standard_end_only = dots && strcmp(S->p->smtpd_forbid_bare_newline, "no") != 0 && !smtpd_bare_lf_is_excluded(S),
        .keep_stray_cr = !S->p->cleanup_replace_stray_cr_lf,
        .drop = tx->pipe != NULL ? (struct hdr_names){ 0 } : S->t->drop,
        .strip = S->t->has_strip ? S->t->strip : NULL,
        .reject = S->t->has_reject ? S->t->reject : NULL,
        .put = sink,
        .header_end = header_end_cb,
        .arg = S,
    };
    content_scan_init(&tx->scan, &o, tx->msg->arena);
    tx->writer = content_begin(S->env->spool, tx->msg->env.id);
    if (tx->writer == NULL)
        fail(S, SPOOL_IO);
    struct buf prepended = BUF_INIT(0);
    smtpd_action_headers(tx, &prepended);
    sink(S, buf_span(&prepended));
    buf_free(&prepended);
    smtpd_put_received(S, &received);
    sink(S, buf_span(&received));
}

static void after_feed(struct smtpd_sess *S, size_t used)
{
    struct smtpd_tx *tx = S->tx;
    smtpd_request_earned(S, used);
    if (!tx->too_big && S->p->message_size_limit > 0 && tx->scan.taken > (uint64_t)S->p->message_size_limit) {
        tx->too_big = true;
        smtpd_limit_reached(S, SMTPD_LIMIT_SIZE, S->p->message_size_limit);
        content_abort(&tx->writer);
    }
}

enum flow smtpd_data_run(struct smtpd_sess *S)
{
    struct span in = smtpd_input(S);
    bool ended = false;
    if (in.n == 0)
        return FLOW_INPUT;
    size_t used = content_scan_feed(&S->tx->scan, S->in.p + S->in_pos, in.n, &ended);
    S->in_pos += used;
    after_feed(S, used);
    return ended ? smtpd_message_end(S) : FLOW_INPUT;
}

void smtpd_message_feed_bdat(struct smtpd_sess *S, char *p, size_t n)
{
    struct smtpd_tx *tx = S->tx;
    bool ended;
    size_t all = n;
    while (n > 0) {
        if (tx->carry.n == 0) {
            size_t used = content_scan_feed(&tx->scan, p, n, &ended);
            buf_add(&tx->carry, p + used, n - used);
            break;
        }
        const char *lf = memchr(p, '\n', n);
        size_t k = lf ? (size_t)(lf - p) + 1 : n;
        buf_add(&tx->carry, p, k);
        p += k;
        n -= k;
        buf_consume(&tx->carry, content_scan_feed(&tx->scan, tx->carry.p, tx->carry.n, &ended));
    }
    after_feed(S, all);
}

/* ---- the end ---- */

static enum flow refuse(struct smtpd_sess *S)
{
    enum cmd_id cmd = (enum cmd_id)S->pending_cmd;
    smtpd_tx_drop(S);
    smtpd_set_state(S, SMTPD_COMMAND);
    smtpd_command_done(S, cmd, false);
    smtpd_notify_flush_point(S);
    return FLOW_ON;
}

static struct span rcpt_for_log(struct smtpd_sess *S)
{
    return S->tx->accepted == 1 ? addr_quoted(smtpd_scratch(S), S->tx->first_rcpt) : span_of("", 0);
}

static bool is_bare_lf_refused(struct smtpd_sess *S)
{
    if (!S->tx->scan.saw_bare_lf)
        return false;
    S->saw_bare_lf = strcmp(S->p->smtpd_forbid_bare_newline, "no") != 0;
    return strcmp(S->p->smtpd_forbid_bare_newline, "reject") == 0 && !smtpd_bare_lf_is_excluded(S);
}

static bool tell_bare_lf(struct smtpd_sess *S)
{
    if (!is_bare_lf_refused(S))
        return false;
    smtpd_log_event(S, "reject", "END-OF-MESSAGE", rcpt_for_log(S), SPAN_LIT("bare <LF> received"));
    smtpd_reply(S, (int)S->p->smtpd_forbid_bare_newline_reject_code, "5.5.2", "%s Error: bare <LF> received",
                S->p->myhostname);
    return true;
}

/* True: refused, replied. */
static bool has_fault(struct smtpd_sess *S)
{
    const struct smtpd_tx *tx = S->tx;
    int code = 0;
    const char *dsn = "", *text = "";
    if (tell_bare_lf(S) || (!tx->too_big && smtpd_inspect_refused(S)))
        return true;
    if (tx->too_big)
        code = 552, dsn = "5.3.4", text = "Error: message file too big";
    else if (tx->too_many_hops)
        code = 554, dsn = "5.4.0", text = "Error: too many hops";
    else if (tx->scan.saw_rejected)
        code = 550, dsn = "5.7.1", text = "Error: content rejected";
    else if (tx->rewrite != NULL && tx->rewrite->has_failed)
        code = 451, dsn = "4.3.0", text = "Error: queue file write error";
    else if (tx->failed == SPOOL_FULL)
        code = 452, dsn = "4.3.1", text = "Insufficient system storage";
    else if (tx->failed != SPOOL_OK)
        code = 451, dsn = "4.3.0", text = "Error: queue file write error";
    if (code == 0)
        return smtpd_map_failed(S);
    smtpd_reject_text(S, "END-OF-MESSAGE", rcpt_for_log(S), code, dsn, "%s", text);
    return true;
}

/* What was not taken as a whole is not judged; what content checks refuse is, and the restrictions' refusal is the one that is told. */
static bool is_cut_short(struct smtpd_sess *S)
{
    return S->tx->too_big || S->tx->failed != SPOOL_OK || is_bare_lf_refused(S);
}

/* On the committer, or on the thread that submits when the spool has just ended; the last of several answers. */
void smtpd_committed_cb(void *arg, struct msg *m, int status)
{
    struct smtpd_sess *S = arg;
    (void)m;
    if (status != SPOOL_OK)
        atomic_store_explicit(&S->commit_status, (uint8_t)status, memory_order_relaxed);
    /* acq_rel: the last one hands on what the others were told; after it the session may be gone */
    if (atomic_fetch_sub_explicit(&S->commit_open, 1, memory_order_acq_rel) == 1)
        smtpd_handoff_answer(S);
}

/* What the scanner says of the content as it came, and the pipe of what was made of it. */
static uint32_t content_flags(const struct smtpd_tx *tx)
{
    const struct content_pipe *p = tx->pipe;
    uint32_t flags = tx->scan.flags;
    if (p == NULL)
        return flags;
    flags &= ~(uint32_t)CONTENT_HAS_8BIT_HEADER;
    flags |= p->hdr.has_8bit ? CONTENT_HAS_8BIT_HEADER | CONTENT_HAS_8BIT : 0;
    flags |= p->made_8bit ? CONTENT_HAS_8BIT : 0;
    flags |= p->made_long_line ? CONTENT_HAS_LONG_LINE : 0;
    return flags | (p->made_dot_line ? CONTENT_HAS_DOT_LINE : 0);
}

/* Behind us the client is the one that XFORWARD told us of, and nothing of the one that told us. */
static void forward_envelope(struct smtpd_sess *S, struct envelope *env)
{
    struct arena *a = S->tx->msg->arena;
    const struct { enum xattr_id id; struct span *to; } fields[] = {
        { XATTR_NAME, &env->client_name }, { XATTR_ADDR, &env->client_addr }, { XATTR_PORT, &env->client_port },
        { XATTR_PROTO, &env->proto }, { XATTR_HELO, &env->helo }, { XATTR_IDENT, &env->orig_id },
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        *fields[i].to = arena_dup_span(a, smtpd_forwarded(S, fields[i].id));
}

static void complete_envelope(struct smtpd_sess *S)
{
    struct smtpd_tx *tx = S->tx;
    struct envelope *env = &tx->msg->env;
    struct arena *a = tx->msg->arena;
    struct policy_client c;
    smtpd_policy_client(S, &c);
    env->content_flags = content_flags(tx);
    env->client_name = arena_dup_span(a, c.name);
    env->client_addr = arena_dup_span(a, c.addr_text);
    env->client_port = arena_dup_span(a, c.port);
    env->helo = arena_dup_span(a, c.helo);
    env->proto = tx->is_smtputf8 ? SPAN_LIT("UTF8SMTP") : S->is_esmtp ? SPAN_LIT("ESMTP") : SPAN_LIT("SMTP");
    env->sasl_user = arena_dup_span(a, c.sasl_user);
    env->sasl_method = arena_dup_span(a, c.sasl_method);
    if (S->login != NULL)
        env->flags |= ENV_AUTHENTICATED;
    if (S->forward != NULL)
        forward_envelope(S, env);
    env->message_id = smtpd_header(tx)->message_id.p ? smtpd_header(tx)->message_id : SPAN_LIT("");
    tx->msg->received_ms = clock_mono_ms();
    tx->msg->done_cb = smtpd_committed_cb;
    tx->msg->done_arg = S;
}

static void submit(struct smtpd_sess *S)
{
    struct smtpd_tx *tx = S->tx;
    struct msg *m = tx->msg;
    struct smtpd_counters *n = &S->env->counters;
    S->commit_id = m->env.id;
    S->commit_bytes = tx->scan.taken;
    atomic_fetch_add_explicit(&n->recipients, m->env.rcpt_count, memory_order_relaxed);
    atomic_fetch_add_explicit(&n->bytes, m->env.content_bytes, memory_order_relaxed);
    struct spool *spool = S->env->spool;
    size_t count = 1;
    struct msg **all = UNLIKELY(tx->lists != NULL || tx->report != NULL) ? mail_lists_take(&tx->lists, m, tx->report, &count) : NULL;
    tx->report = NULL;
    for (size_t i = 1; i < count; i++) {
        all[i]->done_cb = smtpd_committed_cb;
        all[i]->done_arg = S;
    }
    atomic_store_explicit(&S->commit_status, SPOOL_OK, memory_order_relaxed);
    atomic_store_explicit(&S->commit_open, (unsigned)count, memory_order_relaxed);
    tx->msg = NULL; /* the spool's from here on */
    smtpd_tx_drop(S);
    smtpd_set_state(S, SMTPD_COMMIT);
    smtpd_handoff_begin(S);
    if (all != NULL)
        spool_submit_all(spool, all, count); /* the session may be gone already */
    else
        spool_submit(spool, m);
    free(all);
}

enum flow smtpd_message_end(struct smtpd_sess *S)
{
    struct smtpd_tx *tx = S->tx;
    S->request_deadline_ms = 0;
    S->is_after_message = true;
    if (S->transcript != NULL)
        transcript_note(S->transcript, "[%llu bytes of content]", (unsigned long long)tx->scan.taken);
    if (tx->is_bdat)
        content_scan_finish(&tx->scan, tx->carry.n ? tx->carry.p : NULL, tx->carry.n);
    if (tx->pipe != NULL)
        pipe_end(tx->pipe);
    smtpd_log_message_id(S);
    return is_cut_short(S) && has_fault(S) ? refuse(S) : smtpd_message_judge(S);
}

static void reply_queued(struct smtpd_sess *S, const char *qid)
{
    char text[80];
    struct buf b = { .p = text, .cap = sizeof text, .max = sizeof text - 1 };
    buf_puts(&b, "250 2.0.0 Ok: queued as ");
    buf_puts(&b, qid);
    buf_puts(&b, "\r\n");
    smtpd_reply_raw(S, buf_span(&b));
}

/* Accepted as any other, and gone. */
static enum flow discard(struct smtpd_sess *S)
{
    enum cmd_id cmd = (enum cmd_id)S->pending_cmd;
    const char *id = arena_strdup(smtpd_scratch(S), smtpd_qid(S));
    unsigned long long bytes = S->tx->scan.taken;
    smtpd_tx_drop(S);
    smtpd_set_state(S, SMTPD_COMMAND);
    S->errors = S->junk = 0;
    if (cmd == CMD_BDAT)
        smtpd_reply(S, 250, "2.0.0", "Ok: %llu bytes queued as %s", bytes, id);
    else
        reply_queued(S, id);
    smtpd_command_done(S, cmd, true);
    smtpd_notify_flush_point(S);
    return FLOW_ON;
}

enum flow smtpd_message_judge(struct smtpd_sess *S)
{
    struct smtpd_tx *tx = S->tx;
    struct policy_client c;
    smtpd_policy_client(S, &c);
    c.size_bytes = tx->is_bdat || tx->scan.taken < 3 ? tx->scan.taken : tx->scan.taken - 3; /* without the final dot */
    if (tx->accepted == 1)
        c.recipient = tx->first_rcpt;
    bool ok = smtpd_policy_ok(S, STAGE_END_OF_DATA, "END-OF-MESSAGE", &c, rcpt_for_log(S));
    if (S->is_asking) {
        smtpd_ask(S);
        return FLOW_ON;
    }
    policy_answers_clear(S->answers);
    if (!ok || has_fault(S))
        return refuse(S);
    if (smtpd_action_is(tx, EFFECT_DISCARD))
        return discard(S);
    if (!smtpd_action_apply(S))
        return refuse(S);
    complete_envelope(S);
    tx->msg->env.content_bytes = content_bytes(tx->writer);
    if (content_is_file(tx->writer) && S->env->will_block != NULL)
        S->env->will_block(&S->s);
    tx->failed = content_finish(&tx->writer, tx->msg);
    if (tx->failed == SPOOL_OK && UNLIKELY(tx->lists != NULL || tx->expanded != NULL))
        tx->failed = smtpd_lists_copy(S);
    if (has_fault(S))
        return refuse(S);
    submit(S);
    return FLOW_ON;
}

enum flow smtpd_commit_run(struct smtpd_sess *S)
{
    char qid[QID_TEXT_MAX];
    if (!smtpd_handoff_is_here(S))
        return FLOW_WAIT;
    smtpd_set_state(S, SMTPD_COMMAND);
    bool ok = S->commit_status == SPOOL_OK;
    if (ok) {
        S->errors = 0;
        S->junk = 0;
        atomic_fetch_add_explicit(&S->env->counters.messages, 1, memory_order_relaxed);
        qid_format(S->commit_id, S->p->enable_long_queue_ids, qid);
        if (S->pending_cmd == CMD_BDAT)
            smtpd_reply(S, 250, "2.0.0", "Ok: %llu bytes queued as %s", (unsigned long long)S->commit_bytes, qid);
        else
            reply_queued(S, qid);
    } else if (S->commit_status == SPOOL_FULL) {
        smtpd_reply(S, 452, "4.3.1", "Insufficient system storage");
    } else if (S->commit_status == SPOOL_STOPPING) {
        smtpd_reply(S, 421, "4.3.2", "%s Service shutting down", S->p->myhostname);
    } else {
        smtpd_reply(S, 451, "4.3.0", "Error: queue file write error");
    }
    smtpd_command_done(S, (enum cmd_id)S->pending_cmd, ok);
    smtpd_notify_flush_point(S);
    return FLOW_ON;
}

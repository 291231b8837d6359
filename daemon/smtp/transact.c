/*
 * One mail transaction on a connection that is ready: [RSET] [XFORWARD] MAIL, RCPT for each recipient that is left, DATA or
 * BDAT, the content, the final reply or replies.
 *
 * The commands up to DATA are a row of steps. Without PIPELINING each is answered before the next goes out. With it,
 * steps go out in groups of at most GROUP_BYTES: that much always fits between two sockets' buffers, so the peer can
 * take the whole group even while nobody reads its replies, and neither side waits for the other for ever.
 *
 * DATA goes out with the last RCPT, before it is known whether any recipient was accepted. When none was and the peer
 * says 354 all the same, a lone dot ends it. With CHUNKING content of up to CHUNK_WITH_GROUP bytes goes out in the same
 * write: one round trip a message. Larger content waits for the replies first.
 *
 * LMTP answers the content once for each accepted recipient (RFC 2033 4.2). Each answer is reported when it comes.
 */
#include "common/base/clock.h"
#include "common/mail/address.h"
#include "daemon/smtp/request.h"

#define GROUP_BYTES      8192
#define CHUNK_WITH_GROUP (64 * 1024)
#define PATH_MAX_BYTES   (2 * ADDR_MAX) /* with what completed it; twice as long in quotes, it fits a command */

enum step_kind { STEP_RSET, STEP_XFORWARD_NAME, STEP_XFORWARD_PROTO, STEP_MAIL, STEP_RCPT, STEP_DATA, STEP_END };

struct step {
    enum step_kind kind;
    uint32_t rcpt;     /* STEP_RCPT: job recipient */
};

struct transaction {
    struct smtp_request *r;
    bool use_bdat, bdat_in_group, use_8bit, use_utf8;
    struct step next_send, next_reply; /* cursors over the same row of steps */
    bool mail_ok;
    bool is_over;        /* MAIL was refused or the host has had enough: send nothing more */
    uint32_t accepted;
    bool is_rcpt_taken;  /* the peer has said yes to some RCPT, even one that no longer counts */
    bool has_too_many;   /* a recipient was refused only because there were too many */
    bool is_data_sent;
    int data_code;       /* 0 while unknown */
    enum transact_end end;
};

/* The stage whose reply says whether a probe's address is good (smtp_address_verify_target). */
static bool is_probe(const struct smtp_request *r) { return r->job->probe != NULL; }
static bool is_probe_to_data(const struct smtp_request *r) { return is_probe(r) && strcmp(r->cp->address_verify_target, "data") == 0; }

/* ---- the row of steps ---- */

static bool wants_xforward(const struct smtp_request *r, uint32_t features)
{
    return r->cp->send_xforward_command && (r->conn->features & features);
}

static bool is_step_there(const struct transaction *t, struct step s)
{
    const struct smtp_request *r = t->r;
    switch (s.kind) {
    case STEP_RSET:
        return r->conn->needs_rset;
    case STEP_XFORWARD_NAME:
        return wants_xforward(r, FEAT_XFORWARD_NAME | FEAT_XFORWARD_ADDR | FEAT_XFORWARD_PORT);
    case STEP_XFORWARD_PROTO:
        return wants_xforward(r, FEAT_XFORWARD_PROTO | FEAT_XFORWARD_HELO | FEAT_XFORWARD_IDENT | FEAT_XFORWARD_SOURCE);
    case STEP_RCPT:
        return r->mark[s.rcpt] != MARK_DONE;
    case STEP_MAIL:
    case STEP_DATA:
    case STEP_END:
        break;
    }
    return true;
}

static struct step step_after(const struct transaction *t, struct step s)
{
    do {
        if (s.kind == STEP_RCPT && s.rcpt + 1 < t->r->job->rcpt_count)
            s.rcpt++;
        else
            s.kind++;
    } while (!is_step_there(t, s));
    return s;
}

static struct step first_step(const struct transaction *t)
{
    struct step s = { .kind = STEP_RSET };
    return is_step_there(t, s) ? s : step_after(t, s);
}

static bool is_same_step(struct step a, struct step b)
{
    return a.kind == b.kind && (a.kind != STEP_RCPT || a.rcpt == b.rcpt);
}

static enum smtp_stage stage_of(struct step s)
{
    static const enum smtp_stage stage[] = {
        [STEP_RSET] = STAGE_RSET, [STEP_XFORWARD_NAME] = STAGE_XFORWARD_NAME, [STEP_XFORWARD_PROTO] = STAGE_XFORWARD_PROTO,
        [STEP_MAIL] = STAGE_MAIL, [STEP_RCPT] = STAGE_RCPT,                   [STEP_DATA] = STAGE_DATA,
        [STEP_END] = STAGE_END,
    };
    return stage[s.kind];
}

/* ---- failures ---- */

static void fail_here(struct transaction *t, enum smtp_stage s, enum smtp_io io)
{
    struct smtp_request *r = t->r;
    r->conn->is_broken = true;
    if (r->is_reused && !r->was_answered && (io == SMTP_IO_LOST || s == STAGE_RSET)) {
        t->end = TRANSACT_STALE;
        return;
    }
    fail_io(r, s, io);
    log_soft_failure(r);
    t->end = TRANSACT_FAILED;
}

/* The whole message was refused: permanent refusals are final, others when no host is left. */
static void message_refused(struct transaction *t, enum smtp_stage s, const struct smtp_reply *rep)
{
    struct smtp_request *r = t->r;
    if (rep->code == 421 && r->is_reused && !r->was_answered) {
        r->conn->is_broken = true;
        t->end = TRANSACT_STALE;
        t->is_over = true;
        return;
    }
    fail_reply(r, s, rep);
    t->is_over = true;
    t->end = TRANSACT_FAILED;
    if (s == STAGE_MAIL && r->fail.is_permanent)
        report_left_failed(r);
    log_soft_failure(r);
}

static void rcpt_refused(struct transaction *t, uint32_t i, const struct smtp_reply *rep)
{
    struct smtp_request *r = t->r;
    fail_reply(r, STAGE_RCPT, rep);
    if (r->fail.is_permanent) {
        report_failed(r, i);
        return;
    }
    r->mark[i] = MARK_LEFT;
    bool too_many = rep->code == 552 || (rep->code == 452 && (!rep->has_dsn || strcmp(rep->dsn_text, "4.5.3") == 0));
    t->has_too_many |= too_many;
    if (rep->code == 421) {
        t->is_over = true;
        t->end = TRANSACT_FAILED;
    } else if (too_many && t->accepted > 0) {
        return; /* they get a transaction of their own */
    } else if (r->is_last_host) {
        report_failed(r, i);
    } else {
        log_soft_failure(r);
    }
}

/* ---- replies to the steps ---- */

static void take_reply(struct transaction *t, struct step s, const struct smtp_reply *rep)
{
    struct smtp_request *r = t->r;
    bool is_ok = rep->code / 100 == 2;
    switch (s.kind) {
    case STEP_RSET:
        r->conn->needs_rset = false;
        break; /* a refusal shows at MAIL */
    case STEP_XFORWARD_NAME:
    case STEP_XFORWARD_PROTO:
        if (!is_ok && !t->is_over)
            message_refused(t, stage_of(s), rep);
        break;
    case STEP_MAIL:
        t->mail_ok = is_ok;
        r->verdict = SITE_OK;
        if (is_ok)
            r->conn->needs_rset = true;
        else if (!t->is_over)
            message_refused(t, STAGE_MAIL, rep);
        break;
    case STEP_RCPT:
        t->is_rcpt_taken |= is_ok;
        if (t->is_over)
            break;
        if (is_ok && is_probe(r) && !is_probe_to_data(r)) {
            report_sent(r, s.rcpt, rep);
        } else if (is_ok) {
            r->mark[s.rcpt] = MARK_ACCEPTED;
            t->accepted++;
        } else {
            rcpt_refused(t, s.rcpt, rep);
        }
        break;
    case STEP_DATA:
        t->data_code = rep->code;
        if (t->use_bdat ? !is_ok : rep->code != 354) {
            if (t->accepted > 0 && !t->is_over)
                message_refused(t, STAGE_DATA, rep);
        } else if (is_probe(r)) {
            report_all_sent(r, rep);
            r->conn->is_broken = true; /* what would come now were content */
        }
        break;
    case STEP_END:
        break;
    }
    if (t->end != TRANSACT_STALE)
        r->was_answered = true;
}

/* ---- sending ---- */

static void put_bdat(struct transaction *t)
{
    struct buf *b = &t->r->conn->line;
    buf_reset(b);
    buf_add(b, "BDAT ", 5);
    buf_put_uint(b, content_wire_bytes(t->r));
    buf_add(b, " LAST\r\n", 7);
    conn_put(t->r->conn, buf_span(b));
    content_put_bdat(t->r);
}

static void put_step(struct transaction *t, struct step s)
{
    struct smtp_request *r = t->r;
    switch (s.kind) {
    case STEP_RSET:
        conn_put(r->conn, SPAN_LIT("RSET\r\n"));
        break;
    case STEP_XFORWARD_NAME:
        command_xforward_name(r);
        break;
    case STEP_XFORWARD_PROTO:
        command_xforward_proto(r);
        break;
    case STEP_MAIL:
        command_mail(r, t->use_8bit, t->use_utf8);
        break;
    case STEP_RCPT:
        command_rcpt(r, s.rcpt);
        break;
    case STEP_DATA:
        t->is_data_sent = true;
        if (t->use_bdat)
            put_bdat(t);
        else
            conn_put(r->conn, SPAN_LIT("DATA\r\n"));
        break;
    case STEP_END:
        break;
    }
}

/* May the next step go out now? */
static bool may_send(const struct transaction *t, bool pipelining)
{
    bool all_answered = is_same_step(t->next_send, t->next_reply);
    if (t->next_send.kind == STEP_END || t->is_over)
        return false;
    if (t->next_send.kind == STEP_DATA && is_probe(t->r) && !(all_answered && is_probe_to_data(t->r)))
        return false;
    if (!all_answered && (!pipelining || stream_out_pending(t->r->conn->stream) >= GROUP_BYTES))
        return false;
    if (t->next_send.kind != STEP_DATA)
        return true;
    /* With all replies in hand it is known whether there is anybody to send to. */
    return all_answered ? t->accepted > 0 : !t->use_bdat || t->bdat_in_group;
}

/* The replies to BDAT are the final ones and are read by finish(). */
static bool wants_reply(const struct transaction *t)
{
    return !is_same_step(t->next_reply, t->next_send) && !(t->next_reply.kind == STEP_DATA && t->use_bdat);
}

/* Runs the row up to the reply to DATA, or up to BDAT's content. False: t->end says why it ended early. */
static bool run_steps(struct transaction *t)
{
    struct smtp_request *r = t->r;
    struct smtp_reply rep;
    bool pipelining = (r->conn->features & FEAT_PIPELINING) != 0;
    while (may_send(t, pipelining)) {
        if (t->next_send.kind != STEP_DATA || !t->use_bdat)
            stage_begin(r, stage_of(t->next_send));
        while (may_send(t, pipelining)) {
            put_step(t, t->next_send);
            t->next_send = step_after(t, t->next_send);
        }
        if (stream_flush(r->conn->stream) != STREAM_OK) {
            fail_here(t, t->is_data_sent && t->use_bdat ? STAGE_BODY : stage_of(t->next_reply), conn_io_status(r->conn));
            return false;
        }
        while (wants_reply(t)) {
            stage_begin(r, stage_of(t->next_reply));
            enum smtp_io io = reply_read(r->conn, &rep);
            if (io != SMTP_IO_OK) {
                fail_here(t, stage_of(t->next_reply), io);
                return false;
            }
            struct step s = t->next_reply;
            t->next_reply = step_after(t, s);
            take_reply(t, s, &rep);
        }
    }
    return true;
}

/* ---- the end of the content ---- */

/* Reports those for whom the refusal is final, and puts the others back among those that are left. */
static void settle_accepted(struct transaction *t)
{
    struct smtp_request *r = t->r;
    for (uint32_t i = 0; i < r->job->rcpt_count; i++) {
        if (r->mark[i] != MARK_ACCEPTED)
            continue;
        r->mark[i] = MARK_LEFT;
        if (t->end == TRANSACT_FAILED && r->fail.is_set && (r->fail.is_permanent || (r->is_last_host && !r->fail.is_site)))
            report_failed(r, i);
    }
}

static void read_smtp_end(struct transaction *t)
{
    struct smtp_request *r = t->r;
    struct smtp_reply rep;
    enum smtp_io io = reply_read(r->conn, &rep);
    if (io != SMTP_IO_OK) {
        fail_here(t, STAGE_END, io);
        return;
    }
    r->was_answered = true;
    r->conn->needs_rset = t->use_bdat && rep.code / 100 != 2;
    if (rep.code / 100 != 2) {
        message_refused(t, STAGE_END, &rep);
        return;
    }
    if (t->accepted == r->left) {
        report_all_sent(r, &rep);
        return;
    }
    for (uint32_t i = 0; i < r->job->rcpt_count; i++)
        if (r->mark[i] == MARK_ACCEPTED)
            report_sent(r, i, &rep);
}

static void read_lmtp_end(struct transaction *t)
{
    struct smtp_request *r = t->r;
    struct smtp_reply rep;
    for (uint32_t i = 0; i < r->job->rcpt_count; i++) {
        if (r->mark[i] != MARK_ACCEPTED)
            continue;
        stage_begin(r, STAGE_END);
        enum smtp_io io = reply_read(r->conn, &rep);
        if (io != SMTP_IO_OK) {
            fail_here(t, STAGE_END, io);
            return;
        }
        r->was_answered = true;
        if (rep.code / 100 == 2) {
            report_sent(r, i, &rep);
            continue;
        }
        fail_reply(r, STAGE_END, &rep);
        r->mark[i] = MARK_LEFT;
        log_soft_failure(r);
        if (r->fail.is_permanent || r->is_last_host)
            report_failed(r, i);
    }
    r->conn->needs_rset = false;
}

/* Firewalls with "smtp fixup" lose a dot that comes in one packet with the end of the content. */
static bool delay_dot(struct transaction *t)
{
    struct smtp_request *r = t->r;
    if (!(r->conn->features & FEAT_PIX_DELAY))
        return true;
    if (stream_flush(r->conn->stream) != STREAM_OK)
        return false;
    int64_t ms = r->cp->pix_workaround_delay_time;
    struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
    stage_begin(r, STAGE_BODY);
    return true;
}

static void send_content(struct transaction *t)
{
    struct smtp_request *r = t->r;
    content_put_data(r);
    bool ok = delay_dot(t);
    conn_put(r->conn, SPAN_LIT(".\r\n"));
    if (!ok || stream_flush(r->conn->stream) != STREAM_OK)
        fail_here(t, STAGE_BODY, conn_io_status(r->conn));
}

/* 354 though nobody was accepted: the peer waits for content that must not be the message. */
static void send_lone_dot(struct transaction *t)
{
    struct smtp_request *r = t->r;
    struct smtp_reply rep;
    stage_begin(r, STAGE_END);
    conn_put(r->conn, SPAN_LIT(".\r\n"));
    if (stream_flush(r->conn->stream) != STREAM_OK || r->is_lmtp || reply_read(r->conn, &rep) != SMTP_IO_OK)
        r->conn->is_broken = true; /* LMTP: nobody knows how many replies will come */
    else
        r->conn->needs_rset = false;
}

static void finish_data(struct transaction *t)
{
    struct smtp_request *r = t->r;
    struct smtp_reply rep;
    /* With BDAT the content is there already, whatever came after the accepted recipients: the reply decides. */
    bool wanted = t->accepted > 0 && (!t->is_over || t->use_bdat);
    if (t->use_bdat && !wanted) {
        stage_begin(r, STAGE_END);
        r->conn->needs_rset = true;
        if (reply_read(r->conn, &rep) != SMTP_IO_OK)
            r->conn->is_broken = true;
        return;
    }
    if (!t->use_bdat && t->data_code != 354)
        return;
    if (!wanted && t->is_rcpt_taken) { /* a lone dot would be an empty message to them */
        r->conn->is_broken = true;
        return;
    }
    if (!wanted) {
        send_lone_dot(t);
        return;
    }
    if (!t->use_bdat) {
        send_content(t);
        if (t->end != TRANSACT_OK)
            return;
    }
    stage_begin(r, STAGE_END);
    if (r->is_lmtp)
        read_lmtp_end(t);
    else
        read_smtp_end(t);
}

/* ---- before the first command ---- */

/* RFC 6531: the message cannot be sent without the extension. */
static bool needs_utf8(const struct smtp_request *r)
{
    const struct envelope *env = &r->job->msg->env;
    if (!(env->flags & ENV_SMTPUTF8))
        return false;
    bool needed = (env->content_flags & CONTENT_HAS_8BIT_HEADER) || !span_is_ascii(env->sender);
    for (uint32_t i = 0; i < r->job->rcpt_count && !needed; i++)
        needed = r->mark[i] != MARK_DONE && !span_is_ascii(env->rcpts[r->job->rcpts[i].index].addr);
    return needed;
}

/*
 * For a host without 8BITMIME. False: the content cannot be converted, and has been refused. A notice goes as it is then:
 * there is nobody to return it to, and it may have such a message inside.
 */
static bool plan_downgrade(struct smtp_request *r)
{
    r->is_downgraded = false;
    if ((r->conn->features & FEAT_8BITMIME) || !(request_content_flags(r) & CONTENT_HAS_8BIT) ||
        r->p->disable_mime_output_conversion)
        return true;
    switch (downgrade_need_of(inspect_whole(r), content_mime_limits(r))) {
    case DOWNGRADE_NONE:
        break;
    case DOWNGRADE_NEEDED:
        r->is_downgraded = true;
        break;
    case DOWNGRADE_TOO_DEEP:
        if (r->job->msg->env.sender.n == 0)
            break;
        fail_words(r, "5.6.0", "MIME nesting exceeds safety limit");
        report_left_failed(r);
        return false;
    }
    return true;
}

/* Addresses are checked when they come; whatever the spool holds, none may end a command or begin another. */
static bool is_sendable(struct span addr)
{
    for (size_t i = 0; i < addr.n; i++)
        if ((unsigned char)addr.p[i] < 32 || addr.p[i] == 127)
            return false;
    return addr.n <= PATH_MAX_BYTES;
}

/* False: nobody is left. */
static bool refuse_unsendable(struct smtp_request *r)
{
    const struct envelope *env = &r->job->msg->env;
    if (!is_sendable(env->sender)) {
        fail_words(r, "5.1.7", "the sender address is too long, or has control characters");
        report_left_failed(r);
        return false;
    }
    for (uint32_t i = 0; i < r->job->rcpt_count; i++) {
        if (r->mark[i] == MARK_DONE || is_sendable(env->rcpts[r->job->rcpts[i].index].addr))
            continue;
        fail_words(r, "5.1.3", "the recipient address is too long, or has control characters");
        report_failed(r, i);
    }
    return r->left > 0;
}

static bool prepare(struct transaction *t)
{
    struct smtp_request *r = t->r;
    const struct envelope *env = &r->job->msg->env;
    uint32_t f = r->conn->features;
    struct err e = ERR_INIT;
    if (!refuse_unsendable(r))
        return false;
    if ((f & FEAT_SIZE) && r->conn->size_limit > 0 && env->content_bytes > r->conn->size_limit) {
        fail_words(r, "5.3.4", "message size %llu exceeds size limit %llu of server %s",
                   (unsigned long long)env->content_bytes, (unsigned long long)r->conn->size_limit, r->conn->namaddr);
        report_left_failed(r);
        return false;
    }
    if (!(f & FEAT_SMTPUTF8) && needs_utf8(r)) {
        fail_words(r, "5.6.7", "SMTPUTF8 is required, but was not offered by host %s", r->conn->namaddr);
        report_left_failed(r);
        return false;
    }
    if (is_probe(r)) {
        t->use_utf8 = (f & FEAT_SMTPUTF8) && (env->flags & ENV_SMTPUTF8);
        return true;
    }
    if (!r->has_view && !content_acquire(r->env->spool, r->job->msg, &r->view, &e)) {
        log_warn(&r->log, "cannot read the content of a message: %s", e.text);
        notify_error(r, NOTIFY_CLASS_DATA);
        fail_words(r, "4.3.0", "local data error while talking to %s", r->conn->namaddr);
        return false;
    }
    r->has_view = true;
    if (!inspect_content(r)) {
        fail_words(r, "4.3.0", "local data error while talking to %s", r->conn->namaddr);
        return false;
    }
    if (!plan_downgrade(r))
        return false;
    t->use_8bit = (f & FEAT_8BITMIME) && ((request_content_flags(r) & CONTENT_HAS_8BIT) || (env->flags & ENV_8BITMIME));
    t->use_utf8 = (f & FEAT_SMTPUTF8) && (env->flags & ENV_SMTPUTF8);
    uint64_t wire = content_wire_bytes(r);
    t->use_bdat = (f & FEAT_CHUNKING) && wire > 0;
    t->bdat_in_group = t->use_bdat && wire <= CHUNK_WITH_GROUP;
    return true;
}

enum transact_end transact(struct smtp_request *r)
{
    struct transaction t = { .r = r, .end = TRANSACT_OK };
    if (!prepare(&t))
        return TRANSACT_FAILED;
    r->conn->use_count++;
    r->was_answered = false;
    t.next_send = t.next_reply = first_step(&t);
    if (run_steps(&t) && t.is_data_sent && !is_probe(r))
        finish_data(&t);
    if (t.end == TRANSACT_FAILED && r->fail.is_site)
        r->conn->is_broken = true;
    uint32_t accepted = t.accepted;
    settle_accepted(&t);
    if (t.end == TRANSACT_OK && t.has_too_many && accepted > 0 && r->left > 0 && !r->conn->is_broken)
        return TRANSACT_AGAIN;
    return t.end;
}

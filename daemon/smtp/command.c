/*
 * MAIL, RCPT and XFORWARD with their parameters. Each command is put together in one buffer on the stack of the call
 * and copied into the stream's output, where neighbours become one segment.
 */
#include "common/mail/address.h"
#include "common/mail/xtext.h"
#include "daemon/smtp/request.h"

#define XFORWARD_VALUE_MAX 255
#define ENVID_MAX 100 /* RFC 3461 4.4 */

/* The text of a path. Its length was looked at, and that there are no control characters: transact.c. */
static void put_path(const struct smtp_request *r, struct buf *b, struct span addr)
{
    if (r->cp->quote_rfc821_envelope)
        addr_quote(b, addr);
    else
        buf_add_span(b, addr);
}

static void send_line(struct smtp_request *r, struct buf *b)
{
    buf_add(b, "\r\n", 2);
    conn_put(r->conn, buf_span(b));
}

void command_mail(struct smtp_request *r, bool use_8bit, bool use_utf8)
{
    const struct envelope *env = &r->job->msg->env;
    struct buf *b = &r->conn->line;
    uint32_t f = r->conn->features;
    buf_reset(b);
    buf_add(b, "MAIL FROM:<", 11);
    put_path(r, b, env->sender);
    buf_putc(b, '>');
    if (f & FEAT_SIZE) {
        buf_add(b, " SIZE=", 6);
        buf_put_uint(b, env->content_bytes + r->extra.n);
    }
    if (use_8bit)
        buf_puts(b, " BODY=8BITMIME");
    if (f & FEAT_DSN) {
        if (env->envid.n > 0 && env->envid.n <= ENVID_MAX) {
            buf_puts(b, " ENVID=");
            xtext_encode(b, env->envid);
        }
        if (env->ret != DSN_RET_UNSET)
            buf_puts(b, env->ret == DSN_RET_FULL ? " RET=FULL" : " RET=HDRS");
    }
    if (use_utf8)
        buf_puts(b, " SMTPUTF8");
    send_line(r, b);
}

static void put_notify(struct buf *b, uint8_t notify)
{
    static const struct { uint8_t bit; const char *word; } words[] = {
        { NOTIFY_NEVER, "NEVER" }, { NOTIFY_SUCCESS, "SUCCESS" }, { NOTIFY_FAILURE, "FAILURE" }, { NOTIFY_DELAY, "DELAY" },
    };
    const char *before = " NOTIFY=";
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!(notify & words[i].bit))
            continue;
        buf_puts(b, before);
        buf_puts(b, words[i].word);
        before = ",";
    }
}

static void put_orcpt(struct buf *b, const struct msg_rcpt *rcpt)
{
    ptrdiff_t semi = span_find(rcpt->orcpt, ';');
    if (semi > 0) {
        buf_puts(b, " ORCPT=");
        buf_add(b, rcpt->orcpt.p, (size_t)semi + 1);
        xtext_encode(b, span_from(rcpt->orcpt, (size_t)semi + 1));
    } else if (rcpt->orig.n > 0) {
        struct buf q = BUF_INIT(1024);
        addr_quote(&q, rcpt->orig);
        buf_puts(b, !span_is_ascii(rcpt->orig) ? " ORCPT=utf-8;" : " ORCPT=rfc822;");
        xtext_encode(b, buf_span(&q));
        buf_free(&q);
    }
}

void command_rcpt(struct smtp_request *r, uint32_t i)
{
    const struct msg_rcpt *rcpt = &r->job->msg->env.rcpts[r->job->rcpts[i].index];
    struct buf *b = &r->conn->line;
    buf_reset(b);
    buf_add(b, "RCPT TO:<", 9);
    put_path(r, b, rcpt->addr);
    buf_putc(b, '>');
    if (r->conn->features & FEAT_DSN) {
        put_notify(b, rcpt->notify);
        put_orcpt(b, rcpt);
    }
    send_line(r, b);
}

/* ---- XFORWARD: who gave us the mail, for the logs behind us (XFORWARD_README) ---- */

static void put_attribute(struct smtp_request *r, struct buf *b, uint32_t feature, const char *name, struct span value)
{
    if (!(r->conn->features & feature))
        return;
    buf_putc(b, ' ');
    buf_puts(b, name);
    buf_putc(b, '=');
    if (value.n == 0)
        buf_puts(b, "[UNAVAILABLE]");
    else
        xtext_encode(b, value.n > XFORWARD_VALUE_MAX ? span_of(value.p, XFORWARD_VALUE_MAX) : value);
}

void command_xforward_name(struct smtp_request *r)
{
    const struct envelope *env = &r->job->msg->env;
    struct buf *b = &r->conn->line;
    char v6[80];
    struct span addr = env->client_addr;
    if (span_find(addr, ':') >= 0 && !span_istarts_with(addr, SPAN_LIT("ipv6:"))) {
        snprintf(v6, sizeof v6, "IPV6:%.*s", SPAN_ARG(addr));
        addr = span_cstr(v6);
    }
    buf_reset(b);
    buf_puts(b, "XFORWARD");
    put_attribute(r, b, FEAT_XFORWARD_NAME, "NAME", env->client_name);
    put_attribute(r, b, FEAT_XFORWARD_ADDR, "ADDR", addr);
    put_attribute(r, b, FEAT_XFORWARD_PORT, "PORT", env->client_port);
    send_line(r, b);
}

void command_xforward_proto(struct smtp_request *r)
{
    const struct envelope *env = &r->job->msg->env;
    struct buf *b = &r->conn->line;
    char id[QID_TEXT_MAX];
    size_t n = qid_format(env->id, r->p->enable_long_queue_ids, id);
    buf_reset(b);
    buf_puts(b, "XFORWARD");
    put_attribute(r, b, FEAT_XFORWARD_PROTO, "PROTO", env->proto);
    put_attribute(r, b, FEAT_XFORWARD_HELO, "HELO", env->helo);
    put_attribute(r, b, FEAT_XFORWARD_IDENT, "IDENT", env->orig_id.n > 0 ? env->orig_id : span_of(id, n));
    put_attribute(r, b, FEAT_XFORWARD_SOURCE, "SOURCE",
                  env->flags & (ENV_LOCAL_SUBMIT | ENV_SOURCE_LOCAL) ? SPAN_LIT("LOCAL") : SPAN_LIT("REMOTE"));
    send_line(r, b);
}

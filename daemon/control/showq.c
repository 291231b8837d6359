/*
 * public/showq: the queue in Postfix's own attribute protocol, for the programs that read it (postqueue, exporters). A client
 * connects and reads; it sends nothing. Every name and value ends with a NUL, an empty name ends a group:
 *
 *    protocol mail_queue_list_protocol ""
 *    per message: queue_name queue_id time size forced_expire sender
 *        per recipient: recipient reason
 *    ""  (ends a message)
 *    ""  (ends the list)
 *
 * This is the form of Postfix up to 3.10, whose postqueue refuses any other attribute; 3.11 has two more per recipient.
 */
#include "daemon/control/control_internal.h"

#include "common/base/clock.h"
#include "common/conf/params.h"
#include "common/mail/address.h"
#include "queue/sched.h"

struct showq_run {
    struct ctl_client *cl;
    struct buf b;
    bool long_ids;
};

static void put(struct buf *b, const char *name, struct span value)
{
    buf_puts(b, name);
    buf_putc(b, '\0');
    for (size_t i = 0; i < value.n; i++) /* a NUL would end the value */
        buf_putc(b, value.p[i] != '\0' ? value.p[i] : '?');
    buf_putc(b, '\0');
}

static void put_number(struct buf *b, const char *name, uint64_t v)
{
    buf_puts(b, name);
    buf_putc(b, '\0');
    buf_put_uint(b, v);
    buf_putc(b, '\0');
}

static void put_address(struct buf *b, const char *name, struct span internal)
{
    struct buf text = BUF_INIT(0);
    addr_quote(&text, internal);
    put(b, name, buf_span(&text));
    buf_free(&text);
}

static const char *const queue_names[] = {
    [SCHED_ACTIVE] = "active", [SCHED_DEFERRED] = "deferred", [SCHED_HOLD] = "hold", [SCHED_INCOMING] = "incoming",
};

static bool send_buffer(struct showq_run *r)
{
    stream_set_deadline(r->cl->s, clock_mono_ms() + CTL_IO_MS);
    stream_put_borrowed(r->cl->s, buf_span(&r->b));
    bool ok = ctl_flush(r->cl);
    buf_reset(&r->b);
    return ok;
}

static bool send_message(void *arg, struct msg *m, enum sched_where w)
{
    struct showq_run *r = arg;
    const struct envelope *e = &m->env;
    char id[QID_TEXT_MAX];
    qid_format(e->id, r->long_ids, id);
    put(&r->b, "queue_name", span_cstr(queue_names[w]));
    put(&r->b, "queue_id", span_cstr(id));
    put_number(&r->b, "time", (uint64_t)(e->arrival_us / 1000000));
    put_number(&r->b, "size", e->content_bytes);
    put_number(&r->b, "forced_expire", (e->flags & ENV_FORCED_EXPIRE) != 0);
    if (e->sender.n > 0)
        put_address(&r->b, "sender", e->sender);
    else
        put(&r->b, "sender", SPAN_LIT("MAILER-DAEMON"));
    for (uint32_t i = 0; i < e->rcpt_count; i++) {
        const struct msg_rcpt *q = &e->rcpts[i];
        if (q->state == RCPT_DONE)
            continue;
        put_address(&r->b, "recipient", q->addr);
        put(&r->b, "reason", q->last_reason);
    }
    buf_putc(&r->b, '\0');
    return r->b.n < 65536 || send_buffer(r);
}

void showq_serve(struct ctl_client *cl)
{
    const struct control_options *o = &cl->c->o;
    struct err e = ERR_INIT;
    struct showq_run r = { .cl = cl, .b = BUF_INIT(0) };
    if (!ctl_is_allowed(cl, RIGHT_MAILQ, &e))
        return;
    struct conf *c = o->conf(o->arg);
    r.long_ids = conf_global(c)->enable_long_queue_ids;
    conf_unref(&c);
    put(&r.b, "protocol", SPAN_LIT("mail_queue_list_protocol"));
    buf_putc(&r.b, '\0');
    sched_list(o->sched, send_message, &r);
    buf_putc(&r.b, '\0');
    if (!cl->is_broken && !send_buffer(&r))
        log_debug(o->log, "showq: the client is gone");
    buf_free(&r.b);
}

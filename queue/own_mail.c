#include "queue/own_mail.h"

#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/mail/address.h"
#include "common/mail/maildate.h"

struct msg *own_mail_new(struct own_mail *o, const struct params *p, struct spool *s, struct span from, struct span to)
{
    struct msg *m = msg_new();
    char id[QID_TEXT_MAX + 1];
    *o = (struct own_mail){ .p = p, .id = qid_new(spool_qids(s)), .now_us = clock_wall_us() };
    id[qid_format(o->id, p->enable_long_queue_ids, id)] = '\0';
    o->from = from.n ? arena_dup_span(m->arena, from) : (struct span){ 0 };
    o->to = arena_dup_span(m->arena, to);
    o->message_id = span_cstr(arena_printf(m->arena, "<%s.%lld@%s>", id, (long long)(o->now_us / 1000000), p->myhostname));
    m->env.id = o->id;
    m->env.arrival_us = o->now_us;
    m->env.sender = o->from;
    m->env.message_id = o->message_id;
    return m;
}

char own_mail_clean(char c, bool is_utf8)
{
    if (ascii_is_8bit(c))
        return is_utf8 ? c : '?';
    return ascii_is_print(c) ? c : c == '\t' ? ' ' : '?';
}

void own_mail_put_address(struct buf *b, struct span internal, bool is_utf8)
{
    size_t at = b->n;
    addr_quote(b, internal);
    if (b->n - at > OWN_MAIL_ADDRESS_SHOWN) {
        size_t cut = at + OWN_MAIL_ADDRESS_SHOWN;
        while (cut > at && ((unsigned char)b->p[cut] & 0xc0) == 0x80) /* not inside a character */
            cut--;
        b->n = cut;
        buf_puts(b, "...");
    }
    for (size_t i = at; i < b->n; i++)
        b->p[i] = own_mail_clean(b->p[i], is_utf8);
}

static void put_date_line(struct buf *b, const char *label, int64_t us)
{
    char t[MAIL_DATE_MAX];
    buf_puts(b, label);
    buf_add(b, t, mail_date_format(us / 1000000, t));
    buf_puts(b, "\r\n");
}

void own_mail_put_header(struct buf *b, const struct own_mail *o, const char *subject, bool is_utf8)
{
    char id[QID_TEXT_MAX];
    buf_printf(b, "Received: by %s (%s)\r\n\tid ", o->p->myhostname, o->p->mail_name);
    buf_add(b, id, qid_format(o->id, o->p->enable_long_queue_ids, id));
    put_date_line(b, "; ", o->now_us);
    put_date_line(b, "Date: ", o->now_us);
    buf_printf(b, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\nTo: ", o->p->myorigin);
    own_mail_put_address(b, o->to, is_utf8);
    buf_printf(b, "\r\nSubject: %s\r\nAuto-Submitted: auto-replied\r\nMessage-Id: ", subject);
    buf_add_span(b, o->message_id);
    buf_puts(b, "\r\n");
}

void own_mail_log(const struct log_src *log, const struct own_mail *o)
{
    struct log_src cleanup = *log;
    char id[QID_TEXT_MAX + 1];
    id[qid_format(o->id, o->p->enable_long_queue_ids, id)] = '\0';
    cleanup.prog = "cleanup";
    log_info(&cleanup, "%s: message-id=%.*s", id, SPAN_ARG(o->message_id));
}

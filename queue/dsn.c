/*
 * Everything goes through one buffer that is handed on whenever it has grown beyond DSN_BUFFER, so a
 * report on 10,000 recipients takes no more memory than one on a single recipient.
 */
#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/mail/address.h"
#include "common/mail/maildate.h"
#include "queue/dsn.h"

#define FOLD_AT 72
#define LINE_MAX_BYTES 900 /* a word longer than this is cut: RFC 5322 allows 998 */

struct out {
    struct buf b;
    struct own_content *to;
    bool failed;
};

static void drain(struct out *o, size_t above)
{
    if (o->b.n <= above || o->failed)
        return;
    if (!buf_ok(&o->b) || !own_content_put(o->to, buf_span(&o->b)))
        o->failed = true;
    buf_reset(&o->b);
}

static void line(struct out *o, const char *text)
{
    buf_puts(&o->b, text);
    buf_puts(&o->b, "\r\n");
}

static void put_qid(struct out *o, const struct params *p, uint64_t id)
{
    char t[QID_TEXT_MAX];
    buf_add(&o->b, t, qid_format(id, p->enable_long_queue_ids, t));
}

static void put_date_line(struct out *o, const char *label, int64_t us)
{
    char t[MAIL_DATE_MAX];
    buf_puts(&o->b, label);
    buf_add(&o->b, t, mail_date_format(us / 1000000, t));
    buf_puts(&o->b, "\r\n");
}

static size_t word_length(struct span s)
{
    size_t n = 0;
    while (n < s.n && !ascii_is_space(s.p[n]) && n < LINE_MAX_BYTES)
        n++;
    return n;
}

/* Words of `s`, folded into lines that begin with `indent`; `column` is where the first one starts. */
static void put_folded(struct out *o, struct span s, size_t column, const char *indent, bool utf8)
{
    bool is_first = true;
    for (;;) {
        while (s.n > 0 && ascii_is_space(s.p[0]))
            s = span_from(s, 1);
        size_t n = word_length(s);
        if (n == 0)
            break;
        if (is_first ? column + n > LINE_MAX_BYTES + FOLD_AT : column + 1 + n > FOLD_AT) {
            buf_puts(&o->b, "\r\n");
            buf_puts(&o->b, indent);
            column = strlen(indent);
        } else if (!is_first) {
            buf_putc(&o->b, ' ');
            column++;
        }
        for (size_t i = 0; i < n; i++)
            buf_putc(&o->b, own_mail_clean(s.p[i], utf8));
        column += n;
        s = span_from(s, n);
        is_first = false;
    }
    buf_puts(&o->b, "\r\n");
}

static void field(struct out *o, const char *name, const char *type, struct span value, bool utf8)
{
    size_t at = o->b.n;
    buf_puts(&o->b, name);
    buf_puts(&o->b, ": ");
    buf_puts(&o->b, type);
    put_folded(o, value, o->b.n - at, "    ", utf8);
}

static void put_addr(struct out *o, struct span internal, bool utf8)
{
    own_mail_put_address(&o->b, internal, utf8);
}

static void addr_field(struct out *o, const char *name, struct span a, bool utf8)
{
    buf_puts(&o->b, name);
    buf_puts(&o->b, utf8 && !span_is_ascii(a) ? ": utf-8; " : ": rfc822; ");
    put_addr(o, a, utf8);
    buf_puts(&o->b, "\r\n");
}

/* ---- the words that differ by kind ---- */

struct wording {
    const char *subject;
    const char *opening[6]; /* lines, ended by NULL */
    bool is_to_postmaster;
};

static const struct wording wordings[] = {
    [BOUNCE_FAILURE] = { "Undeliverable mail returned to sender", {
        "Your message could not be delivered to every recipient, and no further",
        "attempt will be made for those named below. The reasons were given by the",
        "systems that refused it, or by this one. If you need help, ask the",
        "postmaster and send this report along.", NULL }, false },
    [BOUNCE_DELAY] = { "Delayed mail: delivery is still being tried", {
        "This is a warning only: there is no need to send your message again.",
        "It has not reached the recipients named below yet. Further attempts are",
        "made until the time given in the report.", NULL }, false },
    [BOUNCE_SUCCESS] = { "Delivery report", {
        "Your message was delivered to the recipients named below, or sent on to the",
        "addresses that one stands for, or handed to a system that sends no such",
        "reports. You receive this because the message asked for it.", NULL }, false },
    [BOUNCE_POSTMASTER_COPY] = { "Copy for the postmaster: undeliverable mail", {
        "A message that passed through this system could not be delivered, or is late.",
        "This copy was asked for by notify_classes. The sender was told separately.", NULL }, true },
    [BOUNCE_DOUBLE] = { "Copy for the postmaster: undeliverable notification", {
        "A notification could not be delivered to the sender of the message it is",
        "about. Nobody else hears of this.", NULL }, true },
};

static const char *charset(const struct dsn_report *d)
{
    return d->is_utf8 ? "utf-8" : "us-ascii";
}

/* ---- parts ---- */

static void put_boundary(struct out *o, const struct dsn_report *d, bool is_last)
{
    buf_puts(&o->b, "\r\n--");
    put_qid(o, d->p, d->own.id);
    buf_printf(&o->b, ".%lld/", (long long)(d->own.now_us / 1000000));
    buf_puts(&o->b, d->p->myhostname);
    line(o, is_last ? "--" : "");
}

static void put_threading(struct out *o, const struct dsn_report *d)
{
    struct span id = d->original->env.message_id;
    if (!d->p->enable_threaded_bounces || id.n == 0 || (!d->is_utf8 && !span_is_ascii(id)))
        return;
    field(o, "References", "", id, d->is_utf8);
    field(o, "In-Reply-To", "", id, d->is_utf8);
}

static void put_header(struct out *o, const struct dsn_report *d)
{
    const struct wording *w = &wordings[d->kind];
    bool has_8bit = (d->original->env.content_flags & (CONTENT_HAS_8BIT | CONTENT_HAS_8BIT_HEADER)) != 0 || d->is_utf8;
    own_mail_put_header(&o->b, &d->own, w->subject, d->is_utf8);
    put_threading(o, d);
    buf_puts(&o->b, "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=");
    buf_puts(&o->b, d->is_utf8 ? "global-delivery-status" : "delivery-status");
    buf_puts(&o->b, ";\r\n\tboundary=\"");
    put_qid(o, d->p, d->own.id);
    buf_printf(&o->b, ".%lld/", (long long)(d->own.now_us / 1000000));
    buf_puts(&o->b, d->p->myhostname);
    line(o, "\"");
    line(o, has_8bit ? "Content-Transfer-Encoding: 8bit" :
         "Content-Transfer-Encoding: 7bit");
    line(o, "");
    line(o, "This is a report in MIME format.");
}

static void put_words(struct out *o, const struct dsn_report *d)
{
    const struct wording *w = &wordings[d->kind];
    put_boundary(o, d, false);
    line(o, "Content-Description: Notification");
    buf_printf(&o->b, "Content-Type: text/plain; charset=%s\r\n", charset(d));
    if (d->is_utf8)
        line(o, "Content-Transfer-Encoding: 8bit");
    buf_puts(&o->b, "\r\nThis is the mail system at host ");
    buf_puts(&o->b, d->p->myhostname);
    line(o, ".\r\n");
    for (int i = 0; w->opening[i] != NULL; i++)
        line(o, w->opening[i]);
    if (w->is_to_postmaster) {
        buf_puts(&o->b, "\r\nSender of the message: <");
        put_addr(o, d->original->env.sender, d->is_utf8);
        line(o, ">");
    }
    line(o, "");
    for (size_t i = 0; i < d->count; i++) {
        const struct bounce_rcpt *r = &d->rcpts[i];
        const struct msg_rcpt *to = bounce_rcpt_of(d->original, r);
        size_t at = o->b.n;
        buf_putc(&o->b, '<');
        put_addr(o, to->addr, d->is_utf8);
        buf_putc(&o->b, '>');
        if (to->orig.n > 0 && !span_ieq(to->orig, to->addr)) {
            if (o->b.n - at > FOLD_AT) {
                buf_puts(&o->b, "\r\n");
                at = o->b.n;
            }
            buf_puts(&o->b, " (sent to <");
            put_addr(o, to->orig, d->is_utf8);
            buf_puts(&o->b, ">)");
        }
        buf_puts(&o->b, ": ");
        put_folded(o, r->reason, o->b.n - at, "    ", d->is_utf8);
        line(o, "");
        drain(o, DSN_BUFFER);
    }
}

/* RFC 3464 2.3.1: as the sender named it, type and address. */
static void put_original_recipient(struct out *o, const struct dsn_report *d, const struct msg_rcpt *to)
{
    ptrdiff_t semicolon = span_find(to->orcpt, ';');
    if (semicolon > 0) {
        buf_puts(&o->b, "Original-Recipient: ");
        for (size_t i = 0; i < to->orcpt.n && i < OWN_MAIL_ADDRESS_SHOWN; i++) {
            buf_putc(&o->b, own_mail_clean(to->orcpt.p[i], d->is_utf8));
            if ((ptrdiff_t)i == semicolon)
                buf_putc(&o->b, ' ');
        }
        buf_puts(&o->b, "\r\n");
    } else if (to->orig.n > 0 && !span_ieq(to->orig, to->addr)) {
        addr_field(o, "Original-Recipient", to->orig, d->is_utf8);
    }
}

static int64_t give_up_us(const struct dsn_report *d)
{
    const struct envelope *e = &d->original->env;
    return e->arrival_us + 1000 * (e->sender.n ? d->p->maximal_queue_lifetime : d->p->bounce_queue_lifetime);
}

static void put_status(struct out *o, const struct dsn_report *d)
{
    const struct envelope *e = &d->original->env;
    put_boundary(o, d, false);
    line(o, "Content-Description: Delivery report");
    line(o, d->is_utf8 ? "Content-Type: message/global-delivery-status" : "Content-Type: message/delivery-status");
    if (d->is_utf8)
        line(o, "Content-Transfer-Encoding: 8bit");
    line(o, "");
    field(o, "Reporting-MTA", "dns; ", span_cstr(d->p->myhostname), d->is_utf8);
    if (e->envid.n > 0)
        field(o, "Original-Envelope-Id", "", e->envid, d->is_utf8);
    buf_puts(&o->b, "X-Postfix-Queue-ID: ");
    put_qid(o, d->p, e->id);
    buf_puts(&o->b, "\r\n");
    if (e->sender.n > 0)
        addr_field(o, "X-Postfix-Sender", e->sender, d->is_utf8);
    put_date_line(o, "Arrival-Date: ", e->arrival_us);
    for (size_t i = 0; i < d->count; i++) {
        const struct bounce_rcpt *r = &d->rcpts[i];
        const struct msg_rcpt *to = bounce_rcpt_of(d->original, r);
        line(o, "");
        addr_field(o, "Final-Recipient", to->addr, d->is_utf8);
        put_original_recipient(o, d, to);
        field(o, "Action", "", span_cstr(r->action), d->is_utf8);
        field(o, "Status", "", r->dsn.n ? r->dsn : SPAN_LIT("4.0.0"), d->is_utf8);
        if (r->remote_mta.n > 0)
            field(o, "Remote-MTA", "dns; ", r->remote_mta, d->is_utf8);
        if (r->diagnostic.n > 0)
            field(o, "Diagnostic-Code", "smtp; ", r->diagnostic, d->is_utf8);
        else if (r->reason.n > 0)
            field(o, "Diagnostic-Code", "X-Postfix; ", r->reason, d->is_utf8);
        if (r->outcome == OUTCOME_DEFERRED && d->kind == BOUNCE_DELAY)
            put_date_line(o, "Will-Retry-Until: ", give_up_us(d));
        drain(o, DSN_BUFFER);
    }
}

size_t dsn_header_length(struct span content)
{
    if (span_starts_with(content, SPAN_LIT("\r\n")))
        return 2;
    const char *end = content.n ? memmem(content.p, content.n, "\r\n\r\n", 4) : NULL;
    return end ? (size_t)(end - content.p) + 4 : content.n;
}

/* At most `limit` bytes, cut behind a line; the limit itself for a single endless line. */
static size_t whole_lines(struct span s, size_t limit)
{
    if (s.n <= limit)
        return s.n;
    ptrdiff_t end = span_rfind(span_of(s.p, limit), '\n');
    return end >= 0 ? (size_t)end + 1 : limit;
}

static void put_original(struct out *o, const struct dsn_report *d)
{
    struct span content = d->view ? span_of(d->view->p, d->view->n) : (struct span){ 0 };
    bool has_8bit = (d->original->env.content_flags & (CONTENT_HAS_8BIT | CONTENT_HAS_8BIT_HEADER)) != 0;
    put_boundary(o, d, false);
    if (d->is_headers_only) {
        content.n = whole_lines(span_of(content.p, dsn_header_length(content)), (size_t)d->p->bounce_size_limit);
        line(o, "Content-Description: Undelivered Message Headers");
        line(o, d->is_utf8 ? "Content-Type: message/global-headers" : "Content-Type: text/rfc822-headers");
    } else {
        line(o, "Content-Description: Undelivered Message");
        line(o, d->is_utf8 ? "Content-Type: message/global" : "Content-Type: message/rfc822");
    }
    if (has_8bit || d->is_utf8)
        line(o, "Content-Transfer-Encoding: 8bit");
    buf_puts(&o->b, "\r\nReturn-Path: <");
    put_addr(o, d->original->env.sender, d->is_utf8);
    line(o, ">");
    drain(o, 0);
    while (content.n > 0 && !o->failed) {
        size_t n = content.n < DSN_BUFFER ? content.n : DSN_BUFFER;
        if (!own_content_put(o->to, span_of(content.p, n)))
            o->failed = true;
        if (n == content.n && content.p[n - 1] != '\n')
            line(o, "");
        content = span_from(content, n);
    }
}

bool dsn_write(const struct dsn_report *d, struct own_content *to)
{
    struct out o = { .b = BUF_INIT(0), .to = to };
    put_header(&o, d);
    put_words(&o, d);
    put_status(&o, d);
    put_original(&o, d);
    put_boundary(&o, d, true);
    drain(&o, 0);
    buf_free(&o.b);
    return !o.failed;
}

/*
 * Who is told what, and how the notification gets into the queue.
 *
 * Up to two messages come of one call: to the sender, and to the postmaster when notify_classes asks for a copy. Each goes
 * through the spool like any other mail, without a route, so that the scheduler resolves it. The caller hears once, when
 * the last of them is answered; only a failure of the one to the sender is a failure (the copy is a courtesy).
 */
#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/notify_class.h"
#include "common/mail/address.h"
#include "queue/dsn.h"
#include "queue/own_rcpts.h"

struct batch { /* all notifications of one call */
    _Atomic unsigned open;
    _Atomic int status;
    void (*queued)(void *arg, int status);
    void *arg;
};

struct sent { /* one notification on its way */
    struct batch *batch; /* counted by batch.open */
    struct log_src log;
    uint64_t original_id;
    const char *words;
    bool long_ids, is_courtesy;
};

static void batch_drop(struct batch *b)
{
    if (atomic_fetch_sub(&b->open, 1) != 1)
        return;
    b->queued(b->arg, atomic_load(&b->status));
    free(b);
}

static void format_id(char out[QID_TEXT_MAX], uint64_t id, bool long_ids)
{
    out[qid_format(id, long_ids, out)] = '\0';
}

static void done_cb(void *arg, struct msg *m, int status)
{
    struct sent *x = arg;
    char old_id[QID_TEXT_MAX + 1], new_id[QID_TEXT_MAX + 1];
    format_id(old_id, x->original_id, x->long_ids);
    format_id(new_id, m->env.id, x->long_ids);
    if (status == SPOOL_OK)
        log_info(&x->log, "%s: %s notification: %s", old_id, x->words, new_id);
    else if (!x->is_courtesy)
        atomic_store(&x->batch->status, status);
    batch_drop(x->batch);
    free(x);
}

/* ---- who ---- */

static bool has_class(const struct params *p, enum notify_class c)
{
    return (notify_mask(p->notify_classes) & NOTIFY_BIT(c)) != 0;
}

static bool wants(enum bounce_kind kind, const struct msg_rcpt *r)
{
    if (r->notify & NOTIFY_NEVER)
        return false;
    switch (kind) {
    case BOUNCE_FAILURE: return r->notify == 0 || (r->notify & NOTIFY_FAILURE);
    case BOUNCE_DELAY: return r->notify == 0 || (r->notify & NOTIFY_DELAY);
    case BOUNCE_SUCCESS:
    case BOUNCE_POSTMASTER_COPY:
    case BOUNCE_DOUBLE: break;
    }
    return true;
}

/* Failures and warnings come again while nobody was told of them. */
static bool comes_again(enum bounce_kind kind, bool is_courtesy)
{
    return !is_courtesy && kind != BOUNCE_SUCCESS;
}

/* False: not now, and it comes again. */
static bool add_rcpts(const struct bounce_options *o, struct msg *n, const struct own_mail *own, uint64_t original_id, bool comes)
{
    struct err e = ERR_INIT;
    char id[QID_TEXT_MAX + 1];
    if (own_rcpts_add(n, own->to, &o->own, own->p->duplicate_filter_limit, &e))
        return true;
    format_id(id, comes ? original_id : own->id, own->p->enable_long_queue_ids);
    if (comes) {
        log_warn(o->log, "%s: the recipient of a notification cannot be mapped: %s", id, e.text);
        return false;
    }
    own_rcpts_hold(n, own->to);
    log_warn(o->log, "%s: a notification is put on hold, since its recipient cannot be mapped: %s", id, e.text);
    return true;
}

/* ---- one notification ---- */

static bool needs_utf8(const struct msg *m, const struct bounce_rcpt *r, size_t n)
{
    if (!(m->env.flags & ENV_SMTPUTF8))
        return false;
    if ((m->env.content_flags & CONTENT_HAS_8BIT_HEADER) || !span_is_ascii(m->env.sender))
        return true;
    for (size_t i = 0; i < n; i++)
        if (!span_is_ascii(bounce_rcpt_of(m, &r[i])->addr) || !span_is_ascii(bounce_rcpt_of(m, &r[i])->orig))
            return true;
    return false;
}

static bool headers_only(const struct params *p, enum bounce_kind kind, const struct msg *m)
{
    switch (kind) {
    case BOUNCE_FAILURE:
    case BOUNCE_DOUBLE:
        return m->env.ret == DSN_RET_HDRS || m->env.content_bytes > (uint64_t)p->bounce_size_limit;
    case BOUNCE_DELAY:
    case BOUNCE_SUCCESS:
    case BOUNCE_POSTMASTER_COPY: break;
    }
    return true;
}

static void fill_envelope(struct msg *n, const struct msg *original, const struct dsn_report *d)
{
    struct envelope *e = &n->env;
    e->flags |= ENV_BOUNCE | (d->is_utf8 ? ENV_SMTPUTF8 | ENV_8BITMIME : 0);
    /* The report's own lines have none of these (except 8-bit in the international form); the rest is the original's. */
    e->content_flags = original->env.content_flags & ~(uint32_t)(CONTENT_NO_FINAL_EOL | CONTENT_HAS_8BIT_HEADER);
    if (original->env.content_flags & CONTENT_HAS_8BIT_HEADER)
        e->content_flags |= CONTENT_HAS_8BIT;
    if (d->is_utf8)
        e->content_flags |= CONTENT_HAS_8BIT | (span_is_ascii(d->own.to) ? 0 : CONTENT_HAS_8BIT_HEADER);
    if (e->content_flags & CONTENT_HAS_8BIT)
        e->flags |= ENV_8BITMIME;
    n->received_ms = clock_mono_ms();
}

/* x: who looks at it; NULL: nobody. */
static enum own_verdict compose(const struct bounce_options *o, const struct own_policy *x, struct dsn_report *d,
                                struct msg *original, struct msg *n, struct err *e)
{
    struct content_view view;
    struct own_content to;
    bool has_view = content_acquire(o->spool, original, &view, e);
    if (!has_view)
        log_warn(o->log, "a notification goes without the original text: %s", e->text);
    d->view = has_view ? &view : NULL;
    fill_envelope(n, original, d);
    own_content_begin(&to, x, OWN_BOUNCE, &d->own, o->spool, n);
    if (!dsn_write(d, &to))
        to.has_failed = true;
    if (has_view)
        content_release(&view);
    return own_content_end(&to, n, e);
}

/* The same, with what there is to do when it is not let through. comes: it is asked for again. */
static enum own_verdict compose_inspected(const struct bounce_options *o, struct dsn_report *d, struct msg *original, struct msg *n,
                                          bool comes)
{
    struct err e = ERR_INIT;
    char id[QID_TEXT_MAX + 1];
    enum own_verdict v = compose(o, &o->own, d, original, n, &e);
    switch (v) {
    case OWN_KEEP:
    case OWN_DISCARD:
    case OWN_UNWRITTEN:
        return v;
    case OWN_LATER:
        if (!comes)
            break;
        format_id(id, original->env.id, d->p->enable_long_queue_ids);
        log_warn(o->log, "%s: a notification cannot be inspected now: %s", id, e.text);
        return v;
    case OWN_REFUSED:
        break;
    }
    format_id(id, d->own.id, d->p->enable_long_queue_ids);
    log_warn(o->log, "%s: a notification is put on hold, since content inspection %s: %s", id,
             v == OWN_REFUSED ? "refuses it" : "fails", e.text);
    n->env.flags |= ENV_HOLD;
    return compose(o, NULL, d, original, n, &e);
}

/* What there is to say. */
struct about {
    enum bounce_kind kind;
    struct msg *original;
    const struct bounce_rcpt *r;
    size_t count;
    bool is_courtesy;
};

/* OWN_KEEP: *out is complete, not submitted yet. */
static enum own_verdict make(const struct bounce_options *o, const struct about *a, struct span from, struct span to, struct msg **out)
{
    const struct params *p = conf_global(o->conf);
    struct own_mail own;
    struct msg *n = own_mail_new(&own, p, o->spool, from, to);
    struct dsn_report d = { .own = own, .p = p, .kind = a->kind, .original = a->original, .rcpts = a->r, .count = a->count,
        .is_headers_only = headers_only(p, a->kind, a->original) };
    d.is_utf8 = needs_utf8(a->original, a->r, a->count);
    enum own_verdict v = OWN_LATER;
    bool comes = comes_again(a->kind, a->is_courtesy);
    if (add_rcpts(o, n, &own, a->original->env.id, comes))
        v = compose_inspected(o, &d, a->original, n, comes);
    if (v == OWN_KEEP) {
        own_mail_log(o->log, &own);
        *out = n;
    } else {
        msg_unref(&n);
    }
    return v;
}

static void send_one(const struct bounce_options *o, struct batch *b, const char *words, const struct about *a, struct span from, struct span to)
{
    struct msg *n;
    atomic_fetch_add(&b->open, 1);
    enum own_verdict v = make(o, a, from, to, &n);
    if (v != OWN_KEEP) {
        if (!a->is_courtesy && v != OWN_DISCARD)
            atomic_store(&b->status, SPOOL_IO);
        batch_drop(b);
        return;
    }
    struct sent *x = xcalloc(1, sizeof *x);
    *x = (struct sent){ .batch = b, .log = *o->log, .original_id = a->original->env.id, .words = words,
        .long_ids = conf_global(o->conf)->enable_long_queue_ids, .is_courtesy = a->is_courtesy };
    n->done_cb = done_cb;
    n->done_arg = x;
    spool_submit(o->spool, n);
}

/* ---- the decision ---- */

static void to_postmaster(const struct bounce_options *o, struct batch *b, enum bounce_kind kind, const char *words,
                          const char *to, struct msg *original, const struct bounce_rcpt *r, size_t n)
{
    const struct params *p = conf_global(o->conf);
    struct arena *a = arena_new(512);
    struct about x = { kind, original, r, n, kind == BOUNCE_POSTMASTER_COPY };
    send_one(o, b, words, &x, own_mail_address(a, p->double_bounce_sender, p), own_mail_address(a, to, p));
    arena_free(&a);
}

static void discard(const struct bounce_options *o, const struct msg *original, const char *why)
{
    char id[QID_TEXT_MAX + 1];
    format_id(id, original->env.id, conf_global(o->conf)->enable_long_queue_ids);
    log_warn(o->log, "%s: %s", id, why);
}

static void to_sender(const struct bounce_options *o, struct batch *b, enum bounce_kind kind, struct msg *original,
                      const struct bounce_rcpt *r, size_t n)
{
    static const char *const words[] = { [BOUNCE_FAILURE] = "sender non-delivery", [BOUNCE_DELAY] = "sender delay",
                                         [BOUNCE_SUCCESS] = "sender delivery status" };
    struct bounce_rcpt *wanted = xcalloc(n + 1, sizeof *wanted);
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (wants(kind, &original->env.rcpts[r[i].rcpt]))
            wanted[count++] = r[i];
    struct about x = { kind, original, wanted, count, false };
    if (count > 0)
        send_one(o, b, words[kind], &x, (struct span){ 0 }, original->env.sender);
    free(wanted);
}

static void decide(const struct bounce_options *o, struct batch *b, enum bounce_kind kind, struct msg *original,
                   const struct bounce_rcpt *r, size_t n)
{
    const struct params *p = conf_global(o->conf);
    if (own_mail_is_double_bounce(p, original->env.sender)) {
        if (kind == BOUNCE_FAILURE)
            discard(o, original, "undeliverable notification to the postmaster discarded");
        return;
    }
    if (original->env.sender.n == 0) {
        if (kind != BOUNCE_FAILURE)
            return;
        if (has_class(p, NOTIFY_CLASS_2BOUNCE))
            to_postmaster(o, b, BOUNCE_DOUBLE, "postmaster non-delivery", p->bounce2_notice_recipient, original, r, n);
        else
            discard(o, original, "undeliverable notification discarded");
        return;
    }
    to_sender(o, b, kind, original, r, n);
    if (atomic_load(&b->status) != SPOOL_OK)
        return; /* it comes again, and the copy with it */
    if (kind == BOUNCE_FAILURE && has_class(p, NOTIFY_CLASS_BOUNCE))
        to_postmaster(o, b, BOUNCE_POSTMASTER_COPY, "postmaster non-delivery", p->bounce_notice_recipient, original, r, n);
    if (kind == BOUNCE_DELAY && has_class(p, NOTIFY_CLASS_DELAY))
        to_postmaster(o, b, BOUNCE_POSTMASTER_COPY, "postmaster delay", p->delay_notice_recipient, original, r, n);
}

void bounce_send(const struct bounce_options *o, enum bounce_kind kind, struct msg *original,
                 const struct bounce_rcpt *r, size_t n, void (*queued)(void *arg, int status), void *arg)
{
    struct batch *b = xcalloc(1, sizeof *b);
    atomic_init(&b->open, 1); /* this call's own */
    b->queued = queued;
    b->arg = arg;
    if (n > 0)
        decide(o, b, kind, original, r, n);
    batch_drop(b);
}

enum spool_status bounce_expanded(const struct bounce_options *o, struct msg *original, const struct bounce_rcpt *r, size_t n,
                                  struct msg **out)
{
    const struct params *p = conf_global(o->conf);
    struct about a = { BOUNCE_SUCCESS, original, r, n, false };
    char old_id[QID_TEXT_MAX + 1], new_id[QID_TEXT_MAX + 1];
    *out = NULL;
    if (original->env.sender.n == 0 || own_mail_is_double_bounce(p, original->env.sender))
        return SPOOL_OK;
    switch (make(o, &a, (struct span){ 0 }, original->env.sender, out)) {
    case OWN_KEEP:
        format_id(old_id, original->env.id, p->enable_long_queue_ids);
        format_id(new_id, (*out)->env.id, p->enable_long_queue_ids);
        log_info(o->log, "%s: sender delivery status notification: %s", old_id, new_id);
        return SPOOL_OK;
    case OWN_DISCARD:
        return SPOOL_OK;
    case OWN_LATER:
    case OWN_REFUSED:
    case OWN_UNWRITTEN:
        break;
    }
    return SPOOL_IO;
}

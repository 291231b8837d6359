/*
 * The list of what waits is short, and one message is in the spool's hands at a time. A failure to queue it is not an event
 * of its own (the spool logs it): the same message is built again after RETRY_MS, until it is queued or the program ends.
 *
 * Limits are kept for each class in a ring of the notices let through lately; with so few a scan is all it takes.
 */
#include "queue/notice.h"

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/own_content.h"
#include "queue/own_rcpts.h"

#define RETRY_MS 2000

struct waiting {
    struct waiting *next;
    enum notify_class cls;
    bool is_own;
    char *to;               /* owned, or NULL */
    char *subject;          /* owned */
    struct buf text;        /* owned */
    uint64_t left_out;      /* notices of the class before this one */
};

struct passed {
    int64_t at_ms;          /* 0: none */
    uint64_t about;         /* hash */
};

struct class_limits {
    struct passed ring[NOTICES_PER_MINUTE];
    unsigned next;
    uint64_t left_out;
};

struct notices {
    struct log_src log;                /* immutable */
    struct conf *(*conf)(void *arg);   /* immutable */
    void *arg;                         /* immutable */
    struct own_policy own;             /* immutable */
    struct spool *spool;               /* immutable once the thread runs */
    pthread_t thread;
    bool is_running;                   /* main only */
    struct lock m;
    struct cond changed;               /* predicate: list, is_stopping or is_answered */
    struct waiting *list, **tail;      /* guarded by m */
    unsigned count;                    /* guarded by m */
    bool is_stopping;                  /* guarded by m */
    bool is_answered;                  /* guarded by m: the message submitted last */
    int answer;                        /* guarded by m: enum spool_status */
    struct class_limits limits[NOTIFY_CLASSES]; /* guarded by m */
    _Atomic int64_t said_ms;
    _Atomic uint64_t unsaid;
    _Atomic int64_t failed_ms;         /* as said_ms, for recipients that cannot be mapped */
    _Atomic uint64_t unfailed;
};

/* ---- coming in ---- */

static uint64_t hash(struct span s)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* The oldest entry of a full ring is the one that is overwritten: when it is young, the minute is full. */
static bool may_pass(struct class_limits *l, bool is_own, uint64_t about, int64_t now)
{
    int64_t pause = is_own ? NOTICE_OWN_PAUSE_MS : NOTICE_PAUSE_MS;
    for (int i = 0; i < NOTICES_PER_MINUTE; i++)
        if (l->ring[i].at_ms != 0 && l->ring[i].about == about && now - l->ring[i].at_ms < pause)
            return false;
    const struct passed *oldest = &l->ring[l->next];
    return oldest->at_ms == 0 || now - oldest->at_ms >= NOTICE_PAUSE_MS;
}

static void waiting_free(struct waiting *w)
{
    free(w->to);
    free(w->subject);
    buf_free(&w->text);
    free(w);
}

static struct waiting *waiting_new(const struct notice *x)
{
    struct waiting *w = xcalloc(1, sizeof *w);
    w->cls = x->cls;
    w->is_own = x->is_own;
    w->to = x->to ? xstrdup(x->to) : NULL;
    w->subject = xstrdup(x->subject);
    buf_init(&w->text, NOTICE_TEXT_MAX);
    buf_add(&w->text, x->text.p, x->text.n < NOTICE_TEXT_MAX ? x->text.n : NOTICE_TEXT_MAX);
    return w;
}

static void say_left_out(struct notices *n, enum notify_class c)
{
    uint64_t before;
    if (log_once_a_minute(&n->said_ms, &n->unsaid, &before))
        log_warn(&n->log, "too many notices to the postmaster: one of class %s was left out, and %llu before", notify_class_word(c),
                 (unsigned long long)before);
}

void notices_post(struct notices *n, const struct notice *x)
{
    if (n == NULL)
        return;
    struct waiting *w = waiting_new(x);
    uint64_t about = hash(x->about);
    int64_t now = clock_mono_ms();
    struct class_limits *l = &n->limits[x->cls];
    lock_take(&n->m);
    bool passes = n->count < NOTICES_WAITING && may_pass(l, x->is_own, about, now);
    if (passes) {
        l->ring[l->next] = (struct passed){ now ? now : 1, about };
        l->next = (l->next + 1) % NOTICES_PER_MINUTE;
        w->left_out = l->left_out;
        l->left_out = 0;
        *n->tail = w;
        n->tail = &w->next;
        n->count++;
        cond_signal(&n->changed);
    } else {
        l->left_out++;
    }
    lock_drop(&n->m);
    if (passes)
        return;
    if (!x->is_own) /* our own trouble is in the log already */
        say_left_out(n, x->cls);
    waiting_free(w);
}

/* ---- one message ---- */

/* Lines of the text in the form of a message: CRLF, nothing but ASCII. */
static void put_text(struct buf *b, struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\n')
            buf_puts(b, "\r\n");
        else
            buf_putc(b, own_mail_clean(text.p[i], false));
    }
}

static void put_message(struct buf *b, const struct own_mail *own, const struct waiting *w)
{
    own_mail_put_header(b, own, w->subject, false);
    buf_printf(b, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
                  "This is the mail system at host %s.\r\n\r\n", own->p->myhostname);
    put_text(b, buf_span(&w->text));
    if (w->left_out > 0)
        buf_printf(b, "\r\nSince the notice of class %s before this one %llu were left out: there were too many.\r\n",
                   notify_class_word(w->cls), (unsigned long long)w->left_out);
    buf_printf(b, "\r\nnotify_classes asks for this mail (class %s).\r\n", notify_class_word(w->cls));
}

/* x: who looks at it; NULL: nobody. */
static enum own_verdict put_content(struct notices *n, const struct own_policy *x, struct msg *m, const struct own_mail *own,
                                    const struct waiting *w, struct err *e)
{
    struct buf b = BUF_INIT(4 * NOTICE_TEXT_MAX);
    struct own_content to;
    put_message(&b, own, w);
    own_content_begin(&to, x, OWN_NOTIFY, own, n->spool, m);
    own_content_put(&to, buf_span(&b));
    buf_free(&b);
    return own_content_end(&to, m, e);
}

/* The same, with what there is to do when it is not let through. OWN_LATER: it is composed again. */
static enum own_verdict put_inspected(struct notices *n, struct msg *m, const struct own_mail *own, const struct waiting *w, bool is_last)
{
    struct err e = ERR_INIT;
    uint64_t before;
    enum own_verdict v = put_content(n, &n->own, m, own, w, &e);
    if (v == OWN_LATER && !is_last) {
        if (log_once_a_minute(&n->failed_ms, &n->unfailed, &before))
            log_warn(&n->log, "a notice to the postmaster waits, since it cannot be inspected: %s", e.text);
        return v;
    }
    if (v != OWN_LATER && v != OWN_REFUSED)
        return v;
    char id[QID_TEXT_MAX + 1];
    id[qid_format(own->id, own->p->enable_long_queue_ids, id)] = '\0';
    log_warn(&n->log, "%s: a notice to the postmaster is put on hold, since content inspection %s: %s", id,
             v == OWN_REFUSED ? "refuses it" : "fails", e.text);
    m->env.flags |= ENV_HOLD;
    return put_content(n, NULL, m, own, w, &e);
}

/* False: to be tried again. At the end of the program there is no other time. */
static bool add_rcpts(struct notices *n, struct msg *m, const struct own_mail *own, bool is_last)
{
    struct err e = ERR_INIT;
    uint64_t before;
    if (own_rcpts_add(m, own->to, &n->own, own->p->duplicate_filter_limit, &e))
        return true;
    if (is_last) {
        char id[QID_TEXT_MAX + 1];
        id[qid_format(own->id, own->p->enable_long_queue_ids, id)] = '\0';
        log_warn(&n->log, "%s: a notice to the postmaster is put on hold, since its recipient cannot be mapped: %s", id, e.text);
        own_rcpts_hold(m, own->to);
    } else if (log_once_a_minute(&n->failed_ms, &n->unfailed, &before)) {
        log_warn(&n->log, "a notice to the postmaster waits, since its recipient cannot be mapped: %s", e.text);
    }
    return is_last;
}

/* OWN_KEEP: *out is complete. */
static enum own_verdict compose(struct notices *n, const struct params *p, const struct waiting *w, struct own_mail *own, bool is_last,
                                struct msg **out)
{
    struct arena *a = arena_new(512);
    struct msg *m = own_mail_new(own, p, n->spool, own_mail_address(a, p->double_bounce_sender, p),
                                 own_mail_address(a, w->to ? w->to : p->error_notice_recipient, p));
    arena_free(&a);
    m->env.flags = ENV_BOUNCE;
    m->received_ms = clock_mono_ms();
    enum own_verdict v = add_rcpts(n, m, own, is_last) ? put_inspected(n, m, own, w, is_last) : OWN_LATER;
    if (v == OWN_KEEP)
        *out = m;
    else
        msg_unref(&m);
    return v;
}

static void done_cb(void *arg, struct msg *m UNUSED, int status)
{
    struct notices *n = arg;
    lock_take(&n->m);
    n->answer = status;
    n->is_answered = true;
    cond_broadcast(&n->changed);
    lock_drop(&n->m);
}

static int submit_and_wait(struct notices *n, struct msg *m)
{
    m->done_cb = done_cb;
    m->done_arg = n;
    lock_take(&n->m);
    n->is_answered = false;
    lock_drop(&n->m);
    spool_submit(n->spool, m);
    lock_take(&n->m);
    while (!n->is_answered)
        cond_wait(&n->changed, &n->m);
    int answer = n->answer;
    lock_drop(&n->m);
    return answer;
}

/* True when there is nothing left to do for it. */
static bool send_notice(struct notices *n, const struct waiting *w, bool is_last)
{
    struct conf *c = n->conf(n->arg);
    const struct params *p = conf_global(c);
    struct own_mail own;
    bool done = true;
    if (!w->is_own || (notify_mask(p->notify_classes) & NOTIFY_BIT(w->cls))) {
        struct msg *m = NULL;
        enum own_verdict v = compose(n, p, w, &own, is_last, &m);
        /* The message's arena goes when it is submitted. */
        char *message_id = m != NULL ? xstrndup(own.message_id.p, own.message_id.n) : NULL;
        own.message_id = span_cstr(message_id);
        done = v == OWN_DISCARD || (v == OWN_KEEP && submit_and_wait(n, m) == SPOOL_OK);
        if (done && v == OWN_KEEP) {
            own_mail_log(&n->log, &own);
            char id[QID_TEXT_MAX + 1];
            id[qid_format(own.id, p->enable_long_queue_ids, id)] = '\0';
            log_info(&n->log, "%s: notice to the postmaster, class %s: %s", id, notify_class_word(w->cls), w->subject);
        }
        free(message_id);
    }
    conf_unref(&c);
    return done;
}

/* ---- the thread ---- */

static void take_first_locked(struct notices *n) REQUIRES(&n->m)
{
    struct waiting *w = n->list;
    n->list = w->next;
    if (n->list == NULL)
        n->tail = &n->list;
    n->count--;
}

/* After a failure; earlier when it is time to stop. */
static void pause_locked(struct notices *n) REQUIRES(&n->m)
{
    int64_t until = clock_mono_ms() + RETRY_MS;
    while (!n->is_stopping && cond_wait_until(&n->changed, &n->m, until))
        ;
}

static void *notices_main(void *arg)
{
    struct notices *n = arg;
    lock_take(&n->m);
    for (;;) {
        while (n->list == NULL && !n->is_stopping)
            cond_wait(&n->changed, &n->m);
        struct waiting *w = n->list;
        if (w == NULL)
            break;
        bool was_stopping = n->is_stopping;
        lock_drop(&n->m);
        bool done = send_notice(n, w, was_stopping); /* the first stays the first: others are put behind it */
        lock_take(&n->m);
        if (done) {
            take_first_locked(n);
            waiting_free(w);
        } else if (was_stopping) {
            break;
        } else {
            pause_locked(n);
        }
    }
    lock_drop(&n->m);
    return NULL;
}

/* ---- life ---- */

struct notices *notices_new(const struct log_src *log, struct conf *(*conf)(void *arg), void *arg, const struct own_policy *own)
{
    struct notices *n = xcalloc(1, sizeof *n);
    n->log = *log;
    n->conf = conf;
    n->arg = arg;
    if (own != NULL)
        n->own = *own;
    n->tail = &n->list;
    lock_init(&n->m, LOCK_NOTICES);
    cond_init(&n->changed);
    return n;
}

int notices_start(struct notices *n, struct spool *s)
{
    n->spool = s;
    int rc = thread_start(&n->thread, "notices", 0, notices_main, n); /* tables are asked on it */
    n->is_running = rc == 0;
    return rc;
}

void notices_stop(struct notices *n)
{
    if (n == NULL || !n->is_running)
        return;
    lock_take(&n->m);
    n->is_stopping = true;
    cond_broadcast(&n->changed);
    lock_drop(&n->m);
    pthread_join(n->thread, NULL);
    n->is_running = false;
}

void notices_free(struct notices **np)
{
    struct notices *n = *np;
    *np = NULL;
    if (n == NULL)
        return;
    notices_stop(n);
    for (struct waiting *w = n->list, *next; w != NULL; w = next) {
        next = w->next;
        log_warn(&n->log, "a notice to the postmaster was not queued: %s", w->subject);
        waiting_free(w);
    }
    cond_destroy(&n->changed);
    lock_destroy(&n->m);
    free(n);
}

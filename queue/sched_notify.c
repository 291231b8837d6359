/*
 * What the scheduler tells senders: failures, delays, success. The messages themselves are made by bounce.c.
 *
 * A failed recipient is pending from the report until its notification is in the spool; then its result record is written and
 * it is done. If the notification cannot be queued it is deferred instead. The answers come on spool threads and are
 * only put on a list there; the scheduler thread does the rest.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

static void queued_cb(void *arg, int status)
{
    struct notice *n = arg;
    struct sched *s = n->s;
    lock_take(&s->m);
    n->status = status;
    n->next = NULL;
    *s->notices_tail = n;
    s->notices_tail = &n->next;
    s->notices_out--;
    sched_kick_locked(s);
    cond_broadcast(&s->answered);
    lock_drop(&s->m);
}

static struct notice *notice_new(struct sched *s, struct msg_sched *ms, struct msg *m, enum bounce_kind kind)
{
    struct notice *n = xcalloc(1, sizeof *n);
    n->s = s;
    n->ms = ms;
    n->m = msg_ref(m);
    n->kind = kind;
    lock_take(&s->m);
    s->notices_out++;
    lock_drop(&s->m);
    return n;
}

static void send(struct sched *s, struct notice *n, struct conf *c, const struct bounce_rcpt *r, size_t count)
{
    struct bounce_options o = { .spool = s->spool, .conf = c, .log = &s->log_bounce, .own = s->own };
    bounce_send(&o, n->kind, n->m, r, count, queued_cb, n);
}

void notify_failed(struct sched *s, struct sjob *j)
{
    struct notice *n = notice_new(s, j->ms, j->pub.msg, BOUNCE_FAILURE);
    struct bounce_rcpt *r = xcalloc(j->failed_n, sizeof *r);
    bool expired = false, is_first;
    for (uint32_t i = 0; i < j->failed_n; i++) {
        const struct failed_rcpt *f = &j->failed[i];
        expired |= f->outcome == OUTCOME_EXPIRED;
        r[i] = (struct bounce_rcpt){ .rcpt = f->rcpt, .outcome = f->outcome, .action = "failed", .dsn = f->dsn,
            .reason = f->reason, .remote_mta = f->mta, .diagnostic = f->diagnostic };
    }
    n->failed = j->failed;
    n->n = j->failed_n;
    n->text = j->text;
    j->failed = NULL;
    j->text = NULL;
    lock_take(&s->m);
    bool is_forced = j->ms->is_expire_wanted;
    is_first = expired && !j->ms->is_expiry_logged;
    j->ms->is_expiry_logged |= expired;
    lock_drop(&s->m);
    if (is_first)
        log_expired(s, conf_global(j->pub.conf), j->pub.msg, is_forced);
    if (j->dest == NULL && router_takes_notice(s, n, j->pub.conf, r))
        return; /* no delivery thread, but the scheduler's, which does not wait */
    send(s, n, j->pub.conf, r, n->n);
    free(r);
}

void notify_lent(struct sched *s, struct notice *n, bool is_over)
{
    struct conf *c = n->conf;
    struct bounce_rcpt *r = n->rcpts;
    n->conf = NULL;
    n->rcpts = NULL;
    if (is_over)
        queued_cb(n, -1);
    else
        send(s, n, c, r, n->n);
    free(r);
    conf_unref(&c);
}

void notify_success(struct sched *s, struct sjob *j)
{
    struct notice *n = notice_new(s, j->ms, j->pub.msg, BOUNCE_SUCCESS);
    send(s, n, j->pub.conf, j->success, j->success_n);
}

/* ---- answers ---- */

/* Pending recipients are done, or deferred when there was no notification. */
static void failed_answered(struct sched *s, struct notice *n)
{
    struct after a = AFTER_INIT;
    bool ok = n->status == 0;
    struct spool_result *rec = xcalloc(n->n, sizeof *rec);
    struct result_token token;
    lock_take(&s->m);
    const struct params *p = sched_params_locked(s);
    int64_t now_us = sched_now_locked(s);
    struct retry_times t = { p->minimal_backoff_time, p->maximal_backoff_time, p->queue_run_delay };
    int64_t age_us = wall_watch_age_us(&s->wall, n->m->env.arrival_us, now_us);
    int64_t due_us = ok ? 0 : now_us + 1000 * retry_backoff_ms(&t, age_us / 1000, &s->rng);
    lock_drop(&s->m);
    for (uint32_t i = 0; i < n->n; i++)
        rec[i] = (struct spool_result){ .id = n->m->env.id, .rcpt = n->failed[i].rcpt, .when_us = now_us, .due_us = due_us,
            .outcome = ok ? n->failed[i].outcome : OUTCOME_DEFERRED, .dsn = n->failed[i].dsn, .mta = n->failed[i].mta,
            .reason = n->failed[i].reason };
    if (spool_result_append(s->spool, rec, n->n, &token) != SPOOL_OK)
        log_error(&s->log, "%llX: a result cannot be written; its notification may be repeated after a crash",
                  (unsigned long long)n->m->env.id);
    if (!ok)
        log_warn(&s->log, "%llX: the sender's notification cannot be queued; the failed recipients are tried again",
                 (unsigned long long)n->m->env.id);
    lock_take(&s->m);
    struct msg_sched *ms = n->ms;
    for (uint32_t i = 0; i < n->n; i++) {
        struct msg_rcpt *rc = &n->m->env.rcpts[n->failed[i].rcpt];
        ms->rx[n->failed[i].rcpt].flags = (uint8_t)((ms->rx[n->failed[i].rcpt].flags & ~RX_PENDING) | RX_DIRTY);
        ms->pending--;
        rc->state = ok ? RCPT_DONE : RCPT_TODO;
        rc->due_us = due_us;
        *(ok ? &ms->done : &ms->idle) += 1;
    }
    ms_dirty_locked(s, ms);
    if (!ok)
        ms_wait_locked(s, ms, due_us);
    ms_settle_locked(s, ms, &a);
    lock_drop(&s->m);
    spool_result_applied(s->spool, &token);
    sched_after(s, &a);
    free(rec);
}

static void delay_answered(struct sched *s, struct notice *n)
{
    lock_take(&s->m);
    struct msg_sched *ms = n->ms;
    if (ms->m != NULL && n->status == 0) {
        ms->is_delay_warned = true;
        ms_dirty_locked(s, ms);
    }
    ms->is_warning = false;
    ms_unpin_locked(s, ms);
    lock_drop(&s->m);
}

bool notify_thread(struct sched *s)
{
    lock_take(&s->m);
    struct notice *n = s->notices, *next;
    s->notices = NULL;
    s->notices_tail = &s->notices;
    lock_drop(&s->m);
    bool did = n != NULL;
    for (; n != NULL; n = next) {
        next = n->next;
        if (n->failed != NULL)
            failed_answered(s, n);
        else if (n->kind == BOUNCE_DELAY)
            delay_answered(s, n);
        msg_unref(&n->m);
        arena_free(&n->text);
        free(n->failed);
        free(n);
    }
    return did;
}

/* ---- delay warnings ---- */

static struct bounce_rcpt *delayed_rcpts_locked(struct msg_sched *ms, size_t *count)
{
    const struct envelope *e = &ms->m->env;
    struct bounce_rcpt *r = xcalloc(e->rcpt_count, sizeof *r);
    size_t n = 0;
    for (uint32_t i = 0; i < e->rcpt_count; i++) {
        const struct msg_rcpt *rc = &e->rcpts[i];
        if (rc->state != RCPT_TODO || rc->attempts == 0)
            continue;
        /* The texts are in the message's arena, which is only added to. */
        r[n++] = (struct bounce_rcpt){ .rcpt = i, .outcome = OUTCOME_DEFERRED, .action = "delayed", .dsn = rc->last_dsn,
            .reason = rc->last_reason, .remote_mta = rc->last_mta };
    }
    *count = n;
    return r;
}

bool notify_delays(struct sched *s)
{
    lock_take(&s->m);
    struct msg_sched *ms = s->warn;
    if (ms == NULL || s->is_stopping) {
        lock_drop(&s->m);
        return false;
    }
    DL_DELETE2(s->warn, ms, w_prev, w_next);
    if (ms->m == NULL) { /* over meanwhile */
        ms->is_warning = false;
        ms_unpin_locked(s, ms);
        lock_drop(&s->m);
        return true;
    }
    size_t count;
    struct msg *m = msg_ref(ms->m);
    struct conf *c = conf_ref(s->conf);
    struct bounce_rcpt *r = delayed_rcpts_locked(ms, &count);
    lock_drop(&s->m);
    send(s, notice_new(s, ms, m, BOUNCE_DELAY), c, r, count);
    free(r);
    conf_unref(&c);
    msg_unref(&m);
    return true;
}

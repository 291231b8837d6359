/*
 * Jobs: given to delivery threads, answered, ended.
 *
 * Order for one result: the result record reaches the kernel, the log line is written, the state changes in memory, the
 * record's token is released. So an index flush, whose mark is taken before it collects, never claims a result it does not have,
 * and nothing is called done that a killed process could forget.
 *
 * A failure for good has no record yet when it is reported: the recipient stays pending until the notification is
 * in the spool (sched_notify.c). Killed in between, it is tried again.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

#define REPORT_PIECE 64

void sched_after(struct sched *s, struct after *a)
{
    if (a->drop != NULL) {
        content_drop(s->spool, a->drop);
        msg_unref(&a->drop);
    }
    if (a->finished != NULL) {
        log_simple(a->is_deleted ? &s->log_super : &s->log, conf_global(a->conf), a->finished->env.id, "removed");
        spool_message_done(s->spool, a->finished);
        msg_unref(&a->finished);
    }
    if (a->trashed != 0)
        log_simple(&s->log_super, conf_global(a->conf), a->trashed, "removed");
    conf_unref(&a->conf);
    if (a->wake > 0 && s->wake != NULL)
        s->wake(s->wake_arg, a->wake);
    *a = AFTER_INIT;
}

/* ---- taking ---- */

/* The first flow's first entry; then the flow goes to the end of the ring. */
static struct sjob *take_locked(struct sched *s, struct dest *d)
{
    struct transport *t = d->transport;
    struct flow *f = d->flows;
    uint32_t max = t->rcpt_limit <= 0 || t->rcpt_limit > UINT32_MAX ? 0 : (uint32_t)t->rcpt_limit;
    if (f->next != NULL) {
        DL_DELETE(d->flows, f);
        DL_APPEND(d->flows, f);
    }
    if (t->ready != NULL && t->ready->next != NULL && d->is_ready) {
        DL_DELETE(t->ready, d);
        DL_APPEND(t->ready, d);
    }
    if (t->is_ready && s->ready->next != NULL) {
        DL_DELETE(s->ready, t);
        DL_APPEND(s->ready, t);
    }
    struct sjob *j = job_from_entry_locked(s, f->entries, max, d);
    j->pub.conf = conf_ref(t->conf);
    j->pub.transport = t->svc;
    j->pub.nexthop = d->nexthop;
    j->pub.taken_us = clock_wall_us();
    return j;
}

/* A kept connection must not keep another destination waiting for the last process of its transport. */
static bool may_go_on(const struct dest *d, const struct conf *conf)
{
    const struct transport *t = d->transport;
    if (!d->is_ready || !t->is_ready || t->conf != conf)
        return false;
    return t->maxproc <= 0 || t->busy + 1 < t->maxproc || (t->ready == d && d->next == NULL);
}

/* The destination of a hint. With one queue per recipient, one of those that are ready for the same host will do. */
#define SAME_HOST_LOOKS 16
static struct dest *dest_of_hint(struct sched *s, const struct job *hint)
{
    struct transport *t;
    struct dest *d;
    const char *name = hint->transport->name;
    HASH_FIND(hh, s->transports, name, strlen(name), t);
    if (t == NULL)
        return NULL;
    if (t->rcpt_limit != 1) {
        HASH_FIND(hh, t->dests, hint->nexthop.p, hint->nexthop.n, d);
        return d;
    }
    int looks = 0;
    DL_FOREACH(t->ready, d)
        if (span_eq(d->nexthop, hint->nexthop) || ++looks == SAME_HOST_LOOKS)
            break;
    return d != NULL && span_eq(d->nexthop, hint->nexthop) ? d : NULL;
}

struct job *sched_next(struct sched *s, const struct job *hint)
{
    struct sjob *j = NULL;
    struct dest *d;
    lock_take(&s->m);
    if (s->is_stopping || s->is_closed)
        ;
    else if (hint == NULL && s->ready != NULL)
        j = take_locked(s, s->ready->ready);
    else if (hint != NULL && (d = dest_of_hint(s, hint)) != NULL && may_go_on(d, hint->conf))
        j = take_locked(s, d);
    lock_drop(&s->m);
    return j ? &j->pub : NULL;
}

/* ---- reporting ---- */

static struct span keep(struct sjob *j, struct span v)
{
    if (j->text == NULL)
        j->text = arena_new(1024);
    return v.n ? arena_dup_span(j->text, v) : (struct span){ 0 };
}

/* A line of text in the message's arena; the same text again takes no more memory. */
static void set_last(struct msg *m, struct span *to, struct span v)
{
    if (!span_eq(*to, v))
        *to = v.n ? arena_dup_span(m->arena, v) : (struct span){ 0 };
}

struct verdict_on { /* what the scheduler makes of an agent's result */
    enum outcome outcome;
    struct span dsn;
    char dsn_text[16];
    const char *status;
    int64_t now_us, due_us;
};

static void soften(struct verdict_on *v, struct span dsn)
{
    size_t n = dsn.n < sizeof v->dsn_text ? dsn.n : sizeof v->dsn_text - 1;
    memcpy(v->dsn_text, dsn.p, n);
    if (n > 0 && v->dsn_text[0] == '5')
        v->dsn_text[0] = '4';
    v->dsn = span_of(v->dsn_text, n);
}

static const struct params *job_params(const struct sjob *j)
{
    return conf_global(j->pub.conf);
}

static void judge(struct sched *s, const struct sjob *j, const struct delivery_result *r, struct verdict_on *v)
{
    const struct params *p = job_params(j);
    const struct params *tp = j->pub.transport != NULL ? j->pub.transport->p : p;
    const struct envelope *e = &j->pub.msg->env;
    v->outcome = r->outcome;
    v->dsn = r->dsn;
    v->now_us = clock_wall_us();
    v->due_us = 0;
    switch (r->outcome) {
    case OUTCOME_SENT: v->status = "sent"; return;
    case OUTCOME_EXPIRED: v->status = "expired"; return;
    case OUTCOME_BOUNCED:
        v->status = "bounced";
        if (!tp->soft_bounce)
            return;
        v->outcome = OUTCOME_DEFERRED;
        v->status = "SOFTBOUNCE";
        soften(v, r->dsn);
        break;
    case OUTCOME_DEFERRED: v->status = "deferred"; break;
    }
    lock_take(&s->m);
    v->now_us = sched_now_locked(s);
    int64_t age_us = wall_watch_age_us(&s->wall, e->arrival_us, v->now_us);
    struct retry_times t = { p->minimal_backoff_time, p->maximal_backoff_time, p->queue_run_delay };
    v->due_us = v->now_us + 1000 * retry_backoff_ms(&t, age_us / 1000, &s->rng);
    lock_drop(&s->m);
    if (retry_is_over(age_us, e->sender.n == 0 ? p->bounce_queue_lifetime : p->maximal_queue_lifetime))
        v->outcome = OUTCOME_EXPIRED;
}

static void write_records(struct sched *s, const struct sjob *j, const uint32_t *at, uint32_t n,
                          const struct delivery_result *r, const struct verdict_on *v, struct result_token *t)
{
    struct spool_result rec[REPORT_PIECE];
    for (uint32_t k = 0; k < n; k++)
        rec[k] = (struct spool_result){ .id = j->ms->id, .rcpt = j->rcpts[at[k]].index, .outcome = v->outcome,
            .attempts = (uint16_t)(j->pub.msg->env.rcpts[j->rcpts[at[k]].index].attempts + 1),
            .when_us = v->now_us, .due_us = v->due_us, .dsn = v->dsn, .mta = r->remote_mta, .reason = r->reason };
    if (spool_result_append(s->spool, rec, n, t) != SPOOL_OK)
        log_error(&s->log, "%llX: the result of a delivery cannot be written; it may be repeated after a crash",
                  (unsigned long long)j->ms->id);
}

static bool wants_success_dsn(const struct envelope *e, const struct msg_rcpt *rc, const struct delivery_result *r, bool was_delayed)
{
    if (e->sender.n == 0 || (rc->notify & NOTIFY_NEVER))
        return false;
    if ((rc->notify & NOTIFY_SUCCESS) && (r->is_final_delivery || r->is_dsn_relayed))
        return true;
    return was_delayed;
}

/* confirm_delay_cleared: who was warned of a delay hears of its end. */
static bool was_warned(struct sched *s, const struct sjob *j)
{
    if (!job_params(j)->confirm_delay_cleared)
        return false;
    lock_take(&s->m);
    bool warned = j->ms->is_delay_warned;
    lock_drop(&s->m);
    return warned;
}

static void note_success(struct sjob *j, uint32_t rcpt, const struct delivery_result *r, const struct verdict_on *v)
{
    if (j->success == NULL)
        j->success = xcalloc(j->pub.rcpt_count, sizeof *j->success);
    j->success[j->success_n++] = (struct bounce_rcpt){
        .rcpt = rcpt, .outcome = OUTCOME_SENT, .action = r->is_final_delivery ? "delivered" : "relayed",
        .dsn = keep(j, v->dsn), .reason = keep(j, r->reason), .remote_mta = keep(j, r->remote_mta),
        .diagnostic = keep(j, r->diagnostic),
    };
}

static void note_failed(struct sjob *j, uint32_t rcpt, const struct delivery_result *r, const struct verdict_on *v)
{
    if (j->failed == NULL)
        j->failed = xcalloc(j->pub.rcpt_count, sizeof *j->failed);
    j->failed[j->failed_n++] = (struct failed_rcpt){
        .rcpt = rcpt, .outcome = v->outcome, .dsn = keep(j, v->dsn), .reason = keep(j, r->reason),
        .mta = keep(j, r->remote_mta), .diagnostic = keep(j, r->diagnostic),
    };
}

static void apply_locked(struct sjob *j, uint32_t at, const struct delivery_result *r, const struct verdict_on *v)
{
    struct msg_sched *ms = j->ms;
    uint32_t i = j->rcpts[at].index;
    struct msg_rcpt *rc = &ms->m->env.rcpts[i];
    ms->rx[i].flags |= RX_DIRTY;
    ms->busy--;
    if (rc->attempts < UINT16_MAX)
        rc->attempts++;
    rc->last_us = clock_wall_us();
    if (r->retry_alone && v->outcome == OUTCOME_DEFERRED) {
        ms->rx[i].flags |= RX_ALONE;
        ms->has_alone = true;
    }
    if (v->outcome != OUTCOME_SENT) {
        set_last(ms->m, &rc->last_dsn, v->dsn);
        set_last(ms->m, &rc->last_reason, r->reason);
        set_last(ms->m, &rc->last_mta, r->remote_mta);
    }
    switch (v->outcome) {
    case OUTCOME_SENT:
        rc->state = RCPT_DONE;
        ms->done++;
        break;
    case OUTCOME_DEFERRED:
        rc->state = RCPT_TODO;
        rc->due_us = v->due_us;
        ms->idle++;
        break;
    case OUTCOME_BOUNCED:
    case OUTCOME_EXPIRED:
        ms->rx[i].flags |= RX_PENDING;
        ms->pending++;
        break;
    }
}

/* One piece: at most REPORT_PIECE recipients, given by their place in the job. */
static void report_piece(struct sched *s, struct sjob *j, const uint32_t *at, uint32_t n, const struct delivery_result *r)
{
    struct msg_sched *ms = j->ms;
    struct verdict_on v;
    struct result_token token;
    judge(s, j, r, &v);
    bool warned = v.outcome == OUTCOME_SENT && was_warned(s, j);
    bool fails = v.outcome == OUTCOME_BOUNCED || v.outcome == OUTCOME_EXPIRED;
    rates_count(&s->rates, fails ? RATE_BOUNCED : v.outcome == OUTCOME_SENT ? RATE_SENT : RATE_DEFERRED, n);
    if (!fails)
        write_records(s, j, at, n, r, &v, &token);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = j->rcpts[at[k]].index;
        if (!j->is_silent)
            log_delivery(s, &j->pub, i, r, v.dsn, v.status, v.now_us);
        if (fails)
            note_failed(j, i, r, &v);
        else if (v.outcome == OUTCOME_SENT && wants_success_dsn(&j->pub.msg->env, &j->pub.msg->env.rcpts[i], r, warned))
            note_success(j, i, r, &v);
    }
    lock_take(&s->m);
    /* The clock was set back since, and who looks after that may have been here already. */
    int64_t now_us = clock_wall_us();
    if (v.outcome == OUTCOME_DEFERRED && now_us < v.now_us)
        v.due_us = now_us + (v.due_us - v.now_us);
    for (uint32_t k = 0; k < n; k++) {
        j->rcpts[at[k]].reported = true;
        apply_locked(j, at[k], r, &v);
    }
    j->reported += n;
    ms_dirty_locked(s, ms);
    if (v.outcome == OUTCOME_DEFERRED)
        ms_wait_locked(s, ms, v.due_us);
    lock_drop(&s->m);
    if (!fails)
        spool_result_applied(s->spool, &token);
    if (r->outcome == OUTCOME_DEFERRED) { /* for the texts of a dead site */
        j->last_dsn = keep(j, r->dsn);
        j->last_reason = keep(j, r->reason);
        j->last_mta = keep(j, r->remote_mta);
    }
}

void sched_report(struct sched *s, struct job *job, uint32_t at, const struct delivery_result *r)
{
    struct sjob *j = job->sched_private;
    if (job->probe != NULL)
        job->probe->report(job, r);
    else if (!j->rcpts[at].reported)
        report_piece(s, j, &at, 1, r);
}

void sched_report_all(struct sched *s, struct job *job, const struct delivery_result *r)
{
    struct sjob *j = job->sched_private;
    uint32_t at[REPORT_PIECE], n = 0;
    if (job->probe != NULL) {
        job->probe->report(job, r);
        return;
    }
    for (uint32_t k = 0; k < job->rcpt_count; k++) {
        if (!j->rcpts[k].reported)
            at[n++] = k;
        if (n > 0 && (n == REPORT_PIECE || k + 1 == job->rcpt_count)) {
            report_piece(s, j, at, n, r);
            n = 0;
        }
    }
}

/* ---- ending ---- */

static void job_free(struct sjob **jp)
{
    struct sjob *j = *jp;
    msg_unref(&j->pub.msg);
    conf_unref(&j->pub.conf);
    arena_free(&j->text);
    free(j->failed);
    free(j->success);
    free(j);
    *jp = NULL;
}

static void return_unreported_locked(struct sched *s, struct sjob *j)
{
    struct msg_sched *ms = j->ms;
    int64_t due = clock_wall_us() + SCHED_RETRY_SOON_US;
    for (uint32_t k = 0; k < j->pub.rcpt_count; k++) {
        if (j->rcpts[k].reported)
            continue;
        struct msg_rcpt *rc = &ms->m->env.rcpts[j->rcpts[k].index];
        rc->state = RCPT_TODO;
        rc->due_us = due;
        ms->busy--;
        ms->idle++;
        ms->rx[j->rcpts[k].index].flags |= RX_DIRTY;
    }
    ms_dirty_locked(s, ms);
}

static struct sjob *end_job(struct sched *s, struct sjob *j, enum site_verdict v, bool want_next)
{
    struct after a = AFTER_INIT;
    struct sjob *next = NULL;
    struct dest *d = j->dest;
    /* Notifications are built while the message is still held by this job. */
    if (j->failed_n > 0)
        notify_failed(s, j);
    if (j->success_n > 0)
        notify_success(s, j);
    lock_take(&s->m);
    if (j->reported < j->pub.rcpt_count)
        return_unreported_locked(s, j);
    if (d != NULL) {
        dest_site_verdict_locked(s, j, v, &a);
        if (want_next && !s->is_stopping && !s->is_closed && may_go_on(d, j->pub.conf))
            next = take_locked(s, d);
        dest_release_locked(s, d);
    }
    j->ms->jobs--;
    ms_settle_locked(s, j->ms, &a);
    lock_drop(&s->m);
    sched_after(s, &a);
    job_free(&j);
    return next;
}

void sched_finish(struct sched *s, struct job **job, enum site_verdict v)
{
    struct sjob *j = (*job)->sched_private;
    bool is_probe = (*job)->probe != NULL;
    *job = NULL;
    if (!is_probe) /* whoever made a probe frees it */
        end_job(s, j, v, false);
}

struct job *sched_finish_next(struct sched *s, struct job **job, enum site_verdict v)
{
    struct sjob *j = (*job)->sched_private;
    bool is_probe = (*job)->probe != NULL;
    *job = NULL;
    if (is_probe)
        return NULL;
    j = end_job(s, j, v, true);
    return j ? &j->pub : NULL;
}

void sched_answer(struct sched *s, struct sjob *j, const struct delivery_result *r)
{
    sched_report_all(s, &j->pub, r);
    end_job(s, j, SITE_NEUTRAL, false);
}

/*
 * Why a recipient waits, for people: told from the same fields that decide it, in one look under the lock.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

static void say(struct sched_wait *w, const char *why, int64_t until_us, const char *fmt, ...) PRINTF_FMT(4, 5);
static void say(struct sched_wait *w, const char *why, int64_t until_us, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    w->why = why;
    w->until_us = until_us;
    if (vsnprintf(w->text, sizeof w->text, fmt, ap) < 0)
        w->text[0] = '\0';
    va_end(ap);
}

/* A monotonic deadline as wall time. */
static int64_t wall_of(int64_t mono_ms)
{
    return clock_wall_us() + (mono_ms - clock_mono_ms()) * 1000;
}

static const struct entry *entry_of(const struct msg_sched *ms, uint32_t rcpt)
{
    const struct entry *e;
    DL_FOREACH2(ms->entries, e, ms_next)
        for (uint32_t i = e->first; i != UINT32_MAX; i = ms->rx[i].next)
            if (i == rcpt)
                return e;
    return NULL;
}

static void explain_dest(const struct dest *d, struct sched_wait *w)
{
    const struct transport *t = d->transport;
    int64_t now_ms = clock_mono_ms();
    if (d->is_paused)
        say(w, "paused", 0, "delivery is paused by the administrator");
    else if (d->window.is_dead)
        say(w, "dead-site", d->timer.slot != 0 ? wall_of(d->timer.key) : 0, "the destination is taken for dead after failures: %.300s",
            d->dead_reason != NULL ? d->dead_reason : "unavailable");
    else if (d->not_before_ms > now_ms)
        say(w, "rate-delay", wall_of(d->not_before_ms), "destination_rate_delay of transport %s", t->name);
    else if (t->not_before_ms > now_ms)
        say(w, "rate-delay", wall_of(t->not_before_ms), "transport_rate_delay of transport %s", t->name);
    else if (d->busy >= d->window.size)
        say(w, "concurrency", 0, "%u deliveries to this destination are under way, its present limit", d->busy);
    else if (t->maxproc > 0 && t->busy >= t->maxproc)
        say(w, "process-limit", 0, "%u deliveries by transport %s are under way, its process limit", t->busy, t->name);
    else
        say(w, "delivery-thread", 0, "waits for a delivery thread (delivery_threads)");
}

static void explain_queued(const struct entry *e, struct sched_wait *w)
{
    if (e == NULL) {
        say(w, "delivery-thread", 0, "waits for a delivery thread (delivery_threads)");
    } else if (e->flow != NULL) {
        explain_dest(e->dest, w);
    } else {
        switch ((enum suspend_why)e->why) {
        case SUSPEND_DEAD:
            say(w, "dead-site", 0, "the destination is taken for dead");
            break;
        case SUSPEND_DEFER_TRANSPORTS:
            say(w, "deferred-transport", 0, "the transport is one of defer_transports");
            break;
        case SUSPEND_NO_TRANSPORT:
            say(w, "no-transport", 0, "the transport is not in master.cf");
            break;
        }
    }
}

static void explain_idle(const struct sched *s, const struct msg *m, uint32_t i, bool is_forced_expire, int64_t due_us, struct sched_wait *w)
{
    const struct msg_rcpt *r = &m->env.rcpts[i];
    int64_t now_us = clock_wall_us();
    const struct pause *p = s->pauses.n > 0 ? pauses_match(&s->pauses, r->route.transport, r->route.nexthop) : NULL;
    if (p != NULL)
        say(w, "paused", 0, "%s %.200s is paused by the administrator", pause_kind_name(p->kind), p->name);
    else if (due_us > now_us && r->attempts > 0)
        say(w, "back-off", due_us, "back-off after attempt %u", r->attempts);
    else if (due_us > now_us)
        say(w, "back-off", due_us, "not due yet");
    else if (is_forced_expire)
        say(w, "expiry", 0, "about to be returned to the sender");
    else if (sched_room_locked(s, false) == 0)
        say(w, "active-limit", 0, "due, but the active queue is full (qmgr_message_active_limit, qmgr_message_recipient_limit)");
    else
        say(w, "routing", 0, "due: its route is being looked up");
}

static void explain_locked(struct sched *s, const struct msg_sched *ms, uint32_t i, struct sched_wait *w)
{
    const struct msg_rcpt *r = &ms->m->env.rcpts[i];
    if (r->state == RCPT_DONE)
        say(w, "done", 0, "delivered, or its failure was reported");
    else if (ms->rx[i].flags & RX_PENDING)
        say(w, "notification", 0, "failed for good; the notification is being written");
    else if (r->state == RCPT_BUSY)
        say(w, "delivery", 0, "in delivery now");
    else if (ms->is_hold)
        say(w, "hold", 0, "on hold until it is released");
    else if (ms->frozen > 0)
        say(w, "change", 0, "an administrator's change is being written");
    else if (ms->rx[i].flags & RX_QUEUED)
        explain_queued(entry_of(ms, i), w);
    else
        explain_idle(s, ms->m, i, ms->is_expire_wanted, r->due_us, w);
}

/* Not in memory: held, or its time has not come, or there was no room. */
static void explain_row_locked(struct sched *s, const struct msg *m, bool hold, uint32_t i, struct sched_wait *w)
{
    if (m->env.rcpts[i].state == RCPT_DONE)
        say(w, "done", 0, "delivered, or its failure was reported");
    else if (hold)
        say(w, "hold", 0, "on hold until it is released");
    else if (park_has_locked(s, m->env.id))
        say(w, "in-line", 0, "due, and stands in line behind other messages of its sender for this destination");
    else
        explain_idle(s, m, i, (m->env.flags & ENV_FORCED_EXPIRE) != 0, m->env.rcpts[i].due_us, w);
}

void sched_explain(struct sched *s, const struct msg *m, enum sched_where where, struct sched_wait *out)
{
    lock_take(&s->m);
    const struct msg_sched *ms = ms_find_locked(s, m->env.id);
    bool in_memory = ms != NULL && ms->m != NULL && !ms->is_trashed && ms->m->env.rcpt_count == m->env.rcpt_count;
    for (uint32_t i = 0; i < m->env.rcpt_count; i++) {
        out[i].until_us = 0;
        if (in_memory)
            explain_locked(s, ms, i, &out[i]);
        else
            explain_row_locked(s, m, where == SCHED_HOLD, i, &out[i]);
    }
    lock_drop(&s->m);
}

uint64_t *sched_active_ids(struct sched *s, size_t *n)
{
    struct msg_sched *ms;
    size_t at = 0;
    lock_take(&s->m);
    uint64_t *ids = xcalloc(s->n_active + 1, sizeof *ids);
    DL_FOREACH2(s->active, ms, a_next)
        if (at < s->n_active && !ms->is_hold && !ms->is_trashed)
            ids[at++] = ms->id;
    lock_drop(&s->m);
    *n = at;
    return ids;
}

/*
 * Pauses: mail for a paused destination, or by a paused transport, is accepted and routed as ever, but its recipients never enter
 * the queue of a destination. They stay idle, and their time is moved far ahead (PARK: the longest back-off), so the message leaves
 * memory and costs the active queue nothing. No attempt is counted, no result written, nothing expires. What was
 * queued already when the pause began is taken out by the scheduler thread, piece by piece (sched.draining).
 *
 * A pause is in the file before it is true in memory, and so is its end. Then what waits is due at once, as after a flush.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

#define REASON_BYTES 256

/* ---- start ---- */

void pauses_begin(struct sched *s, const char *path)
{
    struct err e = ERR_INIT;
    unsigned bad;
    if (path == NULL)
        return;
    s->pauses_path = xstrdup(path);
    if (!pauses_load(&s->pauses, path, &bad, &e))
        log_error(&s->log, "%s: what was paused goes on", e.text);
    else if (bad > 0)
        log_error(&s->log, "%s: %u lines that make no sense were passed over", path, bad);
    for (size_t i = 0; i < s->pauses.n; i++)
        log_warn(&s->log, "%s %s is paused: its mail waits until it is resumed", pause_kind_name(s->pauses.v[i].kind), s->pauses.v[i].name);
}

void pauses_end(struct sched *s)
{
    pauses_free(&s->pauses);
    free(s->pauses_path);
}

/* ---- what a pause does ---- */

void sched_park_locked(struct sched *s, struct msg_sched *ms, uint32_t i)
{
    struct msg_rcpt *r = &ms->m->env.rcpts[i];
    int64_t long_ms = sched_params_locked(s)->maximal_backoff_time;
    r->due_us = clock_wall_us() + 1000 * retry_jitter_ms(long_ms - long_ms / 10, &s->rng); /* no longer: see fetch_far() */
    ms->rx[i].flags |= RX_DIRTY;
    ms_dirty_locked(s, ms);
    ms_wait_locked(s, ms, r->due_us);
}

bool sched_is_paused_locked(const struct sched *s, const struct transport *t, const struct dest *d)
{
    return pauses_match(&s->pauses, span_of(t->name, t->name_n), d->nexthop) != NULL;
}

/* After a change of the list: what may start changes, and queues of what is paused now are emptied by the thread. */
static void refresh_locked(struct sched *s, struct after *a)
{
    struct transport *t, *ttmp;
    struct dest *d, *dtmp;
    HASH_ITER(hh, s->transports, t, ttmp) {
        HASH_ITER(hh, t->dests, d, dtmp) {
            bool paused = sched_is_paused_locked(s, t, d);
            if (paused == d->is_paused)
                continue;
            d->is_paused = paused;
            dest_pause_changed_locked(s, d, a);
        }
    }
    sched_kick_locked(s);
}

/* ---- commands ---- */

/* One change of the list at a time: the file is written with no lock held. */
static struct pauses begin_change(struct sched *s)
{
    lock_take(&s->m);
    while (s->is_pausing)
        cond_wait(&s->answered, &s->m);
    s->is_pausing = true;
    struct pauses copy = pauses_copy(&s->pauses);
    lock_drop(&s->m);
    return copy;
}

/* Puts the new list in force, or (ok false) only ends the change. Takes the list. */
static void end_change(struct sched *s, struct pauses *list, bool ok)
{
    struct after a = AFTER_INIT;
    lock_take(&s->m);
    if (ok) {
        struct pauses old = s->pauses;
        s->pauses = *list;
        *list = old;
        refresh_locked(s, &a);
    }
    s->is_pausing = false;
    cond_broadcast(&s->answered);
    lock_drop(&s->m);
    sched_after(s, &a);
    pauses_free(list);
}

static bool save(struct sched *s, const struct pauses *list, struct err *e)
{
    return s->pauses_path == NULL || pauses_save(list, s->pauses_path, e);
}

enum sched_cmd_status sched_pause(struct sched *s, enum pause_kind k, struct span name, struct err *e)
{
    if (!pause_name_is_valid(name)) {
        err_set(e, "\"%.*s\" is no name of a %s", (int)(name.n < 64 ? name.n : 64), name.p, pause_kind_name(k));
        return SCHED_CMD_FAILED;
    }
    if (span_find(name, '*') >= 0) {
        err_set(e, "\"%.*s\" is a pattern: name one %s", (int)(name.n < 64 ? name.n : 64), name.p, pause_kind_name(k));
        return SCHED_CMD_FAILED;
    }
    struct pauses list = begin_change(s);
    bool there = pauses_find(&list, k, name) != NULL, full = list.n >= PAUSES_MAX, ok = !there && !full;
    if (full)
        err_set(e, "%d pauses are the most that can be kept", PAUSES_MAX);
    if (ok) {
        pauses_add(&list, k, name, clock_wall_us());
        ok = save(s, &list, e);
    }
    end_change(s, &list, ok);
    if (ok)
        log_info(&s->log, "%s %.*s is paused: its mail waits until it is resumed", pause_kind_name(k), SPAN_ARG(name));
    return ok ? SCHED_CMD_OK : there ? SCHED_CMD_BUSY : SCHED_CMD_FAILED;
}

enum sched_cmd_status sched_resume(struct sched *s, enum pause_kind k, struct span name, struct err *e)
{
    struct pauses list = begin_change(s);
    bool there = pauses_remove(&list, k, name), ok = there && save(s, &list, e);
    end_change(s, &list, ok);
    if (!ok)
        return there ? SCHED_CMD_FAILED : SCHED_CMD_NOT_FOUND;
    log_info(&s->log, "%s %.*s is resumed", pause_kind_name(k), SPAN_ARG(name));
    sched_make_due(s, k == PAUSE_TRANSPORT ? &name : NULL, k == PAUSE_DESTINATION ? &name : NULL);
    return SCHED_CMD_OK;
}

void sched_each_pause(struct sched *s, void (*fn)(void *arg, const struct pause *p), void *arg)
{
    lock_take(&s->m);
    struct pauses copy = pauses_copy(&s->pauses);
    lock_drop(&s->m);
    for (size_t i = 0; i < copy.n; i++)
        fn(arg, &copy.v[i]);
    pauses_free(&copy);
}

/* ---- as a reason ---- */

/* Says of the recipients of a copy that wait because of a pause that they do. */
void pauses_explain_locked(const struct sched *s, struct msg *copy)
{
    for (uint32_t i = 0; s->pauses.n > 0 && i < copy->env.rcpt_count; i++) {
        struct msg_rcpt *r = &copy->env.rcpts[i];
        const struct pause *p = r->state == RCPT_TODO ? pauses_match(&s->pauses, r->route.transport, r->route.nexthop) : NULL;
        if (p == NULL)
            continue;
        char text[REASON_BYTES];
        snprintf(text, sizeof text, "delivery is paused by the administrator: %s %.180s", pause_kind_name(p->kind), p->name);
        r->last_reason = span_cstr(arena_strdup(copy->arena, text));
        r->last_dsn = SPAN_LIT("4.3.2");
        r->last_mta = SPAN_LIT("");
    }
}

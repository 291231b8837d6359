/*
 * Messages in memory: found by number, active or waiting, changed or known to the index, finished.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

#define REFILL_BATCH 16 /* messages for which it is worth waking the thread */

const struct params *sched_params_locked(const struct sched *s)
{
    return conf_global(s->conf);
}

void sched_kick_locked(struct sched *s)
{
    s->is_kicked = true;
    if (s->is_sleeping)
        cond_signal(&s->kick);
}

struct msg_sched *ms_find_locked(struct sched *s, uint64_t id)
{
    struct msg_sched *ms;
    HASH_FIND(hh, s->by_id, &id, sizeof id, ms);
    return ms;
}

struct msg_sched *ms_new_locked(struct sched *s, struct msg *m)
{
    struct msg_sched *ms = xcalloc(1, sizeof *ms);
    uint32_t n = m->env.rcpt_count;
    ms->id = m->env.id;
    ms->m = msg_ref(m);
    ms->rx = n <= ARRAY_LEN(ms->rx_own) ? ms->rx_own : xcalloc(n, sizeof *ms->rx);
    ms->next_due_us = INT64_MAX;
    ms->is_delay_warned = (m->env.flags & ENV_NO_DELAY_WARNING) != 0;
    ms->is_expire_wanted = (m->env.flags & ENV_FORCED_EXPIRE) != 0;
    for (uint32_t i = 0; i < n; i++) {
        if (m->env.rcpts[i].state == RCPT_DONE) {
            ms->done++;
            continue;
        }
        m->env.rcpts[i].state = RCPT_TODO;
        ms->rx[i].gen = m->env.rcpts[i].route.transport.n > 0 ? s->gen : s->gen - 1;
        ms->idle++;
        if (m->env.rcpts[i].is_alone) {
            ms->rx[i].flags = RX_ALONE;
            ms->has_alone = true;
        }
    }
    m->sched = ms;
    HASH_ADD(hh, s->by_id, id, sizeof ms->id, ms);
    s->n_messages++;
    return ms;
}

static void undirty(struct sched *s, struct msg_sched *ms)
{
    if (!ms->is_dirty)
        return;
    DL_DELETE2(s->dirty, ms, d_prev, d_next);
    ms->is_dirty = false;
    s->n_dirty--;
}

/* Forgets it entirely; the caller has seen to the message. */
void ms_free_locked(struct sched *s, struct msg_sched *ms)
{
    heap_remove(&s->due, &ms->due);
    undirty(s, ms);
    if (ms->in_inbox)
        DL_DELETE2(s->inbox, ms, in_prev, in_next);
    s->n_hold -= ms->is_hold;
    s->n_row_hold -= ms->is_row_hold;
    if (ms->in_index)
        s->n_in_index--;
    if (ms->m != NULL) {
        s->n_messages -= !ms->is_trashed;
        ms->m->sched = NULL;
        msg_unref(&ms->m);
    } else {
        s->n_gone--;
    }
    HASH_DEL(s->by_id, ms);
    if (ms->rx != ms->rx_own)
        free(ms->rx);
    free(ms);
}

void ms_dirty_locked(struct sched *s, struct msg_sched *ms)
{
    ms->version++;
    if (ms->is_dirty)
        return;
    ms->is_dirty = true;
    ms->epoch = s->epoch;
    DL_APPEND2(s->dirty, ms, d_prev, d_next);
    if (++s->n_dirty == SCHED_DIRTY_MANY)
        sched_kick_locked(s);
}

/*
 * New mail and the backlog in the index each leave a fifth of the room to the other, so that neither waits for ever.
 */
uint64_t sched_room_locked(const struct sched *s, bool is_backlog)
{
    const struct params *p = sched_params_locked(s);
    uint64_t limit = (uint64_t)p->qmgr_message_active_limit, share = limit - limit / 5;
    uint64_t mine = is_backlog ? s->n_backlog : s->n_active - s->n_backlog;
    if (s->n_active >= limit || (s->n_active > 0 && s->n_active_rcpts >= (uint64_t)p->qmgr_message_recipient_limit))
        return 0;
    uint64_t room = limit - s->n_active;
    if (!is_backlog && !s->index_has_due)
        return room;
    return mine >= share ? 0 : room < share - mine ? room : share - mine;
}

/* Two epochs are open at a time: what does not belong to the present one goes with the other, before everything else. */
void ms_dirty_since_locked(struct sched *s, struct msg_sched *ms, uint32_t epoch)
{
    ms_dirty_locked(s, ms);
    if (epoch == ms->epoch)
        return;
    ms->epoch = s->epoch - UINT32_C(0x40000000); /* before any epoch that is still open */
    DL_DELETE2(s->dirty, ms, d_prev, d_next);
    DL_PREPEND2(s->dirty, ms, d_prev, d_next);
}

void ms_activate_locked(struct sched *s, struct msg_sched *ms, int64_t now_us)
{
    heap_remove(&s->due, &ms->due);
    if (ms->is_active)
        return;
    ms->is_active = true;
    ms->walk_gen = s->gen;
    ms->active_us = now_us;
    DL_APPEND2(s->active, ms, a_prev, a_next);
    s->n_active++;
    s->n_active_rcpts += ms->m->env.rcpt_count;
    s->n_backlog += ms->is_backlog;
}

void ms_to_inbox_locked(struct sched *s, struct msg_sched *ms)
{
    if (ms->in_inbox)
        return;
    ms->in_inbox = true;
    DL_APPEND2(s->inbox, ms, in_prev, in_next);
    sched_kick_locked(s);
}

static void set_timer(struct sched *s, struct msg_sched *ms)
{
    if (ms_is_stopped(ms) || ms->next_due_us == INT64_MAX) {
        heap_remove(&s->due, &ms->due);
    } else if (!ms->in_inbox && !ms->is_routing) {
        heap_put(&s->due, &ms->due, ms->next_due_us);
        if (ms->due.slot == 1) /* the earliest: the thread must wait less */
            sched_kick_locked(s);
    }
}

void ms_wait_locked(struct sched *s, struct msg_sched *ms, int64_t due_us)
{
    if (due_us >= ms->next_due_us)
        return;
    ms->next_due_us = due_us;
    set_timer(s, ms);
}

void ms_recompute_due_locked(struct sched *s, struct msg_sched *ms)
{
    const struct envelope *e = &ms->m->env;
    ms->next_due_us = INT64_MAX;
    for (uint32_t i = 0; i < e->rcpt_count; i++)
        if (e->rcpts[i].state == RCPT_TODO && !(ms->rx[i].flags & RX_QUEUED) && e->rcpts[i].due_us < ms->next_due_us)
            ms->next_due_us = e->rcpts[i].due_us;
    set_timer(s, ms);
}

void ms_deactivate_locked(struct sched *s, struct msg_sched *ms)
{
    if (!ms->is_active)
        return;
    ms->is_active = false;
    ms->is_forced = ms->is_reviving = false;
    DL_DELETE2(s->active, ms, a_prev, a_next);
    s->n_active--;
    s->n_backlog -= ms->is_backlog;
    ms->is_backlog = false;
    s->n_active_rcpts -= ms->m->env.rcpt_count;
    /* Room for what is due and was kept out: the thread fills up in batches. */
    uint64_t room = sched_room_locked(s, false), batch = (uint64_t)sched_params_locked(s)->qmgr_message_active_limit / 10;
    if (batch > REFILL_BATCH)
        batch = REFILL_BATCH;
    if (s->index_has_due && sched_fetch_room_locked(s) > 0)
        sched_kick_locked(s);
    else if (room > 0 && room >= batch && s->due.n > 0 && heap_first(&s->due)->key <= clock_wall_us())
        sched_kick_locked(s);
}

static void finish(struct sched *s, struct msg_sched *ms, struct after *a)
{
    ms_deactivate_locked(s, ms);
    heap_remove(&s->due, &ms->due);
    if (ms->in_inbox) {
        DL_DELETE2(s->inbox, ms, in_prev, in_next);
        ms->in_inbox = false;
    }
    a->finished = ms->m;
    a->conf = conf_ref(s->conf);
    a->is_deleted = ms->is_delete_wanted;
    ms->m->sched = NULL;
    ms->m = NULL;
    s->n_messages--;
    s->n_gone++;
    /* A row that exists, or may exist after the flush under way, must go; the entry keeps a late fetch from reviving it. */
    if (ms->in_index || ms->is_flushing || ms->was_trashed || ms->pins > 0)
        ms_dirty_locked(s, ms);
    else
        ms_free_locked(s, ms);
}

/* A warning is due when the message comes to rest, old enough, with somebody to warn. */
static bool wants_warning(struct sched *s, const struct msg_sched *ms)
{
    int64_t after_ms = sched_params_locked(s)->delay_warning_time;
    if (after_ms <= 0 || ms->is_delay_warned || ms->is_warning || ms->m->env.sender.n == 0)
        return false;
    return wall_watch_age_us(&s->wall, ms->m->env.arrival_us, sched_now_locked(s)) / 1000 >= after_ms;
}

void ms_settle_locked(struct sched *s, struct msg_sched *ms, struct after *a)
{
    if (ms->m == NULL || ms->queued > 0 || ms->jobs > 0 || ms->pending > 0)
        return;
    if ((ms->in_inbox || ms->is_routing) && ms->idle > 0 && !ms->is_delete_wanted)
        return;
    if (ms->is_delete_wanted && ms->trash_us != 0 && ms->idle > 0) {
        ms_deactivate_locked(s, ms);
        trash_locked(s, ms, a);
        return;
    }
    if (ms->is_delete_wanted) {
        for (uint32_t i = 0; i < ms->m->env.rcpt_count; i++)
            ms->m->env.rcpts[i].state = RCPT_DONE;
        ms->done += ms->idle;
        ms->idle = 0;
    }
    if (ms->idle == 0) {
        finish(s, ms, a);
        return;
    }
    bool was_active = ms->is_active;
    ms_deactivate_locked(s, ms);
    ms_recompute_due_locked(s, ms);
    if (!was_active)
        return;
    a->drop = msg_ref(ms->m);
    if (!ms_is_stopped(ms) && wants_warning(s, ms)) {
        ms->is_warning = true;
        ms->pins++; /* stays in memory until the thread has sent the notice */
        DL_APPEND2(s->warn, ms, w_prev, w_next);
        sched_kick_locked(s);
    }
}

void ms_unpin_locked(struct sched *s, struct msg_sched *ms)
{
    if (--ms->pins > 0 || ms->in_index || ms->is_flushing)
        return;
    if ((ms->m == NULL && !ms->was_trashed) || ((ms->is_trashed || ms->m == NULL) && !ms->is_dirty))
        ms_free_locked(s, ms);
}

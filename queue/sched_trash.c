/*
 * Deleted messages that can be restored.
 *
 * ADMIN_TRASH makes a message come to rest like a held one that nobody can see: its recipients are neither queued nor due,
 * its row moves to the deleted ones with the next index flush, and its record in the journal stays alive, so neither
 * recycling nor compaction loses it. ADMIN_UNDELETE takes all of that back. After queue_undelete_time the scheduler thread has the
 * rows removed, and only when that is on the disk the place in the journal is given back (index_purge()): whatever is
 * killed in between is found deleted, or not at all.
 *
 * While a purge is under way its messages cannot be fetched for a command; those that a command has in memory are not purged.
 */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

#define PURGE_BATCH 500
#define PURGE_AGAIN_US (INT64_C(30) * 1000000) /* after a database error */
#define PURGE_SOON_US INT64_C(1000000)         /* when a command had one of them in memory */

void trash_locked(struct sched *s, struct msg_sched *ms, struct after *a)
{
    if (ms->is_trashed)
        return;
    ms->is_trashed = true;
    ms->is_trash_hold = ms->is_hold;
    s->n_hold -= ms->is_hold;
    ms->is_hold = false;
    s->n_messages--;
    heap_remove(&s->due, &ms->due);
    if (ms->in_inbox) {
        DL_DELETE2(s->inbox, ms, in_prev, in_next);
        ms->in_inbox = false;
    }
    ms_dirty_locked(s, ms);
    a->trashed = ms->id;
    a->conf = a->conf != NULL ? a->conf : conf_ref(s->conf);
}

void trash_restore_locked(struct sched *s, struct msg_sched *ms)
{
    ms->is_delete_wanted = false;
    ms->trash_us = 0;
    if (!ms->is_trashed)
        return;
    ms->is_trashed = false;
    ms->is_hold = ms->is_trash_hold;
    s->n_hold += ms->is_hold;
    s->n_messages++;
}

void trash_admit_locked(struct sched *s, struct msg_sched *ms, bool was_hold, int64_t deleted_us)
{
    ms->is_trashed = ms->was_trashed = ms->is_delete_wanted = true;
    ms->is_trash_hold = was_hold;
    ms->trash_us = deleted_us;
    s->n_messages--;
}

/* ---- going for good ---- */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

bool trash_is_purging(struct sched *s, uint64_t id)
{
    lock_take(&s->m);
    bool yes = s->purging != NULL && bsearch(&id, s->purging, s->purging_n, sizeof id, by_number) != NULL;
    lock_drop(&s->m);
    return yes;
}

static void purged_cb(void *arg, int status)
{
    struct sched *s = arg;
    if (status != 0)
        log_error(&s->log, "the queue index cannot be changed: deleted messages stay for now");
    lock_take(&s->m);
    s->is_purged = true;
    s->purge_at_us = status == 0 ? INT64_MIN : clock_wall_us() + PURGE_AGAIN_US;
    sched_kick_locked(s);
    lock_drop(&s->m);
}

/* Takes out what is in memory; the rest is on its way from now on. */
static size_t claim(struct sched *s, uint64_t *ids, size_t n, int64_t *at_us, int64_t now_us)
{
    size_t left = 0;
    lock_take(&s->m);
    for (size_t i = 0; i < n; i++)
        if (ms_find_locked(s, ids[i]) == NULL)
            ids[left++] = ids[i];
    if (left < n)
        *at_us = now_us + PURGE_SOON_US;
    s->purge_at_us = *at_us;
    if (left > 0) {
        qsort(ids, left, sizeof *ids, by_number);
        s->purging = ids;
        s->purging_n = left;
        s->is_purged = false;
    }
    lock_drop(&s->m);
    return left;
}

bool trash_work(struct sched *s)
{
    struct err e = ERR_INIT;
    int64_t now_us = clock_wall_us(), next_us = INT64_MAX;
    lock_take(&s->m);
    if (s->is_purged) {
        free(s->purging);
        s->purging = NULL;
        s->is_purged = false;
    }
    bool due = s->ix != NULL && s->purging == NULL && s->purge_at_us <= now_us && !s->is_stopping;
    int64_t keep_us = sched_params_locked(s)->queue_undelete_time * 1000;
    lock_drop(&s->m);
    if (!due)
        return false;
    uint64_t *ids = xcalloc(PURGE_BATCH, sizeof *ids);
    int n = index_deleted_until(s->ix, now_us - keep_us, ids, PURGE_BATCH, &next_us, &e);
    int64_t at_us = next_us < INT64_MAX - keep_us ? next_us + keep_us : INT64_MAX;
    if (n < 0) {
        log_error(&s->log, "reading the queue index: %s", e.text);
        at_us = now_us + PURGE_AGAIN_US;
    }
    size_t left = claim(s, ids, n > 0 ? (size_t)n : 0, &at_us, now_us);
    if (left > 0)
        index_purge(s->ix, s->purging, left, purged_cb, s);
    else
        free(ids);
    return left > 0;
}

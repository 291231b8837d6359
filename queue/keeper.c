/*
 * The keeper does for the spool what nobody should wait for: makes the next segment and the next result file ready,
 * flushes the result log, gives journal space back, unlinks the large files of finished messages, copies the last
 * live messages out of mostly dead segments, and tries the disk again after a failure. It sleeps until it is wanted, and
 * wakes once in TICK_MS for the flush of results.
 *
 * When may a segment be used again? Replay begins at the index's mark and needs from a segment (a) messages that are
 * still live: none, or it is not touched; (b) results of messages in it: they are in the result log, which is flushed
 * before the file is touched, so that after a power cut no row of the index says "not yet delivered" of a message
 * whose record is gone; (c) administrative records: the index has them once its mark (durable: its transactions are
 * flushed) lies behind the segment; and because index.db may be lost, the checkpoint must lie behind it too. So:
 *
 *     live == 0, and no reader, and (no administrative records, or end <= index mark and end <= checkpoint mark)
 *
 * and the result log is flushed first. A segment that is not below the mark may go when it has only dead messages:
 * replay then starts behind it. Result files may go when they lie below the results mark of both index and checkpoint.
 */
#include <errno.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "queue/spool_internal.h"

#define TICK_MS 1000

void keeper_wake(struct spool *s)
{
    struct segments *g = &s->journal.segs;
    lock_take(&g->m);
    if (!g->keeper_wanted) {
        g->keeper_wanted = true;
        cond_signal(&g->changed);
    }
    lock_drop(&g->m);
}

/* A segment that nobody needs any more, or NULL. */
static struct segment *find_empty(struct spool *s)
{
    struct segments *g = &s->journal.segs;
    struct segment *found = NULL;
    lock_take(&g->m);
    for (size_t i = 0; i < g->n && found == NULL; i++)
        if (g->v[i]->sealed && g->v[i]->live == 0 && g->v[i]->pins == 0 && g->v[i]->admin_records == 0)
            found = g->v[i];
    lock_drop(&g->m);
    return found;
}

static void unlink_large(struct spool *s, struct large_done *d)
{
    while (d != NULL) {
        struct large_done *next = d->next;
        char *path = spool_large_path(s, d->id);
        if (s->io->unlink(s->io->arg, path) != 0 && errno != ENOENT)
            log_warn(s->o.log, "cannot remove %s: %m", path);
        free(path);
        free(d);
        d = next;
    }
}

static void give_space_back(struct spool *s)
{
    struct segment *g = find_empty(s);
    struct large_done *d = atomic_exchange(&s->large_done, NULL);
    if (g == NULL && d == NULL)
        return;
    if (!result_log_sync(&s->results)) {
        while (d != NULL) { /* later, when the results are safe */
            struct large_done *next = d->next;
            d->next = atomic_load(&s->large_done);
            while (!atomic_compare_exchange_weak(&s->large_done, &d->next, d))
                ;
            d = next;
        }
        return;
    }
    unlink_large(s, d);
    for (; g != NULL; g = find_empty(s))
        if (!segments_reclaim(&s->journal.segs, g))
            break;
}

void *spool_keeper(void *arg)
{
    struct spool *s = arg;
    struct segments *g = &s->journal.segs;
    lock_take(&g->m);
    while (!s->keeper_stopping) {
        g->keeper_wanted = false;
        lock_drop(&g->m);
        if (!segments_prepare(g) || !result_log_prepare(&s->results))
            log_warn(s->o.log, "cannot prepare journal space in %s: %m", s->o.dir);
        give_space_back(s);
        if (atomic_load_explicit(&s->journal.trouble, memory_order_relaxed) != SPOOL_OK)
            journal_probe(s);
        lock_take(&g->m);
        int64_t until = clock_mono_ms() + TICK_MS;
        while (!g->keeper_wanted && !s->keeper_stopping && cond_wait_until(&g->changed, &g->m, until))
            ;
    }
    lock_drop(&g->m);
    return NULL;
}

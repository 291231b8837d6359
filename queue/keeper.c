/*
 * The keeper does for the spool what nobody should wait for: makes the next segment and the next result file ready,
 * flushes the result log, gives journal space back, unlinks the large files of finished messages, copies the last
 * live messages out of mostly dead segments, and tries the disk again after a failure. It sleeps until it is wanted or
 * results are to be flushed, and wakes once in TICK_MS. What takes long calls keeper_tick() meanwhile.
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
#include "queue/index_internal.h"
#include "queue/recover.h"
#include "queue/spool_internal.h"

#define TICK_MS 1000
#define CHECKPOINT_RESULTS_MIN (UINT64_C(16) << 20)
#define CHECKPOINT_BLOCKED_MIN 3
#define CHECKPOINT_PAUSE_MS 5000

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

/* What replay would read of the segment, the index knows, and the checkpoint too. */
static bool is_covered(struct spool *s, const struct segment *g, const struct index_mark *durable)
{
    struct journal_pos end = { g->generation, g->end };
    return g->admin_records == 0 || (pos_compare(end, durable->journal) <= 0 &&
                                     pos_compare(end, s->checkpoint_mark.journal) <= 0);
}

/* A segment that nobody needs any more, or NULL; *blocked counts those that only wait for a checkpoint. */
static struct segment *find_empty(struct spool *s, unsigned *blocked)
{
    struct segments *g = &s->journal.segs;
    struct segment *found = NULL;
    struct index_mark durable = index_durable_mark(s->index);
    *blocked = 0;
    lock_take(&g->m);
    for (size_t i = 0; i < g->n && found == NULL; i++) {
        struct segment *q = g->v[i];
        if (!q->sealed || q->live > 0 || q->pins > 0)
            continue;
        if (is_covered(s, q, &durable))
            found = q;
        else
            *blocked += pos_compare((struct journal_pos){ q->generation, q->end }, durable.journal) <= 0;
    }
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

static void put_back(struct spool *s, struct large_done *d)
{
    while (d != NULL) {
        struct large_done *next = d->next;
        d->next = atomic_load(&s->large_done);
        while (!atomic_compare_exchange_weak(&s->large_done, &d->next, d))
            ;
        d = next;
    }
}

static void give_space_back(struct spool *s)
{
    unsigned blocked;
    struct segment *g = find_empty(s, &blocked);
    struct large_done *d = atomic_exchange(&s->large_done, NULL);
    if (g == NULL && d == NULL)
        return;
    if (!result_log_sync(&s->results)) {
        put_back(s, d); /* later, when the results are safe */
        return;
    }
    unlink_large(s, d);
    for (; g != NULL; g = find_empty(s, &blocked))
        if (!segments_reclaim(&s->journal.segs, g))
            break;
}

void keeper_checkpoint(struct spool *s)
{
    struct index_mark k;
    struct err e = ERR_INIT;
    uint64_t bytes;
    s->checkpoint_after_ms = clock_mono_ms() + CHECKPOINT_PAUSE_MS;
    if (!checkpoint_write(s, keeper_tick, &k, &bytes, &e)) {
        log_warn(s->o.log, "checkpoint: %s", e.text);
        return;
    }
    s->checkpoint_mark = k;
    s->checkpoint_bytes = bytes;
}

/* Worth it when the result log has grown by as much as the checkpoint is long, or space waits for it. */
static void maybe_checkpoint(struct spool *s)
{
    struct index_mark durable = index_durable_mark(s->index);
    uint64_t worth = 2 * s->checkpoint_bytes;
    unsigned blocked;
    int64_t now = clock_mono_ms();
    if (worth < CHECKPOINT_RESULTS_MIN)
        worth = CHECKPOINT_RESULTS_MIN;
    if (now < s->checkpoint_after_ms || memcmp(&durable, &s->checkpoint_mark, sizeof durable) == 0)
        return;
    (void)find_empty(s, &blocked);
    if (durable.results - s->checkpoint_mark.results < worth && blocked < CHECKPOINT_BLOCKED_MIN)
        return;
    keeper_checkpoint(s);
}

static void release_results(struct spool *s)
{
    struct index_mark durable = index_durable_mark(s->index);
    uint64_t pos = s->checkpoint_mark.results < durable.results ? s->checkpoint_mark.results : durable.results;
    result_log_release(&s->results, pos);
}

static void prepare(struct spool *s)
{
    uint64_t suppressed;
    if (segments_prepare(&s->journal.segs) && result_log_prepare(&s->results))
        return;
    int err = errno;
    if (log_once_a_minute(&s->prepare_said_ms, &s->prepare_suppressed, &suppressed))
        log_warn(s->o.log, "cannot prepare journal space in %s: %s", s->o.dir, strerrorname_np(err));
}

void keeper_tick(struct spool *s)
{
    int64_t now = clock_mono_ms();
    if (now >= result_log_flush_at_ms(&s->results) && !result_log_sync(&s->results))
        log_debug(s->o.log, "result log not flushed");
    if (now < s->tick_at_ms)
        return;
    s->tick_at_ms = now + TICK_MS;
    if (atomic_load_explicit(&s->journal.trouble, memory_order_relaxed) != SPOOL_OK)
        journal_probe(s);
}

void keeper_round(struct spool *s)
{
    prepare(s);
    give_space_back(s);
    maybe_checkpoint(s);
    release_results(s);
    keeper_tick(s);
}

void *spool_keeper(void *arg)
{
    struct spool *s = arg;
    struct segments *g = &s->journal.segs;
    lock_take(&g->m);
    while (!s->keeper_stopping) {
        g->keeper_wanted = false;
        lock_drop(&g->m);
        keeper_round(s);
        compact_round(s);
        int64_t until = clock_mono_ms() + TICK_MS, flush_at = result_log_flush_at_ms(&s->results);
        until = flush_at < until ? flush_at : until;
        lock_take(&g->m);
        while (!g->keeper_wanted && !s->keeper_stopping && cond_wait_until(&g->changed, &g->m, until))
            ;
    }
    lock_drop(&g->m);
    return NULL;
}

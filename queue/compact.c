/*
 * Compaction: the live messages of a mostly dead segment are appended to the journal again, like any other record, and
 * the segment then has none. The copy says where it was made from. Which of the two counts is decided at one moment,
 * under the lock, after the flush of the copy: if the message is still alive its bit moves and its new place is noted; if
 * it ended meanwhile the copy is dead from the start. Replay knows dead copies too (journal_replay.c).
 *
 * It is worth it when at least half of all sealed segments is waste, and begins with the emptiest. BURST_BYTES at a
 * time go to the committer, with a pause after each and the keeper's other work in between, so that arriving mail
 * hardly notices.
 */
#include <errno.h>
#include <sys/mman.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "queue/index_internal.h"
#include "queue/spool_internal.h"

#define BURST_BYTES (1u << 20)
#define BURST_COUNT 256
#define PAUSE_MS 50
#define SEGMENTS_MIN 4
/* A segment is a candidate when less than one part in so many is alive. */
#define LIVE_SHARE 4

/* The emptiest segment that is worth it, pinned, or NULL. */
static struct segment *choose(struct spool *s, int *fd)
{
    struct segments *g = &s->journal.segs;
    struct index_mark durable = index_durable_mark(s->index);
    struct segment *best = NULL;
    uint64_t bytes = 0, sealed = 0;
    int64_t live = 0;
    lock_take(&g->m);
    for (size_t i = 0; i < g->n; i++) {
        struct segment *q = g->v[i];
        if (!q->sealed || q->live == 0 || pos_compare((struct journal_pos){ q->generation, q->end }, durable.journal) > 0)
            continue;
        sealed++;
        bytes += q->bytes;
        live += q->live_bytes;
        if (!q->was_compacted && q->live_bytes * LIVE_SHARE < (int64_t)q->bytes &&
            (best == NULL || q->live_bytes < best->live_bytes))
            best = q;
    }
    uint64_t generation = best != NULL ? best->generation : 0;
    lock_drop(&g->m);
    if (best == NULL || sealed < SEGMENTS_MIN || live * 2 > (int64_t)bytes)
        return NULL;
    return segment_pin(g, generation, fd);
}

static void copied(void *arg, int status)
{
    struct spool *s = arg;
    struct segments *g = &s->journal.segs;
    lock_take(&g->m);
    s->compacting--;
    if (status != SPOOL_OK)
        s->compact_status = status;
    g->keeper_wanted = true;
    cond_signal(&g->changed);
    lock_drop(&g->m);
}

static uint64_t submit_copy(struct spool *s, const char *p, const struct frame *f, struct journal_pos from)
{
    uint64_t id, n = frame_bytes(f);
    uint32_t rcpts;
    struct journal_pos before;
    if (!record_message_peek(span_of(p + FRAME_HEADER_BYTES, f->meta_bytes), &id, &rcpts, &before))
        return 0;
    struct batch_item *it = xcalloc(1, sizeof *it);
    it->record = xmalloc(n);
    memcpy(it->record, p, n);
    record_message_set_moved(it->record + FRAME_HEADER_BYTES, from);
    it->meta_bytes = f->meta_bytes;
    it->content_bytes = f->content_bytes;
    it->content_crc = f->content_crc;
    it->kind = REC_MESSAGE;
    it->flags = f->flags | RECORD_MOVED;
    it->id = id;
    it->from = from;
    struct msg *m = record_message_decode(f, span_of(p + FRAME_HEADER_BYTES, f->meta_bytes));
    it->weight = m != NULL ? segment_weight(m->env.content_bytes, m->is_large) : segment_weight(f->content_bytes, false);
    msg_unref(&m);
    it->done = copied;
    it->arg = s;
    lock_take(&s->journal.segs.m);
    s->compacting++;
    lock_drop(&s->journal.segs.m);
    journal_submit_item(s, it);
    return n;
}

/* Waits for the burst's flush; false when it failed or the spool stops. */
static bool wait_for_burst(struct spool *s)
{
    struct segments *g = &s->journal.segs;
    lock_take(&g->m);
    while (s->compacting > 0)
        cond_wait(&g->changed, &g->m);
    bool ok = s->compact_status == SPOOL_OK && !s->keeper_stopping;
    lock_drop(&g->m);
    return ok;
}

static bool pause_a_little(struct spool *s)
{
    struct segments *g = &s->journal.segs;
    int64_t until = clock_mono_ms() + PAUSE_MS;
    lock_take(&g->m);
    while (!s->keeper_stopping && cond_wait_until(&g->changed, &g->m, until))
        ;
    bool ok = !s->keeper_stopping;
    lock_drop(&g->m);
    if (ok)
        keeper_round(s);
    return ok;
}

static bool is_live(struct spool *s, struct journal_pos pos)
{
    lock_take(&s->journal.segs.m);
    bool live = segment_is_live_locked(&s->journal.segs, pos);
    lock_drop(&s->journal.segs.m);
    return live;
}

static void compact(struct spool *s, struct segment *g, const char *map)
{
    struct frame_scan sc = { .p = map, .n = g->end, .off = LOGFILE_DATA_AT, .generation = g->generation, .salt = g->salt };
    struct frame f;
    uint64_t off, burst = 0, total = 0;
    unsigned count = 0;
    bool ok = true;
    s->compact_status = SPOOL_OK;
    for (enum scan_status st; ok && (st = frame_scan_next(&sc, &f, &off)) != SCAN_END;) {
        struct journal_pos at = { g->generation, off };
        if (st != SCAN_FRAME || f.kind != REC_MESSAGE || !is_live(s, at))
            continue;
        burst += submit_copy(s, map + off, &f, at);
        total++;
        if (burst >= BURST_BYTES || ++count >= BURST_COUNT) {
            burst = count = 0;
            ok = wait_for_burst(s) && pause_a_little(s);
        }
    }
    ok = wait_for_burst(s) && ok;
    g->was_compacted = ok;
    log_info(s->o.log, "journal segment %016llx: %llu messages copied to the end of the journal%s",
             (unsigned long long)g->generation, (unsigned long long)total, ok ? "" : ", not all of them");
}

void compact_round(struct spool *s)
{
    int fd;
    struct segment *g = choose(s, &fd);
    if (g == NULL)
        return;
    void *map = mmap(NULL, g->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        log_warn(s->o.log, "map journal segment %016llx: %m", (unsigned long long)g->generation);
        g->was_compacted = true;
    } else {
        madvise(map, g->bytes, MADV_SEQUENTIAL);
        compact(s, g, map);
        munmap(map, g->bytes);
    }
    segment_unpin(&s->journal.segs, &g);
}

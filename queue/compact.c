/*
 * Compaction: the live messages of a mostly dead segment are appended to the journal again, like any other record, and
 * the segment then has none. The copy says where it was made from. Which of the two counts is decided at one moment,
 * under the lock, after the flush of the copy: if the message is still alive its bit moves and its new place is noted; if
 * it ended meanwhile the copy is dead from the start. Replay knows dead copies too (journal_replay.c).
 *
 * It is worth it when at least half of all sealed segments is waste, and begins with the emptiest. BURST_BYTES at a
 * time go to the committer, with a pause after each and the keeper's other work in between, so that arriving mail
 * hardly notices. Somebody may ask for all of it at once (spool_compact_start()): then every segment with waste in it is
 * emptied, the spare files go, and the index gives its free pages back.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/index_internal.h"
#include "queue/spool_internal.h"

#define BURST_BYTES (1u << 20)
#define BURST_COUNT 256
#define PAUSE_MS 50
#define SEGMENTS_MIN 4
/* A segment is a candidate when less than one part in so many is alive. */
#define LIVE_SHARE 4
/* When somebody asks: every segment of which more than one part in so many is waste, with shorter pauses. */
#define WASTE_SHARE 8
#define ASKED_PAUSE_MS 5
#define INDEX_WAIT_MS 60000 /* without any progress */
#define INDEX_FAILURES_MAX 2 /* in a row */
#define WATCH_MS 100

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

/* ---- copying ---- */

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

static void count_copy(struct spool *s, uint64_t bytes)
{
    lock_take(&s->journal.segs.m);
    s->compaction.messages++;
    s->compaction.bytes_copied += bytes;
    lock_drop(&s->journal.segs.m);
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
    it->flags = RECORD_MOVED; /* what it was committed with is another matter */
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

static bool pause_a_little(struct spool *s, int64_t pause_ms)
{
    struct segments *g = &s->journal.segs;
    int64_t until = clock_mono_ms() + pause_ms;
    lock_take(&g->m);
    while (!s->keeper_stopping && cond_wait_until(&g->changed, &g->m, until))
        ;
    bool ok = !s->keeper_stopping && !s->compact_cancelled;
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

static bool compact(struct spool *s, struct segment *g, const char *map, int64_t pause_ms)
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
        uint64_t n = submit_copy(s, map + off, &f, at);
        burst += n;
        total++;
        count_copy(s, n);
        if (burst >= BURST_BYTES || ++count >= BURST_COUNT) {
            burst = count = 0;
            ok = wait_for_burst(s) && pause_a_little(s, pause_ms);
        }
    }
    ok = wait_for_burst(s) && ok;
    g->was_compacted = ok;
    log_info(s->o.log, "journal segment %016llx: %llu messages copied to the end of the journal%s",
             (unsigned long long)g->generation, (unsigned long long)total, ok ? "" : ", not all of them");
    return ok;
}

/* Takes the pin. */
static bool compact_segment(struct spool *s, struct segment *g, int fd, int64_t pause_ms)
{
    bool ok = false;
    size_t bad;
    const char *map = io_map_readable(fd, g->bytes, &bad);
    if (map == NULL) {
        log_warn(s->o.log, "map journal segment %016llx: %m", (unsigned long long)g->generation);
        g->was_compacted = true;
    } else {
        if (bad > 0)
            log_error(s->o.log, "journal segment %016llx: %zu bytes cannot be read: messages there stay where they are",
                      (unsigned long long)g->generation, bad);
        ok = compact(s, g, map, pause_ms);
        io_unmap(map, g->bytes);
    }
    segment_unpin(&s->journal.segs, &g);
    return ok;
}

/* ---- all of it, because somebody asked ---- */

/* The emptiest segment that was there before generation `below` and has waste in it, pinned, or NULL; *left counts them. */
static struct segment *choose_wasteful(struct spool *s, uint64_t below, int *fd, uint64_t *left)
{
    struct segments *g = &s->journal.segs;
    struct index_mark durable = index_durable_mark(s->index);
    struct segment *best = NULL;
    *left = 0;
    lock_take(&g->m);
    for (size_t i = 0; i < g->n; i++) {
        struct segment *q = g->v[i];
        if (!q->sealed || q->live == 0 || q->was_compacted || q->generation >= below ||
            pos_compare((struct journal_pos){ q->generation, q->end }, durable.journal) > 0 ||
            q->live_bytes * WASTE_SHARE > (int64_t)q->bytes * (WASTE_SHARE - 1))
            continue;
        ++*left;
        if (best == NULL || q->live_bytes < best->live_bytes)
            best = q;
    }
    uint64_t generation = best != NULL ? best->generation : 0;
    lock_drop(&g->m);
    return best != NULL ? segment_pin(g, generation, fd) : NULL;
}

static uint64_t bytes_of(const char *dir, const char *name)
{
    char *path = xasprintf("%s/%s", dir, name);
    struct stat st;
    uint64_t n = stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
    free(path);
    return n;
}

static uint64_t bytes_in(const char *dir, const char *sub)
{
    char *path = xasprintf("%s/%s", dir, sub);
    DIR *d = opendir(path);
    uint64_t sum = 0;
    for (struct dirent *de; d != NULL && (de = readdir(d)) != NULL;)
        if (de->d_name[0] != '.')
            sum += bytes_of(path, de->d_name);
    if (d != NULL)
        closedir(d);
    free(path);
    return sum;
}

static uint64_t bytes_used(const struct spool *s)
{
    return bytes_in(s->o.dir, "journal") + bytes_in(s->o.dir, "results") + bytes_of(s->o.dir, "index.db") +
           bytes_of(s->o.dir, "index.db-wal");
}

static void set_state(struct spool *s, enum compaction_state state)
{
    uint64_t now = bytes_used(s);
    lock_take(&s->journal.segs.m);
    if (state == COMPACTION_RUNNING)
        s->compaction.bytes_before = now;
    s->compaction.bytes_now = now;
    s->compaction.state = state;
    lock_drop(&s->journal.segs.m);
}

/* Everything before `mark` is in the index: its rows say where the copies can be made from. False: it cannot be written, or stop. */
static bool wait_for_index(struct spool *s, struct journal_pos mark)
{
    struct index_mark durable = index_durable_mark(s->index), before = durable;
    uint64_t failures = atomic_load(&s->index->failures);
    int64_t until = clock_mono_ms() + INDEX_WAIT_MS;
    while (pos_compare(durable.journal, mark) < 0) {
        if (!pause_a_little(s, WATCH_MS))
            return false;
        durable = index_durable_mark(s->index);
        if (pos_compare(before.journal, durable.journal) < 0) {
            failures = atomic_load(&s->index->failures);
            until = clock_mono_ms() + INDEX_WAIT_MS;
        } else if (clock_mono_ms() > until || atomic_load(&s->index->failures) - failures >= INDEX_FAILURES_MAX) {
            log_warn(s->o.log, "the spool is not compacted: index.db cannot be brought up to date");
            return false;
        }
        before = durable;
    }
    return true;
}

static bool compact_segments(struct spool *s, uint64_t below)
{
    struct segment *g;
    uint64_t left;
    int fd;
    bool ok = true;
    while (ok && (g = choose_wasteful(s, below, &fd, &left)) != NULL) {
        lock_take(&s->journal.segs.m);
        s->compaction.segments_left = left;
        lock_drop(&s->journal.segs.m);
        ok = compact_segment(s, g, fd, ASKED_PAUSE_MS);
        uint64_t now = bytes_used(s);
        lock_take(&s->journal.segs.m);
        s->compaction.bytes_now = now;
        s->compaction.segments_done += ok;
        s->compaction.segments_left = left - ok;
        ok = ok && !s->compact_cancelled;
        lock_drop(&s->journal.segs.m);
    }
    return ok;
}

static void compact_all(struct spool *s)
{
    lock_take(&s->journal.m);
    struct journal_pos mark = s->journal.announced;
    lock_drop(&s->journal.m);
    set_state(s, COMPACTION_RUNNING);
    bool ok = wait_for_index(s, mark) && compact_segments(s, mark.segment + 1);
    if (ok) {
        lock_take(&s->journal.m);
        mark = s->journal.announced;
        lock_drop(&s->journal.m);
        /* The copies' rows first, then the checkpoint lets go of the segments, and what has no use is removed. */
        ok = wait_for_index(s, mark);
        keeper_checkpoint(s);
        keeper_round(s);
        segments_trim_spares(&s->journal.segs, 1);
        index_shrink(s->index);
    }
    lock_take(&s->journal.segs.m);
    bool cancelled = s->compact_cancelled || s->keeper_stopping;
    lock_drop(&s->journal.segs.m);
    set_state(s, ok ? COMPACTION_DONE : cancelled ? COMPACTION_CANCELLED : COMPACTION_FAILED);
}

bool spool_compact_start(struct spool *s)
{
    lock_take(&s->journal.segs.m);
    bool ok = s->compaction.state != COMPACTION_WANTED && s->compaction.state != COMPACTION_RUNNING;
    if (ok) {
        s->compaction = (struct spool_compaction){ .state = COMPACTION_WANTED };
        s->compact_cancelled = false;
    }
    lock_drop(&s->journal.segs.m);
    keeper_wake(s);
    return ok;
}

void spool_compact_cancel(struct spool *s)
{
    lock_take(&s->journal.segs.m);
    s->compact_cancelled = s->compaction.state == COMPACTION_WANTED || s->compaction.state == COMPACTION_RUNNING;
    lock_drop(&s->journal.segs.m);
    keeper_wake(s);
}

struct spool_compaction spool_compaction(struct spool *s)
{
    lock_take(&s->journal.segs.m);
    struct spool_compaction c = s->compaction;
    lock_drop(&s->journal.segs.m);
    return c;
}

/* ---- the keeper's turn ---- */

void compact_round(struct spool *s)
{
    int fd;
    lock_take(&s->journal.segs.m);
    bool asked = s->compaction.state == COMPACTION_WANTED;
    lock_drop(&s->journal.segs.m);
    if (asked) {
        compact_all(s);
        lock_take(&s->journal.segs.m);
        s->compact_cancelled = false;
        lock_drop(&s->journal.segs.m);
    }
    struct segment *g = choose(s, &fd);
    if (g != NULL && !compact_segment(s, g, fd, PAUSE_MS))
        log_debug(s->o.log, "a segment was not compacted entirely");
}

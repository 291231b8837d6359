/*
 * Liveness is a bit for each message, not a count, because compaction must know which ones, and the answer has to be
 * right at the moment its copy is flushed: whoever clears the bit (the end of the message, or the move) decides.
 * 64 MiB of journal need 128 KiB of bits.
 *
 * A struct msg in memory keeps the position it was committed or fetched at. When compaction moves the message
 * the new position goes into a small hash (`moved`) that everybody who uses a position asks first; the entry goes with
 * the message. Rows of the index are corrected with the next flush, through pending_moves.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/segment.h"

#define OPEN_FILES_MAX 128
#define WEIGHT_OVERHEAD 512

void segments_init(struct segments *s, const struct spool_io *io, const struct log_src *log, const char *dir, uint64_t standard_bytes)
{
    *s = (struct segments){ .io = io, .log = log, .dir = xstrdup(dir), .standard_bytes = standard_bytes,
                            .next_generation = 1 };
    lock_init(&s->m, LOCK_SEGMENTS);
    cond_init(&s->changed);
}

void segment_free(struct segment *g)
{
    if (g == NULL)
        return;
    io_close(&g->fd);
    free(g->live_bits);
    free(g);
}

void segments_destroy(struct segments *s)
{
    for (size_t i = 0; i < s->n; i++)
        segment_free(s->v[i]);
    free(s->v);
    segment_free(s->prepared);
    free(s->moved);
    for (struct pending_move *p = s->pending_moves, *next; p != NULL; p = next) {
        next = p->next;
        free(p);
    }
    free(s->dir);
    cond_destroy(&s->changed);
    lock_destroy(&s->m);
}

struct segment *segments_find_locked(struct segments *s, uint64_t generation)
{
    size_t lo = 0, hi = s->n;
    /* Most questions are about the newest. */
    if (s->n > 0 && s->v[s->n - 1]->generation == generation)
        return s->v[s->n - 1];
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->v[mid]->generation < generation)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->n && s->v[lo]->generation == generation ? s->v[lo] : NULL;
}

/* ---- reading ---- */

static struct segment *pin_locked(struct segments *s, uint64_t generation, int *fd) REQUIRES(s->m);
static struct segment *pin_locked(struct segments *s, uint64_t generation, int *fd)
{
    struct segment *g = segments_find_locked(s, generation);
    if (g != NULL) {
        g->pins++;
        *fd = g->fd;
    }
    return g;
}

/* The file is opened outside the lock; of two that do it at once one closes again. */
static bool open_pinned(struct segments *s, struct segment *g, int *fd)
{
    char *path = segments_path(s, g->generation);
    int mine = s->io->open(s->io->arg, path, O_RDONLY, 0);
    free(path);
    if (mine < 0)
        return false;
    lock_take(&s->m);
    if (g->fd < 0) {
        g->fd = mine;
        s->open_files++;
        mine = -1;
    }
    *fd = g->fd;
    lock_drop(&s->m);
    io_close(&mine);
    return true;
}

struct segment *segment_pin(struct segments *s, uint64_t generation, int *fd)
{
    lock_take(&s->m);
    struct segment *g = pin_locked(s, generation, fd);
    lock_drop(&s->m);
    if (g == NULL)
        errno = ENOENT;
    else if (*fd < 0 && !open_pinned(s, g, fd)) {
        int saved = errno;
        segment_unpin(s, &g);
        errno = saved;
    }
    return g;
}

void segment_unpin(struct segments *s, struct segment **gp)
{
    struct segment *g = *gp;
    int fd = -1;
    *gp = NULL;
    if (g == NULL)
        return;
    lock_take(&s->m);
    assert(g->pins > 0);
    if (--g->pins == 0 && g->sealed && s->open_files > OPEN_FILES_MAX && g->fd >= 0) {
        fd = g->fd;
        g->fd = -1;
        s->open_files--;
    }
    lock_drop(&s->m);
    io_close(&fd);
}

/* ---- who is alive ---- */

int64_t segment_weight(uint64_t content_bytes, bool is_large)
{
    return WEIGHT_OVERHEAD + (is_large ? 0 : (int64_t)content_bytes);
}

void segment_set_live_locked(struct segments *s, struct journal_pos pos, int64_t weight)
{
    struct segment *g = segments_find_locked(s, pos.segment);
    uint64_t unit = pos.offset / LIVE_UNIT;
    if (g == NULL || pos.offset >= g->bytes)
        return;
    if (g->live_bits == NULL)
        g->live_bits = xcalloc(g->bytes / LIVE_UNIT / 64 + 1, sizeof *g->live_bits);
    uint64_t bit = UINT64_C(1) << unit % 64;
    if (g->live_bits[unit / 64] & bit)
        return;
    g->live_bits[unit / 64] |= bit;
    g->live++;
    g->live_bytes += weight;
}

bool segment_is_live_locked(struct segments *s, struct journal_pos pos)
{
    const struct segment *g = segments_find_locked(s, pos.segment);
    uint64_t unit = pos.offset / LIVE_UNIT;
    return g != NULL && g->live_bits != NULL && pos.offset < g->bytes && (g->live_bits[unit / 64] >> unit % 64 & 1);
}

bool segment_clear_live_locked(struct segments *s, struct journal_pos pos, int64_t weight)
{
    if (!segment_is_live_locked(s, pos))
        return false;
    struct segment *g = segments_find_locked(s, pos.segment);
    uint64_t unit = pos.offset / LIVE_UNIT;
    g->live_bits[unit / 64] &= ~(UINT64_C(1) << unit % 64);
    g->live--;
    g->live_bytes -= weight;
    if (g->live == 0 && g->sealed) {
        free(g->live_bits);
        g->live_bits = NULL;
        s->keeper_wanted = true;
        cond_signal(&s->changed);
    }
    return true;
}

/* ---- what was moved ---- */

static size_t moved_slot(const struct segments *s, uint64_t id)
{
    size_t i = (size_t)(id * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (s->moved_cap - 1);
    while (s->moved[i].id != 0 && s->moved[i].id != id)
        i = (i + 1) & (s->moved_cap - 1);
    return i;
}

static void moved_put(struct segments *s, uint64_t id, struct journal_pos pos)
{
    if (s->moved_count * 2 >= s->moved_cap) {
        struct moved_entry *old = s->moved;
        size_t old_cap = s->moved_cap;
        s->moved_cap = old_cap ? old_cap * 2 : 64;
        s->moved = xcalloc(s->moved_cap, sizeof *s->moved);
        for (size_t i = 0; i < old_cap; i++)
            if (old[i].id != 0)
                s->moved[moved_slot(s, old[i].id)] = old[i];
        free(old);
    }
    size_t i = moved_slot(s, id);
    s->moved_count += s->moved[i].id == 0;
    s->moved[i] = (struct moved_entry){ id, pos };
}

/* Backward-shift deletion: entries behind the hole move up when the hole lies on their way. */
static void moved_remove(struct segments *s, uint64_t id)
{
    size_t mask = s->moved_cap - 1, hole = moved_slot(s, id);
    if (s->moved[hole].id == 0)
        return;
    s->moved_count--;
    for (size_t i = (hole + 1) & mask; s->moved[i].id != 0; i = (i + 1) & mask) {
        size_t home = (size_t)(s->moved[i].id * UINT64_C(0x9E3779B97F4A7C15) >> 20) & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            s->moved[hole] = s->moved[i];
            hole = i;
        }
    }
    s->moved[hole].id = 0;
}

static struct journal_pos where_locked(struct segments *s, uint64_t id, struct journal_pos seen) REQUIRES(s->m);
static struct journal_pos where_locked(struct segments *s, uint64_t id, struct journal_pos seen)
{
    if (s->moved_count == 0)
        return seen;
    size_t i = moved_slot(s, id);
    return s->moved[i].id == id ? s->moved[i].pos : seen;
}

struct journal_pos segments_where(struct segments *s, uint64_t id, struct journal_pos seen)
{
    lock_take(&s->m);
    struct journal_pos p = where_locked(s, id, seen);
    lock_drop(&s->m);
    return p;
}

bool segments_note_move(struct segments *s, uint64_t id, struct journal_pos from, struct journal_pos to, int64_t weight)
{
    lock_take(&s->m);
    bool alive = segment_clear_live_locked(s, from, weight);
    if (alive) {
        segment_set_live_locked(s, to, weight);
        moved_put(s, id, to);
        struct pending_move *p = xmalloc(sizeof *p);
        *p = (struct pending_move){ .next = s->pending_moves, .id = id, .from = from, .to = to };
        s->pending_moves = p;
    }
    lock_drop(&s->m);
    return alive;
}

void segments_note_done(struct segments *s, uint64_t id, struct journal_pos seen, int64_t weight)
{
    lock_take(&s->m);
    segment_clear_live_locked(s, where_locked(s, id, seen), weight);
    if (s->moved_count > 0)
        moved_remove(s, id);
    lock_drop(&s->m);
}

struct pending_move *segments_take_moves(struct segments *s)
{
    lock_take(&s->m);
    struct pending_move *p = s->pending_moves;
    s->pending_moves = NULL;
    lock_drop(&s->m);
    return p;
}

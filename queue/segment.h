/*
 * segment: the journal's files, and which messages in them are still alive
 *
 * Purpose    the list of segments by generation; a bit per live message; the positions of messages that compaction
 *            moved; making, recycling and removing the files
 * Source     ours; posthouse-spool(5)
 * Threads    segment_pin(), live and moved functions: any. segments_take_active(): committer. segments_prepare(),
 *            segments_reclaim(): keeper. segments_open(): main, before the threads.
 * Locks      SEGMENTS (44) guards everything in struct segments and struct segment that is not called immutable; no
 *            I/O is done under it
 * Ownership  struct segments owns the segments and their descriptors; a pinned segment keeps its file and generation
 *
 * A segment's life: prepared (header written, no frames) - active (the committer appends) - sealed - empty (no live
 * message, nothing that replay needs) - spare (its file waits under the name spare-GENERATION) - prepared again with
 * a new generation, or unlinked.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/lock.h"
#include "common/base/log.h"
#include "queue/logfile.h"
#include "queue/msg.h"
#include "queue/spool_io.h"

/* A message's frame is never shorter (32 of header and 64 of fixed metadata), so no two begin in one unit. */
#define LIVE_UNIT 64u

struct segment {
    uint64_t generation, salt, bytes; /* immutable */
    uint64_t end;            /* flushed up to here; the file's size for one that was found at start and not read */
    uint64_t *live_bits;     /* owned; bit i: a live message begins in [i, i + 1) * LIVE_UNIT; NULL while there is none */
    uint32_t live;           /* bits set */
    int64_t live_bytes;      /* estimate, see segment_weight() */
    uint32_t admin_records;  /* what replay may need although no message is live */
    uint32_t pins;
    int fd;                  /* -1 while closed */
    bool sealed;
    bool abandoned;          /* a flush failed: never flushed again */
    bool was_compacted;      /* keeper only: nothing more can be copied out of it */
};

/* Where a message is now that compaction has moved it. */
struct moved_entry {
    uint64_t id; /* 0: empty */
    struct journal_pos pos;
};
/* A move the index has not been told of. */
struct pending_move {
    struct pending_move *next;
    uint64_t id;
    struct journal_pos from, to;
};

struct segments {
    const struct spool_io *io; /* immutable, like all down to the lock */
    const struct log_src *log;
    char *dir;
    uint64_t standard_bytes;

    struct lock m;
    struct segment **v;      /* rising generation; the active one is the last */
    size_t n, cap;
    struct segment *prepared;
    struct { uint64_t name, bytes; } spares[8];
    unsigned spare_count;
    uint64_t next_generation;
    unsigned open_files;
    struct moved_entry *moved; /* open addressing, moved_cap a power of two */
    size_t moved_count, moved_cap;
    struct pending_move *pending_moves;
    struct cond changed;     /* the keeper waits here: prepared taken, a segment emptied, stopping, large files to unlink */
    bool keeper_wanted;
};

void segments_init(struct segments *s, const struct spool_io *io, const struct log_src *log, const char *dir, uint64_t standard_bytes);
void segments_destroy(struct segments *s);
/* Reads the directory and the headers. `newer` tells a file of a newer format from other failures. */
bool segments_open(struct segments *s, bool read_only, bool *newer, struct err *e) MUST_CHECK;

/* The segment to append to next, with room for `need` bytes; seals the old one. NULL with errno. Committer only. */
struct segment *segments_take_active(struct segments *s, uint64_t need) MUST_CHECK;
/* Makes the next segment ready ahead of need. Keeper only; false with errno. */
bool segments_prepare(struct segments *s) MUST_CHECK;
/* Removes spare files but for `keep`. Keeper only. */
void segments_trim_spares(struct segments *s, unsigned keep);
/* Turns a sealed segment without live messages into a spare, or unlinks it. Keeper only. */
bool segments_reclaim(struct segments *s, struct segment *g) MUST_CHECK;

/* The segment of that generation, kept until segment_unpin(); *fd is open for reading. NULL when there is none, errno set. */
struct segment *segment_pin(struct segments *s, uint64_t generation, int *fd) MUST_CHECK;
void segment_unpin(struct segments *s, struct segment **g);
struct segment *segments_find_locked(struct segments *s, uint64_t generation) REQUIRES(s->m);

/* What a message counts for in live_bytes: the same for the same envelope at any time. */
int64_t segment_weight(uint64_t content_bytes, bool is_large);
void segment_set_live_locked(struct segments *s, struct journal_pos pos, int64_t weight) REQUIRES(s->m);
/* False when it was not alive. */
bool segment_clear_live_locked(struct segments *s, struct journal_pos pos, int64_t weight) REQUIRES(s->m);
bool segment_is_live_locked(struct segments *s, struct journal_pos pos) REQUIRES(s->m);

/* Where message id is, given where somebody last saw it. */
struct journal_pos segments_where(struct segments *s, uint64_t id, struct journal_pos seen);
/* Compaction's copy is flushed: false when the message ended meanwhile (the copy is dead). */
bool segments_note_move(struct segments *s, uint64_t id, struct journal_pos from, struct journal_pos to, int64_t weight);
/* The message is finished: its bit and its moved entry go. Returns where it was. */
void segments_note_done(struct segments *s, uint64_t id, struct journal_pos seen, int64_t weight);
/* Hands over the moves the index does not know (caller frees). */
struct pending_move *segments_take_moves(struct segments *s);

/* Closes and frees; NULL is fine. */
void segment_free(struct segment *g);
char *segments_path(const struct segments *s, uint64_t generation);

static inline int pos_compare(struct journal_pos a, struct journal_pos b)
{
    if (a.segment != b.segment)
        return a.segment < b.segment ? -1 : 1;
    return a.offset == b.offset ? 0 : a.offset < b.offset ? -1 : 1;
}

/*
 * spool_internal: what the spool's parts know of each other
 *
 * Threads    main opens and closes; committer (journal_commit.c), keeper (keeper.c) and indexer (index_flush.c) run
 *            between spool_start() and spool_stop()
 * Locks      JOURNAL_BATCH (40) batch lists; RESULT_LOG (42) the result log; SEGMENTS (44); INDEX_INBOX (46);
 *            MSG_CONTENT (48). None is held across I/O except RESULT_LOG across its one write.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/base/lock.h"
#include "queue/content.h"
#include "queue/index.h"
#include "queue/record.h"
#include "queue/segment.h"
#include "queue/spool.h"

/* Something other than an arriving message that goes through the committer. Owned by it until done(). */
struct batch_item {
    struct batch_item *next;
    char *record;            /* owned: header room, metadata, content */
    uint32_t meta_bytes, content_bytes, content_crc;
    uint8_t kind, flags;
    struct journal_pos pos;  /* where it was written */
    uint64_t id;             /* RECORD_MOVED: which message, from where, how heavy */
    struct journal_pos from;
    int64_t weight;
    /* On the committer, after the flush; then the item is freed. */
    void (*done)(void *arg, int status);
    void *arg;
};

/* What the committer knows of the disk and of those that it answered. Committer only. */
struct journal_pace {
    int64_t alone_us, beside_us;   /* what a flush takes, on average: one by one, and while others run */
    unsigned alone_n, beside_n;    /* flushes that this is known from, counted no further than is asked for */
    bool is_deep;                  /* flushes run side by side */
    int64_t deep_from_us;          /* not before */
    int64_t doubted_us;            /* beside_us, while it is seen whether one by one is quicker; else 0 */
    int64_t next_us;               /* not before: the next flight */
    int64_t flushed_us;            /* when the last turn ended */
    uint32_t wanted;               /* messages that it answered, and that were there when it ended */
};

struct flights; /* journal_flights.c */

struct journal {
    struct segments segs;
    struct lock m;
    struct cond wake;        /* predicate: something in the lists, or stopping */
    struct msg *head, **tail;             /* guarded by m */
    struct batch_item *items, **items_tail; /* guarded by m */
    uint32_t waiting;        /* guarded by m: messages in the list */
    uint32_t answered;       /* committer only: messages of this turn that were made durable */
    struct journal_pace pace;
    struct flights *flights; /* committer only; NULL until they are needed */
    bool sleeping;           /* guarded by m: the committer waits on `wake` */
    bool stopping;           /* guarded by m */
    bool ended;              /* guarded by m: the committer is gone */
    struct journal_pos announced; /* guarded by m: everything before it is flushed and known to the sink */
    uint64_t told_results;   /* guarded by m: end of the result log when the sink was told of what is not yet announced; 0: nothing */
    struct segment *active;  /* committer only */
    uint64_t end;            /* committer only: everything before it, in the active segment, is flushed */
    uint64_t written;        /* committer only: next byte to write */
    struct journal_pos cut;  /* committer only: where the last abandoned segment stopped being valid, until noted */
    struct iovec *iov;       /* committer only */
    _Atomic int trouble;     /* enum spool_status of the last commit */
    _Atomic uint64_t commits, flushes; /* records and batches since the start */
};

#define RESULT_FILE_BYTES (UINT64_C(1) << 20)
struct result_file {
    struct result_file *next;  /* rising generation */
    uint64_t generation, salt; /* byte 0 of the file is position generation * RESULT_FILE_BYTES */
    int fd;                    /* open until all of it is flushed, else -1 */
};
struct result_log {
    const struct spool_io *io;
    const struct log_src *log;
    char *dir;
    struct lock m;
    struct result_file *files, *tail; /* guarded by m; tail: the last, NULL while there is none */
    int prepared_fd;         /* guarded by m: the zeroed file "spare", or -1 */
    uint64_t end;            /* guarded by m: position of the next frame */
    int64_t flush_at_ms;     /* guarded by m: CLOCK_NEVER when nothing came since the last flush began */
    unsigned files_begun;    /* guarded by m */
    unsigned files_flushed;  /* keeper only: how many of them have their names on disk */
    uint64_t flushed_end;    /* keeper only: everything before it is flushed */
    struct result_token tokens; /* guarded by m: ring of results not yet applied, rising pos */
};

struct replay; /* recover.h */

struct large_done {
    struct large_done *next;
    uint64_t id;
};

struct spool {
    struct spool_options o;  /* strings owned */
    const struct spool_io *io;
    int lock_fd;
    struct qid_source qids;
    struct content_pool pool;
    struct limit memory_limit; /* spool_memory_limit: how often something was kept out of memory */
    struct journal journal;
    struct result_log results;
    struct index *index;     /* owned */
    struct spool_sink sink;
    int64_t content_limit;   /* largest content that goes into the journal */
    _Atomic(struct large_done *) large_done; /* files to unlink, keeper takes them */
    _Atomic int64_t room_checked_ms;
    _Atomic uint64_t free_bytes;
    _Atomic bool is_below_minfree; /* told, until space is back */
    struct { _Atomic int64_t said_ms; _Atomic uint64_t unsaid; } told[SPOOL_TROUBLES]; /* a disk that fails does so often */
    pthread_t committer, keeper;
    bool running;            /* main only */
    bool keeper_stopping;    /* guarded by SEGMENTS */
    struct replay *overlay;  /* owned: read-only mode, what the journal's tail says; NULL otherwise */
    struct index_mark checkpoint_mark; /* keeper only, once it runs */
    uint64_t checkpoint_bytes;
    int64_t checkpoint_after_ms, tick_at_ms; /* keeper only */
    _Atomic int64_t prepare_said_ms;
    _Atomic uint64_t prepare_suppressed;
    unsigned compacting;     /* guarded by SEGMENTS: copies on their way through the committer */
    int compact_status;      /* guarded by SEGMENTS: the worst of them */
    struct spool_compaction compaction; /* guarded by SEGMENTS: the one that was asked for */
    bool compact_cancelled;  /* guarded by SEGMENTS */
};

static inline const char *spool_index_name(const struct spool *s)
{
    return s->o.index_name != NULL ? s->o.index_name : "index.db";
}

/* True when whoever watches recovery wants it to stop. */
static inline bool spool_is_told_to_stop(const struct spool *s, const char *what, uint64_t done, uint64_t total)
{
    return s->o.progress != NULL && !s->o.progress(s->o.progress_arg, what, done, total);
}

/* ---- trouble.c ---- */
/* Logs an error and tells whoever asked for it. */
void spool_tell(struct spool *s, enum spool_trouble what, const char *fmt, ...) PRINTF_FMT(3, 4);

/* ---- journal_append.c ---- */
void journal_init(struct journal *j, const struct spool_io *io, const struct log_src *log, const char *dir, uint64_t segment_bytes);
void journal_destroy(struct journal *j);
/* Takes the item. */
void journal_submit_item(struct spool *s, struct batch_item *it);
void journal_stop(struct journal *j);
/* After a failed commit: tries a small record, so that trouble ends when the disk recovers. */
void journal_probe(struct spool *s);

/* ---- journal_commit.c ---- */
void *journal_committer(void *spool);

/* ---- result_log.c ---- */
void result_log_init(struct result_log *l, const struct spool_io *io, const struct log_src *log, const char *dir);
void result_log_destroy(struct result_log *l);
bool result_log_open(struct result_log *l, bool read_only, bool *newer, struct err *e) MUST_CHECK;
/* Begins a file of its own for this run; called once, before threads. */
bool result_log_begin(struct result_log *l, struct err *e) MUST_CHECK;
bool result_log_prepare(struct result_log *l) MUST_CHECK;
/* Flushes what is not flushed. Keeper, or when there is none. */
bool result_log_sync(struct result_log *l) MUST_CHECK;
/* When that should be done at the latest; CLOCK_NEVER when there is nothing. */
int64_t result_log_flush_at_ms(struct result_log *l);
/* Files entirely before pos are reused or removed. Keeper only. */
void result_log_release(struct result_log *l, uint64_t pos);
uint64_t result_log_mark(struct result_log *l);
uint64_t result_log_end(struct result_log *l);
/* Calls fn for each result at or after `from`, in order. False with *e when a file cannot be read. */
bool result_log_replay(struct result_log *l, uint64_t from, void (*fn)(void *arg, uint64_t pos, const struct spool_result *r), void *arg, struct err *e) MUST_CHECK;

/* ---- content.c ---- */
char *spool_large_path(const struct spool *s, uint64_t id);
/* At once: of what was never committed. */
void spool_large_unlink(struct spool *s, uint64_t id);
/* The keeper unlinks it, after the results have been flushed (spool.c). */
void spool_large_done(struct spool *s, uint64_t id);
bool content_read_record(struct spool *s, uint64_t id, struct journal_pos *pos, struct frame *f, char **meta, struct err *e) MUST_CHECK;

/* ---- keeper.c ---- */
void *spool_keeper(void *spool);
/* Everything but compaction, once. */
void keeper_round(struct spool *s);
/* What must not wait for anything that takes long: results are flushed when they are due. */
void keeper_tick(struct spool *s);

/* ---- compact.c ---- */
/* Empties one mostly dead segment, if there is one; returns when it is done or the spool stops. Keeper. */
void compact_round(struct spool *s);
/* Like the keeper's own checkpoint, worth it or not. Keeper. */
void keeper_checkpoint(struct spool *s);
void keeper_wake(struct spool *s);

/* ---- recover.c ---- */
bool spool_recover(struct spool *s, struct err *e) MUST_CHECK;

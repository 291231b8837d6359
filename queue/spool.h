/*
 * spool: journal, result log, large files and index as one thing
 *
 * Purpose    makes messages durable (group commit), remembers results, and finds it all again after a crash.
 *            What is due when is the scheduler's (sched.h); the spool calls it through struct spool_sink.
 * Source     ours; DESIGN "The spool"; posthouse-spool(5)
 * Threads    spool_submit(), results, admin records, content reading: any. open/start/stop/close: main.
 *            committer and indexer threads live in here.
 * Locks      JOURNAL_BATCH (40), RESULT_LOG (42), SEGMENTS (44), INDEX_INBOX (46), MSG_CONTENT (48)
 * Errors     SPOOL_FULL: answer 452; SPOOL_IO: answer 451, the segment was closed for good
 *
 * Two streams. Messages and administrative records go through the committer into journal/ with one fdatasync per
 * batch. Results need no flush of their own and must reach the kernel at once (a killed process must not repeat a
 * delivery), so they are appended by the thread that got the reply to a second, small log beside it, instead of
 * waiting behind a flush in the committer's queue.
 */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/limit.h"
#include "common/base/log.h"
#include "queue/msg.h"

enum spool_status {
    SPOOL_OK,
    SPOOL_FULL,  /* no space, or below minfree_bytes */
    SPOOL_IO,    /* write or flush failed */
    SPOOL_STOPPING,
};

struct spool_io;

enum spool_open_status {
    SPOOL_OPEN_OK,
    SPOOL_OPEN_LOCKED,   /* another daemon has it */
    SPOOL_OPEN_OWNER,    /* owned by someone else */
    SPOOL_OPEN_NEWER,    /* written by a newer format */
    SPOOL_OPEN_NONE,     /* there is no spool, and none was to be made */
    SPOOL_OPEN_FAILED,
};

/* What an administrator should hear of; everything is logged as well. */
enum spool_trouble {
    SPOOL_TROUBLE_FULL,    /* no space, or below minfree_bytes: 452 is answered */
    SPOOL_TROUBLE_IO,      /* a write or flush failed: 451 was answered */
    SPOOL_TROUBLE_INDEX,   /* index.db was set aside */
    SPOOL_TROUBLE_DAMAGE,  /* the journal could not be read in places */
    SPOOL_TROUBLES
};

struct spool_options {
    const char *dir;              /* queue_directory; created when missing (parents too) */
    int64_t segment_bytes;        /* journal_segment_size */
    int64_t buffer_limit_bytes;   /* largest message kept in memory and in the journal; larger ones go to large/ */
    int64_t memory_limit_bytes;   /* of content held in memory by the whole process */
    int64_t minfree_bytes;        /* queue_minfree */
    int64_t index_flush_ms;       /* how often the index catches up */
    bool create;                  /* make a new spool when there is none */
    bool read_only;               /* tools while no daemon runs: no lock taken for writing, no threads */
    const struct log_src *log;
    /* Any thread of the spool or of a caller, no lock held, also during spool_open(); must not wait. NULL: nobody asks. */
    void (*trouble)(void *arg, enum spool_trouble what, const char *text);
    void *trouble_arg;
    const struct spool_io *io;    /* spool_io.h: system calls to use; NULL: the system's. For tests. Borrowed. */
    const char *index_name;       /* NULL: "index.db"; a new index in the making has another name. Borrowed. */
    /* Recovery says how far it is (`what` is a word for people); false stops it. NULL: nobody asks. */
    bool (*progress)(void *arg, const char *what, uint64_t done, uint64_t total);
    void *progress_arg;
};

/* What one delivery attempt of one recipient came to. */
enum outcome { OUTCOME_SENT, OUTCOME_DEFERRED, OUTCOME_BOUNCED, OUTCOME_EXPIRED };

struct spool_result {
    uint64_t id;          /* message */
    uint32_t rcpt;        /* index into env.rcpts */
    uint16_t attempts;    /* how often it was tried, this time included; 0: not told, replay counts */
    enum outcome outcome;
    int64_t when_us;      /* wall clock */
    int64_t due_us;       /* OUTCOME_DEFERRED: next attempt */
    struct span dsn;      /* "2.0.0" */
    struct span mta;      /* remote host, "" when none */
    struct span reason;   /* reply or our words */
};

/* One row for the indexer: the state of a message that is still here, or its end. */
struct index_change;

/* What the scheduler offers the spool. Called on spool threads; must not block. */
struct spool_sink {
    /* Committed messages, in journal order, before done_cb answers the client. Takes a reference of its own. */
    void (*committed)(void *arg, struct msg *m);
    void *arg;
};

struct spool;

enum spool_open_status spool_open(const struct spool_options *o, struct spool **out, struct err *e) MUST_CHECK;
/* Is something in dir that only a spool has? */
bool spool_is_there(const char *dir);
/* True with *e, which names the process, when a daemon has it. False also when that cannot be found out. */
bool spool_is_in_use(const char *dir, struct err *e);
/* Whether this version reads the spool in `dir`; OK also when there is none yet, or when it is not ours to read. Changes nothing. */
enum spool_open_status spool_look_at_format(const char *dir, struct err *e) MUST_CHECK;
/* Starts committer and indexer. Messages recovered from the journal tail are given to sink.committed first. */
bool spool_start(struct spool *s, const struct spool_sink *sink, struct err *e) MUST_CHECK;
/* Commits what was submitted, writes the index, ends the threads. */
void spool_stop(struct spool *s);
void spool_close(struct spool **s);
struct qid_source *spool_qids(struct spool *s);
/* True while space is above minfree and the last write succeeded: MAIL FROM answers 452 otherwise. `need_bytes` is SIZE=. */
bool spool_has_room(struct spool *s, uint64_t need_bytes);

/*
 * The budget of spool_memory_limit for what else a session holds (an envelope, input that cannot be used yet): false when it
 * is used up, and nothing was taken. What was taken is given back by the same amount.
 */
bool spool_memory_take(struct spool *s, size_t n) MUST_CHECK;
void spool_memory_give(struct spool *s, size_t n);
/* How often the budget refused something. */
const struct limit *spool_memory_limit(const struct spool *s);

/* ---- receiving content ---- */
/*
 * Content arrives piece by piece; it stays in memory up to buffer_limit_bytes while the process is within
 * memory_limit_bytes, else it goes to large/. One owner at a time.
 */
struct content_writer;
struct content_writer *content_begin(struct spool *s, uint64_t id);
/* SPOOL_OK, SPOOL_FULL or SPOOL_IO; after a failure further appends are ignored (the caller goes on reading the client). */
enum spool_status content_append(struct content_writer *w, struct span bytes);
uint64_t content_bytes(const struct content_writer *w);
/* It went to a file: content_finish() will wait for the disk. */
bool content_is_file(const struct content_writer *w);
/* Moves the content into m (fsyncs a large file and its directory) and frees *w. On failure frees it too. */
enum spool_status content_finish(struct content_writer **w, struct msg *m) MUST_CHECK;
/* Throws the content away; NULL is fine. */
void content_abort(struct content_writer **w);

/* ---- committing ---- */
/*
 * Hands a complete message to the committer; takes the caller's reference, and packs the envelope (msg.h): spans into the
 * message's arena are gone. m->done_cb(m->done_arg, m, enum spool_status)
 * is called exactly once on the committer thread after the flush that made it durable (or failed); it must not block,
 * and m is valid during the call only unless it takes a reference. Never fails at once: errors come by done_cb.
 */
void spool_submit(struct spool *s, struct msg *m);
/*
 * The same for n messages that belong together: all of them are committed, or none, whenever the process is killed or a write
 * fails; each done_cb is called, with the same status. A power cut that loses bytes in the middle but not at the end leaves
 * what can be read: a duplicate, never a loss.
 */
void spool_submit_all(struct spool *s, struct msg **v, size_t n);
/* spool_submit_all() with the present time as that of their arrival, for threads that may wait: returns what became of all of them. */
enum spool_status spool_commit(struct spool *s, struct msg **v, size_t n) MUST_CHECK;
/* Instead of submitting a message whose content is complete: nothing is left of it. NULL is fine. */
void spool_msg_drop(struct spool *s, struct msg **m);

/* ---- results ---- */
struct result_token { struct result_token *prev, *next; uint64_t pos; };
/*
 * Appends results (one write) and returns when the kernel has them. The token stays linked until
 * spool_result_applied(): the index never claims to cover a result that the scheduler has not applied.
 */
enum spool_status spool_result_append(struct spool *s, const struct spool_result *r, size_t n, struct result_token *t) MUST_CHECK;
void spool_result_applied(struct spool *s, struct result_token *t);
/* The message is finished (all recipients done): its journal space may be reused, its large file is unlinked. Called with no lock held. */
void spool_message_done(struct spool *s, struct msg *m);

/* ---- administrative records; durable before cb ---- */
enum spool_admin {
    ADMIN_HOLD = 1,
    ADMIN_RELEASE,
    ADMIN_DELETE,    /* for good */
    ADMIN_REQUEUE,
    ADMIN_READDRESS, /* detail: 4 bytes number of the recipient (big-endian), its new address */
    ADMIN_EXPIRE,
    ADMIN_TRASH,     /* deleted, but ADMIN_UNDELETE can bring it back */
    ADMIN_UNDELETE,
};
void spool_admin_submit(struct spool *s, enum spool_admin what, uint64_t id, struct span detail,
                        void (*cb)(void *arg, int status), void *arg);

/* ---- content for delivery ---- */
struct content_view {
    const char *p;      /* whole content, valid until content_release() */
    size_t n;
    void *private_data;
    int private_kind;
};
/* Content of a message as one run of bytes: from memory, or mapped or read from disk. False with *e when it cannot be read or its checksum is wrong. */
bool content_acquire(struct spool *s, struct msg *m, struct content_view *v, struct err *e) MUST_CHECK;
void content_release(struct content_view *v);
/* Gives the in-memory content back (it is on disk): for messages that will not be tried soon. */
void content_drop(struct spool *s, struct msg *m);

/* ---- looking after it; see compact.c and rebuild.c ---- */
enum compaction_state { COMPACTION_NONE, COMPACTION_WANTED, COMPACTION_RUNNING, COMPACTION_DONE, COMPACTION_CANCELLED, COMPACTION_FAILED };
struct spool_compaction {
    enum compaction_state state;
    uint64_t segments_left, segments_done; /* of those with waste in them */
    uint64_t messages, bytes_copied;
    uint64_t bytes_before, bytes_now;      /* files of journal, results and index */
};
/* Every segment with waste in it, now; goes on in the keeper. False when one is under way already. */
bool spool_compact_start(struct spool *s) MUST_CHECK;
/* It ends at the next message. */
void spool_compact_cancel(struct spool *s);
struct spool_compaction spool_compaction(struct spool *s);

struct rebuild_totals {
    int64_t messages;          /* in the new index */
    bool had_old;              /* there was an index */
    bool has_history;          /* the attempts and reasons of the old one were taken over */
    bool is_cancelled;         /* o->progress said so: everything is as it was */
};
/*
 * Makes index.db anew from the checkpoint, the journal and the result log, beside the old one, which it replaces when it is
 * complete and which stays as index.db.old. No daemon may run. o: as for spool_open().
 */
enum spool_open_status spool_rebuild_index(const struct spool_options *o, struct rebuild_totals *t, struct err *e) MUST_CHECK;

/* The message of a record that was committed at pos (wherever it is now), as it was received: no progress, no content in memory. */
struct msg *spool_msg_read(struct spool *s, uint64_t id, struct journal_pos pos, struct err *e) MUST_CHECK;
/*
 * Why a record could not be read: true when it may be there later (no descriptor, no memory, no permission), so that it is to
 * be waited for; false when the record is gone, damaged, or on a bad place of the disk.
 */
static inline bool spool_may_heal(const struct err *why)
{
    return why->sys != 0 && why->sys != ENOENT && why->sys != EIO;
}
/* A record at pos was given up, as text says: tells it, and keeps the bytes in corrupt/ when the segment goes. */
void spool_keep_unreadable(struct spool *s, struct journal_pos pos, const char *text);

/* ---- index ---- */
/* See queue/index.h: flush of change sets with the positions they cover, fetch of due messages, listing for tools. */
struct index;
struct index *spool_index(struct spool *s);

/*
 * index_internal: connections, statements and jobs of the index
 *
 * Threads    writer connection: main before spool_start(), then the indexer. Reader connections: whoever took one from
 *            the pool, until it gives it back.
 * Locks      INDEX_INBOX (46) guards jobs and the pool of readers
 */
#pragma once
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include "common/base/arena.h"
#include "common/base/lock.h"
#include "queue/index.h"
#include "queue/spool_internal.h"

#define INDEX_SCHEMA_VERSION 2

/* The whole schema; and its tables alone, as temporary ones. */
extern const char index_schema[], index_schema_temp[];

/* Every statement is a row: INDEX_STMT(name, SQL). They are prepared when first used. */
enum index_stmt {
#define INDEX_STMT(name, sql) IX_##name,
#include "queue/index_sql.def"
#undef INDEX_STMT
    IX_STMT_COUNT
};

struct index_conn {
    struct index_conn *next;
    sqlite3 *db;
    sqlite3_stmt *stmt[IX_STMT_COUNT];
};

#define ROW_ALONE 3 /* recipients.state beside those of enum rcpt_state: waits, and is tried alone */

enum index_job_kind { INDEX_JOB_FLUSH, INDEX_JOB_MAKE_DUE, INDEX_JOB_PURGE, INDEX_JOB_SHRINK };
/* A deleted message on its way out, and what its place in the journal was. */
struct index_purged {
    uint64_t id;
    struct journal_pos pos;
    uint64_t size;
    bool is_large, found;
};
struct index_job {
    struct index_job *next;
    enum index_job_kind kind;
    struct arena *arena;         /* owned: copies of everything below */
    struct index_change *changes; /* each UPSERT has a reference to its message */
    size_t n;
    struct index_mark mark;
    int64_t due_us;
    struct span nexthop;
    uint64_t after_id, last_id;  /* MAKE_DUE: the piece under way */
    bool has_more;               /* MAKE_DUE: there are pieces behind it */
    bool has_nexthop, has_transport; /* nexthop is the one or the other */
    struct index_purged *purged; /* PURGE: [n] */
    void (*cb)(void *arg, int status);
    void *arg;
};

struct index {
    struct spool *s;             /* borrowed */
    const struct log_src *log;
    char *path;
    struct index_conn *writer;
    struct lock m;
    struct cond wake;            /* predicate: a job, or stopping */
    struct index_job *jobs, **jobs_tail; /* guarded by m */
    bool stopping;               /* guarded by m */
    struct index_conn *readers;  /* guarded by m: idle ones */
    unsigned reader_count;
    _Atomic int64_t count;       /* messages */
    struct pending_move *moves;  /* indexer only: taken from the segments, not yet committed */
    unsigned due_piece;          /* immutable; tests make it small, and the next */
    int64_t shrink_min_pages;
    int64_t shrink_look_ms;      /* indexer only, like the next */
    bool shrink_wanted;          /* something was written since it was last looked whether the file could be smaller */
    struct index_mark durable;   /* guarded by m: mark of the last committed flush */
    pthread_t thread;
    bool running;
    bool is_new;                 /* made at this start: must be filled from the journal */
    _Atomic uint64_t passed_over; /* rows whose record could not be read, counted each time */
    _Atomic uint64_t failures;   /* transactions that were not made */
    _Atomic int64_t lost_said_ms;
    _Atomic uint64_t lost_suppressed;
};

/* ---- index.c ---- */
struct index *index_open(struct spool *s, struct err *e) MUST_CHECK;
void index_close(struct index **ix);
bool index_start(struct index *ix, struct err *e) MUST_CHECK;
/* Works off the jobs and ends the thread. */
void index_stop(struct index *ix);
struct index_conn *index_conn_take(struct index *ix, struct err *e) MUST_CHECK;
void index_conn_give(struct index *ix, struct index_conn *c);
/* Ready to bind; NULL with *e. */
sqlite3_stmt *index_stmt(struct index_conn *c, enum index_stmt k, struct err *e) MUST_CHECK;
/* Runs a bound statement that returns no rows and resets it. */
bool index_run(struct index_conn *c, sqlite3_stmt *st, struct err *e) MUST_CHECK;
bool index_exec(struct index_conn *c, const char *sql, struct err *e) MUST_CHECK;
void index_bind_span(sqlite3_stmt *st, int at, struct span s);

/* ---- index_flush.c ---- */
void *index_thread(void *index);
/* Gives free pages back to the file system, when there are enough of them, and waits for it. */
void index_shrink(struct index *ix);
struct index_job *index_job_new(enum index_job_kind k, void (*cb)(void *arg, int status), void *arg);
/* Takes the job. */
void index_submit(struct index *ix, struct index_job *j);
bool index_apply_change(struct index *ix, const struct index_change *c, struct err *e) MUST_CHECK;
bool index_write_mark(struct index *ix, const struct index_mark *k, struct err *e) MUST_CHECK;
bool index_read_mark(struct index *ix, struct index_mark *k, struct err *e) MUST_CHECK;
/* Whether it has rows of the message, among the queued or the deleted; false with *e when the database cannot be asked. */
bool index_look(struct index *ix, uint64_t id, bool *has, bool *deleted, struct err *e) MUST_CHECK;
/* True also when the database cannot be asked: of what it lacks, large files are removed. */
bool index_has(struct index *ix, uint64_t id);
bool index_has_deleted(struct index *ix, uint64_t id);
/* Recovery: everything m's recipients say, as one change. */
bool index_put_msg(struct index *ix, struct msg *m, struct err *e) MUST_CHECK;
bool index_set_place(struct index *ix, uint64_t id, struct journal_pos pos, struct err *e) MUST_CHECK;
bool index_delete(struct index *ix, uint64_t id, struct err *e) MUST_CHECK;
bool index_by_id(struct index *ix, enum index_stmt k, uint64_t id, struct err *e) MUST_CHECK;

/* ---- index_trash.c ---- */
bool index_deleted_us(struct index *ix, uint64_t id, int64_t *deleted_us, struct err *e) MUST_CHECK;
/* The rows of a message go to the deleted ones, or come back; nothing happens when there are none. */
bool index_trash(struct index *ix, uint64_t id, int64_t deleted_us, struct err *e) MUST_CHECK;
bool index_restore(struct index *ix, uint64_t id, struct err *e) MUST_CHECK;
/* Job PURGE: the rows, within the transaction; then, after its end, the places. */
bool index_purge_rows(struct index *ix, struct index_job *j, struct err *e) MUST_CHECK;
void index_purge_places(struct index *ix, const struct index_job *j);

/* ---- index_fetch.c ---- */
/* A message of the queue or a deleted one (then *deleted_us is not 0), without the overlay; NULL when not there, or with *e. */
struct msg *index_fetch_any(struct index *ix, uint64_t id, int64_t *deleted_us, struct err *e) MUST_CHECK;
/* Sets the live bits of the segments from the rows; *lost counts rows whose segment is not there. */
bool index_load_places(struct index *ix, uint64_t *lost, struct err *e) MUST_CHECK;
struct replay_msg;
/* Recipients that are done neither in their rows nor in p; -1 with *e. Recovery. */
int64_t index_rcpts_left(struct index *ix, uint64_t id, const struct replay_msg *p, struct err *e) MUST_CHECK;

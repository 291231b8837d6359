/*
 * fake_spool: the spool and its index in memory, for tests of the scheduler and of notifications
 *
 * Purpose    implements spool.h, index.h, msg.h and qid.h; keeps a trace of what was asked in which order, and lets a test
 *            make writes fail or keep answers back
 * Threads    everything has one lock; fake_commit_all() is the committer
 */
#pragma once
#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/conf/conf.h"
#include "queue/index.h"
#include "queue/sched.h"
#include "queue/spool.h"

#define FAKE_ROWS_MAX 40000

struct fake_row {
    struct msg *m;   /* deep copy */
    int64_t due_us;
    bool hold;
    int64_t deleted_us; /* of a deleted one */
};

struct spool {
    pthread_mutex_t m;
    struct qid_source qids;
    struct sched *sched;         /* gets what is committed; NULL: nobody */
    struct buf trace;            /* "result ID RCPT OUTCOME;" "applied;" "done ID;" "admin N ID;" */
    struct msg *waiting[8192];   /* submitted, not committed */
    unsigned waiting_n;
    struct msg *committed[4096]; /* references of what was submitted and committed (notifications) */
    unsigned committed_n;
    struct msg **journal;        /* copies of what was committed */
    unsigned journal_n;
    uint64_t fail_id;            /* its record cannot be read, for the reason fail_errno; 0: it is damaged */
    int fail_errno;
    unsigned kept;               /* records whose bytes are to be kept */
    int fail_submit;             /* status of the next commits */
    int fail_result, fail_flush, fail_content;
    bool keep_flush;             /* flush callbacks wait for fake_flush_answer() */
    void (*flush_cb)(void *arg, int status);
    void *flush_arg;
    struct fake_row rows[FAKE_ROWS_MAX];
    unsigned rows_n, rows_max;   /* max: most ever */
    uint64_t passed_over;
    unsigned fail_read;          /* so many rows cannot be read: passed over */
    unsigned upserts, deletes, flushes, results, dones, drops, fetches;
    uint64_t mark, written_mark; /* results: now; of the last index flush */
};
struct index { struct spool *s; };

struct spool *fake_spool_new(void);
void fake_spool_free(struct spool **s);
/* Commits what was submitted: sched_committed(), then done_cb. Returns how many. */
unsigned fake_commit_all(struct spool *s);
/* The journal has it from here on. */
void fake_write(struct spool *s, const struct msg *m);
void fake_flush_answer(struct spool *s, int status);
bool fake_traced(struct spool *s, const char *text);
/* Position of text in the trace, or -1. */
ptrdiff_t fake_trace_at(struct spool *s, const char *text);
struct fake_row *fake_row(struct spool *s, uint64_t id);

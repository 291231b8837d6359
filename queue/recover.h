/*
 * recover: what the journal and the result log say since the index's mark
 *
 * Purpose    the parts of recovery that other files of this folder and the tests use: what is known of one message
 * Threads    main, before any other
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/arena.h"
#include "common/base/hash.h"
#include "queue/spool_internal.h"

/* Sum of the results of one recipient. */
struct rcpt_progress {
    struct rcpt_progress *next;
    uint32_t rcpt;
    bool done;
    bool has_result;            /* else only readdressed: what follows says nothing */
    uint16_t attempts;
    bool is_total;              /* attempts is the whole number, not what was added since the mark */
    int64_t due_us, when_us;
    struct span dsn, mta, reason;
    struct span addr;           /* empty: not readdressed */
    int64_t readdressed_us;     /* 0: by the checkpoint */
};

/* What replay learned of one id. */
struct replay_msg {
    uint64_t id;
    struct rcpt_progress *rcpts;
    uint32_t done;              /* recipients that are done */
    bool found;                 /* its record is in the part that was read */
    bool deleted, expired, delay_warned, hold_known, hold;
    bool is_orphan;             /* alive in the checkpoint, but its record was moved since, or it has ended */
    bool trash_known;           /* deleted or restored behind the mark; then trashed_us says which */
    int64_t trashed_us;         /* 0: it was restored */
    int64_t requeued_us;        /* 0: never */
    uint32_t rcpt_count;        /* when found */
    struct journal_pos pos;     /* when found: the latest copy */
    uint32_t order;             /* when found: place in the journal */
    UT_hash_handle hh;
};

struct replay {
    struct spool *s;
    struct arena *arena;
    struct replay_msg *msgs;    /* uthash by id */
    struct journal_pos from;    /* the index's mark */
    uint64_t results_from;
    uint32_t found, results, admins, gaps, torn;
    bool is_stuck;              /* the index could not be asked, for the reason in why */
    struct err why;
};

void replay_init(struct replay *r, struct spool *s);
void replay_free(struct replay *r);
bool replay_results(struct replay *r, struct err *e) MUST_CHECK;
bool replay_journal(struct replay *r, struct err *e) MUST_CHECK;
/* The entry of an id: made when missing, or NULL when missing. */
struct replay_msg *replay_get(struct replay *r, uint64_t id);
const struct replay_msg *replay_find(const struct replay *r, uint64_t id);
/* The progress of one recipient, made when missing. */
struct rcpt_progress *replay_rcpt(struct replay *r, struct replay_msg *p, uint32_t rcpt);
/* When it was deleted (to be restored perhaps), its rows saying row_us; 0: it is not. */
static inline int64_t replay_deleted_us(const struct replay_msg *p, int64_t row_us)
{
    return p->trash_known ? p->trashed_us : row_us;
}
/* Puts the progress into m's recipients and flags; returns how many recipients are not done. */
uint32_t replay_apply(const struct replay_msg *p, struct msg *m);

/*
 * Read-only mode: a message of the overlay as it is now, with its progress; NULL when it has ended, or (*e) cannot be read.
 * *deleted_us is not 0 when it was deleted and can be restored.
 */
struct msg *overlay_message(struct spool *s, const struct replay_msg *p, int64_t *deleted_us, struct err *e) MUST_CHECK;

/* ---- checkpoint.c ---- */
/* What the index holds, in a file of its own, so that index.db can be made anew. Keeper; false with *e. It may
 * take seconds: meanwhile() (NULL: none) is called now and then. */
bool checkpoint_write(struct spool *s, void (*meanwhile)(struct spool *s), struct index_mark *mark, uint64_t *bytes, struct err *e) MUST_CHECK;
/* Mark and size of the one there is; false when there is none that is valid. */
bool checkpoint_read_mark(struct spool *s, struct index_mark *mark, uint64_t *bytes) MUST_CHECK;
/* Fills an empty index from it; messages whose record is not where it was become orphans in r. */
bool checkpoint_restore(struct spool *s, struct replay *r, uint64_t *restored, struct err *e) MUST_CHECK;

/*
 * recover: what the journal and the result log say since the index's mark
 *
 * Purpose    the parts of recovery that other files of this folder and the tests use: what is known of one message
 * Threads    main, before any other
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>
#include "common/base/arena.h"
#include "queue/spool_internal.h"

/* Sum of the results of one recipient. */
struct rcpt_progress {
    struct rcpt_progress *next;
    uint32_t rcpt;
    bool done;
    uint16_t attempts;
    int64_t due_us, when_us;
    struct span dsn, mta, reason;
};

/* What replay learned of one id. */
struct replay_msg {
    uint64_t id;
    struct rcpt_progress *rcpts;
    uint32_t done;              /* recipients that are done */
    bool found;                 /* its record is in the part that was read */
    bool deleted, expired, requeued, hold_known, hold;
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
};

void replay_init(struct replay *r, struct spool *s);
void replay_free(struct replay *r);
bool replay_results(struct replay *r, struct err *e) MUST_CHECK;
bool replay_journal(struct replay *r, struct err *e) MUST_CHECK;
/* Puts the progress into m's recipients and flags; returns how many recipients are not done. */
uint32_t replay_apply(const struct replay_msg *p, struct msg *m);

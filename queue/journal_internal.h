/*
 * journal_internal: rounds, and the two ways to flush them
 *
 * Purpose    a round is what is written into one segment and flushed together. On most disks the committer flushes it
 *            itself (journal_commit.c); where a flush is slow, rounds are flights: written by the committer, flushed by
 *            threads side by side, finished by the committer in the order in which they were written (journal_flights.c)
 * Threads    the committer only, but for the flushers of journal_flights.c
 * Locks      JOURNAL_BATCH where it says so
 */
#pragma once
#include <time.h>
#include "queue/spool_internal.h"

struct round {
    struct batch_item *items, *items_end; /* [items, items_end) of the lists go in this round */
    struct msg *msgs, *msgs_end;
    uint64_t at;                          /* behind its last byte in the segment */
    int iovs;
    bool full;                            /* the next one does not fit */
    int status;
};

static inline int64_t journal_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- journal_append.c ---- */
/* Writes as much of the lists as fits, from items_end and msgs_end on, which move. False with errno. */
bool round_write(struct journal *j, struct round *r) MUST_CHECK;
/* True when its first record fits into the active segment. */
bool round_has_room(const struct journal *j, const struct round *r);
/* Tells everybody; with SPOOL_OK everything before the end of the round is flushed. */
void round_finish(struct spool *s, struct round *r);
/* Closes the active segment for good; what was not finished yet is not valid. */
void journal_abandon(struct spool *s, int err);
int journal_status_of_errno(int e);

/* ---- journal_flights.c ---- */
enum flight_start { FLIGHT_UP, FLIGHT_NOT_NOW };
/*
 * Writes what fits of both lists and lets it be flushed; the lists keep the rest. FLIGHT_NOT_NOW, with nothing done, when a
 * segment must be begun first, or there is no thread or descriptor for it.
 */
enum flight_start flights_start(struct spool *s, struct msg **msgs, struct batch_item **items) MUST_CHECK;
/* j is the journal of s. Finishes the oldest one if it has landed. False when nothing was done. */
bool flights_land(struct spool *s, struct journal *j) REQUIRES(j->m);
/* Until none is up. */
void flights_drain(struct spool *s, struct journal *j) REQUIRES(j->m);
unsigned flights_up(const struct journal *j) REQUIRES(j->m);
/* False while there is no room for one more, or one has failed. */
bool flights_may_start(const struct journal *j) REQUIRES(j->m);
/* Ends the threads; none may be up. */
void flights_free(struct journal *j);

/* ---- journal_commit.c ---- */
/* A flush took so long, with or without others beside it. */
void pace_note(struct journal_pace *p, int64_t took_us, bool is_beside);
/* A flight failed: the next flushes are done one by one. */
void pace_begin_again(struct journal_pace *p);

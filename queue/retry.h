/*
 * retry: when a deferred recipient is tried again, and when it is given up
 *
 * Purpose    back-off by the age of the message with jitter, queue lifetimes, and an age that does not believe a clock that jumps
 * Source     postconf(5) queue_run_delay, minimal_backoff_time, maximal_backoff_time, maximal_queue_lifetime,
 *            bounce_queue_lifetime
 * Threads    values; struct wall_watch is guarded by the scheduler's lock
 *
 * The wait equals the age of the message within [minimal, maximal]: each wait doubles the age, so the times grow
 * exponentially. Postfix scans its deferred queue every queue_run_delay, so nothing is tried more often than that; here
 * there is no scan, and queue_run_delay is a lower bound of the wait. Up to a tenth of jitter spreads what failed together.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"

struct retry_times {
    int64_t minimal_ms, maximal_ms, run_delay_ms;
};

/* Milliseconds to wait; *rng is a random state of the caller (any value but 0). */
int64_t retry_backoff_ms(const struct retry_times *t, int64_t age_ms, uint64_t *rng);
/* The same jitter for a time that does not depend on age (dead sites). */
int64_t retry_jitter_ms(int64_t base_ms, uint64_t *rng);
/* A message is given up at the end of an attempt when it is this old; lifetime 0: after the first. */
static inline bool retry_is_over(int64_t age_us, int64_t lifetime_ms)
{
    return age_us / 1000 >= lifetime_ms;
}

/*
 * Notices jumps of the wall clock against the monotonic one. A jump forward makes messages that arrived before it look
 * older than they are, and would expire a whole queue when a clock wrong at boot is set right; also when the clock had been set
 * back before, so that arrivals seem to lie ahead.
 */
#define WALL_JUMPS_MAX 8
#define WALL_JUMP_US   (INT64_C(60) * 1000000)
struct wall_watch {
    int64_t last_wall_us, last_mono_ms;
    struct { int64_t end_us, start_us, by_us; } jumps[WALL_JUMPS_MAX]; /* oldest first: last and first time before and after */
    unsigned n;
};
/* Returns the jump seen since the last call: positive forward, negative backward, 0 none (below a minute is none). */
int64_t wall_watch_note(struct wall_watch *w, int64_t wall_us, int64_t mono_ms);
/* Age in microseconds, never negative, without the jumps that happened after the arrival. */
int64_t wall_watch_age_us(const struct wall_watch *w, int64_t arrival_us, int64_t now_us);

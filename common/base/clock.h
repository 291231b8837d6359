/*
 * clock: the time, through something tests can replace
 *
 * Purpose    deadlines are int64 milliseconds of CLOCK_MONOTONIC; wall time is only for what people or other
 *            hosts read
 * Threads    reading: any. clock_set_offsets_for_test(): before threads start, or by the only thread.
 */
#pragma once
#include <stdint.h>
#include <time.h>

#define CLOCK_NEVER INT64_MAX

/* Milliseconds of the monotonic clock (plus the test offset). */
int64_t clock_mono_ms(void);
/* Microseconds since 1970 (plus the test offset). */
int64_t clock_wall_us(void);
static inline int64_t clock_wall_s(void) { return clock_wall_us() / 1000000; }
/* Shifts both clocks; cumulative. For tests of retry times and jumps. */
void clock_advance_for_test(int64_t mono_ms, int64_t wall_us);
/* deadline - now, clamped to [0, INT_MAX] as poll() wants it; -1 for CLOCK_NEVER. */
int clock_poll_ms(int64_t deadline_ms);
/* An absolute CLOCK_MONOTONIC timespec for pthread_cond_timedwait(). */
struct timespec clock_timespec(int64_t deadline_ms);

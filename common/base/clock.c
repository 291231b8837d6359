/*
 * The only process-wide state here is the pair of test offsets: atomics that stay zero outside tests.
 */
#include <limits.h>
#include <stdatomic.h>

#include "common/base/clock.h"

static _Atomic int64_t mono_offset_ms;
static _Atomic int64_t wall_offset_us;

int64_t clock_mono_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 +
           atomic_load_explicit(&mono_offset_ms, memory_order_relaxed);
}

int64_t clock_wall_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000 +
           atomic_load_explicit(&wall_offset_us, memory_order_relaxed);
}

void clock_advance_for_test(int64_t mono_ms, int64_t wall_us)
{
    atomic_fetch_add(&mono_offset_ms, mono_ms);
    atomic_fetch_add(&wall_offset_us, wall_us);
}

int clock_poll_ms(int64_t deadline_ms)
{
    if (deadline_ms == CLOCK_NEVER)
        return -1;
    int64_t left = deadline_ms - clock_mono_ms();
    if (left <= 0)
        return 0;
    return left > INT_MAX ? INT_MAX : (int)left;
}

struct timespec clock_timespec(int64_t deadline_ms)
{
    int64_t real = deadline_ms - atomic_load_explicit(&mono_offset_ms, memory_order_relaxed);
    if (deadline_ms == CLOCK_NEVER)
        real = (int64_t)INT_MAX * 1000;
    if (real < 0)
        real = 0;
    return (struct timespec){ .tv_sec = (time_t)(real / 1000), .tv_nsec = (long)(real % 1000) * 1000000 };
}

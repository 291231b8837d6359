#include <string.h>

#include "queue/retry.h"

/* xorshift64: spread is all that is asked of it. */
static uint64_t next_random(uint64_t *rng)
{
    uint64_t x = *rng ? *rng : UINT64_C(0x9e3779b97f4a7c15);
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *rng = x;
}

static int64_t between(int64_t lo, int64_t hi, uint64_t *rng)
{
    return hi <= lo ? lo : lo + (int64_t)(next_random(rng) % (uint64_t)(hi - lo + 1));
}

int64_t retry_jitter_ms(int64_t base_ms, uint64_t *rng)
{
    return between(base_ms, base_ms + base_ms / 10, rng);
}

int64_t retry_backoff_ms(const struct retry_times *t, int64_t age_ms, uint64_t *rng)
{
    int64_t lo = t->minimal_ms > t->run_delay_ms ? t->minimal_ms : t->run_delay_ms;
    int64_t hi = t->maximal_ms > lo ? t->maximal_ms : lo;
    int64_t base = age_ms < lo ? lo : age_ms > hi ? hi : age_ms;
    int64_t from = base - base / 20, to = base + base / 20;
    return between(from < lo ? lo : from, to > hi ? hi : to, rng);
}

static void remember_jump(struct wall_watch *w, int64_t end_us, int64_t start_us, int64_t by_us)
{
    if (w->n == WALL_JUMPS_MAX) {
        memmove(&w->jumps[0], &w->jumps[1], (WALL_JUMPS_MAX - 1) * sizeof w->jumps[0]);
        w->n--;
    }
    w->jumps[w->n].end_us = end_us;
    w->jumps[w->n].start_us = start_us;
    w->jumps[w->n++].by_us = by_us;
}

int64_t wall_watch_note(struct wall_watch *w, int64_t wall_us, int64_t mono_ms)
{
    int64_t by_us = 0;
    if (w->last_wall_us != 0) {
        int64_t passed = (mono_ms - w->last_mono_ms) * 1000, expected = w->last_wall_us + passed;
        by_us = wall_us - expected;
        if (by_us > -WALL_JUMP_US && by_us < WALL_JUMP_US)
            by_us = 0;
        else /* some time between the two looks, so the stretches on both sides are taken as long as they can be */
            remember_jump(w, expected, wall_us - passed, by_us);
    }
    w->last_wall_us = wall_us;
    w->last_mono_ms = mono_ms;
    return by_us;
}

/*
 * Between jumps the clock went evenly, in each stretch with another offset. A time that the clock showed twice, because it
 * was set back, belongs to several: the youngest age is taken, so that no message is returned too early.
 */
int64_t wall_watch_age_us(const struct wall_watch *w, int64_t arrival_us, int64_t now_us)
{
    int64_t all_us = 0, off_us = 0, start_us = INT64_MIN, best = -1;
    for (unsigned i = 0; i < w->n; i++)
        all_us += w->jumps[i].by_us;
    for (unsigned i = 0; i <= w->n; i++) {
        int64_t end_us = i < w->n ? w->jumps[i].end_us : INT64_MAX;
        int64_t age = now_us - all_us - (arrival_us - off_us);
        if (arrival_us >= start_us && arrival_us <= end_us && age >= 0 && (best < 0 || age < best))
            best = age;
        if (i < w->n) {
            off_us += w->jumps[i].by_us;
            start_us = w->jumps[i].start_us;
        }
    }
    if (best < 0) /* from an earlier life, at a time that this one never saw */
        best = now_us - arrival_us;
    return best < 0 ? 0 : best;
}

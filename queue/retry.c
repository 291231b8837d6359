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

int64_t wall_watch_note(struct wall_watch *w, int64_t wall_us, int64_t mono_ms)
{
    int64_t by_us = 0;
    if (w->last_wall_us != 0) {
        int64_t expected = w->last_wall_us + (mono_ms - w->last_mono_ms) * 1000;
        by_us = wall_us - expected;
        if (by_us > -WALL_JUMP_US && by_us < WALL_JUMP_US)
            by_us = 0;
        if (by_us > 0) {
            if (w->n == WALL_JUMPS_MAX) {
                for (unsigned i = 1; i < WALL_JUMPS_MAX; i++)
                    w->jumps[i - 1] = w->jumps[i];
                w->n--;
            }
            w->jumps[w->n].before_us = expected;
            w->jumps[w->n++].by_us = by_us;
        }
    }
    w->last_wall_us = wall_us;
    w->last_mono_ms = mono_ms;
    return by_us;
}

int64_t wall_watch_age_us(const struct wall_watch *w, int64_t arrival_us, int64_t now_us)
{
    int64_t age = now_us - arrival_us;
    for (unsigned i = 0; i < w->n; i++)
        if (arrival_us <= w->jumps[i].before_us)
            age -= w->jumps[i].by_us;
    return age < 0 ? 0 : age;
}

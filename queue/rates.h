/*
 * rates: how much mail comes in and goes out
 *
 * Purpose    counters that the threads of the queue raise, and samples of them from which rates over the last minutes come
 * Source     ours; posthousectl(8) "queue stats"
 * Threads    rates_count(): any. rates_sample() and rates_over(): under the lock of whoever owns the struct.
 */
#pragma once
#include <stdatomic.h>
#include <stdint.h>

/* What is counted: RATE(identifier, name, what it is) */
#define RATES(RATE) \
    RATE(ACCEPTED, "accepted", "messages accepted") \
    RATE(RECIPIENTS, "recipients", "recipients of these") \
    RATE(BYTES, "bytes", "bytes of these") \
    RATE(SENT, "sent", "recipients delivered") \
    RATE(DEFERRED, "deferred", "attempts that were deferred") \
    RATE(BOUNCED, "bounced", "recipients given up")

enum rate {
#define RATE(id, name, what) RATE_##id,
    RATES(RATE)
#undef RATE
    RATE_COUNT
};

#define RATES_EVERY_MS 5000
#define RATES_SAMPLES 192 /* 16 minutes */

struct rates_sample {
    int64_t at_ms;
    uint64_t v[RATE_COUNT];
};

struct rates {
    _Atomic uint64_t v[RATE_COUNT];
    struct rates_sample ring[RATES_SAMPLES]; /* guarded by the owner's lock, like all below */
    unsigned first, n;
};

static inline void rates_count(struct rates *r, enum rate k, uint64_t n)
{
    atomic_fetch_add_explicit(&r->v[k], n, memory_order_relaxed);
}

const char *rate_name(enum rate k);
/* Takes a sample when the last one is old enough. Returns the time of the next one. */
int64_t rates_sample(struct rates *r, int64_t now_ms);
/* What was counted in the last window_ms, or since the first sample if that is later; returns the time it was counted over. */
int64_t rates_over(const struct rates *r, int64_t window_ms, int64_t now_ms, uint64_t out[RATE_COUNT]);

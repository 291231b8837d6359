#include "queue/rates.h"

#include <stddef.h>

static const char *const names[] = {
#define RATE(id, name, what) name,
    RATES(RATE)
#undef RATE
};

const char *rate_name(enum rate k)
{
    return names[k];
}

static const struct rates_sample *sample_at(const struct rates *r, unsigned i)
{
    return &r->ring[(r->first + i) % RATES_SAMPLES];
}

int64_t rates_sample(struct rates *r, int64_t now_ms)
{
    if (r->n > 0 && now_ms < sample_at(r, r->n - 1)->at_ms + RATES_EVERY_MS)
        return sample_at(r, r->n - 1)->at_ms + RATES_EVERY_MS;
    if (r->n == RATES_SAMPLES) {
        r->first = (r->first + 1) % RATES_SAMPLES;
        r->n--;
    }
    struct rates_sample *s = &r->ring[(r->first + r->n++) % RATES_SAMPLES];
    s->at_ms = now_ms;
    for (unsigned k = 0; k < RATE_COUNT; k++)
        s->v[k] = atomic_load_explicit(&r->v[k], memory_order_relaxed);
    return now_ms + RATES_EVERY_MS;
}

int64_t rates_over(const struct rates *r, int64_t window_ms, int64_t now_ms, uint64_t out[RATE_COUNT])
{
    const struct rates_sample *from = r->n > 0 ? sample_at(r, 0) : NULL;
    for (unsigned i = 0; i < r->n; i++)
        if (sample_at(r, i)->at_ms <= now_ms - window_ms)
            from = sample_at(r, i);
    for (unsigned k = 0; k < RATE_COUNT; k++)
        out[k] = atomic_load_explicit(&r->v[k], memory_order_relaxed) - (from != NULL ? from->v[k] : 0);
    return from != NULL ? now_ms - from->at_ms : 0;
}

/*
 * limit: a limit that can be reached: counted, and logged at most once a minute with the parameter's name
 *
 * Purpose    DESIGN "Overload and limits": whoever enforces a limit keeps one of these for it; `posthousectl status` shows
 *            how often each was reached
 * Threads    any
 */
#pragma once
#include <stdatomic.h>
#include "common/base/log.h"

struct limit {
    const char *parameter;     /* set before the first use */
    _Atomic uint64_t reached;  /* times since the start; relaxed */
    _Atomic int64_t told_ms;
    _Atomic uint64_t untold;
};

/* Counts, and perhaps logs "PARAMETER (value) reached: what_happens (N more since the last such line)"; below 0 no value. */
void limit_reached(struct limit *l, const struct log_src *src, int64_t value, const char *what_happens);
static inline uint64_t limit_count(const struct limit *l)
{
    return atomic_load_explicit(&l->reached, memory_order_relaxed);
}

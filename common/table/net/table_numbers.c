#include "common/table/net/table_numbers.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/mem.h"

#define CACHE_LINE 64

struct table_numbers {
    _Alignas(CACHE_LINE) _Atomic uint64_t answers[3]; /* by enum lookup; relaxed */
    _Atomic uint64_t cached, asked_us;                /* relaxed */
    _Atomic int64_t told_ms;                          /* for log_once_a_minute() */
    _Atomic uint64_t untold;
};

struct table_numbers *table_numbers_new(void)
{
    struct table_numbers *n = aligned_alloc(CACHE_LINE, sizeof *n);
    if (n == NULL)
        mem_exhausted();
    memset(n, 0, sizeof *n);
    return n;
}

void table_numbers_count(struct table_numbers *n, enum lookup answer)
{
    atomic_fetch_add_explicit(&n->answers[answer], 1, memory_order_relaxed);
}

void table_numbers_count_cached(struct table_numbers *n)
{
    atomic_fetch_add_explicit(&n->cached, 1, memory_order_relaxed);
}

void table_numbers_add_time(struct table_numbers *n, int64_t us)
{
    if (us > 0) /* the clock may have been set back */
        atomic_fetch_add_explicit(&n->asked_us, (uint64_t)us, memory_order_relaxed);
}

void table_numbers_tell(struct table_numbers *n, const struct log_src *log, const char *spec, struct err *e)
{
    uint64_t swallowed;
    if (log == NULL)
        return;
    if (log_once_a_minute(&n->told_ms, &n->untold, &swallowed)) {
        if (swallowed > 0)
            log_warn(log, "table %s: %s (%" PRIu64 " more failures since the last such line)", spec, e->text, swallowed);
        else
            log_warn(log, "table %s: %s", spec, e->text);
    }
    e->is_logged = true;
}

void table_numbers_read(const struct table_numbers *n, struct table_counts *out)
{
    out->hits = atomic_load_explicit(&n->answers[LOOKUP_FOUND], memory_order_relaxed);
    out->misses = atomic_load_explicit(&n->answers[LOOKUP_NONE], memory_order_relaxed);
    out->errors = atomic_load_explicit(&n->answers[LOOKUP_TEMPFAIL], memory_order_relaxed);
    out->cached = atomic_load_explicit(&n->cached, memory_order_relaxed);
    out->asked_us = atomic_load_explicit(&n->asked_us, memory_order_relaxed);
}

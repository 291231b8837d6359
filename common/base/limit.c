#include "common/base/limit.h"

void limit_reached(struct limit *l, const struct log_src *src, int64_t value, const char *what_happens)
{
    uint64_t more = 0;
    atomic_fetch_add_explicit(&l->reached, 1, memory_order_relaxed);
    if (!log_once_a_minute(&l->told_ms, &l->untold, &more))
        return;
    if (more > 0)
        log_warn(src, "%s (%lld) reached: %s (%llu more since the last such line)", l->parameter, (long long)value,
                 what_happens, (unsigned long long)more);
    else
        log_warn(src, "%s (%lld) reached: %s", l->parameter, (long long)value, what_happens);
}

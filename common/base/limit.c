#include "common/base/limit.h"

#include <stdio.h>

void limit_reached(struct limit *l, const struct log_src *src, int64_t value, const char *what_happens)
{
    uint64_t more = 0;
    atomic_fetch_add_explicit(&l->reached, 1, memory_order_relaxed);
    if (!log_once_a_minute(&l->told_ms, &l->untold, &more))
        return;
    char number[32] = "", rest[64] = "";
    if (value >= 0)
        snprintf(number, sizeof number, " (%lld)", (long long)value);
    if (more > 0)
        snprintf(rest, sizeof rest, " (%llu more since the last such line)", (unsigned long long)more);
    log_warn(src, "%s%s reached: %s%s", l->parameter, number, what_happens, rest);
}

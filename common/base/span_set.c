/* Open addressing; at most half full. Tables that were outgrown stay in the arena: together they are smaller than the last one. */
#include "common/base/span_set.h"

#include <stdint.h>

#define FIRST 16

static size_t hash(struct span s)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * UINT64_C(0x100000001b3);
    return (size_t)(h ^ (h >> 32));
}

/* Where it is, or where it would be. */
static struct span *slot_of(const struct span_set *set, struct span s)
{
    size_t i = hash(s) & (set->cap - 1);
    while (set->slots[i].p != NULL && !span_eq(set->slots[i], s))
        i = (i + 1) & (set->cap - 1);
    return &set->slots[i];
}

bool span_set_has(const struct span_set *set, struct span s)
{
    return set->cap > 0 && slot_of(set, s)->p != NULL;
}

static void grow(struct span_set *set, struct arena *a)
{
    struct span_set more = { .cap = set->cap > 0 ? set->cap * 2 : FIRST, .count = set->count };
    more.slots = arena_alloc(a, more.cap * sizeof *more.slots);
    for (size_t i = 0; i < set->cap; i++)
        if (set->slots[i].p != NULL)
            *slot_of(&more, set->slots[i]) = set->slots[i];
    *set = more;
}

bool span_set_add(struct span_set *set, struct arena *a, struct span s, struct span *kept)
{
    if (2 * (set->count + 1) > set->cap)
        grow(set, a);
    struct span *to = slot_of(set, s);
    bool is_new = to->p == NULL;
    if (is_new) {
        *to = arena_dup_span(a, s);
        set->count++;
    }
    if (kept != NULL)
        *kept = *to;
    return is_new;
}

/*
 * span_set: texts, each once
 *
 * Purpose    finds repeated ones in constant time
 * Threads    one owner
 * Ownership  texts and table live in an arena; nothing is to be released
 */
#pragma once
#include "common/base/arena.h"
#include "common/base/span.h"

struct span_set { /* zero: empty */
    struct span *slots;  /* [cap], a power of two; p NULL: free */
    size_t count, cap;
};

bool span_set_has(const struct span_set *set, struct span s);
/* True when it was not there yet. *kept, unless NULL, is the set's copy of it. */
bool span_set_add(struct span_set *set, struct arena *a, struct span s, struct span *kept);

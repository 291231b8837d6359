/*
 * sched_heap: things ordered by the time at which they are due
 *
 * Purpose    a binary heap of items that are members of larger structures, so that each knows its place and can be moved
 *            or taken out in log n
 * Threads    the owner's lock guards heap and items
 * Ownership  the heap owns its array only
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "common/base/attrs.h"

struct heap_item {
    int64_t key;
    size_t slot; /* 1 + index into the array; 0: in no heap */
};

struct heap {
    struct heap_item **v; /* owned */
    size_t n, cap;
};

/* Puts the item in, or moves it when it is there already. */
void heap_put(struct heap *h, struct heap_item *it, int64_t key);
/* Takes the item out; fine when it is in no heap. */
void heap_remove(struct heap *h, struct heap_item *it);
/* The item with the smallest key, or NULL. */
static inline struct heap_item *heap_first(const struct heap *h) { return h->n ? h->v[0] : NULL; }
void heap_free(struct heap *h);

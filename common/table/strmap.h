/*
 * strmap: a map from byte strings to byte strings, built once and then only read
 *
 * Purpose    the content of text tables and the literal part of match lists: a million rows in a handful of
 *            allocations, twenty bytes a row beside the text itself
 * Source     ours
 * Threads    building: one; reading afterwards: any
 * Ownership  keys and values are offsets into `base`, which the caller keeps and may not move after the first get
 * Limits     base is at most 4 GiB; STRMAP_ROWS_MAX rows
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/span.h"

#define STRMAP_ROWS_MAX (UINT32_C(1) << 30)

struct strmap_row {
    uint32_t hash;
    uint32_t key_at, key_n; /* offset and length in base */
    uint32_t val_at, val_n;
};

struct strmap {
    const char *base;        /* borrowed */
    struct strmap_row *rows; /* owned */
    uint32_t count, rows_cap;
    uint32_t *slots;         /* owned; row number + 1, 0 is free */
    uint32_t mask;           /* slots - 1 */
};

void strmap_init(struct strmap *m, const char *base);
void strmap_free(struct strmap *m);
/*
 * Adds a row whose key and value lie in base. False when the key is there already (then `replace` decides whether
 * the new value takes its place) or the map is full.
 */
bool strmap_add(struct strmap *m, struct span key, struct span value, bool replace) MUST_CHECK;
/* NULL when there is none. */
const struct strmap_row *strmap_get(const struct strmap *m, struct span key);
static inline struct span strmap_value(const struct strmap *m, const struct strmap_row *r)
{
    return span_of(m->base + r->val_at, r->val_n);
}
static inline struct span strmap_key(const struct strmap *m, const struct strmap_row *r)
{
    return span_of(m->base + r->key_at, r->key_n);
}
/* Gives back room that was kept for growth. */
void strmap_trim(struct strmap *m);

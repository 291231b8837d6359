/*
 * table_cache: what a table on a server answered, for as long as remote_table_cache_time says
 *
 * Purpose    fewer questions to slow servers, at the price of answers that may be so old; off unless configured. Found and not
 *            found are kept, failures never.
 * Source     ours
 * Threads    any
 * Locks      TABLE_CACHE (64) guards everything; nothing is asked while it is held
 * Limits     CACHE_ENTRIES answers, the oldest goes first; longer ones than CACHE_KEY_MAX and CACHE_VALUE_MAX are not kept
 */
#pragma once
#include <stdint.h>
#include "common/base/arena.h"
#include "common/table/table.h"

#define CACHE_ENTRIES   2000
#define CACHE_KEY_MAX   512
#define CACHE_VALUE_MAX 4096

struct table_cache;

struct table_cache *table_cache_new(void);
void table_cache_free(struct table_cache **c);
/* Everything is forgotten, also what is being asked for just now. */
void table_cache_clear(struct table_cache *c);
/*
 * True when an answer is known that is at most max_age_ms old: *answer, and the value in the arena if wanted. Else *ticket is
 * to be given to table_cache_put().
 */
bool table_cache_get(struct table_cache *c, struct span key, int64_t max_age_ms, enum lookup *answer, struct arena *a,
                     struct span *value, uint64_t *ticket) MUST_CHECK;
/* value NULL: not found. */
void table_cache_put(struct table_cache *c, struct span key, const struct span *value, uint64_t ticket);

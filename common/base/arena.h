/*
 * arena: many small allocations released together
 *
 * Purpose    envelope data of one transaction, or everything a configuration snapshot owns
 * Ownership  the arena owns all it hands out, until arena_reset() or arena_free()
 * Threads    one owner at a time
 * Limits     sizes passed in must be limited by the caller; exhaustion aborts
 */
#pragma once
#include <stddef.h>
#include "common/base/attrs.h"
#include "common/base/span.h"

struct arena;

/* block_bytes: size of the pieces taken from malloc (0: 4096). No memory is taken before the first use. */
struct arena *arena_new(size_t block_bytes);
/* Sets *a to NULL; NULL is fine. */
void arena_free(struct arena **a);
/* Forgets everything handed out; keeps at most one block. */
void arena_reset(struct arena *a);
/* Zeroed, aligned for any type. */
void *arena_alloc(struct arena *a, size_t n) __attribute__((returns_nonnull, alloc_size(2)));
/* NUL-terminated copies. */
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *p, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_FMT(2, 3);
/* A copy that is also NUL-terminated behind its n bytes. */
struct span arena_dup_span(struct arena *a, struct span s);
/* Something that wants to know what is done for this arena's owner (common/table/maps.h: lookup_watch); borrowed, NULL to begin with. */
void arena_set_watch(struct arena *a, void *watch);
void *arena_watch(const struct arena *a);
/* Bytes taken from malloc. */
size_t arena_bytes(const struct arena *a);

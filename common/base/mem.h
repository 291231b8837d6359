/*
 * mem: allocation whose size we choose
 *
 * Purpose    x-functions abort when memory is exhausted; only for sizes that are ours or already limited
 *            (STYLE "Errors"). Sizes that a peer chooses go through struct buf with a maximum.
 * Threads    any
 * Ownership  the caller frees with free()
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/attrs.h"

/* For who allocates by other means and cannot go on: says so and aborts. */
NORETURN void mem_exhausted(void);
/* True once that has begun. Async-signal-safe. */
bool mem_was_exhausted(void);
/* Zeroed memory for `n` objects of `size` bytes; aborts on overflow or exhaustion. */
void *xcalloc(size_t n, size_t size) __attribute__((malloc, alloc_size(1, 2), returns_nonnull));
/* Uninitialised memory; aborts on exhaustion. */
void *xmalloc(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));
/* Like realloc; aborts on exhaustion. */
void *xrealloc(void *p, size_t size) __attribute__((alloc_size(2)));
/* A copy of a C string. */
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
/* A NUL-terminated copy of n bytes. */
char *xstrndup(const char *p, size_t n) __attribute__((malloc, returns_nonnull));
/* printf into fresh memory; aborts on exhaustion. */
char *xasprintf(const char *fmt, ...) PRINTF_FMT(1, 2) __attribute__((malloc, returns_nonnull));

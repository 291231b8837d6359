/*
 * buf: bytes that are owned and grow, up to a maximum
 *
 * Purpose    every place that gathers bytes of a length it does not choose. Overflow of the maximum is
 *            remembered, so a chain of appends is checked once at the end with buf_ok().
 * Ownership  owns its memory; buf_free() releases it and leaves an empty buf
 * Threads    one owner at a time
 * Errors     beyond `max` (or when memory for a large growth fails) nothing is appended and buf_ok() is false
 *            until buf_reset(). Without a maximum, or for a small growth, no memory ends the process.
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/span.h"

struct buf {
    char *p;       /* owned; NULL while cap is 0 */
    size_t n;      /* bytes in use */
    size_t cap;
    size_t max;    /* n never exceeds this; 0 means SIZE_MAX / 2 */
    bool overflow; /* an append was refused */
};

#define BUF_INIT(max_) ((struct buf){ .max = (max_) })

void buf_init(struct buf *b, size_t max_bytes);
void buf_free(struct buf *b);
/* Empties it and forgets an overflow; keeps the memory. */
void buf_reset(struct buf *b);
/* Gives memory above `keep` bytes back while empty or nearly so (parked sessions). */
void buf_shrink(struct buf *b, size_t keep);
static inline bool buf_ok(const struct buf *b) { return !b->overflow; }
static inline struct span buf_span(const struct buf *b) { return span_of(b->p, b->n); }

/* Room for `n` more bytes at b->p + b->n; false if the maximum forbids it. The caller then adds to b->n. */
bool buf_reserve(struct buf *b, size_t n);
void buf_add(struct buf *b, const void *p, size_t n);
void buf_add_span(struct buf *b, struct span s);
static inline void buf_puts(struct buf *b, const char *s) { buf_add(b, s, strlen(s)); }
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_FMT(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF_FMT(2, 0);
/* Decimal number without going through printf. */
void buf_put_uint(struct buf *b, uint64_t v);
/* Big-endian integers, for on-disk and wire formats. */
void buf_put_u32be(struct buf *b, uint32_t v);
void buf_put_u64be(struct buf *b, uint64_t v);
/* Removes the first n bytes. */
void buf_consume(struct buf *b, size_t n);
/* NUL-terminated view (the NUL is not counted in n); "" when empty. Valid until the next change. */
const char *buf_cstr(struct buf *b);
/* Hands the NUL-terminated memory to the caller (free()) and leaves b empty. */
char *buf_detach(struct buf *b);

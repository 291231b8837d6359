/*
 * span: a borrowed run of bytes (pointer and length)
 *
 * Purpose    mail may contain NUL, so bytes from the network travel as spans, never as C strings
 * Ownership  borrows; whoever makes one says until when it is valid
 * Threads    values; any thread
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include "common/base/attrs.h"

struct span {
    const char *p; /* borrowed; may be NULL only when n is 0 */
    size_t n;
};

/* For printf("%.*s", SPAN_ARG(s)); lengths beyond INT_MAX are cut. */
#define SPAN_ARG(s) ((s).n > 0x7fffffff ? 0x7fffffff : (int)(s).n), ((s).p ? (s).p : "")
#define SPAN_INIT(lit) { (lit), sizeof(lit) - 1 } /* in tables */
#define SPAN_LIT(lit) ((struct span)SPAN_INIT(lit))

static inline struct span span_of(const char *p, size_t n) { return (struct span){ p, n }; }
static inline struct span span_cstr(const char *s) { return (struct span){ s, s ? strlen(s) : 0 }; }

static inline bool span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* Equal when ASCII letters are compared without case. */
bool span_ieq(struct span a, struct span b);
static inline bool span_ieq_cstr(struct span a, const char *s) { return a.n == strlen(s) && span_ieq(a, span_of(s, a.n)); }
bool span_starts_with(struct span s, struct span prefix);
bool span_istarts_with(struct span s, struct span prefix);
bool span_iends_with(struct span s, struct span suffix);
/* Without leading and trailing space, tab, CR, LF. */
struct span span_trim(struct span s);
/* Index of the first (last) byte c, or -1. */
ptrdiff_t span_find(struct span s, char c);
ptrdiff_t span_rfind(struct span s, char c);
/* From byte `from` to the end; empty when beyond. */
struct span span_from(struct span s, size_t from);
/*
 * Takes the next token of *rest, separated by any of `seps` (leading separators skipped).
 * Returns false when nothing is left.
 */
bool span_next_token(struct span *rest, const char *seps, struct span *out);

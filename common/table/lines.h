/*
 * lines: the logical lines of a text table
 *
 * Purpose    comments and blank lines left out, continuation lines joined, all in place in the caller's buffer
 * Source     postmap(1) "INPUT FILE FORMAT"; reference/wire-formats.md section 16
 * Threads    values; one owner
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/attrs.h"

struct lines {
    char *p, *end;  /* what is left of the buffer */
    int next_line;  /* number of the physical line at p */
};

struct line {
    char *p;        /* in the buffer; may be changed by the caller */
    size_t n;       /* without the line end and without trailing white space */
    int number;     /* of its first physical line */
    bool is_stray;  /* a continuation line with nothing before it */
};

static inline struct lines lines_of(char *text, size_t n) { return (struct lines){ text, n ? text + n : text, 1 }; }
bool lines_next(struct lines *ls, struct line *out) MUST_CHECK;

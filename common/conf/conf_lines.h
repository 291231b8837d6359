/*
 * conf_lines: logical lines of main.cf, master.cf and tables
 *
 * Purpose    joins continuation lines, skips comments and blank lines (also inside a continued line), and tells
 *            the physical line where each logical line begins
 * Source     postconf(5), master(5), DATABASE_README; reference/wire-formats.md section 16
 * Threads    values; any thread
 * Ownership  borrows the text; the line it hands out is in *line until the next call
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/buf.h"
#include "common/base/span.h"

struct conf_lines {
    struct span rest; /* borrowed: what has not been read */
    int next_line;    /* physical number of the first line in `rest` */
};

/* One logical line without its line ends; trailing white space is kept off. */
struct conf_line {
    struct buf text;   /* owned: conf_line_free() */
    int first, last;   /* physical lines, 1-based */
    bool starts_blank; /* begins with white space: there was nothing to continue */
};

void conf_lines_init(struct conf_lines *r, struct span text);
/* False at the end of the text. */
bool conf_lines_next(struct conf_lines *r, struct conf_line *line);
void conf_line_free(struct conf_line *line);

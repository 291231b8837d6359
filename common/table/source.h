/*
 * source: the rows of a text from which a map is made
 *
 * Purpose    `key value` lines, or `name: value` lines as aliases(5) writes them; for tables that are read as they are
 *            written, and for making databases
 * Source     postmap(1), postalias(1) "INPUT FILE FORMAT"; aliases(5)
 * Threads    one owner
 */
#pragma once
#include "common/base/span.h"
#include "common/table/lines.h"

struct source {
    struct lines lines;
    bool is_aliases;
};

struct source_row {
    struct span key, value; /* in the text; as they are written, an alias' name without its quotes */
    int line;
    const char *why;        /* NULL, or what is wrong with the line: it is no row */
    const char *warning;    /* NULL, or what is odd about the row */
};

/* The next row or bad line; false at the end. Changes the text in place. */
bool source_next(struct source *s, struct source_row *out) MUST_CHECK;

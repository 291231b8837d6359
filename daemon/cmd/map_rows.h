/*
 * map_rows: the rows of a map that is being made or changed
 *
 * Purpose    gathers rows from a text, or from a database that is there already, before a new database is written whole
 * Source     postmap(1), postalias(1): -f -F -i -r -w
 * Threads    one
 * Ownership  copies what it is given
 */
#pragma once
#include <stdio.h>
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/table/strmap.h"

struct map_rows_options {
    bool is_aliases, keep_case, is_bytes; /* as the flags of a table */
    bool replace;       /* -r: a later row takes the place of an earlier one, untold */
    bool ignore;        /* -w: a later row is left out, untold */
    bool is_files;      /* -F: values name files whose content is wanted, in base64 */
};

struct map_rows {
    struct buf bytes;   /* owned: keys and values */
    struct strmap map;
    struct map_rows_options o;
    unsigned warnings;
};

void map_rows_init(struct map_rows *r, const struct map_rows_options *o);
void map_rows_free(struct map_rows *r);
/* A row as it is. False when the key is there: then `replace` decides which value counts. */
bool map_rows_add(struct map_rows *r, struct span key, struct span value, bool replace);
/* The rows of a text; changes it. Mistakes are told on standard error and left out. False with *e: a file of -F. */
bool map_rows_add_text(struct map_rows *r, struct buf *text, const char *name, struct err *e) MUST_CHECK;
/* The key as it is kept, folded or not, in *out. False when it cannot be one. */
bool map_rows_key(const struct map_rows *r, struct span key, struct buf *out) MUST_CHECK;

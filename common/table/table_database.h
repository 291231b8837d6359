/*
 * table_database: the rows in the bytes of an lmdb or cdb file
 *
 * Purpose    reads a whole database that postmap made, without its library: nothing is mapped, so a file that is cut off or
 *            damaged is an error message and not the end of the process
 * Source     lmdb.h 0.9 on 64-bit little-endian machines; cdb: https://cr.yp.to/cdb/cdb.txt; the formats are in the .c
 * Threads    any
 */
#pragma once
#include <stdbool.h>
#include "common/base/err.h"
#include "common/base/span.h"

/* Key and value point into the file's bytes; a NUL at their end, which some writers add, is not part of them. */
typedef bool table_database_row_fn(void *arg, struct span key, struct span value);
/* Every row, until fn returns false; false with *e for a file that is no such database. */
bool table_database_lmdb(struct span file, table_database_row_fn *fn, void *arg, struct err *e) MUST_CHECK;
bool table_database_cdb(struct span file, table_database_row_fn *fn, void *arg, struct err *e) MUST_CHECK;

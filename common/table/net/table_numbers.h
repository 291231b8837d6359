/*
 * table_numbers: what is counted of a table, and how often its failures are told
 *
 * Purpose    counters that every lookup touches, kept away from what lookups read; a warning about a server at most once a minute
 * Threads    any
 * Ownership  one for each table
 */
#pragma once
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/table/table.h"

struct table_numbers;

struct table_numbers *table_numbers_new(void);
void table_numbers_count(struct table_numbers *n, enum lookup answer);
void table_numbers_count_cached(struct table_numbers *n);
void table_numbers_add_time(struct table_numbers *n, int64_t us);
/* Logs "table SPEC: why", or counts it as a repeat; sets e->is_logged when somebody listens. */
void table_numbers_tell(struct table_numbers *n, const struct log_src *log, const char *spec, struct err *e);
void table_numbers_read(const struct table_numbers *n, struct table_counts *out);

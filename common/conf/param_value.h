/*
 * param_value: an expanded text as the value of its row
 *
 * Purpose    checks kind, range and words, and writes the field in struct params, client_params or transport_limits
 * Source     postconf(5)
 * Threads    any
 * Errors     false with *e saying what was expected
 */
#pragma once
#include <stdbool.h>
#include "common/base/err.h"
#include "common/conf/param_table.h"

/*
 * Writes row's field of the struct at `home` (that row->home says). Text kinds store the pointer `text` itself, so it
 * must live as long as the struct. Nothing is written on failure.
 */
bool param_store(const struct param_row *row, const char *text, void *home, struct err *e) MUST_CHECK;
/* Only the check. */
bool param_check(const struct param_row *row, const char *text, struct err *e) MUST_CHECK;
/* "30s" with the unit of a bare number; also used for times inside other syntax. */
bool param_parse_time(struct span text, char unit, int64_t *ms) MUST_CHECK;

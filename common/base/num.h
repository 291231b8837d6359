/*
 * num: the strict integer parser
 *
 * Purpose    whole input must be the number; range is checked; no sign unless min < 0
 * Threads    any
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/span.h"

/* Decimal digits only (and '-' when min is negative). Writes *out only on success. */
bool num_parse(struct span s, int64_t min, int64_t max, int64_t *out) MUST_CHECK;
/* Unsigned hexadecimal digits, at most 16. */
bool num_parse_hex(struct span s, uint64_t *out) MUST_CHECK;

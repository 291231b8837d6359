/*
 * maildate: dates as mail headers write them
 *
 * Source     RFC 5322 3.3: "Sat, 21 Nov 2026 07:31:05 +0100 (CET)"
 * Threads    any (localtime_r)
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "common/base/attrs.h"

#define MAIL_DATE_MAX 64

/* Local time of wall_s (seconds since 1970) with offset and zone name; NUL-terminated into out, returns the length. */
size_t mail_date_format(int64_t wall_s, char out[static MAIL_DATE_MAX]);

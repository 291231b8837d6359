/*
 * printable: text of others, fit for a terminal and a line of a log
 *
 * Purpose    what peers said and messages hold is shown to people; escape sequences and line ends in it must not act
 * Source     ECMA-48: control characters are 0 to 31, 127, and 128 to 159 (in UTF-8 two bytes)
 * Threads    values; any thread
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/span.h"

/* Control characters and bytes that are no UTF-8 become '?', each byte of them one; the length stays. */
void text_make_printable(char *p, size_t n);
/* It would change nothing. */
bool text_is_printable(struct span s);

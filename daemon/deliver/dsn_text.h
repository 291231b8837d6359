/*
 * dsn_text: an enhanced status code in front of a text
 *
 * Purpose    "5.1.1 no such user" taken apart; the next hops of error: and discard:
 * Source     RFC 3463; error(8), discard(8)
 * Threads    values; any thread
 */
#pragma once
#include "common/base/span.h"

/*
 * Splits s: *dsn is its code, or fallback when it has none; *text what follows. A code of another class than the
 * first digit of `cls` ('2', '4', '5') is mended into `out`, which *dsn then borrows (12 bytes).
 */
void dsn_text_split(struct span s, const char *fallback, char out[static 12], struct span *dsn, struct span *text);

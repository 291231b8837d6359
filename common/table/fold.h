/*
 * fold: keys without case
 *
 * Purpose    the form in which keys are kept and asked for: ASCII in lower case; in UTF-8 text every letter case-folded. Text
 *            that is not valid UTF-8 is no key.
 * Source     postconf(5) smtputf8_enable; Unicode 3.13 "Default Case Folding"
 * Threads    any
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/attrs.h"
#include "common/base/span.h"

#define FOLD_GROWTH 3 /* folding makes UTF-8 text at most this many times as long */

bool fold_is_ascii(struct span s);
/* Nothing but valid UTF-8. */
bool fold_is_utf8(struct span s);
/*
 * Writes the folded form of s to out, which has room for s.n bytes when s is ASCII, else FOLD_GROWTH times that; out may be
 * s.p itself for ASCII. Returns its length; -1 when s is not UTF-8.
 */
ptrdiff_t fold_utf8(struct span s, char *out) MUST_CHECK;

/*
 * xtext: the encodings of DSN parameters and XCLIENT values
 *
 * Purpose    xtext: '+' and two hexadecimal digits for '+', '=' and what is not printable ASCII; a bare '=' is read too.
 *            Addresses of type utf-8 in ORCPT= may also hold \x{HEX} for one Unicode character.
 * Source     RFC 3461 4, RFC 6533 3
 * Threads    values; any thread
 */
#pragma once
#include <stdbool.h>
#include "common/base/arena.h"
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/span.h"

void xtext_encode(struct buf *b, struct span plain);
/* Result in the arena. False when a '+' has no two hexadecimal digits behind it, or a byte may not stand in xtext. With utf8 bytes over 127 pass. */
bool xtext_decode(struct span coded, bool utf8, struct arena *a, struct span *out) MUST_CHECK;
/* Replaces \x{HEX} by UTF-8. False when one is malformed, needless (printable ASCII but '\', '+', '=') or no character. */
bool xtext_decode_unitext(struct span coded, struct arena *a, struct span *out) MUST_CHECK;
/* The reverse: bytes over 127 become \x{HEX}; the input must be valid UTF-8. */
void xtext_encode_unitext(struct buf *b, struct span utf8);

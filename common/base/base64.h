/*
 * base64: bytes as text and back
 *
 * Source     RFC 4648 section 4
 * Threads    any
 */
#pragma once
#include <stdbool.h>
#include "common/base/buf.h"

/* Appends; without line breaks. */
void base64_encode(struct span in, struct buf *out);
/* Appends what the text stands for. False when it is no base64; padding is wanted, white space is not. */
bool base64_decode(struct span in, struct buf *out) MUST_CHECK;

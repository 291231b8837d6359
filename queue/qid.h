/*
 * qid: queue IDs
 *
 * Purpose    a message is a 64-bit number: the microsecond it was begun, made unique by counting up. Printed as
 *            upper-case hexadecimal (short form) or, with enable_long_queue_ids, in Postfix's long form
 *            (base 52 seconds and microseconds, 'z', base 51 remainder), so both sort by time and match \w+.
 * Source     postconf(5) enable_long_queue_ids; reference/wire-formats.md section 9
 * Threads    any
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/span.h"

#define QID_TEXT_MAX 32

struct qid_source {
    _Atomic uint64_t last; /* largest number given out or seen in the spool */
};

/* A new number, larger than any before it from this source. */
uint64_t qid_new(struct qid_source *s);
/* Tells the source of a number found at recovery. */
void qid_seen(struct qid_source *s, uint64_t id);
/* NUL-terminated text into out; returns its length. */
size_t qid_format(uint64_t id, bool long_form, char out[QID_TEXT_MAX]);
/* Accepts either form. */
bool qid_parse(struct span text, uint64_t *id) MUST_CHECK;

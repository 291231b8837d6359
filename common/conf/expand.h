/*
 * expand: $name, ${name?{a}:{b}} and the other forms inside a value
 *
 * Purpose    turns the text of a parameter into its value, recursively, when it is used and not when it is read
 * Source     postconf(5) introduction; reference/wire-formats.md section 16; ${domain_to_ascii{..}} of newest Postfix
 * Threads    any
 * Errors     false with *e: bad syntax, a definition that refers to itself, or a result beyond EXPAND_BYTES_MAX
 * Limits     EXPAND_DEPTH_MAX nested references, EXPAND_NESTING_MAX with braces, EXPAND_STEPS_MAX references in all, EXPAND_BYTES_MAX of result
 */
#pragma once
#include <stdbool.h>
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/span.h"

#define EXPAND_DEPTH_MAX 100
#define EXPAND_NESTING_MAX 300
#define EXPAND_STEPS_MAX 10000
#define EXPAND_BYTES_MAX (1024 * 1024)

/* The unexpanded text of a name, or NULL when nobody defined it (then it counts as empty). */
typedef const char *expand_lookup_fn(void *arg, struct span name);

/* Appends the expansion of `text` to *out. */
bool expand_text(struct span text, expand_lookup_fn *lookup, void *arg, struct buf *out, struct err *e) MUST_CHECK;

/* Called for each name that a text refers to, in any form and branch, without evaluating anything. */
typedef void expand_name_fn(void *arg, struct span name);
void expand_names(struct span text, expand_name_fn *fn, void *arg);

/* Length of the {...} or (...) group that begins at s.p[0], its end included; 0 when it is not closed. */
size_t expand_group_len(struct span s);

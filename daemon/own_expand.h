/*
 * own_expand: who gets the mail that the system itself writes, by address mapping
 *
 * Purpose    joins queue/own_policy.h to policy: the address is completed and rewritten as a local recipient, then virtual
 *            aliases and aliases(5). No blind copies, and no other sender for the members of a list with an owner.
 * Source     cleanup(8), bounce(8); ADDRESS_REWRITING_README
 * Threads    any; may wait for a table
 */
#pragma once
#include "common/base/arena.h"
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"

/* own_policy.expand; arg is the daemon. */
bool own_expand_cb(void *arg, struct span rcpt, struct arena *a, struct span **out, size_t *count, struct err *e) MUST_CHECK;

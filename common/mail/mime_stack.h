/*
 * mime_stack: the multiparts that are open around a place in a message, and their boundaries
 *
 * Purpose    says of a line whether it is a boundary and of which multipart; for whoever walks through a message, in memory
 *            (mime.h) or as it arrives
 * Source     RFC 2046 5.1; mime_boundary_length_limit and mime_nesting_limit of postconf(5)
 * Threads    one owner at a time
 * Limits     mime_limits; memory is at most their product
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/span.h"

struct mime_limits {
    size_t boundary_bytes;   /* of a boundary that count */
    size_t nesting;          /* multiparts inside one another; as many and two more are entered */
};

struct mime_level {
    size_t name_begin, name_bytes; /* of the boundary, in names */
    bool is_cut;                   /* the boundary was longer than counts */
    bool is_digest;
};

struct mime_stack {
    struct mime_limits limits;
    struct buf names;          /* boundaries, outermost first */
    struct mime_level *levels; /* owned */
    size_t count, cap;
};

void mime_stack_free(struct mime_stack *s);
/*
 * A multipart begins, with this Content-Type: it is entered if it has a boundary. False: it is deeper than is allowed,
 * and was not entered.
 */
bool mime_stack_push(struct mime_stack *s, struct span content_type, bool is_digest) MUST_CHECK;
/* The multipart whose boundary the line (without its end) is; s->count when it is none. */
size_t mime_stack_find(const struct mime_stack *s, struct span line);
/* Leaves what is inside that multipart, and the multipart itself when the line closes it (true). */
bool mime_stack_pass(struct mime_stack *s, size_t level, struct span line, bool *is_digest);

/*
 * inspect: the content on its way out through those who inspect or change it
 *
 * Purpose    smtp_header_checks and its kin, and what else wants to see header fields while mail is delivered: the stages of
 *            policy/pipe.h. The result is a list of pieces; what nobody changed is borrowed from the stored content.
 * Source     smtp(8), header_checks(5)
 * Threads    one delivery thread
 * Ownership  inspect_free() releases it; pieces of the stored content need its view
 * Limits     memory: the header, and as much of the body as had to be copied
 */
#pragma once
#include <stdint.h>
#include "common/base/buf.h"

struct smtp_request;

struct inspect_piece {
    const char *p;   /* NULL: in made, at `at` */
    size_t at, n;
};

/* The content as it is to be sent; whole lines in each piece, but for the end of the last. */
struct inspected {
    struct buf made;
    struct inspect_piece *pieces; /* owned */
    size_t count, cap;
    uint64_t bytes;
    uint32_t content_flags; /* CONTENT_* */
};

static inline struct span inspected_span(const struct inspected *x, size_t i)
{
    const struct inspect_piece *q = &x->pieces[i];
    return span_of(q->p != NULL ? q->p : x->made.p + q->at, q->n);
}

/*
 * Once for a request, when r->view is there: sets r->inspected unless nobody wants to see the content. False: a table
 * failed; nothing may be sent.
 */
bool inspect_content(struct smtp_request *r) MUST_CHECK;
/* All of it in one piece. */
struct span inspect_whole(struct smtp_request *r);
void inspect_free(struct inspected **x);

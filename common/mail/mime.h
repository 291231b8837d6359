/*
 * mime: walks through a message along its MIME structure
 *
 * Purpose    cuts content that lies in memory into header fields, ends of headers, boundary lines and body lines, and knows
 *            of each part its type and transfer encoding. Copies nothing but the boundaries of the multiparts that are
 *            open. What is wrong in a message is never an error: text that follows no rule is body.
 * Source     RFC 2045, RFC 2046 5.1; mime_boundary_length_limit and mime_nesting_limit of postconf(5)
 * Threads    one owner at a time
 * Ownership  borrows the content; the pieces point into it. mime_free() releases the boundaries
 * Limits     mime_limits; memory is at most their product
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/span.h"
#include "common/mail/mime_stack.h"

enum mime_kind {
    MIME_FIELD,       /* a header field with its continuation lines */
    MIME_HEADER_END,  /* the empty line, or nothing where the header ends without one; the part is known now */
    MIME_BOUNDARY,
    MIME_BODY,        /* a line */
};

enum mime_type {
    MIME_LEAF,        /* anything that is content of its own */
    MIME_MULTIPART,
    MIME_MESSAGE,     /* a whole message follows: header and body */
    MIME_FRAGMENT,    /* other message/ types that cannot be encoded (RFC 2046 5.2), and their bodies not looked into */
};

enum mime_encoding { MIME_7BIT, MIME_8BIT, MIME_BINARY, MIME_ENCODED, MIME_UNKNOWN };

struct mime_piece {
    enum mime_kind kind;
    struct span text; /* with its line ends; the pieces one after the other are the content */
};

struct mime {
    struct span rest;              /* borrowed */
    struct mime_stack stack;
    bool in_header;
    bool is_too_deep;              /* the nesting limit was passed; what is deeper is taken as body */
    /* The part whose header or body is being read. */
    enum mime_type type;
    enum mime_encoding encoding;   /* the last that the header gives */
    bool is_digest;                /* MIME_MULTIPART */
    struct span content_type;      /* field body with the boundary; borrowed */
};

void mime_init(struct mime *m, struct span content, struct mime_limits limits);
void mime_free(struct mime *m);
/* The next piece; false at the end. Every header that begins gets its MIME_HEADER_END. */
bool mime_next(struct mime *m, struct mime_piece *out) MUST_CHECK;
/* The field is called so, in any case. */
bool mime_is_field(struct span field, const char *name);
/* The part is sent with 8-bit or binary content, or so its header says. */
static inline bool mime_is_8bit(const struct mime *m) { return m->encoding == MIME_8BIT || m->encoding == MIME_BINARY; }

/* ---- mime_field.c: values of the fields ---- */
enum mime_encoding mime_encoding_of(struct span body);
enum mime_type mime_type_of(struct span body, bool *is_digest);
/* The value of the first parameter of that name, unquoted, cut at `max` bytes, appended to out. False: there is none. */
bool mime_parameter(struct span body, const char *name, size_t max, struct buf *out, bool *is_cut) MUST_CHECK;

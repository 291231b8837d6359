/*
 * pipe: the content of a message on its way into the spool, seen by those who inspect or change it
 *
 * Purpose    puts header fields together (folded lines are one field), knows which belong to the message, to its MIME
 *            parts and to messages inside it, and gives each to the stages before it is written; body lines too, if a stage
 *            wants them. What no stage changes is written as it came, byte for byte.
 * Source     cleanup(8), header_checks(5); postconf(5) header_size_limit, line_length_limit, message_drop_headers,
 *            mime_nesting_limit, mime_boundary_length_limit, disable_mime_input_processing; RFC 2045, RFC 2046 5.1
 * Threads    one owner at a time
 * Ownership  pipe_free() releases its buffers. Spans given to stages last for the call
 * Limits     pipe_options; of a longer header field the rest is cut off
 *
 * It stands behind what finds the end of data (daemon/smtpd/content.h, daemon/control/local_content.h) and sees lines that
 * end in CRLF. That also says where the message's own header ends; the headers of parts end where the pipe sees it.
 */
#pragma once
#include <stdbool.h>
#include "common/base/buf.h"
#include "common/mail/hdr_names.h"
#include "common/mail/headers.h"
#include "common/mail/mime.h"

enum pipe_class {
    PIPE_MAIN,    /* the message's own header */
    PIPE_MIME,    /* MIME fields of any header, and all fields of a part's */
    PIPE_NESTED,  /* header of a message in a message */
};

struct pipe_field {
    enum pipe_class cls;
    bool is_own;           /* in the message's own header, whatever the class */
    struct span text;      /* the whole field; '\n' where it is folded, none at its end */
    size_t name_n;         /* of its name, at the start of text */
};

enum pipe_answer {
    PIPE_KEEP,
    PIPE_REPLACE,  /* by what was put into *out: one field or line, folded with '\n', without a line end */
    PIPE_DROP,
    PIPE_STOP,     /* the message will not be accepted: nothing of it needs to be looked at or written any more */
};

struct content_pipe;
/* A header ended: a part (or the message) of this kind begins. */
struct pipe_part {
    enum mime_type type;
    enum mime_encoding encoding;
    bool is_too_deep;      /* and is not looked into */
    bool has_empty_line;   /* which ended its header; false for what follows a closing boundary */
};

struct pipe_stage {
    void *arg;
    /* Next field, unless an earlier stage dropped it; never NULL. *out is empty. pipe_put_line() writes in front of it. */
    enum pipe_answer (*field)(void *arg, struct content_pipe *p, const struct pipe_field *f, struct buf *out);
    /* Next body line, boundaries included, in pieces of line_bytes; NULL: no interest in the body. */
    enum pipe_answer (*line)(void *arg, struct content_pipe *p, struct span line, struct buf *out);
    /* May be NULL. False as PIPE_STOP. */
    bool (*part)(void *arg, struct content_pipe *p, const struct pipe_part *part);
    bool own_header_only;  /* asks for fields with is_own only */
};
#define PIPE_STAGES_MAX 4

struct pipe_options {
    size_t header_bytes;     /* header_size_limit */
    size_t line_bytes;       /* line_length_limit */
    struct mime_limits mime;
    bool is_mime;            /* false: all behind the message's own header is body (disable_mime_input_processing) */
    struct hdr_names drop;   /* message_drop_headers: left out after the stages have seen them */
    struct pipe_stage stages[PIPE_STAGES_MAX]; /* asked in this order, each sees what the one before made of it */
    unsigned stage_count;
    void (*put)(void *arg, struct span bytes);
    void *arg;
};

struct content_pipe {
    struct pipe_options o;
    struct hdr_scan hdr;      /* of the message's own header as it is written */
    uint8_t state;            /* enum pipe_state */
    uint8_t after_boundary;   /* the state behind this line, when is_boundary */
    bool is_boundary;         /* the line that comes in pieces is one */
    bool at_line_start;
    bool is_stopped;
    bool wants_lines, wants_parts; /* of the stages */
    bool made_8bit, made_long_line, made_dot_line; /* what stages made has such */
    bool is_mid_line;         /* what was written last has no line end yet */
    bool is_known_field;      /* the line that is being put together in a part's header is one */
    bool is_cut;              /* the line, at header_bytes */
    bool is_nested;           /* this header is that of a message in a message */
    struct buf field;         /* header lines of one field, or a body line that is not complete; as they came */
    size_t line_begin;        /* of the last line in field */
    struct buf text;          /* the field with '\n' where it was folded */
    struct buf out[2];        /* what stages made */
    struct mime_stack stack;
    enum mime_type type;      /* of the part whose header or body comes */
    enum mime_encoding encoding;
    bool is_digest;
    struct buf content_type;  /* the field's body */
    struct buf encoding_text; /* that of Content-Transfer-Encoding */
};

/* The arena keeps the Message-ID. */
void pipe_init(struct content_pipe *p, const struct pipe_options *o, struct arena *a);
void pipe_free(struct content_pipe *p);
/* Next bytes, split anywhere. */
void pipe_feed(struct content_pipe *p, struct span bytes);
/* The message's own header is over, all of it has been fed; missing fields may be added now. The empty line comes next. */
void pipe_end_header(struct content_pipe *p);
/* No more comes. */
void pipe_end(struct content_pipe *p);
/* From inside a stage: writes a line in front of the field or line it was given; past all other stages. */
void pipe_put_line(struct content_pipe *p, struct span text);
/* A stage said PIPE_STOP: what was written is worth nothing. */
static inline bool pipe_is_stopped(const struct content_pipe *p) { return p->is_stopped; }
/* Memory that it holds. */
size_t pipe_bytes(const struct content_pipe *p);

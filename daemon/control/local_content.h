/*
 * local_content: a message as a local program wrote it, made into one that can be sent
 *
 * Purpose    line ends become CRLF; header fields that must not leave (message_drop_headers) are dropped, and those that a
 *            message needs and lacks (Date, From, Message-Id and their Resent- forms) are added at the end of the
 *            header; the content flags of queue/msg.h are found on the way
 * Source     cleanup(8), postconf(5) message_drop_headers, header_from_format, undisclosed_recipients_header; RFC 5322 3.6
 * Threads    one owner
 * Limits     LOCAL_HEADER_MAX bytes of header
 */
#pragma once
#include <stdbool.h>
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/span.h"
#include "common/mail/hdr_names.h"
#include "common/mail/headers.h"
#include "policy/pipe.h"
#include "queue/spool.h"

#define LOCAL_HEADER_MAX (4 * 1024 * 1024)

struct local_content_options {
    struct span received;      /* whole Received: field with CRLF, written first */
    struct hdr_names drop_headers; /* message_drop_headers */
    const char *undisclosed;   /* undisclosed_recipients_header, "" for none */
    bool from_is_obsolete;     /* header_from_format */
    struct span sender;        /* envelope sender, complete, internal form; empty: MAILER-DAEMON of origin */
    struct span origin;        /* domain for that */
    struct span full_name;
    struct span message_id;    /* with < >, for a message that has none */
    const char *date;          /* for a message that has none */
    const struct pipe_options *inspect; /* who wants to see the content; put() is ours. NULL or without stages: nobody */
};

/* Where the result goes: false stops the work (the caller knows why). */
typedef bool local_content_sink(void *arg, struct span bytes);

struct local_content {
    struct local_content_options o;
    local_content_sink *sink;
    void *arg;
    struct hdr_scan scan;      /* at the end: of the header as it was written, without our Received */
    struct content_pipe *pipe; /* owned */
    bool is_past_pipe;         /* what we add ourselves is not inspected */
    struct buf line;           /* header line not complete yet */
    struct buf out;
    size_t header_bytes;
    bool in_body, is_dropping, has_failed, is_too_big;
    bool held_cr;              /* a CR at the end of the last piece */
    bool at_line_start;
    size_t line_bytes;
    uint32_t flags;            /* CONTENT_* */
    uint32_t added_flags;      /* of the fields that we added */
};

/* The arena keeps the Message-ID found. */
void local_content_begin(struct local_content *c, const struct local_content_options *o, struct arena *a,
                         local_content_sink *sink, void *arg);
/* False: the sink refused, or the header is too big (is_too_big). */
bool local_content_add(struct local_content *c, struct span bytes) MUST_CHECK;
/* The end of the content; afterwards flags and scan are complete. Releases the buffers in any case. */
bool local_content_end(struct local_content *c) MUST_CHECK;
/* Instead of local_content_end() when the work is given up. */
void local_content_abort(struct local_content *c);

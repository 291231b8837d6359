/*
 * content: turns what a client sends behind DATA or BDAT into stored content
 *
 * Purpose    finds the end of data, removes dot-stuffing, makes every line end CRLF, looks at the header lines, and
 *            notes what later legs must know (CONTENT_*). Pure: reads a run of bytes, calls put(); knows no session.
 * Source     RFC 5321 4.1.1.4, 4.5.2; CVE-2023-51764; smtpd_forbid_bare_newline, cleanup_replace_stray_cr_lf,
 *            message_strip_characters, message_reject_characters, message_drop_headers
 * Threads    one owner at a time
 * Limits     an unfinished header line longer than CONTENT_HEADER_LINE_MAX is passed on in pieces
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/span.h"
#include "common/mail/hdr_names.h"
#include "common/mail/headers.h"

#define CONTENT_HEADER_LINE_MAX 4096 /* the reader's buffer must hold more than this */

struct content_options {
    bool dots;               /* DATA: dot-stuffing and the final dot; false for BDAT */
    bool standard_end_only;  /* only CRLF . CRLF ends the data; otherwise any line with a dot alone */
    bool keep_stray_cr;      /* cleanup_replace_stray_cr_lf = no */
    const bool *strip;       /* [256]: bytes to leave out; NULL: none */
    struct hdr_names drop;   /* message_drop_headers: fields to leave out */
    const bool *reject;      /* [256]: bytes that make the message refused; NULL: none */
    void (*put)(void *arg, struct span bytes);
    /* The header is over: `fields` may still be added with put(). Called once, also for a message without body. */
    void (*header_end)(void *arg);
    void *arg;
};

struct content_scan {
    struct content_options o;
    struct hdr_scan hdr;
    uint32_t flags;          /* CONTENT_* of queue/msg.h */
    uint64_t taken;          /* bytes taken from the client, dots and line ends as sent */
    size_t line_n;           /* bytes of the current line so far, behind a removed dot */
    bool mid_line;           /* the next byte does not begin a line */
    bool in_header;
    bool prev_crlf;          /* the line before ended in CRLF, or there is none */
    bool is_first_line;
    bool is_dropping;        /* this header field is left out */
    bool saw_bare_lf;
    bool saw_rejected;       /* a byte of o.reject came */
};

void content_scan_init(struct content_scan *c, const struct content_options *o, struct arena *a);
/*
 * Takes what it can of p[0..n) and returns how much. What is left (a few bytes, or a header line that has not ended)
 * must come again with more behind it. *ended is set when the end of data was found; what follows it is not taken.
 * Bytes may be changed in place (a stray CR becomes a space).
 */
size_t content_scan_feed(struct content_scan *c, char *p, size_t n, bool *ended);
/* No more will come: takes the rest (p, n as left over), completes the last line, ends the header. */
void content_scan_finish(struct content_scan *c, char *p, size_t n);
/* Any byte over 127 in p[0..n)? */
bool content_has_8bit(const char *p, size_t n);

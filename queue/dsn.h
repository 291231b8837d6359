/*
 * dsn: the text of a notification
 *
 * Purpose    writes one multipart/report message (headers, words for people, delivery-status, the original or its
 *            headers) piece by piece into an own_content; bounce.c decides whether and to whom
 * Source     RFC 3462, 3464, 5965 (structure), 6533 (international forms), 3834 (Auto-Submitted); reference/wire-formats.md 14
 * Threads    any; blocking (reads the original's content)
 * Limits     memory: one buffer of DSN_BUFFER bytes, whatever the size of the original
 */
#pragma once
#include "common/conf/params.h"
#include "queue/bounce.h"
#include "queue/own_content.h"

#define DSN_BUFFER 32768

struct dsn_report {
    struct own_mail own;       /* of the notification */
    const struct params *p;
    enum bounce_kind kind;
    const struct msg *original;
    const struct bounce_rcpt *rcpts;
    size_t count;
    const struct content_view *view; /* the original, or NULL when it cannot be read */
    bool is_utf8;              /* international forms */
    bool is_headers_only;
};

/* False when the writer failed (disk full, I/O). */
bool dsn_write(const struct dsn_report *d, struct own_content *to) MUST_CHECK;
/* Length of the header of a message with its empty line; all of it when there is no body. */
size_t dsn_header_length(struct span content);

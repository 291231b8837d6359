/*
 * smtpreply: the shape of SMTP replies, for the side that writes them and the side that reads them
 *
 * Source     RFC 5321 4.2, RFC 3463 (enhanced status codes), RFC 2034
 * Threads    values; any thread
 */
#pragma once
#include <stdbool.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/span.h"

/* Appends "550 5.1.1 text\r\n"; dsn may be empty. Line feeds in the text make a multi-line reply that repeats code and dsn. */
void smtp_reply_put(struct buf *b, int code, struct span dsn, struct span text);

struct smtp_reply_line {
    int code;           /* 200 to 599 */
    bool more;          /* '-' behind the code */
    struct span dsn;    /* "5.1.1" when the text begins with one of the code's class, else empty */
    struct span text;   /* behind code and dsn */
};
/* One line without its line end. False when it does not begin with three digits in range. */
bool smtp_reply_parse(struct span line, struct smtp_reply_line *out) MUST_CHECK;
/* Length of an enhanced status code ("d.d.d", each part after the first 1 to 3 digits) at the start of s, 0 when there is none. It ends at a blank or the end. */
size_t dsn_code_length(struct span s);

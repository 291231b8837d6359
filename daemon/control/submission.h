/*
 * submission: what sendmail says of a message that a local user hands in
 *
 * Purpose    one form for both ways: the request line on public/submit, and the first line of a file in maildrop/. The
 *            content follows it: content_bytes bytes, lines ended by LF.
 * Source     ours; posthouse-sendmail(1); README.md
 * Threads    any
 * Errors     submission_decode() checks everything: a maildrop file comes from whoever wrote it
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/base/arena.h"
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"
#include "queue/msg.h"

#define SUBMISSION_VERSION 1
#define SUBMISSION_LINE_MAX (1024 * 1024)

struct submission {
    struct span sender;       /* internal form, may lack a domain; empty: null sender */
    struct span full_name;    /* for a From: header that is missing */
    struct span *rcpts;       /* [rcpt_count], internal form, may lack a domain; in the arena */
    size_t rcpt_count;
    uint8_t notify;           /* NOTIFY_* for all recipients */
    enum dsn_ret ret;
    struct span envid;
    bool is_8bitmime, is_smtputf8;
    int64_t time_us;          /* wall clock: when sendmail was called; 0: now */
    uint64_t content_bytes;
};

/* A new reference; the caller adds "op" for a request. */
json_t *submission_encode(const struct submission *s);
/* Texts go to the arena. False with *e when members are missing, of the wrong kind, or not addresses. */
bool submission_decode(const json_t *j, struct arena *a, struct submission *out, struct err *e) MUST_CHECK;

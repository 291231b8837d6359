/*
 * trace_headers: Return-Path, X-Original-To and Delivered-To, which delivery agents put in front of a message
 *
 * Purpose    builds them for one recipient, and finds a Delivered-To that says the message was here before
 * Source     virtual(8), pipe(8) and smtp(8) flags=DORX; postconf(5) enable_original_recipient
 * Threads    values; any thread
 */
#pragma once
#include <stdbool.h>
#include "common/base/buf.h"
#include "queue/msg.h"

enum { /* flags= of master.cf */
    COPY_DELIVERED_TO = 1 << 0, /* D */
    COPY_ORIGINAL_TO  = 1 << 1, /* O */
    COPY_RETURN_PATH  = 1 << 2, /* R */
    COPY_FINAL        = 1 << 3, /* X: no header; success notices say "delivered" */
};

/* The letters of a "flags=" argument; unknown ones are ignored. argv is NULL-terminated and may be NULL. */
unsigned copy_flags_of(const char *const *argv);
/* Appends the headers of `flags`, each line ended with eol. */
void trace_headers_add(struct buf *b, unsigned flags, const struct envelope *env, const struct msg_rcpt *rcpt, const char *eol);
/* The header of content has a Delivered-To with this address (ASCII case ignored). */
bool trace_headers_has_delivered_to(struct span content, struct span addr);

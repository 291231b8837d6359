/*
 * net_answer: what a socketmap, tcp or memcache server said
 *
 * Purpose    the parsers, apart from sockets
 * Source     socketmap_table(5); tcp_table(5); the text protocol of memcached (doc/protocol.txt)
 * Threads    values; any thread
 * Errors     NET_GARBAGE with *e: this is no answer; NET_TEMPORARY with *e: the server's own failure
 */
#pragma once
#include <stdbool.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/span.h"

enum net_answer { NET_FOUND, NET_NONE, NET_TEMPORARY, NET_GARBAGE };

/* The digits in front of a netstring's colon: *more when there may be others to come. False: it is no netstring, or too long. */
bool netstring_length(struct span head, size_t max, size_t *length, bool *more) MUST_CHECK;
/* The inside of the netstring; *value borrows. */
enum net_answer socketmap_answer(struct span reply, struct span *value, struct err *e) MUST_CHECK;

/* Appends the key with %XX for what may not stand in a line. */
void tcp_table_encode(struct span key, struct buf *out);
/* One line without its LF; the decoded text is appended to *value. */
enum net_answer tcp_table_answer(struct span line, struct buf *value, struct err *e) MUST_CHECK;

/* The first line of an answer to "get KEY": NET_FOUND with the length of the data, or NET_NONE ("END"). */
enum net_answer memcache_answer(struct span line, struct span key, size_t max, size_t *length, struct err *e) MUST_CHECK;
/* A key that the protocol can carry: no white space or control characters, at most 250 bytes. */
bool memcache_key_is_good(struct span key);

/*
 * dial: connects, within a deadline
 *
 * Purpose    one call from an address to a connected, blocking socket with CLOEXEC, and TCP_NODELAY for TCP
 * Source     ours; postconf(5) smtp_bind_address
 * Threads    any; blocks
 * Ownership  the caller owns the descriptor. SO_SNDTIMEO is left set: give it to a stream, which sets its own.
 * Errors     e->sys is the errno of the failing call; ETIMEDOUT at the deadline
 */
#pragma once
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"
#include "common/net/ipaddr.h"

/* bind_to: NULL, or the local address (port 0). -1 with *e ("Connection refused", ... without naming the peer). */
int dial_tcp(const struct ip_addr *a, uint16_t port, const struct ip_addr *bind_to, int64_t deadline_ms,
             struct err *e) MUST_CHECK;
int dial_unix(struct span path, int64_t deadline_ms, struct err *e) MUST_CHECK;

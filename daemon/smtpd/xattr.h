/*
 * xattr: the attribute lists of XCLIENT and XFORWARD
 *
 * Purpose    "NAME=spike.example ADDR=IPV6:2001:db8::1 ..." into checked values; says what the client is told when a value
 *            is wrong. What the values do is cmd_xclient.c's and cmd_xforward.c's matter.
 * Source     XCLIENT_README, XFORWARD_README; RFC 3461 4 (xtext); reference/wire-formats.md section 4
 * Threads    pure
 * Ownership  results borrow from the arguments and the arena
 * Limits     XATTR_VALUE_MAX bytes a value, as sent
 */
#pragma once
#include <stdbool.h>
#include "common/base/arena.h"
#include "common/net/ipaddr.h"

#define XATTR_VALUE_MAX 255
#define XATTR_PROTO_MAX 64

enum xattr_verb { XATTR_XCLIENT, XATTR_XFORWARD };
enum xattr_id {
    XATTR_NAME, XATTR_ADDR, XATTR_PORT, XATTR_PROTO, XATTR_HELO,
    XATTR_REVERSE_NAME, XATTR_LOGIN, XATTR_DESTADDR, XATTR_DESTPORT, /* XCLIENT only */
    XATTR_IDENT, XATTR_SOURCE,                                       /* XFORWARD only */
    XATTR_COUNT
};

struct xattrs {
    unsigned given;                /* 1 << enum xattr_id */
    unsigned tempunavail;          /* of NAME and REVERSE_NAME */
    struct span text[XATTR_COUNT]; /* fit for a header or log line; empty: [UNAVAILABLE] or [TEMPUNAVAIL] */
    struct ip_addr addr[2];        /* of ADDR and DESTADDR */
    uint16_t port[2];              /* of PORT and DESTPORT; 0: not available, or no port */
};

static inline bool xattr_has(const struct xattrs *x, enum xattr_id id) { return (x->given & 1u << id) != 0; }

/* Which IP versions inet_protocols has: addresses of another are wrong. */
struct xattr_rules {
    enum xattr_verb verb;
    bool has_v4, has_v6;
};
/* False: *why (in the arena) is the text behind "501 5.5.4 "; *out is then of no use. */
bool xattr_parse(const struct xattr_rules *rules, struct span args, struct arena *a, struct xattrs *out, struct span *why) MUST_CHECK;

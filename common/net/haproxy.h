/*
 * haproxy: the header of the PROXY protocol, versions 1 and 2
 *
 * Purpose    a proxy in front tells with the first bytes of a connection who is behind it. haproxy_parse() looks at what is
 *            there so far; the caller reads no further than it says, because what follows belongs to SMTP or TLS.
 * Source     HAProxy, "The PROXY protocol", 2.1 and 2.2; reference/wire-formats.md section 5
 * Threads    pure
 * Limits     version 1: HAPROXY_V1_MAX bytes. Version 2: HAPROXY_V2_HEAD bytes are looked at, further addresses of unknown kinds
 *            and TLVs (up to 65,535 bytes) are counted, to be thrown away unread.
 */
#pragma once
#include <stdbool.h>
#include "common/net/ipaddr.h"

#define HAPROXY_V1_MAX 107
#define HAPROXY_V2_HEAD 52 /* signature, command, family, length, two IPv6 addresses, two ports */

enum haproxy_status {
    HAPROXY_OK,
    HAPROXY_MORE, /* the beginning of a header, or nothing yet */
    HAPROXY_NONE, /* something else, from its first bytes on */
    HAPROXY_BAD,  /* a header with a fault */
};
enum haproxy_kind {
    HAPROXY_CLIENT,  /* src and dst are those of the client */
    HAPROXY_LOCAL,   /* the proxy speaks for itself (version 2) */
    HAPROXY_UNKNOWN, /* it cannot say for whom: v1 UNKNOWN, v2 without or with other than TCP addresses */
};

struct haproxy_header {
    enum haproxy_kind kind;
    struct ip_addr src, dst;
    uint16_t src_port, dst_port;
    size_t bytes; /* of `in` that belong to the header */
    size_t more;  /* behind them, to be thrown away */
};

/* OK fills *out; BAD sets *why, a text of ours. MORE: no byte of `in` is behind the header. */
enum haproxy_status haproxy_parse(struct span in, struct haproxy_header *out, const char **why) MUST_CHECK;

/*
 * conn: one connection of the SMTP and LMTP client, from connect to QUIT
 *
 * Purpose    the stream with what was learned about the peer: names for the log, what its EHLO offered, how often it
 *            was used. Outlives a delivery: it is handed from job to job and parked in conn_cache.
 * Source     smtp(8); RFC 5321, RFC 2033
 * Threads    one owner at a time: a delivery thread, or the cache
 * Ownership  conn_close() ends it; the stream owns the socket
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/mail/transcript.h"
#include "common/net/ipaddr.h"
#include "common/net/stream.h"
#include "daemon/smtp/conn_cache.h"

enum { /* struct smtp_conn.features: what the answer to EHLO or LHLO offered, discarded keywords left out */
    FEAT_ESMTP      = 1 << 0,
    FEAT_PIPELINING = 1 << 1,
    FEAT_SIZE       = 1 << 2,
    FEAT_8BITMIME   = 1 << 3,
    FEAT_DSN        = 1 << 4,
    FEAT_SMTPUTF8   = 1 << 5,
    FEAT_CHUNKING   = 1 << 6,
    FEAT_XFORWARD_NAME  = 1 << 7,
    FEAT_XFORWARD_ADDR  = 1 << 8,
    FEAT_XFORWARD_PORT  = 1 << 9,
    FEAT_XFORWARD_PROTO = 1 << 10,
    FEAT_XFORWARD_HELO  = 1 << 11,
    FEAT_XFORWARD_IDENT = 1 << 12,
    FEAT_XFORWARD_SOURCE = 1 << 13,
    FEAT_PIX_DELAY  = 1 << 14, /* behind a firewall that needs a pause before the final dot */
};

struct smtp_conn {
    struct stream *stream;   /* owned */
    bool is_lmtp;
    bool needs_rset;         /* a transaction was left open */
    bool is_broken;          /* lost, timed out or out of step: no QUIT */
    bool skip_quit_response;
    uint32_t features;
    uint64_t size_limit;     /* of the SIZE keyword, 0: none given */
    int64_t opened_ms;
    int64_t quit_timeout_ms;
    unsigned use_count;      /* transactions begun */
    char *host;              /* owned: name of the peer; our own for a unix socket */
    char *addr;              /* owned: its address, or path */
    char *namaddr;           /* owned: "host[addr]", for texts */
    char *relay;             /* owned: "host[addr]:port", for relay= */
    char *key[2];            /* owned: by enum conn_key_kind */
    struct buf reply;        /* text of a reply of several lines */
    struct buf line;         /* a command being put together */
    struct transcript *transcript; /* borrowed from the request that has the connection, or NULL: nobody wants one */
    /* conn_cache's while parked */
    int64_t expiry_ms;
    uint64_t hash[2];
};

/* Takes the stream; copies host. addr is the text between the brackets; port 0: a unix socket, not shown. */
struct smtp_conn *conn_new(struct stream *stream, const char *host, const char *addr, uint16_t port, bool is_lmtp);
/* Adds a command with its line end to the output. */
void conn_put(struct smtp_conn *c, struct span line);
/* Says QUIT unless broken, waits for its answer when `wait` and the peer's settings ask for it, frees, sets NULL. */
void conn_close(struct smtp_conn **c, bool wait);

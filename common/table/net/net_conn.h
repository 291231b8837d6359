/*
 * net_conn: one connection to a server that speaks a small text protocol
 *
 * Threads    one at a time
 * Errors     false with *e (its sys is ETIMEDOUT at the deadline); the connection is then of no use
 */
#pragma once
#include "common/base/buf.h"
#include "common/net/endpoint.h"
#include "common/net/pool.h"
#include "common/net/stream.h"

struct net_conn {
    struct stream *s;  /* owned */
    struct buf in;     /* owned; what was read and not yet taken */
};

/* For struct pool_ops; the pool's arg is the struct endpoint. */
void *net_conn_open(void *arg, size_t host, int64_t deadline_ms, struct err *e);
void net_conn_close(void *arg, void *conn);
bool net_conn_is_fit(void *arg, void *conn);
extern const struct pool_ops net_conn_ops;

/* Forgets what a former answer left, sends. */
bool net_conn_send(struct net_conn *c, struct span bytes, int64_t deadline_ms, struct err *e) MUST_CHECK;
/* Reads until `in` holds n bytes. */
bool net_conn_need(struct net_conn *c, size_t n, struct err *e) MUST_CHECK;
/* Reads until `in` holds a whole line; its length without the LF in *n. Longer than max: false. */
bool net_conn_need_line(struct net_conn *c, size_t max, size_t *n, struct err *e) MUST_CHECK;

/*
 * pool: a few connections to one server, or to one of several equal servers, that any thread may use
 *
 * Purpose    keeps connections for the next question, opens new ones, passes over servers that failed a moment ago, and
 *            gives up at a deadline. What is said over a connection, and what one is, is the user's business.
 * Source     ours; mysql_table(5) and pgsql_table(5) for the order of hosts, retry and idle intervals
 * Threads    pool_run(): any, blocks until the deadline at most. The rest: one thread, before or after all use.
 * Locks      CONN_POOL (65) guards idle connections, counts and the state of hosts; not held while anything is opened, used
 *            or closed
 * Errors     false with *e: the last failure
 * Limits     max_open connections are in use at a time, others wait for their turn
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"

struct pool;

enum pool_use {
    POOL_DONE,     /* answered: the connection is as good as before */
    POOL_BROKEN,   /* the connection is of no use; another attempt may succeed */
    POOL_SPOILED,  /* answered, or never to be answered; the connection is of no use */
};

struct pool_ops {
    /* NULL with *e. A failure whose e->sys is ETIMEDOUT keeps others from waiting for the same host for a while. */
    void *(*open)(void *arg, size_t host, int64_t deadline_ms, struct err *e);
    void (*close)(void *arg, void *conn);
    bool (*is_fit)(void *arg, void *conn); /* may an idle one be used again? NULL: yes */
};

struct pool_options {
    const struct pool_ops *ops;
    void *arg;             /* borrowed for life */
    size_t hosts;
    size_t hosts_first;    /* so many of them are tried before the others, in random order; 0: all are equal */
    size_t max_open;
    size_t attempts;       /* with fresh connections, if those break while in use; at least 1 */
    int64_t pause_ms;      /* before each further attempt */
    int64_t attempt_ms;    /* time limit of one attempt; 0: only the caller's deadline */
    int64_t max_idle_ms, max_ttl_ms;
    int64_t retry_ms;      /* of several hosts one that failed is passed over so long */
};

struct pool *pool_new(const struct pool_options *o);
/* Closes what is idle; nothing may be in use. Sets *p to NULL; NULL is fine. */
void pool_free(struct pool **p);

typedef enum pool_use pool_use_fn(void *arg, void *conn, int64_t deadline_ms, struct err *e);
/*
 * Calls use() with a connection, more than once when connections break. True unless every attempt failed. *e: what use() or
 * open() said last, if anything.
 */
bool pool_run(struct pool *p, pool_use_fn *use, void *arg, int64_t deadline_ms, struct err *e) MUST_CHECK;

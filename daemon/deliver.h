/*
 * deliver: the delivery threads and what they run
 *
 * Purpose    a pool of threads; each takes a job from the scheduler and gives it to the agent of its transport, which
 *            reports every recipient and leaves. Agents are plain blocking code with deadlines.
 * Source     DESIGN "Threads", "Delivery"
 * Threads    deliver_pool_wake(): any. Agents: on a delivery thread.
 */
#pragma once
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/dns/dns.h"
#include "queue/sched.h"

struct notice;
struct notices;

/* What all delivery threads share. */
struct deliver_env {
    struct sched *sched;
    struct spool *spool;
    struct dns *dns;
    const struct log_src *log;      /* name = syslog_name; agents use their own prog */
    struct conn_cache *conn_cache;  /* parked SMTP/LMTP connections, daemon/smtp/conn_cache.h */
    struct notices *notices;        /* queue/notice.h; NULL: nobody is told of anything */
    void (*notice)(void *notices, const struct notice *x);              /* of a delivery; NULL: as above */
    void (*trouble)(void *notices, const char *what, const char *text); /* NULL: as above */
    struct deliver_tables *tables;  /* mailbox, uid and gid maps, daemon/deliver/tables.h */
};

/*
 * Delivers one job completely: each recipient is reported (sched_report*) and the job finished (sched_finish). An smtp or
 * lmtp agent goes on with sched_next(hint) on the connection it holds before it returns.
 */
typedef void deliver_fn(struct deliver_env *env, struct job *j);

deliver_fn deliver_smtp;     /* commands "smtp" and "lmtp": daemon/smtp/ */
deliver_fn deliver_virtual;  /* Maildir: daemon/deliver/virtual.c */
deliver_fn deliver_error;    /* error(8): bounces with the next hop as text */
deliver_fn deliver_retry;    /* the same as a deferral */
deliver_fn deliver_discard;  /* discard(8) */

/* The agent of a transport by its command name, or NULL. */
deliver_fn *deliver_agent(const char *command);

struct deliver_pool;
/* At most `threads` (delivery_threads); started on demand, they end after an idle time. */
struct deliver_pool *deliver_pool_new(const struct deliver_env *env, unsigned threads, struct err *e) MUST_CHECK;
/* sched_options.wake: wakes up to `count` idle threads, newest first, starting new ones within the limit. */
void deliver_pool_wake(void *pool, unsigned count);
/* No new jobs; waits for running ones until the deadline. True when all ended. */
bool deliver_pool_stop(struct deliver_pool *p, int64_t deadline_ms);
void deliver_pool_free(struct deliver_pool **p);

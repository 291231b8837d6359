/*
 * sched_bench: a scheduler on a fake spool, with a log that can be read, for tests
 *
 * Purpose    builds configuration, scheduler and messages; the test plays the delivery threads and, in place of the
 *            scheduler thread, calls sched_run_once()
 */
#pragma once
#include "fake_spool.h"
#include "queue/sched_internal.h"

struct bench {
    struct spool *spool;
    struct sched *sched;
    struct conf *conf;
    struct log *log;
    struct log_src src;
    char log_path[64];
    _Atomic unsigned wakes;
    _Atomic unsigned resolved;
    _Atomic bool may_wait;                                      /* what sched_options.may_wait answers */
    bool (*look_up)(struct bench *b, struct conf *c, struct msg_rcpt *r, struct arena *a); /* before the usual; true: it has the answer */
    void *look_up_arg;
    int resolve_status; /* what the resolver answers */
    const char *resolve_why;
};

#define BENCH_MAIN "myhostname = hub.example.com\nmydomain = example.com\nmyorigin = example.com\nmydestination =\n" \
                   "queue_run_delay = 300s\nminimal_backoff_time = 300s\nmaximal_backoff_time = 4000s\n" \
                   "mynetworks = 127.0.0.0/8\ninet_interfaces = loopback-only\n"
#define BENCH_MASTER "smtp unix - - n - - smtp\nrelay unix - - n - - smtp -o syslog_name=posthouse/relay\n" \
                     "lmtp unix - - n - - lmtp\nvirtual unix - - n - - virtual\nretry unix - - n - - error\nerror unix - - n - - error\n"

/* More main.cf lines, and a master.cf or NULL for BENCH_MASTER. */
struct bench *bench_new(const char *more_main_cf, const char *master_cf);
void bench_free(struct bench **b);
struct conf *bench_conf(const char *more_main_cf, const char *master_cf);
/* A message with content and no recipients; one reference. Id from the spool. */
struct msg *bench_msg(struct bench *b, const char *sender);
struct msg_rcpt *bench_rcpt(struct msg *m, const char *addr, const char *transport, const char *nexthop);
/* One recipient, committed; returns its id. */
uint64_t bench_send(struct bench *b, const char *sender, const char *addr, const char *transport, const char *nexthop);
/* Where a message can be when an administrator comes. */
enum bench_place { QUEUED, BUSY, WAITING, IN_INDEX };
const char *bench_place_name(enum bench_place p);
/* A message in that place; *j is its job when it is busy. */
uint64_t bench_put(struct bench *b, enum bench_place p, struct job **j);
/* Commits and drops the reference. */
uint64_t bench_commit(struct bench *b, struct msg *m);
/* The next job, or NULL. */
struct job *bench_next(struct bench *b);
struct delivery_result bench_result(enum outcome o);
/* Reports all recipients and finishes. */
void bench_finish(struct bench *b, struct job **j, enum outcome o, enum site_verdict v);
/* Everything that wants to run runs, index and commits included. */
void bench_run(struct bench *b);
/* Both clocks go on. */
void bench_advance(struct bench *b, int64_t ms);
/* Text of the log so far; free(). */
char *bench_log(struct bench *b);
unsigned bench_log_count(struct bench *b, const char *text);

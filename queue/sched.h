/*
 * sched: what is tried when, how often at once, and what becomes of it
 *
 * Purpose    keeps the active messages, a queue per transport and destination with a concurrency window, hands jobs
 *            to delivery threads, takes their results, computes retry times, sends bounces and warnings through
 *            bounce.h, and feeds the index.
 * Source     DESIGN "Delivery", "Threads"; qmgr(8) parameters of postconf(5); SCHEDULER_README of Postfix for the meaning
 * Threads    sched_committed(): committer. sched_next()/sched_report(): delivery threads. Commands: control thread.
 *            The scheduler thread does what has a time: retries, fetching due rows, warnings, expiry, index flushes,
 *            routes of recovered messages. State is guarded by SCHED_INBOX's lock (rank 30), short sections, no I/O
 *            inside; there is no hop through the scheduler thread on the path of a message.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/conf/conf.h"
#include "queue/own_rcpts.h"
#include "queue/pauses.h"
#include "queue/rates.h"
#include "queue/spool.h"

/* What delivers: one conversation's worth of one message. Belongs to the delivery thread until sched_finish(). */
struct job_rcpt {
    uint32_t index;             /* into msg->env.rcpts */
    bool reported;
};
struct job;
struct delivery_result;
/*
 * A job that the scheduler has not made: it asks whether its one recipient could be delivered to, and nothing is. The agent goes as
 * far as it can without delivering, and reports; result and end do not concern the scheduler.
 */
struct job_probe {
    void (*report)(struct job *j, const struct delivery_result *r); /* spans borrowed during the call */
    void *arg;
};
struct job {
    struct msg *msg;            /* counted */
    struct conf *conf;          /* counted: the snapshot this job was made with */
    const struct conf_service *transport;
    struct span nexthop;        /* valid while the job is */
    uint32_t rcpt_count;
    struct job_rcpt *rcpts;
    int64_t active_us, taken_us; /* wall: entered the active queue; given to the delivery thread (delays=) */
    void *sched_private;
    const struct job_probe *probe; /* NULL: to be delivered */
};

/* A result in the words of the delivery agent; spans borrowed during the call. */
struct delivery_result {
    enum outcome outcome;       /* SENT, DEFERRED or BOUNCED; the scheduler turns the last into deferral under soft_bounce, and an old deferral into EXPIRED */
    struct span dsn;            /* "2.0.0" */
    struct span relay;          /* for the log: "host[addr]:port", "none", "virtual" */
    struct span reason;         /* for log, queue listing, bounce: "250 2.0.0 Ok: queued as X" */
    struct span remote_mta;     /* host name, "" when none */
    struct span diagnostic;     /* SMTP reply for Diagnostic-Code, "" when the words are ours */
    int64_t conn_us, xfer_us;   /* c and d of delays= : connection set-up, transmission */
    unsigned conn_use;          /* > 1: connection reuse count for the log */
    bool retry_alone;           /* DEFERRED: this recipient may be what ends the conversation; its next jobs have no other */
    /* For SENT, RFC 3461 6.2; neither: the next hop does DSN and took over NOTIFY. */
    bool is_final_delivery;     /* delivered to the mailbox (virtual, lmtp, discard): NOTIFY=SUCCESS is answered "delivered" */
    bool is_dsn_relayed;        /* the next hop does not offer DSN: NOTIFY=SUCCESS is answered "relayed" */
};

/* How the destination fared as a whole; drives the concurrency window and dead-site back-off. */
enum site_verdict {
    SITE_OK,          /* it talked to us and took or refused mail for its own reasons */
    SITE_UNAVAILABLE, /* could not connect, or refused before the first recipient: counts as a failed cohort */
    SITE_NEUTRAL,     /* no conversation took place (error:, discard:, DNS permanent failure) */
};

struct sched_options {
    struct spool *spool;
    struct conf *conf;          /* first snapshot; the scheduler takes its own reference */
    const struct log_src *log;  /* program name "qmgr" */
    /*
     * Resolves one recipient under snapshot c: fills route (copies into the arena) and may rewrite. 0 found; -1 temporary
     * failure (why filled; the recipient is deferred with 4.3.0 or as dsn says); 1 permanent failure (bounced with dsn/why).
     * filter: the message's content filter, which goes before all other routing.
     */
    int (*resolve)(void *arg, struct conf *c, struct span sender, struct span filter, struct msg_rcpt *r, struct arena *a, struct span *dsn, struct span *why);
    void *resolve_arg;
    /*
     * Under this snapshot resolve() or own may wait for a server. Then they are called on threads of their own, several at a time, so
     * that neither the scheduler nor mail for other domains waits. NULL: never.
     */
    bool (*may_wait)(void *arg, struct conf *c);
    struct own_policy own;      /* for the notifications that it sends; called with no lock held */
    /* Called with no lock held when jobs became available and idle delivery threads should look: count = how many new ones may start. */
    void (*wake)(void *arg, unsigned count);
    void *wake_arg;
    const char *pauses_path;    /* file of what is paused (pauses.h), read at once; NULL: none is kept. Borrowed during sched_new(). */
};

struct sched;
struct sched *sched_new(const struct sched_options *o, struct err *e) MUST_CHECK;
int sched_start(struct sched *s) MUST_CHECK; /* errno */
/* Gives out no more jobs; those that are out go on. Before the delivery threads are waited for. */
void sched_end_jobs(struct sched *s);
/*
 * The thread ends after a last index flush. Delivery threads and control threads must have finished. False: a look-up does not end;
 * its thread is left behind, and nothing that it may touch can be freed.
 */
bool sched_stop(struct sched *s);
void sched_free(struct sched **s);
/* spool_sink.committed */
void sched_committed(void *arg, struct msg *m);
/* A new snapshot: limits and routes of what is queued follow it; running jobs keep theirs. */
void sched_reconfigure(struct sched *s, struct conf *c);

/* ---- delivery threads ---- */
/*
 * The next job, or NULL when nothing may start now (the thread then waits for its pool's wake-up). With hint != NULL the
 * job must be for the same transport and next hop as *hint (same conf generation): for the connection the thread holds.
 * Of *hint only conf, transport and nexthop are read: it is a copy made before the last job was finished, so that the
 * place of that job in the destination's window is free again when the next one is asked for.
 */
struct job *sched_next(struct sched *s, const struct job *hint);
/*
 * Reports one recipient: writes the result record, logs the delivery line (tag of the transport), updates state,
 * bounces when it must. May be called from the delivery thread only, once per recipient. LMTP calls it as replies come.
 */
void sched_report(struct sched *s, struct job *j, uint32_t job_rcpt, const struct delivery_result *r);
/* The same result for all recipients not yet reported, in one result record write. */
void sched_report_all(struct sched *s, struct job *j, const struct delivery_result *r);
/*
 * sched_finish() and sched_next() for the same destination in one step: what a kept connection wants. The slot that *j held
 * goes to the new job, no copy of the old one is needed. NULL when nothing may start there.
 */
struct job *sched_finish_next(struct sched *s, struct job **j, enum site_verdict v);
/* Ends the job (all recipients reported; those that were not are retried soon), adjusts the window, frees it, sets NULL. */
void sched_finish(struct sched *s, struct job **j, enum site_verdict v);

/* The delivery line for a probe: status=deliverable or undeliverable, as `status` says. */
void sched_log_probe(struct sched *s, const struct job *j, const struct delivery_result *r, const char *status);

/* ---- commands (control thread); they work on memory and index alike ---- */
enum sched_cmd_status { SCHED_CMD_OK, SCHED_CMD_NOT_FOUND, SCHED_CMD_BUSY, SCHED_CMD_FAILED };
/* Everything now (queue flush), or one message, or one next hop: due time becomes now, dead-site marks are cleared. */
void sched_flush_all(struct sched *s);
enum sched_cmd_status sched_flush_id(struct sched *s, uint64_t id);
void sched_flush_many(struct sched *s, const uint64_t *ids, size_t n, enum sched_cmd_status *out);
void sched_flush_nexthop(struct sched *s, struct span nexthop);
struct sched_change {
    enum spool_admin what;
    /*
     * ADMIN_READDRESS: the recipients that wait with address `from` get `to`; "@domain" in both: everybody of that domain, with
     * their local parts. Those that are done stay as they are.
     */
    struct span from, to;
};
#define SCHED_CHANGE_MAX 1000
/*
 * The same change of up to SCHED_CHANGE_MAX messages, durable (one flush or few for all) and in force when it returns; out[i]
 * is what became of ids[i]. A deletion of what is in delivery takes effect after the attempt: BUSY. A recipient in delivery is not
 * readdressed: BUSY, and nothing of that message is changed. UNDELETE: NOT_FOUND when it was not deleted, or too long ago.
 * FAILED: *e has the reason.
 */
void sched_change(struct sched *s, const struct sched_change *c, const uint64_t *ids, size_t n, enum sched_cmd_status *out,
                  struct err *e);
/* Of one message. */
enum sched_cmd_status sched_admin(struct sched *s, enum spool_admin what, uint64_t id, struct err *e);

/*
 * Brings index.db up to date: when it returns true, every message that was accepted and every change that was made before the
 * call can be seen by a query begun afterwards (queue/query.h). What is delivered or arrives meanwhile may or may not be.
 * Control threads; waits for a flush (milliseconds, or longer after a burst). False with *e: rows may be old.
 */
bool sched_index_sync(struct sched *s, struct err *e) MUST_CHECK;
/*
 * When that fails: every message in memory, which is all that its rows may not have. m as its row would be (borrowed until fn
 * returns; ENV_HOLD: on hold), NULL when it is over; deleted_us: since when it is among the deleted, else 0.
 */
void sched_each_in_memory(struct sched *s, bool (*fn)(void *arg, uint64_t id, struct msg *m, int64_t deleted_us), void *arg);

/*
 * No attempts for a next hop, or by a transport, until it is resumed: mail is accepted and waits, nothing else is held up. Kept
 * over restarts. BUSY: it is paused already; NOT_FOUND: it is not paused; FAILED: *e.
 */
enum sched_cmd_status sched_pause(struct sched *s, enum pause_kind k, struct span name, struct err *e);
enum sched_cmd_status sched_resume(struct sched *s, enum pause_kind k, struct span name, struct err *e);
void sched_each_pause(struct sched *s, void (*fn)(void *arg, const struct pause *p), void *arg);

enum sched_where { SCHED_ACTIVE, SCHED_DEFERRED, SCHED_HOLD, SCHED_INCOMING };
/* Calls fn for every queued message, memory and index, one by one, no lock held during the call, m valid during it. Stops when fn returns false. */
void sched_list(struct sched *s, bool (*fn)(void *arg, struct msg *m, enum sched_where w), void *arg);
/* The message with its current progress (a snapshot copy), one reference; NULL when not queued. */
struct msg *sched_find(struct sched *s, uint64_t id, enum sched_where *w);
/* The queued message itself, one reference, for content_acquire(); its progress must not be read. NULL when not queued. */
struct msg *sched_ref(struct sched *s, uint64_t id);

/* What came in and went out in the last window_ms, or since the start if that is later; returns over how many ms that was. */
int64_t sched_rates(struct sched *s, int64_t window_ms, uint64_t out[RATE_COUNT]);

/* Why a recipient is not being delivered now. */
struct sched_wait {
    const char *why;     /* a word: back-off, hold, paused, dead-site, rate-delay, concurrency, ... */
    char text[400];      /* the same for people */
    int64_t until_us;    /* wall clock, 0: not known */
};
/* For each recipient of a message that sched_find() gave, with its *w. */
void sched_explain(struct sched *s, const struct msg *m, enum sched_where where, struct sched_wait *out);
/* Ids of what is active now; free(). Not sorted. */
uint64_t *sched_active_ids(struct sched *s, size_t *n);

struct sched_counts { uint64_t active, deferred, hold, in_delivery, jobs_waiting; };
struct sched_counts sched_counts(struct sched *s);
/* True when nothing is in delivery (drain at stop). */
bool sched_is_idle(struct sched *s);

/*
 * sched_internal: the scheduler's data, for its own files and tests
 *
 * Threads    everything in struct sched below `m` is guarded by it unless it says "thread": then only the scheduler
 *            thread (or sched_run_once() in a test) touches it
 *
 * A message here is a struct msg_sched. Its recipients are each in one of these places:
 *
 *   idle      RCPT_TODO, waits for its time (the message is in `due`, or on hold)
 *   queued    RCPT_TODO, in a struct entry: the recipients of one message that wait for one destination
 *   busy      RCPT_BUSY, in a struct sjob that a delivery thread has
 *   pending   RCPT_BUSY, failed for good; the notification to the sender is on its way to the spool
 *   done      RCPT_DONE
 *
 * A message with anything queued, busy, pending, or in the inbox of the scheduler thread is active. The active ones
 * are limited; the others are dropped from memory as soon as the index has them.
 *
 * A destination is fair to senders: it holds a ring of flows, one per sender, each with the entries of that sender's
 * messages in order of arrival. A job is taken from the first entry of the first flow; then the flow goes to the end of
 * the ring, and an entry that has recipients left goes to the end of its flow. So a mailing of 100,000 messages, or one
 * to 10,000 recipients, costs every other sender one job of delay at a time. Destinations take turns within a transport,
 * transports among themselves. All of these are linked lists: choosing the next job does not look at any other.
 */
#pragma once
#include <pthread.h>
#include <utlist.h>
#include "common/base/hash.h"
#include "common/base/lock.h"
#include "queue/bounce.h"
#include "queue/concurrency.h"
#include "queue/index.h"
#include "queue/pauses.h"
#include "queue/rates.h"
#include "queue/retry.h"
#include "queue/sched.h"
#include "queue/sched_heap.h"

#define SCHED_PIECE        256      /* recipients or messages handled in one lock section */
#define SCHED_RETRY_SOON_US (INT64_C(10) * 1000000) /* recipients that an agent did not report */
#define SCHED_KEEP_US      (INT64_C(10) * 1000000)  /* due sooner than this: not worth dropping from memory */
#define SCHED_IDLE_DESTS   2000     /* destinations remembered without mail, for their windows */
#define SCHED_IDLE_MS      300000   /* a window unused for longer is forgotten */
#define SCHED_PARKED_MANY  50000    /* parked messages: beyond, no more rows are fetched, and new ones get theirs before their time */
#define SCHED_DIRTY_MANY   4096     /* changed messages that make an index flush worthwhile before its time */

struct entry {
    struct entry *prev, *next;       /* in its flow, or in sched.suspended */
    struct entry *ms_prev, *ms_next; /* in its message */
    struct msg_sched *ms;
    struct dest *dest;               /* NULL in sched.suspended when the transport is missing */
    struct flow *flow;               /* NULL in sched.suspended */
    uint32_t first, last, count;     /* recipients, chained by rcpt_x.next */
    uint8_t why;                     /* enum suspend_why, in sched.suspended */
};

enum suspend_why { SUSPEND_DEAD, SUSPEND_DEFER_TRANSPORTS, SUSPEND_NO_TRANSPORT };

struct flow_key {
    struct dest *dest;
    uint64_t sender; /* hash of the address */
};
struct flow {
    UT_hash_handle hh;      /* sched.flows, unless it is dest.own */
    struct flow *prev, *next; /* dest.flows, while it has entries */
    struct flow *h_prev, *h_next; /* sched.hungry */
    struct flow_key key;
    struct entry *entries;  /* DL */
    struct parked *parked;  /* DL: behind the entries, in order */
    uint32_t count;         /* entries */
    bool is_in_ring, is_hungry;
    int64_t not_before_ms;  /* parked ones could not be read */
};

/* A message that waits behind others of its flow; see sched_park.c. */
struct parked {
    UT_hash_handle hh;              /* sched.parked */
    struct parked *prev, *next;     /* flow.parked */
    struct parked *u_prev, *u_next; /* sched.unwritten */
    struct flow *flow;
    uint64_t id;
    struct journal_pos pos;         /* as committed or fetched */
    int64_t received_ms, due_us;
    uint32_t gen, epoch;            /* configuration of its route; epoch of its commit */
    bool is_fresh;                  /* never tried: the journal has all there is */
    bool is_unwritten, is_flushing, in_index;
};

struct dest {
    UT_hash_handle hh;          /* transport.dests by key */
    struct dest *prev, *next;   /* transport.ready or sched.idle_dests */
    struct dest *drain_prev, *drain_next; /* sched.draining */
    struct transport *transport;
    struct window window;
    uint32_t busy, entries, suspended; /* jobs; entries in flows; entries in sched.suspended */
    uint32_t parked, hungry;    /* parked messages; flows in sched.hungry */
    struct flow *flows;         /* DL, used as a ring */
    struct flow own;            /* the first flow needs no memory of its own */
    uint32_t other_flows;       /* in sched.flows */
    bool is_own_used, is_ready, is_idle, is_draining, is_paused;
    struct heap_item timer;     /* sched.dest_timers: end of death, or rate delay */
    int64_t not_before_ms;      /* rate delay */
    int64_t idle_since_ms;
    char *dead_dsn, *dead_reason, *dead_mta; /* owned; set while the window is dead */
    struct entry *building;     /* the entry of the message being enqueued */
    struct span nexthop;        /* tail of key */
    size_t key_n;
    char key[];                 /* next hop, or "recipient\0nexthop" when the recipient limit is 1 */
};

struct transport {
    UT_hash_handle hh;          /* sched.transports by name */
    struct transport *prev, *next; /* sched.ready */
    struct conf *conf;          /* counted */
    const struct conf_service *svc; /* NULL: not in the present configuration */
    struct window_limits limits;
    int64_t rcpt_limit, maxproc, dest_delay_ms, delay_ms;
    struct dest *dests;         /* hash */
    struct dest *ready;         /* DL: may start a job now */
    uint32_t busy;
    bool is_ready, is_deferred; /* in sched.ready; in defer_transports */
    struct heap_item timer;     /* sched.transport_timers */
    int64_t not_before_ms;
    size_t name_n;
    char name[];
};

enum { RX_QUEUED = 1, RX_PENDING = 2, RX_DIRTY = 4, RX_ALONE = 8 };
struct rcpt_x {
    uint32_t next;  /* in an entry; UINT32_MAX ends */
    uint32_t gen;   /* configuration under which the route was found */
    uint8_t flags;
};

struct msg_sched {
    UT_hash_handle hh;                     /* sched.by_id */
    uint64_t id;
    struct msg *m;                         /* counted; NULL: gone, its row is still to be deleted */
    struct heap_item due;                  /* sched.due by wall time */
    struct msg_sched *in_prev, *in_next;   /* sched.inbox; while is_routing, lists of the router */
    struct msg_sched *d_prev, *d_next;     /* sched.dirty */
    struct msg_sched *a_prev, *a_next;     /* sched.active */
    struct msg_sched *w_prev, *w_next;     /* sched.warn */
    struct entry *entries;                 /* DL2: ms_prev, ms_next */
    struct entry own;                      /* the first entry needs no memory of its own */
    int64_t active_us;
    int64_t next_due_us;                   /* earliest of the idle recipients; INT64_MAX none */
    uint32_t idle, queued, busy, pending, done; /* recipients in each place */
    uint32_t version, flushed_version, epoch;
    uint32_t walk_gen;                     /* last reconfigure walk that saw it */
    uint32_t jobs;                         /* jobs that hold recipients of it */
    unsigned pins;                         /* a command works on it: not to be dropped or freed */
    bool has_alone;                        /* some recipient has, or had, RX_ALONE */
    bool was_parked;                       /* it had its place in line: not again */
    bool wants_parking;                    /* its row is enough until its flow has room */
    bool is_own_used, is_active, in_inbox, is_dirty, is_flushing, in_index;
    bool is_routing;                       /* somebody enqueues its recipients in pieces: it does not come to rest meanwhile */
    bool is_hold, is_forced, is_reviving;  /* flush: defer_transports does not stop it; nor a dead site */
    bool is_delay_warned, is_warning, is_expiry_logged, is_delete_wanted, is_expire_wanted;
    int64_t trash_us;                      /* is_delete_wanted, and it can be undone: since when; else 0 */
    bool is_trashed;                       /* came to rest as deleted: sched_trash.c */
    bool is_trash_hold;                    /* is_trashed: it was on hold */
    bool was_trashed;                      /* may have rows among the deleted ones */
    unsigned frozen;                       /* so many commands are about to change its recipients: none starts */
    bool is_backlog;                       /* active, fetched because it was due */
    bool is_row_hold;                      /* its row says held */
    bool is_all_dirty;                     /* no row yet: all recipients go to the index */
    struct rcpt_x *rx;                     /* rx_own or owned */
    struct rcpt_x rx_own[1];
};

struct failed_rcpt {
    uint32_t rcpt;
    enum outcome outcome;
    struct span dsn, reason, mta, diagnostic; /* in sjob.text */
};

struct sjob {
    struct job pub;
    struct msg_sched *ms;
    struct dest *dest;          /* NULL: made by the scheduler itself to defer or bounce without an attempt */
    struct arena *text;         /* owned; NULL until needed */
    struct failed_rcpt *failed; /* owned */
    struct bounce_rcpt *success; /* owned: NOTIFY=SUCCESS */
    uint32_t failed_n, success_n;
    uint32_t reported;
    /* of the last SITE_UNAVAILABLE result, for the dead-site texts */
    struct span last_dsn, last_reason, last_mta;
    bool is_silent;             /* no delivery log lines */
    struct job_rcpt rcpts[];
};


enum flush_state { FLUSH_NONE, FLUSH_UNDER_WAY, FLUSH_DONE, FLUSH_FAILED };

/* A notification under way; the recipients it speaks for are pending. */
struct notice {
    struct notice *next;
    struct sched *s;
    struct msg_sched *ms;
    struct msg *m;              /* counted */
    enum bounce_kind kind;
    int status;
    uint32_t n;
    struct arena *text;         /* owned, or NULL */
    struct failed_rcpt *failed; /* owned: [n]; NULL for BOUNCE_SUCCESS and BOUNCE_DELAY */
    struct bounce_rcpt *rcpts;  /* owned, with `conf` (counted): while it waits in router.notices */
    struct conf *conf;
};

/*
 * The threads that make look-ups which may wait for a server; everything is guarded by sched.m. See sched_router.c.
 */
#define ROUTER_THREADS 16
struct slow_domain {
    UT_hash_handle hh;              /* router.slow by domain */
    struct slow_domain *prev, *next; /* router.ring */
    uint64_t domain;                /* router_domain() */
    struct msg_sched *waiting;      /* DL2: in_prev, in_next */
    int64_t until_ms;               /* taken for slow until then */
    bool is_busy;                   /* a thread (is_stuck) looks up a recipient of it; else, with messages, it is in the ring */
};
struct router_thread {
    struct sched *s;
    pthread_t id;
    bool is_quick;                  /* has a message of router.quick */
    bool is_stuck;                  /* is the one thread that looks up a recipient of a slow domain; counts in at_slow */
    uint64_t domain;                /* of the look-up under way */
    int64_t since_ms;               /* its begin; 0: none */
};
struct router {
    bool is_in_use;                 /* a table may wait, and there are threads */
    bool is_stopping, has_standby;
    unsigned count, running;        /* threads made; those of them that have not ended */
    uint64_t lent;                  /* messages in its lists, or with a thread */
    int64_t stop_ms, stall_ms;      /* how long router_stop() waits; when the next thread goes on. Set once */
    unsigned at_slow;               /* threads with something that is known to be slow */
    bool notice_turn;               /* the next slow thing is a notice */
    struct msg_sched *quick;        /* DL2 */
    struct msg_sched *done;         /* DL2: back to the scheduler's thread */
    struct slow_domain *slow;       /* hash */
    struct slow_domain *ring;       /* DL: have messages, and no thread */
    struct notice *notices;         /* LL: to be sent */
    struct cond kick, ended;
    struct router_thread threads[ROUTER_THREADS];
};

struct sched {
    struct spool *spool;
    struct index *ix;               /* from sched_start() on */
    struct log_src log, log_error, log_super, log_bounce; /* qmgr; error; postsuper; bounce */
    int (*resolve)(void *arg, struct conf *c, struct span sender, struct span filter, struct msg_rcpt *r, struct arena *a, struct span *dsn, struct span *why);
    void *resolve_arg;
    bool (*may_wait)(void *arg, struct conf *c); /* NULL: resolve() never waits */
    struct own_policy own;
    void (*wake)(void *arg, unsigned count);
    void *wake_arg;

    struct lock m;
    struct cond kick;
    struct conf *conf;              /* counted: the present snapshot */
    uint32_t gen;                   /* rises with each sched_reconfigure() */
    int64_t flush_stamp_us;         /* rows that the last flush made due have this time */
    bool want_rescan;               /* the cursor goes back to the beginning */
    bool has_more_due;              /* more rows are due, at due_stamp_us */
    int64_t due_stamp_us;           /* of the last command that made rows due */
    bool is_closed;                 /* no more jobs are given out */
    bool is_stopping, is_started, is_sleeping, is_kicked;
    struct transport *transports;   /* hash */
    struct transport *ready;        /* DL: has a ready destination and may start a job now */
    struct flow *flows;             /* hash by flow_key */
    struct msg_sched *by_id;        /* hash */
    struct msg_sched *inbox;        /* DL2: to be routed and enqueued by the thread */
    struct msg_sched *dirty;        /* DL2: changed since the index last heard of them */
    struct msg_sched *active;       /* DL2 */
    struct msg_sched *warn;         /* DL2: a delay warning is to be sent; pinned */
    struct entry *suspended;        /* DL: to be deferred without an attempt */
    struct dest *draining;          /* DL2: dead or paused, with entries: one without leaves at once */
    struct pauses pauses;           /* what an administrator has paused; see sched_pause.c */
    bool is_pausing;                /* somebody writes the file of it */
    char *pauses_path;              /* owned; immutable; NULL: not kept */
    struct dest *idle_dests;        /* DL: oldest first */
    struct parked *parked;          /* hash by id */
    struct parked *unwritten;       /* DL2: the index has no row of them, in order of epoch */
    struct flow *hungry;            /* DL2: flows with parked messages and few in memory */
    uint64_t n_parked_new, n_unwritten; /* without a row; of these, not in a flush under way */
    struct heap due, dest_timers, transport_timers;
    struct notice *notices;         /* answered */
    struct notice **notices_tail;
    uint32_t notices_out;           /* sent, not answered */
    uint32_t flushes_out;           /* index_make_due() under way */
    uint64_t n_active, n_active_rcpts, n_busy_jobs, n_entries, n_dirty, n_idle_dests, n_gone, n_in_index, n_messages, n_hold;
    uint64_t n_backlog;             /* of the active ones: fetched from the index */
    uint64_t n_row_hold;            /* in memory with a row that says held */
    bool index_has_due;             /* rows that are due wait for room */
    int64_t index_next_due_us;      /* earliest row not in memory, as far as known; INT64_MAX none */
    uint32_t epoch;                 /* of changes; see sched_index.c */
    enum flush_state flush_state;
    uint64_t sync_wanted, sync_seen, sync_begun, sync_done, sync_failed; /* numbers of the calls of sched_index_sync() */
    struct rates rates;             /* its counters are atomic, its samples guarded by m */
    uint32_t sync_epoch;            /* thread: what a sync under way writes */
    struct wall_watch wall;
    int64_t set_forward_us, set_back_us; /* jumps of the clock that were seen and not yet acted upon; 0: none */
    uint64_t rng;
    bool want_walk;                 /* queued messages are to be resolved anew */
    struct router router;
    uint32_t parked_gen;            /* gen of the last park_forget_routes() */

    /* thread */
    pthread_t thread;
    struct index_cursor cursor;     /* rows up to here have been fetched; set back by drops */
    struct index_mark mark;         /* taken at the last tick (before the first: of the index); covers what was dirty then */
    struct index_mark flushed_mark; /* of the last flush that was handed over */
    uint32_t mark_epoch;            /* changes up to this epoch are covered by `mark` */
    bool has_mark;
    int64_t next_tick_ms, next_far_scan_ms, next_sample_ms;
    uint64_t passed_over;           /* of the index, when rows were last fetched from the beginning for its sake */
    struct msg_sched **flushing;    /* owned: what the flush under way contains */
    size_t flushing_n;
    uint64_t *parked_flushing;      /* owned: ids of parked messages in the flush under way */
    size_t parked_flushing_n;


    /* guarded by m: what commands ask of the thread; see sched_cmd.c */
    struct request *requests;
    struct cond answered;           /* a request, an admin record, or a flush */
    unsigned changes_out;           /* commands between their records and what these say: no mark is taken meanwhile */
    int64_t purge_at_us;            /* when the next deleted message goes for good; INT64_MAX none */
    uint64_t *purging;              /* owned: sorted, on their way out */
    size_t purging_n;
    bool is_purged;                 /* the job has answered */
};

/* No recipient of it may start. */
static inline bool ms_is_stopped(const struct msg_sched *ms)
{
    return ms->is_hold || ms->is_trashed || ms->frozen > 0;
}

/* What a lock section leaves to be done when the lock is dropped. */
struct after {
    unsigned wake;
    struct msg *finished;   /* counted: log "removed", spool_message_done() */
    struct conf *conf;      /* counted: with `finished` and `trashed` */
    bool is_deleted;        /* by command, which logs itself */
    uint64_t trashed;       /* deleted, but can be restored: log it; 0: nothing */
    struct msg *drop;       /* counted: content_drop() */
};
#define AFTER_INIT ((struct after){ .wake = 0 })
/* Does it, with no lock held. */
void sched_after(struct sched *s, struct after *a);

/* ---- sched_queue.c: transports, destinations, flows ---- */
uint64_t sched_hash_address(struct span s);
struct transport *transport_get_locked(struct sched *s, struct span name);
void transports_reload_locked(struct sched *s);
void transports_free(struct sched *s);
/* Puts an idle recipient with a route into the queue of its destination, or among the suspended. */
void sched_enqueue_locked(struct sched *s, struct msg_sched *ms, uint32_t rcpt, struct after *a);
void sched_unqueue_message_locked(struct sched *s, struct msg_sched *ms);
/* Takes at most max (0: all) recipients out of an entry; they become busy. With count_at the job counts as one of that destination. */
struct sjob *job_from_entry_locked(struct sched *s, struct entry *e, uint32_t max, struct dest *count_at);
void dest_update_locked(struct sched *s, struct dest *d);
void transport_update_locked(struct sched *s, struct transport *t);
void dest_site_verdict_locked(struct sched *s, struct sjob *j, enum site_verdict v, struct after *a);
void dest_release_locked(struct sched *s, struct dest *d);
void dest_revive_locked(struct sched *s, struct dest *d, struct after *a);
/* Timers that are over. */
void sched_timers_locked(struct sched *s, int64_t now_ms, struct after *a);

/* is_paused has changed: starts what may start, or lets the thread empty the queue. */
void dest_pause_changed_locked(struct sched *s, struct dest *d, struct after *a);
/* The first entry of a paused destination: its recipients are idle again, for long. */
void dest_park_first_locked(struct sched *s, struct dest *d, struct after *a);

/* ---- sched_pause.c ---- */
void pauses_begin(struct sched *s, const char *path);
void pauses_end(struct sched *s);
/* The idle recipient waits, without an attempt, until it is resumed (or looked at again after long). */
void sched_park_locked(struct sched *s, struct msg_sched *ms, uint32_t rcpt);
bool sched_is_paused_locked(const struct sched *s, const struct transport *t, const struct dest *d);
void pauses_explain_locked(const struct sched *s, struct msg *copy);

/* ---- sched_cmd.c ---- */
/* What waits for this transport or next hop (NULL: any) is due now; no more than that, unlike a flush. */
void sched_make_due(struct sched *s, const struct span *transport, const struct span *nexthop);

/* ---- sched_queue.c again, for sched_park.c ---- */
struct dest *dest_find_locked(struct sched *s, const struct msg_rcpt *r);
struct flow *flow_find_locked(struct sched *s, const struct dest *d, struct span sender);
struct flow *flow_get_locked(struct sched *s, struct dest *d, struct span sender);
/* After it lost an entry or a parked message: leaves the ring, or goes for good. */
void flow_settle_locked(struct sched *s, struct flow *f);

/* ---- sched_park.c: what waits in line behind many others ---- */
/* How many waiting messages may be in memory. */
uint64_t park_wait_max_locked(const struct sched *s);
/* A new message, one recipient, routed and due: true when it waits in the journal, and the caller need not keep it. */
bool park_new_locked(struct sched *s, struct msg *m);
/* A fetched message, about to be enqueued: its row is enough until there is room. park_row_locked(): then the caller frees ms. */
bool park_wants_row_locked(struct sched *s, const struct msg_sched *ms);
void park_row_locked(struct sched *s, struct msg_sched *ms);
bool park_has_locked(struct sched *s, uint64_t id);
/* The flow has one entry less, or one parked message more. */
void park_look_locked(struct sched *s, struct flow *f);
/* It leaves the list of hungry flows. */
void park_sated_locked(struct sched *s, struct flow *f);
/* Thread: reads back what has room now. */
bool park_work(struct sched *s);
/* A copy of a parked message, or NULL. Any thread. */
struct msg *park_read(struct sched *s, uint64_t id);
/* Thread, for a command: in memory, not enqueued; NULL when it is not parked or (*e) cannot be read. */
struct msg_sched *park_unpark(struct sched *s, uint64_t id, struct err *e);
/* Thread: hands rows of parked messages up to this epoch to the index, a piece at a time. */
enum park_flush { PARK_NOTHING, PARK_SENT, PARK_STUCK };
enum park_flush park_flush(struct sched *s, uint32_t epoch);
bool park_has_unwritten(struct sched *s);
void park_take_note(struct sched *s, bool ok);
/* Thread, after a reload: those with a row are fetched again, and resolved anew. */
void park_forget_routes(struct sched *s);
void park_free(struct sched *s);

/* ---- sched_msg.c: messages ---- */
struct msg_sched *ms_new_locked(struct sched *s, struct msg *m);
void ms_free_locked(struct sched *s, struct msg_sched *ms);
struct msg_sched *ms_find_locked(struct sched *s, uint64_t id);
void ms_dirty_locked(struct sched *s, struct msg_sched *ms);
/* Changed in an epoch that may be over. */
void ms_dirty_since_locked(struct sched *s, struct msg_sched *ms, uint32_t epoch);
void ms_activate_locked(struct sched *s, struct msg_sched *ms, int64_t now_us);
void ms_deactivate_locked(struct sched *s, struct msg_sched *ms);
void ms_to_inbox_locked(struct sched *s, struct msg_sched *ms);
/* After any change: ends activity, finishes the message, or sets its time. */
void ms_settle_locked(struct sched *s, struct msg_sched *ms, struct after *a);
/* Undoes a pin; frees what ended meanwhile. */
void ms_unpin_locked(struct sched *s, struct msg_sched *ms);
void ms_recompute_due_locked(struct sched *s, struct msg_sched *ms);
/* A recipient became idle until due_us: the message is looked at again then, even while others of it are active. */
void ms_wait_locked(struct sched *s, struct msg_sched *ms, int64_t due_us);
/* How many more messages may become active. */
uint64_t sched_room_locked(const struct sched *s, bool is_backlog);
/* The time (us), after a look whether the clock was set: whoever asks for the age of a message takes it from here, so that none
 * looks old because the clock was set a moment ago. */
int64_t sched_now_locked(struct sched *s);
void sched_kick_locked(struct sched *s);

/* ---- sched_job.c ---- */
/* Reports for a job of the scheduler's own and ends it. */
void sched_answer(struct sched *s, struct sjob *j, const struct delivery_result *r);

/* ---- sched_notify.c ---- */
void notify_failed(struct sched *s, struct sjob *j);
void notify_success(struct sched *s, struct sjob *j);
bool notify_thread(struct sched *s);
/* Sends what router_takes_notice() took; is_over: answers it as failed. */
void notify_lent(struct sched *s, struct notice *n, bool is_over);
/* Sends the delay warnings that are due. */
bool notify_delays(struct sched *s);

/* ---- sched_log.c ---- */
void log_active(struct sched *s, const struct params *p, const struct msg *m);
void log_simple(const struct log_src *src, const struct params *p, uint64_t id, const char *text);
void log_expired(struct sched *s, const struct params *p, const struct msg *m, bool is_forced);
void log_delivery(struct sched *s, const struct job *j, uint32_t rcpt, const struct delivery_result *r, struct span dsn,
                  const char *status, int64_t now_us);
/* Seconds with two significant digits and at most max_decimals, as delay= wants them; returns the length. */
size_t log_format_delay(char out[32], int64_t us, int64_t max_decimals);

/* ---- sched_index.c, sched_thread.c: the thread's work; each returns true when it did something ---- */
bool index_tick(struct sched *s, bool is_last);
/* Takes note of the flush that ended; for sched_stop(). */
void index_tick_end(struct sched *s);
bool index_fetch_work(struct sched *s);
uint64_t sched_fetch_room_locked(const struct sched *s);
void sched_flush_cb(void *sched, int status);
/* Its flush failed: it goes with the next one. */
void ms_redo_locked(struct sched *s, struct msg_sched *ms);
/* Rows due at due_us or later are to be fetched (again). */
void fetch_again_from_locked(struct sched *s, int64_t due_us);
/* All that can be done now; returns the monotonic time at which there is more. */
int64_t sched_run_once(struct sched *s);
/* ---- sched_route.c ---- */
/* Thread: takes a message out of the inbox, routes and enqueues it, or lends it to the router. */
void route_now(struct sched *s, struct msg_sched *ms);
bool route_first(struct sched *s);
/* Thread: goes on with a message that the router has given back. */
bool route_returned(struct sched *s);
/* Recipient i is due and needs a look-up. */
bool route_wants_locked(const struct sched *s, const struct msg_sched *ms, uint32_t i, int64_t now_us);
/* Looks up the route of recipient i with no lock held, then stores it, or defers or bounces it. Whoever has the message while it is_routing. */
void route_one(struct sched *s, struct msg_sched *ms, struct msg *m, uint32_t i, struct conf *c, uint32_t gen);
/* ---- sched_router.c ---- */
void router_begin(struct sched *s);
/* The snapshot has tables that may wait, or none. Not from two threads at once. */
void router_use(struct sched *s, bool may_wait);
/* False when a look-up goes on that does not end in time: its thread is left behind, and all that it may touch. */
bool router_stop(struct sched *s);
/* After that: nobody waits for its threads any more. */
void router_leave(struct sched *s);
void router_end(struct sched *s);
/* The message is to be looked at; slow_domain: one of its recipients' domains is known to be slow, and no other is left. */
void router_lend_locked(struct sched *s, struct msg_sched *ms, const uint64_t *slow_domain);
uint64_t router_domain(struct span addr);
/* me: the thread that asks, or NULL. */
bool router_is_slow_locked(struct sched *s, const struct router_thread *me, uint64_t domain, int64_t now_ms);
/* Notices of the scheduler's thread: their addresses go through tables, too. False: the caller sends it. Takes rcpts. */
bool router_takes_notice(struct sched *s, struct notice *n, struct conf *c, struct bounce_rcpt *rcpts);
bool router_takes_delays(struct sched *s);
/* ---- sched_cmd.c: what commands ask of the thread ---- */
bool commands_work(struct sched *s);
/* The messages, each pinned, or NULL; those in memory and those that only have rows. False with *e on a database error. */
bool cmd_pin(struct sched *s, const uint64_t *ids, size_t n, bool with_deleted, struct msg_sched **ms, struct err *e) MUST_CHECK;
void cmd_unpin(struct sched *s, struct msg_sched **ms, size_t n);
/* Before a command brings more messages into memory. */
void cmd_wait_for_index(struct sched *s);

/* ---- sched_trash.c: deleted messages that can be restored ---- */
/* A message with a wanted deletion has come to rest. */
void trash_locked(struct sched *s, struct msg_sched *ms, struct after *a);
void trash_restore_locked(struct sched *s, struct msg_sched *ms);
/* ms was just made of rows of a deleted message. */
void trash_admit_locked(struct sched *s, struct msg_sched *ms, bool was_hold, int64_t deleted_us);
bool trash_is_purging(struct sched *s, uint64_t id);
/* The thread: what has been deleted for longer than queue_undelete_time goes for good. */
bool trash_work(struct sched *s);
void *sched_thread_main(void *arg);
const struct params *sched_params_locked(const struct sched *s);

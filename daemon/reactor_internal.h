/* reactor_internal: shared by reactor.c (epoll, slots, timers) and worker.c (run queue, pool). See reactor.h. */
#pragma once
#include <stdatomic.h>
#include "common/base/lock.h"
#include "daemon/reactor.h"
#include "daemon/wheel.h"

#define POLL_EVENTS 256
#define BULK_EVERY_POPS 4
#define FRESH_EVERY_POPS 4
#define ACCEPT_PER_TURN 64
#define STEPS_PER_TURN 16 /* steps of one session in a row (WAIT_AGAIN, early resumes) before others get their turn */

struct run_list {
    struct sess *head, *tail; /* linked through run_next */
    unsigned n;
};

struct worker {
    struct reactor *r;
    pthread_t thread;
    struct cond wake;
    struct worker *idle_next; /* guarded by RUN_QUEUE */
    bool woken;               /* guarded by RUN_QUEUE */
    bool is_blocking;         /* guarded by RUN_QUEUE: its step said reactor_will_block() */
};

struct reactor {
    struct reactor_options o;
    int epfd, wakefd;

    struct lock m;                 /* REACTOR_INBOX */
    struct sess **slots;           /* [slot_count], guarded by m */
    uint32_t *generations;         /* [slot_count], guarded by m */
    uint32_t *free_slots;          /* stack of those that were used before, guarded by m */
    uint32_t slot_count, free_count;
    uint32_t slots_used;           /* guarded by m: slots from here on were never used, and their memory is not touched */
    struct wheel wheel;            /* guarded by m */
    struct listener **listeners;   /* guarded by m; counted */
    size_t listener_count;
    int64_t accept_pause_until_ms; /* polling thread only: out of descriptors */
    bool is_accepting;             /* guarded by m: the poller uses a listening descriptor */
    struct cond accept_over;       /* with m: is_accepting became false */
    bool is_draining;              /* guarded by m */
    int64_t sleep_until_ms;        /* guarded by m: the poller is blocked until then; 0: it is not */

    struct lock q;                 /* RUN_QUEUE */
    struct run_list resumed;       /* guarded by q: callbacks, before new work */
    struct run_list ready;         /* guarded by q */
    struct run_list fresh;         /* guarded by q: just accepted, at most ACCEPT_PER_TURN; after ready, but every FRESH_EVERY_POPS-th turn is theirs */
    struct run_list bulk;          /* guarded by q: sent much; after ready, but every BULK_EVERY_POPS-th turn is theirs */
    struct worker *idle;           /* guarded by q: newest first */
    struct worker *workers;        /* [o.workers]; started ones first */
    unsigned started, idle_count;  /* guarded by q */
    unsigned in_step;              /* guarded by q: workers inside a step */
    unsigned awake;                /* guarded by q: workers that are not idle, not asleep in epoll_wait, not blocking */
    bool has_poller;               /* guarded by q */
    bool poller_sleeps;            /* guarded by q: it may be blocked in epoll_wait */
    bool stopping;                 /* guarded by q */
    uint64_t pops;                 /* guarded by q: progress, for the watchdog */
    uint64_t looked_at_pops;       /* guarded by q: what pops was when somebody last polled */
    struct cond watchdog_wake;     /* predicate: stopping; otherwise timed */
    struct cond drained;           /* with m: no session left */
    pthread_t watchdog;
    bool watchdog_started;
    unsigned cpus;

    atomic_uint sessions;
    _Atomic uint64_t accepted, refused, steps, polls, wakeups;
    struct limit session_limit;
    _Atomic int64_t pause_told_ms;
    _Atomic uint64_t pause_untold;
    _Atomic int thread_error;      /* errno of a worker that could not be started, until told */
    _Atomic int64_t thread_told_ms;
    _Atomic uint64_t thread_untold;
};

/* reactor.c */
/* One epoll_wait; what became runnable is appended to *out, up to `room` new sessions to *fresh (place already SESS_RUNNABLE). Only the
 * polling thread. */
void reactor_poll(struct reactor *r, int timeout_ms, unsigned room, struct run_list *out, struct run_list *fresh);
/* Until the next timer, in ms for epoll_wait. */
int reactor_timer_wait_ms(struct reactor *r);
/* After a step: parks or closes the session. Returns true when it is runnable again at once. */
bool reactor_settle(struct reactor *r, struct sess *s, enum sess_wait w);
void sess_set_place(struct sess *s, enum sess_place to);
/* Makes the poller come back from epoll_wait. */
void reactor_wake_poller(struct reactor *r);

/* worker.c */
void run_list_push(struct run_list *l, struct sess *s);
/* The next session to run, or NULL. */
struct sess *run_next_locked(struct reactor *r) REQUIRES(&r->q);
/* Whether a worker that could go on with the queues shall poll first. */
bool is_time_to_look_locked(struct reactor *r) REQUIRES(&r->q);
int workers_start(struct reactor *r);
void workers_stop(struct reactor *r);
/* Queues sessions that became runnable and wakes workers for them. */
void workers_push(struct reactor *r, struct run_list *l, bool resumed);

/*
 * sess: what the reactor and the workers need to know of an inbound session
 *
 * Purpose    a session is in exactly one place; a worker runs one step of it and the step says what it waits for. The
 *            SMTP dialogue (daemon/smtpd/) embeds struct sess as its first member and gives it its step functions.
 * Source     DESIGN "Threads", "Hazards"; STYLE "State machines"
 * Threads    owned by whoever's place it is in: reactor (parked, timer), run queue, one worker (running), committer or dns
 *            (waiting for a callback, which calls sess_resume())
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/net/ipaddr.h"
#include "common/conf/conf.h"

struct reactor;
struct sess;

enum sess_place {
    SESS_NEW, SESS_PARKED, SESS_RUNNABLE, SESS_RUNNING, SESS_WAIT_COMMIT, SESS_WAIT_DNS, SESS_WAIT_TIMER, SESS_CLOSED,
};

/* What a step returns. */
enum sess_wait {
    WAIT_INPUT,      /* more bytes from the client, until s->deadline_ms */
    WAIT_OUTPUT,     /* room to write, until s->deadline_ms */
    WAIT_CALLBACK,   /* someone will call sess_resume(): a commit, a DNS answer (s->waiting_for says which) */
    WAIT_TIMER,      /* nothing but s->deadline_ms (tarpit, sleep) */
    WAIT_AGAIN,      /* more to do, but this turn was long: back to the run queue */
    WAIT_DONE,       /* the session is over: the reactor closes the socket and frees it */
};

enum sess_wake { WAKE_START, WAKE_READY, WAKE_CALLBACK, WAKE_TIMEOUT, WAKE_SHUTDOWN };

struct sess_ops {
    /* Runs on a worker. May free nothing of struct sess. */
    enum sess_wait (*step)(struct sess *s, enum sess_wake why);
    /* Called when the session will be idle: give buffers back. Runs on the worker just before parking. */
    void (*park)(struct sess *s);
    /* Releases everything the dialogue owns, then the session itself; the socket is already closed. */
    void (*destroy)(struct sess *s);
};

/* First member of the dialogue's own struct. */
struct sess {
    const struct sess_ops *ops;
    struct reactor *reactor;
    int fd;                        /* nonblocking; closed by the reactor after WAIT_DONE */
    _Atomic uint8_t place;         /* enum sess_place; changed by sess_set_place() only */
    uint8_t wake;                  /* enum sess_wake: why the next step runs */
    bool is_armed;                 /* known to epoll */
    bool was_shutdown;             /* the daemon is stopping */
    bool is_bulk;                  /* set by its step: more input than fits is there, others go first */
    _Atomic uint8_t resume_state;  /* reactor's: whether a callback came before the step had returned */
    int64_t deadline_ms;           /* monotonic; for WAIT_INPUT, WAIT_OUTPUT, WAIT_TIMER */
    uint32_t slot, generation;     /* in the reactor's table */
    struct sess *run_next;         /* run queue */
    struct worker *worker;         /* running it now; borrowed, worker.c only */
    struct sess *wheel_prev, *wheel_next; /* timer wheel */
    int64_t wheel_at_ms;
    struct ip_addr peer;
    uint16_t peer_port;
    struct listener *listener;     /* counted by the reactor's snapshot */
};

/* From any thread, exactly once per WAIT_CALLBACK: continues the session. May come before the step returned. Commit and DNS resumes go before new work. */
void sess_resume(struct sess *s);

/* What a listener hands to a new connection. */
struct listener {
    const struct conf_service *service;
    struct conf *conf;             /* counted */
    void *arg;                     /* the daemon's: passed to create */
    int fd;
};
/* Makes the dialogue for an accepted socket; NULL refuses it (the reactor closes fd). Runs on the reactor thread: must be cheap. */
typedef struct sess *sess_create_fn(struct listener *l, int fd, const struct ip_addr *peer, uint16_t peer_port, void *arg);

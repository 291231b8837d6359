/*
 * reactor: listening sockets, epoll, every parked session, and the workers that run session steps
 *
 * Purpose    carries inbound sessions from accept() to close(): a session is parked (costing no thread), runnable, run
 *            by one worker, or waiting for a callback
 * Source     DESIGN "Threads", "Hazards"; daemon/sess.h
 * Threads    reactor_new/start/listen/stop/free: main thread. sess_resume(): any. reactor_stats(): any.
 * Locks      REACTOR_INBOX (10): slots, wheel, parked places. RUN_QUEUE (15): run queue, idle workers, who polls.
 *            Never both.
 * Limits     session_limit sessions; the run queue holds sessions only, so it is bounded by them
 *
 * The thread that waits in epoll is not fixed: one worker at a time has the polling role (leader and followers). It
 * runs the first ready session itself and queues the others, so a lone session never pays for a thread switch. A
 * watchdog thread takes the role when steps take long, so that a step that blocks delays nobody.
 */
#pragma once
#include <stdbool.h>
#include "common/base/err.h"
#include "common/base/limit.h"
#include "common/base/log.h"
#include "daemon/sess.h"

struct reactor_options {
    unsigned workers;          /* at most this many; started on demand */
    unsigned session_limit;
    sess_create_fn *create;
    void *create_arg;
    const struct log_src *log;
    /* NULL, or hears of what the system refuses us; on the polling thread, must not wait */
    void (*trouble)(void *arg, const char *what, const char *text);
    void *trouble_arg;
};

struct reactor_stats {
    uint64_t sessions, accepted, refused, steps, polls, wakeups;
    unsigned workers, workers_idle;
};

struct reactor *reactor_new(const struct reactor_options *o, struct err *e) MUST_CHECK;
int reactor_start(struct reactor *r) MUST_CHECK; /* errno */
/*
 * Makes exactly these listeners the active ones (takes the array's references). Those that left stop accepting, their
 * sessions go on. Listening descriptors belong to the caller, which closes those that it does not pass again.
 */
bool reactor_set_listeners(struct reactor *r, struct listener **l, size_t n, struct err *e) MUST_CHECK;
/* Stops accepting, wakes parked sessions with WAKE_SHUTDOWN, waits until all are gone or the deadline. True when all are gone. */
bool reactor_drain(struct reactor *r, int64_t deadline_ms);
/* Ends the threads and closes what is left. */
void reactor_free(struct reactor **r);
struct reactor_stats reactor_stats(struct reactor *r);
/* session_limit: how often it was reached. */
const struct limit *reactor_session_limit(const struct reactor *r);
/* More than nine tenths of session_limit are in use. Any thread; cheap. */
bool reactor_is_crowded(struct reactor *r);
/* A session step is about to wait for something outside (a policy server): another thread takes over polling. */
void reactor_will_block(struct sess *s);

/* One reference. arg belongs to the listener: free_arg (may be NULL) is called with it when the last reference goes. */
struct listener *listener_new(const struct conf_service *svc, struct conf *conf, int fd, void *arg,
                              void (*free_arg)(void *arg));
struct listener *listener_ref(struct listener *l);
void listener_unref(struct listener **l);

/*
 * bounded: a call that knows no deadline is waited for no longer than one
 *
 * Purpose    getaddrinfo() and the opening of a connection inside a foreign library cannot be interrupted. They run on a thread of their
 *            own, which is left behind when the deadline passes.
 * Threads    any
 * Locks      BOUNDED_CALL (67) for the hand-over; no lock of rank 67 or more may be held by the caller
 * Ownership  BOUNDED_DONE: the job is the caller's, with what run() left in it. BOUNDED_LATE: it belongs to the thread, which calls
 *            discard() at the end; so run() may use nothing that the job does not own or keep alive
 */
#pragma once
#include <stdint.h>
#include "common/base/attrs.h"

enum bounded {
    BOUNDED_DONE,
    BOUNDED_LATE,
    BOUNDED_NO_THREAD, /* it has not run; the job is the caller's */
};
enum bounded bounded_call(const char *name, void (*run)(void *job), void (*discard)(void *job), void *job, int64_t deadline_ms) MUST_CHECK;

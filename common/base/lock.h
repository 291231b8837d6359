/*
 * lock: mutexes with a rank, and condition variables on the monotonic clock
 *
 * Purpose    every lock is a row of locks.def; a debug build keeps a per-thread stack of the ranks held and
 *            aborts when a lower or equal rank is taken
 * Threads    that is the point
 * Source     STYLE "Threads and locks"
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"

enum lock_id {
#define LOCK(id, rank, guards) LOCK_##id,
#include "common/base/locks.def"
#undef LOCK
    LOCK_COUNT
};

struct CAPABILITY("mutex") lock {
    pthread_mutex_t m;
    enum lock_id id;
};

void lock_init(struct lock *l, enum lock_id id);
void lock_destroy(struct lock *l);
void lock_take(struct lock *l) ACQUIRE(l);
void lock_drop(struct lock *l) RELEASE(l);
/* Aborts (debug builds) unless this thread holds a lock of that row. */
void lock_assert_held(const struct lock *l);
const char *lock_name(enum lock_id id);
int lock_rank(enum lock_id id);

struct cond {
    pthread_cond_t c;
};
void cond_init(struct cond *c);
void cond_destroy(struct cond *c);
void cond_wait(struct cond *c, struct lock *l) REQUIRES(l);
/* False when the deadline (monotonic ms) passed. */
bool cond_wait_until(struct cond *c, struct lock *l, int64_t deadline_ms) REQUIRES(l);
/* At most so long; for pauses that milliseconds are too coarse for. False when they passed. */
bool cond_wait_us(struct cond *c, struct lock *l, int64_t us) REQUIRES(l);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

/* Starts a thread with all signals blocked, named (15 bytes), with a stack of stack_bytes (0: default). Returns errno. */
int thread_start(pthread_t *out, const char *name, size_t stack_bytes, void *(*fn)(void *), void *arg) MUST_CHECK;

/* verify_internal: what verify.c, verify_threads.c and verify_file.c share. */
#pragma once
#include <pthread.h>
#include <sqlite3.h>
#include <utlist.h>

#include "common/base/hash.h"
#include "common/base/lock.h"
#include "policy/verify.h"

struct entry;
struct waiter {
    struct waiter *next;
    struct entry *entry;
    int64_t until_ms;    /* monotonic */
    verify_cb *cb;
    void *arg;
};

/* One address. Guarded by verifier.m, but for what is immutable. */
struct entry {
    UT_hash_handle hh;
    struct entry *prev, *next;            /* in `by_age`: the oldest result first */
    struct entry *d_prev, *d_next;        /* in `dirty` */
    struct entry *todo_prev, *todo_next;  /* in `todo` */
    uint32_t waiters;                     /* how many wait for it */
    char *text;                           /* owned */
    int64_t updated_s;                    /* wall clock; 0: no result yet */
    uint8_t status;                       /* enum verify_status; VERIFY_TODO without a result */
    bool is_queued, is_running;           /* a probe is wanted; it is under way */
    bool is_dirty;                        /* the file does not have it: in `dirty` */
    bool is_mark;                         /* no entry: where somebody has got to in `by_age` */
    uint32_t n;                           /* immutable, as what follows */
    uint32_t domain_at;                   /* where the domain begins */
    char address[];                       /* domain in lower case */
};

enum slot_state { SLOT_FREE, SLOT_STARTING, SLOT_USED, SLOT_ENDED };
struct verifier;
struct slot {
    struct verifier *v;
    pthread_t thread;
    enum slot_state state;
    struct entry *entry;          /* being probed; NULL: none */
};

struct verifier {
    struct verifier_options o;    /* immutable */
    struct lock m;                /* VERIFY */
    struct cond wake_keeper, wake_probe, changed;
    struct entry *entries;        /* hash */
    struct entry *by_age;
    struct entry *dirty;                  /* in the order of their changes */
    struct entry *todo;           /* in the order in which they came */
    size_t todo_count;
    struct waiter *waiters;       /* owned; at most one for each session */
    struct entry *gone;           /* singly linked by next: rows to be deleted; owned */
    bool has_all_gone;            /* all rows are to be deleted */
    struct slot slots[VERIFY_THREADS];
    unsigned idle_probes, probes; /* threads that wait for work; threads that exist */
    struct slot keeper;
    bool is_loaded, is_stopping, is_dirty;
    bool is_ending;               /* the probe threads are gone: the keeper writes and goes */
    int64_t next_cleanup_ms, flush_ms; /* monotonic; flush_ms: when what is dirty is to be written */
    char *path;                   /* of the file; keeper thread only. NULL: none */
    sqlite3 *db;                  /* keeper thread only */
    struct limit limit;
};

/* Time limits of a result, in seconds. */
struct verify_ages {
    int64_t positive_expire, positive_refresh, negative_expire, negative_refresh;
};
struct verify_ages verify_ages_of(const struct params *p);
bool verify_is_expired(const struct entry *e, const struct verify_ages *a, int64_t now_s);

/* ---- verify.c ---- */
struct entry *verify_entry_get_locked(struct verifier *v, struct span key) REQUIRES(&v->m);
/* Adds one without a result; key: as verify_key() made it. */
struct entry *verify_entry_add_locked(struct verifier *v, struct span key) REQUIRES(&v->m);
void verify_entry_set_locked(struct verifier *v, struct entry *e, enum verify_status status, struct span text, int64_t updated_s) REQUIRES(&v->m);
void verify_entry_drop_locked(struct verifier *v, struct entry *e) REQUIRES(&v->m);
/* The file is to have it (again). */
void verify_entry_dirty_locked(struct verifier *v, struct entry *e) REQUIRES(&v->m);
void verify_entry_clean_locked(struct verifier *v, struct entry *e) REQUIRES(&v->m);
/*
 * Walks through all results, VERIFY_PIECE of them in one section under the lock: begins with *mark at the oldest or the newest; each call
 * gives the next one, which may be dropped then, or NULL at the end: mark is out of the list again.
 */
#define VERIFY_PIECE 200
void verify_walk_begin_locked(struct verifier *v, struct entry *mark, bool from_newest) REQUIRES(&v->m);
struct entry *verify_walk_locked(struct verifier *v, struct entry *mark, bool from_newest) REQUIRES(&v->m);
/* Takes those who wait for e, or with e == NULL those whose time has come by now_ms. Returns when the time of the next one comes. */
int64_t verify_take_waiters_locked(struct verifier *v, const struct entry *e, int64_t now_ms, struct waiter **out) REQUIRES(&v->m);
bool verify_is_refresh_due(const struct entry *e, const struct verify_ages *a, int64_t now_s);
void verify_unqueue_locked(struct verifier *v, struct entry *e) REQUIRES(&v->m);
void verify_copy_result(const struct entry *e, struct verify_result *out);
void verify_answer_all(struct waiter *list, const struct verify_result *r);

/* ---- verify_threads.c ---- */
/* There is work: starts the keeper and probe threads as needed. No lock held. */
void verify_threads_wake(struct verifier *v);

/* ---- verify_file.c: keeper thread ---- */
void verify_file_open(struct verifier *v, const struct params *p);
void verify_file_flush(struct verifier *v);
/* Forgets what has expired, here and in the file. */
void verify_file_cleanup(struct verifier *v, const struct params *p);
void verify_file_close(struct verifier *v);

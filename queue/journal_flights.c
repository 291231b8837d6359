/*
 * Flushes side by side. The committer writes a round and hands it to a flusher, a thread that does nothing but fdatasync();
 * what comes meanwhile is the next round. The slots are a ring, so rounds are finished in the order in which they were
 * written: one is durable when its own flush and those of all before it have returned without an error, so what
 * replay finds before a message that was answered is there too.
 *
 * A failure of any flush, or of a write, is one of everything that is up, also of what returns without an error afterwards:
 * a disk that lost what one flush was for may have lost what others were for. The segment is abandoned when all are back.
 *
 * The kernel tells each open file once of pages that could not be written, so two threads that flush one descriptor would
 * share an error that both must see: each flusher has a descriptor of its own, opened before the round is written.
 *
 * Segments are begun when none is up. Threads and descriptors are made when they are first needed, and kept.
 */
#include <errno.h>
#include <fcntl.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/journal_internal.h"

#define FLIGHTS 16
#define FLUSHER_STACK_BYTES (64 * 1024)

enum flight_state { FLIGHT_FREE, FLIGHT_FLYING, FLIGHT_LANDED };

struct flight {
    struct flights *all;      /* immutable */
    struct cond go;           /* predicate: state is FLIGHT_FLYING, or ending */
    enum flight_state state;  /* guarded by JOURNAL_BATCH, like all down to took_us */
    bool is_ending;
    int error;                /* FLIGHT_LANDED: errno of the flush, or 0 */
    int64_t took_us;
    bool is_beside;           /* committer only, like all below: others were up when it began */
    struct round r;
    int fd;                   /* handed over: not changed while it flies */
    uint64_t generation;      /* of the segment that fd is; 0: closed */
    bool has_thread;
    pthread_t thread;
};

struct flights {
    struct journal *j;
    struct flight v[FLIGHTS];
    unsigned first, up;       /* committer only */
    int error;                /* guarded by JOURNAL_BATCH: the first errno of those that are up; 0: none */
    bool is_told;             /* committer only: that flushes wait for each other is in the log */
};

static void *flusher(void *arg)
{
    struct flight *f = arg;
    struct flights *all = f->all;
    struct journal *j = all->j;
    lock_take(&j->m);
    for (;;) {
        while (f->state != FLIGHT_FLYING && !f->is_ending)
            cond_wait(&f->go, &j->m);
        if (f->state != FLIGHT_FLYING)
            break;
        lock_drop(&j->m);
        int64_t began_us = journal_now_us();
        int error = j->segs.io->fdatasync(j->segs.io->arg, f->fd) == 0 ? 0 : errno;
        int64_t took_us = journal_now_us() - began_us;
        lock_take(&j->m);
        f->took_us = took_us;
        f->error = error;
        f->state = FLIGHT_LANDED;
        all->error = all->error != 0 ? all->error : error;
        j->sleeping = false;
        cond_signal(&j->wake);
    }
    lock_drop(&j->m);
    return NULL;
}

static struct flights *flights_new(struct journal *j)
{
    struct flights *all = xcalloc(1, sizeof *all);
    all->j = j;
    for (unsigned i = 0; i < FLIGHTS; i++) {
        all->v[i] = (struct flight){ .all = all, .fd = -1 };
        cond_init(&all->v[i].go);
    }
    return all;
}

void flights_free(struct journal *j)
{
    struct flights *all = j->flights;
    if (all == NULL)
        return;
    lock_take(&j->m);
    for (unsigned i = 0; i < FLIGHTS; i++) {
        all->v[i].is_ending = true;
        cond_signal(&all->v[i].go);
    }
    lock_drop(&j->m);
    for (unsigned i = 0; i < FLIGHTS; i++) {
        struct flight *f = &all->v[i];
        if (f->has_thread)
            pthread_join(f->thread, NULL);
        cond_destroy(&f->go);
        io_close(&f->fd);
    }
    free(all);
    j->flights = NULL;
}

unsigned flights_up(const struct journal *j)
{
    return j->flights != NULL ? j->flights->up : 0;
}

bool flights_may_start(const struct journal *j)
{
    return j->flights == NULL || (j->flights->up < FLIGHTS && j->flights->error == 0);
}

/* Its thread, and a descriptor of its own for the active segment. */
static bool is_ready(struct journal *j, struct flight *f)
{
    struct segments *s = &j->segs;
    int error = 0;
    if (!f->has_thread) {
        error = thread_start(&f->thread, "flusher", FLUSHER_STACK_BYTES, flusher, f);
        f->has_thread = error == 0;
    }
    if (f->has_thread && f->generation != j->active->generation) {
        io_close(&f->fd);
        char *path = segments_path(s, j->active->generation);
        f->fd = s->io->open(s->io->arg, path, O_RDWR, 0);
        error = f->fd >= 0 ? 0 : errno;
        f->generation = f->fd >= 0 ? j->active->generation : 0;
        free(path);
    }
    if (error != 0 && !f->all->is_told) {
        errno = error;
        log_warn(s->log, "journal: flushes cannot run side by side, they wait for each other: %m");
    }
    f->all->is_told = error != 0;
    return error == 0;
}

enum flight_start flights_start(struct spool *s, struct msg **msgs, struct batch_item **items)
{
    struct journal *j = &s->journal;
    struct flights *all = j->flights = j->flights != NULL ? j->flights : flights_new(j);
    struct flight *f = &all->v[(all->first + all->up) % FLIGHTS];
    struct round r = { .items = *items, .items_end = *items, .msgs = *msgs, .msgs_end = *msgs };
    if (!round_has_room(j, &r) || !is_ready(j, f))
        return FLIGHT_NOT_NOW;
    bool ok = round_write(j, &r);
    int error = ok ? 0 : errno;
    if (!ok) {
        r.items_end = NULL; /* all of it fails */
        r.msgs_end = NULL;
    }
    *items = r.items_end;
    *msgs = r.msgs_end;
    f->r = r;
    f->is_beside = all->up > 0;
    all->up++;
    lock_take(&j->m);
    f->state = ok ? FLIGHT_FLYING : FLIGHT_LANDED;
    f->error = error;
    f->took_us = 0;
    all->error = all->error != 0 ? all->error : error;
    if (ok)
        cond_signal(&f->go);
    lock_drop(&j->m);
    return FLIGHT_UP;
}

/* The oldest one leaves the ring. JOURNAL_BATCH is held. */
static struct round take_first(struct flights *all)
{
    struct flight *f = &all->v[all->first];
    f->state = FLIGHT_FREE;
    all->first = (all->first + 1) % FLIGHTS;
    all->up--;
    return f->r;
}

static bool all_landed(const struct flights *all)
{
    for (unsigned i = 0; i < all->up; i++)
        if (all->v[(all->first + i) % FLIGHTS].state != FLIGHT_LANDED)
            return false;
    return true;
}

static void fail_all(struct spool *s, struct journal *j) REQUIRES(j->m)
{
    struct flights *all = j->flights;
    int error = all->error;
    all->error = 0;
    pace_begin_again(&j->pace);
    lock_drop(&j->m);
    journal_abandon(s, error);
    lock_take(&j->m);
    while (all->up > 0) {
        struct round r = take_first(all);
        r.status = journal_status_of_errno(error);
        lock_drop(&j->m);
        round_finish(s, &r);
        lock_take(&j->m);
    }
}

bool flights_land(struct spool *s, struct journal *j)
{
    struct flights *all = j->flights;
    if (all == NULL || all->up == 0)
        return false;
    if (all->error != 0) {
        if (!all_landed(all))
            return false;
        fail_all(s, j);
        return true;
    }
    const struct flight *f = &all->v[all->first];
    if (f->state != FLIGHT_LANDED)
        return false;
    pace_note(&j->pace, f->took_us, f->is_beside);
    struct round r = take_first(all);
    lock_drop(&j->m);
    round_finish(s, &r);
    lock_take(&j->m);
    return true;
}

void flights_drain(struct spool *s, struct journal *j)
{
    while (flights_up(j) > 0)
        if (!flights_land(s, j))
            cond_wait(&j->wake, &j->m);
}

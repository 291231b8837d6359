/*
 * The committer's thread: when to write and flush what came in. It takes everything that waits, writes it, flushes once, and
 * tells everybody. What arrives meanwhile is the next batch, so batches grow with the load by themselves.
 *
 * On a disk whose flush takes long, two things cost throughput: who just missed a flush waits for all of it and then for its
 * own, and sessions that were answered at the end of one flush are not back when the next begins, so that they split into
 * halves that take turns. So when flushes take more than SIDE_BY_SIDE_FROM_US they run side by side (journal_flights.c): what
 * comes is written at once and gets a flush of its own, and nobody waits for more than that and a gap, which keeps so
 * many flushes from beginning that each carries one message. Most disks do several flushes in about the time of one:
 * here ext4 on a busy disk does 800 a second one by one and 5,000 eight at a time. Where one does not (flushes beside
 * others take longer by a third), they are done one by one again, and after FLIGHTS_AGAIN_US that is tried once more.
 *
 * One by one, the next flush waits for those that were just answered, as long as they keep coming, and at most as long as a
 * flush takes: it is worth it when all come in less time. Nobody is waited for who was not there before, so that a single
 * session loses nothing, and clients that are far away cost two slices. A quick flush is not waited for in this way: there
 * the thing to save is not time but the processor that each flush takes, so while not more than three quarters of those that are
 * about have come, the committer naps for a flush's time and at most NAP_MAX_US, up to NAPS_MAX times and not again when a nap brought
 * nobody. With 10 sessions of one message each that is a seventh of a message's processor time.
 */
#include <errno.h>
#include <time.h>

#include "queue/journal_internal.h"

#define SLOW_FROM_US 1000       /* quicker flushes are not worth more than a few naps */
#define SIDE_BY_SIDE_FROM_US 2000 /* below, more flushes a second cost more processor than they save time */
#define NAP_MAX_US 500
#define NAPS_MAX 3
#define GATHER_SLICES 16        /* of a flush: how often the committer looks whether more came */
#define ALONE_ENOUGH 8          /* so many flushes say what one takes */
#define BESIDE_ENOUGH 32
#define FLIGHTS_AGAIN_US 10000000
#define GAPS 16                 /* of a flush: between the beginnings of two */
#define GAP_MIN_US 500

/* ---- what flushes take ---- */

void pace_note(struct journal_pace *p, int64_t took_us, bool is_beside)
{
    int64_t *mean = is_beside ? &p->beside_us : &p->alone_us;
    unsigned *n = is_beside ? &p->beside_n : &p->alone_n;
    *mean = *n == 0 ? took_us : *mean + (took_us - *mean) / (is_beside ? 16 : 4);
    if (*n < BESIDE_ENOUGH)
        ++*n;
}

void pace_begin_again(struct journal_pace *p)
{
    p->is_deep = false;
    p->alone_n = p->beside_n = 0;
}

static bool is_hurt(int64_t beside_us, int64_t alone_us)
{
    return beside_us > alone_us * 4 / 3 + NAP_MAX_US;
}

/*
 * Whether flushes shall run side by side. That they take longer so than one does alone may be the processors' fault, that are busier
 * now: in doubt some are done one by one again, and only when those are quicker the disk is believed to do one at a time.
 */
static bool is_deep(struct journal_pace *p)
{
    bool beside_known = p->beside_n >= BESIDE_ENOUGH, alone_known = p->alone_n >= ALONE_ENOUGH;
    if (!p->is_deep && alone_known && p->alone_us >= SIDE_BY_SIDE_FROM_US) {
        if (is_hurt(p->doubted_us, p->alone_us))
            p->deep_from_us = journal_now_us() + FLIGHTS_AGAIN_US;
        p->doubted_us = 0;
        p->beside_n = 0;
        p->is_deep = journal_now_us() >= p->deep_from_us;
    } else if (p->is_deep && beside_known && is_hurt(p->beside_us, p->alone_us)) {
        p->doubted_us = p->beside_us;
        pace_begin_again(p);
    } else if (p->is_deep && ((beside_known && p->beside_us < SIDE_BY_SIDE_FROM_US) || p->alone_us < SIDE_BY_SIDE_FROM_US)) {
        pace_begin_again(p);
    }
    return p->is_deep;
}

/* ---- one by one ---- */

static bool write_and_flush(struct journal *j, struct round *r)
{
    if (!round_write(j, r))
        return false;
    int64_t began_us = journal_now_us();
    bool ok = j->segs.io->fdatasync(j->segs.io->arg, j->active->fd) == 0;
    int saved = errno;
    pace_note(&j->pace, journal_now_us() - began_us, false);
    errno = saved;
    return ok;
}

static void run_turn(struct spool *s, struct msg *msgs, struct batch_item *items)
{
    struct journal *j = &s->journal;
    while (msgs != NULL || items != NULL) {
        struct round r = { .items = items, .items_end = items, .msgs = msgs, .msgs_end = msgs };
        if (!write_and_flush(j, &r)) {
            int err = errno;
            r.status = journal_status_of_errno(err);
            journal_abandon(s, err);
            r.items_end = NULL; /* whatever of this turn was not answered yet fails with it */
            r.msgs_end = NULL;
        }
        items = r.items_end;
        msgs = r.msgs_end;
        round_finish(s, &r);
    }
}

static void nap(struct journal *j, int64_t us) REQUIRES(j->m)
{
    lock_drop(&j->m);
    nanosleep(&(struct timespec){ .tv_nsec = 1000 * us }, NULL);
    lock_take(&j->m);
}

/* See the top. Submitters need not wake the committer meanwhile. */
static void gather(struct journal *j) REQUIRES(j->m)
{
    uint32_t wanted = j->pace.wanted;
    int64_t flush_us = j->pace.alone_us, slice_us = flush_us / GATHER_SLICES, until_us = j->pace.flushed_us + flush_us;
    if (flush_us < SLOW_FROM_US) {
        uint32_t before = 0;
        for (unsigned naps = 0; naps < NAPS_MAX && j->waiting > before && j->waiting * 4 <= wanted * 3 && !j->stopping; naps++) {
            before = j->waiting;
            nap(j, flush_us < NAP_MAX_US ? flush_us : NAP_MAX_US);
        }
        return;
    }
    for (int idle = 0; idle < 2 && j->waiting < wanted && !j->stopping && journal_now_us() < until_us;) {
        uint32_t before = j->waiting;
        nap(j, slice_us < 900000 ? slice_us : 900000);
        idle = j->waiting > before ? 0 : idle + 1;
    }
}

/* ---- the thread ---- */

static void take_lists(struct journal *j, struct msg **msgs, struct batch_item **items) REQUIRES(j->m)
{
    *msgs = j->head;
    *items = j->items;
    j->head = NULL;
    j->tail = &j->head;
    j->items = NULL;
    j->items_tail = &j->items;
    j->waiting = 0;
}

static void turn(struct spool *s, struct journal *j) REQUIRES(j->m)
{
    struct msg *msgs;
    struct batch_item *items;
    gather(j);
    take_lists(j, &msgs, &items);
    j->answered = 0;
    lock_drop(&j->m);
    run_turn(s, msgs, items);
    lock_take(&j->m);
    j->pace.wanted = j->waiting + j->answered;
    j->pace.flushed_us = journal_now_us();
}

/* Sends off what waits, unless the last one went just now. */
static void fly(struct spool *s, struct journal *j) REQUIRES(j->m)
{
    struct journal_pace *p = &j->pace;
    struct msg *msgs;
    struct batch_item *items;
    int64_t now_us = journal_now_us(), gap_us = p->alone_us / GAPS;
    if (flights_up(j) > 0 && now_us < p->next_us) {
        cond_wait_us(&j->wake, &j->m, p->next_us - now_us);
        return;
    }
    p->next_us = now_us + (gap_us > GAP_MIN_US ? gap_us : GAP_MIN_US);
    take_lists(j, &msgs, &items);
    lock_drop(&j->m);
    bool all_up = flights_start(s, &msgs, &items) == FLIGHT_UP && msgs == NULL && items == NULL;
    lock_take(&j->m);
    if (all_up)
        return;
    flights_drain(s, j);
    lock_drop(&j->m);
    run_turn(s, msgs, items);
    lock_take(&j->m);
}

/* The next thing to do, or a wait for it; false at the end. */
static bool step(struct spool *s, struct journal *j) REQUIRES(j->m)
{
    bool waiting = j->head != NULL || j->items != NULL, any_up = flights_up(j) > 0;
    if (flights_land(s, j))
        return true;
    if (!waiting && !any_up && j->stopping)
        return false;
    if (!waiting) {
        j->sleeping = true;
        cond_wait(&j->wake, &j->m);
        j->sleeping = false;
    } else if (!flights_may_start(j) || (!is_deep(&j->pace) && any_up)) {
        cond_wait(&j->wake, &j->m);
    } else if (j->pace.is_deep) {
        fly(s, j);
    } else {
        turn(s, j);
    }
    return true;
}

void *journal_committer(void *arg)
{
    struct spool *s = arg;
    struct journal *j = &s->journal;
    lock_take(&j->m);
    while (step(s, j))
        ;
    j->ended = true;
    lock_drop(&j->m);
    flights_free(j);
    return NULL;
}

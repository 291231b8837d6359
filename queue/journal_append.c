/*
 * What comes to the committer, and what it does with it but for the flush (journal_commit.c). It takes everything that
 * waits and writes it with as few pwritev() as IOV_MAX allows, straight from the memory of the messages. Two lists come in:
 * messages (chained through struct msg) and items (administrative records, copies made by compaction, notes); items go first.
 *
 * A round goes to one segment. What does not fit any more waits for the next round, in the next segment.
 * Messages that were submitted together are in one round, one behind the other, and each but the last says that there is more
 * (RECORD_MORE): recovery passes over those whose end is missing.
 *
 * When a write or a flush fails, nothing of that round was promised to anybody, the segment is closed for good (after
 * a failed flush the kernel may have dropped the pages, and a second flush would lie), and the next round begins a new
 * one with a note that says where the old one ends. Recovery that finds the note does not read beyond; without it a
 * message that was answered 451 may come to life again: a duplicate, never a loss.
 *
 * `announced` moves only after the sink knows the messages: what the index claims to cover is taken from it.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>

#include "common/base/clock.h"
#include "common/base/crc32c.h"
#include "common/base/mem.h"
#include "queue/journal_internal.h"

#define IOV_COUNT 1024

void journal_init(struct journal *j, const struct spool_io *io, const struct log_src *log, const char *dir, uint64_t segment_bytes)
{
    *j = (struct journal){ .iov = xcalloc(IOV_COUNT, sizeof(struct iovec)) };
    segments_init(&j->segs, io, log, dir, segment_bytes);
    lock_init(&j->m, LOCK_JOURNAL_BATCH);
    cond_init(&j->wake);
    j->tail = &j->head;
    j->items_tail = &j->items;
}

void journal_destroy(struct journal *j)
{
    segments_destroy(&j->segs);
    cond_destroy(&j->wake);
    lock_destroy(&j->m);
    free(j->iov);
}

/* ---- coming in ---- */

static void wake_committer(struct journal *j) NO_THREAD_SAFETY
{
    if (j->sleeping) {
        j->sleeping = false;
        cond_signal(&j->wake);
    }
}

static uint32_t in_journal(const struct msg *m)
{
    return m->is_large ? 0 : (uint32_t)m->env.content_bytes;
}

/* On the submitter's thread: encoding and checksums, all that does not need to know where the record goes. */
static void encode(struct msg *m)
{
    if (!m->content_checked) {
        m->content_crc = crc32c(0, m->content, in_journal(m));
        m->content_checked = true;
    }
    m->record = record_message(m, in_journal(m), &m->record_bytes);
    msg_pack(m);
    m->content_offset = m->record_bytes;
    struct frame f = { .meta_bytes = m->record_bytes - FRAME_HEADER_BYTES };
    /* Parked where the header will be: the committer reads it before it writes the header. */
    f.crc = crc32c(0, m->record + FRAME_HEADER_BYTES, f.meta_bytes);
    memcpy(m->record, &f.crc, sizeof f.crc);
}

/* The list from first to last. */
static void submit_list(struct spool *s, struct msg *first, struct msg *last, uint32_t n)
{
    struct journal *j = &s->journal;
    lock_take(&j->m);
    bool ended = j->ended;
    if (!ended) {
        *j->tail = first;
        j->tail = &last->batch_next;
        j->waiting += n;
        wake_committer(j);
    }
    lock_drop(&j->m);
    while (ended && first != NULL) {
        struct msg *m = first;
        first = m->batch_next;
        if (m->is_large)
            spool_large_unlink(s, m->env.id);
        if (m->done_cb != NULL)
            m->done_cb(m->done_arg, m, SPOOL_STOPPING);
        msg_unref(&m);
    }
}

void spool_submit(struct spool *s, struct msg *m)
{
    encode(m);
    m->batch_next = NULL;
    m->batch_more = false;
    submit_list(s, m, m, 1);
}

void spool_submit_all(struct spool *s, struct msg **v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        encode(v[i]);
        v[i]->batch_next = i + 1 < n ? v[i + 1] : NULL;
        v[i]->batch_more = i + 1 < n;
    }
    if (n > 0)
        submit_list(s, v[0], v[n - 1], (uint32_t)n);
}

void journal_submit_item(struct spool *s, struct batch_item *it)
{
    struct journal *j = &s->journal;
    uint32_t crc = crc32c(0, it->record + FRAME_HEADER_BYTES, it->meta_bytes);
    memcpy(it->record, &crc, sizeof crc);
    it->next = NULL;
    lock_take(&j->m);
    bool ended = j->ended;
    if (!ended) {
        *j->items_tail = it;
        j->items_tail = &it->next;
        wake_committer(j);
    }
    lock_drop(&j->m);
    if (ended) {
        if (it->done != NULL)
            it->done(it->arg, SPOOL_STOPPING);
        free(it->record);
        free(it);
    }
}

void spool_admin_submit(struct spool *s, enum spool_admin what, uint64_t id, struct span detail,
                        void (*cb)(void *arg, int status), void *arg)
{
    struct record_admin a = { .what = (uint8_t)what, .id = id, .when_us = clock_wall_us(), .detail = detail };
    struct batch_item *it = xcalloc(1, sizeof *it);
    uint32_t bytes;
    it->record = record_admin(&a, &bytes);
    it->meta_bytes = bytes - FRAME_HEADER_BYTES;
    it->kind = REC_ADMIN;
    it->done = cb;
    it->arg = arg;
    journal_submit_item(s, it);
}

void journal_stop(struct journal *j)
{
    lock_take(&j->m);
    j->stopping = true;
    wake_committer(j);
    lock_drop(&j->m);
}

/* ---- one round: as much as fits the active segment ---- */

static uint64_t item_bytes(const struct batch_item *it)
{
    return FRAME_HEADER_BYTES + (uint64_t)it->meta_bytes + it->content_bytes;
}

static uint64_t msg_bytes(const struct msg *m)
{
    return (uint64_t)m->record_bytes + in_journal(m);
}

/* Of all that are committed with m, which is the first of them. */
static uint64_t group_bytes(const struct msg *m)
{
    uint64_t n = msg_bytes(m);
    for (; m->batch_more; n += msg_bytes(m))
        m = m->batch_next;
    return n;
}

/* Replaces the parked CRC by the header. */
static void seal(struct journal *j, char *record, struct frame *f)
{
    uint32_t meta_crc;
    memcpy(&meta_crc, record, sizeof meta_crc);
    f->generation = j->active->generation;
    frame_seal(record, f, meta_crc, j->active->salt);
}

static bool write_iov(struct journal *j, struct round *r, uint64_t *written)
{
    bool ok = r->iovs == 0 || spool_io_writev(j->segs.io, j->active->fd, j->iov, r->iovs, (off_t)*written);
    *written = r->at;
    r->iovs = 0;
    return ok;
}

static void add_iov(struct journal *j, struct round *r, char *p, size_t n)
{
    if (n > 0)
        j->iov[r->iovs++] = (struct iovec){ p, n };
    r->at += n;
}

static bool write_items(struct journal *j, struct round *r, uint64_t *written)
{
    for (; r->items_end != NULL; r->items_end = r->items_end->next) {
        struct batch_item *it = r->items_end;
        if (r->at + item_bytes(it) > j->active->bytes) {
            r->full = true;
            return true;
        }
        struct frame f = { .meta_bytes = it->meta_bytes, .content_bytes = it->content_bytes, .kind = it->kind,
                           .flags = it->flags, .content_crc = it->content_crc };
        seal(j, it->record, &f);
        it->pos = (struct journal_pos){ j->active->generation, r->at };
        add_iov(j, r, it->record, item_bytes(it));
        if (r->iovs + 2 > IOV_COUNT && !write_iov(j, r, written))
            return false;
    }
    return true;
}

static bool write_msgs(struct journal *j, struct round *r, uint64_t *written)
{
    bool is_first = true; /* of those that belong together */
    for (; r->msgs_end != NULL; r->msgs_end = r->msgs_end->batch_next) {
        struct msg *m = r->msgs_end;
        if (is_first && r->at + group_bytes(m) > j->active->bytes) {
            r->full = true;
            return true;
        }
        is_first = !m->batch_more;
        struct frame f = { .meta_bytes = m->record_bytes - FRAME_HEADER_BYTES, .content_bytes = in_journal(m),
                           .kind = REC_MESSAGE, .flags = m->batch_more ? RECORD_MORE : 0, .content_crc = m->is_large ? 0 : m->content_crc };
        seal(j, m->record, &f);
        m->pos = (struct journal_pos){ j->active->generation, r->at };
        add_iov(j, r, m->record, m->record_bytes);
        add_iov(j, r, m->content, in_journal(m));
        if (r->iovs + 2 > IOV_COUNT && !write_iov(j, r, written))
            return false;
    }
    return true;
}

int journal_status_of_errno(int e)
{
    return e == ENOSPC || e == EDQUOT ? SPOOL_FULL : SPOOL_IO;
}

static enum spool_trouble trouble_of_errno(int e)
{
    return journal_status_of_errno(e) == SPOOL_FULL ? SPOOL_TROUBLE_FULL : SPOOL_TROUBLE_IO;
}

/* The next segment, begun with a note when the one before was abandoned. */
static bool roll(struct journal *j, uint64_t need)
{
    uint32_t note_bytes;
    j->active = NULL;
    struct segment *g = segments_take_active(&j->segs, need + 64);
    if (g == NULL)
        return false;
    j->active = g;
    j->end = j->written = LOGFILE_DATA_AT;
    if (j->cut.segment == 0)
        return true;
    char *note = record_note(j->cut, &note_bytes);
    struct frame f = { .meta_bytes = note_bytes - FRAME_HEADER_BYTES, .kind = REC_NOTE };
    uint32_t crc = crc32c(0, note + FRAME_HEADER_BYTES, f.meta_bytes);
    memcpy(note, &crc, sizeof crc);
    seal(j, note, &f);
    bool ok = spool_io_write(j->segs.io, g->fd, note, note_bytes, (off_t)j->end);
    free(note);
    if (ok) {
        j->end = j->written += note_bytes;
        j->cut = (struct journal_pos){ 0, 0 };
    }
    return ok;
}

void journal_abandon(struct spool *sp, int err)
{
    struct journal *j = &sp->journal;
    struct segments *s = &j->segs;
    if (j->active == NULL) {
        spool_tell(sp, trouble_of_errno(err), "journal: cannot begin a segment (%s): mail of this batch refused", strerrordesc_np(err));
        return;
    }
    spool_tell(sp, trouble_of_errno(err), "journal: write or flush of segment %016llx failed (%s): segment closed, mail of this batch refused",
               (unsigned long long)j->active->generation, strerrordesc_np(err));
    if (j->cut.segment == 0) /* else the note itself failed: its own segment holds nothing */
        j->cut = (struct journal_pos){ j->active->generation, j->end };
    lock_take(&s->m);
    j->active->abandoned = true;
    j->active->sealed = true; /* from here on the keeper may free it */
    j->active = NULL;
    lock_drop(&s->m);
}

static uint64_t first_bytes(const struct round *r)
{
    return r->items_end != NULL ? item_bytes(r->items_end) : group_bytes(r->msgs_end);
}

bool round_has_room(const struct journal *j, const struct round *r)
{
    return j->active != NULL && j->written + first_bytes(r) <= j->active->bytes;
}

bool round_write(struct journal *j, struct round *r)
{
    uint64_t need = first_bytes(r);
    if (!round_has_room(j, r) && !roll(j, need))
        return false;
    uint64_t written = r->at = j->written;
    if (!write_items(j, r, &written) || (!r->full && !write_msgs(j, r, &written)) || !write_iov(j, r, &written))
        return false;
    j->written = r->at;
    return true;
}

/* Liveness of what this round wrote, before anybody can say that it ended. */
static void publish(struct journal *j, const struct round *r)
{
    struct segments *s = &j->segs;
    uint64_t n = 0;
    for (struct batch_item *it = r->items; it != r->items_end; it = it->next, n++)
        if (it->flags & RECORD_MOVED)
            segments_note_move(s, it->id, it->from, it->pos, it->weight);
    lock_take(&s->m);
    for (struct batch_item *it = r->items; it != r->items_end; it = it->next)
        j->active->admin_records += it->kind == REC_ADMIN;
    for (struct msg *m = r->msgs; m != r->msgs_end; m = m->batch_next, n++, j->answered++)
        segment_set_live_locked(s, m->pos, segment_weight(m->env.content_bytes, m->is_large));
    j->active->end = r->at;
    lock_drop(&s->m);
    j->end = r->at;
    atomic_fetch_add_explicit(&j->commits, n, memory_order_relaxed);
    atomic_fetch_add_explicit(&j->flushes, 1, memory_order_relaxed);
}

/* From here on there may be results of messages that `announced` does not cover yet. */
static void note_telling(struct spool *s, const struct round *r)
{
    struct journal *j = &s->journal;
    if (r->msgs == r->msgs_end)
        return;
    uint64_t end = result_log_end(&s->results);
    lock_take(&j->m);
    j->told_results = end;
    lock_drop(&j->m);
}

static void announce(struct journal *j)
{
    lock_take(&j->m);
    j->told_results = 0;
    j->announced = (struct journal_pos){ j->active->generation, j->end };
    lock_drop(&j->m);
}

static void finish_items(struct round *r)
{
    while (r->items != r->items_end) {
        struct batch_item *it = r->items;
        r->items = it->next;
        if (it->done != NULL)
            it->done(it->arg, r->status);
        free(it->record);
        free(it);
    }
}

static void finish_msgs(struct spool *s, struct round *r)
{
    while (r->msgs != r->msgs_end) {
        struct msg *m = r->msgs;
        r->msgs = m->batch_next;
        m->batch_next = NULL;
        if (r->status != SPOOL_OK && m->is_large)
            spool_large_done(s, m->env.id);
        if (m->done_cb != NULL)
            m->done_cb(m->done_arg, m, r->status);
        msg_unref(&m);
    }
}

static void tell_sink(struct spool *s, struct round *r)
{
    bool tight = content_pool_is_tight(&s->pool);
    for (struct msg *m = r->msgs; m != r->msgs_end; m = m->batch_next) {
        free(m->record);
        m->record = NULL;
        if (tight)
            content_drop(s, m);
        if (s->sink.committed != NULL)
            s->sink.committed(s->sink.arg, m);
    }
}

void round_finish(struct spool *s, struct round *r)
{
    struct journal *j = &s->journal;
    if (r->status == SPOOL_OK) {
        publish(j, r);
        note_telling(s, r);
        tell_sink(s, r);
    }
    if (atomic_exchange_explicit(&j->trouble, r->status, memory_order_relaxed) != SPOOL_OK && r->status == SPOOL_OK)
        log_info(j->segs.log, "journal: writing works again");
    finish_items(r);
    if (r->status == SPOOL_OK)
        announce(j);
    finish_msgs(s, r);
}

void journal_probe(struct spool *s)
{
    struct batch_item *it = xcalloc(1, sizeof *it);
    uint32_t bytes;
    it->record = record_note((struct journal_pos){ 0, 0 }, &bytes);
    it->meta_bytes = bytes - FRAME_HEADER_BYTES;
    it->kind = REC_NOTE;
    journal_submit_item(s, it);
}

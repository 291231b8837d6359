/*
 * Reading the journal and the result log again. Results first, so that of the messages found only those are kept that
 * may still be alive; then the segments in order. What is known of an id gathers in a hash; message contents stay on disk.
 *
 * A gap (bytes that are no frame, with valid frames behind them) is damage: it is copied to corrupt/ and reported, and
 * the rest is read. A torn frame at the end of a segment is what a power cut leaves of a batch that was never
 * answered; it is kept in corrupt/ too, but nobody needs to act.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/index_internal.h"
#include "queue/recover.h"

/* A torn end is kept for people to look at, not in full. */
#define TORN_KEPT 65536u
/* The note at the begin of a segment lies there. */
#define NOTE_WITHIN (LOGFILE_DATA_AT + 4096u)

void replay_init(struct replay *r, struct spool *s)
{
    *r = (struct replay){ .s = s, .arena = arena_new(65536) };
}

void replay_free(struct replay *r)
{
    HASH_CLEAR(hh, r->msgs); /* the entries are in the arena */
    arena_free(&r->arena);
}

struct replay_msg *replay_get(struct replay *r, uint64_t id)
{
    struct replay_msg *p;
    HASH_FIND(hh, r->msgs, &id, sizeof id, p);
    if (p == NULL) {
        p = arena_alloc(r->arena, sizeof *p);
        p->id = id;
        HASH_ADD(hh, r->msgs, id, sizeof p->id, p);
    }
    return p;
}

const struct replay_msg *replay_find(const struct replay *r, uint64_t id)
{
    struct replay_msg *p;
    HASH_FIND(hh, r->msgs, &id, sizeof id, p);
    return p;
}

struct rcpt_progress *replay_rcpt(struct replay *r, struct replay_msg *p, uint32_t rcpt)
{
    struct rcpt_progress *q = p->rcpts;
    while (q != NULL && q->rcpt != rcpt)
        q = q->next;
    if (q == NULL) {
        q = arena_alloc(r->arena, sizeof *q);
        q->rcpt = rcpt;
        q->next = p->rcpts;
        p->rcpts = q;
    }
    return q;
}

/* ---- results ---- */

static void one_result(void *arg, uint64_t pos UNUSED, const struct spool_result *res)
{
    struct replay *r = arg;
    struct replay_msg *p = replay_get(r, res->id);
    struct rcpt_progress *q = replay_rcpt(r, p, res->rcpt);
    r->results++;
    qid_seen(&r->s->qids, res->id); /* its number must not be given out again: this result would count for the new one */
    if (q->done)
        return; /* what is final stays final */
    q->attempts = res->attempts != 0 ? res->attempts : (uint16_t)(q->attempts + 1);
    q->is_total = q->is_total || res->attempts != 0;
    q->when_us = res->when_us;
    q->has_result = true;
    q->due_us = res->due_us;
    q->done = res->outcome != OUTCOME_DEFERRED;
    p->done += q->done;
    if (!q->done) {
        q->dsn = arena_dup_span(r->arena, res->dsn);
        q->mta = arena_dup_span(r->arena, res->mta);
        q->reason = arena_dup_span(r->arena, res->reason);
    }
}

bool replay_results(struct replay *r, struct err *e)
{
    return result_log_replay(&r->s->results, r->results_from, one_result, r, e);
}

/* What was not tried again since is due at once. */
static void requeue(const struct replay_msg *p, struct msg *m)
{
    for (uint32_t i = 0; i < m->env.rcpt_count; i++) {
        const struct rcpt_progress *q = p->rcpts;
        while (q != NULL && q->rcpt != i)
            q = q->next;
        if (q == NULL || !q->has_result || q->when_us <= p->requeued_us)
            m->env.rcpts[i].due_us = 0;
    }
}

uint32_t replay_apply(const struct replay_msg *p, struct msg *m)
{
    uint32_t left = 0;
    for (const struct rcpt_progress *q = p->rcpts; q != NULL; q = q->next) {
        if (q->rcpt >= m->env.rcpt_count)
            continue;
        struct msg_rcpt *t = &m->env.rcpts[q->rcpt];
        t->attempts = q->is_total ? q->attempts : (uint16_t)(t->attempts + q->attempts);
        if (q->done || t->state == RCPT_DONE) {
            t->state = RCPT_DONE;
            continue;
        }
        if (q->addr.n > 0) {
            t->addr = arena_dup_span(m->arena, q->addr);
            t->is_readdressed = true;
            t->route = (struct msg_route){ 0 };
        }
        if (!q->has_result) {
            t->due_us = q->readdressed_us != 0 ? 0 : t->due_us;
            continue;
        }
        t->due_us = q->when_us >= q->readdressed_us ? q->due_us : 0;
        t->last_dsn = arena_dup_span(m->arena, q->dsn);
        t->last_mta = arena_dup_span(m->arena, q->mta);
        t->last_reason = arena_dup_span(m->arena, q->reason);
    }
    for (uint32_t i = 0; i < m->env.rcpt_count; i++)
        left += m->env.rcpts[i].state != RCPT_DONE;
    if (p->requeued_us != 0)
        requeue(p, m);
    if (p->delay_warned)
        m->env.flags |= ENV_NO_DELAY_WARNING;
    if (p->hold_known)
        m->env.flags = p->hold ? m->env.flags | ENV_HOLD : m->env.flags & ~(uint32_t)ENV_HOLD;
    if (p->expired)
        m->env.flags |= ENV_FORCED_EXPIRE;
    return p->deleted ? 0 : left;
}

/* ---- journal ---- */

static void quarantine(struct replay *r, const struct segment *g, const char *p, uint64_t from, uint64_t to)
{
    struct spool *s = r->s;
    if (s->o.read_only)
        return;
    char *path = xasprintf("%s/corrupt/%016llx-%llu", s->o.dir, (unsigned long long)g->generation, (unsigned long long)from);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || !io_write_all(fd, p + from, to - from))
        log_warn(s->o.log, "cannot keep the damaged bytes in %s: %m", path);
    io_close(&fd);
    free(path);
}

/*
 * A copy made by compaction, of a message that the index (as of the mark) should know but does not: the message ended
 * while the copy was on its way.
 */
static bool is_dead_copy(struct replay *r, const struct frame *f, uint64_t id, struct journal_pos moved_from)
{
    bool has = false, deleted = false;
    if (!(f->flags & RECORD_MOVED) || pos_compare(moved_from, r->from) >= 0)
        return false;
    const struct replay_msg *p = replay_find(r, id);
    if (p != NULL && (p->is_orphan || p->found))
        return false;
    if (r->s->index != NULL && !index_look(r->s->index, id, &has, &deleted, &r->why))
        r->is_stuck = true; /* either answer could be wrong: the start fails */
    return !has && !deleted;
}

static void found_message(struct replay *r, const struct frame *f, struct span meta, struct journal_pos at)
{
    uint64_t id;
    uint32_t rcpts;
    struct journal_pos moved_from;
    if (!record_message_peek(meta, &id, &rcpts, &moved_from))
        return;
    qid_seen(&r->s->qids, id);
    if (is_dead_copy(r, f, id, moved_from))
        return;
    struct replay_msg *p = replay_get(r, id);
    if (!p->found)
        p->order = r->found++;
    p->found = true;
    p->rcpt_count = rcpts;
    p->pos = at;
}

/* The latest one counts; of a recipient that is done nothing is changed (replay_apply()). */
static void found_readdress(struct replay *r, struct replay_msg *p, const struct record_admin *a)
{
    if (a->detail.n <= 4)
        return;
    struct rcpt_progress *q = replay_rcpt(r, p, (uint32_t)be_read(a->detail.p, 4));
    q->addr = arena_dup_span(r->arena, span_from(a->detail, 4));
    q->readdressed_us = a->when_us;
}

static void found_admin(struct replay *r, struct span meta)
{
    struct record_admin a;
    if (!record_admin_decode(meta, &a))
        return;
    struct replay_msg *p = replay_get(r, a.id);
    r->admins++;
    switch ((enum spool_admin)a.what) {
    case ADMIN_HOLD:
    case ADMIN_RELEASE:
        p->hold_known = true;
        p->hold = a.what == ADMIN_HOLD;
        break;
    case ADMIN_DELETE:
        p->deleted = true;
        break;
    case ADMIN_REQUEUE:
        p->requeued_us = a.when_us;
        break;
    case ADMIN_EXPIRE:
        p->expired = true;
        break;
    case ADMIN_READDRESS:
        found_readdress(r, p, &a);
        break;
    case ADMIN_TRASH:
    case ADMIN_UNDELETE:
        p->trash_known = true;
        p->trashed_us = a.what == ADMIN_TRASH ? a.when_us : 0;
        if (a.what == ADMIN_UNDELETE)
            p->requeued_us = a.when_us;
        break;
    }
}

/* Messages that count only with the one that is to follow. */
struct unfinished {
    struct { struct frame f; uint64_t off; } *v; /* owned */
    size_t n, cap;
};

static void unfinished_add(struct unfinished *u, const struct frame *f, uint64_t off)
{
    if (u->n == u->cap) {
        u->cap = u->cap > 0 ? 2 * u->cap : 16;
        u->v = xrealloc(u->v, u->cap * sizeof *u->v);
    }
    u->v[u->n].f = *f;
    u->v[u->n++].off = off;
}

/* Their end is there. (Damage between them is told by itself: those that can be read are not lost with it.) */
static void unfinished_take(struct replay *r, struct unfinished *u, const struct frame_scan *sc)
{
    for (size_t i = 0; i < u->n; i++)
        found_message(r, &u->v[i].f, frame_meta(sc, u->v[i].off, &u->v[i].f), (struct journal_pos){ sc->generation, u->v[i].off });
    u->n = 0;
}

/* The process ended while it wrote them; nobody was told that they were taken. */
static void unfinished_leave(struct replay *r, struct unfinished *u, const struct frame_scan *sc)
{
    for (size_t i = 0; i < u->n; i++) {
        uint64_t id;
        uint32_t rcpts;
        struct journal_pos from;
        if (record_message_peek(frame_meta(sc, u->v[i].off, &u->v[i].f), &id, &rcpts, &from))
            qid_seen(&r->s->qids, id);
    }
    if (u->n > 0)
        log_info(r->s->o.log, "journal segment %016llx: %zu messages passed over: others that belong to them were not written",
                 (unsigned long long)sc->generation, u->n);
    free(u->v);
}

static void replay_segment(struct replay *r, struct segment *g, const char *map)
{
    struct unfinished u = { 0 };
    struct frame_scan sc = { .p = map, .n = g->end, .off = LOGFILE_DATA_AT, .generation = g->generation, .salt = g->salt };
    const struct log_src *log = r->s->o.log;
    struct frame f;
    uint64_t off, last = LOGFILE_DATA_AT;
    if (r->from.segment == g->generation && r->from.offset > sc.off)
        sc.off = r->from.offset;
    for (enum scan_status st; (st = frame_scan_next(&sc, &f, &off)) != SCAN_END;) {
        struct journal_pos at = { g->generation, off };
        switch (st) {
        case SCAN_FRAME:
            last = sc.off;
            if (f.kind == REC_MESSAGE && (f.flags & RECORD_MORE)) {
                unfinished_add(&u, &f, off);
                break;
            }
            unfinished_take(r, &u, &sc);
            if (f.kind == REC_MESSAGE)
                found_message(r, &f, frame_meta(&sc, off, &f), at);
            else if (f.kind == REC_ADMIN) {
                found_admin(r, frame_meta(&sc, off, &f));
                g->admin_records++;
            }
            break;
        case SCAN_GAP:
            r->gaps++;
            quarantine(r, g, map, off, sc.off);
            log_error(log, "journal segment %016llx: %llu bytes at %llu are damaged; kept in corrupt/, the rest was read",
                      (unsigned long long)g->generation, (unsigned long long)(sc.off - off), (unsigned long long)off);
            break;
        case SCAN_TORN:
            r->torn++;
            quarantine(r, g, map, off, off + (g->end - off < TORN_KEPT ? g->end - off : TORN_KEPT));
            log_warn(log, "journal segment %016llx ends with an unfinished record at %llu; kept in corrupt/",
                     (unsigned long long)g->generation, (unsigned long long)off);
            break;
        case SCAN_END:
            break;
        }
    }
    unfinished_leave(r, &u, &sc);
    g->end = last;
}

typedef void with_map_fn(struct replay *r, struct segment *g, const char *map);

/* fn sees the first n bytes; places that cannot be read are zero, so that their frames are found to be damaged. */
static bool with_map(struct replay *r, struct segment *g, size_t n, with_map_fn *fn, struct err *e)
{
    size_t bad = 0;
    struct segments *s = &r->s->journal.segs;
    int fd;
    struct segment *pinned = segment_pin(s, g->generation, &fd);
    const char *map = pinned == NULL ? NULL : io_map_readable(fd, n, &bad);
    if (map == NULL) {
        err_set_sys(e, errno, "read journal segment %016llx", (unsigned long long)g->generation);
    } else {
        if (bad > 0)
            log_error(r->s->o.log, "journal segment %016llx: %zu bytes cannot be read", (unsigned long long)g->generation, bad);
        fn(r, g, map);
        io_unmap(map, n);
    }
    segment_unpin(s, &pinned);
    return map != NULL;
}

/* A segment that begins with a note says where an earlier one stopped being valid. */
static void read_note(struct replay *r, struct segment *g, const char *map)
{
    size_t n = g->end < NOTE_WITHIN ? g->end : NOTE_WITHIN;
    struct frame_scan sc = { .p = map, .n = n, .off = LOGFILE_DATA_AT, .generation = g->generation, .salt = g->salt };
    struct segments *s = &r->s->journal.segs;
    struct frame f;
    struct journal_pos cut;
    uint64_t off;
    if (sc.n < sc.off + FRAME_HEADER_BYTES || !frame_parse(map + sc.off, g->salt, &f) || f.kind != REC_NOTE ||
        frame_scan_next(&sc, &f, &off) != SCAN_FRAME || !record_note_decode(frame_meta(&sc, off, &f), &cut))
        return;
    lock_take(&s->m);
    struct segment *old = segments_find_locked(s, cut.segment);
    if (old != NULL && cut.offset < old->end)
        old->end = cut.offset;
    lock_drop(&s->m);
}

bool replay_journal(struct replay *r, struct err *e)
{
    struct segments *s = &r->s->journal.segs;
    bool ok = true;
    for (size_t i = 0; ok && i < s->n; i++)
        if (s->v[i]->generation >= r->from.segment && s->v[i]->bytes > LOGFILE_DATA_AT)
            ok = with_map(r, s->v[i], s->v[i]->bytes < NOTE_WITHIN ? s->v[i]->bytes : NOTE_WITHIN, read_note, e);
    for (size_t i = 0; ok && i < s->n; i++)
        if (s->v[i]->generation >= r->from.segment && s->v[i]->bytes > LOGFILE_DATA_AT) {
            ok = !spool_is_told_to_stop(r->s, "reading the journal", i, s->n);
            if (!ok)
                err_set(e, "interrupted");
            ok = ok && with_map(r, s->v[i], s->v[i]->bytes, replay_segment, e);
        }
    if (ok && r->is_stuck)
        err_set(e, "%s", r->why.text);
    return ok && !r->is_stuck;
}

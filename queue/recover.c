/*
 * At start: what the index does not know yet is read from the journal and the result log (from the index's mark on) and
 * put into it, in transactions of MESSAGES_PER_COMMIT; the last one carries the new mark, behind everything there is, so a
 * recovery that is cut short begins again and does the same. New messages are also given to the sink, up to SINK_MAX
 * of them; what is more is found by the scheduler in the index when it is due, so memory does not grow with the backlog.
 *
 * When the index is new (deleted, damaged, other version) it is first filled from the checkpoint, and the marks of the
 * checkpoint take the place of its own.
 */
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "queue/index_internal.h"
#include "queue/recover.h"

#define SINK_MAX 10000
#define MESSAGES_PER_COMMIT 20000
#define MESSAGES_PER_TELL 1000

/* What recovery carries through its steps. */
struct recovery {
    struct spool *s;
    struct replay *r;
    struct msg **given;       /* for the sink, in journal order */
    size_t given_n;
    uint64_t restored, recovered, updated, removed, lost;
};

static int by_order(const void *a, const void *b)
{
    const struct replay_msg *x = *(struct replay_msg *const *)a, *y = *(struct replay_msg *const *)b;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Everything that was heard of, found ones in journal order. */
static struct replay_msg **in_order(struct replay *r, size_t *n)
{
    struct replay_msg **v = xcalloc(HASH_COUNT(r->msgs) + 1, sizeof(struct replay_msg *)), *p, *next;
    *n = 0;
    HASH_ITER(hh, r->msgs, p, next)
        v[(*n)++] = p;
    qsort(v, *n, sizeof(struct replay_msg *), by_order);
    return v;
}

/* It stays where it is, and under a second name, so that the bytes are still there when the segment is given up. */
void spool_keep_unreadable(struct spool *s, struct journal_pos pos, const char *text)
{
    struct segments *g = &s->journal.segs;
    spool_tell(s, SPOOL_TROUBLE_DAMAGE, "%s: the message cannot be delivered; the segment is kept in corrupt/", text);
    if (s->o.read_only)
        return;
    char *from = segments_path(g, pos.segment), *to = xasprintf("%s/corrupt/%016llx.jnl", s->o.dir, (unsigned long long)pos.segment);
    if (link(from, to) != 0 && errno != EEXIST)
        log_warn(s->o.log, "cannot keep %s as %s: %m", from, to);
    lock_take(&g->m);
    struct segment *q = segments_find_locked(g, pos.segment);
    if (q != NULL)
        q->abandoned = true; /* unlinked at its end, never used again */
    lock_drop(&g->m);
    free(from);
    free(to);
}

/*
 * The message of a record found in the journal; NULL when it cannot be read: with *out when the start must fail for it.
 */
static struct msg *load(struct spool *s, const struct replay_msg *p, struct err *out)
{
    struct err e = ERR_INIT;
    struct frame f;
    char *meta;
    struct journal_pos pos = p->pos;
    if (!content_read_record(s, p->id, &pos, &f, &meta, &e)) {
        if (spool_may_heal(&e))
            *out = e;
        else
            spool_keep_unreadable(s, pos, e.text);
        return NULL;
    }
    struct msg *m = record_message_decode(&f, span_of(meta + FRAME_HEADER_BYTES, f.meta_bytes));
    free(meta);
    if (m == NULL) {
        log_error(s->o.log, "%llX: its journal record cannot be decoded", (unsigned long long)p->id);
        return NULL;
    }
    m->pos = pos;
    m->pool = &s->pool;
    return m;
}

static bool has_news(const struct replay_msg *p)
{
    return p->rcpts != NULL || p->deleted || p->expired || p->hold_known || p->requeued_us != 0 || p->trash_known;
}

/*
 * Its record cannot be read. Most likely it ended, and its segment was used again before the row went: then the row
 * goes now. Else the index has said so in the log.
 */
static bool update_row_alone(struct recovery *v, const struct replay_msg *p, struct err *e)
{
    int64_t left = p->deleted ? 0 : index_rcpts_left(v->s->index, p->id, p, e);
    if (left != 0)
        return left > 0;
    v->removed++;
    return index_delete(v->s->index, p->id, e);
}

/*
 * A message the index has: what happened to it since. row_us: not 0 when its rows are among the deleted ones; then it is
 * as if it were not, and it goes back if it still is. What is fetched comes from the committed rows, so before any of them is moved.
 */
static bool update_row(struct recovery *v, const struct replay_msg *p, int64_t row_us, struct err *e)
{
    struct index *ix = v->s->index;
    if (!has_news(p))
        return true;
    struct err why = ERR_INIT;
    int64_t fetched_us, deleted_us = replay_deleted_us(p, row_us);
    struct msg *m = index_fetch_any(ix, p->id, &fetched_us, &why);
    if (m == NULL && why.text[0] != '\0') { /* going on would pass over its results for good */
        err_set(e, "%s", why.text);
        return false;
    }
    bool ok = row_us == 0 || index_restore(ix, p->id, e);
    if (ok && m == NULL) {
        ok = update_row_alone(v, p, e);
    } else if (ok && replay_apply(p, m) == 0) {
        ok = index_delete(ix, p->id, e);
        v->removed++;
    } else if (ok) {
        ok = index_put_msg(ix, m, e);
        v->updated++;
    }
    msg_unref(&m);
    return ok && (deleted_us == 0 || index_trash(ix, p->id, deleted_us, e));
}

static bool update_deleted_row(struct recovery *v, const struct replay_msg *p, struct err *e)
{
    int64_t row_us;
    return index_deleted_us(v->s->index, p->id, &row_us, e) && update_row(v, p, row_us, e);
}

static void keep_for_sink(struct recovery *v, struct msg *m)
{
    if (v->s->o.read_only && v->given_n >= SINK_MAX && (v->given_n & (v->given_n - 1)) == 0) /* nobody else will have it */
        v->given = xrealloc(v->given, 2 * v->given_n * sizeof(struct msg *));
    if (v->given_n < SINK_MAX || v->s->o.read_only)
        v->given[v->given_n++] = m;
    else
        msg_unref(&m);
}

/*
 * A large file goes after its message was refused, or after its last result was flushed; so a record without its file
 * is one that nobody waits for.
 */
static bool has_content(struct spool *s, const struct msg *m)
{
    if (!m->is_large)
        return true;
    char *path = spool_large_path(s, m->env.id);
    bool there = access(path, F_OK) == 0 || errno != ENOENT;
    free(path);
    if (!there)
        log_warn(s->o.log, "%llX: passed over: its large file is gone, so it was refused or finished", (unsigned long long)m->env.id);
    return there;
}

/* A message the index does not have. */
static bool add_row(struct recovery *v, const struct replay_msg *p, struct err *e)
{
    if (!p->found || p->deleted || p->done >= p->rcpt_count)
        return true;
    struct err why = ERR_INIT;
    struct msg *m = load(v->s, p, &why);
    if (m == NULL && why.text[0] != '\0') {
        err_set(e, "%s", why.text);
        return false;
    }
    if (m == NULL)
        return true;
    if (replay_apply(p, m) == 0 || !has_content(v->s, m)) {
        msg_unref(&m);
        return true;
    }
    v->recovered++;
    bool ok = v->s->o.read_only || index_put_msg(v->s->index, m, e);
    if (p->trashed_us == 0) {
        keep_for_sink(v, m);
        return ok;
    }
    msg_unref(&m);
    return ok && (v->s->o.read_only || index_trash(v->s->index, p->id, p->trashed_us, e));
}

/* Moves first, in a transaction of their own, because rows are then read at their new places. */
static bool apply_places(struct recovery *v, struct replay_msg **p, size_t n, struct err *e)
{
    struct index *ix = v->s->index;
    bool ok = index_exec(ix->writer, "BEGIN IMMEDIATE", e);
    for (size_t i = 0; ok && i < n; i++)
        if (p[i]->found)
            ok = index_set_place(ix, p[i]->id, p[i]->pos, e);
    return ok && index_exec(ix->writer, "COMMIT", e);
}

static bool apply_all(struct recovery *v, struct err *e)
{
    struct index *ix = v->s->index;
    size_t n;
    struct replay_msg **p = in_order(v->r, &n);
    bool ok = apply_places(v, p, n, e) && index_exec(ix->writer, "BEGIN IMMEDIATE", e);
    for (size_t i = 0; ok && i < n; i++) {
        if (i % MESSAGES_PER_TELL == 0 && spool_is_told_to_stop(v->s, "writing the index", i, n)) {
            err_set(e, "interrupted");
            ok = false;
            break;
        }
        bool has = false, deleted = false;
        ok = index_look(ix, p[i]->id, &has, &deleted, e) &&
             (has ? update_row(v, p[i], 0, e) : deleted ? update_deleted_row(v, p[i], e) : add_row(v, p[i], e));
        if (ok && i % MESSAGES_PER_COMMIT == MESSAGES_PER_COMMIT - 1)
            ok = index_exec(ix->writer, "COMMIT; BEGIN IMMEDIATE", e);
    }
    /* Everything there is has been read, and what comes is written to new files. */
    lock_take(&v->s->journal.segs.m);
    struct index_mark k = { .journal = { v->s->journal.segs.next_generation, 0 } };
    lock_drop(&v->s->journal.segs.m);
    k.results = result_log_end(&v->s->results);
    ok = ok && index_write_mark(ix, &k, e) && index_exec(ix->writer, "COMMIT", e);
    if (ok) {
        ix->durable = k;
        v->s->journal.announced = k.journal;
    }
    free(p);
    return ok;
}

/* A tool looks while no daemon runs: nothing is written, the tail lies over the index. */
static void overlay(struct recovery *v)
{
    size_t n;
    struct replay_msg **p = in_order(v->r, &n);
    struct err e = ERR_INIT;
    for (size_t i = 0; i < n; i++)
        if ((v->s->index == NULL || (!index_has(v->s->index, p[i]->id) && !index_has_deleted(v->s->index, p[i]->id))) &&
            !add_row(v, p[i], &e))
            log_warn(v->s->o.log, "%s", e.text);
    free(p);
    v->s->overlay = v->r;
}

struct msg *overlay_message(struct spool *s, const struct replay_msg *p, int64_t *deleted_us, struct err *e)
{
    struct msg *m = NULL;
    int64_t row_us = 0;
    if (s->index != NULL && (index_has(s->index, p->id) || index_has_deleted(s->index, p->id)))
        m = index_fetch_any(s->index, p->id, &row_us, e);
    else if (p->found && !p->deleted)
        m = load(s, p, e);
    if (m != NULL && (replay_apply(p, m) == 0 || !has_content(s, m)))
        msg_unref(&m);
    *deleted_us = replay_deleted_us(p, row_us);
    return m;
}

/* Large files that belong to no message: their client went away, or the process was killed, before they were committed. */
static void remove_stray_files(struct spool *s)
{
    char *dir = xasprintf("%s/large", s->o.dir);
    DIR *d = opendir(dir);
    struct dirent *de;
    unsigned n = 0;
    if (d == NULL)
        log_warn(s->o.log, "open directory %s: %m: files of messages that were never committed stay there", dir);
    while (d != NULL && (de = readdir(d)) != NULL) {
        uint64_t id;
        if (strlen(de->d_name) != 16 || !num_parse_hex(span_cstr(de->d_name), &id) || index_has(s->index, id) ||
            index_has_deleted(s->index, id))
            continue;
        char *path = spool_large_path(s, id);
        n += s->io->unlink(s->io->arg, path) == 0;
        free(path);
    }
    if (d != NULL)
        closedir(d);
    if (n > 0)
        log_info(s->o.log, "%u large files of messages that were never committed removed", n);
    free(dir);
}

/*
 * Segments that were not read may hold administrative records; those behind the checkpoint are needed if the index is
 * lost once more.
 */
static void after_checkpoint(struct spool *s, const struct replay *r)
{
    struct segments *g = &s->journal.segs;
    if (!checkpoint_read_mark(s, &s->checkpoint_mark, &s->checkpoint_bytes))
        s->checkpoint_mark = (struct index_mark){ { 0, 0 }, 0 };
    for (size_t i = 0; i < g->n; i++)
        if (g->v[i]->generation <= r->from.segment && g->v[i]->generation >= s->checkpoint_mark.journal.segment)
            g->v[i]->admin_records++;
}

static void tell(struct recovery *v, int64_t began_ms)
{
    const struct log_src *log = v->s->o.log;
    log_info(log, "spool %s: %lld messages queued; journal replayed from %016llx:%llu in %lld ms: %llu recovered, %llu updated, "
                  "%llu finished (%u records, %u results, %u administrative)",
             v->s->o.dir, (long long)(v->s->index != NULL ? index_count(v->s->index) : 0),
             (unsigned long long)v->r->from.segment, (unsigned long long)v->r->from.offset,
             (long long)(clock_mono_ms() - began_ms), (unsigned long long)v->recovered, (unsigned long long)v->updated,
             (unsigned long long)v->removed, v->r->found, v->r->results, v->r->admins);
    if (v->restored > 0)
        log_info(log, "spool %s: index made anew; %llu messages came from the checkpoint", v->s->o.dir,
                 (unsigned long long)v->restored);
    if (v->lost > 0)
        spool_tell(v->s, SPOOL_TROUBLE_DAMAGE, "spool %s: %llu messages of the index lie in journal segments that are missing: "
                   "they cannot be delivered until the files are back", v->s->o.dir, (unsigned long long)v->lost);
    if (v->r->gaps > 0)
        spool_tell(v->s, SPOOL_TROUBLE_DAMAGE, "spool %s: %u damaged places in the journal, see corrupt/", v->s->o.dir, v->r->gaps);
}

static void give_to_sink(struct recovery *v, bool ok)
{
    for (size_t i = 0; i < v->given_n; i++) {
        if (ok && v->s->sink.committed != NULL)
            v->s->sink.committed(v->s->sink.arg, v->given[i]);
        msg_unref(&v->given[i]);
    }
    free(v->given);
}

bool spool_recover(struct spool *s, struct err *e)
{
    int64_t began_ms = clock_mono_ms();
    struct replay *r = xmalloc(sizeof *r);
    struct recovery v = { .s = s, .r = r, .given = xcalloc(SINK_MAX, sizeof(struct msg *)) };
    replay_init(r, s);
    if (s->index != NULL) {
        r->from = s->index->durable.journal;
        r->results_from = s->index->durable.results;
    }
    bool ok = (s->o.read_only || !s->index->is_new || checkpoint_restore(s, r, &v.restored, e)) && replay_results(r, e) &&
              replay_journal(r, e);
    if (ok && s->o.read_only) {
        overlay(&v);
    } else if (ok) {
        ok = apply_all(&v, e) && index_load_places(s->index, &v.lost, e);
        if (ok && s->index->is_new == false)
            remove_stray_files(s);
        if (ok)
            after_checkpoint(s, r);
    }
    if (ok)
        tell(&v, began_ms);
    give_to_sink(&v, ok);
    if (s->overlay == NULL) {
        replay_free(r);
        free(r);
    }
    return ok;
}

/*
 * At start: what the index does not know yet is read from the journal and the result log, and what is still to be
 * done of it goes to the sink in the order in which it was accepted.
 */
#include <errno.h>

#include "common/base/mem.h"
#include "queue/recover.h"

static int by_order(const void *a, const void *b)
{
    const struct replay_msg *x = *(struct replay_msg *const *)a, *y = *(struct replay_msg *const *)b;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* The found ones that are not finished, in journal order. */
static size_t survivors(struct replay *r, struct replay_msg ***out)
{
    struct replay_msg **v = xcalloc(r->found + 1, sizeof(struct replay_msg *)), *p, *next;
    size_t n = 0;
    HASH_ITER(hh, r->msgs, p, next)
        if (p->found && !p->deleted && p->done < p->rcpt_count)
            v[n++] = p;
    qsort(v, n, sizeof(struct replay_msg *), by_order);
    *out = v;
    return n;
}

static struct msg *load(struct spool *s, const struct replay_msg *p)
{
    struct err e = ERR_INIT;
    struct frame f;
    char *meta;
    struct journal_pos pos = p->pos;
    if (!content_read_record(s, p->id, &pos, &f, &meta, &e)) {
        log_error(s->o.log, "%s", e.text);
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
    if (replay_apply(p, m) == 0)
        msg_unref(&m);
    return m;
}

bool spool_recover(struct spool *s, struct err *e)
{
    struct replay r;
    struct replay_msg **v = NULL;
    replay_init(&r, s);
    bool ok = replay_results(&r, e) && replay_journal(&r, e);
    size_t n = ok ? survivors(&r, &v) : 0, given = 0;
    for (size_t i = 0; i < n; i++) {
        struct msg *m = load(s, v[i]);
        if (m == NULL)
            continue;
        lock_take(&s->journal.segs.m);
        segment_set_live_locked(&s->journal.segs, m->pos, segment_weight(m->env.content_bytes, m->is_large));
        lock_drop(&s->journal.segs.m);
        if (s->sink.committed != NULL)
            s->sink.committed(s->sink.arg, m);
        msg_unref(&m);
        given++;
    }
    if (ok)
        log_info(s->o.log, "spool %s: %zu messages recovered from the journal (%u read, %u results, %u administrative records)",
                 s->o.dir, given, r.found, r.results, r.admins);
    free(v);
    replay_free(&r);
    return ok;
}

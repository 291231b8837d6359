#include <pthread.h>
#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "fake_spool.h"

struct content_writer { struct spool *s; struct buf b; };

/* ---- msg, qid ---- */

struct msg *msg_new(void)
{
    struct msg *m = xcalloc(1, sizeof *m);
    atomic_init(&m->refs, 1);
    m->arena = arena_new(1024);
    return m;
}

struct msg *msg_ref(struct msg *m)
{
    atomic_fetch_add(&m->refs, 1);
    return m;
}

void msg_unref(struct msg **mp)
{
    struct msg *m = *mp;
    *mp = NULL;
    if (m == NULL || atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    arena_free(&m->arena);
    free(m->content);
    free(m);
}

struct msg_rcpt *msg_add_rcpt(struct msg *m)
{
    struct msg_rcpt *r = arena_alloc(m->arena, (m->env.rcpt_count + 1) * sizeof *r);
    if (m->env.rcpt_count > 0)
        memcpy(r, m->env.rcpts, m->env.rcpt_count * sizeof *r);
    m->env.rcpts = r;
    return &r[m->env.rcpt_count++];
}

uint64_t qid_new(struct qid_source *s)
{
    return atomic_fetch_add(&s->last, 1) + 1;
}

size_t qid_format(uint64_t id, bool long_form UNUSED, char out[QID_TEXT_MAX])
{
    return (size_t)snprintf(out, QID_TEXT_MAX, "%llX", (unsigned long long)id);
}

static struct span dup_span(struct arena *a, struct span v)
{
    return v.n ? arena_dup_span(a, v) : (struct span){ 0 };
}

static struct msg *copy_msg(const struct msg *m)
{
    struct msg *c = msg_new();
    c->env = m->env;
    c->env.sender = dup_span(c->arena, m->env.sender);
    c->env.rcpts = NULL;
    c->env.rcpt_count = 0;
    for (uint32_t i = 0; i < m->env.rcpt_count; i++) {
        struct msg_rcpt *r = msg_add_rcpt(c);
        *r = m->env.rcpts[i];
        r->addr = dup_span(c->arena, r->addr);
        r->orig = dup_span(c->arena, r->orig);
        r->route = (struct msg_route){ 0 };
        r->last_dsn = dup_span(c->arena, r->last_dsn);
        r->last_mta = dup_span(c->arena, r->last_mta);
        r->last_reason = dup_span(c->arena, r->last_reason);
    }
    return c;
}

/* ---- spool ---- */

struct spool *fake_spool_new(void)
{
    struct spool *s = xcalloc(1, sizeof *s);
    pthread_mutex_init(&s->m, NULL);
    atomic_init(&s->qids.last, 0x100000);
    return s;
}

void fake_spool_free(struct spool **sp)
{
    struct spool *s = *sp;
    for (unsigned i = 0; i < s->rows_n; i++)
        msg_unref(&s->rows[i].m);
    for (unsigned i = 0; i < s->committed_n; i++)
        msg_unref(&s->committed[i]);
    for (unsigned i = 0; i < s->journal_n; i++)
        msg_unref(&s->journal[i]);
    free(s->journal);
    buf_free(&s->trace);
    pthread_mutex_destroy(&s->m);
    free(s);
    *sp = NULL;
}

static void trace(struct spool *s, const char *fmt, ...) PRINTF_FMT(2, 3);
static void trace(struct spool *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&s->trace, fmt, ap);
    va_end(ap);
}

ptrdiff_t fake_trace_at(struct spool *s, const char *text)
{
    pthread_mutex_lock(&s->m);
    const char *all = buf_cstr(&s->trace), *at = strstr(all, text);
    ptrdiff_t r = at ? at - all : -1;
    pthread_mutex_unlock(&s->m);
    return r;
}

bool fake_traced(struct spool *s, const char *text)
{
    return fake_trace_at(s, text) >= 0;
}

struct qid_source *spool_qids(struct spool *s)
{
    return &s->qids;
}

struct index *spool_index(struct spool *s)
{
    static _Thread_local struct index ix[4];
    static _Thread_local unsigned next;
    struct index *x = &ix[next++ % 4];
    x->s = s;
    return x;
}

struct content_writer *content_begin(struct spool *s, uint64_t id UNUSED)
{
    struct content_writer *w = xcalloc(1, sizeof *w);
    w->s = s;
    return w;
}

enum spool_status content_append(struct content_writer *w, struct span bytes)
{
    buf_add_span(&w->b, bytes);
    return w->s->fail_content ? SPOOL_FULL : SPOOL_OK;
}

uint64_t content_bytes(const struct content_writer *w)
{
    return w->b.n;
}

enum spool_status content_finish(struct content_writer **w, struct msg *m)
{
    m->env.content_bytes = (*w)->b.n;
    m->content = buf_detach(&(*w)->b);
    free(*w);
    *w = NULL;
    return SPOOL_OK;
}

void content_abort(struct content_writer **w)
{
    if (*w != NULL)
        buf_free(&(*w)->b);
    free(*w);
    *w = NULL;
}

bool content_acquire(struct spool *s UNUSED, struct msg *m, struct content_view *v, struct err *e)
{
    *v = (struct content_view){ .p = m->content, .n = m->content ? m->env.content_bytes : 0 };
    if (m->content == NULL)
        err_set(e, "no content");
    return m->content != NULL;
}

void content_release(struct content_view *v UNUSED) {}

void content_drop(struct spool *s, struct msg *m UNUSED)
{
    pthread_mutex_lock(&s->m);
    s->drops++;
    pthread_mutex_unlock(&s->m);
}

void spool_submit(struct spool *s, struct msg *m)
{
    pthread_mutex_lock(&s->m);
    if (s->waiting_n == ARRAY_LEN(s->waiting))
        abort();
    s->waiting[s->waiting_n++] = m;
    pthread_mutex_unlock(&s->m);
}

void fake_write(struct spool *s, const struct msg *m)
{
    pthread_mutex_lock(&s->m);
    s->journal = xrealloc(s->journal, (s->journal_n + 1) * sizeof(struct msg *));
    s->journal[s->journal_n++] = copy_msg(m);
    pthread_mutex_unlock(&s->m);
}

unsigned fake_commit_all(struct spool *s)
{
    unsigned did = 0;
    for (;;) {
        pthread_mutex_lock(&s->m);
        struct msg *m = s->waiting_n > 0 ? s->waiting[0] : NULL;
        if (m != NULL)
            memmove(s->waiting, s->waiting + 1, --s->waiting_n * sizeof *s->waiting);
        int status = s->fail_submit;
        if (m != NULL && status == 0 && s->committed_n < ARRAY_LEN(s->committed))
            s->committed[s->committed_n++] = msg_ref(m);
        pthread_mutex_unlock(&s->m);
        if (m == NULL)
            return did;
        if (status == 0)
            fake_write(s, m);
        if (status == 0 && s->sched != NULL)
            sched_committed(s->sched, m);
        if (m->done_cb != NULL)
            m->done_cb(m->done_arg, m, status);
        msg_unref(&m);
        did++;
    }
}

static const char *const outcome_names[] = { "sent", "deferred", "bounced", "expired" };

enum spool_status spool_result_append(struct spool *s, const struct spool_result *r, size_t n, struct result_token *t)
{
    t->pos = n;
    pthread_mutex_lock(&s->m);
    for (size_t i = 0; i < n; i++)
        trace(s, "result %llX %u %s;", (unsigned long long)r[i].id, r[i].rcpt, outcome_names[r[i].outcome]);
    s->results += (unsigned)n;
    pthread_mutex_unlock(&s->m);
    return s->fail_result ? SPOOL_IO : SPOOL_OK;
}

void spool_result_applied(struct spool *s, struct result_token *t)
{
    pthread_mutex_lock(&s->m);
    trace(s, "applied %llu;", (unsigned long long)t->pos);
    s->mark++;
    pthread_mutex_unlock(&s->m);
}

void spool_message_done(struct spool *s, struct msg *m)
{
    pthread_mutex_lock(&s->m);
    s->dones++;
    trace(s, "done %llX;", (unsigned long long)m->env.id);
    pthread_mutex_unlock(&s->m);
}

void spool_admin_submit(struct spool *s, enum spool_admin what, uint64_t id, struct span detail UNUSED,
                        void (*cb)(void *arg, int status), void *arg)
{
    pthread_mutex_lock(&s->m);
    trace(s, "admin %d %llX;", what, (unsigned long long)id);
    pthread_mutex_unlock(&s->m);
    cb(arg, s->fail_submit);
}

struct msg *spool_msg_read(struct spool *s, uint64_t id, struct journal_pos pos UNUSED, struct err *e)
{
    struct msg *m = NULL;
    pthread_mutex_lock(&s->m);
    for (unsigned i = s->journal_n; i > 0 && m == NULL && s->fail_id != id; i--)
        if (s->journal[i - 1]->env.id == id)
            m = copy_msg(s->journal[i - 1]);
    pthread_mutex_unlock(&s->m);
    if (m == NULL) {
        err_set(e, "no record");
        e->sys = s->fail_errno;
    }
    return m;
}

void spool_keep_unreadable(struct spool *s, struct journal_pos pos UNUSED, const char *text UNUSED)
{
    pthread_mutex_lock(&s->m);
    s->kept++;
    pthread_mutex_unlock(&s->m);
}

/* ---- index ---- */

struct index_mark index_durable_mark(struct index *ix)
{
    return (struct index_mark){ .results = ix->s->written_mark };
}

struct index_mark spool_index_mark(struct spool *s)
{
    pthread_mutex_lock(&s->m);
    struct index_mark k = { .results = s->mark };
    pthread_mutex_unlock(&s->m);
    return k;
}

struct fake_row *fake_row(struct spool *s, uint64_t id)
{
    for (unsigned i = 0; i < s->rows_n; i++)
        if (s->rows[i].m->env.id == id)
            return &s->rows[i];
    return NULL;
}

static void upsert(struct spool *s, const struct index_change *c)
{
    struct fake_row *r = fake_row(s, c->id);
    s->upserts++;
    if (r == NULL) {
        if (!c->is_new || s->rows_n == FAKE_ROWS_MAX)
            abort(); /* the contract: the first upsert says that it is the first */
        r = &s->rows[s->rows_n++];
        r->m = copy_msg(c->m);
        if (s->rows_n > s->rows_max)
            s->rows_max = s->rows_n;
    }
    r->due_us = c->due_us;
    r->hold = c->on_hold;
    r->deleted_us = c->kind == INDEX_TRASH ? c->deleted_us : 0;
    if (c->delay_warned)
        r->m->env.flags |= ENV_NO_DELAY_WARNING;
    for (uint32_t i = 0; i < c->rcpt_count; i++) {
        struct msg_rcpt *to = &r->m->env.rcpts[c->rcpts[i].rcpt];
        to->state = c->rcpts[i].state;
        to->is_alone = c->rcpts[i].is_alone;
        to->is_readdressed = c->rcpts[i].is_readdressed;
        if (c->rcpts[i].addr.n > 0)
            to->addr = dup_span(r->m->arena, c->rcpts[i].addr);
        to->attempts = c->rcpts[i].attempts;
        to->due_us = c->rcpts[i].due_us;
        to->last_dsn = dup_span(r->m->arena, c->rcpts[i].dsn);
        to->last_reason = dup_span(r->m->arena, c->rcpts[i].reason);
        to->last_mta = dup_span(r->m->arena, c->rcpts[i].mta);
        if (to->state == RCPT_BUSY)
            abort();
    }
}

void index_flush(struct index *ix, const struct index_change *c, size_t n, const struct index_mark *mark,
                 void (*cb)(void *arg, int status), void *arg)
{
    struct spool *s = ix->s;
    pthread_mutex_lock(&s->m);
    int status = s->fail_flush;
    s->flushes++;
    for (size_t i = 0; i < n && status == 0; i++) {
        if (c[i].kind != INDEX_DELETE) {
            upsert(s, &c[i]);
            continue;
        }
        struct fake_row *r = fake_row(s, c[i].id);
        s->deletes++;
        if (r != NULL) {
            msg_unref(&r->m);
            *r = s->rows[--s->rows_n];
        }
    }
    bool keep = s->keep_flush;
    if (status == 0)
        s->written_mark = mark->results;
    if (keep) {
        s->flush_cb = cb;
        s->flush_arg = arg;
    }
    pthread_mutex_unlock(&s->m);
    if (!keep)
        cb(arg, status);
}

void fake_flush_answer(struct spool *s, int status)
{
    void (*cb)(void *, int) = s->flush_cb;
    s->flush_cb = NULL;
    if (cb != NULL)
        cb(s->flush_arg, status);
}

static bool before(const struct fake_row *r, int64_t due_us, uint64_t id)
{
    return r->due_us < due_us || (r->due_us == due_us && r->m->env.id < id);
}

int index_fetch_due(struct index *ix, int64_t until_us, struct index_cursor *cur, int limit, struct msg **out, struct err *e UNUSED)
{
    struct spool *s = ix->s;
    int n = 0;
    pthread_mutex_lock(&s->m);
    s->fetches++;
    while (n < limit) {
        struct fake_row *best = NULL;
        for (unsigned i = 0; i < s->rows_n; i++) {
            struct fake_row *r = &s->rows[i];
            bool after = r->due_us > cur->due_us || (r->due_us == cur->due_us && r->m->env.id > cur->id);
            if (!r->hold && r->deleted_us == 0 && after && r->due_us <= until_us && (best == NULL || before(r, best->due_us, best->m->env.id)))
                best = r;
        }
        if (best == NULL)
            break;
        *cur = (struct index_cursor){ best->due_us, best->m->env.id };
        if (s->fail_read > 0) {
            s->fail_read--;
            s->passed_over++;
            continue;
        }
        out[n++] = copy_msg(best->m);
    }
    pthread_mutex_unlock(&s->m);
    return n;
}

uint64_t index_passed_over(struct index *ix)
{
    return ix->s->passed_over;
}

struct msg *index_fetch(struct index *ix, uint64_t id, bool *on_hold, struct err *e UNUSED)
{
    struct spool *s = ix->s;
    pthread_mutex_lock(&s->m);
    struct fake_row *r = fake_row(s, id);
    if (r != NULL && r->deleted_us != 0)
        r = NULL;
    struct msg *m = r ? copy_msg(r->m) : NULL;
    if (r != NULL && on_hold != NULL)
        *on_hold = r->hold;
    pthread_mutex_unlock(&s->m);
    return m;
}

int index_list(struct index *ix, uint64_t after_id, int limit, struct msg **out, bool *on_hold, struct err *e UNUSED)
{
    struct spool *s = ix->s;
    int n = 0;
    pthread_mutex_lock(&s->m);
    while (n < limit) {
        struct fake_row *best = NULL;
        for (unsigned i = 0; i < s->rows_n; i++)
            if (s->rows[i].m->env.id > after_id && s->rows[i].deleted_us == 0 && (best == NULL || s->rows[i].m->env.id < best->m->env.id))
                best = &s->rows[i];
        if (best == NULL)
            break;
        after_id = best->m->env.id;
        on_hold[n] = best->hold;
        out[n++] = copy_msg(best->m);
    }
    pthread_mutex_unlock(&s->m);
    return n;
}

struct msg *index_fetch_deleted(struct index *ix, uint64_t id, int64_t *deleted_us, bool *on_hold, struct err *e UNUSED)
{
    struct spool *s = ix->s;
    pthread_mutex_lock(&s->m);
    struct fake_row *r = fake_row(s, id);
    struct msg *m = r != NULL && r->deleted_us != 0 ? copy_msg(r->m) : NULL;
    if (m != NULL) {
        *deleted_us = r->deleted_us;
        *on_hold = r->hold;
    }
    pthread_mutex_unlock(&s->m);
    return m;
}

int index_deleted_until(struct index *ix, int64_t until_us, uint64_t *ids, int limit, int64_t *next_us, struct err *e UNUSED)
{
    struct spool *s = ix->s;
    int n = 0;
    *next_us = INT64_MAX;
    pthread_mutex_lock(&s->m);
    for (unsigned i = 0; i < s->rows_n && n < limit; i++) {
        const struct fake_row *r = &s->rows[i];
        if (r->deleted_us != 0 && r->deleted_us <= until_us)
            ids[n++] = r->m->env.id;
        else if (r->deleted_us != 0 && r->deleted_us < *next_us)
            *next_us = r->deleted_us;
    }
    pthread_mutex_unlock(&s->m);
    return n;
}

void index_purge(struct index *ix, const uint64_t *ids, size_t n, void (*cb)(void *arg, int status), void *arg)
{
    struct spool *s = ix->s;
    pthread_mutex_lock(&s->m);
    for (size_t i = 0; i < n; i++) {
        struct fake_row *r = fake_row(s, ids[i]);
        if (r == NULL || r->deleted_us == 0)
            abort();
        trace(s, "purge %llX;", (unsigned long long)ids[i]);
        msg_unref(&r->m);
        *r = s->rows[--s->rows_n];
    }
    pthread_mutex_unlock(&s->m);
    cb(arg, 0);
}

void index_make_due(struct index *ix, int64_t due_us, const struct span *nexthop UNUSED, void (*cb)(void *arg, int status), void *arg)
{
    struct spool *s = ix->s;
    pthread_mutex_lock(&s->m);
    for (unsigned i = 0; i < s->rows_n; i++) {
        struct fake_row *r = &s->rows[i];
        if (r->hold || r->due_us <= due_us)
            continue;
        r->due_us = due_us;
        for (uint32_t k = 0; k < r->m->env.rcpt_count; k++)
            if (r->m->env.rcpts[k].due_us > due_us)
                r->m->env.rcpts[k].due_us = due_us;
    }
    pthread_mutex_unlock(&s->m);
    cb(arg, 0);
}

void index_make_due_transport(struct index *ix, int64_t due_us, struct span transport UNUSED, void (*cb)(void *arg, int status), void *arg)
{
    index_make_due(ix, due_us, NULL, cb, arg);
}

/* Rows here keep no routes. */
void index_fill_routes(struct index *ix UNUSED, struct msg *m UNUSED)
{
}

int64_t index_hold_count(struct index *ix)
{
    int64_t n = 0;
    pthread_mutex_lock(&ix->s->m);
    for (unsigned i = 0; i < ix->s->rows_n; i++)
        n += ix->s->rows[i].hold && ix->s->rows[i].deleted_us == 0;
    pthread_mutex_unlock(&ix->s->m);
    return n;
}

int64_t index_count(struct index *ix)
{
    pthread_mutex_lock(&ix->s->m);
    int64_t n = 0;
    for (unsigned i = 0; i < ix->s->rows_n; i++)
        n += ix->s->rows[i].deleted_us == 0;
    pthread_mutex_unlock(&ix->s->m);
    return n;
}

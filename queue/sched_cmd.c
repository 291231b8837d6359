/*
 * Commands: what those of sched_admin.c have in common, flush, listing and finding.
 *
 * A message that is only in the index is fetched into memory first, by the scheduler thread (see sched_thread.c for why), and pinned
 * while the command works on it.
 */
#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "queue/sched_internal.h"

#define LIST_PIECE 256
#define DIRTY_ENOUGH 50000 /* changed messages in memory; a command then waits for the index */
#define FORCED_MANY 50000  /* messages in memory: beyond, those to be tried now wait in the index, too */
#define WAIT_FOR_INDEX_MS 30000

struct request {
    struct request *next;
    const uint64_t *ids;
    struct msg_sched **ms;  /* [n], pinned; NULL: no such message */
    size_t n, done;
    bool with_deleted;      /* those too that can be restored */
    bool is_answered, is_failed;
    struct err e;
};

/* A spool read while no daemon runs may have no index: then the journal alone has all there is. */
static struct msg *fetch_row(struct sched *s, uint64_t id, bool *hold, struct err *e)
{
    return s->ix != NULL ? index_fetch(s->ix, id, hold, e) : NULL;
}

/* ---- on the scheduler thread ---- */

static struct msg_sched *find_for_locked(struct sched *s, uint64_t id, bool with_deleted, bool *known)
{
    struct msg_sched *ms = ms_find_locked(s, id);
    *known = ms != NULL;
    return ms != NULL && ms->m != NULL && (with_deleted || !ms->is_trashed) ? ms : NULL;
}

/* A message that is not in memory becomes one that is, until the index has it again. */
static struct msg_sched *admit_row_locked(struct sched *s, struct msg *m, bool hold, int64_t deleted_us)
{
    struct msg_sched *ms = ms_new_locked(s, m);
    if (deleted_us != 0) {
        trash_admit_locked(s, ms, hold, deleted_us);
        return ms;
    }
    ms->in_index = true;
    s->n_in_index++;
    ms->is_hold = hold;
    s->n_hold += hold;
    ms->is_row_hold = hold;
    s->n_row_hold += hold;
    ms_recompute_due_locked(s, ms);
    return ms;
}

static void answer_one(struct sched *s, struct request *r, size_t i)
{
    bool hold = false, known;
    int64_t deleted_us = 0;
    struct msg *m = NULL;
    struct err e = ERR_INIT;
    lock_take(&s->m);
    struct msg_sched *ms = find_for_locked(s, r->ids[i], r->with_deleted, &known);
    lock_drop(&s->m);
    if (!known)
        ms = park_unpark(s, r->ids[i], &e);
    if (!known && ms == NULL && e.text[0] == '\0')
        m = fetch_row(s, r->ids[i], &hold, &e);
    if (!known && ms == NULL && m == NULL && e.text[0] == '\0' && r->with_deleted && s->ix != NULL && !trash_is_purging(s, r->ids[i]))
        m = index_fetch_deleted(s->ix, r->ids[i], &deleted_us, &hold, &e);
    lock_take(&s->m);
    ms = find_for_locked(s, r->ids[i], r->with_deleted, &known);
    if (!known && m != NULL)
        ms = admit_row_locked(s, m, hold, deleted_us);
    if (ms != NULL) {
        ms->pins++;
        r->ms[i] = ms;
    } else if (e.text[0] != '\0') {
        r->is_failed = true;
        r->e = e;
    }
    lock_drop(&s->m);
    msg_unref(&m);
}

/* A piece of the first request; true when it did something. */
bool commands_work(struct sched *s)
{
    lock_take(&s->m);
    struct request *r = s->requests;
    lock_drop(&s->m);
    if (r == NULL)
        return false;
    for (size_t i = 0; i < SCHED_PIECE && r->done < r->n; i++, r->done++)
        answer_one(s, r, r->done);
    if (r->done < r->n)
        return true;
    lock_take(&s->m);
    LL_DELETE(s->requests, r);
    r->is_answered = true;
    cond_broadcast(&s->answered);
    lock_drop(&s->m);
    return true;
}

/* ---- fetching for a command ---- */

/* False (*e) when the index could not be read for some of them. ms[i] is NULL when there is no such message. */
bool cmd_pin(struct sched *s, const uint64_t *ids, size_t n, bool with_deleted, struct msg_sched **ms, struct err *e)
{
    struct request r = { .ids = ids, .ms = ms, .n = n, .with_deleted = with_deleted };
    lock_take(&s->m);
    if (s->is_started) {
        LL_APPEND(s->requests, &r);
        sched_kick_locked(s);
        while (!r.is_answered)
            cond_wait(&s->answered, &s->m);
        lock_drop(&s->m);
    } else {
        lock_drop(&s->m);
        for (; r.done < n; r.done++)
            answer_one(s, &r, r.done);
    }
    if (r.is_failed)
        err_set(e, "%s", r.e.text);
    return !r.is_failed;
}

/* Memory must not grow with the number of messages that a command works on: the index has to follow. */
void cmd_wait_for_index(struct sched *s)
{
    int64_t until_ms = clock_mono_ms() + WAIT_FOR_INDEX_MS;
    lock_take(&s->m);
    while (s->is_started && s->n_dirty > s->n_active + DIRTY_ENOUGH && cond_wait_until(&s->answered, &s->m, until_ms))
        ;
    lock_drop(&s->m);
}

/*
 * Nothing would drop it: the command left it as it was, or a flush wrote it while it was pinned. Then the next flush does. Not
 * one that was flushed, unless there are too many of them: its row does not know that dead sites are to be tried.
 */
static bool is_left_over(const struct sched *s, const struct msg_sched *ms)
{
    return ms->pins == 1 && ms->m != NULL && ms->in_index && !ms->is_dirty && !ms->is_flushing && !ms->is_active && !ms->in_inbox &&
           (!ms->is_forced || HASH_COUNT(s->by_id) > s->n_active + FORCED_MANY);
}

void cmd_unpin(struct sched *s, struct msg_sched **ms, size_t n)
{
    lock_take(&s->m);
    for (size_t i = 0; i < n; i++) {
        if (ms[i] == NULL)
            continue;
        if (is_left_over(s, ms[i]))
            ms_dirty_locked(s, ms[i]);
        ms_unpin_locked(s, ms[i]);
    }
    lock_drop(&s->m);
}

/* ---- flush ---- */

static bool is_meant(const struct msg_rcpt *r, const struct span *transport, const struct span *nexthop)
{
    return (nexthop == NULL || span_ieq(r->route.nexthop, *nexthop)) && (transport == NULL || span_ieq(r->route.transport, *transport));
}

static void make_due_locked(struct sched *s, struct msg_sched *ms, const struct span *transport, const struct span *nexthop,
                            bool is_flush, int64_t now_us)
{
    bool any = false;
    if (ms->m == NULL || ms_is_stopped(ms))
        return;
    for (uint32_t i = 0; i < ms->m->env.rcpt_count; i++) {
        struct msg_rcpt *r = &ms->m->env.rcpts[i];
        if (r->state != RCPT_TODO || (ms->rx[i].flags & RX_QUEUED))
            continue;
        if (!is_meant(r, transport, nexthop))
            continue;
        if (r->due_us > now_us)
            r->due_us = now_us;
        any = true;
    }
    if (!any)
        return;
    ms->is_forced = ms->is_forced || is_flush;
    ms_recompute_due_locked(s, ms);
}

static void made_due_cb(void *arg, int status)
{
    struct sched *s = arg;
    if (status < 0)
        log_error(&s->log, "the queue index cannot be changed: messages that are not in memory were not flushed");
    lock_take(&s->m);
    if (status > 0) {
        s->has_more_due = true;
    } else {
        s->want_rescan = true;
        s->flushes_out--;
    }
    sched_kick_locked(s);
    cond_broadcast(&s->answered);
    lock_drop(&s->m);
}

static void flush(struct sched *s, const struct span *nexthop)
{
    struct after a = AFTER_INIT;
    int64_t now_us = clock_wall_us();
    struct transport *t, *ttmp;
    struct dest *d, *dtmp;
    struct msg_sched *ms, *mtmp;
    lock_take(&s->m);
    HASH_ITER(hh, s->transports, t, ttmp) {
        HASH_ITER(hh, t->dests, d, dtmp) {
            if (nexthop == NULL || span_ieq(d->nexthop, *nexthop))
                dest_revive_locked(s, d, &a);
        }
    }
    HASH_ITER(hh, s->by_id, ms, mtmp)
        make_due_locked(s, ms, NULL, nexthop, true, now_us);
    s->flush_stamp_us = s->due_stamp_us = now_us;
    s->flushes_out++;
    sched_kick_locked(s);
    lock_drop(&s->m);
    sched_after(s, &a);
    index_make_due(s->ix, now_us, nexthop, made_due_cb, s);
}

void sched_make_due(struct sched *s, const struct span *transport, const struct span *nexthop)
{
    int64_t now_us = clock_wall_us();
    struct msg_sched *ms, *tmp;
    lock_take(&s->m);
    HASH_ITER(hh, s->by_id, ms, tmp)
        make_due_locked(s, ms, transport, nexthop, false, now_us);
    s->due_stamp_us = now_us;
    s->flushes_out++;
    sched_kick_locked(s);
    lock_drop(&s->m);
    if (transport != NULL)
        index_make_due_transport(s->ix, now_us, *transport, made_due_cb, s);
    else
        index_make_due(s->ix, now_us, nexthop, made_due_cb, s);
}

void sched_flush_all(struct sched *s)
{
    flush(s, NULL);
}

void sched_flush_nexthop(struct sched *s, struct span nexthop)
{
    flush(s, &nexthop);
}

void sched_flush_many(struct sched *s, const uint64_t *ids, size_t n, enum sched_cmd_status *out)
{
    struct err e = ERR_INIT;
    struct msg_sched **ms = xcalloc(n + 1, sizeof(struct msg_sched *));
    cmd_wait_for_index(s);
    int64_t now_us = clock_wall_us();
    bool ok = cmd_pin(s, ids, n, false, ms, &e);
    lock_take(&s->m);
    for (size_t i = 0; i < n; i++) {
        out[i] = ms[i] != NULL ? SCHED_CMD_OK : ok ? SCHED_CMD_NOT_FOUND : SCHED_CMD_FAILED;
        if (ms[i] == NULL)
            continue;
        if (ms[i]->m == NULL || ms[i]->is_trashed) {
            out[i] = SCHED_CMD_NOT_FOUND;
        } else if (ms[i]->is_hold) {
            out[i] = SCHED_CMD_BUSY;
        } else {
            ms[i]->is_reviving = true;
            make_due_locked(s, ms[i], NULL, NULL, true, now_us);
        }
    }
    sched_kick_locked(s);
    lock_drop(&s->m);
    cmd_unpin(s, ms, n);
    free(ms);
}

enum sched_cmd_status sched_flush_id(struct sched *s, uint64_t id)
{
    enum sched_cmd_status st;
    sched_flush_many(s, &id, 1, &st);
    return st;
}

/* ---- listing ---- */

static struct span dup(struct arena *a, struct span v)
{
    return v.n ? arena_dup_span(a, v) : (struct span){ 0 };
}

/* A copy of the envelope with the progress of this moment; it has no content. */
static struct msg *snapshot_locked(const struct msg *m)
{
    struct msg *c = msg_new();
    struct arena *a = c->arena;
    const struct envelope *e = &m->env;
    c->env = *e;
    c->env.sender = dup(a, e->sender);
    c->env.envid = dup(a, e->envid);
    c->env.client_name = dup(a, e->client_name);
    c->env.client_addr = dup(a, e->client_addr);
    c->env.client_port = dup(a, e->client_port);
    c->env.helo = dup(a, e->helo);
    c->env.proto = dup(a, e->proto);
    c->env.sasl_user = dup(a, e->sasl_user);
    c->env.sasl_method = dup(a, e->sasl_method);
    c->env.orig_id = dup(a, e->orig_id);
    c->env.filter = dup(a, e->filter);
    c->env.message_id = dup(a, e->message_id);
    c->env.rcpts = arena_alloc(a, (e->rcpt_count ? e->rcpt_count : 1) * sizeof *c->env.rcpts);
    for (uint32_t i = 0; i < e->rcpt_count; i++) {
        struct msg_rcpt *r = &c->env.rcpts[i];
        *r = e->rcpts[i];
        r->addr = dup(a, r->addr);
        r->orig = dup(a, r->orig);
        r->orcpt = dup(a, r->orcpt);
        r->route.transport = dup(a, r->route.transport);
        r->route.nexthop = dup(a, r->route.nexthop);
        r->last_dsn = dup(a, r->last_dsn);
        r->last_reason = dup(a, r->last_reason);
        r->last_mta = dup(a, r->last_mta);
    }
    c->is_large = m->is_large;
    c->received_ms = m->received_ms;
    return c;
}

static enum sched_where where_locked(const struct msg_sched *ms)
{
    if (ms->is_hold)
        return SCHED_HOLD;
    if (ms->is_active)
        return SCHED_ACTIVE;
    for (uint32_t i = 0; i < ms->m->env.rcpt_count; i++)
        if (ms->m->env.rcpts[i].attempts > 0)
            return SCHED_DEFERRED;
    return SCHED_INCOMING;
}

static enum sched_where where_row(const struct msg *m, bool hold)
{
    if (hold)
        return SCHED_HOLD;
    for (uint32_t i = 0; i < m->env.rcpt_count; i++)
        if (m->env.rcpts[i].attempts > 0)
            return SCHED_DEFERRED;
    return SCHED_INCOMING;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t *ids_in_memory(struct sched *s, size_t *count)
{
    struct msg_sched *ms, *tmp;
    size_t n = 0;
    lock_take(&s->m);
    struct parked *p, *ptmp;
    uint64_t *ids = xcalloc(HASH_COUNT(s->by_id) + s->n_parked_new + 1, sizeof *ids);
    HASH_ITER(hh, s->by_id, ms, tmp)
        ids[n++] = ms->id;
    HASH_ITER(hh, s->parked, p, ptmp)
        if (!p->in_index)
            ids[n++] = p->id;
    lock_drop(&s->m);
    qsort(ids, n, sizeof *ids, by_number);
    *count = n;
    return ids;
}

static struct msg *find_in_memory(struct sched *s, uint64_t id, enum sched_where *w, bool *known)
{
    struct msg *m = NULL;
    lock_take(&s->m);
    struct msg_sched *ms = ms_find_locked(s, id);
    *known = ms != NULL;
    if (ms != NULL && ms->m != NULL && !ms->is_trashed) {
        m = snapshot_locked(ms->m);
        m->env.flags |= ms->is_expire_wanted ? (uint32_t)ENV_FORCED_EXPIRE : 0;
        pauses_explain_locked(s, m);
        *w = where_locked(ms);
    }
    lock_drop(&s->m);
    return m;
}

/* A copy as its row would be, if the index could be written; NULL when it is over. False: it is not in memory. */
static bool row_in_memory(struct sched *s, uint64_t id, struct msg **m, int64_t *deleted_us)
{
    lock_take(&s->m);
    const struct msg_sched *ms = ms_find_locked(s, id);
    if (ms != NULL && ms->m != NULL) {
        struct envelope *e = &(*m = snapshot_locked(ms->m))->env;
        e->flags &= ~(uint32_t)(ENV_HOLD | ENV_FORCED_EXPIRE);
        e->flags |= ms->is_expire_wanted ? (uint32_t)ENV_FORCED_EXPIRE : 0;
        e->flags |= (ms->is_trashed ? ms->is_trash_hold : ms->is_hold) ? (uint32_t)ENV_HOLD : 0;
        for (uint32_t i = 0; i < e->rcpt_count; i++)
            if (e->rcpts[i].state == RCPT_BUSY)
                e->rcpts[i].state = RCPT_TODO;
        *deleted_us = ms->is_trashed ? ms->trash_us : 0;
    }
    lock_drop(&s->m);
    return ms != NULL;
}

void sched_each_in_memory(struct sched *s, bool (*fn)(void *arg, uint64_t id, struct msg *m, int64_t deleted_us), void *arg)
{
    size_t n;
    uint64_t *ids = ids_in_memory(s, &n);
    bool go_on = true;
    for (size_t i = 0; i < n && go_on; i++) {
        struct msg *m = NULL;
        int64_t deleted_us = 0;
        if (row_in_memory(s, ids[i], &m, &deleted_us) || (m = park_read(s, ids[i])) != NULL)
            go_on = fn(arg, ids[i], m, deleted_us);
        msg_unref(&m);
    }
    free(ids);
}

/* Rows have no routes; who asks why a recipient waits wants them. */
static void explain_row(struct sched *s, struct msg *m, bool always)
{
    lock_take(&s->m);
    bool any = s->pauses.n > 0;
    lock_drop(&s->m);
    if (!any && !always)
        return;
    index_fill_routes(s->ix, m);
    lock_take(&s->m);
    pauses_explain_locked(s, m);
    lock_drop(&s->m);
}

static bool list_row(struct sched *s, struct msg **m, bool hold, const uint64_t *ids, size_t n, bool (*fn)(void *, struct msg *, enum sched_where), void *arg)
{
    bool go_on = true;
    uint64_t id = (*m)->env.id;
    bool is_new = bsearch(&id, ids, n, sizeof *ids, by_number) == NULL;
    if (is_new)
        explain_row(s, *m, false);
    if (is_new)
        go_on = fn(arg, *m, where_row(*m, hold));
    msg_unref(m);
    return go_on;
}

/* In memory, in its row, or in line. Looked for twice: it may go from the line into memory between two looks. */
static struct msg *find(struct sched *s, uint64_t id, bool routes, enum sched_where *w, struct err *e)
{
    struct msg *m = NULL;
    for (int i = 0; i < 2 && m == NULL; i++) {
        bool known, hold = false;
        m = find_in_memory(s, id, w, &known);
        if (m != NULL || known)
            return m;
        m = fetch_row(s, id, &hold, e);
        if (m == NULL)
            m = park_read(s, id);
        if (m == NULL)
            continue;
        *w = where_row(m, hold);
        explain_row(s, m, routes);
    }
    return m;
}

/* Memory first; then the rows of what was not in memory when the listing began, so that nothing is listed twice. */
void sched_list(struct sched *s, bool (*fn)(void *arg, struct msg *m, enum sched_where w), void *arg)
{
    size_t count;
    uint64_t *ids = ids_in_memory(s, &count), after_id = 0;
    bool go_on = true, hold[LIST_PIECE];
    struct msg *m[LIST_PIECE];
    struct err e = ERR_INIT;
    for (size_t i = 0; i < count && go_on; i++) {
        enum sched_where w;
        struct msg *c = find(s, ids[i], false, &w, &e);
        if (c != NULL)
            go_on = fn(arg, c, w);
        msg_unref(&c);
    }
    int n; /* fewer than asked for: rows were passed over, others may follow */
    while (go_on && s->ix != NULL && (n = index_list(s->ix, after_id, LIST_PIECE, m, hold, &e)) > 0) {
        after_id = m[n - 1]->env.id;
        for (int i = 0; i < n; i++) {
            if (go_on)
                go_on = list_row(s, &m[i], hold[i], ids, count, fn, arg);
            else
                msg_unref(&m[i]);
        }
    }
    if (e.text[0] != '\0')
        log_error(&s->log, "listing the queue: %s", e.text);
    free(ids);
}

struct msg *sched_find(struct sched *s, uint64_t id, enum sched_where *w)
{
    struct err e = ERR_INIT;
    return find(s, id, true, w, &e);
}

struct msg *sched_ref(struct sched *s, uint64_t id)
{
    struct msg *m = NULL;
    struct err e = ERR_INIT;
    bool known = false;
    for (int i = 0; i < 2 && m == NULL && !known; i++) { /* as in find() */
        lock_take(&s->m);
        struct msg_sched *ms = ms_find_locked(s, id);
        known = ms != NULL;
        if (ms != NULL && ms->m != NULL)
            m = msg_ref(ms->m);
        lock_drop(&s->m);
        if (!known)
            m = fetch_row(s, id, NULL, &e);
        if (!known && m == NULL)
            m = park_read(s, id);
    }
    return m;
}

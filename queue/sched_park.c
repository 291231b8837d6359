/*
 * Parked messages: what waits in line behind many others is not kept in memory.
 *
 * A flow (one sender's mail for one destination) has only its first messages in memory. What comes behind them is
 * parked: a struct of a hundred bytes knows where the journal has its record. The thread reads them back, in order, when
 * the flow runs low. So memory while relaying does not grow with the line, and neither does one line take the room of
 * another: a message is parked when its flow has parked ones, or when flow and destination together hold more than
 * what is left of the room for waiting messages. The fuller memory is, the less may one destination have of it, and a
 * destination with little mail always gets some. A sender's 100,000 messages, or a destination that hangs, delay nobody else.
 *
 * The index does not know new parked messages. They are written to it with the epoch in which they were committed,
 * in pieces, before the flush whose mark covers them (park_flush()); after that they are only places in line of what has
 * a row, and when there are too many they are forgotten, and fetched again when they are due. Rows that were fetched
 * and find no room at their destination are parked too.
 *
 * Only messages with one recipient, routed and due are parked. A message is parked or in by_id, never in both; only the
 * scheduler thread turns one into the other.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

#define WAIT_MAX      4000  /* waiting messages in memory, all destinations together */
#define FLOW_SHARE    16    /* one part in so many of them: a flow, and what a destination always gets */
#define FLOW_MAX      256
#define DEST_MIN_MAX  64
#define LOAD_PIECE    32
#define LOOKS         64    /* flows looked at in one turn */
#define FLUSH_PIECE   1000
#define ROWS_MAX      50000 /* parked messages that have a row: beyond, the row is enough */
#define RETRY_MS      5000  /* a record that could not be read */

uint64_t park_wait_max_locked(const struct sched *s)
{
    uint64_t limit = (uint64_t)sched_params_locked(s)->qmgr_message_active_limit;
    return limit < WAIT_MAX ? limit : WAIT_MAX;
}

static uint32_t flow_max(const struct sched *s)
{
    uint64_t n = park_wait_max_locked(s) / FLOW_SHARE;
    return n > FLOW_MAX ? FLOW_MAX : n < 1 ? 1 : (uint32_t)n;
}

/* Whether one more message of a flow with so many entries may be in memory. */
static bool has_room(const struct sched *s, const struct dest *d, uint32_t in_flow)
{
    uint64_t max = park_wait_max_locked(s), free = s->n_active < max ? max - s->n_active : 0;
    uint32_t least = flow_max(s) < DEST_MIN_MAX ? flow_max(s) : DEST_MIN_MAX;
    return d->entries < least || (uint64_t)in_flow + d->entries < free;
}

static struct parked *find_locked(struct sched *s, uint64_t id)
{
    struct parked *p;
    HASH_FIND(hh, s->parked, &id, sizeof id, p);
    return p;
}

bool park_has_locked(struct sched *s, uint64_t id)
{
    return s->parked != NULL && find_locked(s, id) != NULL;
}

/* ---- in ---- */

void park_look_locked(struct sched *s, struct flow *f)
{
    struct dest *d = f->key.dest;
    if (f->parked != NULL && f->count <= flow_max(s) / 2 && !f->is_hungry) {
        f->is_hungry = true;
        d->hungry++;
        DL_APPEND2(s->hungry, f, h_prev, h_next);
        sched_kick_locked(s);
    } else if (d->hungry > 0 && has_room(s, d, 0)) {
        sched_kick_locked(s);
    }
}

void park_sated_locked(struct sched *s, struct flow *f)
{
    if (!f->is_hungry)
        return;
    f->is_hungry = false;
    f->key.dest->hungry--;
    DL_DELETE2(s->hungry, f, h_prev, h_next);
}

static struct parked *put(struct sched *s, struct dest *d, const struct msg *m, uint32_t gen)
{
    struct parked *p = xcalloc(1, sizeof *p);
    struct flow *f = flow_get_locked(s, d, m->env.sender);
    *p = (struct parked){ .id = m->env.id, .pos = m->pos, .flow = f, .received_ms = m->received_ms,
                          .due_us = m->env.rcpts[0].due_us, .gen = gen };
    DL_APPEND(f->parked, p);
    HASH_ADD(hh, s->parked, id, sizeof p->id, p);
    d->parked++;
    return p;
}

static void remove_locked(struct sched *s, struct parked *p)
{
    struct flow *f = p->flow;
    struct dest *d = f->key.dest;
    DL_DELETE(f->parked, p);
    HASH_DEL(s->parked, p);
    if (!p->in_index)
        s->n_parked_new--;
    if (p->is_unwritten) {
        DL_DELETE2(s->unwritten, p, u_prev, u_next);
        s->n_unwritten--;
    }
    d->parked--;
    free(p);
    flow_settle_locked(s, f);
    dest_release_locked(s, d);
}

/* Nobody is in the way of a message that finds its destination without a line. */
static bool must_wait(struct sched *s, const struct dest *d, struct span sender, bool is_row)
{
    const struct flow *f = flow_find_locked(s, d, sender);
    uint32_t n = f != NULL ? f->count : 0;
    return (f != NULL && f->parked != NULL) || (!is_row && n >= flow_max(s)) || !has_room(s, d, n);
}

bool park_new_locked(struct sched *s, struct msg *m)
{
    struct msg_rcpt *r = &m->env.rcpts[0];
    struct dest *d = m->env.rcpt_count == 1 ? dest_find_locked(s, r) : NULL;
    if (d == NULL || d->window.is_dead || d->is_paused || d->transport->svc == NULL || d->transport->is_deferred ||
        (m->env.flags & (ENV_HOLD | ENV_FORCED_EXPIRE)) || !must_wait(s, d, m->env.sender, false))
        return false;
    if (r->due_us == 0)
        r->due_us = m->env.arrival_us;
    struct parked *p = put(s, d, m, s->gen);
    p->is_fresh = p->is_unwritten = true;
    p->epoch = s->epoch;
    DL_APPEND2(s->unwritten, p, u_prev, u_next);
    s->n_parked_new++;
    if (++s->n_unwritten == ROWS_MAX)
        sched_kick_locked(s);
    park_look_locked(s, p->flow);
    return true;
}

bool park_wants_row_locked(struct sched *s, const struct msg_sched *ms)
{
    const struct envelope *e = &ms->m->env;
    if (!ms->in_index || ms->is_dirty || ms->is_flushing || ms->is_forced || ms->is_reviving || e->rcpt_count != 1 ||
        ms_is_stopped(ms) || ms->has_alone || ms->pins != 1 || HASH_COUNT(s->parked) >= ROWS_MAX)
        return false;
    struct dest *d = dest_find_locked(s, &e->rcpts[0]);
    return d != NULL && !d->window.is_dead && !d->is_paused && d->transport->svc != NULL && !d->transport->is_deferred &&
           must_wait(s, d, e->sender, true);
}

void park_row_locked(struct sched *s, struct msg_sched *ms)
{
    struct msg *m = ms->m;
    struct parked *p = put(s, dest_find_locked(s, &m->env.rcpts[0]), m, ms->rx[0].gen);
    p->in_index = true;
    park_look_locked(s, p->flow);
}

/* ---- out ---- */

struct loading {
    struct parked *p; /* only this thread takes one away */
    struct msg *m;
    uint64_t id;
    struct journal_pos pos;
    bool is_fresh;
};

/* The next ones of a hungry flow that has room. */
static uint32_t choose_locked(struct sched *s, struct loading *v, int64_t now_ms)
{
    for (int looks = 0; looks < LOOKS && s->hungry != NULL; looks++) {
        struct flow *f = s->hungry;
        struct dest *d = f->key.dest;
        uint32_t most = flow_max(s), n = 0;
        if (f->parked == NULL || f->count > most / 2) {
            park_sated_locked(s, f);
            continue;
        }
        if (now_ms >= f->not_before_ms && (d->window.is_dead || d->is_paused || has_room(s, d, f->count))) {
            for (struct parked *p = f->parked; p != NULL && n < LOAD_PIECE && f->count + n < most; p = p->next)
                v[n++] = (struct loading){ .p = p, .id = p->id, .pos = p->pos, .is_fresh = p->is_fresh };
            return n;
        }
        DL_DELETE2(s->hungry, f, h_prev, h_next);
        DL_APPEND2(s->hungry, f, h_prev, h_next);
    }
    return 0;
}

/* NULL also when it is not what was parked. */
static struct msg *read_one(struct sched *s, uint64_t id, struct journal_pos pos, bool is_fresh, struct err *e)
{
    struct msg *m = is_fresh ? spool_msg_read(s->spool, id, pos, e) : index_fetch(s->ix, id, NULL, e);
    if (m != NULL && m->env.rcpt_count != 1)
        msg_unref(&m);
    return m;
}

/* Takes it out of the line and into memory; it is not enqueued yet. */
static struct msg_sched *unpark_locked(struct sched *s, struct parked *p, struct msg *m)
{
    struct dest *d = p->flow->key.dest;
    struct msg_rcpt *r = &m->env.rcpts[0];
    r->route.transport = arena_dup_span(m->arena, span_of(d->transport->name, d->transport->name_n));
    r->route.nexthop = arena_dup_span(m->arena, d->nexthop);
    m->received_ms = p->received_ms;
    if (p->is_fresh)
        r->due_us = p->due_us;
    struct msg_sched *ms = ms_new_locked(s, m);
    ms->rx[0].gen = p->gen;
    ms->is_backlog = !p->is_fresh;
    ms->was_parked = true;
    if (p->in_index || p->is_flushing) { /* should the flush fail, park_take_note() sees to it */
        ms->in_index = true;
        s->n_in_index++;
    } else {
        ms->is_all_dirty = true;
        ms_dirty_since_locked(s, ms, p->epoch);
    }
    remove_locked(s, p);
    return ms;
}

static void load_one(struct sched *s, struct loading *l, int64_t now_us)
{
    lock_take(&s->m);
    struct msg_sched *ms = unpark_locked(s, l->p, l->m);
    ms_activate_locked(s, ms, now_us);
    ms_to_inbox_locked(s, ms);
    lock_drop(&s->m);
    route_now(s, ms);
    msg_unref(&l->m);
}

/*
 * A record that is damaged would hold its line for good. What has a row is left to those who fetch rows: they pass over it and
 * try again. What has none is given up, as at a start: its bytes are kept, and the mark of the index may pass.
 */
static void give_up(struct sched *s, struct parked *p, const struct err *e)
{
    struct journal_pos pos = p->pos;
    lock_take(&s->m);
    bool has_row = p->in_index;
    fetch_again_from_locked(s, p->due_us);
    remove_locked(s, p);
    lock_drop(&s->m);
    if (!has_row)
        spool_keep_unreadable(s->spool, pos, e->text);
}

static void put_off(struct sched *s, struct parked *p, const struct err *e)
{
    log_error(&s->log, "a waiting message cannot be read; it is tried again: %s", e->text);
    lock_take(&s->m);
    p->flow->not_before_ms = clock_mono_ms() + RETRY_MS;
    lock_drop(&s->m);
}

bool park_work(struct sched *s)
{
    struct loading v[LOAD_PIECE];
    lock_take(&s->m);
    /* Those whose routes are being looked up count in no flow yet. */
    uint32_t n = s->is_stopping || s->router.lent > SCHED_PIECE ? 0 : choose_locked(s, v, clock_mono_ms());
    lock_drop(&s->m);
    int64_t now_us = clock_wall_us();
    for (uint32_t i = 0; i < n; i++) {
        struct err e = ERR_INIT;
        v[i].m = read_one(s, v[i].id, v[i].pos, v[i].is_fresh, &e);
        if (v[i].m != NULL) {
            load_one(s, &v[i], now_us);
        } else if (spool_may_heal(&e)) {
            put_off(s, v[i].p, &e);
            return true; /* those behind it keep their order */
        } else {
            give_up(s, v[i].p, &e);
        }
    }
    return n > 0;
}

struct msg *park_read(struct sched *s, uint64_t id)
{
    struct err e = ERR_INIT;
    lock_take(&s->m);
    const struct parked *p = s->parked != NULL ? find_locked(s, id) : NULL;
    struct journal_pos pos = p != NULL ? p->pos : (struct journal_pos){ 0, 0 };
    bool is_fresh = p != NULL && p->is_fresh;
    lock_drop(&s->m);
    return p != NULL ? read_one(s, id, pos, is_fresh, &e) : NULL;
}

struct msg_sched *park_unpark(struct sched *s, uint64_t id, struct err *e)
{
    lock_take(&s->m);
    struct parked *p = s->parked != NULL ? find_locked(s, id) : NULL;
    struct journal_pos pos = p != NULL ? p->pos : (struct journal_pos){ 0, 0 };
    bool is_fresh = p != NULL && p->is_fresh;
    lock_drop(&s->m);
    struct msg *m = p != NULL ? read_one(s, id, pos, is_fresh, e) : NULL;
    if (m == NULL)
        return NULL;
    lock_take(&s->m);
    struct msg_sched *ms = unpark_locked(s, p, m);
    ms->is_backlog = false;
    ms_recompute_due_locked(s, ms);
    lock_drop(&s->m);
    msg_unref(&m);
    return ms;
}

/* ---- the index ---- */

static uint32_t take_unwritten_locked(struct sched *s, struct parked **v, struct loading *l, uint32_t epoch)
{
    uint32_t n = 0;
    while (n < FLUSH_PIECE && s->unwritten != NULL && (int32_t)(s->unwritten->epoch - epoch) <= 0) {
        struct parked *p = s->unwritten;
        DL_DELETE2(s->unwritten, p, u_prev, u_next);
        s->n_unwritten--;
        p->is_unwritten = false;
        p->is_flushing = true;
        v[n] = p;
        l[n++] = (struct loading){ .p = p, .id = p->id, .pos = p->pos };
    }
    return n;
}

static void back_to_unwritten_locked(struct sched *s, struct parked *p)
{
    p->is_flushing = false;
    p->is_unwritten = true;
    p->epoch = s->epoch - UINT32_C(0x40000000);
    DL_PREPEND2(s->unwritten, p, u_prev, u_next);
    s->n_unwritten++;
}

static void write_rows(struct sched *s, struct loading *l, uint32_t n)
{
    struct index_change *c = xcalloc(n, sizeof *c);
    struct index_rcpt *r = xcalloc(n, sizeof *r);
    struct index_mark mark = index_durable_mark(s->ix); /* not further: the rest of the epoch is still to come */
    s->parked_flushing = xcalloc(n, sizeof *s->parked_flushing);
    s->parked_flushing_n = n;
    lock_take(&s->m);
    for (uint32_t i = 0; i < n; i++) {
        const struct dest *d = l[i].p->flow->key.dest;
        struct msg_rcpt *to = &l[i].m->env.rcpts[0];
        to->route.transport = arena_dup_span(l[i].m->arena, span_of(d->transport->name, d->transport->name_n));
        to->route.nexthop = arena_dup_span(l[i].m->arena, d->nexthop);
        r[i] = (struct index_rcpt){ .state = RCPT_TODO, .due_us = l[i].p->due_us, .transport = to->route.transport,
                                    .nexthop = to->route.nexthop };
        c[i] = (struct index_change){ .kind = INDEX_UPSERT, .id = l[i].id, .m = l[i].m, .is_new = true,
                                      .due_us = l[i].p->due_us, .rcpts = &r[i], .rcpt_count = 1 };
        s->parked_flushing[i] = l[i].id;
    }
    s->flush_state = FLUSH_UNDER_WAY;
    lock_drop(&s->m);
    index_flush(s->ix, c, n, &mark, sched_flush_cb, s);
    free(c);
    free(r);
}

enum park_flush park_flush(struct sched *s, uint32_t epoch)
{
    struct loading *l = xcalloc(FLUSH_PIECE, sizeof *l);
    struct parked **v = xcalloc(FLUSH_PIECE, sizeof(struct parked *));
    struct err e = ERR_INIT, why = ERR_INIT;
    uint32_t got = 0, stuck = 0;
    lock_take(&s->m);
    uint32_t n = take_unwritten_locked(s, v, l, epoch);
    lock_drop(&s->m);
    for (uint32_t i = 0; i < n; i++) {
        e = (struct err)ERR_INIT;
        l[got] = l[i];
        l[got].m = read_one(s, l[i].id, l[i].pos, true, &e);
        if (l[got].m != NULL) {
            got++;
            continue;
        }
        lock_take(&s->m);
        back_to_unwritten_locked(s, l[i].p); /* unparked by nobody meanwhile: this is the thread */
        lock_drop(&s->m);
        if (spool_may_heal(&e)) {
            stuck++;
            why = e;
        } else {
            give_up(s, l[i].p, &e);
        }
    }
    if (got > 0)
        write_rows(s, l, got);
    for (uint32_t i = 0; i < got; i++)
        msg_unref(&l[i].m);
    free(l);
    free(v);
    if (stuck > 0)
        log_error(&s->log, "%u waiting messages cannot be written to the queue index: %s", stuck, why.text);
    return got > 0 ? PARK_SENT : stuck > 0 ? PARK_STUCK : PARK_NOTHING;
}

bool park_has_unwritten(struct sched *s)
{
    lock_take(&s->m);
    bool has = s->unwritten != NULL;
    lock_drop(&s->m);
    return has;
}

static void note_one(struct sched *s, uint64_t id, bool ok)
{
    struct parked *p = find_locked(s, id);
    if (p == NULL) { /* in memory meanwhile, or finished: its row, if there is one, goes with the next flush */
        struct msg_sched *ms = ok ? NULL : ms_find_locked(s, id);
        if (ms != NULL && ms->m != NULL)
            ms_redo_locked(s, ms);
        return;
    }
    if (!ok) {
        back_to_unwritten_locked(s, p);
        return;
    }
    p->is_flushing = false;
    p->in_index = true;
    s->n_parked_new--;
    if (HASH_COUNT(s->parked) <= ROWS_MAX && p->gen == s->gen)
        return;
    fetch_again_from_locked(s, p->due_us);
    remove_locked(s, p);
}

void park_take_note(struct sched *s, bool ok)
{
    for (size_t i = 0; i < s->parked_flushing_n;) {
        lock_take(&s->m);
        for (int k = 0; k < SCHED_PIECE && i < s->parked_flushing_n; k++, i++)
            note_one(s, s->parked_flushing[i], ok);
        lock_drop(&s->m);
    }
    free(s->parked_flushing);
    s->parked_flushing = NULL;
    s->parked_flushing_n = 0;
}

/* ---- the rest ---- */

void park_forget_routes(struct sched *s)
{
    struct parked *p, *tmp;
    lock_take(&s->m);
    HASH_ITER(hh, s->parked, p, tmp) {
        if (p->in_index && p->gen != s->gen) {
            fetch_again_from_locked(s, p->due_us);
            remove_locked(s, p);
        }
    }
    lock_drop(&s->m);
}

void park_free(struct sched *s)
{
    struct parked *p, *tmp;
    HASH_ITER(hh, s->parked, p, tmp)
        remove_locked(s, p);
    free(s->parked_flushing);
}

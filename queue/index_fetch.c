/*
 * From rows back to messages. The row says where the record lies; the envelope is read from the journal (it has to be
 * read for the delivery anyway, and the index stays small), progress comes from the recipients' rows. A row whose
 * record cannot be read is reported and passed over.
 *
 * A tool that reads a spool while no daemon runs has the journal's tail in s->overlay; what that says of a message
 * is newer than its row.
 */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "queue/index_internal.h"
#include "queue/recover.h"

enum { COL_ID, COL_SEGMENT, COL_OFFSET, COL_ON_HOLD, COL_DUE, COL_WARNED, COL_EXPIRE, COL_DELETED };

/* A row of messages, copied so that the statement can go on. */
struct row {
    uint64_t id;
    struct journal_pos pos;
    int64_t due_us;
    int64_t deleted_us;     /* of a deleted one, else 0 */
    bool on_hold, delay_warned, forced_expire;
};

static struct row read_row(sqlite3_stmt *st)
{
    return (struct row){
        .id = (uint64_t)sqlite3_column_int64(st, COL_ID),
        .pos = { (uint64_t)sqlite3_column_int64(st, COL_SEGMENT), (uint64_t)sqlite3_column_int64(st, COL_OFFSET) },
        .due_us = sqlite3_column_int64(st, COL_DUE),
        .on_hold = sqlite3_column_int(st, COL_ON_HOLD) != 0,
        .delay_warned = sqlite3_column_int(st, COL_WARNED) != 0,
        .forced_expire = sqlite3_column_int(st, COL_EXPIRE) != 0,
        .deleted_us = sqlite3_column_count(st) > COL_DELETED ? sqlite3_column_int64(st, COL_DELETED) : 0,
    };
}

static struct span column_span(sqlite3_stmt *st, int col)
{
    const void *p = sqlite3_column_text(st, col); /* before the length, as SQLite asks */
    return span_of(p, (size_t)sqlite3_column_bytes(st, col));
}

static void fill_rcpt(struct msg *m, sqlite3_stmt *st)
{
    int64_t i = sqlite3_column_int64(st, 0);
    if (i < 0 || i >= (int64_t)m->env.rcpt_count)
        return;
    struct msg_rcpt *r = &m->env.rcpts[i];
    struct span addr = column_span(st, 1);
    if (!span_eq(addr, r->addr)) /* readdressed */
        r->addr = arena_dup_span(m->arena, addr);
    int state = sqlite3_column_int(st, 2);
    r->state = state == RCPT_DONE ? RCPT_DONE : RCPT_TODO;
    r->is_alone = state == ROW_ALONE;
    r->attempts = (uint16_t)sqlite3_column_int(st, 3);
    r->due_us = sqlite3_column_int64(st, 4);
    r->last_dsn = arena_dup_span(m->arena, column_span(st, 5));
    r->last_mta = arena_dup_span(m->arena, column_span(st, 6));
    r->last_reason = arena_dup_span(m->arena, column_span(st, 7));
    r->is_readdressed = sqlite3_column_int(st, 8) != 0;
}

static bool fill_rcpts(struct index_conn *c, struct msg *m, bool is_deleted, struct err *e)
{
    sqlite3_stmt *st = index_stmt(c, is_deleted ? IX_FETCH_DELETED_RCPTS : IX_FETCH_RCPTS, e);
    int rc;
    if (st == NULL)
        return false;
    sqlite3_bind_int64(st, 1, (int64_t)m->env.id);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        fill_rcpt(m, st);
    if (rc != SQLITE_DONE)
        err_set(e, "index.db: %s", sqlite3_errmsg(c->db));
    sqlite3_reset(st);
    return rc == SQLITE_DONE;
}

void index_fill_routes(struct index *ix, struct msg *m)
{
    struct index_conn *c = index_conn_take(ix, NULL);
    sqlite3_stmt *st = c != NULL ? index_stmt(c, IX_FETCH_ROUTES, NULL) : NULL;
    if (st != NULL)
        sqlite3_bind_int64(st, 1, (int64_t)m->env.id);
    while (st != NULL && sqlite3_step(st) == SQLITE_ROW) {
        int64_t i = sqlite3_column_int64(st, 0);
        if (i < 0 || i >= (int64_t)m->env.rcpt_count)
            continue;
        m->env.rcpts[i].route.transport = arena_dup_span(m->arena, column_span(st, 1));
        m->env.rcpts[i].route.nexthop = arena_dup_span(m->arena, column_span(st, 2));
    }
    sqlite3_reset(st);
    if (c != NULL)
        index_conn_give(ix, c);
}

/* index_make_due() for everything moves only the message's own time before that of its recipients. */
static void pull_due(struct msg *m, int64_t due_us)
{
    for (uint32_t i = 0; i < m->env.rcpt_count; i++)
        if (m->env.rcpts[i].state != RCPT_DONE && m->env.rcpts[i].due_us <= due_us)
            return;
    for (uint32_t i = 0; i < m->env.rcpt_count; i++)
        if (m->env.rcpts[i].state != RCPT_DONE)
            m->env.rcpts[i].due_us = due_us;
}

/*
 * While the spool runs a segment goes only when none of its messages is alive: this one has ended, and its row will go.
 * Of files that were missing at the start index_load_places() has spoken.
 */
static bool has_ended(struct index *ix, struct journal_pos pos)
{
    struct segments *g = &ix->s->journal.segs;
    lock_take(&g->m);
    bool is_gone = segments_find_locked(g, pos.segment) == NULL;
    lock_drop(&g->m);
    return is_gone;
}

static struct msg *read_envelope(struct index *ix, struct row *row)
{
    struct err e = ERR_INIT;
    struct frame f;
    char *meta;
    uint64_t suppressed;
    struct msg *m = NULL;
    if (content_read_record(ix->s, row->id, &row->pos, &f, &meta, &e)) {
        m = record_message_decode(&f, span_of(meta + FRAME_HEADER_BYTES, f.meta_bytes));
        free(meta);
    }
    if (m != NULL && m->env.id != row->id)
        msg_unref(&m);
    if (m != NULL || has_ended(ix, row->pos))
        return m;
    atomic_fetch_add_explicit(&ix->passed_over, 1, memory_order_relaxed);
    if (log_once_a_minute(&ix->lost_said_ms, &ix->lost_suppressed, &suppressed))
        log_error(ix->log, "a message of the index cannot be read from the journal: %s (%llu more)", e.text,
                  (unsigned long long)suppressed);
    return NULL;
}

/* *out stays NULL when the record cannot be read or nothing is left to do. False: database error. */
static bool load_row(struct index *ix, struct index_conn *c, struct row *row, struct msg **out, struct err *e)
{
    struct msg *m = read_envelope(ix, row);
    *out = NULL;
    if (m == NULL)
        return true;
    m->pos = row->pos;
    m->pool = &ix->s->pool;
    m->env.flags &= ~(uint32_t)ENV_HOLD;
    m->env.flags |= (row->on_hold ? (uint32_t)ENV_HOLD : 0) | (row->delay_warned ? (uint32_t)ENV_NO_DELAY_WARNING : 0) |
                    (row->forced_expire ? (uint32_t)ENV_FORCED_EXPIRE : 0);
    if (!fill_rcpts(c, m, row->deleted_us != 0, e)) {
        msg_unref(&m);
        return false;
    }
    pull_due(m, row->due_us);
    *out = m;
    return true;
}

static bool load(struct index *ix, struct index_conn *c, struct row *row, struct msg **out, struct err *e)
{
    struct msg *m;
    if (!load_row(ix, c, row, &m, e))
        return false;
    const struct replay_msg *p = ix->s->overlay != NULL ? replay_find(ix->s->overlay, row->id) : NULL;
    if (m != NULL && p != NULL) {
        if (replay_apply(p, m) == 0 || (replay_deleted_us(p, row->deleted_us) != 0) != (row->deleted_us != 0))
            msg_unref(&m);
        else
            row->on_hold = (m->env.flags & ENV_HOLD) != 0;
    }
    *out = m;
    return true;
}

/* Rows of a bound statement, at most n; -1 with *e. */
static int read_rows(struct index_conn *c, sqlite3_stmt *st, struct row *rows, int n, struct err *e)
{
    int k = 0, rc = SQLITE_ROW;
    while (k < n && (rc = sqlite3_step(st)) == SQLITE_ROW)
        rows[k++] = read_row(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        err_set(e, "index.db: %s", sqlite3_errmsg(c->db));
        k = -1;
    }
    sqlite3_reset(st);
    return k;
}

/* Loads rows into out[*got...]; false on a database error. */
static bool load_rows(struct index *ix, struct index_conn *c, struct row *rows, int n, struct msg **out, bool *on_hold,
                      int *got, struct err *e)
{
    for (int i = 0; i < n; i++) {
        struct msg *m;
        if (!load(ix, c, &rows[i], &m, e))
            return false;
        if (m == NULL)
            continue;
        if (on_hold != NULL)
            on_hold[*got] = rows[i].on_hold;
        out[(*got)++] = m;
    }
    return true;
}

static void unref_all(struct msg **v, int n)
{
    for (int i = 0; i < n; i++)
        msg_unref(&v[i]);
}

int index_fetch_due(struct index *ix, int64_t until_us, struct index_cursor *cur, int limit, struct msg **out, struct err *e)
{
    struct index_conn *c = index_conn_take(ix, e);
    if (c == NULL)
        return -1;
    struct row *rows = xcalloc((size_t)limit, sizeof *rows);
    struct index_cursor at = *cur;
    int got = 0, n;
    bool ok, more = true;
    do {
        sqlite3_stmt *st = index_stmt(c, IX_FETCH_DUE, e);
        n = -1;
        if (st != NULL) {
            sqlite3_bind_int64(st, 1, at.due_us);
            sqlite3_bind_int64(st, 2, at.id > INT64_MAX ? INT64_MAX : (int64_t)at.id);
            sqlite3_bind_int64(st, 3, until_us);
            sqlite3_bind_int(st, 4, limit - got);
            n = read_rows(c, st, rows, limit - got, e);
        }
        more = n == limit - got; /* else the rows are at their end, also when some could not be read */
        ok = n >= 0 && load_rows(ix, c, rows, n, out, NULL, &got, e);
        if (ok && n > 0)
            at = (struct index_cursor){ rows[n - 1].due_us, rows[n - 1].id };
    } while (ok && more && got < limit);
    free(rows);
    index_conn_give(ix, c);
    if (!ok) {
        unref_all(out, got);
        return -1;
    }
    *cur = at;
    return got;
}

int index_list(struct index *ix, uint64_t after_id, int limit, struct msg **out, bool *on_hold, struct err *e)
{
    struct index_conn *c = index_conn_take(ix, e);
    if (c == NULL)
        return -1;
    struct row *rows = xcalloc((size_t)limit, sizeof *rows);
    int got = 0, n;
    bool ok, more = true;
    do {
        sqlite3_stmt *st = index_stmt(c, IX_FETCH_AFTER, e);
        n = -1;
        if (st != NULL) {
            sqlite3_bind_int64(st, 1, (int64_t)after_id);
            sqlite3_bind_int(st, 2, limit - got);
            n = read_rows(c, st, rows, limit - got, e);
        }
        more = n == limit - got;
        ok = n >= 0 && load_rows(ix, c, rows, n, out, on_hold, &got, e);
        if (ok && n > 0)
            after_id = rows[n - 1].id;
    } while (ok && more && got == 0); /* what the caller goes on with is the last one it was given */
    free(rows);
    index_conn_give(ix, c);
    if (!ok) {
        unref_all(out, got);
        return -1;
    }
    return got;
}

struct msg *index_fetch(struct index *ix, uint64_t id, bool *on_hold, struct err *e)
{
    struct index_conn *c = index_conn_take(ix, e);
    struct msg *m = NULL;
    struct row row;
    if (c == NULL)
        return NULL;
    sqlite3_stmt *st = index_stmt(c, IX_FETCH_ONE, e);
    if (st != NULL) {
        sqlite3_bind_int64(st, 1, (int64_t)id);
        if (read_rows(c, st, &row, 1, e) == 1 && load(ix, c, &row, &m, e) && m != NULL && on_hold != NULL)
            *on_hold = row.on_hold;
    }
    index_conn_give(ix, c);
    return m;
}

struct msg *index_fetch_any(struct index *ix, uint64_t id, int64_t *deleted_us, struct err *e)
{
    struct index_conn *c = index_conn_take(ix, e);
    struct msg *m = NULL;
    struct row row;
    int n = 0;
    for (int i = 0; c != NULL && i < 2 && n == 0; i++) {
        sqlite3_stmt *st = index_stmt(c, i == 0 ? IX_FETCH_ONE : IX_FETCH_DELETED, e);
        if (st == NULL)
            break;
        sqlite3_bind_int64(st, 1, (int64_t)id);
        n = read_rows(c, st, &row, 1, e);
    }
    if (n == 1 && load_row(ix, c, &row, &m, e) && m != NULL)
        *deleted_us = row.deleted_us;
    if (c != NULL)
        index_conn_give(ix, c);
    return m;
}

struct msg *index_fetch_deleted(struct index *ix, uint64_t id, int64_t *deleted_us, bool *on_hold, struct err *e)
{
    struct index_conn *c = index_conn_take(ix, e);
    struct msg *m = NULL;
    struct row row;
    if (c == NULL)
        return NULL;
    sqlite3_stmt *st = index_stmt(c, IX_FETCH_DELETED, e);
    if (st != NULL) {
        sqlite3_bind_int64(st, 1, (int64_t)id);
        if (read_rows(c, st, &row, 1, e) == 1 && load(ix, c, &row, &m, e) && m != NULL) {
            *on_hold = row.on_hold;
            *deleted_us = row.deleted_us;
        }
    }
    index_conn_give(ix, c);
    return m;
}

static bool is_done(const struct replay_msg *p, int64_t rcpt)
{
    const struct rcpt_progress *q = p->rcpts;
    while (q != NULL && q->rcpt != rcpt)
        q = q->next;
    return q != NULL && q->done;
}

int64_t index_rcpts_left(struct index *ix, uint64_t id, const struct replay_msg *p, struct err *e)
{
    sqlite3_stmt *st = index_stmt(ix->writer, IX_FETCH_RCPTS, e);
    int64_t left = 0;
    int rc;
    if (st == NULL)
        return -1;
    sqlite3_bind_int64(st, 1, (int64_t)id);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        left += sqlite3_column_int(st, 2) != RCPT_DONE && !is_done(p, sqlite3_column_int64(st, 0));
    if (rc != SQLITE_DONE)
        err_set(e, "index.db: %s", sqlite3_errmsg(ix->writer->db));
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? left : -1;
}

static int64_t ask_number(struct index *ix, enum index_stmt k, int64_t none)
{
    struct err e = ERR_INIT;
    struct index_conn *c = index_conn_take(ix, &e);
    int64_t v = none;
    if (c == NULL) {
        log_warn(ix->log, "%s", e.text);
        return none;
    }
    sqlite3_stmt *st = index_stmt(c, k, &e);
    int rc = st != NULL ? sqlite3_step(st) : SQLITE_ERROR;
    if (rc == SQLITE_ROW && sqlite3_column_type(st, 0) == SQLITE_INTEGER)
        v = sqlite3_column_int64(st, 0);
    else if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        log_warn(ix->log, "index.db: %s", sqlite3_errmsg(c->db));
    sqlite3_reset(st);
    index_conn_give(ix, c);
    return v;
}

int64_t index_next_due_us(struct index *ix)
{
    return ask_number(ix, IX_NEXT_DUE, INT64_MAX);
}

uint64_t index_passed_over(struct index *ix)
{
    return atomic_load_explicit(&ix->passed_over, memory_order_relaxed);
}

int64_t index_hold_count(struct index *ix)
{
    return ask_number(ix, IX_HOLD_COUNT, 0);
}

bool index_load_places(struct index *ix, uint64_t *lost, struct err *e)
{
    struct segments *g = &ix->s->journal.segs;
    sqlite3_stmt *st = index_stmt(ix->writer, IX_PLACES, e);
    int rc;
    *lost = 0;
    if (st == NULL)
        return false;
    lock_take(&g->m); /* before the threads: nobody waits for it */
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct journal_pos pos = { (uint64_t)sqlite3_column_int64(st, 0), (uint64_t)sqlite3_column_int64(st, 1) };
        if (segments_find_locked(g, pos.segment) == NULL)
            (*lost)++;
        else
            segment_set_live_locked(g, pos, segment_weight((uint64_t)sqlite3_column_int64(st, 2), sqlite3_column_int(st, 3) != 0));
    }
    lock_drop(&g->m);
    if (rc != SQLITE_DONE)
        err_set(e, "index.db: %s", sqlite3_errmsg(ix->writer->db));
    sqlite3_reset(st);
    qid_seen(&ix->s->qids, (uint64_t)ask_number(ix, IX_MAX_ID, 0));
    return rc == SQLITE_DONE;
}

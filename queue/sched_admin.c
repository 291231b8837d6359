/*
 * Changes that an administrator makes: hold, release, delete, undelete, requeue, expire, readdress.
 *
 * Many messages at once: they are brought into memory and pinned (sched_cmd.c), a record for each goes to the committer, which
 * writes what came together with one flush, and when the last has answered the changes are made in memory. In between
 * the scheduler takes no mark for the index (changes_out), so that no record is passed over before its change is in the rows.
 * A process killed anywhere has either the record, and replay makes the change, or nothing. (But for a deletion that waits for
 * the end of an attempt: a flush in between covers the record, and if the process is killed then, the message stays.)
 *
 * Readdressing needs its recipient to stand still while the record is on its way: the message is frozen, which takes it
 * out of the queues and keeps it out. A recipient in delivery is left alone.
 */
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched_internal.h"

/* A recipient and its next address. */
struct move {
    uint32_t rcpt;
    struct span old, to; /* in batch.text */
};

struct item {
    struct batch *b;
    struct msg_sched *ms;   /* pinned, or NULL */
    struct move *moves;     /* READDRESS, in batch.text */
    uint32_t moves_n;
    uint32_t records;       /* submitted */
    bool is_bad;            /* guarded by SCHED_INBOX: a record could not be written */
    bool has_frozen;        /* it counts in ms->frozen */
    enum sched_cmd_status status;
};

struct batch {
    struct sched *s;
    const struct sched_change *c;
    struct arena *text;
    struct item *items;
    size_t n;
    size_t waiting;         /* guarded by SCHED_INBOX: records not answered */
};

/* ---- what can be done ---- */

/* The recipient's address after the change; empty: it is not meant. */
static struct span new_address(struct arena *a, const struct sched_change *c, struct span addr)
{
    if (c->from.n == 0 || c->from.p[0] != '@')
        return span_ieq(addr, c->from) ? arena_dup_span(a, c->to) : span_of("", 0);
    if (addr.n <= c->from.n || !span_iends_with(addr, c->from))
        return span_of("", 0);
    return span_cstr(arena_printf(a, "%.*s%.*s", SPAN_ARG(span_of(addr.p, addr.n - c->from.n)), SPAN_ARG(c->to)));
}

static enum sched_cmd_status find_moves_locked(struct batch *b, struct item *it)
{
    const struct envelope *e = &it->ms->m->env;
    bool is_busy = false, is_read = it->ms->is_warning; /* the notice of a delay reads the addresses, with no lock */
    it->moves = arena_alloc(b->text, (e->rcpt_count + 1) * sizeof *it->moves);
    for (uint32_t i = 0; i < e->rcpt_count; i++) {
        const struct msg_rcpt *r = &e->rcpts[i];
        struct span to = r->state != RCPT_DONE ? new_address(b->text, b->c, r->addr) : span_of("", 0);
        if (to.n == 0)
            continue;
        is_busy |= r->state == RCPT_BUSY || is_read;
        it->moves[it->moves_n++] = (struct move){ i, arena_dup_span(b->text, r->addr), to };
    }
    return it->moves_n == 0 ? SCHED_CMD_NOT_FOUND : is_busy ? SCHED_CMD_BUSY : SCHED_CMD_OK;
}

static void prepare_locked(struct batch *b, struct item *it)
{
    struct msg_sched *ms = it->ms;
    if (ms->m == NULL) {
        it->status = SCHED_CMD_NOT_FOUND;
    } else if (b->c->what == ADMIN_UNDELETE) {
        it->status = ms->trash_us != 0 ? SCHED_CMD_OK : SCHED_CMD_NOT_FOUND;
    } else if (ms->is_delete_wanted) {
        it->status = SCHED_CMD_NOT_FOUND;
    } else if (b->c->what == ADMIN_READDRESS) {
        it->status = find_moves_locked(b, it);
        if (it->status != SCHED_CMD_OK)
            return;
        sched_unqueue_message_locked(b->s, ms);
        ms->frozen++;
        it->has_frozen = true;
        ms_recompute_due_locked(b->s, ms);
    } else {
        it->status = SCHED_CMD_OK;
    }
}

/* ---- the records ---- */

static void record_cb(void *arg, int status)
{
    struct item *it = arg;
    struct sched *s = it->b->s;
    lock_take(&s->m);
    it->is_bad |= status != SPOOL_OK;
    if (--it->b->waiting == 0)
        cond_broadcast(&s->answered);
    lock_drop(&s->m);
}

static void submit_moves(struct batch *b, struct item *it)
{
    struct buf detail = BUF_INIT(0);
    for (uint32_t i = 0; i < it->moves_n; i++) {
        buf_reset(&detail);
        buf_put_u32be(&detail, it->moves[i].rcpt);
        buf_add_span(&detail, it->moves[i].to);
        spool_admin_submit(b->s->spool, ADMIN_READDRESS, it->ms->id, buf_span(&detail), record_cb, it);
    }
    buf_free(&detail);
}

static void write_records(struct batch *b)
{
    struct sched *s = b->s;
    size_t all = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->items[i].status == SCHED_CMD_OK)
            all += b->items[i].records = b->c->what == ADMIN_READDRESS ? b->items[i].moves_n : 1;
    lock_take(&s->m);
    b->waiting = all;
    lock_drop(&s->m);
    for (size_t i = 0; i < b->n; i++) {
        struct item *it = &b->items[i];
        if (it->status != SCHED_CMD_OK)
            continue;
        if (b->c->what == ADMIN_READDRESS)
            submit_moves(b, it);
        else
            spool_admin_submit(s->spool, b->c->what, it->ms->id, (struct span){ 0 }, record_cb, it);
    }
    lock_take(&s->m);
    while (b->waiting > 0)
        cond_wait(&s->answered, &s->m);
    lock_drop(&s->m);
}

/* ---- in memory ---- */

static void set_hold(struct sched *s, struct msg_sched *ms, bool hold)
{
    if (ms->is_hold == hold)
        return;
    ms->is_hold = hold;
    s->n_hold += hold ? 1 : (uint64_t)-1;
}

static void idle_now(struct sched *s, struct msg_sched *ms, bool new_routes)
{
    int64_t now_us = clock_wall_us();
    for (uint32_t i = 0; i < ms->m->env.rcpt_count; i++) {
        struct msg_rcpt *r = &ms->m->env.rcpts[i];
        if (new_routes)
            ms->rx[i].gen = s->gen - 1;
        if (r->state != RCPT_TODO || (ms->rx[i].flags & RX_QUEUED))
            continue;
        r->due_us = now_us;
        ms->rx[i].flags |= RX_DIRTY;
    }
    ms_recompute_due_locked(s, ms);
}

static void readdress_locked(struct sched *s, struct item *it)
{
    struct msg_sched *ms = it->ms;
    for (uint32_t i = 0; i < it->moves_n; i++) {
        uint32_t at = it->moves[i].rcpt;
        struct msg_rcpt *r = &ms->m->env.rcpts[at];
        if (r->state != RCPT_TODO)
            continue;
        r->addr = arena_dup_span(ms->m->arena, it->moves[i].to);
        r->route = (struct msg_route){ 0 };
        r->is_readdressed = true;
        r->due_us = clock_wall_us();
        ms->rx[at].gen = s->gen - 1;
        ms->rx[at].flags |= RX_DIRTY;
    }
}

static enum sched_cmd_status apply_locked(struct sched *s, struct item *it, enum spool_admin what, struct after *a)
{
    struct msg_sched *ms = it->ms;
    switch (what) {
    case ADMIN_HOLD:
        sched_unqueue_message_locked(s, ms);
        set_hold(s, ms, true);
        ms_recompute_due_locked(s, ms);
        break;
    case ADMIN_RELEASE:
        if (!ms->is_hold)
            return SCHED_CMD_OK;
        set_hold(s, ms, false);
        idle_now(s, ms, false);
        break;
    case ADMIN_REQUEUE:
        sched_unqueue_message_locked(s, ms);
        set_hold(s, ms, false);
        idle_now(s, ms, true);
        break;
    case ADMIN_EXPIRE:
        sched_unqueue_message_locked(s, ms);
        set_hold(s, ms, false);
        ms->is_expire_wanted = true;
        idle_now(s, ms, false);
        break;
    case ADMIN_TRASH:
    case ADMIN_DELETE:
        ms->trash_us = what == ADMIN_TRASH ? clock_wall_us() : 0;
        sched_unqueue_message_locked(s, ms);
        ms->is_delete_wanted = true;
        break;
    case ADMIN_UNDELETE:
        trash_restore_locked(s, ms);
        if (!ms->is_hold)
            idle_now(s, ms, false);
        break;
    case ADMIN_READDRESS:
        readdress_locked(s, it);
        break;
    }
    ms_dirty_locked(s, ms);
    bool is_busy = (what == ADMIN_DELETE || what == ADMIN_TRASH) && (ms->jobs > 0 || ms->pending > 0);
    ms_settle_locked(s, ms, a);
    sched_kick_locked(s);
    return is_busy ? SCHED_CMD_BUSY : SCHED_CMD_OK;
}

static void apply_one_locked(struct batch *b, struct item *it, struct after *a)
{
    struct msg_sched *ms = it->ms;
    ms->frozen -= it->has_frozen;
    if (it->is_bad)
        it->status = SCHED_CMD_FAILED;
    else if (ms->m == NULL)
        it->status = SCHED_CMD_NOT_FOUND;
    else
        it->status = apply_locked(b->s, it, b->c->what, a);
    if (it->has_frozen && ms->m != NULL) {
        ms_recompute_due_locked(b->s, ms);
        ms_settle_locked(b->s, ms, a);
    }
}

/* ---- the log ---- */

static const char *words(enum spool_admin what)
{
    switch (what) {
    case ADMIN_HOLD: return "placed on hold";
    case ADMIN_RELEASE: return "released from hold";
    case ADMIN_REQUEUE: return "requeued";
    case ADMIN_EXPIRE: return "expired";
    case ADMIN_UNDELETE: return "restored";
    case ADMIN_DELETE: /* logged when it is gone */
    case ADMIN_TRASH:
    case ADMIN_READDRESS: break;
    }
    return NULL;
}

static void log_one(struct batch *b, const struct item *it, const struct params *p)
{
    if (it->status != SCHED_CMD_OK)
        return;
    if (words(b->c->what) != NULL)
        log_simple(&b->s->log_super, p, it->ms->id, words(b->c->what));
    for (uint32_t i = 0; i < it->moves_n; i++) {
        char *text = xasprintf("readdressed: to=<%.*s>, orig_to=<%.*s>", SPAN_ARG(it->moves[i].to), SPAN_ARG(it->moves[i].old));
        log_simple(&b->s->log_super, p, it->ms->id, text);
        free(text);
    }
}

/* ---- all of it ---- */

static void apply_all(struct batch *b)
{
    struct sched *s = b->s;
    lock_take(&s->m);
    struct conf *c = conf_ref(s->conf);
    lock_drop(&s->m);
    for (size_t i = 0; i < b->n; i++) {
        struct after a = AFTER_INIT;
        struct item *it = &b->items[i];
        if (it->records == 0)
            continue;
        lock_take(&s->m);
        apply_one_locked(b, it, &a);
        lock_drop(&s->m);
        log_one(b, it, conf_global(c));
        sched_after(s, &a);
    }
    conf_unref(&c);
}

static void run_batch(struct batch *b)
{
    struct sched *s = b->s;
    lock_take(&s->m);
    s->changes_out++;
    lock_drop(&s->m);
    for (size_t i = 0; i < b->n; i++) { /* one by one: each may have thousands of recipients */
        if (b->items[i].ms == NULL)
            continue;
        lock_take(&s->m);
        prepare_locked(b, &b->items[i]);
        lock_drop(&s->m);
    }
    write_records(b);
    apply_all(b);
    lock_take(&s->m);
    s->changes_out--;
    sched_kick_locked(s);
    lock_drop(&s->m);
}

void sched_change(struct sched *s, const struct sched_change *c, const uint64_t *ids, size_t n, enum sched_cmd_status *out,
                  struct err *e)
{
    struct batch b = { .s = s, .c = c, .n = n, .text = arena_new(4096) };
    struct msg_sched **ms = xcalloc(n + 1, sizeof(struct msg_sched *));
    b.items = xcalloc(n + 1, sizeof *b.items);
    cmd_wait_for_index(s);
    bool ok = cmd_pin(s, ids, n, c->what == ADMIN_UNDELETE, ms, e), bad = false;
    for (size_t i = 0; i < n; i++)
        b.items[i] = (struct item){ .b = &b, .ms = ms[i], .status = ok ? SCHED_CMD_NOT_FOUND : SCHED_CMD_FAILED };
    run_batch(&b);
    for (size_t i = 0; i < n; i++) {
        out[i] = b.items[i].status;
        bad |= b.items[i].is_bad;
    }
    if (bad)
        err_set(e, "the change cannot be written to the journal");
    cmd_unpin(s, ms, n);
    arena_free(&b.text);
    free(b.items);
    free(ms);
}

enum sched_cmd_status sched_admin(struct sched *s, enum spool_admin what, uint64_t id, struct err *e)
{
    struct sched_change c = { .what = what };
    enum sched_cmd_status status = SCHED_CMD_FAILED;
    if (what == ADMIN_READDRESS) {
        err_set(e, "to which address?");
        return SCHED_CMD_FAILED;
    }
    sched_change(s, &c, &id, 1, &status, e);
    return status;
}

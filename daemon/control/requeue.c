#include "daemon/control/requeue.h"

#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "daemon/control/local_inspect.h"
#include "daemon/control/local_submit.h"
#include "policy/rewrite/rewrite.h"
#include "queue/copy.h"

#define BUSY_WAIT_MS 2000 /* for deliveries under way when it is put on hold */
#define BUSY_POLL_MS 20

/* What the envelope is to be; texts in the arena. */
struct plan {
    struct arena *a;
    struct span sender, filter;
    struct msg_rcpt *rcpts;  /* of the message itself */
    uint32_t count, cap;
    struct mail_list *lists; /* members of lists with an owner */
    bool is_changed;
};

static void add(struct plan *p, const struct msg_rcpt *from, struct span addr, struct span owner)
{
    struct mail_list all = { .rcpts = p->rcpts, .count = p->count, .cap = p->cap };
    struct mail_list *l = owner.n > 0 ? mail_list_of(&p->lists, owner, p->a) : &all;
    for (uint32_t i = 0; i < l->count; i++)
        if (span_ieq(l->rcpts[i].addr, addr) && span_ieq(l->rcpts[i].orig, from->orig))
            return;
    struct msg_rcpt *to = mail_list_add(l, p->a);
    *to = (struct msg_rcpt){ .addr = addr, .orig = from->orig };
    if (owner.n == 0) {
        to->orcpt = from->orcpt;
        to->notify = from->notify;
        p->rcpts = all.rcpts;
        p->count = all.count;
        p->cap = all.cap;
    }
}

static bool plan_rcpt(struct plan *p, const struct policy *pol, const struct msg_rcpt *r, struct err *e)
{
    struct span addr = r->addr;
    struct route_targets to;
    if (pol == NULL) {
        add(p, r, addr, span_of(NULL, 0));
        return true;
    }
    if (rewrite_envelope(pol, REWRITE_ENV_RCPT, true, r->addr, p->a, &addr, NULL, e) == LOOKUP_TEMPFAIL ||
        route_expand_to(pol, addr, p->a, &to, NULL, e) == LOOKUP_TEMPFAIL)
        return false;
    p->is_changed |= route_targets_is_expanded(&to, r->addr);
    for (size_t i = 0; i < to.count; i++)
        add(p, r, to.list[i].addr, to.list[i].sender);
    return true;
}

/* m: with its progress. */
static bool plan_make(struct plan *p, const struct requeue_env *env, const struct msg *m, struct err *e)
{
    const struct params *v = local_pickup_params(env->conf);
    const struct policy *pol = local_inspect_maps_addresses(v) ? env->policy : NULL;
    p->filter = arena_dup_span(p->a, span_cstr(v->content_filter));
    p->sender = m->env.sender;
    p->is_changed = !span_eq(p->filter, m->env.filter);
    if (pol != NULL && rewrite_envelope(pol, REWRITE_ENV_SENDER, true, m->env.sender, p->a, &p->sender, NULL, e) == LOOKUP_TEMPFAIL)
        return false;
    p->is_changed |= !span_eq(p->sender, m->env.sender);
    for (uint32_t i = 0; i < m->env.rcpt_count; i++)
        if (m->env.rcpts[i].state != RCPT_DONE && !plan_rcpt(p, pol, &m->env.rcpts[i], e))
            return false;
    return true;
}

/* ---- the new one ---- */

static bool commit(struct spool *s, struct mail_list **lists, struct msg *m)
{
    size_t n;
    struct msg **v = mail_lists_take(lists, m, NULL, &n);
    enum spool_status st = spool_commit(s, v, n);
    free(v);
    return st == SPOOL_OK;
}

static void give_rcpts(struct msg *to, const struct plan *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        struct msg_rcpt *r = msg_add_rcpt(to);
        r->addr = arena_dup_span(to->arena, p->rcpts[i].addr);
        r->orig = arena_dup_span(to->arena, p->rcpts[i].orig);
        r->orcpt = arena_dup_span(to->arena, p->rcpts[i].orcpt);
        r->notify = p->rcpts[i].notify;
    }
}

/* Commits what the plan says, with the content of `old`. */
static bool replace(const struct requeue_env *env, struct plan *p, struct msg *old, struct err *e)
{
    struct msg *m;
    char old_id[QID_TEXT_MAX + 1], new_id[QID_TEXT_MAX + 1];
    bool long_ids = conf_global(env->conf)->enable_long_queue_ids;
    if (mail_copy(env->spool, old, p->sender, &m, e) != SPOOL_OK)
        return false;
    m->env.envid = arena_dup_span(m->arena, old->env.envid);
    m->env.ret = old->env.ret;
    m->env.filter = arena_dup_span(m->arena, p->filter);
    m->env.flags &= ~(uint32_t)(ENV_HOLD | ENV_FORCED_EXPIRE);
    give_rcpts(m, p);
    old_id[qid_format(old->env.id, long_ids, old_id)] = '\0';
    new_id[qid_format(m->env.id, long_ids, new_id)] = '\0';
    if (p->lists != NULL && mail_lists_copy(env->spool, &p->lists, m, e) != SPOOL_OK) {
        mail_lists_drop(env->spool, &p->lists);
        spool_msg_drop(env->spool, &m);
        return false;
    }
    log_info(env->log, "%s: requeued as %s", old_id, new_id);
    if (commit(env->spool, &p->lists, m))
        return true;
    err_set(e, "the new message could not be written to the spool");
    return false;
}

/* ---- the old one ---- */

static bool is_busy(const struct msg *m)
{
    for (uint32_t i = 0; i < m->env.rcpt_count; i++)
        if (m->env.rcpts[i].state == RCPT_BUSY)
            return true;
    return false;
}

/* Its progress when nothing is under way any more, or NULL. It is on hold, so nothing begins. */
static struct msg *wait_until_idle(struct sched *s, uint64_t id)
{
    int64_t until_ms = clock_mono_ms() + BUSY_WAIT_MS;
    enum sched_where w;
    struct msg *m = sched_find(s, id, &w);
    while (m != NULL && is_busy(m)) {
        msg_unref(&m);
        if (clock_mono_ms() >= until_ms)
            return NULL;
        nanosleep(&(struct timespec){ .tv_nsec = BUSY_POLL_MS * 1000000L }, NULL);
        m = sched_find(s, id, &w);
    }
    return m;
}

/* The old one is on hold. */
static enum requeue renew_held(const struct requeue_env *env, uint64_t id, struct plan *p, struct err *e)
{
    struct msg *now = wait_until_idle(env->sched, id), *old = now != NULL ? sched_ref(env->sched, id) : NULL;
    enum requeue answer = REQUEUE_SAME;
    if (old != NULL && !plan_make(p, env, now, e)) /* once more: some may have been delivered */
        answer = REQUEUE_FAILED;
    else if (old != NULL && (p->count > 0 || p->lists != NULL))
        answer = replace(env, p, old, e) ? REQUEUE_RENEWED : REQUEUE_FAILED;
    msg_unref(&old);
    msg_unref(&now);
    return answer;
}

static void undo_hold(const struct requeue_env *env, uint64_t id)
{
    struct err why = ERR_INIT;
    if (sched_admin(env->sched, ADMIN_RELEASE, id, &why) == SCHED_CMD_FAILED)
        log_warn(env->log, "%llX: stays on hold: %s", (unsigned long long)id, why.text);
}

static enum requeue renew(const struct requeue_env *env, uint64_t id, bool was_held, struct plan *p, struct err *e)
{
    struct err why = ERR_INIT;
    if (!was_held && sched_admin(env->sched, ADMIN_HOLD, id, e) != SCHED_CMD_OK)
        return REQUEUE_SAME; /* gone meanwhile, or it will be told when the scheduler is asked */
    enum requeue answer = renew_held(env, id, p, e);
    if (answer == REQUEUE_RENEWED && sched_admin(env->sched, ADMIN_DELETE, id, &why) == SCHED_CMD_FAILED)
        log_warn(env->log, "%llX: was requeued, but stays here on hold as well: %s", (unsigned long long)id, why.text);
    if (answer == REQUEUE_FAILED && !was_held)
        undo_hold(env, id);
    return answer; /* SAME: the caller releases it */
}

enum requeue requeue_renew(const struct requeue_env *env, uint64_t id, struct err *e)
{
    enum sched_where w;
    struct msg *m = sched_find(env->sched, id, &w);
    enum requeue answer = REQUEUE_SAME;
    if (m == NULL)
        return answer;
    struct plan first = { .a = arena_new(0) }, p = { .a = arena_new(0) };
    if (!plan_make(&first, env, m, e))
        answer = REQUEUE_FAILED;
    else if (first.is_changed)
        answer = renew(env, id, w == SCHED_HOLD, &p, e);
    msg_unref(&m);
    arena_free(&first.a);
    arena_free(&p.a);
    return answer;
}

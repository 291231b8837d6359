#include "queue/own_rcpts.h"

static bool is_there(const struct msg *m, struct span addr, int64_t limit)
{
    for (uint32_t i = 0; i < m->env.rcpt_count && (limit == 0 || i < limit); i++)
        if (span_ieq(m->env.rcpts[i].addr, addr))
            return true;
    return false;
}

static void add(struct msg *m, struct span addr, struct span orig)
{
    struct msg_rcpt *r = msg_add_rcpt(m);
    r->addr = addr;
    r->orig = orig;
}

bool own_rcpts_add(struct msg *m, struct span to, const struct own_policy *x, int64_t duplicate_limit, struct err *e)
{
    if (x == NULL || x->expand == NULL) {
        add(m, to, to);
        return true;
    }
    struct span *members;
    size_t n;
    struct arena *a = arena_new(1024);
    bool ok = x->expand(x->arg, to, a, &members, &n, e);
    for (size_t i = 0; ok && i < n; i++)
        if (!is_there(m, members[i], duplicate_limit))
            add(m, span_eq(members[i], to) ? to : arena_dup_span(m->arena, members[i]), to);
    arena_free(&a);
    return ok;
}

void own_rcpts_hold(struct msg *m, struct span to)
{
    add(m, to, to);
    m->env.flags |= ENV_HOLD;
}

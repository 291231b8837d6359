/*
 * route_expand: who gets the mail after virtual aliases and aliases(5)
 *
 * Virtual aliases first: each result is looked up again until it maps to itself or to nothing. Of several results the first
 * takes the place of the alias, the others go to the end of the list, and each is allowed virtual_alias_recursion_limit
 * steps of its own; so a loop ends at that limit, and the message is not accepted. Then, for names of the local class, the
 * alias files (alias_expand.c); what they give goes through the virtual aliases again.
 */
#include "common/base/mem.h"
#include "common/mail/address.h"
#include "policy/alias_expand.h"
#include "policy/rewrite/addr_list.h"
#include "policy/rewrite/rewrite_internal.h"

#define MEMBERS_MAX 100000
#define STEPS_MAX   10000 /* where virtual_alias_recursion_limit is 0 */

struct name {
    struct span addr;  /* internal form */
    int parent;        /* index of the alias it came from, -1: none */
    struct span owner; /* of the mailing list it came from */
};

struct expansion {
    const struct policy *p;
    struct arena *a;
    struct err *e;
    const struct rewrite_trace *trace;
    struct name *todo; /* owned; grows while it is walked: behind virtual aliases, before alias files */
    size_t count, cap;
    struct route_targets *out;
    size_t out_cap;
};

/* ---- virtual aliases ---- */

/* Addresses in external form, and those of them that are themselves among their own results. */
struct vlist {
    struct span *addr; /* in the arena */
    size_t count, cap;
    struct span *fixed;
    size_t fixed_count, fixed_cap;
};

static void append(struct expansion *x, struct span **list, size_t *count, size_t *cap, struct span s)
{
    if (*count == *cap) {
        *cap = *cap ? *cap * 2 : 4;
        struct span *more = arena_alloc(x->a, *cap * sizeof *more);
        if (*count > 0)
            memcpy(more, *list, *count * sizeof *more);
        *list = more;
    }
    (*list)[(*count)++] = s;
}

static bool is_fixed(const struct vlist *v, struct span s)
{
    for (size_t i = 0; i < v->fixed_count; i++)
        if (span_ieq(v->fixed[i], s))
            return true;
    return false;
}

static bool over_limit(struct expansion *x, const char *parameter, int64_t limit, size_t have, struct span addr)
{
    if (limit == 0 || have <= (size_t)limit)
        return false;
    x->out->is_alias_error = true;
    err_set(x->e, "%s (%lld) reached while expanding \"%.*s\"; message not accepted for delivery, try again later",
            parameter, (long long)limit, (int)(addr.n > 100 ? 100 : addr.n), addr.p);
    return true;
}

/* Puts the results of one look-up into the list. */
static bool take_results(struct expansion *x, struct vlist *v, size_t at, const struct span *to, size_t n)
{
    struct span from = v->addr[at];
    for (size_t i = 0; i < n; i++) {
        if (over_limit(x, "virtual_alias_address_length_limit", x->p->p->virtual_alias_address_length_limit, to[i].n, to[i]))
            return false;
        if (x->trace != NULL)
            x->trace->step(x->trace->arg, "virtual_alias_maps", from, to[i]);
        if (i == 0)
            v->addr[at] = to[i];
        else
            append(x, &v->addr, &v->count, &v->cap, to[i]);
        if (span_ieq(from, to[i]))
            append(x, &v->fixed, &v->fixed_count, &v->fixed_cap, from);
    }
    return true;
}

/* One address of the list, until there is nothing more to replace. */
static enum lookup expand_at(struct expansion *x, struct vlist *v, size_t at)
{
    const struct params *p = x->p->p;
    int64_t steps = p->virtual_alias_recursion_limit > 0 ? p->virtual_alias_recursion_limit : STEPS_MAX;
    for (size_t step = 0; !is_fixed(v, v->addr[at]); step++) {
        struct span *to;
        size_t n;
        if (over_limit(x, "virtual_alias_recursion_limit", steps, step + 1, v->addr[at]))
            return LOOKUP_TEMPFAIL;
        enum lookup got = rewrite_lookup(x->p, x->p->virtual_alias_maps, policy_list_has(p->propagate_unmatched_extensions, "virtual"),
                                         v->addr[at], x->a, &to, &n, x->e);
        if (got == LOOKUP_TEMPFAIL)
            x->out->is_alias_error = true;
        if (got != LOOKUP_FOUND || n == 0)
            return got == LOOKUP_TEMPFAIL ? got : LOOKUP_FOUND;
        if (!take_results(x, v, at, to, n))
            return LOOKUP_TEMPFAIL;
    }
    return LOOKUP_FOUND;
}

static void add(struct expansion *x, struct span addr, int parent, struct span owner)
{
    if (x->count == x->cap) {
        x->cap = x->cap ? x->cap * 2 : 8;
        x->todo = xrealloc(x->todo, x->cap * sizeof *x->todo);
    }
    x->todo[x->count++] = (struct name){ .addr = addr, .parent = parent, .owner = owner };
}

/* Adds what the virtual aliases make of an address (internal form) to the names that alias files are asked for. */
static enum lookup expand_virtual(struct expansion *x, struct span addr, int parent, struct span owner)
{
    struct vlist v = { 0 };
    if (maps_is_empty(x->p->virtual_alias_maps)) {
        add(x, addr, parent, owner);
        return LOOKUP_FOUND;
    }
    append(x, &v.addr, &v.count, &v.cap, addr_quoted(x->a, addr));
    for (size_t i = 0; i < v.count; i++) {
        if (over_limit(x, "virtual_alias_expansion_limit", x->p->p->virtual_alias_expansion_limit, v.count, v.addr[i]) ||
            expand_at(x, &v, i) == LOOKUP_TEMPFAIL)
            return LOOKUP_TEMPFAIL;
    }
    for (size_t i = 0; i < v.count; i++)
        add(x, addr_external_to_internal(v.addr[i], x->a), parent, owner);
    return LOOKUP_FOUND;
}

/* ---- results ---- */

static void emit(struct expansion *x, struct span addr, struct span owner)
{
    struct route_targets *o = x->out;
    int64_t filter = x->p->p->duplicate_filter_limit; /* 0: no limit */
    for (size_t i = 0; i < o->count && (filter == 0 || i < (size_t)filter); i++) /* a list may have a hundred thousand members */
        if (span_ieq(o->list[i].addr, addr) && span_eq(o->list[i].sender, owner))
            return;
    if (o->count == x->out_cap) {
        x->out_cap = x->out_cap ? x->out_cap * 2 : 4;
        struct route_target *more = arena_alloc(x->a, x->out_cap * sizeof *more);
        if (o->count > 0)
            memcpy(more, o->list, o->count * sizeof *more);
        o->list = more;
    }
    o->list[o->count++] = (struct route_target){ .addr = addr, .sender = owner };
}

/* ---- alias files ---- */

static bool is_ancestor(const struct expansion *x, int at, struct span addr)
{
    for (; at >= 0; at = x->todo[at].parent)
        if (span_ieq(x->todo[at].addr, addr))
            return true;
    return false;
}

/* Of an alias without members (an empty list, /dev/null) nobody gets the mail, not even a user of that name. */
static struct span nobody(const struct expansion *x, struct span alias)
{
    struct span local, domain, own = span_cstr(x->p->p->double_bounce_sender);
    if (addr_split(own, &local, &domain))
        own = local;
    if (!addr_split(alias, &local, &domain))
        domain = span_cstr(x->p->p->myorigin);
    return span_cstr(arena_printf(x->a, "%.*s@%.*s", SPAN_ARG(own), SPAN_ARG(domain))); /* see absorb_own() in route_resolve.c */
}

/* FOUND: replaced by others; NONE: stays. A name that was expanded on the way here is not expanded again. */
static enum lookup expand_alias(struct expansion *x, int at)
{
    struct alias_members m = { 0 };
    struct name self = x->todo[at];
    enum lookup got = alias_expand(x->p, self.addr, x->a, &m, x->e);
    if (got != LOOKUP_FOUND)
        return got;
    struct span owner = m.owner.n > 0 ? m.owner : self.owner;
    for (size_t i = 0; i < m.count; i++) {
        if (x->trace != NULL)
            x->trace->step(x->trace->arg, "alias_maps", self.addr, m.list[i]);
        if (is_ancestor(x, at, m.list[i]))
            emit(x, m.list[i], owner);
        else if (expand_virtual(x, m.list[i], at, owner) == LOOKUP_TEMPFAIL)
            return LOOKUP_TEMPFAIL;
        if (x->count > MEMBERS_MAX) {
            err_set(x->e, "alias \"%.*s\" has too many members", SPAN_ARG(self.addr));
            return LOOKUP_TEMPFAIL;
        }
    }
    if (m.count == 0 && !m.has_agents)
        emit(x, nobody(x, self.addr), span_of(NULL, 0));
    return m.count > 0 || !m.has_agents ? LOOKUP_FOUND : LOOKUP_NONE;
}

enum lookup route_expand_to(const struct policy *p, struct span recipient, struct arena *a, struct route_targets *out,
                            const struct rewrite_trace *trace, struct err *e)
{
    struct expansion x = { .p = p, .a = a, .e = e, .trace = trace, .out = out };
    *out = (struct route_targets){ 0 };
    if (maps_is_empty(p->virtual_alias_maps) && maps_is_empty(p->alias_maps)) {
        emit(&x, arena_dup_span(a, recipient), span_of(NULL, 0));
        return LOOKUP_FOUND;
    }
    enum lookup got = expand_virtual(&x, recipient, -1, span_of(NULL, 0));
    out->is_virtual = got == LOOKUP_FOUND && (x.count != 1 || !span_eq(x.todo[0].addr, recipient));
    for (size_t i = 0; got == LOOKUP_FOUND && i < x.count; i++) {
        enum lookup alias = maps_is_empty(p->alias_maps) ? LOOKUP_NONE : expand_alias(&x, (int)i);
        if (alias == LOOKUP_NONE)
            emit(&x, x.todo[i].addr, x.todo[i].owner);
        if (alias == LOOKUP_TEMPFAIL)
            got = alias;
    }
    free(x.todo);
    return got;
}

enum lookup route_expand(const struct policy *p, struct span recipient, struct arena *a, struct span **out, size_t *count,
                         struct err *e)
{
    struct route_targets t;
    enum lookup got = route_expand_to(p, recipient, a, &t, NULL, e);
    if (got != LOOKUP_FOUND)
        return got;
    *out = arena_alloc(a, (t.count + 1) * sizeof **out);
    for (size_t i = 0; i < t.count; i++)
        (*out)[i] = t.list[i].addr;
    *count = t.count;
    return LOOKUP_FOUND;
}

bool route_targets_is_expanded(const struct route_targets *t, struct span addr)
{
    return t->count != 1 || !span_eq(t->list[0].addr, addr);
}

bool route_targets_is_list(const struct route_targets *t)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->list[i].sender.n == 0)
            return false;
    return t->count > 0 && !t->is_virtual;
}

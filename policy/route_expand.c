/*
 * route_expand: who gets the mail after virtual aliases and aliases(5)
 *
 * Virtual aliases first, each result looked up again until a name maps to itself or to nothing; then, for names of the
 * local class, the alias files, again until nothing changes. A name that was expanded on the way here is not expanded a
 * second time, so a loop ends with the name itself. Commands, files and :include: lists in alias files are refused with a
 * log line; an alias that names nothing else stays a recipient of its own name, and delivery tells the sender.
 */
#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/mail/address.h"
#include "policy/policy_internal.h"

#define ALIAS_MEMBERS_MAX 100000

struct name {
    struct span addr;
    int parent;        /* index of the name it came from, -1: the recipient */
    unsigned depth;
    bool is_alias;     /* virtual aliases are done with this one */
};

struct expansion {
    const struct policy *p;
    struct arena *a;
    struct err *e;
    struct name *todo;  /* owned; grows while it is walked */
    size_t count, cap;
    size_t virtual_count;  /* results of virtual aliases so far */
    struct span *out;   /* in the arena */
    size_t out_count, out_cap;
};

static bool is_ancestor(const struct expansion *x, int at, struct span addr, bool is_alias)
{
    for (; at >= 0; at = x->todo[at].parent) {
        if (x->todo[at].is_alias == is_alias && span_ieq(x->todo[at].addr, addr))
            return true;
    }
    return false;
}

static bool over_limit(struct expansion *x, const char *parameter, int64_t limit, size_t have, struct span addr)
{
    if (limit == 0 || have <= (size_t)limit)
        return false;
    err_set(x->e, "%s (%lld) reached while expanding \"%.*s\"; message not accepted for delivery, try again later",
            parameter, (long long)limit, (int)(addr.n > 100 ? 100 : addr.n), addr.p);
    return true;
}

static void add(struct expansion *x, int from, struct span addr, bool is_alias)
{
    unsigned depth = from < 0 ? 0 : x->todo[from].depth + 1;
    if (x->count == x->cap) {
        x->cap = x->cap ? x->cap * 2 : 8;
        x->todo = xrealloc(x->todo, x->cap * sizeof *x->todo);
    }
    x->todo[x->count++] = (struct name){ .addr = addr, .parent = from, .depth = depth, .is_alias = is_alias };
}

/* A result of a virtual alias, within the limits. */
static bool push(struct expansion *x, int from, struct span addr, bool is_alias)
{
    const struct params *v = x->p->p;
    if (over_limit(x, "virtual_alias_expansion_limit", v->virtual_alias_expansion_limit, ++x->virtual_count, addr)
        || over_limit(x, "virtual_alias_recursion_limit", v->virtual_alias_recursion_limit, x->todo[from].depth + 1, addr)
        || over_limit(x, "virtual_alias_address_length_limit", v->virtual_alias_address_length_limit, addr.n, addr))
        return false;
    add(x, from, addr, is_alias);
    return true;
}

static void emit(struct expansion *x, struct span addr)
{
    for (size_t i = 0; i < x->out_count; i++) {
        if (span_eq(x->out[i], addr))
            return;
    }
    if (x->out_count == x->out_cap) {
        size_t cap = x->out_cap ? x->out_cap * 2 : 4;
        struct span *more = arena_alloc(x->a, cap * sizeof *more);
        if (x->out_count)
            memcpy(more, x->out, x->out_count * sizeof *more);
        x->out = more;
        x->out_cap = cap;
    }
    x->out[x->out_count++] = addr;
}

/* ---- lists of addresses on the right-hand side ---- */

/* The next address of a comma (or, for virtual, white space) separated list; quotes and <> are respected. */
static bool next_address(struct span *rest, bool space_separates, struct span *out)
{
    size_t i = 0;
    while (rest->n > 0 && (rest->p[0] == ',' || ascii_is_space(rest->p[0])))
        *rest = span_from(*rest, 1);
    if (rest->n == 0)
        return false;
    bool quoted = false;
    for (; i < rest->n; i++) {
        char c = rest->p[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == ',' || (space_separates && ascii_is_space(c))))
            break;
    }
    size_t n = i > rest->n ? rest->n : i;
    *out = span_trim(span_of(rest->p, n));
    *rest = span_from(*rest, n);
    return true;
}

/* "Name <a@b>" -> a@b */
static struct span bare_address(struct span s)
{
    ptrdiff_t open = span_rfind(s, '<');
    if (open >= 0 && s.p[s.n - 1] == '>')
        return span_of(s.p + open + 1, s.n - (size_t)open - 2);
    return s;
}

/* user@dom + "+ext" -> user+ext@dom */
static struct span with_extension(struct expansion *x, struct span addr, struct span ext)
{
    struct maps_addr m = maps_addr_of(addr, "", true);
    if (ext.n == 0 || m.domain.n == 0)
        return addr;
    char *s = arena_printf(x->a, "%.*s%.*s@%.*s", SPAN_ARG(m.local), SPAN_ARG(ext), SPAN_ARG(m.domain));
    return span_cstr(s);
}

/* ---- virtual aliases ---- */

/* "@other" as a result keeps the local part. */
static struct span at_domain_result(struct expansion *x, struct span from, struct span result)
{
    struct maps_addr m = maps_addr_of(from, "", true);
    if (result.n < 2 || result.p[0] != '@')
        return result;
    return span_cstr(arena_printf(x->a, "%.*s%.*s", SPAN_ARG(m.local), SPAN_ARG(result)));
}

static enum lookup virtual_forms(const struct policy *p, struct span domain, unsigned *forms, struct err *e)
{
    enum lookup ours = LOOKUP_FOUND;
    *forms = MAPS_AT_DOMAIN;
    if (!span_ieq_cstr(domain, p->p->myorigin))
        ours = policy_is_local_domain(p, domain, e);
    if (ours == LOOKUP_FOUND)
        *forms |= MAPS_LOCAL_PART;
    return ours;
}

/* FOUND: replaced by others; NONE: stays. A result that is on the way here already is done with virtual aliases. */
static enum lookup expand_virtual(struct expansion *x, int at)
{
    const struct policy *p = x->p;
    struct span addr = x->todo[at].addr, value, ext, one;
    struct maps_addr m = maps_addr_of(addr_quoted(x->a, addr), p->p->recipient_delimiter, p->p->owner_request_special);
    unsigned forms;
    if (maps_is_empty(p->virtual_alias_maps))
        return LOOKUP_NONE;
    if (virtual_forms(p, m.domain, &forms, x->e) == LOOKUP_TEMPFAIL)
        return LOOKUP_TEMPFAIL;
    enum lookup got = maps_lookup_address(p->virtual_alias_maps, &m, forms, x->a, &value, &ext, x->e);
    if (got != LOOKUP_FOUND)
        return got;
    if (!policy_list_has(p->p->propagate_unmatched_extensions, "virtual"))
        ext.n = 0;
    size_t before = x->count;
    while (next_address(&value, true, &one)) {
        struct span full = address_rewrite(p, at_domain_result(x, addr, bare_address(one)), x->a);
        full = with_extension(x, full, ext);
        if (full.n > 0 && !push(x, at, full, is_ancestor(x, at, full, false)))
            return LOOKUP_TEMPFAIL;
    }
    return x->count > before ? LOOKUP_FOUND : LOOKUP_NONE;
}

/* ---- aliases(5) ---- */

static bool is_refused(struct expansion *x, struct span item, struct span name)
{
    struct span inner = item;
    if (inner.n >= 2 && inner.p[0] == '"' && inner.p[inner.n - 1] == '"')
        inner = span_of(inner.p + 1, inner.n - 2);
    const char *what = inner.p[0] == '|' ? "command"
                       : inner.p[0] == '/' ? "file"
                       : span_istarts_with(inner, SPAN_LIT(":include:")) ? ":include: list" : NULL;
    if (what == NULL)
        return false;
    log_warn(x->p->log, "alias \"%.*s\": delivery to a %s is not done here, ignored: %.*s", SPAN_ARG(name), what,
             SPAN_ARG(inner));
    return true;
}

static enum lookup lookup_alias(struct expansion *x, struct span addr, struct span *name, struct span *value)
{
    const struct policy *p = x->p;
    struct resolved to;
    enum lookup got = route_uses_aliases(p, addr, x->a, &to, x->e);
    if (got != LOOKUP_FOUND)
        return got;
    struct maps_addr m = maps_addr_of(to.address, p->p->recipient_delimiter, p->p->owner_request_special);
    struct maps_addr user = { .full = m.local, .local = m.local, .base_n = m.base_n };
    *name = m.local;
    return maps_lookup_address(p->alias_maps, &user, 0, x->a, value, NULL, x->e);
}

/* FOUND: replaced by others; NONE: stays. What an alias gives goes through the virtual aliases again. */
static enum lookup expand_alias(struct expansion *x, int at)
{
    struct span value, name, one;
    if (maps_is_empty(x->p->alias_maps))
        return LOOKUP_NONE;
    enum lookup got = lookup_alias(x, x->todo[at].addr, &name, &value);
    if (got != LOOKUP_FOUND)
        return got;
    bool has_result = false;
    while (next_address(&value, false, &one)) {
        if (is_refused(x, one, name))
            continue;
        struct span full = address_rewrite(x->p, bare_address(one), x->a);
        if (full.n == 0)
            continue;
        if (span_ieq(full, x->todo[at].addr) || is_ancestor(x, at, full, true))
            emit(x, full);
        else
            add(x, at, full, is_ancestor(x, at, full, false));
        has_result = true;
        if (x->count > ALIAS_MEMBERS_MAX) {
            err_set(x->e, "alias \"%.*s\" has too many members", SPAN_ARG(name));
            return LOOKUP_TEMPFAIL;
        }
    }
    return has_result ? LOOKUP_FOUND : LOOKUP_NONE;
}

/* ---- the walk ---- */

static enum lookup expand_one(struct expansion *x, int at)
{
    enum lookup got = x->todo[at].is_alias ? LOOKUP_NONE : expand_virtual(x, at);
    if (got == LOOKUP_NONE) {
        x->todo[at].is_alias = true;
        got = expand_alias(x, at);
    }
    if (got == LOOKUP_NONE)
        emit(x, x->todo[at].addr);
    return got == LOOKUP_TEMPFAIL ? got : LOOKUP_FOUND;
}

enum lookup route_expand(const struct policy *p, struct span recipient, struct arena *a, struct span **out, size_t *count,
                         struct err *e)
{
    struct expansion x = { .p = p, .a = a, .e = e };
    enum lookup got = LOOKUP_FOUND;
    if (maps_is_empty(p->virtual_alias_maps) && maps_is_empty(p->alias_maps)) {
        emit(&x, arena_dup_span(a, recipient));
    } else {
        struct resolved to;
        got = address_resolve(p, recipient, a, &to, e);
        if (got == LOOKUP_FOUND)
            add(&x, -1, to.is_bad ? arena_dup_span(a, recipient) : to.address, false);
        for (size_t i = 0; got == LOOKUP_FOUND && i < x.count; i++)
            got = expand_one(&x, (int)i);
    }
    free(x.todo);
    if (got != LOOKUP_FOUND)
        return got;
    *out = x.out;
    *count = x.out_count;
    return LOOKUP_FOUND;
}

/*
 * Keys longer than KEY_STACK cannot be in a table whose lines anyone wrote by hand, but may come from a peer: they are
 * put together on the heap then.
 */
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/table/maps.h"

#define KEY_STACK 600

struct maps {
    struct table **tables; /* owned; each held open */
    size_t count;
};

static unsigned no_flags(void *arg, struct span spec)
{
    (void)arg;
    (void)spec;
    return 0;
}

struct maps *maps_open(struct table_registry *r, struct span list, unsigned (*flags_of)(void *arg, struct span spec),
                       void (*problem)(void *arg, struct span spec, enum table_status status, const struct err *e),
                       const struct table_notes *notes, void *arg)
{
    struct maps *m = xcalloc(1, sizeof *m);
    struct span item;
    bool braced;
    if (flags_of == NULL)
        flags_of = no_flags;
    while (conf_list_next(&list, &item, &braced)) {
        struct err e = ERR_INIT;
        enum table_status status;
        m->tables = xrealloc(m->tables, (m->count + 1) * sizeof *m->tables);
        m->tables[m->count++] = table_open(r, item, flags_of(arg, item), notes, &status, &e);
        if (status != TABLE_OK && problem != NULL)
            problem(arg, item, status, &e);
    }
    return m;
}

void maps_close(struct maps **mp)
{
    struct maps *m = *mp;
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->count; i++)
        table_close(&m->tables[i]);
    free(m->tables);
    free(m);
    *mp = NULL;
}

bool maps_is_empty(const struct maps *m)
{
    return m == NULL || m->count == 0;
}

bool maps_may_wait(const struct maps *m)
{
    for (size_t i = 0; m != NULL && i < m->count; i++)
        if (table_may_wait(m->tables[i]))
            return true;
    return false;
}

/* Somebody watches: the value is looked up whether the caller wants it or not. */
static enum lookup lookup_watched(struct table *t, struct span key, struct arena *a, struct span *value, struct err *e)
{
    const struct lookup_watch *w = arena_watch(a);
    struct span v = { NULL, 0 };
    enum lookup got = table_lookup(t, key, a, &v, e);
    w->fn(w->arg, table_name(t), key, got, got == LOOKUP_TEMPFAIL && e != NULL ? span_cstr(e->text) : v);
    if (got == LOOKUP_FOUND && value != NULL)
        *value = v;
    return got;
}

enum lookup maps_lookup(const struct maps *m, struct span key, bool fixed_only, struct arena *a, struct span *value,
                        struct err *e)
{
    for (size_t i = 0; m != NULL && i < m->count; i++) {
        if (fixed_only && !table_is_fixed(m->tables[i]))
            continue;
        bool is_watched = a != NULL && arena_watch(a) != NULL;
        enum lookup got = is_watched ? lookup_watched(m->tables[i], key, a, value, e) : table_lookup(m->tables[i], key, a, value, e);
        if (got != LOOKUP_NONE)
            return got;
    }
    return LOOKUP_NONE;
}

size_t maps_user_length(struct span local, const char *delimiters, bool keeps_lists)
{
    if (delimiters == NULL || *delimiters == '\0')
        return local.n;
    if (span_ieq(local, SPAN_LIT("mailer-daemon")) || span_ieq(local, SPAN_LIT("double-bounce")))
        return local.n;
    if (keeps_lists && strchr(delimiters, '-') != NULL
        && (span_istarts_with(local, SPAN_LIT("owner-")) || span_iends_with(local, SPAN_LIT("-request"))))
        return local.n;
    for (size_t i = 1; i < local.n; i++) {
        if (local.p[i] != '\0' && strchr(delimiters, local.p[i]) != NULL)
            return i;
    }
    return local.n;
}

struct maps_addr maps_addr_of(struct span address, const char *delimiters, bool keeps_lists)
{
    struct maps_addr m = { .full = address, .local = address };
    ptrdiff_t at = span_rfind(address, '@');
    if (at >= 0) {
        m.local = span_of(address.p, (size_t)at);
        m.domain = span_from(address, (size_t)at + 1);
    }
    m.base_n = maps_user_length(m.local, delimiters, keeps_lists);
    return m;
}

/* Looks up the concatenation of two pieces. */
static enum lookup lookup_joined(const struct maps *m, struct span x, struct span y, struct arena *a,
                                 struct span *value, struct err *e)
{
    char small[KEY_STACK];
    size_t n = x.n + y.n;
    char *p = n <= sizeof small ? small : xmalloc(n);
    if (x.n)
        memcpy(p, x.p, x.n);
    if (y.n)
        memcpy(p + x.n, y.p, y.n);
    enum lookup got = maps_lookup(m, span_of(p, n), true, a, value, e);
    if (p != small)
        free(p);
    return got;
}

enum lookup maps_lookup_domain(const struct maps *m, struct span domain, unsigned forms, bool fixed_only,
                               struct arena *a, struct span *value, struct err *e)
{
    enum lookup got = maps_lookup(m, domain, fixed_only, a, value, e);
    if (got != LOOKUP_NONE || !(forms & (MAPS_PARENT | MAPS_DOT_PARENT)))
        return got;
    for (size_t i = 1; i < domain.n; i++) {
        if (domain.p[i] != '.')
            continue;
        struct span parent = span_from(domain, forms & MAPS_DOT_PARENT ? i : i + 1);
        got = maps_lookup(m, parent, true, a, value, e);
        if (got != LOOKUP_NONE)
            return got;
    }
    return LOOKUP_NONE;
}

static enum lookup lookup_local(const struct maps *m, const struct maps_addr *x, struct span user, unsigned forms,
                                bool *stripped, struct arena *a, struct span *value, struct err *e)
{
    if (!(forms & MAPS_LOCAL_PART) || x->domain.n == 0)
        return LOOKUP_NONE;
    enum lookup got = maps_lookup(m, x->local, true, a, value, e);
    if (got != LOOKUP_NONE || user.n == x->local.n)
        return got;
    *stripped = true;
    return maps_lookup(m, user, true, a, value, e);
}

static enum lookup lookup_tail(const struct maps *m, const struct maps_addr *x, struct span user, unsigned forms,
                               struct arena *a, struct span *value, struct err *e)
{
    enum lookup got = LOOKUP_NONE;
    if ((forms & MAPS_AT_DOMAIN) && x->domain.n > 0)
        got = maps_lookup(m, span_of(x->domain.p - 1, x->domain.n + 1), true, a, value, e);
    if (got == LOOKUP_NONE && (forms & MAPS_DOMAIN) && x->domain.n > 0)
        got = maps_lookup_domain(m, x->domain, forms, true, a, value, e);
    if (got == LOOKUP_NONE && (forms & MAPS_USER_AT)) {
        got = lookup_joined(m, x->local, SPAN_LIT("@"), a, value, e);
        if (got == LOOKUP_NONE && user.n != x->local.n)
            got = lookup_joined(m, user, SPAN_LIT("@"), a, value, e);
    }
    return got;
}

enum lookup maps_lookup_address(const struct maps *m, const struct maps_addr *x, unsigned forms, struct arena *a,
                                struct span *value, struct span *ext, struct err *e)
{
    struct span user = span_of(x->local.p, x->base_n);
    bool has_ext = user.n != x->local.n;
    bool stripped = false;
    if (maps_is_empty(m))
        return LOOKUP_NONE;
    enum lookup got = maps_lookup(m, x->full, false, a, value, e);
    if (got == LOOKUP_NONE && has_ext && x->domain.n > 0) {
        stripped = true;
        got = lookup_joined(m, user, span_of(x->domain.p - 1, x->domain.n + 1), a, value, e);
    } else if (got == LOOKUP_NONE && has_ext) {
        stripped = true;
        got = maps_lookup(m, user, true, a, value, e);
    }
    if (got == LOOKUP_NONE) {
        stripped = false;
        got = lookup_local(m, x, user, forms, &stripped, a, value, e);
    }
    if (got == LOOKUP_NONE) {
        stripped = true;
        got = lookup_tail(m, x, user, forms, a, value, e);
    }
    if (got == LOOKUP_FOUND && ext != NULL)
        *ext = stripped && has_ext ? span_from(x->local, x->base_n) : span_of(NULL, 0);
    return got;
}

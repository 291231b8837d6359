/*
 * One address looked up in a table of addresses: canonical(5), virtual(5).
 *
 * Keys are tried in external form, as tables are written; where that has quotes, also without them. A value is a list of
 * addresses as in a header field; each of them is completed like an address of our own.
 */
#include "common/mail/address.h"
#include "policy/rewrite/addr_list.h"
#include "policy/rewrite/rewrite_internal.h"

#define TURNS_MAX 10 /* a table that leads further leads in a circle */

/* @domain alone keeps the local part. */
static struct span at_domain_result(struct arena *a, struct span addr, struct span value)
{
    struct span local, domain;
    if (value.n < 2 || value.p[0] != '@')
        return value;
    addr_split(addr, &local, &domain);
    return span_cstr(arena_printf(a, "%.*s%.*s", SPAN_ARG(local), SPAN_ARG(value)));
}

static struct span with_extension(struct arena *a, struct span addr, struct span ext)
{
    struct span local, domain;
    if (ext.n == 0 || addr.n == 0)
        return addr;
    bool has_domain = addr_split(addr, &local, &domain);
    return span_cstr(arena_printf(a, "%.*s%.*s%s%.*s", SPAN_ARG(local), SPAN_ARG(ext), has_domain ? "@" : "", SPAN_ARG(domain)));
}

static enum lookup forms_of(const struct policy *p, struct span domain, unsigned *forms, struct err *e)
{
    enum lookup ours = LOOKUP_FOUND;
    *forms = MAPS_AT_DOMAIN;
    if (domain.n == 0)
        return LOOKUP_NONE;
    if (!span_ieq_cstr(domain, p->p->myorigin))
        ours = policy_is_local_domain(p, domain, e);
    if (ours == LOOKUP_FOUND)
        *forms |= MAPS_LOCAL_PART;
    return ours;
}

enum lookup rewrite_lookup_value(const struct policy *p, const struct maps *m, struct span addr, struct arena *a,
                                 struct span *value, struct span *ext, struct err *e)
{
    struct maps_addr parts = maps_addr_of(addr, p->p->recipient_delimiter, p->p->owner_request_special);
    unsigned forms;
    if (addr.n == 0 || maps_is_empty(m))
        return LOOKUP_NONE;
    if (forms_of(p, parts.domain, &forms, e) == LOOKUP_TEMPFAIL)
        return LOOKUP_TEMPFAIL;
    enum lookup got = maps_lookup_address(m, &parts, forms, a, value, ext, e);
    struct span plain = addr_external_to_internal(addr, a);
    if (got != LOOKUP_NONE || span_eq(plain, addr))
        return got;
    parts = maps_addr_of(plain, p->p->recipient_delimiter, p->p->owner_request_special);
    if (span_find(parts.local, '@') >= 0) /* "user@elsewhere"@here is not the address user@elsewhere */
        forms &= ~(unsigned)MAPS_LOCAL_PART;
    return maps_lookup_address(m, &parts, forms, a, value, ext, e);
}

void rewrite_parse_list(const struct policy *p, struct span value, struct arena *a, struct span **out, size_t *count)
{
    struct addr_list l;
    const struct rewrite_context local = address_local_context(p);
    size_t n = 0;
    addr_list_parse(value, 0, a, &l);
    struct span *all = arena_alloc(a, (l.count + 1) * sizeof *all);
    const struct addr_item *item;
    for (size_t at = 0; (item = addr_list_next(&l, &at)) != NULL;)
        all[n++] = address_rewrite_external(p, &local, item->text, a, NULL);
    *out = all;
    *count = n;
}

enum lookup rewrite_lookup(const struct policy *p, const struct maps *m, bool passes_extension, struct span addr, struct arena *a,
                           struct span **out, size_t *count, struct err *e)
{
    struct span value, ext = { NULL, 0 };
    enum lookup got = rewrite_lookup_value(p, m, addr, a, &value, &ext, e);
    if (got != LOOKUP_FOUND)
        return got;
    struct span whole = at_domain_result(a, addr, span_trim(value));
    if (whole.n > 0 && span_trim(value).p[0] == '@')
        ext.n = 0; /* the local part has it still */
    rewrite_parse_list(p, whole, a, out, count);
    for (size_t i = 0; i < *count && passes_extension; i++)
        (*out)[i] = with_extension(a, (*out)[i], ext);
    return LOOKUP_FOUND;
}

enum lookup rewrite_one_to_one(const struct policy *p, const struct maps *m, const char *parameter, bool passes_extension,
                               struct span *addr, struct arena *a, const struct rewrite_trace *t, struct err *e)
{
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        struct span *to, from = *addr;
        size_t n;
        enum lookup got = rewrite_lookup(p, m, passes_extension, from, a, &to, &n, e);
        if (got == LOOKUP_TEMPFAIL)
            return got;
        if (got == LOOKUP_NONE || n == 0)
            return LOOKUP_FOUND;
        if (n > 1)
            log_warn(p->log, "%s: more than one address for \"%.*s\", the first is taken", parameter, SPAN_ARG(from));
        *addr = to[0];
        if (t != NULL && !span_eq(from, to[0]))
            t->step(t->arg, parameter, from, to[0]);
        if (span_ieq(from, to[0]))
            return LOOKUP_FOUND;
    }
    log_warn(p->log, "%s: \"%.*s\" leads in a circle", parameter, SPAN_ARG(*addr));
    return LOOKUP_FOUND;
}

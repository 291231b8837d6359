/*
 * masquerade_domains: the names of hosts behind a domain are hidden. The first item of the list that is the domain or stands
 * above it decides; "!" keeps what is below it as it is.
 */
#include "common/mail/address.h"
#include "policy/rewrite/addr_list.h"
#include "policy/rewrite/rewrite_internal.h"

static bool is_below(struct span name, struct span domain)
{
    return name.n > domain.n && name.p[name.n - domain.n - 1] == '.' && span_iends_with(name, domain);
}

enum lookup masquerade(const struct policy *p, struct span *addr, struct arena *a, struct err *e)
{
    const struct rewriter *w = p->rewriter;
    struct span local, domain;
    if (!addr_split(*addr, &local, &domain) || domain.n == 0)
        return LOOKUP_NONE;
    if (!match_list_is_empty(w->masquerade_exceptions)) {
        enum lookup got = match_list_name(w->masquerade_exceptions, addr_external_to_internal(local, a), e);
        if (got != LOOKUP_NONE)
            return got == LOOKUP_FOUND ? LOOKUP_NONE : got;
    }
    for (size_t i = 0; i < w->masquerade_count; i++) {
        const struct masquerade_rule *r = &w->masquerade[i];
        if (span_ieq(domain, r->domain))
            return LOOKUP_NONE;
        if (!is_below(domain, r->domain))
            continue;
        if (r->is_kept)
            return LOOKUP_NONE;
        *addr = span_cstr(arena_printf(a, "%.*s@%.*s", SPAN_ARG(local), SPAN_ARG(r->domain)));
        return LOOKUP_FOUND;
    }
    return LOOKUP_NONE;
}

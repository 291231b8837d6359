/*
 * route_resolve: class, transport and next hop of a recipient
 *
 * Order: the class decides transport and next hop by its own parameters; relayhost and the sender-dependent tables count
 * for mail that leaves (relay and default class); a "transport:nexthop" of a class parameter has a next hop of its own;
 * transport_maps can change either. Virtual alias domains have no transport: what is not expanded is unknown.
 */
#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/mail/address.h"
#include "policy/policy_internal.h"
#include "policy/verify.h"
#include "policy/rewrite/rewrite_internal.h"

/* The recipient as the route is being made. */
struct making {
    const struct policy *p;
    struct resolved to;
    struct span sender;
    struct arena *a;
    struct route *out;
    struct err *e;
};

static struct span lower(struct arena *a, struct span s)
{
    char *p = arena_strndup(a, s.p ? s.p : "", s.n);
    ascii_lower_buf(p, s.n);
    return span_of(p, s.n);
}

/* Only domains, brackets and ports have no case; a next hop of error: is a text, one of unix: a path. */
static bool has_text_nexthop(struct span transport)
{
    return span_ieq_cstr(transport, "error") || span_ieq_cstr(transport, "retry") || span_ieq_cstr(transport, "discard");
}

static void use_xport(struct making *m, const struct xport *x)
{
    m->out->transport = x->transport;
    if (x->nexthop.n > 0)
        m->out->nexthop = x->nexthop;
}

static enum lookup find_class(struct making *m)
{
    const struct policy *p = m->p;
    struct route *r = m->out;
    if (m->to.is_local) {
        r->cls = ROUTE_LOCAL;
        return LOOKUP_FOUND;
    }
    enum lookup got = match_list_name(p->virtual_alias_domains, m->to.domain, m->e);
    r->cls = ROUTE_VIRTUAL_ALIAS;
    if (got == LOOKUP_NONE) {
        r->cls = ROUTE_VIRTUAL_MAILBOX;
        got = match_list_name(p->virtual_mailbox_domains, m->to.domain, m->e);
    }
    if (got == LOOKUP_NONE) {
        r->cls = ROUTE_RELAY;
        got = match_list_name(p->relay_domains, m->to.domain, m->e);
    }
    if (got == LOOKUP_NONE) {
        r->cls = ROUTE_DEFAULT;
        got = LOOKUP_FOUND;
    }
    return got;
}

/* A sender-dependent table; NONE also when it says DUNNO. */
static enum lookup by_sender(struct making *m, const struct maps *maps, const char *null_key, struct span *value)
{
    if (maps_is_empty(maps))
        return LOOKUP_NONE;
    struct span key = m->sender.n > 0 ? addr_quoted(m->a, m->sender) : span_cstr(null_key);
    struct maps_addr addr = maps_addr_of(key, m->p->p->recipient_delimiter, m->p->p->owner_request_special);
    enum lookup got = maps_lookup_address(maps, &addr, MAPS_AT_DOMAIN, m->a, value, NULL, m->e);
    if (got == LOOKUP_FOUND && span_ieq_cstr(*value, "DUNNO"))
        return LOOKUP_NONE;
    return got;
}

static struct xport split_result(struct span s)
{
    ptrdiff_t colon = span_find(s, ':');
    if (colon < 0)
        return (struct xport){ .transport = s };
    return (struct xport){ span_of(s.p, (size_t)colon), span_from(s, (size_t)colon + 1) };
}

/* relay and default class: relayhost before the domain, a sender-dependent one before both. */
static enum lookup route_away(struct making *m)
{
    const struct policy *p = m->p;
    struct span value;
    struct xport x = m->out->cls == ROUTE_RELAY ? p->relay : p->other;
    if (m->out->cls == ROUTE_DEFAULT) {
        enum lookup got = by_sender(m, p->sender_transport_maps, p->p->empty_address_default_transport_maps_lookup_key, &value);
        if (got == LOOKUP_TEMPFAIL)
            return got;
        if (got == LOOKUP_FOUND)
            x = split_result(value);
    }
    enum lookup got = by_sender(m, p->sender_relayhost_maps, p->p->empty_address_relayhost_maps_lookup_key, &value);
    if (got == LOOKUP_TEMPFAIL)
        return got;
    if (got == LOOKUP_FOUND)
        m->out->nexthop = value;
    else if (*p->p->relayhost != '\0')
        m->out->nexthop = span_cstr(p->p->relayhost);
    use_xport(m, &x);
    return LOOKUP_FOUND;
}

/* mailbox_transport_maps is asked for the user, with and without extension. */
static enum lookup local_by_user(struct making *m, struct span *value)
{
    const struct policy *p = m->p;
    if (maps_is_empty(p->mailbox_transport_maps))
        return LOOKUP_NONE;
    struct maps_addr addr = maps_addr_of(m->to.address, p->p->recipient_delimiter, p->p->owner_request_special);
    struct maps_addr user = { .full = addr.local, .local = addr.local, .base_n = addr.base_n };
    return maps_lookup_address(p->mailbox_transport_maps, &user, 0, m->a, value, NULL, m->e);
}

/*
 * local_transport, when master.cf has it. The usual "local" cannot be had: then what local(8) would have handed its mail
 * to, and else the name as it is, for which the scheduler has no transport and defers.
 */
static enum lookup route_local(struct making *m)
{
    const struct policy *p = m->p;
    struct span value;
    if (p->local_is_usable) {
        use_xport(m, &p->local);
        return LOOKUP_FOUND;
    }
    enum lookup got = local_by_user(m, &value);
    if (got == LOOKUP_TEMPFAIL)
        return got;
    if (got == LOOKUP_FOUND) {
        struct xport x = split_result(value);
        use_xport(m, &x);
    } else if (p->mailbox.transport.n > 0) {
        use_xport(m, &p->mailbox);
    } else {
        use_xport(m, &p->local);
    }
    return LOOKUP_FOUND;
}

static enum lookup route_class(struct making *m)
{
    m->out->nexthop = m->to.domain;
    switch (m->out->cls) {
    case ROUTE_LOCAL:
        return route_local(m);
    case ROUTE_VIRTUAL_ALIAS:
        m->out->transport = SPAN_LIT("error");
        m->out->nexthop = m->p->p->show_user_unknown_table_name ? SPAN_LIT("5.1.1 User unknown in virtual alias table")
                                                                : SPAN_LIT("5.1.1 User unknown");
        return LOOKUP_FOUND;
    case ROUTE_VIRTUAL_MAILBOX:
        use_xport(m, &m->p->virtual_mailbox);
        return LOOKUP_FOUND;
    case ROUTE_RELAY:
    case ROUTE_DEFAULT:
        return route_away(m);
    }
    return LOOKUP_FOUND;
}

/* Whole address, address without extension, domain, parent domains, "*". */
static enum lookup find_transport(struct making *m, struct span *value)
{
    const struct maps *maps = m->p->transport_maps;
    struct maps_addr addr = maps_addr_of(addr_quoted(m->a, m->to.address), m->p->p->recipient_delimiter, m->p->p->owner_request_special);
    enum lookup got = maps_lookup_address(maps, &addr, 0, m->a, value, NULL, m->e);
    if (got == LOOKUP_NONE)
        got = maps_lookup_domain(maps, m->to.domain, m->p->transport_parents ? MAPS_PARENT : MAPS_DOT_PARENT, true,
                                 m->a, value, m->e);
    if (got == LOOKUP_NONE)
        got = maps_lookup(maps, SPAN_LIT("*"), true, m->a, value, m->e);
    return got;
}

static enum lookup apply_transport_maps(struct making *m)
{
    struct span value;
    if (maps_is_empty(m->p->transport_maps) || m->out->cls == ROUTE_VIRTUAL_ALIAS)
        return LOOKUP_FOUND;
    enum lookup got = find_transport(m, &value);
    if (got != LOOKUP_FOUND)
        return got == LOOKUP_NONE ? LOOKUP_FOUND : got;
    struct xport x = split_result(value);
    if (x.transport.n > 0) {
        m->out->transport = x.transport;
        m->out->nexthop = x.nexthop.n > 0 ? x.nexthop : m->to.domain;
    } else if (x.nexthop.n > 0) {
        m->out->nexthop = x.nexthop;
    }
    return LOOKUP_FOUND;
}

/* Who has moved is told where to, whatever the class says. */
static enum lookup apply_relocated_maps(struct making *m)
{
    struct span value;
    enum lookup got = rewrite_lookup_value(m->p, m->p->relocated_maps, addr_quoted(m->a, m->to.address), m->a, &value, NULL, m->e);
    if (got == LOOKUP_FOUND) {
        m->out->transport = SPAN_LIT("error");
        m->out->nexthop = span_cstr(arena_printf(m->a, "5.1.6 User has moved to %.*s", SPAN_ARG(value)));
    }
    return got;
}

/*
 * Would this address be delivered by local(8), which alone reads aliases? FOUND: yes, *to is the resolved address.
 */
enum lookup route_uses_aliases(const struct policy *p, struct span address, struct arena *a, struct resolved *to,
                               struct err *e)
{
    struct route r = { .cls = ROUTE_LOCAL };
    struct making m = { .p = p, .a = a, .out = &r, .e = e };
    struct span value;
    if (p->local_is_usable && !span_ieq_cstr(p->local.transport, "local"))
        return LOOKUP_NONE;
    if (address_resolve(p, address, a, &m.to, e) == LOOKUP_TEMPFAIL)
        return LOOKUP_TEMPFAIL;
    if (!m.to.is_local || m.to.is_bad)
        return LOOKUP_NONE;
    *to = m.to;
    if (maps_is_empty(p->transport_maps))
        return LOOKUP_FOUND;
    enum lookup elsewhere = find_transport(&m, &value);
    if (elsewhere == LOOKUP_FOUND && !span_istarts_with(value, SPAN_LIT(":")) && !span_istarts_with(value, SPAN_LIT("local")))
        return LOOKUP_NONE;
    return elsewhere == LOOKUP_TEMPFAIL ? elsewhere : LOOKUP_FOUND;
}

void route_filter(const struct policy *p, struct span filter, struct span recipient, struct arena *a, struct span *transport,
                  struct span *nexthop)
{
    struct span local, domain;
    ptrdiff_t colon = span_find(filter, ':');
    *transport = colon < 0 ? filter : span_of(filter.p, (size_t)colon);
    *nexthop = colon < 0 ? span_of(NULL, 0) : span_from(filter, (size_t)colon + 1);
    if (nexthop->n == 0)
        *nexthop = span_cstr(p->p->default_filter_nexthop);
    if (nexthop->n == 0 && addr_split(recipient, &local, &domain))
        *nexthop = domain;
    if (nexthop->n == 0)
        *nexthop = span_cstr(p->p->myhostname);
    *transport = arena_dup_span(a, *transport);
    *nexthop = arena_dup_span(a, *nexthop);
}

/* Mail to the sender of our notices is what nobody is to be told of (and so is that of an alias without members): it needs no local delivery. */
static void absorb_own(struct making *m)
{
    struct route *r = m->out;
    struct span local, domain, own = span_cstr(m->p->p->double_bounce_sender), own_local;
    if (addr_split(own, &own_local, &domain))
        own = own_local;
    if (r->cls != ROUTE_LOCAL || !addr_split(r->recipient, &local, &domain) || !span_ieq(local, own))
        return;
    r->transport = SPAN_LIT("discard");
    r->nexthop = SPAN_LIT("undeliverable postmaster notification discarded");
}

enum lookup route_way(const struct policy *p, struct span sender, struct span recipient, struct arena *a, struct route *out,
                      struct err *e)
{
    struct route r = { .is_postmaster = span_ieq_cstr(recipient, "postmaster") };
    struct making m = { .p = p, .sender = sender, .a = a, .out = &r, .e = e };
    if (address_resolve(p, verify_plain_sender(p->p, recipient, a), a, &m.to, e) == LOOKUP_TEMPFAIL)
        return LOOKUP_TEMPFAIL;
    r.recipient = m.to.address;
    r.is_routed = m.to.is_routed;
    if (m.to.is_bad) {
        r.is_bad_address = true;
        r.cls = ROUTE_DEFAULT;
        *out = r;
        return LOOKUP_FOUND;
    }
    if (find_class(&m) == LOOKUP_TEMPFAIL || route_class(&m) == LOOKUP_TEMPFAIL
        || apply_transport_maps(&m) == LOOKUP_TEMPFAIL || apply_relocated_maps(&m) == LOOKUP_TEMPFAIL)
        return LOOKUP_TEMPFAIL;
    absorb_own(&m);
    if (!has_text_nexthop(r.transport) && span_find(r.nexthop, '/') < 0)
        r.nexthop = lower(a, r.nexthop);
    *out = r;
    return LOOKUP_FOUND;
}

enum lookup route_resolve_for(const struct policy *p, const struct conf_service *svc, struct span sender,
                              struct span recipient, struct arena *a, struct route *out, struct err *e)
{
    if (route_way(p, sender, recipient, a, out, e) == LOOKUP_TEMPFAIL)
        return LOOKUP_TEMPFAIL;
    if (!out->is_bad_address)
        recipient_validate(p, policy_service(p, svc), a, out);
    return LOOKUP_FOUND;
}

enum lookup route_resolve(const struct policy *p, struct span sender, struct span recipient, struct arena *a,
                          struct route *out, struct err *e)
{
    return route_resolve_for(p, NULL, sender, recipient, a, out, e);
}

/* What route_way() and the mapping of addresses (aliases, canonical tables) look into. */
bool routing_has_servers(const struct policy *p)
{
    const struct match_list *const lists[] = { p->mydestination, p->relay_domains, p->virtual_alias_domains, p->virtual_mailbox_domains,
                                               p->rewriter->masquerade_exceptions };
    const struct maps *const maps[] = { p->transport_maps, p->sender_relayhost_maps, p->sender_transport_maps, p->alias_maps,
                                        p->virtual_alias_maps, p->mailbox_transport_maps, p->relocated_maps, p->rewriter->canonical,
                                        p->rewriter->recipient_canonical };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (match_list_may_wait(lists[i]))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(maps); i++)
        if (maps_may_wait(maps[i]))
            return true;
    /* Notices pass content checks, whose tables are not told from the others here. */
    for (size_t i = 0; *p->p->internal_mail_filter_classes != '\0' && i < p->open_maps_count; i++)
        if (maps_may_wait(p->open_maps[i]))
            return true;
    return false;
}

bool policy_routing_may_wait(const struct policy *p)
{
    return p->routing_may_wait;
}

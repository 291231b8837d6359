/*
 * recipient: does the user exist in that domain of ours?
 *
 * An address that a canonical or virtual alias table knows is taken: it will be another one. Then the tables of the
 * class decide; a class without a table takes everybody.
 */
#include "common/mail/address.h"
#include "policy/policy_internal.h"

/* The table key is the address without quotes where none are needed; what was written is tried as it is. */
enum lookup recipient_in_maps(const struct policy *p, const struct maps *m, struct span address, bool is_local,
                              struct arena *a, struct span *value, struct err *e)
{
    if (maps_is_empty(m))
        return LOOKUP_NONE;
    struct maps_addr addr = maps_addr_of(addr_quoted(a, address), p->p->recipient_delimiter, p->p->owner_request_special);
    unsigned forms = MAPS_AT_DOMAIN;
    if (is_local || span_ieq_cstr(addr.domain, p->p->myorigin))
        forms |= MAPS_LOCAL_PART;
    return maps_lookup_address(m, &addr, forms, a, value, NULL, e);
}

/* Names that the mail system itself uses or absorbs. */
static bool is_system_name(const struct policy *p, struct span address)
{
    struct span local = maps_addr_of(address, "", true).local;
    return span_ieq_cstr(local, "postmaster") || span_ieq_cstr(local, "mailer-daemon")
           || span_ieq_cstr(local, p->p->double_bounce_sender);
}

static const struct maps *class_maps(const struct policy_service *s, enum route_class cls, const char **name)
{
    switch (cls) {
    case ROUTE_LOCAL:
        *name = "local";
        return s->local_recipient_maps;
    case ROUTE_VIRTUAL_ALIAS:
        *name = "virtual alias";
        return s->virtual_alias_maps;
    case ROUTE_VIRTUAL_MAILBOX:
        *name = "virtual mailbox";
        return s->virtual_mailbox_maps;
    case ROUTE_RELAY:
        *name = "relay";
        return s->relay_recipient_maps;
    case ROUTE_DEFAULT:
        break;
    }
    *name = NULL;
    return NULL;
}

/* FOUND: r->is_mapped or a user of the class; NONE: nobody; TEMPFAIL. */
static enum lookup find_user(const struct policy *p, const struct policy_service *s, struct arena *a, struct route *r,
                             const struct maps *own, struct err *e)
{
    const struct maps *const known[] = { s->recipient_canonical_maps, s->canonical_maps, s->virtual_alias_maps };
    bool is_local = r->cls == ROUTE_LOCAL;
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        enum lookup got = recipient_in_maps(p, known[i], r->recipient, is_local, a, NULL, e);
        r->is_mapped |= got == LOOKUP_FOUND;
        if (got != LOOKUP_NONE)
            return got;
    }
    if (r->cls == ROUTE_DEFAULT || (maps_is_empty(own) && r->cls != ROUTE_VIRTUAL_ALIAS))
        return LOOKUP_FOUND;
    return own == s->virtual_alias_maps ? LOOKUP_NONE : recipient_in_maps(p, own, r->recipient, is_local, a, NULL, e);
}

void recipient_validate(const struct policy *p, const struct policy_service *s, struct arena *a, struct route *r)
{
    struct err e = ERR_INIT;
    const char *name;
    const struct maps *own = class_maps(s, r->cls, &name);
    if (r->cls == ROUTE_LOCAL && is_system_name(p, r->recipient))
        return;
    switch (find_user(p, s, a, r, own, &e)) {
    case LOOKUP_FOUND:
        return;
    case LOOKUP_TEMPFAIL:
        r->validity_error = arena_strdup(a, e.text);
        return;
    case LOOKUP_NONE:
        r->is_unknown_user = true;
        r->unknown_table = name;
    }
}

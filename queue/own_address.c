/* The addresses of own_mail.h, apart from what needs a spool. */
#include "common/mail/address.h"
#include "queue/own_mail.h"

struct span own_mail_address(struct arena *a, const char *name, const struct params *p)
{
    struct span local, domain, all = span_cstr(name);
    if (addr_split(all, &local, &domain))
        return arena_dup_span(a, all);
    return span_cstr(arena_printf(a, "%s@%s", name, p->myorigin));
}

bool own_mail_is_double_bounce(const struct params *p, struct span sender)
{
    struct span local, domain, own_local, own_domain, own = span_cstr(p->double_bounce_sender);
    if (!addr_split(sender, &local, &domain))
        local = sender;
    if (!addr_split(own, &own_local, &own_domain))
        own_local = own;
    else if (!span_ieq(domain, own_domain))
        return false;
    return span_ieq(local, own_local);
}

/*
 * Is this machine in the list? By address: those of inet_interfaces ("all" means every address of every interface that
 * is up) and proxy_interfaces; or by name: an MX host that is called myhostname is this machine, whatever address the
 * world sees. Only looked at after an MX lookup, so the system is asked anew each time and an interface that came up
 * meanwhile counts.
 */
#include <netdb.h>

#include "common/base/mem.h"
#include "daemon/smtp/hosts_internal.h"

struct own {
    struct ip_addr *a; /* owned */
    size_t n;
};

static void own_add(struct own *o, const struct ip_addr *a)
{
    o->a = xrealloc(o->a, (o->n + 1) * sizeof *o->a);
    o->a[o->n++] = *a;
}

static void own_add_interfaces(struct own *o, bool loopback_only)
{
    struct ip_local *l = NULL;
    size_t n = 0;
    struct err e;
    if (!ip_local_list(&l, &n, &e))
        return;
    for (size_t i = 0; i < n; i++)
        if (!loopback_only || l[i].loopback)
            own_add(o, &l[i].addr);
    free(l);
}

static void own_add_name(struct own *o, struct span item)
{
    char name[256];
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
    if (item.n >= sizeof name)
        return;
    memcpy(name, item.p, item.n);
    name[item.n] = '\0';
    if (getaddrinfo(name, NULL, &hints, &list) != 0)
        return;
    for (struct addrinfo *i = list; i; i = i->ai_next) {
        struct ip_addr a;
        if (ip_from_sockaddr(i->ai_addr, &a, NULL))
            own_add(o, &a);
    }
    freeaddrinfo(list);
}

static void own_add_list(struct own *o, const char *text)
{
    struct span rest = span_cstr(text), item;
    while (span_next_token(&rest, ", \t\r\n", &item)) {
        struct ip_addr a;
        if (span_ieq(item, SPAN_LIT("all")))
            own_add_interfaces(o, false);
        else if (span_ieq(item, SPAN_LIT("loopback-only")))
            own_add_interfaces(o, true);
        else if (ip_parse_any(item, &a))
            own_add(o, &a);
        else
            own_add_name(o, item);
    }
}

uint32_t hosts_self_rank(struct finder *f, const struct host_name *n, size_t count)
{
    struct own o = { .n = 0 };
    uint32_t rank = UINT32_MAX;
    if (f->o->myhostname)
        for (size_t i = 0; i < count; i++)
            if (n[i].rank < rank && span_ieq(span_cstr(n[i].name), span_cstr(f->o->myhostname)))
                rank = n[i].rank;
    own_add_list(&o, f->o->inet_interfaces);
    own_add_list(&o, f->o->proxy_interfaces);
    for (size_t i = 0; i < f->count; i++)
        for (size_t k = 0; k < o.n && f->found[i].rank < rank; k++)
            if (ip_eq(&f->found[i].pub.addr, &o.a[k]))
                rank = f->found[i].rank;
    free(o.a);
    return rank;
}

/* Addresses of one host: literal, localhost, DNS, the native name service. */
#include <errno.h>
#include <netdb.h>

#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "daemon/smtp/hosts_internal.h"

static bool is_wanted(const struct finder *f, const struct ip_addr *a)
{
    return a->family == IP_V4 ? f->o->v4 : f->o->v6;
}

void hosts_add_address(struct finder *f, const struct host_name *n, const char *name, struct ip_addr a, bool secure)
{
    if (f->count == HOSTS_ADDR_MAX || !is_wanted(f, &a))
        return;
    if ((f->count & (f->count - 1)) == 0)
        f->found = xrealloc(f->found, (f->count ? f->count * 2 : 1) * sizeof *f->found);
    f->found[f->count++] = (struct found_addr){
        .pub = { .name = arena_strdup(f->out->arena, name), .addr = a, .port = n->port, .pref = n->pref,
                 .is_secure = secure && n->is_secure },
        .rank = n->rank,
        .shuffle = f->o->randomize ? finder_random(f) : (uint32_t)f->count,
    };
}

static void forget_cb(void *arg, struct dns_answer *a)
{
    (void)arg;
    dns_answer_unref(&a);
}

void hosts_prefetch(struct finder *f, const struct host_name *n, size_t count)
{
    if (!f->o->use_dns || f->o->disable_dns || f->o->append_domain || f->o->search_domains)
        return;
    for (size_t i = 0; i < count; i++) {
        if (f->o->v4)
            dns_query(f->dns, span_cstr(n[i].name), DNS_A, forget_cb, NULL);
        if (f->o->v6)
            dns_query(f->dns, span_cstr(n[i].name), DNS_AAAA, forget_cb, NULL);
    }
}

/* RFC 6761 6.3: never asked of a name server, which may not know or may lie. */
static bool add_localhost(struct finder *f, const struct host_name *n)
{
    static const struct ip_addr one4 = { .family = IP_V4, .b = { 127, 0, 0, 1 } }, one6 = { .family = IP_V6, .b = { [15] = 1 } };
    size_t before = f->count;
    hosts_add_address(f, n, n->name, one4, false);
    hosts_add_address(f, n, n->name, one6, false);
    return f->count > before;
}

struct dns_answer *finder_ask(struct finder *f, const char *name, enum dns_type type)
{
    struct dns_answer *all = dns_query_wait(f->dns, span_cstr(name), type, CLOCK_NEVER);
    if (f->o->filter == NULL)
        return all;
    struct dns_answer *left = f->o->filter(f->o->filter_arg, all);
    dns_answer_unref(&all);
    return left;
}

enum found { FOUND, NOT_FOUND, FAILED };

static void add_answer(struct finder *f, const struct host_name *n, const struct dns_answer *a)
{
    const char *name = f->o->cname_overrides_name ? a->final_name : n->name;
    for (size_t i = 0; i < a->count; i++)
        hosts_add_address(f, n, name, a->rr[i].type == DNS_A ? ip_from_v4(a->rr[i].a) : ip_from_v6(a->rr[i].aaaa),
                          a->secure);
}

/* The host of n under one of the names that stand for it. */
static enum found ask_dns(struct finder *f, const struct host_name *n, const char *name)
{
    static const struct { enum dns_type type; const char *text; } types[] = { { DNS_A, "A" }, { DNS_AAAA, "AAAA" } };
    struct dns_answer *why = NULL;
    const char *type = "A";
    size_t before = f->count;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (!(types[i].type == DNS_A ? f->o->v4 : f->o->v6))
            continue;
        struct dns_answer *a = finder_ask(f, name, types[i].type);
        if (a->status == DNS_OK)
            add_answer(f, n, a);
        /* The first failure is told, unless a later one is temporary. */
        if (a->status != DNS_OK && (!why || (a->status == DNS_TEMPFAIL && why->status != DNS_TEMPFAIL))) {
            struct dns_answer *old = why;
            why = dns_answer_ref(a);
            type = types[i].text;
            dns_answer_unref(&old);
        }
        dns_answer_unref(&a);
    }
    enum found r = FOUND;
    if (f->count == before && why) {
        r = why->status == DNS_TEMPFAIL || why->status == DNS_INVALID ? FAILED : NOT_FOUND;
        if (r == FAILED || !f->o->use_native)
            finder_fail_dns(f, n->name, type, why);
    } else if (f->count == before) {
        finder_fail(f, false, "4.4", "%s has no address that inet_protocols allows", n->name);
        r = FAILED;
    }
    dns_answer_unref(&why);
    return r;
}

static enum found add_from_dns(struct finder *f, const struct host_name *n)
{
    const char *names[HOSTS_SEARCH_MAX];
    size_t count = hosts_search_names(f->o, f->out->arena, n->name, names);
    enum found r = NOT_FOUND;
    for (size_t i = 0; i < count && r == NOT_FOUND; i++)
        r = ask_dns(f, n, names[i]);
    return r;
}

static bool add_native(struct finder *f, const struct host_name *n)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    size_t before = f->count;
    hints.ai_family = f->o->v4 && f->o->v6 ? AF_UNSPEC : f->o->v4 ? AF_INET : AF_INET6;
    errno = 0;
    int rc = getaddrinfo(n->name, NULL, &hints, &list), why = errno;
    for (struct addrinfo *i = rc == 0 ? list : NULL; i; i = i->ai_next) {
        struct ip_addr a;
        if (ip_from_sockaddr(i->ai_addr, &a, NULL))
            hosts_add_address(f, n, n->name, a, false);
    }
    if (rc == 0)
        freeaddrinfo(list);
    if (f->count > before)
        return true;
    /* glibc says that there is no such name also when it had no memory to open /etc/hosts; errno tells. */
    bool starved = rc != 0 && why == ENOMEM;
    bool final = !starved && (rc == 0 || rc == EAI_NONAME || rc == EAI_NODATA || rc == EAI_ADDRFAMILY);
    finder_fail(f, !final, final ? "4.4" : "4.3", "unable to look up host %s: %s", n->name,
                rc == 0 ? "no usable address" : starved ? "out of memory" : gai_strerror(rc));
    return false;
}

bool hosts_add_addresses(struct finder *f, const struct host_name *n)
{
    struct span name = span_cstr(n->name);
    if (span_eq(name, SPAN_LIT("localhost")) || span_iends_with(name, SPAN_LIT(".localhost"))) {
        if (add_localhost(f, n))
            return true;
        finder_fail(f, false, "4.4", "%s has no address that inet_protocols allows", n->name);
        return false;
    }
    bool native = f->o->use_native || f->o->disable_dns;
    if (f->o->use_dns && !f->o->disable_dns) {
        enum found r = add_from_dns(f, n);
        if (r == FOUND)
            return true;
        if (r == FAILED || !native)
            return false;
    }
    return add_native(f, n);
}

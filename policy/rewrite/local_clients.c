/* local_header_rewrite_clients: whose message headers are completed as our own. The first item that knows the client decides. */
#include "common/mail/address.h"
#include "policy/rewrite/rewrite_internal.h"

static enum local_client_kind kind_of(struct span word)
{
    static const char *const words[] = {
        [CLIENT_OWN] = "permit_inet_interfaces", [CLIENT_MYNETWORKS] = "permit_mynetworks", [CLIENT_SASL] = "permit_sasl_authenticated",
        [CLIENT_CERT_KNOWN] = "permit_tls_clientcerts", [CLIENT_CERT_ANY] = "permit_tls_all_clientcerts",
    };
    for (enum local_client_kind i = 0; i < ARRAY_LEN(words); i++)
        if (span_ieq_cstr(word, words[i]))
            return i;
    return CLIENT_TABLE;
}

void rewrite_compile_clients(struct compiler *c, struct policy_service *s)
{
    struct span rest = span_cstr(s->p->local_header_rewrite_clients), item;
    bool braced;
    size_t n = 0;
    while (conf_list_next(&rest, &item, &braced))
        n++;
    s->local_clients = arena_alloc(c->policy->arena, (n + 1) * sizeof *s->local_clients);
    for (rest = span_cstr(s->p->local_header_rewrite_clients); conf_list_next(&rest, &item, &braced);) {
        if (span_ieq_cstr(item, "check_address_map"))
            continue;
        struct local_client *x = &s->local_clients[s->local_client_count++];
        x->kind = kind_of(item);
        if (x->kind == CLIENT_TABLE && span_find(item, ':') < 0) {
            s->local_client_count--;
            c->parameter = "local_header_rewrite_clients";
            compile_finding(c, CONF_WARNING, "\"%.*s\" is neither a way to know a client nor a table", SPAN_ARG(item));
        } else if (x->kind == CLIENT_TABLE) {
            x->table = compile_maps(c, "local_header_rewrite_clients", item);
        }
    }
}

static bool is_own(const struct policy *p, const struct ip_addr *addr)
{
    for (size_t i = 0; i < p->inet_addr_count; i++)
        if (ip_eq(&p->own_addrs[i], addr))
            return true;
    return false;
}

static enum lookup knows_cert(const struct policy_service *s, const struct policy_client *c, struct err *e)
{
    struct arena *a;
    enum lookup got = LOOKUP_NONE;
    if (c->tls == NULL || !c->tls->has_cert)
        return LOOKUP_NONE;
    a = arena_new(0);
    const struct span keys[] = { c->tls->fingerprint, c->tls->pubkey_fingerprint };
    for (size_t i = 0; i < ARRAY_LEN(keys) && got == LOOKUP_NONE; i++)
        if (keys[i].n > 0)
            got = maps_lookup(s->relay_clientcerts, keys[i], false, a, NULL, e);
    arena_free(&a);
    return got;
}

static enum lookup table_has(const struct maps *m, struct span addr, struct err *e)
{
    struct arena *a = arena_new(0);
    enum lookup got = maps_lookup(m, addr, false, a, NULL, e);
    arena_free(&a);
    return got;
}

enum lookup rewrite_is_local_client(const struct policy *p, const struct conf_service *svc, const struct policy_client *c)
{
    const struct policy_service *s = policy_service(p, svc);
    struct err e = ERR_INIT;
    enum lookup got = LOOKUP_NONE;
    for (size_t i = 0; i < s->local_client_count && got == LOOKUP_NONE; i++) {
        bool yes = false;
        switch (s->local_clients[i].kind) {
        case CLIENT_OWN:
            yes = is_own(p, &c->addr);
            break;
        case CLIENT_MYNETWORKS:
            got = match_list_host(s->mynetworks, span_of(NULL, 0), &c->addr, c->addr_text, &e);
            break;
        case CLIENT_SASL:
            yes = c->sasl_user.n > 0;
            break;
        case CLIENT_CERT_KNOWN:
            got = knows_cert(s, c, &e);
            break;
        case CLIENT_CERT_ANY:
            yes = c->tls != NULL && c->tls->has_cert && c->tls->is_trusted;
            break;
        case CLIENT_TABLE:
            got = table_has(s->local_clients[i].table, c->addr_text, &e);
            break;
        }
        if (yes)
            got = LOOKUP_FOUND;
    }
    if (got == LOOKUP_TEMPFAIL)
        log_warn(p->log, "local_header_rewrite_clients: %s", e.text);
    return got;
}

/*
 * Settings that are well-formed texts and fail only when mail comes: next hops that are none, transports that master.cf does not
 * have, addresses to bind to, user ids. Warnings, because the rest of the configuration works.
 *
 * What the smtp and lmtp transports have in common is told once: a line of master.cf is looked at only where its value is
 * another than that of the line before it with the same program.
 */
#include "common/base/num.h"
#include "common/net/dest.h"
#include "common/net/ipaddr.h"
#include "policy/policy_internal.h"

static void warn_of(struct compiler *c, const char *parameter, const char *text)
{
    c->parameter = parameter;
    compile_finding(c, CONF_WARNING, "%s", text);
}

/* Next hops as the clients read them: one, or several with commas or blanks between. */
static void check_nexthops(struct compiler *c, const char *parameter, struct span list)
{
    struct span rest = list, one;
    while (span_next_token(&rest, ", \t\r\n", &one)) {
        struct err e = ERR_INIT;
        struct dest d;
        uint16_t port;
        if (!dest_parse(one, &d, &e) || (d.service.n > 0 && !dest_port(d.service, span_cstr(c->policy->p->known_tcp_ports), &port, &e)))
            warn_of(c, parameter, e.text);
    }
}

/* The next hop of transport:nexthop, where the transport has hosts for next hops. */
static void check_xport(struct compiler *c, const char *parameter, const char *value)
{
    struct span s = span_trim(span_cstr(value));
    ptrdiff_t colon = span_find(s, ':');
    const struct conf_service *svc = colon > 0 ? conf_transport(c->policy->conf, span_of(s.p, (size_t)colon)) : NULL;
    if (svc != NULL && svc->client != NULL)
        check_nexthops(c, parameter, span_from(s, (size_t)colon + 1));
}

static void check_next_hops(struct compiler *c)
{
    const struct params *p = c->policy->p;
    const struct { const char *name, *value; } xports[] = {
        { "default_transport", p->default_transport }, { "relay_transport", p->relay_transport },
        { "virtual_transport", p->virtual_transport }, { "local_transport", p->local_transport },
        { "mailbox_transport", p->mailbox_transport }, { "content_filter", p->content_filter },
    };
    check_nexthops(c, "relayhost", span_cstr(p->relayhost));
    if (strcmp(p->address_verify_relayhost, p->relayhost) != 0)
        check_nexthops(c, "address_verify_relayhost", span_cstr(p->address_verify_relayhost));
    for (size_t i = 0; i < ARRAY_LEN(xports); i++)
        check_xport(c, xports[i].name, xports[i].value);
}

/* Names of transports that only a probe, or only the scheduler, would miss. */
static void check_names(struct compiler *c)
{
    const struct params *p = c->policy->p;
    struct span rest = span_cstr(p->defer_transports), item;
    bool braced;
    c->parameter = "defer_transports";
    while (conf_list_next(&rest, &item, &braced))
        if (conf_transport(c->policy->conf, item) == NULL)
            compile_finding(c, CONF_WARNING, "\"%.*s\": no usable transport of that name in master.cf; nothing is deferred by it", SPAN_ARG(item));
}

/* A table that has the same answer for all. */
static void check_static_id(struct compiler *c, const char *parameter, const char *list, int64_t minimum)
{
    struct span s = span_trim(span_cstr(list));
    int64_t id;
    if (!span_istarts_with(s, SPAN_LIT("static:")) || span_find(s, ',') >= 0 || span_find(s, ' ') >= 0)
        return;
    s = span_from(s, strlen("static:"));
    c->parameter = parameter;
    if (!num_parse(s, 0, UINT32_MAX - 1, &id) || id < minimum)
        compile_finding(c, CONF_WARNING, "\"%.*s\": expected a number from %lld on; mail for virtual mailboxes will be deferred (4.3.5)",
                        SPAN_ARG(s), (long long)minimum);
}

static void check_bind(struct compiler *c, const char *parameter, const char *text, int family)
{
    struct ip_addr a;
    c->parameter = parameter;
    if (*text != '\0' && (!ip_parse_any(span_cstr(text), &a) || a.family != family))
        compile_finding(c, CONF_WARNING, "\"%s\" is not an %s address: it is not bound to", text, family == IP_V6 ? "IPv6" : "IPv4");
}

static bool same(const char *a, const char *b)
{
    return b != NULL && strcmp(a, b) == 0;
}

static void check_client(struct compiler *c, const struct client_params *k, const struct client_params *before, bool lmtp)
{
    struct err e = ERR_INIT;
    uint16_t port;
    if (before == NULL || !same(k->bind_address, before->bind_address))
        check_bind(c, lmtp ? "lmtp_bind_address" : "smtp_bind_address", k->bind_address, IP_V4);
    if (before == NULL || !same(k->bind_address6, before->bind_address6))
        check_bind(c, lmtp ? "lmtp_bind_address6" : "smtp_bind_address6", k->bind_address6, IP_V6);
    if (before == NULL || !same(k->fallback_relay, before->fallback_relay))
        check_nexthops(c, lmtp ? "lmtp_fallback_relay" : "smtp_fallback_relay", span_cstr(k->fallback_relay));
    if ((before == NULL || !same(k->tcp_port, before->tcp_port)) &&
        !dest_port(span_cstr(k->tcp_port), span_cstr(c->policy->p->known_tcp_ports), &port, &e))
        warn_of(c, lmtp ? "lmtp_tcp_port" : "smtp_tcp_port", e.text);
}

static void check_clients(struct compiler *c)
{
    const struct client_params *before[2] = { NULL, NULL };
    for (size_t i = 0; i < conf_service_count(c->policy->conf); i++) {
        const struct conf_service *svc = conf_service(c->policy->conf, i);
        if (svc->role != SVC_TRANSPORT || svc->client == NULL)
            continue;
        bool lmtp = strcmp(svc->command, "lmtp") == 0;
        c->svc = svc;
        check_client(c, svc->client, before[lmtp], lmtp);
        before[lmtp] = svc->client;
    }
    c->svc = NULL;
}

void compile_check_values(struct compiler *c)
{
    const struct params *p = c->policy->p;
    check_next_hops(c);
    check_names(c);
    check_clients(c);
    check_static_id(c, "virtual_uid_maps", p->virtual_uid_maps, p->virtual_minimum_uid);
    check_static_id(c, "virtual_gid_maps", p->virtual_gid_maps, 1);
}

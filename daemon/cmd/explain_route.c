/* Where an address goes: class, transport, next hop, servers, encryption. */
#include "daemon/cmd/explain.h"

#include <string.h>

#include "common/conf/param_table.h"
#include "common/conf/params.h"
#include "common/net/dest.h"
#include "daemon/smtp/hosts.h"

#define SERVERS_SHOWN 20

static const char *class_word(enum route_class c)
{
    switch (c) {
    case ROUTE_LOCAL:
        return "local";
    case ROUTE_VIRTUAL_ALIAS:
        return "virtual alias";
    case ROUTE_VIRTUAL_MAILBOX:
        return "virtual mailbox";
    case ROUTE_RELAY:
        return "relay";
    case ROUTE_DEFAULT:
        break;
    }
    return "default";
}

/* ---- servers ---- */

static json_t *server_list(const struct hosts *h)
{
    json_t *list = json_array();
    for (size_t i = 0; i < h->count && i < SERVERS_SHOWN; i++) {
        char addr[IP_TEXT_MAX];
        const struct host_addr *a = &h->addr[i];
        json_t *j = json_pack("{s:s, s:s, s:i}", "host", a->name, "address", ip_print(&a->addr, addr), "port", (int)a->port);
        if (h->from_mx)
            json_object_set_new(j, "preference", json_integer(a->pref));
        json_array_append_new(list, j);
    }
    return list;
}

static void find_servers(struct explain *x, const struct conf_service *svc, const struct dest *d, json_t *one)
{
    struct hosts_options o;
    struct hosts h;
    struct err e = ERR_INIT;
    if (x->dns == NULL) {
        explain_note(x, "the servers of %.*s are not known: no resolver can be asked", SPAN_ARG(d->host));
        return;
    }
    if (!hosts_options_init(&o, svc->p, svc->client, strcmp(svc->command, "lmtp") == 0, d, &e)) {
        json_object_set_new(one, "error", json_string(e.text));
        return;
    }
    hosts_find(x->dns, d, &o, &h);
    json_object_set_new(one, "mx", json_boolean(h.from_mx));
    json_object_set_new(one, "servers", server_list(&h));
    if (h.count > SERVERS_SHOWN)
        json_object_set_new(one, "more_servers", json_integer((json_int_t)(h.count - SERVERS_SHOWN)));
    if (h.status != HOSTS_OK)
        json_object_set_new(one, "error", json_pack("s+", h.dsn, *h.text != '\0' ? arena_printf(x->arena, " %s", h.text) : ""));
    hosts_free(&h);
}

static json_t *next_hop(struct explain *x, const struct conf_service *svc, struct span text)
{
    struct dest d;
    struct err e = ERR_INIT;
    json_t *one = json_pack("{s:o}", "nexthop", explain_text(text));
    if (!dest_parse(text, &d, &e)) {
        json_object_set_new(one, "error", json_string(e.text));
    } else if (d.is_unix) {
        json_object_set_new(one, "socket", explain_text(d.path));
    } else {
        find_servers(x, svc, &d, one);
    }
    return one;
}

static bool is_in_effect(const char *parameter)
{
    struct param_index *ix = param_index_new();
    ptrdiff_t at = param_find(ix, span_cstr(parameter));
    bool yes = at >= 0 && param_status_class(param_row((size_t)at)->status) == PARAM_CLASS_EFFECTIVE;
    param_index_free(&ix);
    return yes;
}

/* What is configured; whether it is in effect is said too. */
static json_t *tls_policy(struct explain *x, const struct conf_service *svc)
{
    const char *parameter = strcmp(svc->command, "lmtp") == 0 ? "lmtp_tls_security_level" : "smtp_tls_security_level";
    json_t *j = json_pack("{s:s, s:s}", "level", svc->client->tls_security_level, "from", parameter);
    if (*svc->client->tls_policy_maps != '\0')
        json_object_set_new(j, "policy_maps", json_string(svc->client->tls_policy_maps));
    if (!is_in_effect(parameter))
        explain_note(x, "%s = %s is read, but not in effect in this version: mail is sent in clear", parameter, svc->client->tls_security_level);
    return j;
}

static void by_network(struct explain *x, const struct conf_service *svc, const struct route *r, json_t *to)
{
    struct span rest = r->nexthop, text;
    json_t *hops = json_array();
    while (span_next_token(&rest, ", \t\r\n", &text))
        json_array_append_new(hops, next_hop(x, svc, text));
    rest = span_cstr(svc->client->fallback_relay);
    while (span_next_token(&rest, ", \t\r\n", &text)) {
        json_t *j = next_hop(x, svc, text);
        json_object_set_new(j, "fallback", json_true());
        json_array_append_new(hops, j);
    }
    json_object_set_new(to, "hops", hops);
    json_object_set_new(to, "tls", tls_policy(x, svc));
}

static json_t *destination(struct explain *x, const struct route *r)
{
    const struct conf_service *svc = conf_transport(x->conf, r->transport);
    json_t *to = json_pack("{s:o, s:s, s:o, s:o}", "recipient", explain_text(r->recipient), "class", class_word(r->cls), "transport",
                           explain_text(r->transport), "nexthop", explain_text(r->nexthop));
    if (r->is_unknown_user)
        json_object_set_new(to, "unknown_user", json_true());
    if (r->validity_error != NULL)
        json_object_set_new(to, "error", json_string(r->validity_error));
    if (svc == NULL)
        json_object_set_new(to, "error", json_string("no usable transport of that name in master.cf: the mail is deferred (4.3.5)"));
    else if (svc->client != NULL)
        by_network(x, svc, r, to);
    return to;
}

void explain_destination(struct explain *x, const struct route_target *to, struct span filter, json_t *list)
{
    struct route r;
    struct err e = ERR_INIT;
    if (route_resolve_for(x->policy, x->listener, x->sender, to->addr, x->arena, &r, &e) == LOOKUP_TEMPFAIL) {
        explain_note(x, "<%.*s> cannot be routed: %s", SPAN_ARG(to->addr), e.text);
        return;
    }
    if (filter.n > 0)
        route_filter(x->policy, filter, r.recipient, x->arena, &r.transport, &r.nexthop);
    json_t *j = destination(x, &r);
    if (filter.n > 0)
        json_object_set_new(j, "filter", explain_text(filter));
    if (to->sender.n > 0)
        json_object_set_new(j, "list_owner", explain_text(to->sender));
    json_array_append_new(list, j);
}

/* Options of a host search from the parameters of a service. */
#include "common/conf/params.h"
#include "daemon/smtp/hosts.h"

static bool has_word(const char *list, const char *word)
{
    struct span rest = span_cstr(list), item;
    while (span_next_token(&rest, ", \t\r\n", &item))
        if (span_ieq_cstr(item, word))
            return true;
    return false;
}

bool hosts_options_init(struct hosts_options *o, const struct params *p, const struct client_params *cp, bool is_lmtp,
                        const struct dest *d, struct err *e)
{
    uint16_t port, smtp_port = 25;
    struct span known = span_cstr(p->known_tcp_ports);
    if (!dest_port(d->service.n > 0 ? d->service : span_cstr(cp->tcp_port), known, &port, e))
        return false;
    if (!dest_port(SPAN_LIT("smtp"), known, &smtp_port, NULL))
        smtp_port = 25;
    bool all = has_word(p->inet_protocols, "all");
    *o = (struct hosts_options){
        .use_mx = !is_lmtp && !d->no_mx,
        .port = port,
        .loop_check = !is_lmtp && port == smtp_port,
        .v4 = all || has_word(p->inet_protocols, "ipv4"),
        .v6 = all || has_word(p->inet_protocols, "ipv6"),
        .use_dns = has_word(cp->host_lookup, "dns"),
        .use_native = has_word(cp->host_lookup, "native"),
        .append_domain = has_word(cp->dns_resolver_options, "res_defnames"),
        .search_domains = has_word(cp->dns_resolver_options, "res_dnsrch"),
        .disable_dns = p->disable_dns_lookups || strcmp(cp->dns_support_level, "disabled") == 0,
        .preference = strcmp(cp->address_preference, "ipv4") == 0   ? HOSTS_PREFER_V4
                      : strcmp(cp->address_preference, "ipv6") == 0 ? HOSTS_PREFER_V6
                                                                    : HOSTS_ANY,
        .balance = cp->balance_inet_protocols,
        .randomize = cp->randomize_addresses,
        .address_limit = cp->mx_address_limit > 0 ? (size_t)cp->mx_address_limit : 0,
        .ignore_mx_lookup_error = p->ignore_mx_lookup_error,
        .defer_if_no_mx_address = cp->defer_if_no_mx_address_found,
        .cname_overrides_name = cp->cname_overrides_servername,
        .use_srv = p->use_srv_lookup,
        .ignore_srv_lookup_error = p->ignore_srv_lookup_error,
        .allow_srv_lookup_fallback = p->allow_srv_lookup_fallback,
        .inet_interfaces = p->inet_interfaces,
        .proxy_interfaces = p->proxy_interfaces,
        .myhostname = p->myhostname,
    };
    return true;
}

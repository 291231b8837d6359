/*
 * policy_compile: one snapshot of the configuration turned into match lists, tables and steps
 *
 * Each listener has its own values (master.cf -o), so lists and steps are made for main.cf and for each listener;
 * tables are shared through the registry, which outlives the snapshots.
 */
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>

#include "common/base/mem.h"
#include "common/conf/conf_report.h"
#include "common/table/dns_filter.h"
#include "policy/checks.h"
#include "policy/policy_internal.h"
#include "policy/rewrite/rewrite_internal.h"
#include "policy/service.h"

static const char *const named_lists[] = {
    "mynetworks", "debug_peer_list", "smtpd_client_event_limit_exceptions", "smtpd_authorized_xclient_hosts",
    "smtpd_authorized_xforward_hosts", "smtpd_authorized_verp_clients", "smtpd_sasl_exceptions_networks",
    "smtpd_forbid_bare_newline_exclusions", "permit_mx_backup_networks",
    "proxy_protocol_trusted_networks", "proxy_protocol_probe_networks",
};

/* ---- findings ---- */

/* The value is this listener's own (-o), not main.cf's: only then is the finding about master.cf. */
static bool is_own_value(const struct compiler *c)
{
    if (c->svc == NULL)
        return false;
    const char *mine = conf_text(c->policy->conf, c->svc, span_cstr(c->parameter));
    const char *global = conf_text(c->policy->conf, NULL, span_cstr(c->parameter));
    return mine != NULL && (global == NULL || strcmp(mine, global) != 0);
}

void compile_finding(struct compiler *c, enum conf_severity severity, const char *fmt, ...)
{
    char text[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    bool own = is_own_value(c);
    conf_report_add(c->report, severity, own ? "master.cf" : NULL, own ? c->svc->line : 0, "%s: %s", c->parameter, text);
}

static void list_problem(void *arg, enum table_status status, const char *text)
{
    compile_finding(arg, status == TABLE_BAD ? CONF_ERROR : CONF_WARNING, "%s", text);
}

static unsigned table_flags(void *arg, struct span spec);

/* Many a site has no alias file: that one is only worth a note, as long as no setting asks for another. */
static void maps_problem(void *arg, struct span spec, enum table_status status, const struct err *e)
{
    const struct compiler *c = arg;
    if (status == TABLE_BROKEN && e->sys == ENOENT && (table_flags(arg, spec) & TABLE_ALIASES) &&
        conf_is_default(c->policy->conf, SPAN_LIT("alias_maps")))
        compile_finding(arg, CONF_NOTE, "%s", e->text);
    else
        list_problem(arg, status, e->text);
}

static void table_note(void *arg, bool is_error, const char *file, int line, const char *text)
{
    struct compiler *c = arg;
    conf_report_add(c->report, is_error ? CONF_ERROR : CONF_WARNING, file, line, "%s", text);
}

/* ---- lists and maps ---- */

bool policy_list_has(const char *list, const char *word)
{
    struct span rest = span_cstr(list), item;
    bool braced;
    while (conf_list_next(&rest, &item, &braced)) {
        if (span_ieq_cstr(item, word))
            return true;
    }
    return false;
}

static struct span without_proxy(struct span spec)
{
    while (span_istarts_with(spec, SPAN_LIT("proxy:")))
        spec = span_from(spec, 6);
    return spec;
}

/* Files that alias_maps or alias_database name are in aliases(5) format wherever else they are used. */
static unsigned table_flags(void *arg, struct span spec)
{
    const struct compiler *c = arg;
    struct span rest = c->alias_specs, item;
    bool braced;
    unsigned flags = strcmp(c->parameter, "virtual_mailbox_maps") == 0 ? TABLE_NO_REFERENCES : 0; /* as virtual asks it */
    if (span_iends_with(span_cstr(c->parameter), SPAN_LIT("_checks")) || span_iends_with(span_cstr(c->parameter), SPAN_LIT("_dns_reply_filter")))
        /* asked for lines of a message, or texts of records, whatever bytes they have */
        flags |= TABLE_BYTES;
    spec = without_proxy(spec);
    while (conf_list_next(&rest, &item, &braced)) {
        if (span_eq(without_proxy(item), spec))
            flags |= TABLE_ALIASES;
    }
    return flags;
}

struct maps *compile_maps(struct compiler *c, const char *parameter, struct span list)
{
    struct policy *p = c->policy;
    struct table_notes notes = { .fn = table_note, .arg = c };
    c->parameter = parameter;
    struct maps *m = maps_open(p->registry, list, table_flags, maps_problem, &notes, c);
    p->open_maps = xrealloc(p->open_maps, (p->open_maps_count + 1) * sizeof(struct maps *));
    p->open_maps[p->open_maps_count++] = m;
    return m;
}

struct match_list *compile_list(struct compiler *c, const char *parameter, struct span list, enum match_kind kind)
{
    struct policy *p = c->policy;
    const struct params *values = c->svc != NULL ? c->svc->p : p->p;
    c->parameter = parameter;
    struct match_options o = {
        .registry = p->registry, .list = list, .kind = kind, .title = parameter,
        .parents = policy_list_has(values->parent_domain_matches_subdomains, parameter),
        .notes = { .fn = table_note, .arg = c }, .problem = list_problem, .arg = c,
    };
    struct match_list *l = match_list_compile(&o);
    p->open_lists = xrealloc(p->open_lists, (p->open_lists_count + 1) * sizeof(struct match_list *));
    p->open_lists[p->open_lists_count++] = l;
    return l;
}

/* ---- own addresses ---- */

/* An address of a protocol that is not in use is nobody's. */
static bool is_in_use(const char *inet_protocols, const struct ip_addr *ip)
{
    return policy_list_has(inet_protocols, "all") || policy_list_has(inet_protocols, ip->family == IP_V4 ? "ipv4" : "ipv6");
}

static void add_own(struct policy *p, struct ip_addr **all, const struct ip_addr *ip)
{
    if (!is_in_use(p->p->inet_protocols, ip))
        return;
    for (size_t i = 0; i < p->own_addr_count; i++) {
        if (ip_eq(&(*all)[i], ip))
            return;
    }
    *all = xrealloc(*all, (p->own_addr_count + 1) * sizeof **all);
    (*all)[p->own_addr_count++] = *ip;
}

static void add_interfaces(struct compiler *c, struct ip_addr **all, bool loopback_only)
{
    struct ip_local *here = NULL;
    size_t n = 0;
    struct err e = ERR_INIT;
    if (!ip_local_list(&here, &n, &e))
        compile_finding(c, CONF_WARNING, "the addresses of this machine are not known: %s", e.text);
    for (size_t i = 0; i < n; i++) {
        if (!loopback_only || here[i].loopback)
            add_own(c->policy, all, &here[i].addr);
    }
    free(here);
}

static void add_host(struct compiler *c, struct ip_addr **all, struct span name)
{
    char host[256];
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    snprintf(host, sizeof host, "%.*s", SPAN_ARG(name));
    int rc = getaddrinfo(host, NULL, &hints, &list);
    if (rc != 0) {
        compile_finding(c, CONF_WARNING, "host \"%s\": %s", host, gai_strerror(rc));
        return;
    }
    for (const struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next) {
        struct ip_addr ip;
        if (ip_from_sockaddr(ai->ai_addr, &ip, NULL))
            add_own(c->policy, all, &ip);
    }
    freeaddrinfo(list);
}

static void add_own_list(struct compiler *c, struct ip_addr **all, const char *parameter, const char *list)
{
    struct span rest = span_cstr(list), item;
    bool braced;
    c->parameter = parameter;
    while (conf_list_next(&rest, &item, &braced)) {
        struct ip_addr ip;
        if (span_ieq_cstr(item, "all") || span_ieq_cstr(item, "loopback-only"))
            add_interfaces(c, all, item.n > 3);
        else if (ip_parse_any(item, &ip))
            add_own(c->policy, all, &ip);
        else
            add_host(c, all, item);
    }
}

static void compile_own_addresses(struct compiler *c)
{
    struct policy *p = c->policy;
    struct ip_addr *all = NULL;
    add_own_list(c, &all, "inet_interfaces", p->p->inet_interfaces);
    p->inet_addr_count = p->own_addr_count;
    add_own_list(c, &all, "proxy_interfaces", p->p->proxy_interfaces);
    p->own_addrs = arena_alloc(p->arena, (p->own_addr_count + 1) * sizeof *all);
    if (p->own_addr_count > 0)
        memcpy(p->own_addrs, all, p->own_addr_count * sizeof *all);
    free(all);
}

/* ---- transports ---- */

static struct xport split_xport(const char *text)
{
    struct span s = span_trim(span_cstr(text));
    ptrdiff_t colon = span_find(s, ':');
    if (colon < 0)
        return (struct xport){ .transport = s };
    return (struct xport){ span_of(s.p, (size_t)colon), span_from(s, (size_t)colon + 1) };
}

static bool is_usable(const struct compiler *c, struct span transport)
{
    return conf_transport(c->policy->conf, transport) != NULL;
}

static struct xport compile_transport(struct compiler *c, const char *parameter, const char *value)
{
    struct xport x = split_xport(value);
    c->parameter = parameter;
    if (x.transport.n == 0)
        compile_finding(c, CONF_ERROR, "\"%s\" names no transport; expected transport or transport:nexthop", value);
    return x;
}

static void compile_local_transport(struct compiler *c)
{
    struct policy *p = c->policy;
    p->local = compile_transport(c, "local_transport", p->p->local_transport);
    p->local_is_usable = is_usable(c, p->local.transport);
    if (*p->p->mailbox_transport != '\0')
        p->mailbox = compile_transport(c, "mailbox_transport", p->p->mailbox_transport);
    if (p->local_is_usable)
        return;
    c->parameter = "local_transport";
    bool is_used = !match_list_is_empty(p->mydestination);
    if (p->mailbox.transport.n > 0 && is_usable(c, p->mailbox.transport))
        compile_finding(c, CONF_NOTE, "there is no local(8) here: mailbox_transport = %s takes its mail",
                        p->p->mailbox_transport);
    else if (is_used)
        compile_finding(c, CONF_WARNING, "\"%s\": there is no local(8) delivery here and no usable transport of that name in master.cf; mail for mydestination "
                        "will be deferred (4.3.5). Set mailbox_transport (for example lmtp:unix:private/dovecot-lmtp) or local_transport",
                        p->p->local_transport);
}

static void check_transport(struct compiler *c, const char *parameter, const struct xport *x, bool is_used)
{
    c->parameter = parameter;
    if (is_used && x->transport.n > 0 && !is_usable(c, x->transport))
        compile_finding(c, CONF_WARNING, "\"%.*s\": no usable transport of that name in master.cf; mail for it will be deferred (4.3.5)",
                        SPAN_ARG(x->transport));
}

static void compile_routing(struct compiler *c)
{
    struct policy *p = c->policy;
    const struct params *v = p->p;
    p->mydestination = compile_list(c, "mydestination", span_cstr(v->mydestination), MATCH_NAMES);
    p->virtual_alias_domains = compile_list(c, "virtual_alias_domains", span_cstr(v->virtual_alias_domains), MATCH_NAMES);
    p->virtual_mailbox_domains =
        compile_list(c, "virtual_mailbox_domains", span_cstr(v->virtual_mailbox_domains), MATCH_NAMES);
    p->relay_domains = compile_list(c, "relay_domains", span_cstr(v->relay_domains), MATCH_DOMAINS);
    p->fast_flush_domains = compile_list(c, "fast_flush_domains", span_cstr(v->fast_flush_domains), MATCH_DOMAINS);
    p->transport_maps = compile_maps(c, "transport_maps", span_cstr(v->transport_maps));
    p->sender_relayhost_maps =
        compile_maps(c, "sender_dependent_relayhost_maps", span_cstr(v->sender_dependent_relayhost_maps));
    p->sender_transport_maps = compile_maps(c, "sender_dependent_default_transport_maps",
                                            span_cstr(v->sender_dependent_default_transport_maps));
    p->alias_maps = compile_maps(c, "alias_maps", span_cstr(v->alias_maps));
    p->virtual_alias_maps = compile_maps(c, "virtual_alias_maps", span_cstr(v->virtual_alias_maps));
    p->relocated_maps = compile_maps(c, "relocated_maps", span_cstr(v->relocated_maps));
    p->mailbox_transport_maps = compile_maps(c, "mailbox_transport_maps", span_cstr(v->mailbox_transport_maps));
    p->transport_parents = policy_list_has(v->parent_domain_matches_subdomains, "transport_maps");
    compile_local_transport(c);
    p->virtual_mailbox = compile_transport(c, "virtual_transport", v->virtual_transport);
    p->relay = compile_transport(c, "relay_transport", v->relay_transport);
    p->other = compile_transport(c, "default_transport", v->default_transport);
    check_transport(c, "virtual_transport", &p->virtual_mailbox, !match_list_is_empty(p->virtual_mailbox_domains));
    check_transport(c, "relay_transport", &p->relay, !match_list_is_empty(p->relay_domains));
    check_transport(c, "default_transport", &p->other, true);
}

/* ---- services ---- */

/* One character, with \t, \n, \r, \b, \f, \v, \a, octal, or the character itself behind a backslash. */
static unsigned char next_escaped(const char **p)
{
    static const char names[] = "abfnrtv", values[] = "\a\b\f\n\r\t\v";
    unsigned char c = (unsigned char)*(*p)++;
    if (c != '\\' || **p == '\0')
        return c;
    c = (unsigned char)*(*p)++;
    if (c >= '0' && c <= '7') {
        unsigned v = c - '0';
        for (int i = 0; i < 2 && **p >= '0' && **p <= '7'; i++)
            v = v * 8 + (unsigned)(*(*p)++ - '0');
        return (unsigned char)v;
    }
    const char *at = strchr(names, c);
    return at != NULL ? (unsigned char)values[at - names] : c;
}

static void compile_expansion_filter(struct policy_service *s)
{
    for (const char *p = s->p->smtpd_expansion_filter; *p != '\0';) {
        unsigned char c = next_escaped(&p);
        s->expansion_ok[c / 64] |= UINT64_C(1) << c % 64;
    }
}

/* content_filter of main.cf, and of a listener or pickup line where it is another. */
static void check_filter(struct compiler *c, const struct params *v)
{
    if (*v->content_filter == '\0')
        return;
    struct xport x = split_xport(v->content_filter);
    c->parameter = "content_filter";
    if (strchr(v->content_filter, ':') == NULL)
        compile_finding(c, CONF_WARNING, "\"%s\": expected transport:nexthop; it is taken for a transport", v->content_filter);
    check_transport(c, "content_filter", &x, true);
}

static void check_filters(struct compiler *c)
{
    struct policy *p = c->policy;
    check_filter(c, p->p);
    for (size_t i = 0; i < conf_service_count(p->conf); i++) {
        const struct conf_service *svc = conf_service(p->conf, i);
        bool receives = svc->role == SVC_LISTENER || strcmp(svc->command, "pickup") == 0;
        c->svc = svc;
        if (receives && strcmp(svc->p->content_filter, p->p->content_filter) != 0)
            check_filter(c, svc->p);
    }
    c->svc = NULL;
}

static void compile_service(struct compiler *c, struct policy_service *s)
{
    struct policy *p = c->policy;
    const struct params *v = s->p;
    s->local_recipient_maps = compile_maps(c, "local_recipient_maps", span_cstr(v->local_recipient_maps));
    s->virtual_alias_maps = compile_maps(c, "virtual_alias_maps", span_cstr(v->virtual_alias_maps));
    s->virtual_mailbox_maps = compile_maps(c, "virtual_mailbox_maps", span_cstr(v->virtual_mailbox_maps));
    s->relay_recipient_maps = compile_maps(c, "relay_recipient_maps", span_cstr(v->relay_recipient_maps));
    s->canonical_maps = compile_maps(c, "canonical_maps", span_cstr(v->canonical_maps));
    s->recipient_canonical_maps = compile_maps(c, "recipient_canonical_maps", span_cstr(v->recipient_canonical_maps));
    s->sender_canonical_maps = compile_maps(c, "sender_canonical_maps", span_cstr(v->sender_canonical_maps));
    s->rbl_reply_maps = compile_maps(c, "rbl_reply_maps", span_cstr(v->rbl_reply_maps));
    compile_expansion_filter(s);
    s->sender_login_maps = compile_maps(c, "smtpd_sender_login_maps", span_cstr(v->smtpd_sender_login_maps));
    s->relay_clientcerts = compile_maps(c, "relay_clientcerts", span_cstr(v->relay_clientcerts));
    if (*v->smtpd_log_access_permit_actions != '\0')
        s->permit_log = compile_list(c, "smtpd_log_access_permit_actions", span_cstr(v->smtpd_log_access_permit_actions), MATCH_NAMES);
    if (*v->smtpd_dns_reply_filter != '\0') {
        s->dns_filter = arena_alloc(p->arena, sizeof *s->dns_filter);
        *s->dns_filter = (struct dns_filter){ compile_maps(c, "smtpd_dns_reply_filter", span_cstr(v->smtpd_dns_reply_filter)), p->log };
    }
    s->access_parents = policy_list_has(v->parent_domain_matches_subdomains, "smtpd_access_maps");
    s->named = arena_alloc(p->arena, ARRAY_LEN(named_lists) * sizeof *s->named);
    for (size_t i = 0; i < ARRAY_LEN(named_lists); i++) {
        const char *value = conf_text(p->conf, s->svc, span_cstr(named_lists[i]));
        s->named[i].name = named_lists[i];
        s->named[i].list = compile_list(c, named_lists[i], span_cstr(value ? value : ""), MATCH_HOSTS);
    }
    s->mynetworks = s->named[0].list;
    rewrite_compile_clients(c, s);
    restrict_compile_service(c, s);
}

static void compile_services(struct compiler *c)
{
    struct policy *p = c->policy;
    size_t n = conf_service_count(p->conf);
    p->services = arena_alloc(p->arena, (n + 1) * sizeof *p->services);
    p->services[p->service_count++] = (struct policy_service){ .p = p->p };
    for (size_t i = 0; i < n; i++) {
        const struct conf_service *svc = conf_service(p->conf, i);
        if (svc->role == SVC_LISTENER)
            p->services[p->service_count++] = (struct policy_service){ .svc = svc, .p = svc->p };
    }
    for (size_t i = 0; i < p->service_count; i++) {
        c->svc = p->services[i].svc;
        compile_service(c, &p->services[i]);
    }
    c->svc = NULL;
}

/* The tables of a parameter, unless its value is that of its counterpart. */
static struct maps *compile_probe_maps(struct compiler *c, const char *parameter, const char *value, const char *usual, struct maps *have)
{
    return strcmp(value, usual) == 0 ? have : compile_maps(c, parameter, span_cstr(value));
}

static void compile_probes(struct compiler *c)
{
    struct policy *p = c->policy, *q = arena_alloc(p->arena, sizeof *q);
    struct params *v = arena_alloc(p->arena, sizeof *v);
    *v = *p->p;
    v->relayhost = v->address_verify_relayhost;
    memcpy((void *)q, (const void *)p, sizeof *q);
    q->transport_maps = compile_probe_maps(c, "address_verify_transport_maps", v->address_verify_transport_maps, v->transport_maps, p->transport_maps);
    q->sender_relayhost_maps = compile_probe_maps(c, "address_verify_sender_dependent_relayhost_maps", v->address_verify_sender_dependent_relayhost_maps,
                                                  v->sender_dependent_relayhost_maps, p->sender_relayhost_maps);
    q->sender_transport_maps = compile_probe_maps(c, "address_verify_sender_dependent_default_transport_maps",
                                                  v->address_verify_sender_dependent_default_transport_maps,
                                                  v->sender_dependent_default_transport_maps, p->sender_transport_maps);
    q->has_routing_tables = !maps_is_empty(q->transport_maps) || !maps_is_empty(q->sender_relayhost_maps)
                            || !maps_is_empty(q->sender_transport_maps);
    q->p = v;
    q->local = compile_transport(c, "address_verify_local_transport", v->address_verify_local_transport);
    q->local_is_usable = is_usable(c, q->local.transport);
    q->virtual_mailbox = compile_transport(c, "address_verify_virtual_transport", v->address_verify_virtual_transport);
    q->relay = compile_transport(c, "address_verify_relay_transport", v->address_verify_relay_transport);
    q->other = compile_transport(c, "address_verify_default_transport", v->address_verify_default_transport);
    check_transport(c, "address_verify_virtual_transport", &q->virtual_mailbox, strcmp(v->address_verify_virtual_transport, v->virtual_transport) != 0);
    check_transport(c, "address_verify_relay_transport", &q->relay, strcmp(v->address_verify_relay_transport, v->relay_transport) != 0);
    check_transport(c, "address_verify_default_transport", &q->other, strcmp(v->address_verify_default_transport, v->default_transport) != 0);
    p->probes = q;
}

enum lookup route_resolve_probe(const struct policy *p, struct span sender, struct span recipient, struct arena *a,
                                struct route *out, struct err *e)
{
    return route_resolve(p->probes, sender, recipient, a, out, e);
}

struct policy *policy_compile(const struct policy_options *o)
{
    struct policy *p = xcalloc(1, sizeof *p);
    atomic_init(&p->refs, 1);
    p->conf = conf_ref(o->conf);
    p->arena = arena_new(16384);
    p->log = o->log;
    p->p = conf_global(o->conf);
    p->registry = o->previous != NULL ? table_registry_ref(o->previous->registry) : table_registry_new(o->log);
    table_registry_use_conf(p->registry, o->conf);
    struct compiler c = { .policy = p, .previous = o->previous, .report = o->report };
    char *aliases = arena_printf(p->arena, "%s %s", p->p->alias_maps, p->p->alias_database);
    c.alias_specs = span_cstr(aliases);
    compile_own_addresses(&c);
    compile_routing(&c);
    rewrite_compile(&c);
    compile_services(&c);
    checks_compile(&c);
    check_filters(&c);
    p->has_routing_tables = !maps_is_empty(p->transport_maps) || !maps_is_empty(p->sender_relayhost_maps)
                            || !maps_is_empty(p->sender_transport_maps);
    p->routing_may_wait = routing_has_servers(p);
    compile_probes(&c);
    compile_check_values(&c);
    conf_report_place(o->report, o->conf);
    if (conf_report_has_errors(o->report))
        policy_unref(&p);
    return p;
}

struct policy *policy_ref(struct policy *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void policy_unref(struct policy **pp)
{
    struct policy *p = *pp;
    if (p == NULL)
        return;
    *pp = NULL;
    /* acq_rel: what other holders did comes before the release of memory */
    if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < p->open_maps_count; i++)
        maps_close(&p->open_maps[i]);
    for (size_t i = 0; i < p->open_lists_count; i++)
        match_list_free(&p->open_lists[i]);
    for (size_t i = 0; i < p->server_count; i++)
        policy_server_close(&p->servers[i]);
    restrict_count_free(p);
    free(p->servers);
    free(p->open_maps);
    free(p->open_lists);
    table_registry_unref(&p->registry);
    conf_unref(&p->conf);
    arena_free(&p->arena);
    free(p);
}

struct conf *policy_conf(const struct policy *p)
{
    return p->conf;
}

struct table_registry *policy_tables(const struct policy *p)
{
    return p->registry;
}

/* Listeners of another snapshot than the policy's are found by name. */
const struct policy_service *policy_service(const struct policy *p, const struct conf_service *svc)
{
    for (size_t i = 1; svc != NULL && i < p->service_count; i++) {
        if (p->services[i].svc == svc)
            return &p->services[i];
    }
    for (size_t i = 1; svc != NULL && i < p->service_count; i++) {
        if (strcmp(p->services[i].svc->name, svc->name) == 0)
            return &p->services[i];
    }
    return &p->services[0];
}

enum lookup policy_match_addr(const struct policy *p, const struct conf_service *svc, const char *parameter,
                              const struct ip_addr *addr, struct span addr_text, struct span name)
{
    const struct policy_service *s = policy_service(p, svc);
    for (size_t i = 0; i < ARRAY_LEN(named_lists); i++) {
        if (strcmp(s->named[i].name, parameter) == 0)
            return match_list_host(s->named[i].list, name, addr, addr_text, NULL);
    }
    return LOOKUP_TEMPFAIL;
}

bool policy_may_reply(const struct policy *p, const struct conf_service *svc, char c)
{
    return c != '\r' && c != '\n' && c != '\0' && policy_may_expand(policy_service(p, svc), c);
}

enum lookup policy_is_fast_flush(const struct policy *p, struct span domain, struct err *e)
{
    return match_list_name(p->fast_flush_domains, domain, e);
}

bool policy_is_mynetworks(const struct policy *p, const struct ip_addr *addr, struct span addr_text)
{
    return match_list_host(p->services[0].mynetworks, span_of(NULL, 0), addr, addr_text, NULL) == LOOKUP_FOUND;
}

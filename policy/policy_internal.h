/*
 * policy_internal: the compiled policy, for the files of this folder and their tests
 *
 * Everything is made by policy_compile() and read-only afterwards.
 */
#pragma once
#include <stdatomic.h>
#include "common/conf/params.h"
#include "common/table/maps.h"
#include "common/table/match_list.h"
#include "policy/route.h"

struct step;
struct rewriter; /* rewrite/rewrite_internal.h */

struct list_counts;

struct step_list {
    const struct step *steps; /* in the policy's arena, or in that of a check */
    size_t count;
    struct list_counts *counts; /* counted; NULL: a table's answer, which is not counted */
};

enum restriction_list {
    LIST_CLIENT, LIST_HELO, LIST_SENDER, LIST_RELAY, LIST_RECIPIENT, LIST_DATA, LIST_END_OF_DATA, LIST_ETRN, LIST_COUNT
};

/* A user-defined restriction class. */
struct restriction_class {
    struct span name;
    struct step_list list;
    bool is_compiling;      /* while compiling: a class that contains itself */
    bool is_compiled;
};

/* A parameter that is a list of client addresses, for policy_match_addr(). */
struct named_list {
    const char *name;
    struct match_list *list;
};

/* An item of local_header_rewrite_clients. */
enum local_client_kind { CLIENT_OWN, CLIENT_MYNETWORKS, CLIENT_SASL, CLIENT_CERT_KNOWN, CLIENT_CERT_ANY, CLIENT_TABLE };
struct local_client {
    enum local_client_kind kind;
    struct maps *table;              /* CLIENT_TABLE: has the client's address */
};

/* One master.cf listener with its own values; [0] is main.cf alone. */
struct policy_service {
    const struct conf_service *svc;  /* NULL: main.cf */
    const struct params *p;
    struct match_list *mynetworks;
    struct named_list *named;        /* NAMED_LIST_COUNT of them */
    struct maps *local_recipient_maps, *virtual_alias_maps, *virtual_mailbox_maps, *relay_recipient_maps;
    struct maps *canonical_maps, *recipient_canonical_maps, *sender_canonical_maps;
    struct maps *rbl_reply_maps, *sender_login_maps, *relay_clientcerts;
    struct match_list *permit_log;   /* smtpd_log_access_permit_actions; NULL: nothing is logged */
    uint64_t expansion_ok[4];        /* smtpd_expansion_filter: a bit for each character that macros may bring into a reply */
    struct local_client *local_clients; /* of local_header_rewrite_clients */
    size_t local_client_count;
    bool has_servers;                /* some list asks a policy server */
    bool has_client_dnsbl;           /* some list asks a DNS list about the client's address */
    struct dns_filter *dns_filter;   /* smtpd_dns_reply_filter; in the arena, NULL: none */
    bool access_parents;             /* parent_domain_matches_subdomains has smtpd_access_maps */
    struct step_list lists[LIST_COUNT];
    struct restriction_class *classes;
    size_t class_count;
};

/* "transport:nexthop" of a parameter, taken apart. */
struct xport {
    struct span transport, nexthop;
};

struct policy {
    atomic_uint refs;
    struct conf *conf;               /* counted */
    struct table_registry *registry; /* counted */
    struct arena *arena;             /* owned */
    const struct log_src *log;       /* borrowed; NULL: nobody listens */
    const struct params *p;          /* main.cf */
    struct match_list *mydestination, *relay_domains, *fast_flush_domains, *virtual_alias_domains, *virtual_mailbox_domains;
    struct ip_addr *own_addrs;       /* inet_interfaces and proxy_interfaces; in the arena */
    size_t own_addr_count;
    size_t inet_addr_count;          /* of them, those of inet_interfaces: they come first */
    struct maps *transport_maps, *sender_relayhost_maps, *sender_transport_maps;
    struct maps *alias_maps, *virtual_alias_maps, *mailbox_transport_maps;
    struct maps *relocated_maps;
    struct rewriter *rewriter;       /* in the arena */
    bool transport_parents;
    bool has_routing_tables;         /* any of transport_maps, sender_dependent_* */
    bool routing_may_wait;           /* see policy_routing_may_wait() */
    struct xport local, virtual_mailbox, relay, other, mailbox; /* local_transport, ... mailbox_transport */
    bool local_is_usable;            /* master.cf has a transport of that name */
    const struct policy *probes;     /* how address probes go: this snapshot with address_verify_*; in the arena, never counted */
    struct policy_service *services; /* in the arena */
    size_t service_count;
    struct checks_of *checks;        /* checks_compile.c; in the arena. [0] is main.cf alone */
    size_t checks_count;
    struct maps **open_maps;         /* all maps, to be closed */
    size_t open_maps_count;
    struct policy_server **servers;  /* all policy servers, to be closed */
    size_t server_count;
    struct step_list **lists;        /* all with counters, to give them back */
    size_t list_count;
    struct match_list **open_lists;
    size_t open_lists_count;
};

const struct policy_service *policy_service(const struct policy *p, const struct conf_service *svc);

/* ---- address.c ---- */
struct resolved {
    struct span address;   /* internal form, in the arena */
    struct span domain;    /* in address */
    bool is_local;         /* domain is ours by mydestination or interface */
    bool is_routed;
    bool is_bad;
};
/* Rewrites and resolves an address to user@domain: routing operators, missing domain, empty address. */
enum lookup address_resolve(const struct policy *p, struct span in, struct arena *a, struct resolved *out,
                            struct err *e) MUST_CHECK;
/* What completes an address: myorigin and mydomain, or remote_header_rewrite_domain; "" for neither. */
struct rewrite_context {
    const char *origin, *domain;
};
struct rewrite_context address_local_context(const struct policy *p);
/* Rewriting alone, external form to external form; t may be NULL. */
struct span address_rewrite_external(const struct policy *p, const struct rewrite_context *x, struct span in, struct arena *a,
                                     const struct rewrite_trace *t);
/* Rewriting alone, of an address in an alias list (external form): source route, bang, percent, missing domain. */
struct span address_rewrite(const struct policy *p, struct span in, struct arena *a);
enum lookup policy_is_local_domain(const struct policy *p, struct span domain, struct err *e) MUST_CHECK;
/* A host name or address literal that an address may have behind its @. */
bool address_domain_is_valid(struct span domain);

/* ---- route_resolve.c ---- */
enum lookup route_uses_aliases(const struct policy *p, struct span address, struct arena *a, struct resolved *to,
                               struct err *e) MUST_CHECK;

bool routing_has_servers(const struct policy *p) MUST_CHECK;

/* ---- recipient.c ---- */
/* Fills is_unknown_user, unknown_table, validity_error of a resolved route. */
void recipient_validate(const struct policy *p, const struct policy_service *s, struct arena *a, struct route *r);
/* Does any table of m have the address? Forms as for recipient tables. */
enum lookup recipient_in_maps(const struct policy *p, const struct maps *m, struct span address, bool is_local,
                              struct arena *a, struct span *value, struct err *e) MUST_CHECK;

/* ---- compile.c ---- */
struct compiler {
    struct policy *policy;
    const struct policy *previous;  /* may be NULL */
    struct conf_report *report;
    const struct conf_service *svc; /* now being compiled; NULL: main.cf */
    const char *parameter;          /* now being compiled */
    struct span alias_specs;        /* alias_maps and alias_database: tables in aliases(5) format */
};
void compile_finding(struct compiler *c, enum conf_severity severity, const char *fmt, ...) PRINTF_FMT(3, 4);
struct maps *compile_maps(struct compiler *c, const char *parameter, struct span list);
struct match_list *compile_list(struct compiler *c, const char *parameter, struct span list, enum match_kind kind);
bool policy_list_has(const char *list, const char *word);
/* compile_check.c: findings about values that would fail only when mail comes. */
void compile_check_values(struct compiler *c);
/* smtpd_expansion_filter: may the value of a macro have this character in a reply? Else an underscore stands for it. */
static inline bool policy_may_expand(const struct policy_service *s, char c)
{
    unsigned char u = (unsigned char)c;
    return (s->expansion_ok[u / 64] >> u % 64 & 1) != 0;
}

/* ---- restrict_count.c ---- */
/* Gives a compiled list its counters: those of the previous snapshot when it is the same list. */
void restrict_count_begin(struct compiler *c, const struct policy_service *s, const char *list, struct step_list *l);
void restrict_count_free(struct policy *p);
/* The parameter or class; "" for a table's answer. */
const char *restrict_count_list(const struct step_list *l);

/* ---- restrict_compile.c ---- */
void restrict_compile_service(struct compiler *c, struct policy_service *s);
/* An access(5) result that is a list of restrictions; problems go to *e. The list lives in the arena. */
bool restrict_compile_result(const struct policy *p, const struct policy_service *s, struct span text, struct arena *a,
                             struct step_list *out, struct err *e) MUST_CHECK;

/*
 * hosts: which addresses to try for a destination, in which order
 *
 * Purpose    turns a next hop into the ordered list of addresses that smtp(8) would try: MX records by preference, or
 *            SRV records, or the addresses of the host itself; minus this machine and what is worse than it; within
 *            the address limit. When there is none, says why, with the enhanced status and the words of the log.
 * Source     RFC 5321 5.1, RFC 7505, RFC 2782, RFC 6761 6.3 (localhost); smtp(8) SMTP SERVER LOOKUP; postconf(5)
 *            smtp_mx_address_limit, smtp_address_preference, smtp_balance_inet_protocols, use_srv_lookup, ...
 * Threads    any that may wait (DNS, and getaddrinfo for the native service)
 * Ownership  a struct hosts owns all it points to, until hosts_free()
 * Limits     HOSTS_MX_MAX names are looked up, HOSTS_ADDR_MAX addresses kept
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/arena.h"
#include "common/base/attrs.h"
#include "common/dns/dns.h"
#include "common/net/dest.h"
#include "common/net/ipaddr.h"

#define HOSTS_MX_MAX    100
#define HOSTS_ADDR_MAX  1000

enum hosts_status {
    HOSTS_OK,      /* at least one address */
    HOSTS_DEFER,   /* none for now */
    HOSTS_BOUNCE,  /* none, for good */
    HOSTS_SELF,    /* this machine is the best MX: best_mx_transport if there is one, else bounce with dsn and text */
};

enum hosts_preference { HOSTS_ANY, HOSTS_PREFER_V4, HOSTS_PREFER_V6 };

struct hosts_options {
    /* what is asked for */
    bool use_mx;               /* MX lookup (or SRV); false for [host], and for LMTP */
    uint16_t port;             /* of the destination, from dest_port() */
    bool loop_check;           /* drop this machine from the MX list: when the port is that of smtp */
    /* inet_protocols */
    bool v4, v6;
    /* smtp_host_lookup; disable_dns clears use_dns and the MX lookup */
    bool use_dns, use_native;
    bool append_domain, search_domains; /* smtp_dns_resolver_options: res_defnames, res_dnsrch; for addresses */
    bool disable_dns;          /* disable_dns_lookups, smtp_dns_support_level = disabled */
    enum hosts_preference preference;
    bool balance;              /* smtp_balance_inet_protocols */
    bool randomize;            /* smtp_randomize_addresses */
    size_t address_limit;      /* smtp_mx_address_limit; 0: none */
    bool ignore_mx_lookup_error, defer_if_no_mx_address;
    bool cname_overrides_name; /* smtp_cname_overrides_servername */
    const char *use_srv;       /* use_srv_lookup: list of services; "" or NULL: none */
    bool ignore_srv_lookup_error, allow_srv_lookup_fallback;
    /* who we are, for loop_check; may be NULL */
    const char *inet_interfaces, *proxy_interfaces, *myhostname;
    /* smtp_dns_reply_filter: returns a reference to what is left of a; NULL: nothing is filtered */
    struct dns_answer *(*filter)(const void *arg, struct dns_answer *a);
    const void *filter_arg;
    uint64_t seed;             /* of the random choices; 0: from the system */
};

struct host_addr {
    const char *name;      /* of the host, for the log and the server's identity */
    struct ip_addr addr;
    uint16_t port;
    uint16_t pref;         /* MX preference or SRV priority; 0 without */
    bool is_best;          /* of the best preference in the list */
    bool is_secure;        /* the address records were validated (AD), with those that led to the name */
};

struct hosts {
    enum hosts_status status;
    const char *dsn;       /* "" when HOSTS_OK */
    const char *text;      /* reason for the log, one line, "" when HOSTS_OK */
    const char *domain;    /* what was looked up, as A-labels */
    const struct host_addr *addr;
    size_t count;
    bool from_mx;          /* an MX list was found: names in it, not the domain, identify the servers */
    bool found_self;       /* this machine is in the list: fallback relays must not be used */
    bool mx_secure;        /* the MX (or SRV) list was validated */
    struct arena *arena;   /* owned */
};

/* d->is_unix is not for us. Fills *out whatever happens. */
void hosts_find(struct dns *dns, const struct dest *d, const struct hosts_options *o, struct hosts *out);
void hosts_free(struct hosts *h);

struct params;
struct client_params;
/*
 * Options from the configuration for destination d; strings are borrowed from p and cp. Sets use_mx (not for is_lmtp),
 * port and loop_check. False with *e when the port or a value is wrong.
 */
bool hosts_options_init(struct hosts_options *o, const struct params *p, const struct client_params *cp, bool is_lmtp,
                        const struct dest *d, struct err *e) MUST_CHECK;

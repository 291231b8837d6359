/*
 * dnsbl: what stands behind reject_rbl_client and its relatives: "domain" or "domain=d.d.d.d"
 *
 * Purpose    parses the argument once, forms the name that is asked for, and judges an answer. Each d is a number, or
 *            [a;b;c..d] for several.
 * Source     postconf(5) reject_rbl_client, permit_dnswl_client; RFC 5782
 * Threads    values; any
 */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/base/arena.h"
#include "common/base/span.h"
#include "common/dns/dns.h"
#include "common/net/ipaddr.h"

struct dnsbl {
    struct span domain;       /* without the filter */
    bool has_filter;
    uint64_t octet[4][4];     /* bit sets of 256 */
};

/* False: *why says what was expected. */
bool dnsbl_parse(struct span text, struct arena *a, struct dnsbl *out, const char **why) MUST_CHECK;
/* Does one of the addresses of an answer match the filter? Without a filter any does. */
bool dnsbl_is_listed(const struct dnsbl *d, const struct dns_answer *answer);
/* "9.2.0.192.DOMAIN", or the 32 nibbles of an IPv6 address. */
struct span dnsbl_name_of_addr(const struct dnsbl *d, const struct ip_addr *addr, struct arena *a);
/* "NAME.DOMAIN" */
struct span dnsbl_name_of_host(const struct dnsbl *d, struct span host, struct arena *a);

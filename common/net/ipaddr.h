/*
 * ipaddr: IP addresses and networks as values
 *
 * Purpose    parse, print, compare and match addresses, in the forms that mail configuration and SMTP use. An IPv4
 *            address mapped into IPv6 (::ffff:1.2.3.4) is the IPv4 address everywhere.
 * Source     RFC 4291, RFC 5952 (printing), RFC 5321 4.1.3 (literals); postconf(5) mynetworks, cidr_table(5)
 * Threads    values; any thread. ip_local_list() makes system calls.
 */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"

#define IP_TEXT_MAX    80  /* any printed form with its NUL, network and literal forms included */

enum ip_family { IP_NONE = 0, IP_V4 = 4, IP_V6 = 6 };

struct ip_addr {
    uint8_t family;   /* enum ip_family */
    uint8_t b[16];    /* network order; IPv4 in the first four, the rest zero */
    uint32_t scope;   /* interface index of a link-local IPv6 address, else 0 */
};

struct ip_net {
    struct ip_addr addr; /* host bits are zero */
    uint8_t bits;        /* 0 to 32 or 128 */
};

/* Plain form: "1.2.3.4", "2001:db8::1", "fe80::1%eth0". Nothing before or behind. */
bool ip_parse(struct span s, struct ip_addr *out) MUST_CHECK;
/* Plain form, or in brackets, or either with the prefix "IPv6:" (any case): the configuration's forms. */
bool ip_parse_any(struct span s, struct ip_addr *out) MUST_CHECK;
/* RFC 5321 address literal with its brackets: "[1.2.3.4]" or "[IPv6:2001:db8::1]", nothing else. */
bool ip_parse_literal(struct span s, struct ip_addr *out) MUST_CHECK;
/* True when the text between brackets, or bare, has the form of an address rather than of a host name. */
bool ip_looks_like(struct span s);

/* Each prints into out (IP_TEXT_MAX bytes) and returns out. An address of no family prints as "unknown". */
const char *ip_print(const struct ip_addr *a, char out[static IP_TEXT_MAX]);
/* "[1.2.3.4]" or "[IPv6:2001:db8::1]" */
const char *ip_print_literal(const struct ip_addr *a, char out[static IP_TEXT_MAX]);
/* "1.2.3.0/24" or "[2001:db8::]/32", as mynetworks writes it */
const char *ip_net_print(const struct ip_net *n, char out[static IP_TEXT_MAX]);

/* AF_INET and AF_INET6 only; *port (host order) when port is not NULL. */
bool ip_from_sockaddr(const struct sockaddr *sa, struct ip_addr *out, uint16_t *port) MUST_CHECK;
/* Fills *ss and returns its length; 0 when the address has no family. */
socklen_t ip_to_sockaddr(const struct ip_addr *a, uint16_t port, struct sockaddr_storage *ss);
struct ip_addr ip_from_v4(struct in_addr a);
/* Mapped addresses become IPv4. */
struct ip_addr ip_from_v6(struct in6_addr a);

/* Order for sorting and searching: family, then bytes, then scope. <0, 0, >0. */
int ip_cmp(const struct ip_addr *a, const struct ip_addr *b);
static inline bool ip_eq(const struct ip_addr *a, const struct ip_addr *b) { return ip_cmp(a, b) == 0; }
bool ip_is_loopback(const struct ip_addr *a);
bool ip_is_any(const struct ip_addr *a);

/*
 * "1.2.3.0/24", "1.2.3.4", "[2001:db8::]/32", "2001:db8::/32", "[2001:db8::/32]". Without a length: the whole
 * address. Host bits that are not zero are an error that names the network that was probably meant.
 */
bool ip_net_parse(struct span s, struct ip_net *out, struct err *e) MUST_CHECK;
bool ip_net_contains(const struct ip_net *n, const struct ip_addr *a);
/* The network of the first `bits` bits of an address (mynetworks_style, rate limits by prefix). */
struct ip_net ip_net_of(const struct ip_addr *a, unsigned bits);

/* One address of an interface of this machine that is up. */
struct ip_local {
    struct ip_addr addr;
    uint8_t bits;        /* length of the network it is on */
    bool loopback;
    char ifname[16];
};
/* Allocates *out (free()) with *count entries, without duplicates. False with *e. */
bool ip_local_list(struct ip_local **out, size_t *count, struct err *e) MUST_CHECK;

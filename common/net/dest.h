/*
 * dest: where a delivery is to go, as the configuration writes it
 *
 * Purpose    takes `domain`, `domain:service`, `[host]:service`, `[1.2.3.4]`, `[ipv6:2001:db8::1]:service`,
 *            `unix:path`, `inet:host:service` apart, and turns service names into ports
 * Source     smtp(8) SMTP SERVER LOOKUP, LMTP SERVER LOOKUP; postconf(5) known_tcp_ports, relayhost; transport(5)
 * Threads    values; any thread
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"
#include "common/net/ipaddr.h"

struct dest {
    bool is_unix;
    bool has_inet_prefix; /* written with "inet:" */
    bool no_mx;           /* was in brackets: look up addresses only */
    struct span path;     /* is_unix: relative means below queue_directory */
    struct span host;     /* domain or host without brackets; for a literal the text inside them */
    struct span service;  /* port number or service name; empty when none was given */
    struct ip_addr ip;    /* an address literal; IP_NONE for names */
};

/* Spans borrow from s. False with *e when s has none of the forms. */
bool dest_parse(struct span s, struct dest *out, struct err *e) MUST_CHECK;

/*
 * Port of a number or service name: first the `known` list ("lmtp=24, smtp=25, smtps=submissions=465", the value of
 * known_tcp_ports), then the system's services. False with *e.
 */
bool dest_port(struct span service, struct span known, uint16_t *port, struct err *e) MUST_CHECK;

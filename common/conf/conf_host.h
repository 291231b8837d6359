/*
 * conf_host: defaults that depend on the machine
 *
 * Purpose    own host name and interface addresses, and mynetworks made of them by mynetworks_style
 * Source     postconf(5) myhostname, mydomain, mynetworks, mynetworks_style, inet_interfaces, smtp_bind_address
 * Threads    any
 */
#pragma once
#include <stdbool.h>
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/span.h"

/* gethostname(), or "localhost" when the system has no name. */
void conf_host_name(struct buf *out);

/*
 * Appends the networks that the interface addresses give, separated by spaces: "127.0.0.1/32 [::1]/128".
 * style: class, subnet or host; protocols and interfaces: expanded inet_protocols and inet_interfaces.
 */
bool conf_host_networks(const char *style, const char *protocols, const char *interfaces, struct buf *out,
                        struct err *e) MUST_CHECK;
/*
 * The address of a family (AF_INET, AF_INET6) when inet_interfaces (expanded) names exactly one of it and that is not a
 * loopback address: a virtual host, whose mail comes from its own address. False otherwise, also for "all".
 */
bool conf_host_source(const char *interfaces, int family, struct buf *out) MUST_CHECK;
/* A host name as RFC 1123 has it: labels of 1 to 63 letters, digits, '-' (and '_'), no all-numeric last label. */
bool conf_is_hostname(struct span name);

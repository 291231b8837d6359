/*
 * listen: listening sockets
 *
 * Purpose    opens what a master.cf line or a path asks for; the sockets are nonblocking and CLOEXEC
 * Source     master(5) "inet"; postconf(5) inet_interfaces, inet_protocols
 * Threads    any (normally main, before privileges are dropped)
 * Ownership  the caller owns the descriptors of a listen_set until listen_set_close()
 * Errors     the text names address, port and reason, and says what to look for
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"
#include "common/net/ipaddr.h"

struct listen_socket {
    int fd;               /* owned by the set; -1 when somebody took it over */
    struct ip_addr addr;  /* what it is bound to */
    uint16_t port;        /* the real one, also when 0 was asked for */
};

struct listen_set {
    struct listen_socket *l;   /* owned */
    size_t count;
};

/*
 * One socket bound to addr:port; port 0 lets the system choose. An IPv6 socket is for IPv6 only. What is accepted from
 * it has TCP_NODELAY.
 * False with *e; e->sys is EADDRINUSE, EACCES, EADDRNOTAVAIL, ...
 */
bool listen_tcp(const struct ip_addr *addr, uint16_t port, int backlog, struct listen_socket *out, struct err *e) MUST_CHECK;
/*
 * A socket for each address of `hosts`, a comma or space separated list of addresses (brackets allowed), host names,
 * "all" (the wildcard address of each protocol) and "loopback-only". v4, v6: which protocols (inet_protocols). Names
 * without an address of those protocols are errors. With port 0 the first socket's port is used for all. Nothing
 * stays open on failure. With "all", a machine without IPv6 gets IPv4 alone.
 */
bool listen_list(struct span hosts, uint16_t port, bool v4, bool v6, int backlog, struct listen_set *set,
                 struct err *e) MUST_CHECK;
void listen_set_close(struct listen_set *set);

/*
 * A listening unix socket with these permissions. A socket file that nobody listens on is replaced; one in use, or
 * anything that is not a socket, is an error. -1 with *e.
 */
int listen_unix(const char *path, mode_t mode, int backlog, struct err *e) MUST_CHECK;

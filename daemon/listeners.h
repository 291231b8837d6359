/*
 * listeners: listening sockets of a configuration, kept across reloads
 *
 * Purpose    opens a socket for each address of each smtpd line of master.cf; a reload keeps the sockets whose address
 *            and port stay, opens the new ones and gives the reactor the list
 * Source     master(5), postconf(5) inet_interfaces, inet_protocols
 * Threads    main
 */
#pragma once
#include "common/base/err.h"
#include "common/conf/conf.h"
#include "common/net/ipaddr.h"
#include "daemon/reactor.h"

struct listeners;

struct listeners *listeners_new(void);
/* Closes all sockets. */
void listeners_free(struct listeners **ls);
/*
 * Opens what c wants and is not open yet (as root: before privileges are dropped). Nothing changes on failure: *e names
 * service, address, port and reason.
 */
bool listeners_prepare(struct listeners *ls, struct conf *c, struct err *e) MUST_CHECK;
/* Makes the dialogue's settings for one service (listener->arg), NULL with *e; release is called when no session uses it. */
struct listener_maker {
    void *(*make)(void *arg, const struct conf_service *svc, struct err *e);
    void (*release)(void *made);
    void *arg;
};
/*
 * Gives the reactor what listeners_prepare() opened and closes what c no longer wants. When `make` fails for one service,
 * nothing changes.
 */
bool listeners_commit(struct listeners *ls, struct conf *c, struct reactor *r, const struct listener_maker *mk,
                      struct err *e) MUST_CHECK;
/* Calls fn for each socket prepared: for the log and for tests that asked for port 0. */
void listeners_each(struct listeners *ls, void (*fn)(void *arg, const char *service, const struct ip_addr *a, uint16_t port), void *arg);

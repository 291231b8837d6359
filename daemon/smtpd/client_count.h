/*
 * client_count: connections and rates of each client
 *
 * Purpose    how many connections a client has now, and how many connections, messages and recipients it began in the
 *            current time unit: what anvil(8) does for Postfix
 * Source     smtpd_client_*_limit, anvil_rate_time_unit (60 s, fixed windows)
 * Threads    any
 * Locks      SESSION_TABLE (20), one lock per shard, never two; a leaf here
 * Limits     entries live while a connection is open and, where rates matter, while their window runs; at most
 *            CLIENT_COUNT_MAX. When that is reached, a rate without a connection is forgotten for a new client; where there
 *            is none the new client is not counted, and so not limited.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/net/ipaddr.h"

#define CLIENT_COUNT_MAX 250000 /* about 25 MB */
#define CLIENT_COUNT_WINDOW_MS 60000

struct client_counts;

enum client_event { CLIENT_MESSAGE, CLIENT_RCPT, CLIENT_TLS, CLIENT_AUTH, CLIENT_EVENTS };

struct client_count_now {
    bool is_counted;      /* false: the table is full, the rest is 0, and there must be no client_disconnect() */
    unsigned connections; /* open now, this one included */
    unsigned unnamed;     /* of these, without client_is_named() yet, this one included */
    unsigned rate;        /* begun in this window, this one included */
};

/* max: of entries; CLIENT_COUNT_MAX but in tests. */
struct client_counts *client_counts_new(unsigned max);
void client_counts_free(struct client_counts **c);
/* `service` keeps listeners apart; a small number, see smtpd_service. */
struct client_count_now client_connect(struct client_counts *c, uint32_t service, const struct ip_addr *a);
/* The client's name is known: once for each counted connection, at the latest just before client_disconnect(). */
void client_is_named(struct client_counts *c, uint32_t service, const struct ip_addr *a);
/* Only what was counted. keep_rates: there are limits for which what this client did in this window must be remembered. */
void client_disconnect(struct client_counts *c, uint32_t service, const struct ip_addr *a, bool keep_rates);
/* Counts one event of a connected client; returns how many of its kind there were in this window. */
unsigned client_count_event(struct client_counts *c, uint32_t service, const struct ip_addr *a, enum client_event ev);
unsigned client_counts_entries(struct client_counts *c);

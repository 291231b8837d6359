/*
 * client_count: connections and rates of each client
 *
 * Purpose    how many connections a client has now, and how many connections, messages and recipients it began in the
 *            current time unit: what anvil(8) does for Postfix
 * Source     smtpd_client_*_limit, anvil_rate_time_unit (60 s, fixed windows)
 * Threads    any
 * Locks      SESSION_TABLE (20), one lock per shard, never two; a leaf here
 * Limits     entries live while a connection is open or their window runs; at most CLIENT_COUNT_MAX, then new clients
 *            are not counted
 */
#pragma once
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/net/ipaddr.h"

#define CLIENT_COUNT_MAX 1000000
#define CLIENT_COUNT_WINDOW_MS 60000

struct client_counts;

enum client_event { CLIENT_MESSAGE, CLIENT_RCPT, CLIENT_TLS, CLIENT_AUTH, CLIENT_EVENTS };

struct client_count_now {
    unsigned connections; /* open now, this one included */
    unsigned rate;        /* begun in this window, this one included */
};

struct client_counts *client_counts_new(void);
void client_counts_free(struct client_counts **c);
/* `service` keeps listeners apart; a small number, see smtpd_service. */
struct client_count_now client_connect(struct client_counts *c, uint32_t service, const struct ip_addr *a);
void client_disconnect(struct client_counts *c, uint32_t service, const struct ip_addr *a);
/* Counts one event of a connected client; returns how many of its kind there were in this window. */
unsigned client_count_event(struct client_counts *c, uint32_t service, const struct ip_addr *a, enum client_event ev);

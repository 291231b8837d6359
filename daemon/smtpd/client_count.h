/*
 * client_count: connections and rates of each client, account and sender domain
 *
 * Purpose    how many connections a client has now, and how many connections, messages, recipients, AUTH commands and TLS sessions
 *            it began in the current time unit: what anvil(8) does for Postfix. Accounts (SASL user names) and sender domains
 *            are counted in the same way. The worst of each are remembered for the status lines in the log.
 * Source     smtpd_client_*_limit, anvil_rate_time_unit (fixed windows), anvil_status_update_time; anvil(8) for the lines
 * Threads    any; client_counts_status() one at a time (main)
 * Locks      SESSION_TABLE (20), one lock per shard, never two; a leaf here
 * Limits     entries live while a connection is open and, where rates matter, while their window runs; at most
 *            CLIENT_COUNT_MAX. When that is reached, a rate without a connection is forgotten for a new client; where there
 *            is none the new client is not counted, and so not limited.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/log.h"
#include "common/base/span.h"
#include "common/net/ipaddr.h"

#define CLIENT_COUNT_MAX 250000  /* about 25 MB */
#define CLIENT_COUNT_KEEP 20000  /* below so many entries rates are kept for the status lines alone */

struct client_counts;

enum count_kind { COUNT_CLIENT, COUNT_ACCOUNT, COUNT_SENDER_DOMAIN, COUNT_KINDS };
enum client_event { CLIENT_MESSAGE, CLIENT_RCPT, CLIENT_TLS, CLIENT_AUTH, CLIENT_EVENTS };

/* Who is counted. Compared byte by byte, so it is made by the functions below only. */
struct count_key {
    uint32_t service;
    uint8_t kind;   /* enum count_kind */
    uint8_t family; /* of a client */
    uint8_t bits;   /* of a client: length of its network */
    uint8_t zero;
    uint8_t b[16];  /* address, or a keyed hash */
};
struct count_who {
    struct count_key key;
    const char *service; /* name of the listener, for status lines; borrowed during the call */
    struct span text;    /* account or domain, for status lines */
};

struct client_count_now {
    bool is_counted;      /* false: the table is full, the rest is 0, and there must be no client_disconnect() */
    unsigned connections; /* open now, this one included */
    unsigned unnamed;     /* of these, without client_is_named() yet, this one included */
    unsigned rate;        /* begun in this window, this one included */
};

/* max: of entries; CLIENT_COUNT_MAX but in tests. */
struct client_counts *client_counts_new(unsigned max);
void client_counts_free(struct client_counts **c);
/* anvil_rate_time_unit; windows that run end as they would have. */
void client_counts_set_window(struct client_counts *c, int64_t window_ms);
/* `service` keeps listeners apart; a small number, see smtpd_service. An address counts for its network of so many bits. */
struct count_who count_client(uint32_t service, const char *name, const struct ip_addr *a, unsigned v4_bits, unsigned v6_bits);
/* Letters without case. */
struct count_who count_text(const struct client_counts *c, enum count_kind kind, uint32_t service, const char *name, struct span text);

struct client_count_now client_connect(struct client_counts *c, const struct count_who *w);
/*
 * The client's name is known: once for each counted connection, at the latest just before client_disconnect(). The status lines
 * are about those that are not exempt.
 */
void client_is_named(struct client_counts *c, const struct count_who *w, bool is_exempt);
/* Only what was counted. keep_rates: there are limits for which what this client did in this window must be remembered. */
void client_disconnect(struct client_counts *c, const struct count_who *w, bool keep_rates);
/* Counts one event of a connected client, or of anyone else; returns how many of its kind there were in this window, 0: not counted. */
unsigned client_count_event(struct client_counts *c, const struct count_who *w, enum client_event ev);
unsigned client_counts_entries(struct client_counts *c);
/* Logs the worst since the last call, as anvil(8) does, forgets them, and removes entries that are over. */
void client_counts_status(struct client_counts *c, const struct log_src *log);

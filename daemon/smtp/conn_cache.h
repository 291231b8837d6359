/*
 * conn_cache: SMTP and LMTP connections kept open for the next delivery
 *
 * Purpose    parks idle connections by two keys: the next hop they were opened for, and the endpoint they lead to, so
 *            that a delivery finds one before any DNS question, or after it by address. Keys name everything that must
 *            agree (conn_keys in conn.h), so a delivery with other credentials never finds a connection.
 * Source     smtp(8) smtp_connection_cache_*; DESIGN "Delivery"; behaviours 22
 * Threads    any; conn_cache_sweep() does the closing and is called by idle delivery threads
 * Locks      CONN_CACHE (24); never held across I/O
 * Ownership  owns what is parked; take hands it over
 * Limits     CONN_CACHE_MAX connections; when full the one that expires first is closed
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"

#define CONN_CACHE_MAX 256

struct conn_cache;
struct smtp_conn;

struct conn_cache *conn_cache_new(void);
/* Closes everything (QUIT without waiting); sets NULL. */
void conn_cache_free(struct conn_cache **cache);
/* Parks until expiry_ms (monotonic). */
void conn_cache_put(struct conn_cache *cache, struct smtp_conn *c, int64_t expiry_ms);
enum conn_key_kind { CONN_KEY_NEXTHOP, CONN_KEY_ENDPOINT };
/* One that is alive, or NULL. Dead and expired ones met on the way are closed. cache may be NULL. */
struct smtp_conn *conn_cache_take(struct conn_cache *cache, enum conn_key_kind kind, const char *key);
/*
 * Demand: true when this next hop was also delivered to within the last window_ms. Notes the present delivery.
 */
bool conn_cache_note_demand(struct conn_cache *cache, const char *nexthop_key, int64_t window_ms);
/* When the first parked connection expires; CLOCK_NEVER when none is parked. No lock. cache may be NULL. */
int64_t conn_cache_next_ms(const struct conn_cache *cache);
/* Closes what has expired at now_ms. */
void conn_cache_sweep(struct conn_cache *cache, int64_t now_ms);
unsigned conn_cache_count(struct conn_cache *cache);

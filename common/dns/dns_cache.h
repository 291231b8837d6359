/*
 * dns_cache: answers by question, and who waits for those that are not there yet
 *
 * Purpose    one table holds both: an entry has an answer, or waiters, or (while a stale answer is fetched anew) waiters
 *            only. Bounded; the oldest answer that nobody used since the last round goes first.
 * Threads    the caller holds the dns.cache lock for every call
 * Limits     DNS_CACHE_MAX answers, DNS_PENDING_MAX entries with waiters
 */
#pragma once
#include "common/dns/dns_internal.h"

struct dns_waiter {
    dns_cb *cb;
    void *arg;
    struct dns_waiter *next;
};

enum dns_cache_result {
    DNS_CACHE_HIT,    /* *out is a new reference */
    DNS_CACHE_JOINED, /* the waiter was added to a question under way */
    DNS_CACHE_ASK,    /* the waiter was added, and the caller must start the question */
    DNS_CACHE_FULL,   /* nothing was done */
};

struct dns_cache;
struct dns_cache *dns_cache_new(uint64_t seed);
/* There must be no waiters. */
void dns_cache_free(struct dns_cache **c);
/* Drops the answers, keeps the waiters. */
void dns_cache_clear(struct dns_cache *c);
/* The answer, when it has not expired; a new reference. */
struct dns_answer *dns_cache_find(struct dns_cache *c, const struct dns_question *q, int64_t now_ms);
/* Takes w (owned) unless HIT or FULL. */
enum dns_cache_result dns_cache_ask(struct dns_cache *c, const struct dns_question *q, int64_t now_ms,
                                    struct dns_waiter *w, struct dns_answer **out) MUST_CHECK;
/* The question's answer came: keeps it for its TTL when `keep`, returns the waiters in the order they came. */
struct dns_waiter *dns_cache_answered(struct dns_cache *c, const struct dns_question *q, struct dns_answer *a,
                                      bool keep, int64_t now_ms);
size_t dns_cache_answers(const struct dns_cache *c);
size_t dns_cache_pending(const struct dns_cache *c);

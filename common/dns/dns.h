/*
 * dns: one thread that asks, many that get answers
 *
 * Purpose    queries over UDP with TCP fallback to the configured resolvers, single flight per question, a cache
 *            that honours TTLs (also negative ones, RFC 2308). packets, sockets, ids and
 *            ports are ours and random.
 * Source     RFC 1034, 1035, 2308, 5452, 6840 (AD), 6891 (EDNS); dns_resolver_addresses (ours), resolv.conf(5)
 * Threads    dns_query(), dns_query_wait(): any. Callbacks run on the dns thread (or at once on the caller's when the
 *            answer is cached, the name is no name, or DNS_PENDING_MAX is reached) and must not block; they may ask
 *            again.
 * Locks      dns.cache (DNS_CACHE, rank 52): cached answers, questions under way, the inbox of the thread. Never held
 *            across a callback or a system call.
 * Ownership  answers are counted: each callback or return hands over one reference, dns_answer_unref() gives it back
 * Limits     DNS_PENDING_MAX questions under way, DNS_CACHE_MAX answers kept
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <netinet/in.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/span.h"

enum dns_type { DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28,
                DNS_SRV = 33, DNS_TLSA = 52 };

enum dns_status {
    DNS_OK,        /* at least one record of the type asked for */
    DNS_NODATA,    /* the name exists, without this type */
    DNS_NXDOMAIN,  /* no such name */
    DNS_TEMPFAIL,  /* SERVFAIL, REFUSED, time-out, lame: try later */
    DNS_INVALID,   /* malformed question name or answer */
};

struct dns_rr {
    enum dns_type type;
    uint32_t ttl_s;
    const char *owner;      /* name of the record, no trailing dot, lower case */
    union {
        struct in_addr a;
        struct in6_addr aaaa;
        struct { uint16_t pref; const char *host; } mx;   /* host "" for the null MX (RFC 7505) */
        struct { uint16_t prio, weight, port; const char *host; } srv;
        const char *name;   /* NS, CNAME, PTR target, no trailing dot */
        struct span txt;    /* strings of one record joined */
        struct { uint8_t usage, selector, matching; struct span data; } tlsa;
    };
};

struct dns_answer {
    enum dns_status status;
    bool secure;            /* AD bit from a resolver we were told to trust */
    const char *qname;      /* as asked, lower case, no trailing dot */
    const char *final_name; /* after CNAMEs; equals qname when there were none */
    const char *why;        /* for people when status is not DNS_OK: "Host not found", "Host not found, try again", ... */
    size_t count;
    const struct dns_rr *rr; /* records of the type asked for */
};

struct dns_options {
    const char *resolvers;   /* "address:port" or "[v6]:port" list (port default 53); "" or NULL = from resolv.conf */
    const char *resolv_conf; /* NULL: /etc/resolv.conf; read at start and at dns_reconfigure() */
    bool trust_ad;           /* believe the AD bit of resolvers on other machines too (resolv.conf: options trust-ad) */
    int timeout_ms;          /* per try; 0: 5000 */
    int tries;               /* per question over all servers; 0: 3 */
    const struct log_src *log; /* borrowed for the life of the dns; may be NULL */
};
/* Whether `resolvers` can be read; what is wrong in *e. */
bool dns_resolvers_are_good(const char *list, struct err *e) MUST_CHECK;

#define DNS_PENDING_MAX  8192   /* different questions under way; more are answered DNS_TEMPFAIL */
#define DNS_INFLIGHT_MAX 256    /* of these, how many have a socket; the others wait their turn */
#define DNS_CACHE_MAX    20000  /* answers kept */

struct dns;
typedef void dns_cb(void *arg, struct dns_answer *ans);

/* Starts the thread. NULL with *e. */
struct dns *dns_start(const struct dns_options *o, struct err *e) MUST_CHECK;
/* Ends the thread; questions under way and all that come later are answered DNS_TEMPFAIL. */
void dns_halt(struct dns *d);
/* From now on a question that is not answered within a second has none: for a process that is about to end. */
void dns_hurry(struct dns *d);
/* dns_halt(), then frees. Nobody may ask any more. Sets NULL. */
void dns_stop(struct dns **d);
/* Changes the resolvers (reload); the cache is emptied when they differ. */
bool dns_reconfigure(struct dns *d, const struct dns_options *o, struct err *e) MUST_CHECK;
/* Asks; cb is called exactly once. `name` is copied; a non-ASCII name is converted to A-labels (IDNA2008). */
void dns_query(struct dns *d, struct span name, enum dns_type type, dns_cb *cb, void *arg);
/* Asks and waits until the deadline at the latest (then DNS_TEMPFAIL). Never NULL. Not on the dns thread. */
struct dns_answer *dns_query_wait(struct dns *d, struct span name, enum dns_type type, int64_t deadline_ms) MUST_CHECK;
/* The answer if the cache has it now, else NULL. */
struct dns_answer *dns_query_cached(struct dns *d, struct span name, enum dns_type type);
struct dns_answer *dns_answer_ref(struct dns_answer *a);
void dns_answer_unref(struct dns_answer **a);
/*
 * A reference to an answer with the records that keep() wants: `a` itself when it wants all, DNS_TEMPFAIL with why_none when it
 * wants none of those that are there.
 */
typedef bool dns_keep_fn(void *arg, const struct dns_rr *rr);
struct dns_answer *dns_answer_select(struct dns_answer *a, dns_keep_fn *keep, void *arg, const char *why_none) MUST_CHECK;
/* The name as it is asked for and appears in answers: A-labels, lower case, no trailing dot. False: not a name. */
bool dns_name_text(struct span name, char out[static 256]) MUST_CHECK;
/* "4.3.2.1.in-addr.arpa" or the ip6.arpa form of an address into out (at least 80 bytes). */
void dns_reverse_name(const struct sockaddr_storage *ss, char *out, size_t out_size);
/* Builds an answer from a wire-format packet; NULL when it is no answer to (name, type), or cut short (TC). */
struct dns_answer *dns_parse_packet(const uint8_t *wire, size_t n, struct span name, enum dns_type type);

struct dns_stats {
    uint64_t queries;      /* questions from callers */
    uint64_t hits;         /* answered from the cache at once */
    uint64_t joined;       /* waited for a question already under way */
    uint64_t refused;      /* DNS_PENDING_MAX was reached */
    uint64_t sent;         /* packets sent, by UDP or TCP */
    uint64_t timeouts;     /* tries that nobody answered */
    size_t cached, pending;
};
void dns_stats(struct dns *d, struct dns_stats *out);

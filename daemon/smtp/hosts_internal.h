/* hosts_internal: what the hosts_*.c files share. One search, one thread. */
#pragma once
#include "daemon/smtp/hosts.h"

/* A name to be looked up: an MX or SRV target, or the domain itself. */
struct host_name {
    const char *name;       /* A-labels; "" is the null MX */
    uint16_t pref, port;
    uint16_t weight;        /* SRV */
    uint32_t rank;          /* hosts of lower rank are tried first; the same as pref for MX */
    uint32_t shuffle;       /* order within a rank */
    bool is_secure;
};

struct found_addr {
    struct host_addr pub;
    uint32_t rank, shuffle;
};

struct finder {
    struct dns *dns;                  /* borrowed */
    const struct hosts_options *o;    /* borrowed */
    struct hosts *out;
    struct found_addr *found;         /* owned */
    size_t count;
    uint64_t random;                  /* state of the generator */
    bool failed, soft;                /* a failure was noted; it is temporary */
};

/* ---- hosts.c ---- */
uint32_t finder_random(struct finder *f);
/* Notes a failure; a temporary one is not replaced by a permanent one. dsn without its class: "4.3". */
void finder_fail(struct finder *f, bool soft, const char *dsn, const char *fmt, ...) PRINTF_FMT(4, 5);
/* Notes that a DNS lookup failed. */
void finder_fail_dns(struct finder *f, const char *name, const char *type, const struct dns_answer *a);

/* ---- hosts_lookup.c ---- */
/* Starts the questions for all names, so that they are answered at the same time. */
void hosts_prefetch(struct finder *f, const struct host_name *n, size_t count);
/* Adds the addresses of a name. False when there are none; the reason is noted. */
bool hosts_add_addresses(struct finder *f, const struct host_name *n);
/* Asks and waits; what smtp_dns_reply_filter leaves. */
struct dns_answer *finder_ask(struct finder *f, const char *name, enum dns_type type) MUST_CHECK;
void hosts_add_address(struct finder *f, const struct host_name *n, const char *name, struct ip_addr a, bool secure);

/* ---- hosts_search.c ---- */
#define HOSTS_SEARCH_MAX 10
/* The names to ask for, in this order, until one has an address; texts are in the arena or are `name`. At least one. */
size_t hosts_search_names(const struct hosts_options *o, struct arena *a, const char *name,
                          const char *out[static HOSTS_SEARCH_MAX]);

/* ---- hosts_order.c ---- */
/* By preference, in random order among equals; shortens to HOSTS_MX_MAX. Returns the new count. */
size_t hosts_sort_mx(struct finder *f, struct host_name *n, size_t count);
/* RFC 2782: by priority, then a random draw by weight. */
size_t hosts_sort_srv(struct finder *f, struct host_name *n, size_t count);
/* Final order, balance and limit of f->found. */
void hosts_order_addresses(struct finder *f);

/* ---- hosts_self.c ---- */
/* Lowest rank that is this machine by address, or by name among n; UINT32_MAX when none is. */
uint32_t hosts_self_rank(struct finder *f, const struct host_name *n, size_t count);

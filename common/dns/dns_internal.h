/*
 * dns_internal: what the files of this folder share
 *
 * Threads    questions, packets, answers: values, any thread. Servers and exchanges: the dns thread only.
 */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "common/base/arena.h"
#include "common/dns/dns.h"
#include "common/net/ipaddr.h"

#define DNS_NAME_TEXT_MAX   256   /* text of a name with its NUL */
#define DNS_NAME_WIRE_MAX   255
#define DNS_QUERY_MAX       (12 + DNS_NAME_WIRE_MAX + 4 + 11)
#define DNS_UDP_SIZE        1232  /* what we announce in EDNS: never fragmented */
#define DNS_SERVERS_MAX     8
#define DNS_CHAIN_MAX       16    /* CNAMEs followed inside one answer */
#define DNS_RR_MAX          1024  /* records of one answer that are kept */
#define DNS_TTL_MAX_S       86400
#define DNS_NEG_TTL_MAX_S   10800 /* RFC 2308 section 5 */

/* ---- names and questions (dns_name.c) ---- */

struct dns_question {
    uint16_t type;
    uint16_t name_n;                        /* bytes of name without the NUL */
    uint16_t wire_n;
    char name[DNS_NAME_TEXT_MAX];           /* lower case A-labels, no trailing dot; "" is the root */
    uint8_t wire[DNS_NAME_WIRE_MAX + 4];    /* name, type, class as the packet has them */
};

/* False: not a name that can be asked for (empty, label over 63, name over 255, odd bytes, not IDNA2008). */
bool dns_question_init(struct dns_question *q, struct span name, enum dns_type type) MUST_CHECK;

/*
 * Uncompressed wire name to lower case text. False when it is cut short or a label has a byte that text could not
 * show unambiguously (dot, backslash, blank, control, 8-bit): such a name is never handed to other code.
 */
bool dns_name_from_wire(const uint8_t *p, size_t n, char out[static DNS_NAME_TEXT_MAX]) MUST_CHECK;
/* Letters, digits, '-' and '_' in labels that neither begin nor end with '-', and not an address. */
bool dns_name_is_host(const char *name);

/* ---- packets and answers (dns_packet.c) ---- */

struct dns_box {
    struct dns_answer pub;     /* immutable after it was handed out */
    atomic_uint refs;
    uint32_t ttl_s;            /* 0: not to be cached */
    struct arena *arena;       /* owned: everything pub points to */
    struct dns_answer *base;   /* counted: the answer that this one is a selection of; its records point into it */
};

size_t dns_packet_query(const struct dns_question *q, uint16_t id, bool edns, uint8_t out[static DNS_QUERY_MAX]);
/* The header and question belong to what we asked. With id < 0 the id is not compared. */
bool dns_packet_is_reply(const uint8_t *p, size_t n, const struct dns_question *q, int id) MUST_CHECK;
static inline bool dns_packet_truncated(const uint8_t *p) { return (p[2] & 0x02) != 0; }
static inline unsigned dns_packet_rcode(const uint8_t *p) { return p[3] & 0x0f; }
/* The packet must be a reply to q. A reply that is broken gives DNS_INVALID. Never NULL. `trusted`: believe AD. */
struct dns_answer *dns_packet_parse(const uint8_t *p, size_t n, const struct dns_question *q, bool trusted) MUST_CHECK;
/* An answer without records. `why` is copied; NULL takes the usual words of the status. */
struct dns_answer *dns_answer_failed(const struct dns_question *q, struct span name, enum dns_status st,
                                     const char *why) MUST_CHECK;
static inline uint32_t dns_answer_ttl_s(const struct dns_answer *a) { return ((const struct dns_box *)a)->ttl_s; }
/* DNS_INVALID answer for a name that cannot be asked for. */
struct dns_answer *dns_answer_bad_name(struct span name) MUST_CHECK;

/* ---- resolvers (dns_servers.c) ---- */

struct dns_server {
    struct ip_addr ip;
    uint16_t port;
    bool trusted;              /* its AD bit is believed: on this machine, or we were told */
    bool no_edns;              /* answered FORMERR to EDNS */
    int64_t bad_until_ms;      /* did not answer lately: others are asked first */
};

/* Dns thread only, after dns_start(). Counted, so that exchanges under way outlive a reconfiguration. */
struct dns_servers {
    struct dns_server s[DNS_SERVERS_MAX];
    size_t count;
    int timeout_ms, tries;
    unsigned refs;
};

/* From the options, or resolv.conf(5) at `path` when they name none. NULL with *e. */
struct dns_servers *dns_servers_new(const struct dns_options *o, const char *path, struct err *e) MUST_CHECK;
bool dns_servers_same(const struct dns_servers *a, const struct dns_servers *b);
void dns_servers_unref(struct dns_servers **s);
/* Where the next try goes: after `last` (or SIZE_MAX for the first), preferring those not known to be bad. */
size_t dns_servers_pick(const struct dns_servers *s, size_t last, int64_t now_ms);

/* ---- one question under way (dns_exchange.c) ---- */

enum dns_event_result {
    DNS_EV_WAIT,     /* nothing yet */
    DNS_EV_ANSWER,   /* x->answer is set */
    DNS_EV_FAILED,   /* this try failed; x->answer may hold the best failure so far */
    DNS_EV_AGAIN,    /* ask the same server again: by TCP, or without EDNS */
};

struct dns_exchange {
    struct dns_question q;
    struct dns_servers *servers;      /* counted */
    size_t server;                    /* index; SIZE_MAX before the first try */
    int tries_left;
    bool use_tcp, plain;              /* plain: without EDNS */
    int fd;                           /* owned; -1 between tries */
    uint16_t id;
    unsigned strangers;               /* packets on this socket that were not our answer */
    int64_t deadline_ms;              /* of this try */
    int64_t give_up_ms;               /* of the question, its wait for a turn included: no further try after it */
    uint8_t *io;                      /* owned: TCP only, the length prefix and what follows it */
    size_t io_at, io_n;               /* done, and wanted */
    bool sending;                     /* TCP: the question is still going out */
    bool replied;                     /* the server of this try said something */
    unsigned failures;                /* replies that were failures */
    struct dns_answer *answer;        /* counted: the answer, or the best failure so far */
    struct dns_exchange *prev, *next; /* the dns thread's list of waiting or running exchanges */
};

struct dns_exchange *dns_exchange_new(const struct dns_question *q);
/* Closes, frees, sets NULL. */
void dns_exchange_free(struct dns_exchange **x);
/* Asks x->server anew on a fresh socket, added to epfd with x as its data. False with errno. */
bool dns_exchange_send(struct dns_exchange *x, int epfd) MUST_CHECK;
/* The socket became ready. */
enum dns_event_result dns_exchange_event(struct dns_exchange *x, int epfd) MUST_CHECK;
void dns_exchange_close(struct dns_exchange *x);

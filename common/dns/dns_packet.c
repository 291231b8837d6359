/*
 * A query is 12 bytes of header, the question, and an OPT record: written by hand, it needs no allocation. Replies are
 * taken apart here, with the C library's ns_name_unpack() for compressed names, after the check that header and question
 * are those of the query. Nothing but the answer section is believed, and of the authority section the SOA's negative
 * TTL (RFC 2308).
 *
 * CNAMEs are followed by owner name from the question on, whatever their order in the packet; records that are not
 * reached that way are ignored. A record whose target is no name that mail could use is dropped; when that leaves
 * nothing, the answer is DNS_INVALID and not "no data".
 */
#include <arpa/inet.h>
#include <arpa/nameser.h>

#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/dns/dns_internal.h"

/* ---- query ---- */

size_t dns_packet_query(const struct dns_question *q, uint16_t id, bool edns, uint8_t out[static DNS_QUERY_MAX])
{
    /* RD and AD (RFC 6840 5.7: tell us whether it was validated), one question, perhaps one OPT. */
    uint8_t head[12] = { (uint8_t)(id >> 8), (uint8_t)id, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, edns };
    /* root, type 41, UDP size, extended rcode and version 0, DO, no data */
    static const uint8_t opt[11] = { 0, 0, 41, DNS_UDP_SIZE >> 8, DNS_UDP_SIZE & 0xff, 0, 0, 0x80, 0, 0, 0 };
    size_t n = 0;
    memcpy(out, head, sizeof head);
    n += sizeof head;
    memcpy(out + n, q->wire, q->wire_n);
    n += q->wire_n;
    if (edns) {
        memcpy(out + n, opt, sizeof opt);
        n += sizeof opt;
    }
    return n;
}

bool dns_packet_is_reply(const uint8_t *p, size_t n, const struct dns_question *q, int id)
{
    if (n < 12 || (id >= 0 && (p[0] << 8 | p[1]) != id) || (p[2] & 0xf8) != 0x80)
        return false;
    /* A server that could not read the question need not repeat it. */
    if (p[4] == 0 && p[5] == 0 && (dns_packet_rcode(p) == ns_r_formerr || dns_packet_rcode(p) == ns_r_notimpl))
        return true;
    if (p[4] != 0 || p[5] != 1 || n - 12 < q->wire_n)
        return false;
    for (size_t i = 0; i < q->wire_n; i++)
        if (ascii_lower((char)p[12 + i]) != (char)q->wire[i] && p[12 + i] != q->wire[i])
            return false;
    return true;
}

/* ---- answers ---- */

static struct dns_box *box_new(const char *name)
{
    struct dns_box *b = xcalloc(1, sizeof *b);
    atomic_init(&b->refs, 1);
    b->arena = arena_new(384);
    b->pub.qname = b->pub.final_name = *name ? arena_strdup(b->arena, name) : ".";
    b->pub.why = "";
    return b;
}

static const char *usual_words(enum dns_status st)
{
    switch (st) {
    case DNS_OK:
        return "";
    case DNS_NODATA:
        return "Host found but no data record of requested type";
    case DNS_NXDOMAIN:
        return "Host not found";
    case DNS_TEMPFAIL:
        return "Host not found, try again";
    case DNS_INVALID:
        return "Malformed or unexpected name server reply";
    }
    return "";
}

struct dns_answer *dns_answer_failed(const struct dns_question *q, struct span name, enum dns_status st,
                                     const char *why)
{
    char text[DNS_NAME_TEXT_MAX];
    size_t n = name.n < sizeof text ? name.n : sizeof text - 1;
    memcpy(text, n ? name.p : "", n);
    text[n] = '\0';
    struct dns_box *b = box_new(q ? q->name : text);
    b->pub.status = st;
    b->pub.why = why ? arena_strdup(b->arena, why) : usual_words(st);
    return &b->pub;
}

struct dns_answer *dns_answer_bad_name(struct span name)
{
    return dns_answer_failed(NULL, name, DNS_INVALID, "Invalid host or domain name");
}

struct dns_answer *dns_answer_ref(struct dns_answer *a)
{
    if (a)
        atomic_fetch_add_explicit(&((struct dns_box *)a)->refs, 1, memory_order_relaxed);
    return a;
}

void dns_answer_unref(struct dns_answer **ap)
{
    struct dns_box *b = (struct dns_box *)*ap;
    *ap = NULL;
    /* acq_rel: what every holder read happens before the free by the last one */
    if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
        if (b->base != NULL)
            dns_answer_unref(&b->base); /* never a selection itself: one step deep */
        arena_free(&b->arena);
        free(b);
    }
}

struct dns_answer *dns_answer_select(struct dns_answer *a, dns_keep_fn *keep, void *arg, const char *why_none)
{
    struct dns_box *b = box_new(a->qname);
    struct dns_rr *rr = arena_alloc(b->arena, (a->count + 1) * sizeof *rr);
    size_t n = 0;
    for (size_t i = 0; a->status == DNS_OK && i < a->count; i++)
        if (keep(arg, &a->rr[i]))
            rr[n++] = a->rr[i];
    struct dns_answer *out = &b->pub;
    if (n == a->count || a->status != DNS_OK) {
        dns_answer_unref(&out);
        return dns_answer_ref(a);
    }
    struct dns_box *from = (struct dns_box *)a;
    b->ttl_s = from->ttl_s;
    b->base = dns_answer_ref(from->base != NULL ? from->base : a);
    b->pub.secure = a->secure;
    b->pub.final_name = a->final_name;
    b->pub.rr = rr;
    b->pub.count = n;
    b->pub.status = n > 0 ? DNS_OK : DNS_TEMPFAIL;
    b->pub.why = n > 0 ? "" : arena_strdup(b->arena, why_none);
    return out;
}

/* ---- reading records ---- */

/* A whole packet, and one record of it. Offsets are from the start of the packet, as names in it are compressed. */
struct packet {
    const uint8_t *p;
    size_t n;
};

struct record {
    uint16_t owner;       /* offset of the owner's name */
    uint16_t type, class;
    uint32_t ttl_s;
    uint16_t data, end;   /* offsets of the RDATA's first byte and of the byte after it */
};

struct section {
    struct record *rr;    /* owned */
    size_t count;
};

static uint16_t get16(const struct packet *k, size_t at) { return (uint16_t)(k->p[at] << 8 | k->p[at + 1]); }

static uint32_t get32(const struct packet *k, size_t at) { return (uint32_t)get16(k, at) << 16 | get16(k, at + 2); }

/* The wire name at `at`, decompressed by the C library. Returns the bytes it takes there, 0 when it is malformed. */
static size_t wire_name(const struct packet *k, size_t at, uint8_t out[static DNS_NAME_WIRE_MAX])
{
    if (at >= k->n)
        return 0;
    int used = ns_name_unpack(k->p, k->p + k->n, k->p + at, out, DNS_NAME_WIRE_MAX);
    return used > 0 ? (size_t)used : 0;
}

/* The name at `at` as text; its last byte is to be the one before `end`. */
static bool text_name(const struct packet *k, size_t at, size_t end, char out[static DNS_NAME_TEXT_MAX])
{
    uint8_t wire[DNS_NAME_WIRE_MAX];
    size_t used = wire_name(k, at, wire);
    return used > 0 && at + used == end && dns_name_from_wire(wire, sizeof wire, out);
}

static bool owned_by(const struct packet *k, const struct record *rr, const char *name)
{
    uint8_t wire[DNS_NAME_WIRE_MAX];
    char owner[DNS_NAME_TEXT_MAX];
    return wire_name(k, rr->owner, wire) > 0 && dns_name_from_wire(wire, sizeof wire, owner) && strcmp(owner, name) == 0;
}

/* Reads `count` records from *at on, which moves behind them. False when one is malformed; *out is set all the same. */
static bool read_section(const struct packet *k, size_t *at, size_t count, struct section *out)
{
    uint8_t wire[DNS_NAME_WIRE_MAX];
    /* A record takes 11 bytes: a count that the packet cannot hold buys no memory. */
    if (count > (k->n - *at) / 11)
        return false;
    out->rr = count ? xcalloc(count, sizeof *out->rr) : NULL;
    for (; out->count < count; out->count++) {
        struct record *rr = &out->rr[out->count];
        size_t head = *at + wire_name(k, *at, wire);
        if (head == *at || k->n - head < 10 || get16(k, head + 8) > k->n - head - 10)
            return false;
        uint32_t ttl = get32(k, head + 4);
        *rr = (struct record){ .owner = (uint16_t)*at, .type = get16(k, head), .class = get16(k, head + 2),
                               .ttl_s = ttl & 0x80000000u ? 0 : ttl, /* RFC 2181 section 8 */
                               .data = (uint16_t)(head + 10) };
        *at = rr->data + (size_t)get16(k, head + 8);
        rr->end = (uint16_t)*at;
    }
    return true;
}

/* The strings of a TXT record joined. */
static bool read_txt(struct arena *a, const struct packet *k, const struct record *rr, struct span *out)
{
    char *text = arena_alloc(a, (size_t)(rr->end - rr->data) + 1);
    size_t at = rr->data, n = 0;
    while (at < rr->end) {
        size_t len = k->p[at++];
        if (len > rr->end - at)
            return false;
        memcpy(text + n, k->p + at, len);
        n += len;
        at += len;
    }
    *out = span_of(text, n);
    return rr->end > rr->data;
}

/* A host name target at the end of the RDATA; "" (the root) only where it has a meaning. */
static bool read_host(struct arena *a, const struct packet *k, size_t at, size_t end, bool root_ok, const char **out)
{
    char name[DNS_NAME_TEXT_MAX];
    if (at >= end || !text_name(k, at, end, name) || !((root_ok && *name == '\0') || dns_name_is_host(name)))
        return false;
    *out = arena_strdup(a, name);
    return true;
}

/* False: the record is malformed or useless. */
static bool read_rdata(struct arena *a, const struct packet *k, const struct record *rr, struct dns_rr *out)
{
    size_t at = rr->data, n = (size_t)(rr->end - rr->data);
    char name[DNS_NAME_TEXT_MAX];
    switch (out->type) {
    case DNS_A:
        if (n != sizeof out->a)
            return false;
        memcpy(&out->a, k->p + at, sizeof out->a);
        return true;
    case DNS_AAAA:
        if (n != sizeof out->aaaa)
            return false;
        memcpy(&out->aaaa, k->p + at, sizeof out->aaaa);
        return true;
    case DNS_NS:
    case DNS_PTR:
        return read_host(a, k, at, rr->end, false, &out->name);
    case DNS_CNAME:
        if (n == 0 || !text_name(k, at, rr->end, name))
            return false;
        out->name = arena_strdup(a, name);
        return true;
    case DNS_MX:
        if (n < 3)
            return false;
        out->mx.pref = get16(k, at);
        return read_host(a, k, at + 2, rr->end, true, &out->mx.host);
    case DNS_SRV:
        if (n < 7)
            return false;
        out->srv.prio = get16(k, at);
        out->srv.weight = get16(k, at + 2);
        out->srv.port = get16(k, at + 4);
        return read_host(a, k, at + 6, rr->end, true, &out->srv.host);
    case DNS_TXT:
        return read_txt(a, k, rr, &out->txt);
    case DNS_TLSA:
        if (n < 4)
            return false;
        out->tlsa.usage = k->p[at];
        out->tlsa.selector = k->p[at + 1];
        out->tlsa.matching = k->p[at + 2];
        out->tlsa.data = arena_dup_span(a, span_of((const char *)k->p + at + 3, n - 3));
        return true;
    }
    return false;
}

/* ---- the answer section ---- */

static uint32_t lower_ttl(uint32_t have, const struct record *rr) { return rr->ttl_s < have ? rr->ttl_s : have; }

static bool is_record(const struct packet *k, const struct record *rr, unsigned type, const char *owner)
{
    return rr->type == type && rr->class == ns_c_in && owned_by(k, rr, owner);
}

/* Follows CNAMEs from `name`, which becomes the last name reached. False when they do not end. */
static bool follow(const struct packet *k, const struct section *s, unsigned type, char *name, uint32_t *ttl)
{
    for (int hops = 0; hops <= DNS_CHAIN_MAX; hops++) {
        const struct record *cname = NULL;
        for (size_t i = 0; i < s->count && type != DNS_CNAME && !cname; i++)
            if (is_record(k, &s->rr[i], DNS_CNAME, name))
                cname = &s->rr[i];
        if (!cname)
            return true;
        if (!text_name(k, cname->data, cname->end, name))
            return false;
        *ttl = lower_ttl(*ttl, cname);
    }
    return false;
}

/* Fills b->pub.rr; returns the number of records that had to be dropped. */
static size_t collect(struct dns_box *b, const struct packet *k, const struct section *s, unsigned type,
                      const char *name, uint32_t *ttl)
{
    size_t n = 0, bad = 0, max = s->count < DNS_RR_MAX ? s->count : DNS_RR_MAX;
    struct dns_rr *tmp = max ? xcalloc(max, sizeof *tmp) : NULL;
    for (size_t i = 0; i < s->count && n < max; i++) {
        struct dns_rr out = { .type = (enum dns_type)type };
        if (!is_record(k, &s->rr[i], type, name))
            continue;
        if (!read_rdata(b->arena, k, &s->rr[i], &out)) {
            bad++;
            continue;
        }
        *ttl = lower_ttl(*ttl, &s->rr[i]);
        out.ttl_s = lower_ttl(UINT32_MAX >> 1, &s->rr[i]);
        out.owner = b->pub.final_name;
        tmp[n++] = out;
    }
    if (n > 0) {
        struct dns_rr *keep = arena_alloc(b->arena, n * sizeof *keep);
        memcpy(keep, tmp, n * sizeof *keep);
        b->pub.rr = keep;
        b->pub.count = n;
    }
    free(tmp);
    return bad;
}

/* RFC 2308 section 5: the lesser of the SOA's own TTL and its last field. 0 without a SOA. */
static uint32_t negative_ttl(const struct packet *k, const struct section *authority)
{
    for (size_t i = 0; i < authority->count; i++) {
        const struct record *rr = &authority->rr[i];
        if (rr->type == ns_t_soa && rr->end - rr->data >= 22) {
            uint32_t minimum = get32(k, rr->end - 4u);
            uint32_t ttl = lower_ttl(DNS_NEG_TTL_MAX_S, rr);
            return minimum < ttl ? minimum : ttl;
        }
    }
    return 0;
}

static bool says_ra(const struct packet *k) { return (k->p[3] & 0x80) != 0; }

static bool says_aa(const struct packet *k) { return (k->p[2] & 0x04) != 0; }

static bool says_ad(const struct packet *k) { return (k->p[3] & 0x20) != 0; }

static enum dns_status judge(struct dns_box *b, const struct packet *k, const struct section *answer,
                             const struct section *authority, const struct dns_question *q)
{
    char name[DNS_NAME_TEXT_MAX];
    uint32_t ttl = DNS_TTL_MAX_S;
    unsigned rcode = dns_packet_rcode(k->p);
    memcpy(name, q->name, sizeof name);
    if (!follow(k, answer, q->type, name, &ttl))
        return DNS_INVALID;
    if (strcmp(name, q->name) != 0)
        b->pub.final_name = arena_strdup(b->arena, name);
    if (rcode == ns_r_noerror) {
        size_t bad = collect(b, k, answer, q->type, name, &ttl);
        if (b->pub.count > 0) {
            b->ttl_s = ttl;
            return DNS_OK;
        }
        if (bad > 0)
            return DNS_INVALID;
        if (!says_ra(k) && !says_aa(k) && answer->count == 0)
            return DNS_TEMPFAIL; /* lame */
    }
    uint32_t negative = negative_ttl(k, authority);
    b->ttl_s = negative < ttl ? negative : ttl;
    return rcode == ns_r_nxdomain ? DNS_NXDOMAIN : DNS_NODATA;
}

struct dns_answer *dns_packet_parse(const uint8_t *p, size_t n, const struct dns_question *q, bool trusted)
{
    struct dns_box *b = box_new(q->name);
    struct packet k = { p, n };
    struct section answer = { .count = 0 }, authority = { .count = 0 };
    size_t at = 12 + (size_t)q->wire_n;
    b->pub.status = DNS_INVALID;
    /* The header alone says that it failed; such packets are often incomplete. */
    unsigned rcode = dns_packet_rcode(p);
    if (rcode != ns_r_noerror && rcode != ns_r_nxdomain) {
        b->pub.status = DNS_TEMPFAIL;
    } else if (n <= NS_MAXMSG && at <= n && read_section(&k, &at, get16(&k, 6), &answer) &&
               read_section(&k, &at, get16(&k, 8), &authority)) {
        b->pub.status = judge(b, &k, &answer, &authority, q);
        b->pub.secure = trusted && says_ad(&k) &&
                        (b->pub.status == DNS_OK || b->pub.status == DNS_NODATA || b->pub.status == DNS_NXDOMAIN);
    }
    free(answer.rr);
    free(authority.rr);
    b->pub.why = usual_words(b->pub.status);
    return &b->pub;
}

struct dns_answer *dns_parse_packet(const uint8_t *wire, size_t n, struct span name, enum dns_type type)
{
    struct dns_question q;
    if (!dns_question_init(&q, name, type) || !dns_packet_is_reply(wire, n, &q, -1) || dns_packet_truncated(wire))
        return NULL;
    return dns_packet_parse(wire, n, &q, true);
}

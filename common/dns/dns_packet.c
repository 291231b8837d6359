/*
 * A query is 12 bytes of header, the question, and an OPT record: written by hand, it needs no allocation. Replies are
 * taken apart by ldns, after our own check that header and question are those of the query. Nothing but the answer
 * section is believed, and of the authority section the SOA's negative TTL (RFC 2308).
 *
 * CNAMEs are followed by owner name from the question on, whatever their order in the packet; records that are not
 * reached that way are ignored. A record whose target is no name that mail could use is dropped; when that leaves
 * nothing, the answer is DNS_INVALID and not "no data".
 */
#include <arpa/inet.h>
#include <ldns/ldns.h>

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
    if (p[4] == 0 && p[5] == 0 && (dns_packet_rcode(p) == LDNS_RCODE_FORMERR || dns_packet_rcode(p) == LDNS_RCODE_NOTIMPL))
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
        arena_free(&b->arena);
        free(b);
    }
}

/* ---- reading records ---- */

static bool rdf_name(const ldns_rdf *r, char out[static DNS_NAME_TEXT_MAX])
{
    return r && ldns_rdf_get_type(r) == LDNS_RDF_TYPE_DNAME &&
           dns_name_from_wire(ldns_rdf_data(r), ldns_rdf_size(r), out);
}

static bool rdf_u16(const ldns_rdf *r, uint16_t *out)
{
    if (!r || ldns_rdf_size(r) != 2)
        return false;
    *out = ldns_rdf2native_int16(r);
    return true;
}

static bool rdf_u8(const ldns_rdf *r, uint8_t *out)
{
    if (!r || ldns_rdf_size(r) != 1)
        return false;
    *out = *ldns_rdf_data(r);
    return true;
}

static bool owned_by(const ldns_rr *rr, const char *name)
{
    char owner[DNS_NAME_TEXT_MAX];
    return rdf_name(ldns_rr_owner(rr), owner) && strcmp(owner, name) == 0;
}

/* The strings of a TXT record joined. */
static bool read_txt(struct arena *a, const ldns_rr *rr, struct span *out)
{
    size_t n = 0, at = 0;
    for (size_t i = 0; i < ldns_rr_rd_count(rr); i++) {
        const ldns_rdf *r = ldns_rr_rdf(rr, i);
        if (ldns_rdf_size(r) < 1 || *ldns_rdf_data(r) != ldns_rdf_size(r) - 1)
            return false;
        n += ldns_rdf_size(r) - 1;
    }
    char *text = arena_alloc(a, n + 1);
    for (size_t i = 0; i < ldns_rr_rd_count(rr); i++) {
        const ldns_rdf *r = ldns_rr_rdf(rr, i);
        memcpy(text + at, ldns_rdf_data(r) + 1, ldns_rdf_size(r) - 1);
        at += ldns_rdf_size(r) - 1;
    }
    *out = span_of(text, n);
    return true;
}

/* A host name target; "" (the root) only where it has a meaning. */
static bool read_host(struct arena *a, const ldns_rdf *r, bool root_ok, const char **out)
{
    char name[DNS_NAME_TEXT_MAX];
    if (!rdf_name(r, name) || !((root_ok && *name == '\0') || dns_name_is_host(name)))
        return false;
    *out = arena_strdup(a, name);
    return true;
}

/* False: the record is malformed or useless. */
static bool read_rdata(struct arena *a, const ldns_rr *rr, struct dns_rr *out)
{
    const ldns_rdf *r0 = ldns_rr_rdf(rr, 0), *r1 = ldns_rr_rdf(rr, 1), *r3 = ldns_rr_rdf(rr, 3);
    char name[DNS_NAME_TEXT_MAX];
    switch (out->type) {
    case DNS_A:
        if (!r0 || ldns_rdf_size(r0) != sizeof out->a)
            return false;
        memcpy(&out->a, ldns_rdf_data(r0), sizeof out->a);
        return true;
    case DNS_AAAA:
        if (!r0 || ldns_rdf_size(r0) != sizeof out->aaaa)
            return false;
        memcpy(&out->aaaa, ldns_rdf_data(r0), sizeof out->aaaa);
        return true;
    case DNS_NS:
    case DNS_PTR:
        return read_host(a, r0, false, &out->name);
    case DNS_CNAME:
        if (!rdf_name(r0, name))
            return false;
        out->name = arena_strdup(a, name);
        return true;
    case DNS_MX:
        return rdf_u16(r0, &out->mx.pref) && read_host(a, r1, true, &out->mx.host);
    case DNS_SRV:
        return rdf_u16(r0, &out->srv.prio) && rdf_u16(r1, &out->srv.weight) &&
               rdf_u16(ldns_rr_rdf(rr, 2), &out->srv.port) && read_host(a, r3, true, &out->srv.host);
    case DNS_TXT:
        return ldns_rr_rd_count(rr) > 0 && read_txt(a, rr, &out->txt);
    case DNS_TLSA:
        if (!rdf_u8(r0, &out->tlsa.usage) || !rdf_u8(r1, &out->tlsa.selector) ||
            !rdf_u8(ldns_rr_rdf(rr, 2), &out->tlsa.matching) || !r3)
            return false;
        out->tlsa.data = arena_dup_span(a, span_of((const char *)ldns_rdf_data(r3), ldns_rdf_size(r3)));
        return true;
    }
    return false;
}

/* ---- the answer section ---- */

static uint32_t lower_ttl(uint32_t have, const ldns_rr *rr)
{
    uint32_t ttl = ldns_rr_ttl(rr);
    if (ttl & 0x80000000u)
        ttl = 0; /* RFC 2181 section 8 */
    return ttl < have ? ttl : have;
}

static bool is_record(const ldns_rr *rr, unsigned type, const char *owner)
{
    return (unsigned)ldns_rr_get_type(rr) == type && ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN && owned_by(rr, owner);
}

/* Follows CNAMEs from `name`, which becomes the last name reached. False when they do not end. */
static bool follow(const ldns_rr_list *list, unsigned type, char *name, uint32_t *ttl)
{
    for (int hops = 0; hops <= DNS_CHAIN_MAX; hops++) {
        const ldns_rr *cname = NULL;
        for (size_t i = 0; i < ldns_rr_list_rr_count(list) && type != DNS_CNAME; i++) {
            const ldns_rr *rr = ldns_rr_list_rr(list, i);
            if (is_record(rr, DNS_CNAME, name)) {
                cname = rr;
                break;
            }
        }
        if (!cname)
            return true;
        if (!rdf_name(ldns_rr_rdf(cname, 0), name))
            return false;
        *ttl = lower_ttl(*ttl, cname);
    }
    return false;
}

/* Fills b->pub.rr; returns the number of records that had to be dropped. */
static size_t collect(struct dns_box *b, const ldns_rr_list *list, unsigned type, const char *name, uint32_t *ttl)
{
    size_t n = 0, bad = 0, max = ldns_rr_list_rr_count(list);
    if (max > DNS_RR_MAX)
        max = DNS_RR_MAX;
    struct dns_rr *tmp = max ? xcalloc(max, sizeof *tmp) : NULL;
    for (size_t i = 0; i < ldns_rr_list_rr_count(list) && n < max; i++) {
        const ldns_rr *rr = ldns_rr_list_rr(list, i);
        struct dns_rr out = { .type = (enum dns_type)type };
        if (!is_record(rr, type, name))
            continue;
        if (!read_rdata(b->arena, rr, &out)) {
            bad++;
            continue;
        }
        *ttl = lower_ttl(*ttl, rr);
        out.ttl_s = lower_ttl(UINT32_MAX >> 1, rr);
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
static uint32_t negative_ttl(const ldns_rr_list *authority)
{
    for (size_t i = 0; i < ldns_rr_list_rr_count(authority); i++) {
        const ldns_rr *rr = ldns_rr_list_rr(authority, i);
        const ldns_rdf *last = ldns_rr_rdf(rr, 6);
        if (ldns_rr_get_type(rr) == LDNS_RR_TYPE_SOA && last && ldns_rdf_size(last) == 4) {
            uint32_t minimum = ldns_rdf2native_int32(last);
            uint32_t ttl = lower_ttl(DNS_NEG_TTL_MAX_S, rr);
            return minimum < ttl ? minimum : ttl;
        }
    }
    return 0;
}

static bool is_lame(const ldns_pkt *pkt)
{
    return !ldns_pkt_ra(pkt) && !ldns_pkt_aa(pkt) && ldns_pkt_ancount(pkt) == 0;
}

static enum dns_status judge(struct dns_box *b, const ldns_pkt *pkt, const struct dns_question *q)
{
    char name[DNS_NAME_TEXT_MAX];
    uint32_t ttl = DNS_TTL_MAX_S;
    unsigned rcode = ldns_pkt_get_rcode(pkt);
    if (rcode != LDNS_RCODE_NOERROR && rcode != LDNS_RCODE_NXDOMAIN)
        return DNS_TEMPFAIL;
    memcpy(name, q->name, sizeof name);
    if (!follow(ldns_pkt_answer(pkt), q->type, name, &ttl))
        return DNS_INVALID;
    if (strcmp(name, q->name) != 0)
        b->pub.final_name = arena_strdup(b->arena, name);
    if (rcode == LDNS_RCODE_NOERROR) {
        size_t bad = collect(b, ldns_pkt_answer(pkt), q->type, name, &ttl);
        if (b->pub.count > 0) {
            b->ttl_s = ttl;
            return DNS_OK;
        }
        if (bad > 0)
            return DNS_INVALID;
        if (is_lame(pkt))
            return DNS_TEMPFAIL;
    }
    uint32_t negative = negative_ttl(ldns_pkt_authority(pkt));
    b->ttl_s = negative < ttl ? negative : ttl;
    return rcode == LDNS_RCODE_NXDOMAIN ? DNS_NXDOMAIN : DNS_NODATA;
}

struct dns_answer *dns_packet_parse(const uint8_t *p, size_t n, const struct dns_question *q, bool trusted)
{
    struct dns_box *b = box_new(q->name);
    ldns_pkt *pkt = NULL;
    b->pub.status = DNS_INVALID;
    /* The header alone says that it failed; such packets are often incomplete. */
    unsigned rcode = dns_packet_rcode(p);
    if (rcode != LDNS_RCODE_NOERROR && rcode != LDNS_RCODE_NXDOMAIN) {
        b->pub.status = DNS_TEMPFAIL;
    } else if (ldns_wire2pkt(&pkt, p, n) == LDNS_STATUS_OK) {
        b->pub.status = judge(b, pkt, q);
        b->pub.secure = trusted && ldns_pkt_ad(pkt) &&
                        (b->pub.status == DNS_OK || b->pub.status == DNS_NODATA || b->pub.status == DNS_NXDOMAIN);
        ldns_pkt_free(pkt);
    }
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

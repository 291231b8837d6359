#include <errno.h>
#include <ldns/ldns.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/dns/dns.h"
#include "tests/unit/dns_responder.h"

#define ROWS_MAX 256

struct row {
    char *directive; /* "servfail", ...; NULL for a record */
    char *name;
    int64_t arg;
    ldns_rr *rr;
    bool used;       /* drop1 */
};

struct responder {
    int udp, tcp, stop;
    uint16_t port;
    pthread_t thread;
    struct row rows[ROWS_MAX];
    size_t count;
    atomic_uint questions, by_tcp;
};

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "dns_responder: %s: %s\n", what, strerror(errno));
        abort();
    }
}

static struct row *directive(struct responder *r, const char *name, const char *what)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->rows[i].directive && strcmp(r->rows[i].directive, what) == 0 &&
            (strcasecmp(r->rows[i].name, name) == 0 || strcmp(r->rows[i].name, "*") == 0))
            return &r->rows[i];
    return NULL;
}

/* Adds the records of (name, type) to the answer, following CNAMEs; false when the name has no record at all. */
static bool add_records(struct responder *r, ldns_pkt *reply, const ldns_rdf *name, ldns_rr_type type, int depth)
{
    bool known = false;
    for (size_t i = 0; i < r->count; i++) {
        ldns_rr *rr = r->rows[i].rr;
        if (!rr || ldns_dname_compare(ldns_rr_owner(rr), name) != 0)
            continue;
        known = true;
        if (ldns_rr_get_type(rr) == type || ldns_rr_get_type(rr) == LDNS_RR_TYPE_CNAME)
            ldns_pkt_push_rr(reply, LDNS_SECTION_ANSWER, ldns_rr_clone(rr));
        if (ldns_rr_get_type(rr) == LDNS_RR_TYPE_CNAME && type != LDNS_RR_TYPE_CNAME && depth < 40)
            known = add_records(r, reply, ldns_rr_rdf(rr, 0), type, depth + 1);
    }
    return known;
}

static void add_soa(ldns_pkt *reply)
{
    ldns_rr *soa = NULL;
    must(ldns_rr_new_frm_str(&soa, "test. 300 IN SOA ns.test. root.test. 1 60 60 60 60", 0, NULL, NULL) ==
         LDNS_STATUS_OK, "SOA");
    ldns_pkt_push_rr(reply, LDNS_SECTION_AUTHORITY, soa);
}

/* The reply in wire form (caller frees), or NULL for none. */
static uint8_t *answer(struct responder *r, const uint8_t *p, size_t n, bool tcp, size_t *out_n, char *name)
{
    ldns_pkt *q = NULL, *reply = ldns_pkt_new();
    uint8_t *out = NULL;
    atomic_fetch_add(&r->questions, 1);
    atomic_fetch_add(&r->by_tcp, tcp);
    must(ldns_wire2pkt(&q, p, n) == LDNS_STATUS_OK, "our own question is malformed");
    const ldns_rr *qrr = ldns_rr_list_rr(ldns_pkt_question(q), 0);
    char *text = ldns_rdf2str(ldns_rr_owner(qrr));
    if (snprintf(name, 256, "%s", text) < 0)
        name[0] = '\0';
    free(text);
    struct row *row;
    ldns_pkt_set_id(reply, ldns_pkt_id(q));
    ldns_pkt_set_qr(reply, true);
    ldns_pkt_set_aa(reply, true);
    ldns_pkt_set_ad(reply, directive(r, name, "ad") != NULL);
    ldns_pkt_push_rr(reply, LDNS_SECTION_QUESTION, ldns_rr_clone(qrr));
    bool edns = ldns_pkt_edns(q);
    if (directive(r, name, "servfail"))
        ldns_pkt_set_rcode(reply, LDNS_RCODE_SERVFAIL);
    else if (directive(r, name, "refused"))
        ldns_pkt_set_rcode(reply, LDNS_RCODE_REFUSED);
    else if (directive(r, name, "formerr") || (edns && directive(r, name, "noedns")))
        ldns_pkt_set_rcode(reply, LDNS_RCODE_FORMERR);
    else if (directive(r, name, "tc") && !tcp)
        ldns_pkt_set_tc(reply, true);
    else if (!add_records(r, reply, ldns_rr_owner(qrr), ldns_rr_get_type(qrr), 0))
        ldns_pkt_set_rcode(reply, LDNS_RCODE_NXDOMAIN);
    if (ldns_pkt_ancount(reply) == 0)
        add_soa(reply);
    must(ldns_pkt2wire(&out, reply, out_n) == LDNS_STATUS_OK, "ldns_pkt2wire");
    row = directive(r, name, "drop1");
    if (directive(r, name, "drop") || (row && !row->used)) {
        free(out);
        out = NULL;
    }
    if (row)
        row->used = true;
    if (out && directive(r, name, "garbage"))
        memset(out + 12 + ldns_rdf_size(ldns_rr_owner(qrr)) + 4, 0xff,
               *out_n - 12 - ldns_rdf_size(ldns_rr_owner(qrr)) - 4);
    row = directive(r, name, "delay");
    if (row)
        usleep((useconds_t)row->arg * 1000);
    ldns_pkt_free(q);
    ldns_pkt_free(reply);
    return out;
}

static void serve_udp(struct responder *r)
{
    uint8_t p[4096];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(r->udp, p, sizeof p, 0, (struct sockaddr *)&from, &len);
    char name[256];
    size_t out_n = 0;
    if (n < 0)
        return;
    uint8_t *out = answer(r, p, (size_t)n, false, &out_n, name);
    if (!out)
        return;
    bool flood = directive(r, name, "flood") != NULL;
    int forged = flood ? 64 : directive(r, name, "wrongid") || directive(r, name, "wrongname") ? 1 : 0;
    for (int i = 0; i < forged; i++) {
        size_t at = directive(r, name, "wrongname") ? 13 : 0;
        out[at] ^= 1;
        out[out_n - 1] ^= 1; /* another address: believing it is seen */
        sendto(r->udp, out, out_n, 0, (struct sockaddr *)&from, len);
        out[at] ^= 1;
        out[out_n - 1] ^= 1;
    }
    if (!flood)
        sendto(r->udp, out, out_n, 0, (struct sockaddr *)&from, len);
    free(out);
}

static bool read_all(int fd, uint8_t *p, size_t n)
{
    return recv(fd, p, n, MSG_WAITALL) == (ssize_t)n;
}

/* One question a connection; the reply goes out in two pieces. */
static void serve_tcp(struct responder *r)
{
    uint8_t head[2], p[4096];
    char name[256];
    size_t out_n = 0;
    int fd = accept4(r->tcp, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    size_t n = read_all(fd, head, 2) ? (size_t)head[0] << 8 | head[1] : 0;
    if (n > 0 && n <= sizeof p && read_all(fd, p, n)) {
        uint8_t *out = answer(r, p, n, true, &out_n, name);
        if (out) {
            uint8_t len[3] = { (uint8_t)(out_n >> 8), (uint8_t)out_n, out[0] };
            (void)!io_write_all(fd, len, 3);
            usleep(2000);
            (void)!io_write_all(fd, out + 1, out_n - 1);
        }
        free(out);
    }
    io_close(&fd);
}

static void *responder_main(void *arg)
{
    struct responder *r = arg;
    for (;;) {
        struct pollfd p[3] = { { .fd = r->stop, .events = POLLIN }, { .fd = r->udp, .events = POLLIN },
                               { .fd = r->tcp, .events = POLLIN } };
        must(poll(p, 3, -1) > 0 || errno == EINTR, "poll");
        if (p[0].revents)
            return NULL;
        if (p[1].revents)
            serve_udp(r);
        if (p[2].revents)
            serve_tcp(r);
    }
}

static void parse_row(struct row *row, const char *text)
{
    if (text[0] != '!') {
        must(ldns_rr_new_frm_str(&row->rr, text, 0, NULL, NULL) == LDNS_STATUS_OK, text);
        return;
    }
    struct span rest = span_cstr(text + 1), word;
    must(span_next_token(&rest, " ", &word), text);
    row->directive = xstrndup(word.p, word.n);
    must(span_next_token(&rest, " ", &word), text);
    row->name = xstrndup(word.p, word.n);
    if (span_next_token(&rest, " ", &word))
        must(num_parse(word, 0, 100000, &row->arg), text);
}

struct responder *responder_start(const char *const *rows, uint16_t *port)
{
    struct responder *r = xcalloc(1, sizeof *r);
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof in;
    for (; *rows; rows++) {
        must(r->count < ROWS_MAX, "too many rows");
        parse_row(&r->rows[r->count++], *rows);
    }
    /* Some other socket may hold the TCP port of the number UDP got. */
    for (int i = 0; i < 50; i++) {
        in.sin_port = 0;
        r->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        r->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        must(bind(r->udp, (struct sockaddr *)&in, sizeof in) == 0, "bind");
        must(getsockname(r->udp, (struct sockaddr *)&in, &len) == 0, "getsockname");
        if (bind(r->tcp, (struct sockaddr *)&in, sizeof in) == 0)
            break;
        io_close(&r->udp);
        io_close(&r->tcp);
    }
    must(r->tcp >= 0 && listen(r->tcp, 16) == 0, "listen");
    r->stop = eventfd(0, EFD_CLOEXEC);
    r->port = ntohs(in.sin_port);
    if (port)
        *port = r->port;
    must(pthread_create(&r->thread, NULL, responder_main, r) == 0, "pthread_create");
    return r;
}

void responder_stop(struct responder **rp)
{
    struct responder *r = *rp;
    uint64_t one = 1;
    must(write(r->stop, &one, sizeof one) == sizeof one, "write");
    pthread_join(r->thread, NULL);
    for (size_t i = 0; i < r->count; i++) {
        free(r->rows[i].directive);
        free(r->rows[i].name);
        ldns_rr_free(r->rows[i].rr);
    }
    io_close(&r->udp);
    io_close(&r->tcp);
    io_close(&r->stop);
    free(r);
    *rp = NULL;
}

unsigned responder_questions(struct responder *r) { return atomic_load(&r->questions); }
unsigned responder_tcp(struct responder *r) { return atomic_load(&r->by_tcp); }

struct dns *responder_dns(struct responder *r)
{
    return responder_dns_patient(r, 200);
}

struct dns *responder_dns_patient(struct responder *r, int timeout_ms)
{
    char server[64];
    struct err e = ERR_INIT;
    if (snprintf(server, sizeof server, "127.0.0.1:%u", r->port) < 0)
        abort();
    struct dns *d = dns_start(&(struct dns_options){ .resolvers = server, .timeout_ms = timeout_ms, .tries = 2 }, &e);
    must(d != NULL, e.text);
    return d;
}

int responder_setup(void **state, const char *const *rows)
{
    struct responder_state *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    f->r = responder_start(rows, NULL);
    f->d = responder_dns(f->r);
    *state = f;
    return 0;
}

int responder_teardown(void **state)
{
    struct responder_state *f = *state;
    dns_stop(&f->d);
    responder_stop(&f->r);
    free(f);
    return 0;
}

/* common/dns without the network: names, questions, what an answer packet means, resolver lists. */
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <ldns/ldns.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/dns/dns_internal.h"

static void question_names(void **state)
{
    (void)state;
    static const char label63[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const struct { const char *in, *want; /* NULL: refused */ } cases[] = {
        { "Example.ORG", "example.org" },
        { "example.org.", "example.org" },
        { "_25._tcp.mx.example.org", "_25._tcp.mx.example.org" },
        { "0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa" },
        { ".", "" },
        { "b\xc3\xbc" "cher.example", "xn--bcher-kva.example" },
        { "B\xc3\x9c" "CHER.example", "xn--bcher-kva.example" },
        { label63, label63 },
        { "", NULL },
        { "..", NULL },
        { "a..b", NULL },
        { ".a", NULL },
        { "a b", NULL },
        { "a\\.b", NULL },
        { "a\tb", NULL },
        { "bad\xff\xfe.example", NULL },
        { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dns_question q;
        bool ok = dns_question_init(&q, span_cstr(cases[i].in), DNS_A);
        if (ok != (cases[i].want != NULL) || (ok && strcmp(q.name, cases[i].want) != 0))
            fail_msg("\"%s\": ok=%d \"%s\"", cases[i].in, ok, ok ? q.name : "");
        char back[DNS_NAME_TEXT_MAX];
        if (ok && (!dns_name_from_wire(q.wire, q.wire_n - 4u, back) || strcmp(back, q.name) != 0))
            fail_msg("\"%s\": wire form differs", cases[i].in);
    }
    /* 255 bytes in wire form is the most: four labels of 63, 63, 63 and 61. */
    char longest[260];
    assert_true(snprintf(longest, sizeof longest, "%s.%s.%s.%s", label63, label63, label63, label63 + 2) == 253);
    struct dns_question q;
    assert_true(dns_question_init(&q, span_cstr(longest), DNS_A));
    assert_int_equal(q.wire_n, 255 + 4);
    assert_true(snprintf(longest, sizeof longest, "%s.%s.%s.%s", label63, label63, label63, label63 + 1) == 254);
    assert_false(dns_question_init(&q, span_cstr(longest), DNS_A));
    assert_false(dns_question_init(&q, span_of("a\0b", 3), DNS_A));
}

static void host_names(void **state)
{
    (void)state;
    static const struct { const char *name; bool ok; } cases[] = {
        { "mail.example.org", true }, { "a_b.example", true }, { "xn--bcher-kva.example", true },
        { "", false }, { "-a.example", false }, { "a-.example", false }, { "a.-b", false }, { "a..b", false },
        { "192.0.2.1", false }, { "a/b", false }, { "a!b", false }, { "example.org-", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (dns_name_is_host(cases[i].name) != cases[i].ok)
            fail_msg("\"%s\"", cases[i].name);
}

static void reverse_names(void **state)
{
    (void)state;
    struct ip_addr a;
    struct sockaddr_storage ss;
    char out[80];
    assert_true(ip_parse(SPAN_LIT("192.0.2.7"), &a) && ip_to_sockaddr(&a, 0, &ss) > 0);
    dns_reverse_name(&ss, out, sizeof out);
    assert_string_equal(out, "7.2.0.192.in-addr.arpa");
    assert_true(ip_parse(SPAN_LIT("2001:db8::567:89ab"), &a) && ip_to_sockaddr(&a, 0, &ss) > 0);
    dns_reverse_name(&ss, out, sizeof out);
    assert_string_equal(out, "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
}

static void query_packet_is_read_by_ldns(void **state)
{
    (void)state;
    struct dns_question q;
    uint8_t p[DNS_QUERY_MAX];
    ldns_pkt *pkt = NULL;
    assert_true(dns_question_init(&q, SPAN_LIT("example.org"), DNS_MX));
    size_t n = dns_packet_query(&q, 0x1234, true, p);
    assert_int_equal(ldns_wire2pkt(&pkt, p, n), LDNS_STATUS_OK);
    assert_int_equal(ldns_pkt_id(pkt), 0x1234);
    assert_true(ldns_pkt_rd(pkt) && ldns_pkt_ad(pkt) && !ldns_pkt_qr(pkt) && ldns_pkt_edns(pkt));
    assert_true(ldns_pkt_edns_do(pkt));
    assert_int_equal(ldns_pkt_edns_udp_size(pkt), DNS_UDP_SIZE);
    assert_int_equal(ldns_rr_get_type(ldns_rr_list_rr(ldns_pkt_question(pkt), 0)), LDNS_RR_TYPE_MX);
    ldns_pkt_free(pkt);
    n = dns_packet_query(&q, 1, false, p);
    assert_int_equal(ldns_wire2pkt(&pkt, p, n), LDNS_STATUS_OK);
    assert_false(ldns_pkt_edns(pkt));
    ldns_pkt_free(pkt);
}

struct reply {
    const char *name;
    enum dns_type type;
    const char *rr[8];         /* answer section */
    const char *soa;
    ldns_pkt_rcode rcode;
    bool ad, lame;
    /* wanted */
    enum dns_status status;
    const char *text;          /* records, in short */
    const char *final_name;
    uint32_t ttl_s;
};

static uint8_t *make(const struct reply *c, size_t *n)
{
    ldns_pkt *p = NULL;
    ldns_rr *rr;
    uint8_t *wire = NULL;
    ldns_rdf *name = ldns_dname_new_frm_str(c->name);
    p = ldns_pkt_query_new(name, (ldns_rr_type)c->type, LDNS_RR_CLASS_IN, LDNS_RD);
    ldns_pkt_set_qr(p, true);
    ldns_pkt_set_ra(p, !c->lame);
    ldns_pkt_set_ad(p, c->ad);
    ldns_pkt_set_rcode(p, (uint8_t)c->rcode);
    for (size_t i = 0; i < ARRAY_LEN(c->rr) && c->rr[i]; i++) {
        assert_int_equal(ldns_rr_new_frm_str(&rr, c->rr[i], 0, NULL, NULL), LDNS_STATUS_OK);
        ldns_pkt_push_rr(p, LDNS_SECTION_ANSWER, rr);
    }
    if (c->soa) {
        assert_int_equal(ldns_rr_new_frm_str(&rr, c->soa, 0, NULL, NULL), LDNS_STATUS_OK);
        ldns_pkt_push_rr(p, LDNS_SECTION_AUTHORITY, rr);
    }
    assert_int_equal(ldns_pkt2wire(&wire, p, n), LDNS_STATUS_OK);
    ldns_pkt_free(p);
    return wire;
}

static void show(const struct dns_rr *rr, struct buf *b)
{
    char text[INET6_ADDRSTRLEN];
    switch (rr->type) {
    case DNS_A:
        buf_puts(b, inet_ntop(AF_INET, &rr->a, text, sizeof text));
        break;
    case DNS_AAAA:
        buf_puts(b, inet_ntop(AF_INET6, &rr->aaaa, text, sizeof text));
        break;
    case DNS_MX:
        buf_printf(b, "%u %s", rr->mx.pref, rr->mx.host);
        break;
    case DNS_SRV:
        buf_printf(b, "%u %u %u %s", rr->srv.prio, rr->srv.weight, rr->srv.port, rr->srv.host);
        break;
    case DNS_NS:
    case DNS_CNAME:
    case DNS_PTR:
        buf_puts(b, rr->name);
        break;
    case DNS_TXT:
        buf_add_span(b, rr->txt);
        break;
    case DNS_TLSA:
        buf_printf(b, "%u %u %u ", rr->tlsa.usage, rr->tlsa.selector, rr->tlsa.matching);
        for (size_t i = 0; i < rr->tlsa.data.n; i++)
            buf_printf(b, "%02x", (unsigned char)rr->tlsa.data.p[i]);
        break;
    }
    buf_puts(b, ";");
}

static void answers_mean_what_they_say(void **state)
{
    (void)state;
    static const struct reply cases[] = {
        { .name = "Example.ORG.", .type = DNS_MX,
          .rr = { "example.org. 300 IN MX 20 B.example.org.", "example.org. 200 IN MX 10 a.example.org." },
          .text = "20 b.example.org;10 a.example.org;", .ttl_s = 200, .final_name = "example.org" },
        { .name = "n.example.", .type = DNS_MX, .rr = { "n.example. 1 IN MX 0 ." }, .text = "0 ;", .ttl_s = 1 },
        { .name = "a.example.", .type = DNS_A, .ad = true, .rr = { "a.example. 60 IN A 192.0.2.1" },
          .text = "192.0.2.1;", .ttl_s = 60 },
        { .name = "a.example.", .type = DNS_AAAA, .rr = { "a.example. 60 IN AAAA 2001:db8::1" },
          .text = "2001:db8::1;", .ttl_s = 60 },
        { .name = "t.example.", .type = DNS_TXT, .rr = { "t.example. 60 IN TXT \"one \" \"two\"" },
          .text = "one two;", .ttl_s = 60 },
        { .name = "s.example.", .type = DNS_SRV, .rr = { "s.example. 60 IN SRV 1 2 25 h.example." },
          .text = "1 2 25 h.example;", .ttl_s = 60 },
        { .name = "_25._tcp.a.example.", .type = DNS_TLSA, .rr = { "_25._tcp.a.example. 60 IN TLSA 3 1 1 ab12" },
          .text = "3 1 1 ab12;", .ttl_s = 60 },
        { .name = "p.example.", .type = DNS_PTR, .rr = { "p.example. 60 IN PTR host.example." },
          .text = "host.example;", .ttl_s = 60 },
        /* CNAMEs: out of order, the lowest TTL counts, unrelated records do not */
        { .name = "c.example.", .type = DNS_A,
          .rr = { "z.example. 500 IN A 192.0.2.9", "b.example. 50 IN CNAME d.example.", "d.example. 70 IN A 192.0.2.2",
                  "c.example. 60 IN CNAME b.example." },
          .text = "192.0.2.2;", .final_name = "d.example", .ttl_s = 50 },
        { .name = "c.example.", .type = DNS_CNAME, .rr = { "c.example. 60 IN CNAME b.example." },
          .text = "b.example;", .ttl_s = 60 },
        { .name = "l.example.", .type = DNS_A,
          .rr = { "l.example. 60 IN CNAME m.example.", "m.example. 60 IN CNAME l.example." }, .status = DNS_INVALID },
        { .name = "c.example.", .type = DNS_A, .rr = { "c.example. 60 IN CNAME b.example." },
          .soa = "example. 900 IN SOA ns.example. r.example. 1 1 1 1 300", .status = DNS_NODATA,
          .final_name = "b.example", .ttl_s = 60 },
        { .name = "c.example.", .type = DNS_A, .rr = { "c.example. 600 IN CNAME b.example." },
          .rcode = LDNS_RCODE_NXDOMAIN, .soa = "example. 900 IN SOA ns.example. r.example. 1 1 1 1 300",
          .status = DNS_NXDOMAIN, .final_name = "b.example", .ttl_s = 300 },
        /* negative answers */
        { .name = "x.example.", .type = DNS_A, .rcode = LDNS_RCODE_NXDOMAIN, .status = DNS_NXDOMAIN },
        { .name = "x.example.", .type = DNS_A, .rcode = LDNS_RCODE_NXDOMAIN, .status = DNS_NXDOMAIN,
          .soa = "example. 100 IN SOA ns.example. r.example. 1 1 1 1 300", .ttl_s = 100 },
        { .name = "x.example.", .type = DNS_A, .status = DNS_NODATA,
          .soa = "example. 999999 IN SOA ns.example. r.example. 1 1 1 1 999999", .ttl_s = DNS_NEG_TTL_MAX_S },
        { .name = "x.example.", .type = DNS_A, .rcode = LDNS_RCODE_SERVFAIL, .status = DNS_TEMPFAIL },
        { .name = "x.example.", .type = DNS_A, .rcode = LDNS_RCODE_REFUSED, .status = DNS_TEMPFAIL },
        { .name = "x.example.", .type = DNS_A, .lame = true, .status = DNS_TEMPFAIL },
        /* records that mail must not see */
        { .name = "m.example.", .type = DNS_MX, .rr = { "m.example. 60 IN MX 10 192.0.2.1." }, .status = DNS_INVALID },
        { .name = "m.example.", .type = DNS_MX,
          .rr = { "m.example. 60 IN MX 10 -x.example.", "m.example. 60 IN MX 20 ok.example." },
          .text = "20 ok.example;", .ttl_s = 60 },
        { .name = "m.example.", .type = DNS_PTR, .rr = { "m.example. 60 IN PTR a\\.b.example." }, .status = DNS_INVALID },
        { .name = "m.example.", .type = DNS_PTR, .rr = { "m.example. 60 IN PTR a\\000b.example." },
          .status = DNS_INVALID },
        { .name = "o.example.", .type = DNS_A, .rr = { "other.example. 60 IN A 192.0.2.1" }, .status = DNS_NODATA },
        { .name = "big.example.", .type = DNS_A, .rr = { "big.example. 2147483647 IN A 192.0.2.1" },
          .text = "192.0.2.1;", .ttl_s = DNS_TTL_MAX_S },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct reply *c = &cases[i];
        size_t n;
        uint8_t *wire = make(c, &n);
        struct buf text = BUF_INIT(4096);
        struct dns_answer *a = dns_parse_packet(wire, n, span_cstr(c->name), c->type);
        assert_non_null(a);
        for (size_t k = 0; k < a->count; k++)
            show(&a->rr[k], &text);
        if (a->status != c->status || strcmp(buf_cstr(&text), c->text ? c->text : "") != 0 || a->secure != c->ad ||
            dns_answer_ttl_s(a) != c->ttl_s || (c->final_name && strcmp(a->final_name, c->final_name) != 0) ||
            (a->status != DNS_OK) != (a->why[0] != '\0'))
            fail_msg("case %zu, %s type %d: status %d, records %s, secure %d, ttl %u, final name %s, why %s", i, c->name,
                     c->type, a->status, buf_cstr(&text), a->secure, dns_answer_ttl_s(a), a->final_name, a->why);
        dns_answer_unref(&a);
        assert_null(a);
        /* Cut anywhere it is a reply that is broken, or no reply: never records that are not in it. */
        for (size_t cut = 0; cut < n; cut++) {
            uint8_t *part = malloc(cut + 1); /* its own block, so that reading beyond it is seen */
            memcpy(part, wire, cut);
            a = dns_parse_packet(part, cut, span_cstr(c->name), c->type);
            if (a && a->status == DNS_OK)
                fail_msg("case %zu cut at %zu is taken for whole", i, cut);
            dns_answer_unref(&a);
            free(part);
        }
        buf_free(&text);
        free(wire);
    }
}

static void replies_to_other_questions_are_not_ours(void **state)
{
    (void)state;
    static const struct reply c = { .name = "a.example.", .type = DNS_A, .rr = { "a.example. 60 IN A 192.0.2.1" } };
    size_t n;
    uint8_t *wire = make(&c, &n);
    struct dns_question q;
    assert_true(dns_question_init(&q, SPAN_LIT("A.Example"), DNS_A));
    wire[0] = 0x12, wire[1] = 0x34;
    assert_true(dns_packet_is_reply(wire, n, &q, 0x1234));
    assert_false(dns_packet_is_reply(wire, n, &q, 0x1235));
    assert_null(dns_parse_packet(wire, n, SPAN_LIT("b.example"), DNS_A));
    assert_null(dns_parse_packet(wire, n, SPAN_LIT("a.example"), DNS_AAAA));
    assert_null(dns_parse_packet(wire, n, SPAN_LIT("a.exampl"), DNS_A));
    wire[2] &= 0x7f; /* a question, not a reply */
    assert_null(dns_parse_packet(wire, n, SPAN_LIT("a.example"), DNS_A));
    wire[2] |= 0x82; /* truncated */
    assert_null(dns_parse_packet(wire, n, SPAN_LIT("a.example"), DNS_A));
    free(wire);
}

static void resolver_lists(void **state)
{
    (void)state;
    static const struct { const char *in, *want; /* NULL: refused */ } cases[] = {
        { "127.0.0.1", "127.0.0.1 53 trusted;" },
        { "192.0.2.1:5353, [::1]:54 [2001:db8::1]", "192.0.2.1 5353;::1 54 trusted;2001:db8::1 53;" },
        { "2001:db8::1", "2001:db8::1 53;" },
        { "localhost", NULL }, { "1.2.3.4:0", NULL }, { "1.2.3.4:x", NULL }, { "[::1", NULL },
        { "1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4 1.1.1.5 1.1.1.6 1.1.1.7 1.1.1.8 1.1.1.9", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = ERR_INIT;
        struct buf b = BUF_INIT(1000);
        char text[IP_TEXT_MAX];
        struct dns_servers *s = dns_servers_new(&(struct dns_options){ .resolvers = cases[i].in }, "/nonexistent", &e);
        for (size_t k = 0; s && k < s->count; k++)
            buf_printf(&b, "%s %u%s;", ip_print(&s->s[k].ip, text), s->s[k].port, s->s[k].trusted ? " trusted" : "");
        if ((s != NULL) != (cases[i].want != NULL) || (s && strcmp(buf_cstr(&b), cases[i].want) != 0))
            fail_msg("\"%s\": %s %s", cases[i].in, buf_cstr(&b), e.text);
        buf_free(&b);
        dns_servers_unref(&s);
    }
}

static void resolv_conf(void **state)
{
    (void)state;
    static const char text[] = "# comment\nsearch example.org\nnameserver 192.0.2.53\nnameserver ::1\nnameserver junk\n"
                               "options edns0 timeout:2 attempts:1 trust-ad\n";
    char path[] = "/tmp/test_resolv.XXXXXX";
    struct err e = ERR_INIT;
    int fd = mkstemp(path);
    assert_true(fd >= 0 && io_write_all(fd, text, sizeof text - 1));
    io_close(&fd);
    struct dns_servers *s = dns_servers_new(&(struct dns_options){ .resolvers = "" }, path, &e);
    assert_non_null(s);
    assert_int_equal(s->count, 2);
    assert_int_equal(s->timeout_ms, 2000);
    assert_int_equal(s->tries, 2);
    assert_true(s->s[0].trusted && s->s[1].trusted);
    dns_servers_unref(&s);
    assert_int_equal(unlink(path), 0);
    s = dns_servers_new(&(struct dns_options){ .resolvers = NULL }, path, &e); /* none: this machine */
    assert_non_null(s);
    assert_true(s->count == 1 && s->s[0].ip.b[0] == 127 && s->s[0].port == 53);
    dns_servers_unref(&s);
}

static void servers_that_failed_are_asked_last(void **state)
{
    (void)state;
    struct dns_servers s = { .count = 3 };
    assert_int_equal(dns_servers_pick(&s, SIZE_MAX, 1000), 0);
    assert_int_equal(dns_servers_pick(&s, 0, 1000), 1);
    assert_int_equal(dns_servers_pick(&s, 2, 1000), 0);
    s.s[0].bad_until_ms = 2000;
    assert_int_equal(dns_servers_pick(&s, SIZE_MAX, 1000), 1);
    assert_int_equal(dns_servers_pick(&s, 2, 1000), 1);
    assert_int_equal(dns_servers_pick(&s, SIZE_MAX, 2000), 0);
    s.s[1].bad_until_ms = s.s[2].bad_until_ms = 2000;
    assert_int_equal(dns_servers_pick(&s, 0, 1000), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(question_names),
        cmocka_unit_test(host_names),
        cmocka_unit_test(reverse_names),
        cmocka_unit_test(query_packet_is_read_by_ldns),
        cmocka_unit_test(answers_mean_what_they_say),
        cmocka_unit_test(replies_to_other_questions_are_not_ours),
        cmocka_unit_test(resolver_lists),
        cmocka_unit_test(resolv_conf),
        cmocka_unit_test(servers_that_failed_are_asked_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

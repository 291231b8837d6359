/*
 * smtpd_dns_reply_filter and its like: answers of a resolver as the text that tables are asked for. The first byte picks the question,
 * the second the number of records; the rest is behind the question of a real reply.
 */
#include "common/base/mem.h"
#include "common/dns/dns_internal.h"
#include "common/table/dns_filter.h"
#include "tests/fuzz/fuzz.h"

static const enum dns_type types[] = { DNS_A, DNS_MX, DNS_TXT, DNS_AAAA, DNS_TLSA };

static unsigned flags_of(void *arg, struct span spec)
{
    (void)arg;
    (void)spec;
    return TABLE_BYTES; /* as for these parameters */
}

static size_t left_by(struct table_registry *reg, const char *list, struct dns_answer *a, bool *is_failed)
{
    struct maps *m = maps_open(reg, span_cstr(list), flags_of, NULL, NULL, NULL);
    struct dns_filter f = { .maps = m };
    struct dns_answer *left = dns_filter_apply(&f, a);
    size_t n = left->count;
    *is_failed = left->status == DNS_TEMPFAIL;
    CHECK(n <= a->count && (n > 0) == (left->status == DNS_OK));
    dns_answer_unref(&left);
    maps_close(&m);
    return n;
}

static void filter(struct dns_answer *a)
{
    struct table_registry *reg = table_registry_new(NULL);
    bool is_failed;
    if (a->status == DNS_OK) {
        CHECK(left_by(reg, "inline:{x=y}", a, &is_failed) == a->count && !is_failed);
        CHECK(left_by(reg, "static:IGNORE", a, &is_failed) == 0 && is_failed);
        CHECK(left_by(reg, "static:other", a, &is_failed) == 0 && is_failed);
        CHECK(left_by(reg, "fail:x", a, &is_failed) == 0 && is_failed);
        /* whatever the peer writes into names and texts, our words are in front */
        CHECK(left_by(reg, "regexp:{{/^[^ ]*\\. [0-9]+ IN (A|AAAA|MX|TXT|TLSA) / IGNORE}}", a, &is_failed) == 0 && is_failed);
    }
    table_registry_unref(&reg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t packet[9000];
    struct dns_question q;
    if (size < 2 || size > 8000)
        return 0;
    size_t which = data[0] % ARRAY_LEN(types);
    CHECK(dns_question_init(&q, SPAN_LIT("a.example"), types[which]));
    size_t n = dns_packet_query(&q, 1, false, packet);
    packet[2] = 0x81;
    packet[3] = 0x80;
    packet[7] = data[1] & 15;
    memcpy(packet + n, data + 2, size - 2);
    struct dns_answer *a = dns_parse_packet(packet, n + size - 2, SPAN_LIT("a.example"), types[which]);
    if (a != NULL)
        filter(a);
    dns_answer_unref(&a);
    return 0;
}

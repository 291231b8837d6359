/*
 * Answers of a resolver. The first byte picks the question; the header and question of a real reply are put in front,
 * or half of the mutations would end at the comparison with the question.
 */
#include "common/dns/dns_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum dns_type types[] = { DNS_A, DNS_NS, DNS_CNAME, DNS_PTR, DNS_MX, DNS_TXT, DNS_AAAA, DNS_SRV, DNS_TLSA };

/* Every byte an answer points to is read, so that the sanitizer sees a wrong pointer. */
static size_t touch(const struct dns_answer *a)
{
    size_t n = strlen(a->qname) + strlen(a->final_name) + strlen(a->why);
    for (size_t i = 0; i < a->count; i++) {
        const struct dns_rr *rr = &a->rr[i];
        n += strlen(rr->owner);
        if (rr->type == DNS_MX)
            n += strlen(rr->mx.host);
        else if (rr->type == DNS_SRV)
            n += strlen(rr->srv.host);
        else if (rr->type == DNS_NS || rr->type == DNS_CNAME || rr->type == DNS_PTR)
            n += strlen(rr->name);
        else if (rr->type == DNS_TXT || rr->type == DNS_TLSA) {
            struct span s = rr->type == DNS_TXT ? rr->txt : rr->tlsa.data;
            for (size_t k = 0; k < s.n; k++)
                n += (unsigned char)s.p[k];
        }
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char name[] = "a.example";
    uint8_t packet[70000];
    struct dns_question q;
    if (size < 3 || size > 65000)
        return 0;
    enum dns_type type = types[data[0] % ARRAY_LEN(types)];
    struct dns_answer *a = dns_parse_packet(data + 1, size - 1, SPAN_LIT(name), type);
    if (a && touch(a) == SIZE_MAX)
        abort();
    dns_answer_unref(&a);

    if (!dns_question_init(&q, SPAN_LIT(name), type))
        abort();
    size_t n = dns_packet_query(&q, 1, false, packet);
    packet[2] = 0x81;
    packet[3] = 0x80 | (data[1] & 0x2f);
    packet[7] = data[1] >> 6;
    packet[9] = data[2] & 3;
    packet[11] = data[2] >> 6;
    memcpy(packet + n, data + 3, size - 3);
    a = dns_parse_packet(packet, n + size - 3, SPAN_LIT(name), type);
    if (a && touch(a) == SIZE_MAX)
        abort();
    dns_answer_unref(&a);
    return 0;
}

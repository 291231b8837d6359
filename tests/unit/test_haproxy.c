/* Headers of the PROXY protocol, whole and cut at every byte. */
#include "tests/unit/unit.h"
#include <string.h>
#include "common/net/haproxy.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xc0\0\x02\x01" "\xc0\0\x02\x02" "\x04\xd2" "\0\x19"
#define V6 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01" "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02" "\x04\xd2" "\0\x19"
#define MAPPED "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01"
#define IN(s) { s, sizeof(s) - 1 }

struct header {
    const char *name;
    struct span in;
    enum haproxy_status want;
    enum haproxy_kind kind;
    const char *src;
    uint16_t port;
    size_t behind, more; /* bytes of in that are not of the header; bytes of the header that are not in `bytes` */
};

static const struct header headers[] = {
    { "v1", IN("PROXY TCP4 192.0.2.1 192.0.2.2 1234 25\r\n"), HAPROXY_OK, HAPROXY_CLIENT, "192.0.2.1", 1234, 0, 0 },
    { "v1 and more", IN("PROXY TCP4 192.0.2.1 192.0.2.2 1234 25\r\nEHLO x\r\n"), HAPROXY_OK, HAPROXY_CLIENT, "192.0.2.1", 1234, 8, 0 },
    { "v1 IPv6", IN("PROXY TCP6 2001:db8::1 2001:db8::2 1234 25\r\n"), HAPROXY_OK, HAPROXY_CLIENT, "2001:db8::1", 1234, 0, 0 },
    { "v1 mapped", IN("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 25\r\n"), HAPROXY_OK, HAPROXY_CLIENT, "192.0.2.1", 1, 0, 0 },
    { "v1 unknown", IN("PROXY UNKNOWN any thing\r\n"), HAPROXY_OK, HAPROXY_UNKNOWN, NULL, 0, 0, 0 },
    { "v1 wrong family", IN("PROXY TCP6 192.0.2.1 ::1 1234 25\r\n"), HAPROXY_BAD, 0, NULL, 0, 0, 0 },
    { "v1 zone", IN("PROXY TCP6 fe80::1%lo ::1 1234 25\r\n"), HAPROXY_BAD, 0, NULL, 0, 0, 0 },
    { "v1 port", IN("PROXY TCP4 192.0.2.1 192.0.2.2 65536 25\r\n"), HAPROXY_BAD, 0, NULL, 0, 0, 0 },
    { "v1 port sign", IN("PROXY TCP4 192.0.2.1 192.0.2.2 +1 25\r\n"), HAPROXY_BAD, 0, NULL, 0, 0, 0 },
    { "v1 port zeros", IN("PROXY TCP4 192.0.2.1 192.0.2.2 01 25\r\n"), HAPROXY_BAD, 0, NULL, 0, 0, 0 },
    { "v1 too few", IN("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"), HAPROXY_BAD, 0, NULL, 0, 0, 0 },
    { "v1 protocol", IN("PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n"), HAPROXY_BAD, 0, NULL, 0, 0, 0 },
    { "smtp", IN("EHLO x\r\n"), HAPROXY_NONE, 0, NULL, 0, 0, 0 },
    { "nearly", IN("PROXYX"), HAPROXY_NONE, 0, NULL, 0, 0, 0 },
    { "v2", IN(SIG "\x21\x11\0\x0c" V4), HAPROXY_OK, HAPROXY_CLIENT, "192.0.2.1", 1234, 0, 0 },
    { "v2 and more", IN(SIG "\x21\x11\0\x0c" V4 "\x16\x03"), HAPROXY_OK, HAPROXY_CLIENT, "192.0.2.1", 1234, 2, 0 },
    { "v2 TLV", IN(SIG "\x21\x11\0\x0f" V4 "\x04\0\0"), HAPROXY_OK, HAPROXY_CLIENT, "192.0.2.1", 1234, 3, 3 },
    { "v2 IPv6", IN(SIG "\x21\x21\0\x24" V6), HAPROXY_OK, HAPROXY_CLIENT, "2001:db8::1", 1234, 0, 0 },
    { "v2 mapped", IN(SIG "\x21\x21\0\x24" MAPPED MAPPED "\0\x01\0\x19"), HAPROXY_OK, HAPROXY_CLIENT, "192.0.2.1", 1, 0, 0 },
    { "v2 local", IN(SIG "\x20\x11\0\x0c" V4), HAPROXY_OK, HAPROXY_LOCAL, NULL, 0, 12, 12 },
    { "v2 unspecified", IN(SIG "\x21\0\0\0"), HAPROXY_OK, HAPROXY_UNKNOWN, NULL, 0, 0, 0 },
    { "v2 unix", IN(SIG "\x21\x31\0\xd8"), HAPROXY_OK, HAPROXY_UNKNOWN, NULL, 0, 0, 216 },
    { "v2 datagrams", IN(SIG "\x21\x12\0\x0c" V4), HAPROXY_BAD, 0, NULL, 0, 0, 0 },
    { "v2 short", IN(SIG "\x21\x11\0\x0b" V4), HAPROXY_BAD, 0, NULL, 0, 0, 0 },
    { "v2 version", IN(SIG "\x11\x11\0\x0c" V4), HAPROXY_BAD, 0, NULL, 0, 0, 0 },
    { "v2 command", IN(SIG "\x22\x11\0\x0c" V4), HAPROXY_BAD, 0, NULL, 0, 0, 0 },
};

static void check(const struct header *t)
{
    struct haproxy_header h;
    const char *why = NULL;
    char text[IP_TEXT_MAX];
    enum haproxy_status got = haproxy_parse(t->in, &h, &why);
    if (got != t->want)
        fail_msg("%s: %d, not %d", t->name, (int)got, (int)t->want);
    if (got == HAPROXY_BAD && why == NULL)
        fail_msg("%s: no reason", t->name);
    if (got != HAPROXY_OK)
        return;
    if (h.kind != t->kind || h.bytes != t->in.n - t->behind || h.more != t->more)
        fail_msg("%s: kind %d, %zu bytes and %zu more", t->name, (int)h.kind, h.bytes, h.more);
    if (t->src != NULL && (strcmp(ip_print(&h.src, text), t->src) != 0 || h.src_port != t->port))
        fail_msg("%s: %s port %u", t->name, text, h.src_port);
}

static void test_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        check(&headers[i]);
}

/* What is cut anywhere in front of its end wants more, and is never taken for something else. */
static void test_cut_headers(void **state)
{
    (void)state;
    struct haproxy_header h;
    const char *why;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        const struct header *t = &headers[i];
        if (t->want != HAPROXY_OK)
            continue;
        for (size_t n = 0; n < t->in.n - t->behind; n++)
            if (haproxy_parse(span_of(t->in.p, n), &h, &why) != HAPROXY_MORE)
                fail_msg("%s cut to %zu bytes", t->name, n);
    }
}

static void test_line_without_end(void **state)
{
    (void)state;
    char line[HAPROXY_V1_MAX + 1];
    struct haproxy_header h;
    const char *why;
    memset(line, 'x', sizeof line);
    memcpy(line, "PROXY UNKNOWN ", 14);
    assert_int_equal(haproxy_parse(span_of(line, HAPROXY_V1_MAX - 1), &h, &why), HAPROXY_MORE);
    assert_int_equal(haproxy_parse(span_of(line, HAPROXY_V1_MAX), &h, &why), HAPROXY_BAD);
    line[HAPROXY_V1_MAX - 1] = '\n';
    assert_int_equal(haproxy_parse(span_of(line, sizeof line), &h, &why), HAPROXY_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_cut_headers),
        cmocka_unit_test(test_line_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

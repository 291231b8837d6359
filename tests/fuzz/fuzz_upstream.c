/*
 * What proxies and filters in front say of the client: the header of the PROXY protocol, the attributes of XCLIENT and XFORWARD.
 * The first byte chooses. A header means the same whatever stands behind it, and no part of one is a whole one or none; values of
 * attributes are fit for a header field and a log line, and so is what the client is told of those that are not.
 */
#include "common/net/haproxy.h"
#include "daemon/smtpd/xattr.h"
#include "tests/fuzz/fuzz.h"

static void header(struct span in)
{
    struct haproxy_header h = { 0 }, again = { 0 };
    const char *why = NULL;
    enum haproxy_status got = haproxy_parse(in, &h, &why);
    CHECK(got != HAPROXY_BAD || why != NULL);
    if (got != HAPROXY_OK)
        return;
    CHECK(h.bytes > 0 && h.bytes <= in.n && h.more <= UINT16_MAX);
    CHECK(h.kind != HAPROXY_CLIENT || (h.src.family != IP_NONE && h.dst.family != IP_NONE));
    CHECK(h.kind == HAPROXY_CLIENT || (h.src.family == IP_NONE && h.src_port == 0));
    for (size_t n = 0; n < h.bytes; n++)
        CHECK(haproxy_parse(span_of(in.p, n), &again, &why) == HAPROXY_MORE);
    CHECK(haproxy_parse(span_of(in.p, h.bytes), &again, &why) == HAPROXY_OK);
    CHECK(again.kind == h.kind && again.bytes == h.bytes && again.more == h.more && ip_eq(&again.src, &h.src) &&
          ip_eq(&again.dst, &h.dst) && again.src_port == h.src_port && again.dst_port == h.dst_port);
}

static void check_value(const struct xattrs *x, enum xattr_id id)
{
    struct span v = x->text[id];
    CHECK(xattr_has(x, id) || v.n == 0);
    CHECK(v.n <= XATTR_VALUE_MAX);
    for (size_t i = 0; i < v.n; i++)
        CHECK(ascii_is_print(v.p[i]) || v.p[i] == ' ');
    if (id == XATTR_HELO || id == XATTR_IDENT || id == XATTR_NAME)
        CHECK(v.n == 0 || (span_find(v, '<') < 0 && span_find(v, ')') < 0 && span_find(v, '"') < 0));
}

static void attributes(struct span in, enum xattr_verb verb, bool has_v6)
{
    const struct xattr_rules rules = { .verb = verb, .has_v4 = true, .has_v6 = has_v6 };
    struct arena *a = arena_new(0);
    struct xattrs x;
    struct span why;
    bool ok = xattr_parse(&rules, in, a, &x, &why);
    CHECK(ok == (why.n == 0));
    CHECK(!fuzz_has_control(why));
    for (int i = 0; ok && i < XATTR_COUNT; i++)
        check_value(&x, (enum xattr_id)i);
    if (ok) {
        CHECK(x.given != 0);
        CHECK(has_v6 || (x.addr[0].family != IP_V6 && x.addr[1].family != IP_V6));
        CHECK(x.addr[0].family == IP_NONE || x.text[XATTR_ADDR].n > 0);
        CHECK(verb == XATTR_XCLIENT || (x.given & (1u << XATTR_LOGIN | 1u << XATTR_DESTADDR)) == 0);
    }
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of((const char *)data, n);
    if (n == 0 || n > 8192)
        return 0;
    uint8_t how = fuzz_byte(&in);
    if ((how & 3) == 0)
        header(in);
    else
        attributes(in, (how & 1) != 0 ? XATTR_XCLIENT : XATTR_XFORWARD, (how & 4) != 0);
    return 0;
}

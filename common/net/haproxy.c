#include "common/base/ascii.h"
#include "common/base/num.h"
#include "common/net/haproxy.h"

static const char signature[12] = { '\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n' };

enum { V2_FIXED = 16, V2_TCP4 = 0x11, V2_TCP6 = 0x21, V2_TCP4_BYTES = 12, V2_TCP6_BYTES = 36 };

/* Does `in` begin as `prefix` does, as far as it goes? */
static bool begins_like(struct span in, const char *prefix, size_t n)
{
    return memcmp(in.p, prefix, in.n < n ? in.n : n) == 0;
}

static enum haproxy_status bad(const char **why, const char *text)
{
    *why = text;
    return HAPROXY_BAD;
}

/* ---- version 1: "PROXY TCP4 src dst sport dport" CRLF ---- */

static bool take_address(struct span *rest, uint8_t family, struct ip_addr *out)
{
    struct span word;
    if (!span_next_token(rest, " ", &word) || (span_find(word, ':') >= 0) != (family == IP_V6))
        return false;
    return ip_parse(word, out) && out->scope == 0; /* a mapped address becomes IPv4 */
}

static bool take_port(struct span *rest, uint16_t *out)
{
    struct span word;
    int64_t n;
    if (!span_next_token(rest, " ", &word) || !ascii_is_digit(word.p[0]) || (word.n > 1 && word.p[0] == '0') ||
        !num_parse(word, 0, UINT16_MAX, &n))
        return false;
    *out = (uint16_t)n;
    return true;
}

static enum haproxy_status parse_v1(struct span in, struct haproxy_header *out, const char **why)
{
    struct span rest, proto;
    size_t n = in.n < HAPROXY_V1_MAX ? in.n : HAPROXY_V1_MAX;
    const char *lf = memchr(in.p, '\n', n);
    if (lf == NULL)
        return n < HAPROXY_V1_MAX ? HAPROXY_MORE : bad(why, "the line is too long");
    *out = (struct haproxy_header){ .bytes = (size_t)(lf + 1 - in.p) };
    rest = span_trim(span_of(in.p + 6, out->bytes - 6));
    if (!span_next_token(&rest, " ", &proto))
        return bad(why, "no protocol");
    if (span_eq(proto, SPAN_LIT("UNKNOWN"))) {
        out->kind = HAPROXY_UNKNOWN;
        return HAPROXY_OK;
    }
    bool is_v6 = span_eq(proto, SPAN_LIT("TCP6"));
    if (!is_v6 && !span_eq(proto, SPAN_LIT("TCP4")))
        return bad(why, "the protocol is none of TCP4, TCP6, UNKNOWN");
    uint8_t family = is_v6 ? IP_V6 : IP_V4;
    if (!take_address(&rest, family, &out->src))
        return bad(why, "bad or missing client address");
    if (!take_address(&rest, family, &out->dst))
        return bad(why, "bad or missing server address");
    if (!take_port(&rest, &out->src_port))
        return bad(why, "bad or missing client port");
    return take_port(&rest, &out->dst_port) ? HAPROXY_OK : bad(why, "bad or missing server port");
}

/* ---- version 2 ---- */

static uint16_t get_u16(const char *p)
{
    return (uint16_t)((unsigned char)p[0] << 8 | (unsigned char)p[1]);
}

static void take_v4(const char *p, struct haproxy_header *out)
{
    struct in_addr a[2];
    memcpy(a, p, sizeof a);
    out->src = ip_from_v4(a[0]);
    out->dst = ip_from_v4(a[1]);
    out->src_port = get_u16(p + 8);
    out->dst_port = get_u16(p + 10);
}

static void take_v6(const char *p, struct haproxy_header *out)
{
    struct in6_addr a[2];
    memcpy(a, p, sizeof a);
    out->src = ip_from_v6(a[0]);
    out->dst = ip_from_v6(a[1]);
    out->src_port = get_u16(p + 32);
    out->dst_port = get_u16(p + 34);
}

/* The addresses themselves; `length` bytes follow the fixed part. */
static enum haproxy_status parse_v2_client(struct span in, size_t length, struct haproxy_header *out, const char **why)
{
    unsigned family = (unsigned char)in.p[13];
    size_t want = family == V2_TCP4 ? V2_TCP4_BYTES : family == V2_TCP6 ? V2_TCP6_BYTES : 0;
    if (want == 0) {
        if ((family & 0x0f) == 2) /* an SMTP connection is none of datagrams */
            return bad(why, "unsupported network protocol");
        out->kind = HAPROXY_UNKNOWN;
        return HAPROXY_OK;
    }
    if (length < want)
        return bad(why, "short address field");
    if (in.n < V2_FIXED + want)
        return HAPROXY_MORE;
    if (family == V2_TCP4)
        take_v4(in.p + V2_FIXED, out);
    else
        take_v6(in.p + V2_FIXED, out);
    out->bytes += want;
    out->more -= want;
    return HAPROXY_OK;
}

static enum haproxy_status parse_v2(struct span in, struct haproxy_header *out, const char **why)
{
    if (in.n < V2_FIXED)
        return HAPROXY_MORE;
    unsigned command = (unsigned char)in.p[12];
    size_t length = get_u16(in.p + 14);
    *out = (struct haproxy_header){ .bytes = V2_FIXED, .more = length };
    if (command >> 4 != 2)
        return bad(why, "unrecognized protocol version");
    if (command == 0x20) {
        out->kind = HAPROXY_LOCAL;
        return HAPROXY_OK;
    }
    return command == 0x21 ? parse_v2_client(in, length, out, why) : bad(why, "bad command");
}

enum haproxy_status haproxy_parse(struct span in, struct haproxy_header *out, const char **why)
{
    if (in.n == 0)
        return HAPROXY_MORE;
    if (begins_like(in, "PROXY ", 6))
        return in.n <= 6 ? HAPROXY_MORE : parse_v1(in, out, why);
    if (begins_like(in, signature, sizeof signature))
        return parse_v2(in, out, why);
    return HAPROXY_NONE;
}

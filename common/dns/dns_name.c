/*
 * A question carries its name twice, as text (cache key, answers) and in wire form (packet, comparison). Both come
 * from one pass, so they cannot differ.
 */
#include <arpa/inet.h>
#include <idn2.h>

#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/dns/dns_internal.h"

/* Bytes a label may have in text: no dot, blank, control, backslash (the escape of zone files) or 8-bit. */
static bool is_plain(uint8_t c)
{
    return c > 0x20 && c < 0x7f && c != '.' && c != '\\';
}

/* ASCII text without trailing dot to q->name and q->wire. */
static bool encode(struct dns_question *q, struct span s)
{
    size_t out = 0, start = 0;
    if (s.n > DNS_NAME_WIRE_MAX - 2)
        return false;
    for (size_t i = 0; i <= s.n && s.n > 0; i++) {
        if (i < s.n && s.p[i] != '.') {
            if (!is_plain((uint8_t)s.p[i]))
                return false;
            continue;
        }
        size_t n = i - start;
        if (n == 0 || n > 63)
            return false;
        q->wire[out++] = (uint8_t)n;
        memcpy(q->wire + out, s.p + start, n);
        ascii_lower_buf((char *)q->wire + out, n);
        out += n;
        start = i + 1;
    }
    q->wire[out++] = 0;
    memcpy(q->wire + out, (uint8_t[]){ (uint8_t)(q->type >> 8), (uint8_t)q->type, 0, 1 }, 4);
    q->wire_n = (uint16_t)(out + 4);
    q->name_n = (uint16_t)s.n;
    memcpy(q->name, s.n ? s.p : "", s.n);
    q->name[s.n] = '\0';
    ascii_lower_buf(q->name, s.n);
    return true;
}

static bool encode_idn(struct dns_question *q, struct span s)
{
    char utf8[1024];
    uint8_t *ascii = NULL;
    if (s.n >= sizeof utf8 || memchr(s.p, '\0', s.n))
        return false;
    memcpy(utf8, s.p, s.n);
    utf8[s.n] = '\0';
    int rc = idn2_lookup_u8((const uint8_t *)utf8, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    if (rc == IDN2_MALLOC) /* not "no such name" */
        mem_exhausted();
    bool ok = rc == IDN2_OK && encode(q, span_cstr((const char *)ascii));
    idn2_free(ascii);
    return ok;
}

bool dns_question_init(struct dns_question *q, struct span name, enum dns_type type)
{
    q->type = (uint16_t)type;
    if (name.n == 0)
        return false;
    if (name.p[name.n - 1] == '.' && (name.n == 1 || name.p[name.n - 2] != '.'))
        name.n--;
    for (size_t i = 0; i < name.n; i++)
        if (ascii_is_8bit(name.p[i]))
            return encode_idn(q, name);
    return encode(q, name);
}

bool dns_name_text(struct span name, char out[static 256])
{
    struct dns_question q;
    if (!dns_question_init(&q, name, DNS_A))
        return false;
    memcpy(out, q.name, q.name_n + 1u);
    return true;
}

bool dns_name_from_wire(const uint8_t *p, size_t n, char out[static DNS_NAME_TEXT_MAX])
{
    size_t at = 0, o = 0;
    while (at < n && p[at] != 0) {
        size_t len = p[at++];
        if (len > 63 || len > n - at || o + len + 2 > DNS_NAME_TEXT_MAX)
            return false;
        if (o > 0)
            out[o++] = '.';
        for (size_t i = 0; i < len; i++) {
            if (!is_plain(p[at + i]))
                return false;
            out[o++] = ascii_lower((char)p[at + i]);
        }
        at += len;
    }
    out[o] = '\0';
    return at < n;
}

bool dns_name_is_host(const char *name)
{
    char before = '.';
    if (*name == '\0' || ip_looks_like(span_cstr(name)))
        return false;
    for (const char *c = name; *c; before = *c++) {
        if (*c == '.' ? before == '-' || before == '.' : !ascii_is_alnum(*c) && *c != '-' && *c != '_')
            return false;
        if (*c == '-' && before == '.')
            return false;
    }
    return before != '-';
}

void dns_reverse_name(const struct sockaddr_storage *ss, char *out, size_t out_size)
{
    struct ip_addr a;
    struct buf b = BUF_INIT(out_size - 1);
    out[0] = '\0';
    if (!ip_from_sockaddr((const struct sockaddr *)ss, &a, NULL))
        return;
    if (a.family == IP_V4) {
        buf_printf(&b, "%u.%u.%u.%u.in-addr.arpa", a.b[3], a.b[2], a.b[1], a.b[0]);
    } else {
        for (int i = 15; i >= 0; i--)
            buf_printf(&b, "%x.%x.", a.b[i] & 15u, a.b[i] >> 4);
        buf_puts(&b, "ip6.arpa");
    }
    if (buf_ok(&b))
        memcpy(out, buf_cstr(&b), b.n + 1);
    buf_free(&b);
}

#include "common/base/ascii.h"
#include "common/base/num.h"
#include "common/mail/xtext.h"

static const char hex[] = "0123456789ABCDEF";

static bool is_xchar(char c)
{
    return c > 32 && c < 127 && c != '+' && c != '=';
}

void xtext_encode(struct buf *b, struct span plain)
{
    for (size_t i = 0; i < plain.n; i++) {
        char c = plain.p[i];
        if (is_xchar(c)) {
            buf_putc(b, c);
        } else {
            const char code[3] = { '+', hex[(unsigned char)c >> 4], hex[c & 15] };
            buf_add(b, code, sizeof code);
        }
    }
}

bool xtext_decode(struct span coded, bool utf8, struct arena *a, struct span *out)
{
    char *p = arena_alloc(a, coded.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < coded.n; i++) {
        char c = coded.p[i];
        if (c == '+') {
            int hi = i + 1 < coded.n ? ascii_hex_value(coded.p[i + 1]) : -1;
            int lo = i + 2 < coded.n ? ascii_hex_value(coded.p[i + 2]) : -1;
            if (hi < 0 || lo < 0)
                return false;
            c = (char)(hi * 16 + lo);
            i += 2;
        } else if (!is_xchar(c) && c != '=' && !(utf8 && ascii_is_8bit(c))) {
            return false;
        }
        p[n++] = c;
    }
    *out = span_of(p, n);
    return true;
}

static size_t put_utf8(char *p, uint32_t u)
{
    if (u < 0x80) {
        p[0] = (char)u;
        return 1;
    }
    size_t len = u < 0x800 ? 2 : u < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    for (size_t i = len - 1; i > 0; i--) {
        p[i] = (char)(0x80 | (u & 0x3f));
        u >>= 6;
    }
    p[0] = (char)(lead[len] | u);
    return len;
}

/* s is behind "\x{"; returns the bytes used including '}', 0 when malformed. */
static size_t read_codepoint(struct span s, uint32_t *u)
{
    uint64_t v;
    ptrdiff_t end = span_find(s, '}');
    if (end < 2 || end > 6 || !num_parse_hex(span_of(s.p, (size_t)end), &v))
        return 0;
    bool needless = v > 32 && v < 127 && v != '\\' && v != '+' && v != '=';
    if (needless || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
        return 0;
    *u = (uint32_t)v;
    return (size_t)end + 1;
}

bool xtext_decode_unitext(struct span coded, struct arena *a, struct span *out)
{
    char *p = arena_alloc(a, coded.n + 1); /* \x{NN} is never shorter than what it stands for */
    size_t n = 0;
    for (size_t i = 0; i < coded.n;) {
        if (coded.p[i] != '\\') {
            p[n++] = coded.p[i++];
            continue;
        }
        uint32_t u;
        struct span rest = span_from(coded, i + 3);
        size_t used = span_starts_with(span_from(coded, i), SPAN_LIT("\\x{")) ? read_codepoint(rest, &u) : 0;
        if (used == 0)
            return false;
        n += put_utf8(p + n, u);
        i += 3 + used;
    }
    *out = span_of(p, n);
    return true;
}

void xtext_encode_unitext(struct buf *b, struct span utf8)
{
    for (size_t i = 0; i < utf8.n;) {
        unsigned char c = (unsigned char)utf8.p[i];
        if (is_xchar((char)c) && c != '\\') {
            buf_putc(b, (char)c);
            i++;
            continue;
        }
        size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
        uint32_t u = len == 1 ? c : c & (0x7fu >> len);
        for (size_t k = 1; k < len && i + k < utf8.n; k++)
            u = u << 6 | ((unsigned char)utf8.p[i + k] & 0x3f);
        buf_printf(b, "\\x{%02X}", u);
        i += len;
    }
}

#include "common/base/ascii.h"
#include "common/base/num.h"

bool num_parse(struct span s, int64_t min, int64_t max, int64_t *out)
{
    bool negative = false;
    int64_t v = 0;
    if (s.n > 0 && s.p[0] == '-' && min < 0) {
        negative = true;
        s = span_from(s, 1);
    }
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_is_digit(s.p[i]))
            return false;
        int64_t digit = s.p[i] - '0';
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, negative ? -digit : digit, &v))
            return false;
    }
    if (v < min || v > max)
        return false;
    *out = v;
    return true;
}

bool num_parse_hex(struct span s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.n == 0 || s.n > 16)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        int d = ascii_hex_value(s.p[i]);
        if (d < 0)
            return false;
        v = v << 4 | (uint64_t)d;
    }
    *out = v;
    return true;
}

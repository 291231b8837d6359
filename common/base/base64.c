#include "common/base/base64.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct span in, struct buf *out)
{
    const unsigned char *p = (const unsigned char *)in.p;
    for (size_t i = 0; i < in.n; i += 3) {
        size_t left = in.n - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0u);
        char four[4] = { digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=', left > 2 ? digits[v & 63] : '=' };
        buf_add(out, four, sizeof four);
    }
}

static int value_of(char c)
{
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

bool base64_decode(struct span in, struct buf *out)
{
    if (in.n % 4 != 0)
        return false;
    size_t pad = in.n > 0 && in.p[in.n - 1] == '=' ? 1 + (in.p[in.n - 2] == '=') : 0;
    for (size_t i = 0; i < in.n; i += 4) {
        size_t have = i + 4 == in.n ? 4 - pad : 4;
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            int d = k < have ? value_of(in.p[i + k]) : 0;
            if (d < 0)
                return false;
            v = v << 6 | (uint32_t)d;
        }
        char three[3] = { (char)(v >> 16), (char)(v >> 8), (char)v };
        buf_add(out, three, have - 1);
    }
    return true;
}

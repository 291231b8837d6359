#include <stdint.h>
#include <unicase.h>
#include <unistr.h>

#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/table/fold.h"

bool fold_is_ascii(struct span s)
{
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        uint64_t w;
        memcpy(&w, s.p + i, 8);
        if (w & UINT64_C(0x8080808080808080))
            return false;
    }
    for (; i < s.n; i++) {
        if (ascii_is_8bit(s.p[i]))
            return false;
    }
    return true;
}

bool fold_is_utf8(struct span s)
{
    return fold_is_ascii(s) || u8_check((const uint8_t *)s.p, s.n) == NULL;
}

ptrdiff_t fold_utf8(struct span s, char *out)
{
    if (fold_is_ascii(s)) {
        if (s.n > 0 && out != s.p)
            memcpy(out, s.p, s.n);
        ascii_lower_buf(out, s.n);
        return (ptrdiff_t)s.n;
    }
    if (u8_check((const uint8_t *)s.p, s.n) != NULL)
        return -1;
    size_t n = s.n * FOLD_GROWTH;
    uint8_t *r = u8_casefold((const uint8_t *)s.p, s.n, NULL, NULL, (uint8_t *)out, &n);
    if (r == NULL)
        mem_exhausted();
    if (r != (uint8_t *)out) { /* it did not fit: cannot be, and must not be believed */
        free(r);
        return -1;
    }
    return (ptrdiff_t)n;
}

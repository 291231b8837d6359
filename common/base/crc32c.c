/*
 * Uses the processor's instruction where there is one (SSE 4.2; checked once by the loader through
 * __builtin_cpu_supports), else a table of 16 entries that the preprocessor makes.
 */
#include <stdbool.h>
#include <string.h>

#include "common/base/crc32c.h"

#define STEP(c) (((c) & 1) ? ((c) >> 1) ^ 0x82F63B78u : (c) >> 1)

/* Nibble-wise table: 16 entries for the low 4 bits, so that the macro stays small. */
#define STEP4(c) STEP(STEP(STEP(STEP((uint32_t)(c)))))
static const uint32_t nibble[16] = {
    STEP4(0), STEP4(1), STEP4(2), STEP4(3), STEP4(4), STEP4(5), STEP4(6), STEP4(7),
    STEP4(8), STEP4(9), STEP4(10), STEP4(11), STEP4(12), STEP4(13), STEP4(14), STEP4(15),
};

static uint32_t crc_portable(uint32_t c, const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        c = (c >> 4) ^ nibble[c & 15];
        c = (c >> 4) ^ nibble[c & 15];
    }
    return c;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t c32, const unsigned char *p, size_t n)
{
    uint64_t c = c32;
    while (n >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = _mm_crc32_u64(c, word);
        p += 8;
        n -= 8;
    }
    uint32_t r = (uint32_t)c;
    while (n-- > 0)
        r = _mm_crc32_u8(r, *p++);
    return r;
}
#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return ~crc_sse42(~crc, p, n);
#endif
    return ~crc_portable(~crc, p, n);
}

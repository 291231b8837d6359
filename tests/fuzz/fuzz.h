/*
 * fuzz: what the fuzz targets share
 *
 * Purpose    a check that stays in every build and names itself, and the split of one input into several texts
 * Threads    the fuzzer's only
 */
#pragma once
#include <stdint.h>
#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/base/span.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHECK(x) \
    do { \
        if (!(x)) { \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #x); \
            abort(); \
        } \
    } while (0)

/* The next part of an input whose parts are ended by the byte 1; empty when there is none. */
static inline struct span fuzz_part(struct span *rest)
{
    ptrdiff_t end = span_find(*rest, 1);
    struct span part = span_of(rest->p, end < 0 ? rest->n : (size_t)end);
    *rest = span_from(*rest, end < 0 ? rest->n : (size_t)end + 1);
    return part;
}

static inline uint8_t fuzz_byte(struct span *rest)
{
    uint8_t b = rest->n > 0 ? (uint8_t)rest->p[0] : 0;
    *rest = span_from(*rest, rest->n > 0);
    return b;
}

/* CR and LF only as pairs, and one of them at the end. */
static inline bool fuzz_has_crlf_lines_only(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '\r' ? i + 1 == s.n || s.p[i + 1] != '\n' : s.p[i] == '\n' && (i == 0 || s.p[i - 1] != '\r'))
            return false;
    return s.n == 0 || s.p[s.n - 1] == '\n';
}

static inline bool fuzz_has_control(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 32 || s.p[i] == 127)
            return true;
    return false;
}

/* The next line of a server's replies, taken off *said, without its line end: "250 text" or "250-text", nothing that is not printed. */
static inline struct span fuzz_reply_line(struct span *said)
{
    ptrdiff_t lf = span_find(*said, '\n');
    CHECK(lf > 3 && said->p[lf - 1] == '\r');
    struct span line = span_of(said->p, (size_t)lf - 1);
    *said = span_from(*said, (size_t)lf + 1);
    CHECK(!fuzz_has_control(line));
    CHECK(line.p[0] >= '2' && line.p[0] <= '5' && ascii_is_digit(line.p[1]) && ascii_is_digit(line.p[2]));
    CHECK(line.n > 3 && (line.p[3] == ' ' || line.p[3] == '-'));
    return line;
}

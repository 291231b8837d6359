/* The address parser: no input may break it, and what it accepts must survive quoting and parsing again. */
#include <stdint.h>
#include <stdlib.h>
#include "common/mail/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    struct arena *a = arena_new(0);
    struct span in = span_of((const char *)data + 1, n - 1);
    unsigned flags = data[0] & 31;
    struct addr first, again;
    if (addr_path_length(in) > in.n)
        abort();
    if (addr_parse(in, flags, a, &first) == ADDR_OK && first.text.n < ADDR_MAX / 3) {
        unsigned lax = ADDR_UTF8 | ADDR_ANY_8BIT | ADDR_ANY_DOMAIN;
        struct span quoted = addr_quoted(a, first.text);
        if (addr_parse(quoted, lax, a, &again) != ADDR_OK || !span_eq(first.text, again.text) ||
            !span_eq(first.domain, again.domain))
            abort();
    }
    arena_free(&a);
    return 0;
}

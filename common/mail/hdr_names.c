#include "common/mail/hdr_names.h"

#define BETWEEN ", \t\r\n"

/* One of 32: names that begin with different letters, of either case, mostly differ. */
static uint32_t letter_bit(char c)
{
    return 1u << ((unsigned char)c & 31);
}

static uint64_t length_bit(size_t n)
{
    return UINT64_C(1) << (n & 63);
}

struct hdr_names hdr_names_of(const char *list)
{
    struct hdr_names h = { .list = list };
    struct span rest = span_cstr(list), name;
    while (span_next_token(&rest, BETWEEN, &name)) {
        h.letters |= letter_bit(name.p[0]);
        h.lengths |= length_bit(name.n);
    }
    return h;
}

bool hdr_names_has(const struct hdr_names *h, struct span name)
{
    struct span rest, item;
    if (name.n == 0 || (h->letters & letter_bit(name.p[0])) == 0 || (h->lengths & length_bit(name.n)) == 0)
        return false;
    rest = span_cstr(h->list);
    while (span_next_token(&rest, BETWEEN, &item))
        if (span_ieq(item, name))
            return true;
    return false;
}

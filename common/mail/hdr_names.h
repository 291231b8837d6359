/*
 * hdr_names: a list of names of header fields, such as message_drop_headers
 *
 * Purpose    to ask of each field whether it is in the list, which mostly costs a look at its first letter and its length
 * Threads    a value; never changed after hdr_names_of()
 * Ownership  borrows the text of the list
 * Source     postconf(5) message_drop_headers
 */
#pragma once
#include <stdint.h>
#include "common/base/span.h"

struct hdr_names {
    const char *list;  /* names between blanks or commas; NULL: none */
    uint32_t letters;  /* a bit for the first letter of each name */
    uint64_t lengths;  /* a bit for the length of each name */
};

struct hdr_names hdr_names_of(const char *list);
/* The name of a field without its colon, in any case. */
bool hdr_names_has(const struct hdr_names *h, struct span name);

/*
 * addr_list: a list of mail addresses as header fields and tables write it, taken apart and put together again
 *
 * Purpose    finds the addresses in "Joe <joe@example.com> (home), friends: a@b, c@d;" and keeps everything else, so that a
 *            field can be written again after its addresses were changed. Permissive: nothing is an error, what
 *            follows no rule stays what it is. Where a comma is missing between two addresses it is put in.
 * Source     RFC 5322 3.4 and 4.4 (groups, comments, routes); RFC 822 for '%', '!' and words in routes; the form of the result is
 *            that of Postfix's cleanup(8), which other programs have come to expect
 * Threads    values in the caller's arena; any thread
 * Limits     tokens: header_address_token_limit; what comes behind is left out, and is_cut says so
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/span.h"

enum addr_item_kind { ITEM_ATOM, ITEM_QUOTED, ITEM_LITERAL, ITEM_COMMENT, ITEM_SPECIAL, ITEM_GROUP_COLON, ITEM_ADDRESS };

struct addr_item {
    enum addr_item_kind kind;
    char special;       /* ITEM_SPECIAL */
    /*
     * ITEM_QUOTED without quotes, ITEM_LITERAL without brackets, both without backslashes; ITEM_COMMENT as it was, with
     * parentheses; ITEM_ADDRESS: local@domain in external form, route and operators as they were. It may be replaced.
     */
    struct span text;
};

struct addr_list {
    struct addr_item *items; /* in the arena */
    size_t count;
    bool is_cut;
};

/* token_limit 0: none. */
void addr_list_parse(struct span text, size_t token_limit, struct arena *a, struct addr_list *out);
/* As text, '\n' behind each comma; nothing is folded elsewhere. */
void addr_list_print(struct buf *b, const struct addr_list *l);
/* The next address from item *at on (which is moved behind it), or NULL. */
struct addr_item *addr_list_next(const struct addr_list *l, size_t *at);

/* External form as in ITEM_ADDRESS, without quotes and backslashes; the way back is addr_quoted() of common/mail. */
struct span addr_external_to_internal(struct span external, struct arena *a);

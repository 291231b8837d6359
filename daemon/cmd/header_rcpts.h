/*
 * header_rcpts: recipients out of address lists, from the command line and from a message's header (sendmail -t)
 *
 * Source     RFC 5322 3.4 (lists, groups), 3.6.6 (Resent-); sendmail(1) -t
 * Threads    values
 * Limits     RCPTS_MAX recipients
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/arena.h"
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"

#define RCPTS_MAX 100000

struct rcpt_list {
    struct arena *arena;    /* borrowed: the addresses */
    struct span *items;     /* owned; internal form, maybe without a domain */
    size_t n, cap;
};
void rcpt_list_free(struct rcpt_list *l);
/* Adds every address of "A <a@b>, c, Group: d@e, f;". False with *e: something in it is not an address. */
bool rcpts_add_list(struct rcpt_list *l, struct span text, struct err *e) MUST_CHECK;
/*
 * Adds what To, Cc and Bcc say, or only Resent-To, -Cc and -Bcc when there is one of these. `text` is a message or the start of
 * one with its whole header, lines ended by LF.
 */
bool rcpts_add_header(struct rcpt_list *l, struct span text, struct err *e) MUST_CHECK;

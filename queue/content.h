/*
 * content: the budget of message content held in memory
 *
 * Purpose    one counter for the whole process; every buffer of content is charged to it from its first byte to the
 *            free(). Who exceeds it writes to large/ (arriving) or reads from the journal (delivering).
 * Threads    any
 * Locks      MSG_CONTENT (48) guards content, content_users, content_drop and content_charged of committed messages
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/lock.h"
#include "queue/msg.h"

struct content_pool {
    _Atomic int64_t used_bytes;
    int64_t limit_bytes;        /* immutable */
    struct lock m;
};

void content_pool_init(struct content_pool *p, int64_t limit_bytes);
void content_pool_destroy(struct content_pool *p);
/* False, and nothing is charged, when the budget would be exceeded. */
bool content_pool_charge(struct content_pool *p, size_t n) MUST_CHECK;
/* The same for what is large already: an eighth of the budget is left for the beginnings of others. */
bool content_pool_charge_large(struct content_pool *p, size_t n) MUST_CHECK;
/* p may be NULL. */
void content_pool_uncharge(struct content_pool *p, size_t n);
/* More is in use than what waits for its delivery may keep: what is on disk already should not stay in memory as well. */
bool content_pool_is_tight(struct content_pool *p);

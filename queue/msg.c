/*
 * A message is one allocation, its arena, and the content buffer. The content's bytes are charged to the process-wide
 * budget in m->pool, so the last reference gives them back wherever it is dropped.
 */
#include <stdatomic.h>

#include "common/base/mem.h"
#include "queue/content.h"
#include "queue/msg.h"

#define ARENA_BLOCK 2048

struct msg *msg_new(void)
{
    struct msg *m = xcalloc(1, sizeof *m);
    atomic_init(&m->refs, 1);
    m->arena = arena_new(ARENA_BLOCK);
    return m;
}

struct msg *msg_ref(struct msg *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void msg_unref(struct msg **mp)
{
    struct msg *m = *mp;
    *mp = NULL;
    /* Release pairs with the acquire of whoever brings the count to zero: it sees all that others wrote to m. */
    if (m == NULL || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    content_pool_uncharge(m->pool, m->content_charged);
    free(m->content);
    free(m->record);
    arena_free(&m->arena);
    free(m);
}

struct msg_rcpt *msg_add_rcpt(struct msg *m)
{
    uint32_t n = m->env.rcpt_count;
    /* The capacity is the next power of two, so the array is full exactly when the count is one. */
    if ((n & (n - 1)) == 0) {
        struct msg_rcpt *r = arena_alloc(m->arena, (n ? 2 * (size_t)n : 1) * sizeof *r);
        if (n > 0)
            memcpy(r, m->env.rcpts, n * sizeof *r);
        m->env.rcpts = r;
    }
    m->env.rcpt_count = n + 1;
    return &m->env.rcpts[n];
}

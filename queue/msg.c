/*
 * A message is one allocation, its arena, and the content buffer. While it is being received the arena has room to grow
 * and holds what only the receiving leg needed; msg_pack() leaves what the queue needs, in one piece. The content's bytes are charged to the process-wide
 * budget in m->pool, so the last reference gives them back wherever it is dropped.
 */
#include <stdatomic.h>

#include "common/base/mem.h"
#include "queue/content.h"
#include "queue/msg.h"

#define ARENA_BLOCK 2048
#define LATER_BLOCK 256 /* what is learned of a packed message: routes, the reason of a deferral */

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
    /* Not after msg_pack(). The capacity is the next power of two, so the array is full exactly when the count is one. */
    if ((n & (n - 1)) == 0) {
        struct msg_rcpt *r = arena_alloc(m->arena, (n ? 2 * (size_t)n : 1) * sizeof *r);
        if (n > 0)
            memcpy(r, m->env.rcpts, n * sizeof *r);
        m->env.rcpts = r;
    }
    m->env.rcpt_count = n + 1;
    return &m->env.rcpts[n];
}

/* ---- packing ---- */

/* Copies into one piece of memory; with p == NULL it only counts. */
struct packer {
    char *p;
    size_t n;
};

static struct span pack(struct packer *k, struct span s)
{
    if (s.n == 0)
        return span_of("", 0);
    if (k->p != NULL) {
        memcpy(k->p + k->n, s.p, s.n);
        k->p[k->n + s.n] = '\0';
        s.p = k->p + k->n;
    }
    k->n += s.n + 1;
    return s;
}

/* Texts that repeat are kept once: what was given is mostly what is used, and recipients share their route. */
static struct span pack_like(struct packer *k, struct span s, struct span before, struct span packed)
{
    return s.n > 0 && span_eq(s, before) ? packed : pack(k, s);
}

static void pack_rcpts(struct packer *k, const struct envelope *e, struct msg_rcpt *out)
{
    const struct msg_rcpt *last = NULL;
    struct msg_rcpt none = { 0 }, r = none;
    for (uint32_t i = 0; i < e->rcpt_count; i++) {
        const struct msg_rcpt *from = &e->rcpts[i];
        const struct msg_route *route = last ? &last->route : &none.route;
        struct msg_route packed = r.route;
        r = *from;
        r.addr = pack(k, from->addr);
        r.orig = pack_like(k, from->orig, from->addr, r.addr);
        r.orcpt = pack(k, from->orcpt);
        r.route.transport = pack_like(k, from->route.transport, route->transport, packed.transport);
        r.route.nexthop = pack_like(k, from->route.nexthop, route->nexthop, packed.nexthop);
        r.last_dsn = pack(k, from->last_dsn);
        r.last_reason = pack(k, from->last_reason);
        r.last_mta = pack(k, from->last_mta);
        if (out != NULL)
            out[i] = r;
        last = from;
    }
}

static void pack_all(struct packer *k, const struct envelope *from, struct envelope *e, struct msg_rcpt *rcpts)
{
    *e = *from;
    e->rcpts = rcpts;
    e->sender = pack(k, from->sender);
    e->envid = pack(k, from->envid);
    e->client_name = pack(k, from->client_name);
    e->client_addr = pack(k, from->client_addr);
    e->client_port = pack(k, from->client_port);
    e->helo = pack(k, from->helo);
    e->proto = pack(k, from->proto);
    e->sasl_user = pack(k, from->sasl_user);
    e->sasl_method = pack(k, from->sasl_method);
    e->orig_id = pack(k, from->orig_id);
    e->filter = pack(k, from->filter);
    e->message_id = pack(k, from->message_id);
    pack_rcpts(k, from, rcpts);
}

void msg_pack(struct msg *m)
{
    struct arena *a = arena_new(LATER_BLOCK);
    struct envelope e;
    size_t rcpt_bytes = m->env.rcpt_count * sizeof(struct msg_rcpt);
    struct packer k = { 0 };
    pack_all(&k, &m->env, &e, NULL);
    char *p = arena_alloc(a, rcpt_bytes + k.n);
    k = (struct packer){ .p = p + rcpt_bytes };
    pack_all(&k, &m->env, &e, m->env.rcpt_count > 0 ? (struct msg_rcpt *)(void *)p : NULL);
    m->env = e;
    arena_free(&m->arena);
    m->arena = a;
}

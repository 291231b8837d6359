/*
 * Shards of open hash chains. An entry whose window has passed and that has no connection is removed when a chain is
 * walked for another reason, and by a slow sweep of one bucket per new connection, so no thread is needed.
 */
#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "daemon/smtpd/client_count.h"

#define SHARDS 16
#define BUCKETS 4096 /* per shard */

struct entry {
    struct entry *next;
    struct ip_addr addr;
    uint32_t service;
    uint32_t connections;
    uint32_t connect_rate;
    uint32_t events[CLIENT_EVENTS];
    int64_t window_end_ms;
};

struct shard {
    struct lock m;
    struct entry *buckets[BUCKETS]; /* guarded by m */
    unsigned sweep;                 /* guarded by m */
};

struct client_counts {
    atomic_uint entries;
    struct shard shards[SHARDS];
};

struct client_counts *client_counts_new(void)
{
    struct client_counts *c = xcalloc(1, sizeof *c);
    for (int i = 0; i < SHARDS; i++)
        lock_init(&c->shards[i].m, LOCK_SESSION_TABLE);
    return c;
}

void client_counts_free(struct client_counts **cp)
{
    struct client_counts *c = *cp;
    if (c == NULL)
        return;
    for (int i = 0; i < SHARDS; i++) {
        for (int b = 0; b < BUCKETS; b++)
            for (struct entry *e = c->shards[i].buckets[b], *next; e != NULL; e = next) {
                next = e->next;
                free(e);
            }
        lock_destroy(&c->shards[i].m);
    }
    free(c);
    *cp = NULL;
}

static uint32_t hash_client(uint32_t service, const struct ip_addr *a)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ service;
    for (size_t i = 0; i < (a->family == IP_V6 ? 16u : 4u); i++)
        h = (h ^ a->b[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(h ^ h >> 32);
}

static void drop_stale_locked(struct client_counts *c, struct entry **chain, int64_t now)
{
    while (*chain != NULL) {
        struct entry *e = *chain;
        if (e->connections == 0 && e->window_end_ms <= now) {
            *chain = e->next;
            free(e);
            atomic_fetch_sub_explicit(&c->entries, 1, memory_order_relaxed);
        } else {
            chain = &e->next;
        }
    }
}

static struct entry *find_locked(struct entry *chain, uint32_t service, const struct ip_addr *a)
{
    while (chain != NULL && (chain->service != service || !ip_eq(&chain->addr, a)))
        chain = chain->next;
    return chain;
}

static void begin_window(struct entry *e, int64_t now)
{
    if (e->window_end_ms > now)
        return;
    e->window_end_ms = now + CLIENT_COUNT_WINDOW_MS;
    e->connect_rate = 0;
    memset(e->events, 0, sizeof e->events);
}

static struct shard *shard_of(struct client_counts *c, uint32_t h, unsigned *bucket)
{
    *bucket = h / SHARDS % BUCKETS;
    return &c->shards[h % SHARDS];
}

struct client_count_now client_connect(struct client_counts *c, uint32_t service, const struct ip_addr *a)
{
    int64_t now = clock_mono_ms();
    unsigned b;
    struct client_count_now r = { 0, 0 };
    struct shard *s = shard_of(c, hash_client(service, a), &b);
    lock_take(&s->m);
    drop_stale_locked(c, &s->buckets[s->sweep++ % BUCKETS], now);
    drop_stale_locked(c, &s->buckets[b], now);
    struct entry *e = find_locked(s->buckets[b], service, a);
    if (e == NULL && atomic_load_explicit(&c->entries, memory_order_relaxed) < CLIENT_COUNT_MAX) {
        e = xcalloc(1, sizeof *e);
        e->addr = *a;
        e->service = service;
        e->next = s->buckets[b];
        s->buckets[b] = e;
        atomic_fetch_add_explicit(&c->entries, 1, memory_order_relaxed);
    }
    if (e != NULL) {
        begin_window(e, now);
        r.connections = ++e->connections;
        r.rate = ++e->connect_rate;
    }
    lock_drop(&s->m);
    return r;
}

void client_disconnect(struct client_counts *c, uint32_t service, const struct ip_addr *a)
{
    unsigned b;
    struct shard *s = shard_of(c, hash_client(service, a), &b);
    lock_take(&s->m);
    struct entry *e = find_locked(s->buckets[b], service, a);
    if (e != NULL && e->connections > 0)
        e->connections--;
    lock_drop(&s->m);
}

unsigned client_count_event(struct client_counts *c, uint32_t service, const struct ip_addr *a, enum client_event ev)
{
    int64_t now = clock_mono_ms();
    unsigned b, n = 0;
    struct shard *s = shard_of(c, hash_client(service, a), &b);
    lock_take(&s->m);
    struct entry *e = find_locked(s->buckets[b], service, a);
    if (e != NULL) {
        begin_window(e, now);
        n = ++e->events[ev];
    }
    lock_drop(&s->m);
    return n;
}

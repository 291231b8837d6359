/*
 * Shards of open hash chains. An entry whose window has passed and that has no connection is removed when a chain is
 * walked for another reason, and by a slow sweep of one bucket per new connection, so no thread is needed.
 *
 * Addresses come from strangers (an IPv6 client has as many as it wants), so the hash is keyed: nobody can choose addresses
 * that share a chain.
 */
#include <stdatomic.h>
#include <sys/random.h>

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "daemon/smtpd/client_count.h"

#define SHARDS 16
#define BUCKETS 4096 /* per shard */
#define EVICT_BUCKETS 64 /* looked at for a rate to forget when the table is full */

struct entry {
    struct entry *next;
    struct ip_addr addr;
    uint32_t service;
    uint32_t connections;
    uint32_t unnamed; /* of these */
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
    unsigned max;     /* immutable */
    uint64_t key[2];  /* immutable: random */
    struct shard shards[SHARDS];
};

struct client_counts *client_counts_new(unsigned max)
{
    struct client_counts *c = xcalloc(1, sizeof *c);
    c->max = max;
    (void)!getrandom(c->key, sizeof c->key, 0);
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

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint32_t hash_client(const struct client_counts *c, uint32_t service, const struct ip_addr *a)
{
    uint64_t w[2] = { 0, service };
    memcpy(w, a->b, a->family == IP_V6 ? 16u : 4u);
    if (a->family == IP_V6)
        w[0] = fold(w[0] ^ c->key[1], UINT64_C(0x9e3779b97f4a7c15) ^ service);
    uint64_t h = fold(w[0] ^ c->key[0], w[1] ^ c->key[1]);
    return (uint32_t)(h ^ h >> 32);
}

static void drop_locked(struct client_counts *c, struct entry **at)
{
    struct entry *e = *at;
    *at = e->next;
    free(e);
    atomic_fetch_sub_explicit(&c->entries, 1, memory_order_relaxed);
}

static void drop_stale_locked(struct client_counts *c, struct entry **chain, int64_t now)
{
    while (*chain != NULL) {
        if ((*chain)->connections == 0 && (*chain)->window_end_ms <= now)
            drop_locked(c, chain);
        else
            chain = &(*chain)->next;
    }
}

/* Room for one more entry in this shard: a client that is not connected loses its rates. */
static bool make_room_locked(struct client_counts *c, struct shard *s)
{
    for (int i = 0; i < EVICT_BUCKETS; i++) {
        for (struct entry **at = &s->buckets[s->sweep++ % BUCKETS]; *at != NULL; at = &(*at)->next)
            if ((*at)->connections == 0) {
                drop_locked(c, at);
                return true;
            }
    }
    return false;
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

static struct shard *shard_of(struct client_counts *c, uint32_t service, const struct ip_addr *a, unsigned *bucket)
{
    uint32_t h = hash_client(c, service, a);
    *bucket = h / SHARDS % BUCKETS;
    return &c->shards[h % SHARDS];
}

struct client_count_now client_connect(struct client_counts *c, uint32_t service, const struct ip_addr *a)
{
    int64_t now = clock_mono_ms();
    unsigned b;
    struct client_count_now r = { 0 };
    struct shard *s = shard_of(c, service, a, &b);
    lock_take(&s->m);
    drop_stale_locked(c, &s->buckets[s->sweep++ % BUCKETS], now);
    drop_stale_locked(c, &s->buckets[b], now);
    struct entry *e = find_locked(s->buckets[b], service, a);
    if (e == NULL &&
        (atomic_load_explicit(&c->entries, memory_order_relaxed) < c->max || make_room_locked(c, s))) {
        e = xcalloc(1, sizeof *e);
        e->addr = *a;
        e->service = service;
        e->next = s->buckets[b];
        s->buckets[b] = e;
        atomic_fetch_add_explicit(&c->entries, 1, memory_order_relaxed);
    }
    if (e != NULL) {
        begin_window(e, now);
        r.is_counted = true;
        r.connections = ++e->connections;
        r.unnamed = ++e->unnamed;
        r.rate = ++e->connect_rate;
    }
    lock_drop(&s->m);
    return r;
}

void client_is_named(struct client_counts *c, uint32_t service, const struct ip_addr *a)
{
    unsigned b;
    struct shard *s = shard_of(c, service, a, &b);
    lock_take(&s->m);
    struct entry *e = find_locked(s->buckets[b], service, a);
    if (e != NULL && e->unnamed > 0)
        e->unnamed--;
    lock_drop(&s->m);
}

void client_disconnect(struct client_counts *c, uint32_t service, const struct ip_addr *a, bool keep_rates)
{
    unsigned b;
    struct shard *s = shard_of(c, service, a, &b);
    lock_take(&s->m);
    struct entry **at = &s->buckets[b];
    while (*at != NULL && ((*at)->service != service || !ip_eq(&(*at)->addr, a)))
        at = &(*at)->next;
    if (*at != NULL && (*at)->connections > 0 && --(*at)->connections == 0 && !keep_rates)
        drop_locked(c, at);
    lock_drop(&s->m);
}

unsigned client_counts_entries(struct client_counts *c)
{
    return atomic_load_explicit(&c->entries, memory_order_relaxed);
}

unsigned client_count_event(struct client_counts *c, uint32_t service, const struct ip_addr *a, enum client_event ev)
{
    int64_t now = clock_mono_ms();
    unsigned b, n = 0;
    struct shard *s = shard_of(c, service, a, &b);
    lock_take(&s->m);
    struct entry *e = find_locked(s->buckets[b], service, a);
    if (e != NULL) {
        begin_window(e, now);
        n = ++e->events[ev];
    }
    lock_drop(&s->m);
    return n;
}

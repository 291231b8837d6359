/*
 * Parked connections are few (CONN_CACHE_MAX), so they stand in an array in the order they were parked and are looked
 * up by comparing 64-bit hashes first; the newest match is taken. Nothing is allocated on the way.
 *
 * Demand: a small table, indexed by hash, remembers when each next hop was last delivered to. Two next hops that share a
 * place overwrite each other; the worst that follows is one connection closed early or kept for two seconds.
 */
#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "daemon/smtp/conn.h"
#include "daemon/smtp/conn_cache.h"

#define DEMAND_SLOTS 1024
#define CLOSE_BATCH  16

struct conn_cache {
    struct lock m;             /* CONN_CACHE: all below */
    struct smtp_conn *parked[CONN_CACHE_MAX]; /* owned */
    unsigned count;
    _Atomic int64_t next_ms;   /* earliest expiry_ms; changed under m, read without by the pool */
    struct { uint64_t hash; int64_t when_ms; } demand[DEMAND_SLOTS];
};

static uint64_t key_hash(const char *key)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a; a collision costs a strcmp */
    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * 0x100000001b3u;
    return h;
}

struct conn_cache *conn_cache_new(void)
{
    struct conn_cache *cc = xcalloc(1, sizeof *cc);
    lock_init(&cc->m, LOCK_CONN_CACHE);
    atomic_init(&cc->next_ms, CLOCK_NEVER);
    return cc;
}

static struct smtp_conn *remove_at(struct conn_cache *cc, unsigned i) REQUIRES(&cc->m)
{
    struct smtp_conn *c = cc->parked[i];
    cc->count--;
    memmove(&cc->parked[i], &cc->parked[i + 1], (cc->count - i) * sizeof cc->parked[0]);
    return c;
}

static void update_next(struct conn_cache *cc) REQUIRES(&cc->m)
{
    int64_t next = CLOCK_NEVER;
    for (unsigned i = 0; i < cc->count; i++)
        if (cc->parked[i]->expiry_ms < next)
            next = cc->parked[i]->expiry_ms;
    atomic_store(&cc->next_ms, next);
}

void conn_cache_put(struct conn_cache *cc, struct smtp_conn *c, int64_t expiry_ms)
{
    struct smtp_conn *evicted = NULL;
    c->expiry_ms = expiry_ms;
    for (int k = 0; k < 2; k++)
        c->hash[k] = key_hash(c->key[k]);
    lock_take(&cc->m);
    if (cc->count == CONN_CACHE_MAX) {
        unsigned first = 0;
        for (unsigned i = 1; i < cc->count; i++)
            if (cc->parked[i]->expiry_ms < cc->parked[first]->expiry_ms)
                first = i;
        evicted = remove_at(cc, first);
    }
    cc->parked[cc->count++] = c;
    if (evicted || expiry_ms < atomic_load(&cc->next_ms))
        update_next(cc);
    lock_drop(&cc->m);
    conn_close(&evicted, false);
}

static struct smtp_conn *take_one(struct conn_cache *cc, enum conn_key_kind kind, const char *key, uint64_t hash)
{
    struct smtp_conn *c = NULL;
    lock_take(&cc->m);
    for (unsigned i = cc->count; i-- > 0 && c == NULL;)
        if (cc->parked[i]->hash[kind] == hash && strcmp(cc->parked[i]->key[kind], key) == 0)
            c = remove_at(cc, i);
    if (c)
        update_next(cc);
    lock_drop(&cc->m);
    return c;
}

struct smtp_conn *conn_cache_take(struct conn_cache *cc, enum conn_key_kind kind, const char *key)
{
    if (cc == NULL || atomic_load_explicit(&cc->next_ms, memory_order_relaxed) == CLOCK_NEVER)
        return NULL;
    uint64_t hash = key_hash(key);
    struct smtp_conn *c;
    while ((c = take_one(cc, kind, key, hash)) != NULL) {
        if (c->expiry_ms > clock_mono_ms() && stream_is_quiet(c->stream))
            return c;
        conn_close(&c, false);
    }
    return NULL;
}

bool conn_cache_note_demand(struct conn_cache *cc, const char *nexthop_key, int64_t window_ms)
{
    uint64_t hash = key_hash(nexthop_key);
    unsigned slot = (unsigned)(hash >> 32) % DEMAND_SLOTS;
    int64_t now = clock_mono_ms();
    lock_take(&cc->m);
    bool recent = cc->demand[slot].hash == hash && now - cc->demand[slot].when_ms <= window_ms;
    cc->demand[slot].hash = hash;
    cc->demand[slot].when_ms = now;
    lock_drop(&cc->m);
    return recent;
}

int64_t conn_cache_next_ms(const struct conn_cache *cc)
{
    return cc ? atomic_load(&cc->next_ms) : CLOCK_NEVER;
}

void conn_cache_sweep(struct conn_cache *cc, int64_t now_ms)
{
    struct smtp_conn *old[CLOSE_BATCH];
    unsigned n;
    if (cc == NULL)
        return;
    do {
        n = 0;
        lock_take(&cc->m);
        for (unsigned i = 0; i < cc->count && n < CLOSE_BATCH;) {
            if (cc->parked[i]->expiry_ms <= now_ms)
                old[n++] = remove_at(cc, i);
            else
                i++;
        }
        update_next(cc);
        lock_drop(&cc->m);
        for (unsigned i = 0; i < n; i++)
            conn_close(&old[i], false);
    } while (n == CLOSE_BATCH);
}

unsigned conn_cache_count(struct conn_cache *cc)
{
    lock_take(&cc->m);
    unsigned n = cc->count;
    lock_drop(&cc->m);
    return n;
}

void conn_cache_free(struct conn_cache **ccp)
{
    struct conn_cache *cc = *ccp;
    if (cc == NULL)
        return;
    conn_cache_sweep(cc, CLOCK_NEVER);
    lock_destroy(&cc->m);
    free(cc);
    *ccp = NULL;
}

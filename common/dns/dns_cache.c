/*
 * The key begins with a random seed: names come from strangers, and uthash's function is known, so without it they
 * could choose names that all fall into one bucket. Entries are in order of insertion; eviction looks at the oldest and
 * gives one that was used since its last look a second chance at the end of the queue.
 */
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/dns/dns_cache.h"


struct key {
    uint64_t seed;
    uint16_t type;
    char name[DNS_NAME_TEXT_MAX];
} __attribute__((packed));

struct entry {
    UT_hash_handle hh;
    struct dns_answer *answer;      /* counted; NULL while it is asked for */
    int64_t expires_ms;
    bool used;                      /* since eviction last looked */
    struct dns_waiter *first, *last; /* owned */
    unsigned key_n;
    char key[];                     /* seed, type, name */
};

struct dns_cache {
    struct entry *table;
    uint64_t seed;
    size_t answers, pending;
};

struct dns_cache *dns_cache_new(uint64_t seed)
{
    struct dns_cache *c = xcalloc(1, sizeof *c);
    c->seed = seed;
    return c;
}

static void drop(struct dns_cache *c, struct entry *e)
{
    if (e->answer)
        c->answers--;
    dns_answer_unref(&e->answer);
    if (e->first)
        return; /* still asked for */
    HASH_DEL(c->table, e);
    free(e);
}

void dns_cache_clear(struct dns_cache *c)
{
    struct entry *e, *next;
    HASH_ITER(hh, c->table, e, next)
        drop(c, e);
}

void dns_cache_free(struct dns_cache **cp)
{
    dns_cache_clear(*cp);
    free(*cp);
    *cp = NULL;
}

static unsigned make_key(const struct dns_cache *c, const struct dns_question *q, struct key *k)
{
    k->seed = c->seed;
    k->type = q->type;
    memcpy(k->name, q->name, q->name_n);
    return (unsigned)(offsetof(struct key, name) + q->name_n);
}

static struct entry *find(const struct dns_cache *c, const struct dns_question *q)
{
    struct key k;
    struct entry *e;
    unsigned n = make_key(c, q, &k);
    HASH_FIND(hh, c->table, &k, n, e);
    return e;
}

static struct entry *add(struct dns_cache *c, const struct dns_question *q)
{
    struct key k;
    unsigned n = make_key(c, q, &k);
    struct entry *e = xcalloc(1, sizeof *e + n);
    e->key_n = n;
    memcpy(e->key, &k, n);
    HASH_ADD_KEYPTR(hh, c->table, e->key, e->key_n, e);
    return e;
}

static struct dns_answer *fresh(struct dns_cache *c, struct entry *e, int64_t now_ms)
{
    if (!e || !e->answer)
        return NULL;
    if (e->expires_ms > now_ms) {
        e->used = true;
        return dns_answer_ref(e->answer);
    }
    drop(c, e);
    return NULL;
}

struct dns_answer *dns_cache_find(struct dns_cache *c, const struct dns_question *q, int64_t now_ms)
{
    return fresh(c, find(c, q), now_ms);
}

enum dns_cache_result dns_cache_ask(struct dns_cache *c, const struct dns_question *q, int64_t now_ms,
                                    struct dns_waiter *w, struct dns_answer **out)
{
    *out = fresh(c, find(c, q), now_ms);
    if (*out)
        return DNS_CACHE_HIT;
    struct entry *e = find(c, q);
    w->next = NULL;
    if (e) {
        /* No answer, so it has waiters: this one joins them. */
        e->last->next = w;
        e->last = w;
        return DNS_CACHE_JOINED;
    }
    if (c->pending >= DNS_PENDING_MAX)
        return DNS_CACHE_FULL;
    e = add(c, q);
    e->first = e->last = w;
    c->pending++;
    return DNS_CACHE_ASK;
}

static void make_room(struct dns_cache *c, int64_t now_ms)
{
    struct entry *e, *next;
    size_t looks = 0;
    HASH_ITER(hh, c->table, e, next) {
        if (c->answers < DNS_CACHE_MAX || ++looks > 2 * (size_t)DNS_CACHE_MAX)
            return;
        if (!e->answer)
            continue;
        if (e->expires_ms > now_ms && e->used) {
            e->used = false;
            HASH_DEL(c->table, e);
            HASH_ADD_KEYPTR(hh, c->table, e->key, e->key_n, e);
            continue;
        }
        drop(c, e);
    }
}

struct dns_waiter *dns_cache_answered(struct dns_cache *c, const struct dns_question *q, struct dns_answer *a,
                                      bool keep, int64_t now_ms)
{
    struct entry *e = find(c, q);
    uint32_t ttl_s = dns_answer_ttl_s(a);
    struct dns_waiter *w = e ? e->first : NULL;
    if (!e)
        return NULL;
    e->first = e->last = NULL;
    c->pending--;
    if (!keep || ttl_s == 0) {
        drop(c, e);
        return w;
    }
    make_room(c, now_ms);
    e->answer = dns_answer_ref(a);
    e->expires_ms = now_ms + (int64_t)ttl_s * 1000;
    c->answers++;
    return w;
}

size_t dns_cache_answers(const struct dns_cache *c) { return c->answers; }
size_t dns_cache_pending(const struct dns_cache *c) { return c->pending; }

/*
 * uthash keeps its items in the order in which they were added, so the first is the oldest. A ticket is the number of
 * clearings: an answer that was asked for before one is not put in after it.
 */
#include "common/table/net/table_cache.h"

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/lock.h"

struct answer {
    UT_hash_handle hh;
    int64_t born_ms;
    struct span value;     /* p NULL: not found; else behind the key */
    size_t key_n;
    char key[];            /* and the value */
};

struct table_cache {
    struct lock m;
    struct answer *answers; /* guarded by m */
    uint64_t cleared;       /* guarded by m */
};

struct table_cache *table_cache_new(void)
{
    struct table_cache *c = xcalloc(1, sizeof *c);
    lock_init(&c->m, LOCK_TABLE_CACHE);
    return c;
}

static void forget(struct table_cache *c, struct answer *x) REQUIRES(&c->m)
{
    HASH_DEL(c->answers, x);
    free(x);
}

void table_cache_clear(struct table_cache *c)
{
    lock_take(&c->m);
    while (c->answers != NULL)
        forget(c, c->answers);
    c->cleared++;
    lock_drop(&c->m);
}

void table_cache_free(struct table_cache **cp)
{
    if (*cp == NULL)
        return;
    table_cache_clear(*cp);
    lock_destroy(&(*cp)->m);
    free(*cp);
    *cp = NULL;
}

static struct answer *find(struct table_cache *c, struct span key) REQUIRES(&c->m)
{
    struct answer *x = NULL;
    HASH_FIND(hh, c->answers, key.p, key.n, x);
    return x;
}

bool table_cache_get(struct table_cache *c, struct span key, int64_t max_age_ms, enum lookup *answer, struct arena *a,
                     struct span *value, uint64_t *ticket)
{
    int64_t now = clock_mono_ms();
    bool known = false;
    lock_take(&c->m);
    *ticket = c->cleared;
    struct answer *x = key.n > 0 ? find(c, key) : NULL;
    if (x != NULL && now - x->born_ms <= max_age_ms) {
        known = true;
        *answer = x->value.p != NULL ? LOOKUP_FOUND : LOOKUP_NONE;
        if (x->value.p != NULL && value != NULL)
            *value = arena_dup_span(a, x->value);
    } else if (x != NULL) {
        forget(c, x);
    }
    lock_drop(&c->m);
    return known;
}

void table_cache_put(struct table_cache *c, struct span key, const struct span *value, uint64_t ticket)
{
    size_t value_n = value != NULL ? value->n : 0;
    if (key.n == 0 || key.n > CACHE_KEY_MAX || value_n > CACHE_VALUE_MAX)
        return;
    struct answer *x = xcalloc(1, sizeof *x + key.n + value_n), *old;
    x->born_ms = clock_mono_ms();
    x->key_n = key.n;
    memcpy(x->key, key.p, key.n);
    if (value_n > 0) {
        memcpy(x->key + key.n, value->p, value_n);
        x->value = span_of(x->key + key.n, value_n);
    }
    lock_take(&c->m);
    if (c->cleared == ticket) {
        if ((old = find(c, key)) != NULL)
            forget(c, old);
        else if (HASH_COUNT(c->answers) >= CACHE_ENTRIES)
            forget(c, c->answers);
        HASH_ADD(hh, c->answers, key, x->key_n, x);
        x = NULL;
    }
    lock_drop(&c->m);
    free(x);
}

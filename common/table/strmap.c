/*
 * Open addressing with linear probing, at most three quarters full. The slots hold row numbers, so growing moves four
 * bytes a row; rows stay in the order they were added.
 */
#include "common/base/mem.h"
#include "common/table/strmap.h"

static uint32_t hash_span(struct span s)
{
    uint64_t h = UINT64_C(0x9E3779B97F4A7C15) ^ s.n;
    const char *p = s.p;
    size_t n = s.n;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = (h ^ w) * UINT64_C(0xFF51AFD7ED558CCD);
        h ^= h >> 32;
    }
    if (n > 0) {
        uint64_t w = 0;
        memcpy(&w, p, n);
        h = (h ^ w) * UINT64_C(0xFF51AFD7ED558CCD);
        h ^= h >> 32;
    }
    h *= UINT64_C(0xC4CEB9FE1A85EC53);
    return (uint32_t)(h >> 32);
}

void strmap_init(struct strmap *m, const char *base)
{
    *m = (struct strmap){ .base = base };
}

void strmap_free(struct strmap *m)
{
    free(m->rows);
    free(m->slots);
    *m = (struct strmap){ .base = NULL };
}

static void place(struct strmap *m, uint32_t hash, uint32_t row)
{
    uint32_t i = hash & m->mask;
    while (m->slots[i] != 0)
        i = (i + 1) & m->mask;
    m->slots[i] = row + 1;
}

static void grow_slots(struct strmap *m)
{
    uint64_t n = m->slots == NULL ? 16 : ((uint64_t)m->mask + 1) * 2;
    free(m->slots);
    m->slots = xcalloc(n, sizeof *m->slots);
    m->mask = (uint32_t)(n - 1);
    for (uint32_t r = 0; r < m->count; r++)
        place(m, m->rows[r].hash, r);
}

static struct strmap_row *find(const struct strmap *m, struct span key, uint32_t hash)
{
    if (m->count == 0)
        return NULL;
    for (uint32_t i = hash & m->mask; m->slots[i] != 0; i = (i + 1) & m->mask) {
        struct strmap_row *r = &m->rows[m->slots[i] - 1];
        if (r->hash == hash && r->key_n == key.n && memcmp(m->base + r->key_at, key.p, key.n) == 0)
            return r;
    }
    return NULL;
}

bool strmap_add(struct strmap *m, struct span key, struct span value, bool replace)
{
    uint32_t hash = hash_span(key);
    struct strmap_row *old = find(m, key, hash);
    if (old != NULL) {
        if (replace) {
            old->val_at = value.n ? (uint32_t)(value.p - m->base) : 0;
            old->val_n = (uint32_t)value.n;
        }
        return false;
    }
    if (m->count >= STRMAP_ROWS_MAX)
        return false;
    if (m->slots == NULL || (uint64_t)m->count * 4 >= ((uint64_t)m->mask + 1) * 3)
        grow_slots(m);
    if (m->count == m->rows_cap) {
        m->rows_cap = m->rows_cap ? m->rows_cap * 2 : 16;
        m->rows = xrealloc(m->rows, (size_t)m->rows_cap * sizeof *m->rows);
    }
    m->rows[m->count] = (struct strmap_row){
        .hash = hash,
        .key_at = key.n ? (uint32_t)(key.p - m->base) : 0, .key_n = (uint32_t)key.n,
        .val_at = value.n ? (uint32_t)(value.p - m->base) : 0, .val_n = (uint32_t)value.n,
    };
    place(m, hash, m->count++);
    return true;
}

const struct strmap_row *strmap_get(const struct strmap *m, struct span key)
{
    return find(m, key, hash_span(key));
}

void strmap_trim(struct strmap *m)
{
    if (m->count == 0 || m->count == m->rows_cap)
        return;
    m->rows = xrealloc(m->rows, (size_t)m->count * sizeof *m->rows);
    m->rows_cap = m->count;
}

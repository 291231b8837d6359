/*
 * Orders are made by sorting on (rank, preferred family, a number drawn for each): a shuffle that keeps its draw is
 * stable, and with randomisation off the number is the position.
 */
#include "common/base/mem.h"
#include "daemon/smtp/hosts_internal.h"

static int by_rank_name(const void *pa, const void *pb)
{
    const struct host_name *a = pa, *b = pb;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    return a->shuffle < b->shuffle ? -1 : a->shuffle > b->shuffle;
}

size_t hosts_sort_mx(struct finder *f, struct host_name *n, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        n[i].rank = n[i].pref;
        n[i].shuffle = f->o->randomize ? finder_random(f) : (uint32_t)i;
    }
    qsort(n, count, sizeof *n, by_rank_name);
    return count > HOSTS_MX_MAX ? HOSTS_MX_MAX : count;
}

/* Draws one of n[0..count) by weight and puts it first. */
static void draw(struct finder *f, struct host_name *n, size_t count)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += n[i].weight;
    uint32_t at = sum > 0 ? finder_random(f) % (sum + 1) : 0;
    size_t pick = 0;
    uint32_t running = 0;
    for (size_t i = 0; i < count; i++) {
        running += n[i].weight;
        if (running >= at) {
            pick = i;
            break;
        }
    }
    struct host_name first = n[pick];
    memmove(n + 1, n, pick * sizeof *n);
    n[0] = first;
}

size_t hosts_sort_srv(struct finder *f, struct host_name *n, size_t count)
{
    /* RFC 2782: those of weight 0 come first before each draw. */
    for (size_t i = 0; i < count; i++) {
        n[i].rank = n[i].pref;
        n[i].shuffle = n[i].weight > 0 ? 1 + finder_random(f) % UINT16_MAX : 0;
    }
    qsort(n, count, sizeof *n, by_rank_name);
    for (size_t i = 0; i < count; i++) {
        size_t end = i;
        while (end < count && n[end].pref == n[i].pref)
            end++;
        draw(f, n + i, end - i);
    }
    for (size_t i = 0; i < count; i++)
        n[i].rank = (uint32_t)i;
    return count > HOSTS_MX_MAX ? HOSTS_MX_MAX : count;
}

static int by_rank(const struct found_addr *a, const struct found_addr *b, int first_family)
{
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (first_family != IP_NONE && a->pub.addr.family != b->pub.addr.family)
        return a->pub.addr.family == first_family ? -1 : 1;
    return a->shuffle < b->shuffle ? -1 : a->shuffle > b->shuffle;
}

static int by_rank_any(const void *a, const void *b) { return by_rank(a, b, IP_NONE); }
static int by_rank_v4(const void *a, const void *b) { return by_rank(a, b, IP_V4); }
static int by_rank_v6(const void *a, const void *b) { return by_rank(a, b, IP_V6); }

/*
 * Within the limit each family gets half of the places, as far as it has addresses; an odd place goes to the family
 * that comes first. Order is kept.
 */
static void balance(struct finder *f, size_t limit)
{
    size_t have[2] = { 0, 0 }, may[2], kept = 0;
    int first = f->found[0].pub.addr.family == IP_V6;
    for (size_t i = 0; i < f->count; i++)
        have[f->found[i].pub.addr.family == IP_V6]++;
    may[first] = (limit + 1) / 2;
    may[!first] = limit / 2;
    for (int k = 0; k < 2; k++)
        if (have[k] < may[k]) {
            may[!k] += may[k] - have[k];
            may[k] = have[k];
        }
    for (size_t i = 0; i < f->count; i++) {
        int k = f->found[i].pub.addr.family == IP_V6;
        if (may[k] == 0)
            continue;
        may[k]--;
        f->found[kept++] = f->found[i];
    }
    f->count = kept;
}

void hosts_order_addresses(struct finder *f)
{
    size_t limit = f->o->address_limit;
    qsort(f->found, f->count, sizeof *f->found,
          f->o->preference == HOSTS_PREFER_V4   ? by_rank_v4
          : f->o->preference == HOSTS_PREFER_V6 ? by_rank_v6
                                                : by_rank_any);
    if (limit == 0 || f->count <= limit)
        return;
    if (f->o->balance && limit > 1)
        balance(f, limit);
    else
        f->count = limit;
}

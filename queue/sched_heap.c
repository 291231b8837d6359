#include "common/base/mem.h"
#include "queue/sched_heap.h"

static void place(struct heap *h, size_t i, struct heap_item *it)
{
    h->v[i] = it;
    it->slot = i + 1;
}

static void sift_up(struct heap *h, size_t i)
{
    struct heap_item *it = h->v[i];
    while (i > 0) {
        size_t up = (i - 1) / 2;
        if (h->v[up]->key <= it->key)
            break;
        place(h, i, h->v[up]);
        i = up;
    }
    place(h, i, it);
}

static void sift_down(struct heap *h, size_t i)
{
    struct heap_item *it = h->v[i];
    for (;;) {
        size_t kid = 2 * i + 1;
        if (kid >= h->n)
            break;
        if (kid + 1 < h->n && h->v[kid + 1]->key < h->v[kid]->key)
            kid++;
        if (h->v[kid]->key >= it->key)
            break;
        place(h, i, h->v[kid]);
        i = kid;
    }
    place(h, i, it);
}

void heap_put(struct heap *h, struct heap_item *it, int64_t key)
{
    if (it->slot == 0) {
        if (h->n == h->cap) {
            h->cap = h->cap ? 2 * h->cap : 64;
            h->v = xrealloc(h->v, h->cap * sizeof *h->v);
        }
        it->key = key;
        place(h, h->n++, it);
        sift_up(h, h->n - 1);
        return;
    }
    it->key = key;
    sift_up(h, it->slot - 1);
    sift_down(h, it->slot - 1);
}

void heap_remove(struct heap *h, struct heap_item *it)
{
    if (it->slot == 0)
        return;
    size_t i = it->slot - 1;
    struct heap_item *last = h->v[--h->n];
    it->slot = 0;
    if (last == it)
        return;
    place(h, i, last);
    sift_up(h, i);
    sift_down(h, last->slot - 1);
}

void heap_free(struct heap *h)
{
    free(h->v);
    *h = (struct heap){ 0 };
}

/*
 * Blocks are chained newest first; allocation bumps an offset in the newest. A request larger than a
 * quarter of a block gets a block of its own behind the newest, so that it wastes nothing.
 */
#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/mem.h"

struct block {
    struct block *next;
    size_t size;
    size_t used;
    alignas(max_align_t) char data[];
};

struct arena {
    struct block *head;
    size_t block_bytes;
    size_t total_bytes;
    void *watch; /* borrowed */
};

struct arena *arena_new(size_t block_bytes)
{
    struct arena *a = xcalloc(1, sizeof *a);
    a->block_bytes = block_bytes ? block_bytes : 4096;
    return a;
}

static void free_blocks(struct block *b)
{
    while (b != NULL) {
        struct block *next = b->next;
        free(b);
        b = next;
    }
}

void arena_free(struct arena **a)
{
    if (*a == NULL)
        return;
    free_blocks((*a)->head);
    free(*a);
    *a = NULL;
}

void arena_reset(struct arena *a)
{
    struct block *keep = a->head;
    if (keep == NULL)
        return;
    free_blocks(keep->next);
    keep->next = NULL;
    if (keep->size > a->block_bytes) {
        free(keep);
        keep = NULL;
    } else {
        keep->used = 0;
    }
    a->head = keep;
    a->total_bytes = keep ? keep->size : 0;
}

static struct block *block_new(struct arena *a, size_t size)
{
    struct block *b = xmalloc(sizeof *b + size);
    *b = (struct block){ .size = size };
    a->total_bytes += size;
    return b;
}

static size_t round_up(size_t n)
{
    return (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
}

/* As arena_alloc(), with whatever the memory holds: for what is written at once. */
static void *take(struct arena *a, size_t n)
{
    n = round_up(n);
    if (a->head != NULL && a->head->size - a->head->used >= n) {
        void *p = a->head->data + a->head->used;
        a->head->used += n;
        return p;
    }
    if (n > a->block_bytes / 4) {
        struct block *b = block_new(a, n);
        b->used = n;
        if (a->head != NULL) {
            b->next = a->head->next;
            a->head->next = b;
        } else {
            a->head = b;
        }
        return b->data;
    }
    struct block *b = block_new(a, a->block_bytes);
    b->next = a->head;
    a->head = b;
    b->used = n;
    return b->data;
}

void *arena_alloc(struct arena *a, size_t n)
{
    return memset(take(a, n), 0, n);
}

char *arena_strndup(struct arena *a, const char *p, size_t n)
{
    char *s = take(a, n + 1);
    if (n > 0)
        memcpy(s, p, n);
    s[n] = '\0';
    return s;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

/* Most texts fit into what is left of the newest block, so they are formatted there; the others twice. */
char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    size_t room = a->head != NULL ? a->head->size - a->head->used : 0;
    va_start(ap, fmt);
    char *place = room > 0 ? a->head->data + a->head->used : NULL;
    int n = vsnprintf(place, room, fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : (size_t)n;
    char *s = take(a, len + 1);
    if (n >= 0 && len < room && s == place)
        return s;
    va_start(ap, fmt);
    vsnprintf(s, len + 1, fmt, ap);
    va_end(ap);
    if (n < 0)
        s[0] = '\0';
    return s;
}

struct span arena_dup_span(struct arena *a, struct span s)
{
    return span_of(arena_strndup(a, s.p, s.n), s.n);
}

void arena_set_watch(struct arena *a, void *watch)
{
    a->watch = watch;
}

void *arena_watch(const struct arena *a)
{
    return a->watch;
}

size_t arena_bytes(const struct arena *a)
{
    return a->total_bytes;
}

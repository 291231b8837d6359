/*
 * /etc/hosts, read once per configuration snapshot: names that DNS is not asked for. Sorted by address, each of which
 * has the name of its first line. A name that is none goes no further: it would get into header fields and log lines.
 */
#include "common/base/io.h"
#include "daemon/smtpd/smtpd_internal.h"

#define HOSTS_FILE_MAX (1u << 20)

struct host {
    struct ip_addr addr;
    const char *name; /* in arena */
    size_t line;      /* order in the file */
};

struct hosts_file {
    struct arena *arena;
    struct host *items; /* owned */
    size_t count, cap;
};

static int by_addr_and_line(const void *a, const void *b)
{
    const struct host *x = a, *y = b;
    int by = ip_cmp(&x->addr, &y->addr);
    return by != 0 ? by : x->line < y->line ? -1 : x->line > y->line;
}

static int by_addr(const void *a, const void *b)
{
    return ip_cmp(&((const struct host *)a)->addr, &((const struct host *)b)->addr);
}

static void add_line(struct hosts_file *h, struct span line)
{
    struct span addr, name;
    struct host item;
    ptrdiff_t hash = span_find(line, '#');
    if (hash >= 0)
        line.n = (size_t)hash;
    if (!span_next_token(&line, " \t\r", &addr) || !span_next_token(&line, " \t\r", &name) || !ip_parse(addr, &item.addr) ||
        !addr_domain_is_valid(name, false, false) || ip_looks_like(name))
        return;
    item.name = arena_strndup(h->arena, name.p, name.n);
    item.line = h->count;
    if (h->count == h->cap) {
        h->cap = h->cap ? 2 * h->cap : 16;
        h->items = xrealloc(h->items, h->cap * sizeof *h->items);
    }
    h->items[h->count++] = item;
}

struct hosts_file *hosts_file_load(const char *path)
{
    struct hosts_file *h = xcalloc(1, sizeof *h);
    struct buf b = BUF_INIT(HOSTS_FILE_MAX);
    h->arena = arena_new(0);
    if (io_read_file(path, &b, NULL)) {
        struct span rest = buf_span(&b), line;
        while (span_next_token(&rest, "\n", &line))
            add_line(h, line);
    }
    buf_free(&b);
    if (h->count > 1)
        qsort(h->items, h->count, sizeof *h->items, by_addr_and_line);
    size_t kept = 0;
    for (size_t i = 0; i < h->count; i++)
        if (kept == 0 || !ip_eq(&h->items[kept - 1].addr, &h->items[i].addr))
            h->items[kept++] = h->items[i];
    h->count = kept;
    return h;
}

void hosts_file_free(struct hosts_file **h)
{
    if (*h == NULL)
        return;
    arena_free(&(*h)->arena);
    free((*h)->items);
    free(*h);
    *h = NULL;
}

const char *hosts_file_name(const struct hosts_file *h, const struct ip_addr *a)
{
    struct host key = { .addr = *a };
    if (h->count == 0)
        return NULL;
    const struct host *f = bsearch(&key, h->items, h->count, sizeof key, by_addr);
    return f ? f->name : NULL;
}

/*
 * The first rule that matches is the same for all addresses between two neighbouring ends of networks. So the address space of
 * each family is cut at all these ends, each piece is given its answer when the table is loaded, and a look-up is one binary
 * search, whatever the number of rules.
 *
 * Giving the answers: rules paint their pieces in the order of the file, and what is painted stays. A chain of "next unpainted
 * piece" makes that nearly linear. Inside an `if` a rule paints only the pieces of the if: a network, or with ! the family
 * without it. A rule, or an if, says nothing of addresses of the other family, with or without !.
 */
#include "common/base/mem.h"
#include "common/table/rules.h"

typedef unsigned __int128 u128;

struct answers {                /* one family */
    size_t count;               /* of pieces */
    uint32_t *result;           /* owned; number in results, 0: none */
    uint32_t *from4;            /* owned; first address of each piece, rising */
    struct { uint64_t hi, lo; } *from6; /* owned */
};

struct cidr_index {
    struct answers v4, v6;
    struct span *results;       /* owned; [0] is none */
    uint32_t result_count;
};

/* ---- building ---- */

struct piece_range {
    size_t first, last;         /* pieces, both included */
};

struct region {                 /* what the ifs around a rule leave; ranges rise and do not touch each other */
    struct piece_range *ranges; /* owned */
    size_t count;
};

struct painting {
    const struct rule *rules;
    size_t rule_count;
    uint8_t family;
    u128 *from;                 /* owned; first address of each piece */
    size_t count;
    size_t *next;               /* owned; next unpainted piece at or behind this one; count when there is none */
    uint32_t *result;           /* owned */
    struct region *stack;       /* owned; the innermost if is last */
    size_t depth;
};

static u128 number_of(const struct ip_addr *a)
{
    u128 v = 0;
    for (int i = 0; i < (a->family == IP_V4 ? 4 : 16); i++)
        v = v << 8 | a->b[i];
    return v;
}

/* First address and the one behind the last; 0 stands for the end of the family's space. */
static void ends_of(const struct ip_net *n, u128 *from, u128 *to)
{
    unsigned width = n->addr.family == IP_V4 ? 32 : 128;
    *from = number_of(&n->addr);
    *to = n->bits == 0 ? 0 : *from + ((u128)1 << (width - n->bits));
    if (width == 32 && *to == (u128)1 << 32)
        *to = 0;
}

static int by_number(const void *a, const void *b)
{
    u128 x = *(const u128 *)a, y = *(const u128 *)b;
    return (x > y) - (x < y);
}

static void cut(struct painting *p)
{
    size_t n = 1;
    p->from = xmalloc((2 * p->rule_count + 1) * sizeof *p->from);
    p->from[0] = 0;
    for (size_t i = 0; i < p->rule_count; i++) {
        if (p->rules[i].kind == RULE_ENDIF || p->rules[i].net.addr.family != p->family)
            continue;
        ends_of(&p->rules[i].net, &p->from[n], &p->from[n + 1]);
        n += 2;
    }
    qsort(p->from, n, sizeof *p->from, by_number);
    p->count = 1;
    for (size_t i = 1; i < n; i++) {
        if (p->from[i] != p->from[p->count - 1])
            p->from[p->count++] = p->from[i];
    }
    p->next = xmalloc((p->count + 1) * sizeof *p->next);
    for (size_t i = 0; i <= p->count; i++)
        p->next[i] = i;
    p->result = xcalloc(p->count, sizeof *p->result);
}

/* The piece that begins at an address that is an end of a network. */
static size_t piece_at(const struct painting *p, u128 address)
{
    size_t lo = 0, hi = p->count;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        *(p->from[mid] <= address ? &lo : &hi) = mid;
    }
    return lo;
}

static size_t unpainted(struct painting *p, size_t i)
{
    size_t at = i;
    while (p->next[at] != at)
        at = p->next[at];
    while (p->next[i] != at) { /* shorten the way for the next time */
        size_t step = p->next[i];
        p->next[i] = at;
        i = step;
    }
    return at;
}

static void paint(struct painting *p, struct piece_range r, uint32_t result)
{
    for (size_t i = unpainted(p, r.first); i <= r.last; i = unpainted(p, i + 1)) {
        p->result[i] = result;
        p->next[i] = i + 1;
    }
}

/* What a rule's own pattern covers: none, one or two ranges. */
static size_t ranges_of(const struct painting *p, const struct rule *u, struct piece_range out[2])
{
    u128 from, to;
    if (u->net.addr.family != p->family)
        return 0;
    ends_of(&u->net, &from, &to);
    struct piece_range in = { piece_at(p, from), to == 0 ? p->count - 1 : piece_at(p, to) - 1 };
    if (!u->negated) {
        out[0] = in;
        return 1;
    }
    size_t n = 0;
    if (in.first > 0)
        out[n++] = (struct piece_range){ 0, in.first - 1 };
    if (in.last + 1 < p->count)
        out[n++] = (struct piece_range){ in.last + 1, p->count - 1 };
    return n;
}

/* What both the region and the rule cover; fn is called for each range of it. */
static void intersect(struct painting *p, const struct region *region, const struct rule *u,
                      void (*fn)(struct painting *p, struct piece_range r, void *arg), void *arg)
{
    struct piece_range own[2];
    size_t n = ranges_of(p, u, own);
    for (size_t i = 0; i < region->count; i++) {
        for (size_t k = 0; k < n; k++) {
            struct piece_range a = region->ranges[i], b = own[k];
            struct piece_range both = { a.first > b.first ? a.first : b.first, a.last < b.last ? a.last : b.last };
            if (both.first <= both.last)
                fn(p, both, arg);
        }
    }
}

static void paint_cb(struct painting *p, struct piece_range r, void *arg)
{
    paint(p, r, *(const uint32_t *)arg);
}

static void add_range_cb(struct painting *p, struct piece_range r, void *arg)
{
    struct region *region = arg;
    (void)p;
    region->ranges = xrealloc(region->ranges, (region->count + 1) * sizeof *region->ranges);
    region->ranges[region->count++] = r;
}

static void enter_if(struct painting *p, const struct rule *u)
{
    struct region inner = { NULL, 0 };
    intersect(p, &p->stack[p->depth], u, add_range_cb, &inner);
    p->stack = xrealloc(p->stack, (p->depth + 2) * sizeof *p->stack);
    p->stack[++p->depth] = inner;
}

/* numbers[i]: of the result of rule i. */
static void paint_all(struct painting *p, const uint32_t *numbers)
{
    struct piece_range all = { 0, p->count - 1 };
    p->stack = xcalloc(1, sizeof *p->stack);
    add_range_cb(p, all, &p->stack[0]);
    for (size_t i = 0; i < p->rule_count; i++) {
        const struct rule *u = &p->rules[i];
        uint32_t number = numbers[i];
        switch (u->kind) {
        case RULE_RESULT:
            intersect(p, &p->stack[p->depth], u, paint_cb, &number);
            break;
        case RULE_IF:
            enter_if(p, u);
            break;
        case RULE_ENDIF:
            free(p->stack[p->depth--].ranges);
            break;
        }
    }
    for (size_t i = 0; i <= p->depth; i++)
        free(p->stack[i].ranges);
    free(p->stack);
}

/* Neighbours with one answer become one piece; then the table takes its final form. */
static void keep(struct painting *p, struct answers *out)
{
    size_t n = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (n > 0 && p->result[n - 1] == p->result[i])
            continue;
        p->from[n] = p->from[i];
        p->result[n++] = p->result[i];
    }
    out->count = n;
    out->result = xrealloc(p->result, n * sizeof *p->result);
    if (p->family == IP_V4)
        out->from4 = xmalloc(n * sizeof *out->from4);
    else
        out->from6 = xmalloc(n * sizeof *out->from6);
    for (size_t i = 0; i < n; i++) {
        if (p->family == IP_V4) {
            out->from4[i] = (uint32_t)p->from[i];
        } else {
            out->from6[i].hi = (uint64_t)(p->from[i] >> 64);
            out->from6[i].lo = (uint64_t)p->from[i];
        }
    }
    free(p->from);
    free(p->next);
}

static void build(const struct rule *rules, size_t count, const uint32_t *numbers, uint8_t family, struct answers *out)
{
    struct painting p = { .rules = rules, .rule_count = count, .family = family };
    cut(&p);
    paint_all(&p, numbers);
    keep(&p, out);
}

/* Rules behind one another that say the same share a result: the usual table says REJECT a hundred thousand times. */
static uint32_t *number_results(struct cidr_index *x, const struct rule *rules, size_t count)
{
    uint32_t *numbers = xcalloc(count + 1, sizeof *numbers);
    x->results = xcalloc(count + 1, sizeof *x->results);
    x->result_count = 1;
    for (size_t i = 0; i < count; i++) {
        if (rules[i].kind != RULE_RESULT)
            continue;
        if (x->result_count == 1 || !span_eq(x->results[x->result_count - 1], rules[i].result))
            x->results[x->result_count++] = rules[i].result;
        numbers[i] = x->result_count - 1;
    }
    x->results = xrealloc(x->results, x->result_count * sizeof *x->results);
    return numbers;
}

struct cidr_index *cidr_index_new(const struct rule *rules, size_t count)
{
    struct cidr_index *x = xcalloc(1, sizeof *x);
    uint32_t *numbers = number_results(x, rules, count);
    build(rules, count, numbers, IP_V4, &x->v4);
    build(rules, count, numbers, IP_V6, &x->v6);
    free(numbers);
    return x;
}

void cidr_index_free(struct cidr_index **xp)
{
    struct cidr_index *x = *xp;
    if (x == NULL)
        return;
    struct answers *both[] = { &x->v4, &x->v6 };
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        free(both[i]->result);
        free(both[i]->from4);
        free(both[i]->from6);
    }
    free(x->results);
    free(x);
    *xp = NULL;
}

/* ---- asking ---- */

static size_t find4(const struct answers *a, uint32_t address)
{
    size_t lo = 0, hi = a->count;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (a->from4[mid] <= address)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static size_t find6(const struct answers *a, uint64_t high, uint64_t low)
{
    size_t lo = 0, hi = a->count;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (a->from6[mid].hi < high || (a->from6[mid].hi == high && a->from6[mid].lo <= low))
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

struct span cidr_index_find(const struct cidr_index *x, const struct ip_addr *ip)
{
    u128 v = number_of(ip);
    if (ip->family == IP_V4)
        return x->results[x->v4.result[find4(&x->v4, (uint32_t)v)]];
    return x->results[x->v6.result[find6(&x->v6, (uint64_t)(v >> 64), (uint64_t)v)]];
}

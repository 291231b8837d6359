/*
 * A list is a sequence of elements, tried in order; the first that matches decides, by its own sign. Neighbours of one
 * sign and kind are one element, so the common list (a few names, a few networks) is one probe or one short scan.
 */
#include "common/base/ascii.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/table/lines.h"
#include "common/table/match_list.h"
#include "common/table/strmap.h"

#define FILE_BYTES_MAX (64u << 20)
#define NAME_STACK     512
#define FILE_DEPTH_MAX 8

enum element_kind { EL_NAMES, EL_NETS, EL_TABLE, EL_BROKEN };

struct element {
    enum element_kind kind;
    bool negated;
    struct strmap names;   /* EL_NAMES: lower case, in the arena of the list */
    struct ip_net *nets;   /* EL_NETS: owned */
    size_t net_count;
    struct table *table;   /* EL_TABLE: held open */
    const char *why;       /* EL_BROKEN: in the arena */
};

struct match_list {
    enum match_kind kind;
    bool parents;
    struct element *el;    /* owned */
    size_t count;
    struct arena *arena;   /* owned */
    char *text;            /* owned: the names' bytes, one block so that strmap can point into it */
    size_t text_n, text_cap;
    const char *title;
};

static struct element *element_for(struct match_list *l, enum element_kind kind, bool negated)
{
    struct element *last = l->count ? &l->el[l->count - 1] : NULL;
    if (last != NULL && last->kind == kind && last->negated == negated && (kind == EL_NAMES || kind == EL_NETS))
        return last;
    l->el = xrealloc(l->el, (l->count + 1) * sizeof *l->el);
    last = &l->el[l->count++];
    *last = (struct element){ .kind = kind, .negated = negated };
    return last;
}

static void problem(const struct match_options *o, enum table_status status, const char *text)
{
    if (o->problem != NULL)
        o->problem(o->arg, status, text);
}

/* Names are gathered first; the block may move while it grows, so rows use offsets and learn their base here. */
static void add_name(struct match_list *l, struct span name, bool negated)
{
    if (l->text_n + name.n > l->text_cap) {
        l->text_cap = (l->text_n + name.n) * 2 + 64;
        l->text = xrealloc(l->text, l->text_cap);
        for (size_t i = 0; i < l->count; i++)
            l->el[i].names.base = l->text;
    }
    char *p = l->text + l->text_n;
    if (name.n)
        memcpy(p, name.p, name.n);
    ascii_lower_buf(p, name.n);
    struct element *el = element_for(l, EL_NAMES, negated);
    el->names.base = l->text;
    if (strmap_add(&el->names, span_of(p, name.n), span_of(NULL, 0), false))
        l->text_n += name.n;
}

static void add_broken(struct match_list *l, const struct match_options *o, bool negated, enum table_status status,
                       const char *why)
{
    element_for(l, EL_BROKEN, negated)->why = arena_strdup(l->arena, why);
    problem(o, status, why);
}

static void add_table(struct match_list *l, const struct match_options *o, struct span item, bool negated)
{
    struct err e = ERR_INIT;
    enum table_status status;
    struct table *t = table_open(o->registry, item, 0, &o->notes, &status, &e);
    element_for(l, EL_TABLE, negated)->table = t;
    if (status != TABLE_OK)
        problem(o, status, e.text);
}

static void add_address(struct match_list *l, const struct match_options *o, struct span item, bool negated)
{
    struct ip_net net;
    struct err e = ERR_INIT;
    if (ip_net_parse(item, &net, &e)) {
        struct element *el = element_for(l, EL_NETS, negated);
        el->nets = xrealloc(el->nets, (el->net_count + 1) * sizeof *el->nets);
        el->nets[el->net_count++] = net;
        return;
    }
    add_broken(l, o, negated, TABLE_BAD, e.text);
}

static bool is_address_item(struct span item)
{
    if (item.p[0] == '[' || span_find(item, '/') > 0)
        return true;
    struct ip_addr ip;
    return ip_parse(item, &ip);
}

static void add_items(struct match_list *l, const struct match_options *o, struct span list, bool negated, int depth);

static void add_file(struct match_list *l, const struct match_options *o, struct span item, bool negated, int depth)
{
    struct buf text = BUF_INIT(FILE_BYTES_MAX);
    struct err e = ERR_INIT;
    char *path = xstrndup(item.p, item.n);
    if (depth >= FILE_DEPTH_MAX) {
        err_set(&e, "%s: files that name files, too deep", path);
        add_broken(l, o, negated, TABLE_BAD, e.text);
    } else if (!io_read_file(path, &text, &e)) {
        add_broken(l, o, negated, TABLE_BROKEN, e.text);
    } else {
        struct lines ls = lines_of(text.p, text.n);
        struct line line;
        while (lines_next(&ls, &line))
            add_items(l, o, span_of(line.p, line.n), negated, depth + 1);
    }
    free(path);
    buf_free(&text);
}

static void add_item(struct match_list *l, const struct match_options *o, struct span item, bool negated, int depth)
{
    while (item.n > 0 && item.p[0] == '!') {
        negated = !negated;
        item = span_trim(span_from(item, 1));
    }
    if (item.n == 0)
        add_broken(l, o, negated, TABLE_BAD, "a \"!\" without a pattern behind it");
    else if (item.p[0] == '/')
        add_file(l, o, item, negated, depth);
    else if (item.p[0] != '[' && span_find(item, ':') >= 0)
        add_table(l, o, item, negated);
    else if (l->kind == MATCH_HOSTS && is_address_item(item))
        add_address(l, o, item, negated);
    else
        add_name(l, item, negated);
}

static void add_items(struct match_list *l, const struct match_options *o, struct span list, bool negated, int depth)
{
    struct span item;
    bool braced;
    while (conf_list_next(&list, &item, &braced))
        add_item(l, o, item, negated, depth);
}

struct match_list *match_list_compile(const struct match_options *o)
{
    struct match_list *l = xcalloc(1, sizeof *l);
    l->kind = o->kind;
    l->parents = o->parents;
    l->arena = arena_new(1024);
    l->title = arena_strdup(l->arena, o->title ? o->title : "list");
    add_items(l, o, o->list, false, 0);
    for (size_t i = 0; i < l->count; i++)
        strmap_trim(&l->el[i].names);
    return l;
}

void match_list_free(struct match_list **lp)
{
    struct match_list *l = *lp;
    if (l == NULL)
        return;
    for (size_t i = 0; i < l->count; i++) {
        strmap_free(&l->el[i].names);
        free(l->el[i].nets);
        table_close(&l->el[i].table);
    }
    free(l->el);
    free(l->text);
    arena_free(&l->arena);
    free(l);
    *lp = NULL;
}

bool match_list_is_empty(const struct match_list *l)
{
    return l == NULL || l->count == 0;
}

bool match_list_may_wait(const struct match_list *l)
{
    for (size_t i = 0; l != NULL && i < l->count; i++)
        if (l->el[i].kind == EL_TABLE && table_may_wait(l->el[i].table))
            return true;
    return false;
}

/* ---- asking ---- */

/* What is asked, in lower case. */
struct question {
    struct span name;
    const struct ip_addr *addr; /* NULL for names */
    struct span addr_text;
};

static bool in_names(const struct match_list *l, const struct element *el, struct span name)
{
    if (name.n == 0)
        return false;
    if (strmap_get(&el->names, name) != NULL)
        return true;
    if (l->kind == MATCH_NAMES)
        return false;
    for (size_t i = 1; i < name.n; i++) {
        if (name.p[i] == '.' && strmap_get(&el->names, span_from(name, l->parents ? i + 1 : i)) != NULL)
            return true;
    }
    return false;
}

static bool in_nets(const struct element *el, const struct ip_addr *addr)
{
    for (size_t i = 0; addr != NULL && i < el->net_count; i++) {
        if (ip_net_contains(&el->nets[i], addr))
            return true;
    }
    return false;
}

static enum lookup in_table(const struct match_list *l, const struct element *el, const struct question *q,
                            struct err *e)
{
    enum lookup got = LOOKUP_NONE;
    if (q->name.n > 0)
        got = table_lookup(el->table, q->name, NULL, NULL, e);
    for (size_t i = 1; got == LOOKUP_NONE && l->kind != MATCH_NAMES && i < q->name.n; i++) {
        if (q->name.p[i] == '.' && table_is_fixed(el->table))
            got = table_lookup(el->table, span_from(q->name, l->parents ? i + 1 : i), NULL, NULL, e);
    }
    if (got == LOOKUP_NONE && q->addr != NULL && q->addr_text.n > 0)
        got = table_lookup(el->table, q->addr_text, NULL, NULL, e);
    return got;
}

static enum lookup ask(const struct match_list *l, const struct question *q, struct err *e)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct element *el = &l->el[i];
        enum lookup got = LOOKUP_NONE;
        switch (el->kind) {
        case EL_NAMES:
            got = in_names(l, el, q->name) ? LOOKUP_FOUND : LOOKUP_NONE;
            break;
        case EL_NETS:
            got = in_nets(el, q->addr) ? LOOKUP_FOUND : LOOKUP_NONE;
            break;
        case EL_TABLE:
            got = in_table(l, el, q, e);
            break;
        case EL_BROKEN:
            err_set(e, "%s", el->why);
            got = LOOKUP_TEMPFAIL;
            break;
        }
        if (got == LOOKUP_TEMPFAIL) {
            err_prefix(e, "%s", l->title);
            return got;
        }
        if (got == LOOKUP_FOUND)
            return el->negated ? LOOKUP_NONE : LOOKUP_FOUND;
    }
    return LOOKUP_NONE;
}

/* Puts a lower-case copy into small or the heap. */
static struct span lower_copy(struct span s, char small[static NAME_STACK], char **heap)
{
    char *p = small;
    *heap = NULL;
    if (s.n > NAME_STACK)
        p = *heap = xmalloc(s.n);
    for (size_t i = 0; i < s.n; i++)
        p[i] = ascii_lower(s.p[i]);
    return span_of(p, s.n);
}

enum lookup match_list_name(const struct match_list *l, struct span name, struct err *e)
{
    if (match_list_is_empty(l))
        return LOOKUP_NONE;
    char small[NAME_STACK];
    char *heap;
    struct question q = { .name = lower_copy(name, small, &heap) };
    enum lookup got = ask(l, &q, e);
    free(heap);
    return got;
}

enum lookup match_list_host(const struct match_list *l, struct span name, const struct ip_addr *addr,
                            struct span addr_text, struct err *e)
{
    if (match_list_is_empty(l))
        return LOOKUP_NONE;
    char small[NAME_STACK];
    char *heap;
    struct question q = { .name = lower_copy(name, small, &heap), .addr = addr, .addr_text = addr_text };
    enum lookup got = ask(l, &q, e);
    free(heap);
    return got;
}

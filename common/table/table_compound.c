/*
 * unionmap, pipemap, randmap, debug: tables made of tables, and a choice of values
 *
 * unionmap:{a,b} joins with commas what its tables find; pipemap:{a,b} asks the second for what the first found, and so
 * on; randmap:{x,y} answers one of its values for any key. debug:type:name is another table whose look-ups are logged.
 */
#include <stdlib.h>
#include <sys/random.h>

#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/table/table_internal.h"

struct compound_content {
    struct table_content base;
    struct table **tables;  /* owned; held open */
    struct span *values;    /* randmap: in the arena */
    size_t count;
    struct arena *arena;    /* owned */
    const struct log_src *log; /* debug: borrowed */
};

static void compound_free(struct table_content *c)
{
    struct compound_content *k = (struct compound_content *)c;
    for (size_t i = 0; k->tables != NULL && i < k->count; i++)
        table_close(&k->tables[i]);
    free(k->tables);
    free(k->values);
    arena_free(&k->arena);
    free(k);
}

static enum lookup union_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                              struct err *e)
{
    const struct compound_content *k = (const struct compound_content *)c;
    struct span all = { NULL, 0 }, one;
    bool found = false;
    for (size_t i = 0; i < k->count; i++) {
        enum lookup got = table_lookup(k->tables[i], key, a, value != NULL ? &one : NULL, e);
        if (got == LOOKUP_TEMPFAIL)
            return got;
        if (got == LOOKUP_NONE)
            continue;
        if (value != NULL)
            all = found ? span_cstr(arena_printf(a, "%.*s,%.*s", SPAN_ARG(all), SPAN_ARG(one))) : one;
        found = true;
    }
    if (found && value != NULL)
        *value = all;
    return found ? LOOKUP_FOUND : LOOKUP_NONE;
}

static enum lookup pipe_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                             struct err *e)
{
    const struct compound_content *k = (const struct compound_content *)c;
    struct arena *own = a == NULL ? arena_new(0) : NULL; /* the values in between are needed even if the last is not */
    enum lookup got = LOOKUP_NONE;
    for (size_t i = 0; i < k->count; i++) {
        got = table_lookup(k->tables[i], key, a != NULL ? a : own, &key, e);
        if (got != LOOKUP_FOUND)
            break;
    }
    if (got == LOOKUP_FOUND && value != NULL)
        *value = key;
    arena_free(&own);
    return got;
}

static enum lookup rand_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                             struct err *e)
{
    const struct compound_content *k = (const struct compound_content *)c;
    uint32_t n = 0;
    (void)key;
    if (getrandom(&n, sizeof n, 0) != (ssize_t)sizeof n) {
        err_set(e, "no random number");
        return LOOKUP_TEMPFAIL;
    }
    return table_found(k->values[n % k->count], a, value);
}

/* The line has Postfix's form. */
static enum lookup debug_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                              struct err *e)
{
    const struct compound_content *k = (const struct compound_content *)c;
    struct arena *own = a == NULL ? arena_new(0) : NULL;
    struct span found = { NULL, 0 };
    enum lookup got = table_lookup(k->tables[0], key, a != NULL ? a : own, &found, e);
    if (got != LOOKUP_FOUND)
        found = got == LOOKUP_NONE ? SPAN_LIT("not_found") : SPAN_LIT("error");
    log_info(k->log, "%s lookup: \"%.*s\" = \"%.*s\"", table_name(k->tables[0]), SPAN_ARG(key), SPAN_ARG(found));
    if (got == LOOKUP_FOUND && value != NULL)
        *value = found;
    arena_free(&own);
    return got;
}

static bool debug_each(const struct table_content *c, table_row_fn *fn, void *arg, struct err *e)
{
    return table_each(((const struct compound_content *)c)->tables[0], fn, arg, e);
}

static const struct table_ops debug_ops = { .find = debug_find, .free = compound_free, .each = debug_each };
static const struct table_ops union_ops = { .find = union_find, .free = compound_free };
static const struct table_ops pipe_ops = { .find = pipe_find, .free = compound_free };
static const struct table_ops rand_ops = { .find = rand_find, .free = compound_free };

static bool add_member(struct compound_content *k, const struct table_load *in, struct span item, struct err *e)
{
    enum table_status status;
    if (k->base.ops == &rand_ops) {
        k->values = xrealloc(k->values, (k->count + 1) * sizeof *k->values);
        k->values[k->count++] = arena_dup_span(k->arena, item);
        return true;
    }
    k->tables = xrealloc(k->tables, (k->count + 1) * sizeof *k->tables);
    k->tables[k->count++] = table_open(in->registry, item, in->flags, in->notes, &status, e);
    k->base.is_pattern &= !table_is_fixed(k->tables[k->count - 1]);
    k->base.may_wait |= table_may_wait(k->tables[k->count - 1]);
    return status == TABLE_OK || status == TABLE_BROKEN; /* a file may come back */
}

static bool compound_load(const struct table_ops *ops, const struct table_load *in, struct table_content **out, struct err *e)
{
    struct span rest = in->name, item;
    bool braced, ok = true;
    if (rest.n < 2 || rest.p[0] != '{' || rest.p[rest.n - 1] != '}') {
        err_set(e, "expected { item, item, ... } behind the type");
        return false;
    }
    rest = span_of(rest.p + 1, rest.n - 2);
    struct compound_content *k = xcalloc(1, sizeof *k);
    k->base.ops = ops;
    atomic_init(&k->base.refs, 1);
    k->base.is_pattern = true;
    k->arena = arena_new(256);
    while (ok && conf_list_next(&rest, &item, &braced))
        ok = add_member(k, in, item, e);
    if (ok && k->count == 0) {
        err_set(e, "there is nothing between the braces");
        ok = false;
    }
    if (!ok) {
        compound_free(&k->base);
        return false;
    }
    *out = &k->base;
    return true;
}

bool table_union_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    return compound_load(&union_ops, in, out, e);
}

bool table_pipe_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    return compound_load(&pipe_ops, in, out, e);
}

bool table_rand_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    return compound_load(&rand_ops, in, out, e);
}

bool table_debug_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    struct compound_content *k = xcalloc(1, sizeof *k);
    k->base.ops = &debug_ops;
    atomic_init(&k->base.refs, 1);
    k->base.is_pattern = true;
    k->log = table_registry_log(in->registry);
    if (span_find(in->name, ':') < 0)
        err_set(e, "expected debug:type:name");
    else if (add_member(k, in, in->name, e)) {
        *out = &k->base;
        return true;
    }
    compound_free(&k->base);
    return false;
}

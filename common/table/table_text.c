/*
 * hash, btree, lmdb, cdb, dbm, texthash: the source text of a map, in memory
 *
 * The file stays as it was read, except that continuation lines are joined and keys lower-cased in place; the map's
 * rows point into it. Of duplicate keys the first counts, as with postmap.
 */
#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/table/lines.h"
#include "common/table/strmap.h"
#include "common/table/table_internal.h"

struct text_content {
    struct table_content base;
    char *text;          /* owned */
    struct strmap map;
};

static enum lookup text_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                             struct err *e)
{
    const struct text_content *t = (const struct text_content *)c;
    (void)e;
    const struct strmap_row *row = strmap_get(&t->map, key);
    return row == NULL ? LOOKUP_NONE : table_found(strmap_value(&t->map, row), a, value);
}

static void text_free(struct table_content *c)
{
    struct text_content *t = (struct text_content *)c;
    strmap_free(&t->map);
    free(t->text);
    free(t);
}

static const struct table_ops text_ops = { text_find, text_free };

/* Length of a key that ends at white space; white space between double quotes belongs to it. */
static size_t key_length(const struct line *l)
{
    bool quoted = false;
    size_t i = 0;
    for (; i < l->n; i++) {
        if (quoted && l->p[i] == '\\' && i + 1 < l->n)
            i++;
        else if (l->p[i] == '"')
            quoted = !quoted;
        else if (!quoted && ascii_is_space(l->p[i]))
            break;
    }
    return i;
}

static bool split_map_line(const struct line *l, struct span *key, struct span *value, const char **why)
{
    size_t n = key_length(l);
    *key = span_of(l->p, n);
    *value = span_trim(span_of(l->p + n, l->n - n));
    *why = "expected: key, white space, value";
    return n > 0 && value->n > 0;
}

/* Takes the quotes and backslashes of a quoted name away, in place. */
static struct span unquote(char *p, size_t n)
{
    size_t to = 0;
    for (size_t i = 1; i + 1 < n; i++) {
        if (p[i] == '\\' && i + 2 < n)
            i++;
        p[to++] = p[i];
    }
    return span_of(p, to);
}

static bool split_alias_line(const struct line *l, struct span *key, struct span *value, const char **why)
{
    bool quoted = false;
    size_t i = 0;
    *why = "expected: name, colon, value";
    for (; i < l->n && (quoted || l->p[i] != ':'); i++) {
        if (quoted && l->p[i] == '\\' && i + 1 < l->n)
            i++;
        else if (l->p[i] == '"')
            quoted = !quoted;
    }
    if (i >= l->n)
        return false;
    struct span name = span_trim(span_of(l->p, i));
    *value = span_trim(span_of(l->p + i + 1, l->n - i - 1));
    if (name.n >= 2 && name.p[0] == '"' && name.p[name.n - 1] == '"')
        name = unquote(l->p + (name.p - l->p), name.n);
    *key = name;
    return name.n > 0 && value->n > 0;
}

static bool add_line(const struct table_load *in, struct text_content *t, const struct line *l, struct err *e)
{
    struct span key = { NULL, 0 }, value = { NULL, 0 };
    const char *why;
    bool aliases = in->flags & TABLE_ALIASES;
    if (l->is_stray)
        return table_bad_line(in, l->number, e, "a line that begins with white space continues the one before it, but there is none; ignored");
    bool ok = aliases ? split_alias_line(l, &key, &value, &why) : split_map_line(l, &key, &value, &why);
    if (!ok)
        return table_bad_line(in, l->number, e, "%s; ignored", why);
    ascii_lower_buf(l->p + (key.p - l->p), key.n);
    if (!strmap_add(&t->map, key, value, false) && !in->strict)
        return table_bad_line(in, l->number, e, "duplicate entry \"%.*s\"; the first one counts", (int)(key.n > 100 ? 100 : key.n), key.p);
    return true;
}

bool table_text_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    if (in->text == NULL) {
        err_set(e, "expected the name of a file");
        return false;
    }
    struct text_content *t = xcalloc(1, sizeof *t);
    size_t n = in->text->n;
    t->base.ops = &text_ops;
    atomic_init(&t->base.refs, 1);
    t->text = buf_detach(in->text);
    strmap_init(&t->map, t->text);
    struct lines ls = lines_of(t->text, n);
    struct line l;
    while (lines_next(&ls, &l)) {
        if (!add_line(in, t, &l, e)) {
            text_free(&t->base);
            return false;
        }
    }
    strmap_trim(&t->map);
    *out = &t->base;
    return true;
}

/*
 * hash, btree, texthash, dbm, sdbm: the source text of a map, in memory; lmdb, cdb: the database, or the text when there is none
 *
 * The file stays as it was read, except that continuation lines are joined and keys folded in place; the map's rows point
 * into it. A key that folding makes longer goes to room kept behind the text. Of duplicate keys the first counts, as with
 * postmap.
 */
#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/table/fold.h"
#include "common/table/source.h"
#include "common/table/strmap.h"
#include "common/table/table_database.h"
#include "common/table/table_internal.h"

#define KEY_SHOWN 100

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

static bool text_each(const struct table_content *c, table_row_fn *fn, void *arg, struct err *e)
{
    const struct text_content *t = (const struct text_content *)c;
    (void)e;
    for (uint32_t i = 0; i < t->map.count; i++) {
        if (!fn(arg, strmap_key(&t->map, &t->map.rows[i]), strmap_value(&t->map, &t->map.rows[i])))
            break;
    }
    return true;
}

static void text_free(struct table_content *c)
{
    struct text_content *t = (struct text_content *)c;
    strmap_free(&t->map);
    free(t->text);
    free(t);
}

static const struct table_ops text_ops = { .find = text_find, .free = text_free, .each = text_each };

struct text_load {
    const struct table_load *in;
    struct text_content *t;
    char *room, *room_end;   /* for folded keys that grow */
    struct err *e;
};

/* In place, or into the room behind the text. False when the key is no UTF-8. */
static bool fold_key(struct text_load *x, struct span *key)
{
    char *p = x->t->text + (key->p - x->t->text);
    if (x->in->flags & TABLE_KEEP_CASE)
        return (x->in->flags & TABLE_BYTES) || fold_is_utf8(*key);
    if ((x->in->flags & TABLE_BYTES) || fold_is_ascii(*key)) {
        ascii_lower_buf(p, key->n);
        return true;
    }
    char *to = key->n * FOLD_GROWTH <= (size_t)(x->room_end - x->room) ? x->room : NULL;
    ptrdiff_t n = to != NULL ? fold_utf8(*key, to) : -1;
    if (n < 0)
        return false;
    *key = span_of(to, (size_t)n);
    x->room += n;
    return true;
}

static bool add_row(struct text_load *x, const struct source_row *row)
{
    const struct table_load *in = x->in;
    struct span key = row->key;
    if (row->why != NULL)
        return table_bad_line(in, row->line, x->e, "%s; ignored", row->why);
    if (row->warning != NULL)
        table_odd_line(in, row->line, "%s", row->warning);
    if (!fold_key(x, &key))
        return table_bad_line(in, row->line, x->e, "the key is not valid UTF-8; ignored");
    if (!(in->flags & TABLE_BYTES) && !fold_is_utf8(row->value))
        return table_bad_line(in, row->line, x->e, "the value is not valid UTF-8; ignored");
    if (!strmap_add(&x->t->map, key, row->value, false))
        table_odd_line(in, row->line, "duplicate entry \"%.*s\"; the first one counts",
                       (int)(key.n > KEY_SHOWN ? KEY_SHOWN : key.n), key.p);
    return true;
}

static size_t count_8bit(struct span s)
{
    size_t n = 0;
    if (!fold_is_ascii(s)) {
        for (size_t i = 0; i < s.n; i++)
            n += ascii_is_8bit(s.p[i]);
    }
    return n;
}

static bool read_source(struct text_load *x, size_t n, size_t room)
{
    x->room = x->t->text + n;
    x->room_end = x->room + room;
    struct source s = { .lines = lines_of(x->t->text, n), .is_aliases = x->in->flags & TABLE_ALIASES };
    struct source_row row;
    while (source_next(&s, &row)) {
        if (!add_row(x, &row))
            return false;
    }
    return true;
}

/* Writers have folded the keys already. */
static bool add_database_row(void *arg, struct span key, struct span value)
{
    struct text_load *x = arg;
    if (value.n > 0)
        (void)!strmap_add(&x->t->map, key, value, false);
    return true;
}

static struct text_content *text_new(void)
{
    struct text_content *t = xcalloc(1, sizeof *t);
    t->base.ops = &text_ops;
    atomic_init(&t->base.refs, 1);
    return t;
}

typedef bool database_fn(struct span file, table_database_row_fn *fn, void *arg, struct err *e);

static bool load(const struct table_load *in, database_fn *database, struct table_content **out, struct err *e)
{
    if (in->text == NULL) {
        err_set(e, "expected the name of a file");
        return false;
    }
    size_t n = in->text->n;
    /* a key with k bytes of 8 bits grows by less than three times its own length; keys are short beside that bound */
    size_t room = in->is_database || (in->flags & TABLE_BYTES) || count_8bit(buf_span(in->text)) == 0 ? 0 : n * FOLD_GROWTH;
    if (!buf_reserve(in->text, room + 1)) {
        err_set(e, "too large");
        return false;
    }
    struct text_load x = { .in = in, .t = text_new(), .e = e };
    x.t->text = buf_detach(in->text);
    strmap_init(&x.t->map, x.t->text);
    bool ok = in->is_database ? database(span_of(x.t->text, n), add_database_row, &x, e) : read_source(&x, n, room);
    if (!ok) {
        text_free(&x.t->base);
        return false;
    }
    if (room > 0) { /* gives back what was not needed */
        size_t used = (size_t)(x.room - x.t->text);
        x.t->text = xrealloc(x.t->text, used > 0 ? used : 1);
        x.t->map.base = x.t->text;
    }
    strmap_trim(&x.t->map);
    *out = &x.t->base;
    return true;
}

bool table_text_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    return load(in, NULL, out, e);
}

bool table_lmdb_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    return load(in, table_database_lmdb, out, e);
}

bool table_cdb_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    return load(in, table_database_cdb, out, e);
}

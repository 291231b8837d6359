#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/table/lines.h"
#include "common/table/strmap.h"
#include "common/table/table_config.h"

struct table_config {
    char *file;        /* owned; for messages */
    char *text;        /* owned; values end with a NUL in it */
    struct strmap map; /* names and values in text */
};

void table_config_free(struct table_config **cp)
{
    struct table_config *c = *cp;
    if (c == NULL)
        return;
    strmap_free(&c->map);
    free(c->file);
    free(c->text);
    free(c);
    *cp = NULL;
}

static bool is_known(struct span name, const char *const *known)
{
    for (; *known != NULL; known++) {
        if (span_eq(name, span_cstr(*known)))
            return true;
    }
    return false;
}

static bool add_line(struct table_config *c, const struct table_load *in, const struct line *l, const char *const *known,
                     struct err *e)
{
    ptrdiff_t eq = span_find(span_of(l->p, l->n), '=');
    struct span name = eq < 0 ? span_of(l->p, 0) : span_trim(span_of(l->p, (size_t)eq));
    if (l->is_stray || name.n == 0) {
        err_set(e, "%s, line %d: expected name = value", c->file, l->number);
        return false;
    }
    if (!is_known(name, known) && in->notes != NULL && in->notes->fn != NULL) {
        char text[200];
        snprintf(text, sizeof text, "\"%.*s\" means nothing to this type of table; ignored", (int)(name.n > 60 ? 60 : name.n),
                 name.p);
        in->notes->fn(in->notes->arg, false, c->file, l->number, text);
    }
    struct span value = span_trim(span_from(span_of(l->p, l->n), (size_t)eq + 1));
    l->p[l->n] = '\0'; /* the line's end, or the end of the file behind which buf_detach() has put a NUL */
    if (value.n == 0)
        value = span_of(l->p + l->n, 0);
    (void)!strmap_add(&c->map, name, value, true);
    return true;
}

struct table_config *table_config_read(const struct table_load *in, const char *const *known, struct err *e)
{
    if (in->text == NULL) {
        err_set(e, "expected the path of a file of name = value lines");
        return NULL;
    }
    struct table_config *c = xcalloc(1, sizeof *c);
    c->file = xstrndup(in->name.p ? in->name.p : "", in->name.n);
    size_t n = in->text->n;
    c->text = buf_detach(in->text);
    strmap_init(&c->map, c->text);
    struct lines ls = lines_of(c->text, n);
    struct line l;
    while (lines_next(&ls, &l)) {
        if (!add_line(c, in, &l, known, e)) {
            table_config_free(&c);
            return NULL;
        }
    }
    return c;
}

const char *table_config_text(const struct table_config *c, const char *name, const char *def)
{
    const struct strmap_row *row = strmap_get(&c->map, span_cstr(name));
    return row != NULL ? strmap_value(&c->map, row).p : def;
}

bool table_config_int(const struct table_config *c, const char *name, int64_t def, int64_t min, int64_t max, int64_t *out,
                      struct err *e)
{
    const char *text = table_config_text(c, name, NULL);
    if (text == NULL) {
        *out = def;
        return true;
    }
    if (num_parse(span_cstr(text), min, max, out))
        return true;
    err_set(e, "%s: %s = %.60s: expected a number from %lld to %lld", c->file, name, text, (long long)min, (long long)max);
    return false;
}

bool table_config_bool(const struct table_config *c, const char *name, bool def, bool *out, struct err *e)
{
    const char *text = table_config_text(c, name, NULL);
    if (text == NULL) {
        *out = def;
        return true;
    }
    *out = span_ieq_cstr(span_cstr(text), "yes");
    if (*out || span_ieq_cstr(span_cstr(text), "no"))
        return true;
    err_set(e, "%s: %s = %.60s: expected yes or no", c->file, name, text);
    return false;
}

#include "common/base/ascii.h"
#include "common/table/source.h"

/* A key ends at white space; not between double quotes. A backslash takes the next byte along. False when a quote is open. */
static bool split_map_line(const struct line *l, struct source_row *row)
{
    bool quoted = false;
    size_t i = 0;
    for (; i < l->n; i++) {
        if (l->p[i] == '\\' && i + 1 < l->n)
            i++;
        else if (l->p[i] == '"')
            quoted = !quoted;
        else if (!quoted && ascii_is_space(l->p[i]))
            break;
    }
    row->key = span_of(l->p, i);
    row->value = span_trim(span_of(l->p + i, l->n - i));
    row->why = quoted ? "a double quote without its partner" : "expected: key, white space, value";
    if (!quoted && i > 1 && l->p[i - 1] == ':')
        row->warning = "the key ends with a colon: is this a file of aliases?";
    return !quoted && i > 0 && row->value.n > 0;
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

static bool split_alias_line(const struct line *l, struct source_row *row)
{
    bool quoted = false, is_address = false;
    size_t i = 0;
    row->why = "expected: name, colon, value";
    for (; i < l->n && (quoted || l->p[i] != ':'); i++) {
        if (l->p[i] == '\\' && i + 1 < l->n)
            i++;
        else if (l->p[i] == '"')
            quoted = !quoted;
        else if (!quoted && (l->p[i] == '@' || l->p[i] == '%'))
            is_address = true;
        else if (!quoted && l->p[i] == ',')
            return false;
    }
    if (i >= l->n)
        return false;
    struct span name = span_trim(span_of(l->p, i));
    row->value = span_trim(span_of(l->p + i + 1, l->n - i - 1));
    if (name.n >= 2 && name.p[0] == '"' && name.p[name.n - 1] == '"')
        name = unquote(l->p + (name.p - l->p), name.n);
    row->key = name;
    if (is_address)
        row->why = "an alias is a local name, without a domain";
    return !is_address && name.n > 0 && row->value.n > 0;
}

bool source_next(struct source *s, struct source_row *out)
{
    struct line l;
    if (!lines_next(&s->lines, &l))
        return false;
    struct source_row row = { .line = l.number };
    if (l.is_stray)
        row.why = "a line that begins with white space continues the one before it, but there is none";
    else if (s->is_aliases ? split_alias_line(&l, &row) : split_map_line(&l, &row))
        row.why = NULL;
    *out = row;
    return true;
}

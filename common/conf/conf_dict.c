/* conf_dict: a hash by name plus the order of definition. */
#include "common/conf/conf_dict.h"
#include "common/base/ascii.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/conf/conf_ignore.h"
#include "common/conf/conf_lines.h"

struct node {
    struct conf_entry entry;
    size_t name_len;
    struct node *next;
    UT_hash_handle hh;
};

struct conf_dict {
    struct arena *arena; /* borrowed */
    struct node *by_name;
    struct conf_entry *first, *last;
    size_t count;
};

struct conf_dict *conf_dict_new(struct arena *arena)
{
    struct conf_dict *d = xcalloc(1, sizeof(*d));
    d->arena = arena;
    return d;
}

void conf_dict_free(struct conf_dict **d)
{
    if (*d == NULL)
        return;
    HASH_CLEAR(hh, (*d)->by_name);
    free(*d);
    *d = NULL;
}

static struct node *find(const struct conf_dict *d, struct span name)
{
    struct node *n = NULL;
    if (name.n > 0)
        HASH_FIND(hh, d->by_name, name.p, name.n, n);
    return n;
}

int conf_dict_set(struct conf_dict *d, struct span name, struct span value, const char *file, int line)
{
    struct node *n = find(d, name);
    int replaced = n ? n->entry.line : -1;
    if (n == NULL) {
        n = arena_alloc(d->arena, sizeof(*n));
        n->entry.name = arena_strndup(d->arena, name.p, name.n);
        n->name_len = name.n;
        HASH_ADD_KEYPTR(hh, d->by_name, n->entry.name, n->name_len, n);
        if (d->last != NULL)
            d->last->next = &n->entry;
        else
            d->first = &n->entry;
        d->last = &n->entry;
        d->count++;
    }
    n->entry.value = value.n ? arena_strndup(d->arena, value.p, value.n) : "";
    n->entry.file = file;
    n->entry.line = line;
    return replaced;
}

const struct conf_entry *conf_dict_get(const struct conf_dict *d, struct span name)
{
    struct node *n = find(d, name);
    return n ? &n->entry : NULL;
}

const struct conf_entry *conf_dict_first(const struct conf_dict *d)
{
    return d->first;
}

size_t conf_dict_count(const struct conf_dict *d)
{
    return d->count;
}

const char *conf_split_definition(struct span line, struct span *name, struct span *value)
{
    struct span s = span_trim(line);
    size_t n = 0;
    while (n < s.n && s.p[n] != '=' && !ascii_is_space(s.p[n]))
        n++;
    if (n == 0)
        return "name expected before '='";
    *name = span_of(s.p, n);
    s = span_trim(span_from(s, n));
    if (s.n == 0 || s.p[0] != '=')
        return "'=' expected behind the name";
    *value = span_trim(span_from(s, 1));
    return NULL;
}

static void read_definition(struct conf_dict *d, const struct conf_line *line, const char *file,
                            struct conf_report *report)
{
    struct span text = buf_span(&line->text), name, value;
    if (memchr(text.p, '\0', text.n) != NULL) {
        conf_report_add(report, CONF_ERROR, file, line->first, "a NUL byte: this is not a text file");
        return;
    }
    if (line->starts_blank) {
        conf_report_add(report, CONF_WARNING, file, line->first,
                        "ignored: \"%.*s\" begins with white space, but there is no line that it continues",
                        SPAN_ARG(span_of(text.p, text.n < 60 ? text.n : 60)));
        return;
    }
    const char *wrong = conf_split_definition(text, &name, &value);
    if (wrong != NULL) {
        conf_report_add(report, CONF_ERROR, file, line->first, "%s in \"%.*s\"; write it as: name = value", wrong,
                        SPAN_ARG(span_of(text.p, text.n < 60 ? text.n : 60)));
        return;
    }
    if (conf_ignored(name))
        return;
    const struct conf_entry *old = conf_dict_get(d, name);
    if (old != NULL && old->file == file)
        conf_report_add(report, CONF_WARNING, file, line->first,
                        "%.*s is defined again; its definition in line %d has no effect", SPAN_ARG(name), old->line);
    (void)conf_dict_set(d, name, value, file, line->first);
}

void conf_dict_read(struct conf_dict *d, struct span text, const char *file, struct conf_report *report)
{
    struct conf_lines lines;
    struct conf_line line = { .text = BUF_INIT(0) };
    conf_lines_init(&lines, text);
    while (conf_lines_next(&lines, &line))
        read_definition(d, &line, file, report);
    conf_line_free(&line);
}

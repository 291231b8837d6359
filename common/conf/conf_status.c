#include "common/base/buf.h"
#include "common/conf/conf_dict.h"
#include "common/conf/conf_internal.h"
#include "common/conf/conf_status.h"
#include "common/conf/master_cf.h"

/* The words of a value in its expanded form: what separates them does not matter. */
static char *value_words(const struct conf *c, const char *text)
{
    struct buf full = BUF_INIT(0), words = BUF_INIT(0);
    struct span rest, word;
    if (!conf_scope_expand_text(&c->global->scope, text, &full, NULL)) {
        buf_reset(&full);
        buf_puts(&full, text);
    }
    rest = buf_span(&full);
    while (span_next_token(&rest, " \t\r\n\v\f,", &word)) {
        buf_add_span(&words, word);
        buf_putc(&words, ' ');
    }
    buf_free(&full);
    return buf_detach(&words);
}

static bool is_default(const struct conf *c, const struct param_row *row, const char *value)
{
    char *set = value_words(c, value), *def = value_words(c, row->def);
    bool same = strcmp(set, def) == 0;
    free(set);
    free(def);
    return same;
}

static void each_of(const struct conf *c, const struct conf_dict *d,
                    void (*fn)(void *arg, const struct conf_idle_setting *s), void *arg)
{
    for (const struct conf_entry *e = conf_dict_first(d); e != NULL; e = e->next) {
        ptrdiff_t i = param_find(c->index, span_cstr(e->name));
        if (i < 0)
            continue;
        const struct param_row *row = param_row((size_t)i);
        struct conf_idle_setting s = { .file = e->file, .line = e->line, .name = e->name,
                                       .class = param_status_class(row->status), .why = param_status_text(row->status) };
        if (s.class != PARAM_CLASS_EFFECTIVE && !is_default(c, row, e->value))
            fn(arg, &s);
    }
}

void conf_each_idle_setting(const struct conf *c, void (*fn)(void *arg, const struct conf_idle_setting *s), void *arg)
{
    each_of(c, c->main, fn, arg);
    for (const struct master_line *l = c->lines; l != NULL; l = l->next)
        if (!l->replaced)
            each_of(c, l->overrides, fn, arg);
}

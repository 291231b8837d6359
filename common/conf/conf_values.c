/*
 * conf_values: every row of the tables expanded, checked and stored, once per scope. Equal texts are stored once in
 * the snapshot, so that two scopes with the same values compare equal byte by byte and can share one struct.
 *
 * Nearly all rows are nobody's business: not defined, with a default that refers to nothing. Their text is the default
 * itself, and every scope but the first has them from the global one.
 */
#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/conf/conf_internal.h"
#include "common/conf/expand.h"
#include "common/conf/param_value.h"

/* Where to look for the mistake, and what to call the value. */
static void report_bad(const struct conf_scope *s, struct conf_report *report, enum conf_severity sev,
                       const char *name, const char *text, const char *expected)
{
    const struct conf_entry *e = conf_scope_entry(s, span_cstr(name));
    struct span shown = span_cstr(text);
    if (shown.n > 80)
        shown.n = 80;
    if (e != NULL)
        conf_report_add(report, sev, e->file, e->line, "%s = %.*s: %s", name, SPAN_ARG(shown), expected);
    else
        conf_report_add(report, sev, NULL, 0, "%s = %.*s (by default): %s", name, SPAN_ARG(shown), expected);
}

/* Texts repeat between scopes: look the text up in what the global scope has at the same place. */
static const char *keep_text(struct conf *c, size_t row, struct buf *b)
{
    for (const struct conf_values *v = c->values; v != NULL; v = v->next) {
        if (v->text[row] != NULL && span_eq(span_cstr(v->text[row]), buf_span(b)))
            return v->text[row];
    }
    return b->n ? arena_strndup(c->arena, b->p, b->n) : "";
}

static void *home_of(struct conf_values *v, const struct param_row *row)
{
    switch (row->home) {
    case PARAM_HOME_PARAMS: return v->params;
    case PARAM_HOME_SMTP: return v->smtp;
    case PARAM_HOME_LMTP: return v->lmtp;
    case PARAM_HOME_TRANSPORT:
    case PARAM_HOME_NONE: return NULL;
    }
    return NULL;
}

/* Expands row `i` into *b; on failure the default is used, so that the struct is whole in any case. */
static void expand_row(struct conf_values *v, const struct param_row *row, struct buf *b, struct conf_report *report)
{
    const struct conf_scope *s = &v->scope;
    struct err e = ERR_INIT;
    buf_reset(b);
    if (row->name != NULL) {
        if (conf_scope_expand_row(s, row, b, &e))
            return;
        if (row->home != PARAM_HOME_NONE)
            report_bad(s, report, CONF_ERROR, row->name, conf_scope_raw(s, span_cstr(row->name)), e.text);
        else if (conf_scope_entry(s, span_cstr(row->name)) != NULL)
            report_bad(s, report, CONF_WARNING, row->name, conf_scope_raw(s, span_cstr(row->name)), e.text);
    } else if (conf_scope_expand_text(s, row->def, b, &e)) {
        return;
    }
    buf_reset(b);
    if (!conf_scope_expand_text(s, row->def, b, &e))
        buf_reset(b);
}

static void evaluate_row(struct conf *c, struct conf_values *v, size_t i, struct buf *b, struct conf_report *report)
{
    const struct param_row *row = param_row(i);
    void *home = home_of(v, row);
    struct err e = ERR_INIT;

    expand_row(v, row, b, report);
    if (row->kind == PARAM_ENUM)
        ascii_lower_buf(b->p, b->n);
    v->text[i] = keep_text(c, i, b);
    bool ok = home ? param_store(row, v->text[i], home, &e) : param_check(row, v->text[i], &e);
    if (ok)
        return;
    report_bad(&v->scope, report, CONF_ERROR, row->name ? row->name : "?", v->text[i], e.text);
    buf_reset(b);
    if (home != NULL && conf_scope_expand_text(&v->scope, row->def, b, &e) &&
        !param_store(row, keep_text(c, i, b), home, &e) && row->kind >= PARAM_STR) {
        const char *empty = "";
        memcpy((char *)home + row->offset, &empty, sizeof(empty));
    }
}

static void evaluate_named(struct conf *c, struct conf_values *v, const struct conf_dict *d,
                           struct conf_report *report)
{
    struct buf b = BUF_INIT(EXPAND_BYTES_MAX);
    for (const struct conf_entry *e = conf_dict_first(d); e != NULL; e = e->next) {
        struct span name = span_cstr(e->name);
        struct err err = ERR_INIT;
        if (param_find(c->index, name) >= 0)
            continue;
        buf_reset(&b);
        if (conf_scope_expand(&v->scope, name, &b, &err))
            (void)conf_dict_set(v->named, name, buf_span(&b), e->file, e->line);
        else
            report_bad(&v->scope, report, CONF_WARNING, e->name, e->value, err.text);
    }
    buf_free(&b);
}

static void mark_defined(const struct conf *c, const struct conf_dict *d, bool *is_defined)
{
    for (const struct conf_entry *e = d ? conf_dict_first(d) : NULL; e != NULL; e = e->next) {
        ptrdiff_t row = param_find(c->index, span_cstr(e->name));
        if (row >= 0)
            is_defined[row] = true;
    }
}

static bool *find_defined(const struct conf *c, const struct conf_scope *scope)
{
    bool *is_defined = xcalloc(param_count(), sizeof(*is_defined));
    const char *name;
    mark_defined(c, c->main, is_defined);
    mark_defined(c, scope->overrides, is_defined);
    for (size_t i = 0; (name = conf_scope_computed(i)) != NULL; i++) {
        ptrdiff_t row = param_find(c->index, span_cstr(name));
        if (row >= 0)
            is_defined[row] = true;
    }
    return is_defined;
}

/* A row that means its default in any scope; a word is put into lower case first. */
static bool is_constant(const struct param_row *row)
{
    return row->kind != PARAM_ENUM && strchr(row->def, '$') == NULL;
}

static void copy_global(struct conf_values *v, const struct conf_values *global)
{
    memcpy(v->text, global->text, param_count() * sizeof(*v->text));
    memcpy(v->params, global->params, sizeof(*v->params));
    memcpy(v->smtp, global->smtp, sizeof(*v->smtp));
    memcpy(v->lmtp, global->lmtp, sizeof(*v->lmtp));
}

static void store_default(struct conf_values *v, size_t i, struct conf_report *report)
{
    const struct param_row *row = param_row(i);
    void *home = home_of(v, row);
    struct err e = ERR_INIT;
    v->text[i] = row->def;
    if (home != NULL && !param_store(row, row->def, home, &e))
        report_bad(&v->scope, report, CONF_ERROR, row->name ? row->name : "?", row->def, e.text);
}

static void evaluate_rows(struct conf *c, struct conf_values *v, struct conf_report *report)
{
    struct buf b = BUF_INIT(EXPAND_BYTES_MAX);
    bool *is_defined = find_defined(c, &v->scope);
    for (size_t i = 0; i < param_count(); i++) {
        if (is_defined[i] || !is_constant(param_row(i)))
            evaluate_row(c, v, i, &b, report);
        else if (c->global == NULL)
            store_default(v, i, report);
    }
    free(is_defined);
    buf_free(&b);
}

struct conf_values *conf_values_make(struct conf *c, const struct conf_scope *scope, struct conf_report *report)
{
    struct conf_values *v = arena_alloc(c->arena, sizeof(*v));

    v->scope = *scope;
    v->text = arena_alloc(c->arena, param_count() * sizeof(*v->text));
    v->params = arena_alloc(c->arena, sizeof(*v->params));
    v->smtp = arena_alloc(c->arena, sizeof(*v->smtp));
    v->lmtp = arena_alloc(c->arena, sizeof(*v->lmtp));
    v->named = conf_dict_new(c->arena);
    if (c->global != NULL)
        copy_global(v, c->global);
    evaluate_rows(c, v, report);
    evaluate_named(c, v, c->main, report);
    if (scope->overrides != NULL)
        evaluate_named(c, v, scope->overrides, report);
    v->next = c->values;
    c->values = v;
    return v;
}

void conf_values_free_all(struct conf_values **list)
{
    for (struct conf_values *v = *list; v != NULL; v = v->next)
        conf_dict_free(&v->named);
    *list = NULL;
}

void conf_transport_limits(struct conf *c, const struct conf_values *v, const char *transport,
                           struct transport_limits *out, struct conf_report *report)
{
    struct buf b = BUF_INIT(EXPAND_BYTES_MAX);
    for (size_t i = 0; i < param_count(); i++) {
        const struct param_row *row = param_row(i);
        struct err e = ERR_INIT;
        if (row->home != PARAM_HOME_TRANSPORT)
            continue;
        const char *name = arena_printf(c->arena, "%s_%s", transport, row->suffix);
        const char *text = v->text[i];
        if (conf_scope_entry(&v->scope, span_cstr(name)) != NULL) {
            buf_reset(&b);
            if (!conf_scope_expand(&v->scope, span_cstr(name), &b, &e)) {
                report_bad(&v->scope, report, CONF_ERROR, name, conf_scope_raw(&v->scope, span_cstr(name)), e.text);
                continue;
            }
            text = b.n ? arena_strndup(c->arena, b.p, b.n) : "";
        }
        if (!param_store(row, text, out, &e))
            report_bad(&v->scope, report, CONF_ERROR, name, text, e.text);
    }
    buf_free(&b);
}

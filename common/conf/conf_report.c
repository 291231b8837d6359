/* conf_report: an array that grows; reports are short, so a linear search finds repetitions. */
#include "common/conf/conf_report.h"
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/conf/conf_internal.h"

#define FINDINGS_MAX 1000 /* a broken file need not be reported line by line */

static bool same_file(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool is_known(const struct conf_report *r, const char *file, int line, const char *text)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct conf_finding *f = &r->items[i];
        if (f->line == line && same_file(f->file, file) && strcmp(f->text, text) == 0)
            return true;
    }
    return false;
}

void conf_report_add(struct conf_report *r, enum conf_severity severity, const char *file, int line, const char *fmt,
                     ...)
{
    struct buf text = BUF_INIT(4096);
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    if (!buf_ok(&text)) {
        buf_reset(&text);
        buf_printf(&text, "%s (the whole finding is too long to print)", "a very long value is wrong");
    }
    for (size_t i = 0; i < text.n; i++) {
        if ((unsigned char)text.p[i] < 32)
            text.p[i] = ' ';
    }
    if ((r->count >= FINDINGS_MAX && severity != CONF_ERROR) || is_known(r, file, line, buf_cstr(&text))) {
        buf_free(&text);
        return;
    }
    r->items = xrealloc(r->items, (r->count + 1) * sizeof(*r->items));
    r->items[r->count++] = (struct conf_finding){
        .severity = severity,
        .file = file ? xstrdup(file) : NULL,
        .line = line,
        .text = buf_detach(&text),
    };
}

static const struct conf_entry *only_definition(const struct conf *c, struct span name)
{
    for (const struct master_line *l = c->lines; l != NULL; l = l->next) {
        if (conf_dict_get(l->overrides, name) != NULL)
            return NULL;
    }
    return conf_dict_get(c->main, name);
}

void conf_report_place(struct conf_report *r, const struct conf *c)
{
    for (size_t i = 0; i < r->count; i++) {
        struct conf_finding *f = &r->items[i];
        const char *colon = f->file == NULL ? strchr(f->text, ':') : NULL;
        const struct conf_entry *e = colon != NULL ? only_definition(c, span_of(f->text, (size_t)(colon - f->text))) : NULL;
        if (e != NULL && e->line > 0) {
            f->file = xstrdup(e->file);
            f->line = e->line;
        }
    }
}

bool conf_report_has_errors(const struct conf_report *r)
{
    for (size_t i = 0; i < r->count; i++) {
        if (r->items[i].severity == CONF_ERROR)
            return true;
    }
    return false;
}

void conf_report_free(struct conf_report *r)
{
    for (size_t i = 0; i < r->count; i++) {
        free((char *)(uintptr_t)r->items[i].file);
        free((char *)(uintptr_t)r->items[i].text);
    }
    free(r->items);
    *r = (struct conf_report){ .items = NULL };
}

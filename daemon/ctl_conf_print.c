/*
 * ctl_conf_print: values as postconf(1) shows them. Without -x the text as written, with it expanded; white space is
 * folded either way. Order is that of the names.
 */
#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/conf/expand.h"
#include "daemon/ctl_conf_internal.h"

/* Appends what is to be shown of a name; false when nobody knows it. */
static bool value_of(struct ctl_conf *c, const struct conf_scope *s, struct span name, struct buf *out)
{
    struct err e = ERR_INIT;
    const char *text = conf_scope_raw(s, name);
    ptrdiff_t row = param_find(c->conf->index, name);
    if (c->defaults && row >= 0 && param_row((size_t)row)->def[0] != '\0')
        text = param_row((size_t)row)->def;
    if (text == NULL)
        return false;
    /* <transport>_SUFFIX that nobody set is shown as what it falls back to. */
    const char *fallback = row < 0 && conf_scope_entry(s, name) == NULL ? conf_scope_fallback(s->src, name) : NULL;
    char *reference = fallback != NULL ? xasprintf("$%s", fallback) : NULL;
    if (reference != NULL)
        text = reference;
    if (!c->expand)
        buf_puts(out, text);
    else if (c->defaults || reference != NULL ? !conf_scope_expand_text(s, text, out, &e) : !conf_scope_expand(s, name, out, &e))
        fprintf(c->err, "posthousectl: warning: %.*s: %s\n", SPAN_ARG(name), e.text);
    free(reference);
    return true;
}

static void show_one(struct ctl_conf *c, const char *name)
{
    struct buf b = BUF_INIT(0);
    if (value_of(c, &c->conf->global->scope, span_cstr(name), &b))
        ctl_conf_put(c, NULL, name, buf_cstr(&b));
    buf_free(&b);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_misspelt(const struct ctl_conf *c, const char *name)
{
    for (size_t i = 0; i < c->report.count; i++) {
        const char *text = c->report.items[i].text;
        if (span_starts_with(span_cstr(text), span_cstr(name)) &&
            strncmp(text + strlen(name), ": no parameter has this name", 28) == 0)
            return true;
    }
    return false;
}

/* Whether each transport of this line has such a parameter of its own: what postconf(1) lists. */
static bool has_family(const struct master_line *l, const struct param_row *family)
{
    static const char *const transports[] = { "smtp", "lmtp", "virtual", "error", "local", "pipe" };
    const char *command = l->column[MASTER_PROGRAM];
    if (strcmp(family->suffix, "time_limit") == 0)
        return strcmp(command, "pipe") == 0 || strcmp(command, "spawn") == 0;
    for (size_t i = 0; i < ARRAY_LEN(transports); i++) {
        if (strcmp(command, transports[i]) == 0)
            return true;
    }
    return false;
}

static size_t families(void)
{
    size_t n = 0;
    while (param_transport_family(n) != NULL)
        n++;
    return n;
}

/* <transport>_SUFFIX for each transport of master.cf; what main.cf sets is listed as the other names are. */
static size_t add_transport_names(const struct conf *conf, const char **names)
{
    const struct param_row *family;
    size_t n = 0;
    for (const struct master_line *l = conf->lines; l != NULL; l = l->next) {
        for (size_t i = 0; !l->replaced && strcmp(l->type, "inet") != 0 && (family = param_transport_family(i)) != NULL; i++) {
            const char *name = arena_printf(conf->arena, "%s_%s", l->name, family->suffix);
            if (has_family(l, family) && param_find(conf->index, span_cstr(name)) < 0 &&
                conf_dict_get(conf->main, span_cstr(name)) == NULL)
                names[n++] = name;
        }
    }
    return n;
}

static size_t count_lines(const struct conf *conf)
{
    size_t n = 0;
    for (const struct master_line *l = conf->lines; l != NULL; l = l->next)
        n++;
    return n;
}

/* All names of main.cf that mean something, and unless -n all of the tables. */
static const char **collect_names(struct ctl_conf *c, size_t *count)
{
    const struct conf *conf = c->conf;
    size_t max = param_index_count(conf->index) + conf_dict_count(conf->main) + count_lines(conf) * families() + 1, n = 0;
    const char **names = xcalloc(max, sizeof(*names));
    for (size_t i = 0; !c->set_only && i < param_index_count(conf->index); i++)
        names[n++] = param_row(param_sorted(conf->index, i))->name;
    if (!c->set_only)
        n += add_transport_names(conf, names + n);
    for (const struct conf_entry *e = conf_dict_first(conf->main); !c->defaults && e != NULL; e = e->next) {
        bool known = param_find(conf->index, span_cstr(e->name)) >= 0;
        if (known ? c->set_only : !is_misspelt(c, e->name))
            names[n++] = e->name;
    }
    if (c->set_only && conf_dict_get(conf->main, SPAN_LIT("config_directory")) == NULL)
        names[n++] = "config_directory";
    qsort(names, n, sizeof(*names), compare_names);
    *count = n;
    return names;
}

int ctl_conf_show_main(struct ctl_conf *c)
{
    int rc = 0;
    if (c->args[0] == NULL) {
        size_t n;
        const char **names = collect_names(c, &n);
        for (size_t i = 0; i < n; i++)
            show_one(c, names[i]);
        free(names);
        return 0;
    }
    for (char **name = c->args; *name != NULL; name++) {
        if (conf_scope_raw(&c->conf->global->scope, span_cstr(*name)) != NULL) {
            if (!c->set_only || conf_dict_get(c->conf->main, span_cstr(*name)) != NULL)
                show_one(c, *name);
            continue;
        }
        const char *near = param_nearest(span_cstr(*name));
        fprintf(c->err, "posthousectl: warning: %s: unknown parameter%s%s%s\n", *name, near ? "; did you mean " : "",
                near ? near : "", near ? "?" : "");
        rc = 1;
    }
    return rc;
}

#define FIELDS 8

static const char *const field_names[FIELDS] = {
    "service", "type", "private", "unprivileged", "chroot", "wakeup", "process_limit", "command"
};

int ctl_conf_field(struct span name)
{
    for (int i = 0; i < FIELDS; i++) {
        if (span_eq(name, span_cstr(field_names[i])))
            return i;
    }
    return -1;
}

/* An argument as it is written in master.cf: in braces when there is white space in it. */
static char *argument_text(const struct master_line *l, size_t i)
{
    const char *arg = l->argv[i];
    struct span name, value;
    char *text = NULL;
    if (i > 0 && i < l->first_plain && strcmp(l->argv[i - 1], "-o") == 0 &&
        conf_split_definition(span_cstr(arg), &name, &value) == NULL)
        arg = text = xasprintf("%.*s=%.*s", SPAN_ARG(name), SPAN_ARG(value));
    bool space = arg[0] == '\0' || strpbrk(arg, " \t\r\n") != NULL;
    char *result = xasprintf(space ? "{%s}" : "%s", arg);
    free(text);
    return result;
}

/* fold: each option of ours begins a line, and lines end at CTL_CONF_FOLD. */
static void put_command(struct buf *out, const struct master_line *l, bool fold)
{
    size_t line_start = 0;
    buf_puts(out, l->column[MASTER_PROGRAM]);
    for (size_t i = 0; i < l->argc; i++) {
        char *text = argument_text(l, i);
        bool option = i < l->first_plain && text[0] == '-', first_plain = i > 0 && i == l->first_plain;
        bool is_long = i >= l->first_plain && out->n - line_start + 1 + strlen(text) >= CTL_CONF_FOLD;
        if (fold && (option || first_plain || is_long)) {
            line_start = out->n + 1;
            buf_puts(out, "\n    ");
        } else {
            buf_putc(out, ' ');
        }
        buf_puts(out, text);
        free(text);
    }
}

void ctl_conf_command_text(struct buf *out, const struct master_line *l)
{
    put_command(out, l, false);
}

static void put_column(struct buf *out, const char *text, size_t *used, size_t start)
{
    size_t pad = *used == 0 ? 0 : *used < start ? start - *used : 1;
    for (size_t i = 0; i < pad; i++)
        buf_putc(out, ' ');
    buf_puts(out, text);
    *used += pad + strlen(text);
}

void ctl_conf_service_text(struct buf *out, const struct master_line *l, bool fold)
{
    size_t used = 0;
    put_column(out, l->name, &used, 0);
    put_column(out, l->type, &used, 11);
    for (size_t i = 0; i < 5; i++)
        put_column(out, l->column[i], &used, 17 + 8 * i);
    put_column(out, "", &used, 57);
    put_command(out, l, fold);
}

struct master_line *ctl_conf_expand_line(struct ctl_conf *c, const struct master_line *l, struct arena *a)
{
    struct conf_scope s = { .src = &c->conf->source, .overrides = l->overrides, .service_name = l->name,
                            .process_name = l->column[MASTER_PROGRAM] };
    struct master_line *copy = arena_alloc(a, sizeof(*copy));
    const char **argv = arena_alloc(a, (l->argc + 1) * sizeof(*argv));
    *copy = *l;
    copy->argv = argv;
    for (size_t i = 0; i < l->argc; i++) {
        struct buf b = BUF_INIT(0);
        struct err e = ERR_INIT;
        bool value = i > 0 && i < l->first_plain && strcmp(l->argv[i - 1], "-o") == 0;
        argv[i] = l->argv[i];
        if (value && conf_scope_expand_text(&s, l->argv[i], &b, &e))
            argv[i] = arena_strdup(a, buf_cstr(&b));
        else if (value)
            fprintf(c->err, "posthousectl: warning: %s: %s\n", l->argv[i], e.text);
        buf_free(&b);
    }
    argv[l->argc] = NULL;
    return copy;
}

struct wanted {
    struct span name, type, item; /* empty or "*": any */
    bool found;
};

bool ctl_conf_is_any(struct span s)
{
    return s.n == 0 || (s.n == 1 && s.p[0] == '*');
}

static void split_wanted(const char *arg, struct wanted *w)
{
    struct span rest = span_cstr(arg), *part[] = { &w->name, &w->type, &w->item };
    *w = (struct wanted){ .found = false };
    for (size_t i = 0; i < ARRAY_LEN(part) && rest.n > 0; i++) {
        ptrdiff_t slash = i + 1 < ARRAY_LEN(part) ? span_find(rest, '/') : -1;
        *part[i] = span_of(rest.p, slash < 0 ? rest.n : (size_t)slash);
        rest = span_from(rest, slash < 0 ? rest.n : (size_t)slash + 1);
    }
}

static bool is_wanted_service(const struct wanted *w, const struct master_line *l)
{
    return (ctl_conf_is_any(w->name) || span_eq(w->name, span_cstr(l->name))) &&
           (ctl_conf_is_any(w->type) || span_eq(w->type, span_cstr(l->type)));
}

static void show_field(struct ctl_conf *c, const struct master_line *l, struct wanted *w, const char *field,
                       const char *value)
{
    if (!ctl_conf_is_any(w->item) && !span_eq(w->item, span_cstr(field)))
        return;
    w->found = true;
    ctl_conf_put(c, l, field, value);
}

static void show_fields(struct ctl_conf *c, const struct master_line *l, struct wanted *w)
{
    struct buf command = BUF_INIT(0);
    show_field(c, l, w, field_names[0], l->name);
    show_field(c, l, w, field_names[1], l->type);
    for (size_t i = 0; i < 5; i++)
        show_field(c, l, w, field_names[2 + i], l->column[i]);
    ctl_conf_command_text(&command, l);
    show_field(c, l, w, field_names[FIELDS - 1], buf_cstr(&command));
    buf_free(&command);
}

static void show_overrides(struct ctl_conf *c, const struct master_line *l, struct wanted *w)
{
    struct conf_scope s = { .src = &c->conf->source, .overrides = l->overrides, .service_name = l->name,
                            .process_name = l->column[MASTER_PROGRAM] };
    const char **names = xcalloc(conf_dict_count(l->overrides) + 1, sizeof(*names));
    size_t n = 0;
    for (const struct conf_entry *e = conf_dict_first(l->overrides); e != NULL; e = e->next)
        names[n++] = e->name;
    qsort(names, n, sizeof(*names), compare_names);
    for (size_t i = 0; i < n; i++) {
        struct buf b = BUF_INIT(0);
        (void)value_of(c, &s, span_cstr(names[i]), &b);
        show_field(c, l, w, names[i], buf_cstr(&b));
        buf_free(&b);
    }
    free(names);
}

static void show_service(struct ctl_conf *c, const struct master_line *l, struct wanted *w)
{
    struct buf b = BUF_INIT(0);
    w->found = true;
    if (c->json) {
        const char *pairs[2 * FIELDS] = { field_names[0], l->name, field_names[1], l->type };
        for (size_t i = 0; i < 5; i++) {
            pairs[4 + 2 * i] = field_names[2 + i];
            pairs[5 + 2 * i] = l->column[i];
        }
        ctl_conf_command_text(&b, l);
        pairs[2 * FIELDS - 2] = field_names[FIELDS - 1];
        pairs[2 * FIELDS - 1] = buf_cstr(&b);
        ctl_conf_put_json(c, pairs, FIELDS);
    } else {
        ctl_conf_service_text(&b, l, c->fold);
        fprintf(c->out, "%s\n", buf_cstr(&b));
    }
    buf_free(&b);
}

static int show_wanted(struct ctl_conf *c, const char *arg)
{
    struct wanted w;
    split_wanted(arg, &w);
    struct arena *a = arena_new(0);
    for (const struct master_line *l = c->conf->lines; l != NULL; l = l->next) {
        if (!is_wanted_service(&w, l) || l->replaced)
            continue;
        const struct master_line *shown = c->expand && c->object != CTL_SERVICE_PARAMS ? ctl_conf_expand_line(c, l, a) : l;
        if (c->object == CTL_SERVICES)
            show_service(c, shown, &w);
        else if (c->object == CTL_FIELDS)
            show_fields(c, shown, &w);
        else
            show_overrides(c, l, &w);
    }
    arena_free(&a);
    if (w.found || arg[0] == '\0')
        return 0;
    fprintf(c->err, "posthousectl: warning: %s: nothing like this in %s\n", arg, c->conf->master_file);
    return 1;
}

int ctl_conf_show_master(struct ctl_conf *c)
{
    int rc = 0;
    if (c->args[0] == NULL)
        return show_wanted(c, "");
    for (char **arg = c->args; *arg != NULL; arg++)
        rc |= show_wanted(c, *arg);
    return rc;
}

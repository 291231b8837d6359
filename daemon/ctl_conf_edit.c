/*
 * ctl_conf_edit: changes lines and leaves everything else of the file as it is. A logical line is replaced at its
 * place; comments in the middle of it stay behind it. A name that is defined several times keeps its last place, the
 * one that counted. An edit whose value would be refused at start is refused here, and the file stays as it was.
 * Removing what is not there is a warning, as for postconf(1).
 */
#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/conf/conf_lines.h"
#include "daemon/ctl_conf_internal.h"

/* What becomes of the physical lines first..last. */
struct change {
    int first, last;
    enum { CHANGE_REPLACE, CHANGE_DROP, CHANGE_COMMENT } what;
    const char *text; /* CHANGE_REPLACE: without the last line end */
};

struct edit {
    struct arena *arena;
    struct change *change; /* in file order */
    size_t count;
    struct buf append;     /* lines for the end of the file */
};

static void edit_add(struct edit *e, int first, int last, int what, const char *text)
{
    e->change = xrealloc(e->change, (e->count + 1) * sizeof(*e->change));
    e->change[e->count++] = (struct change){ .first = first, .last = last, .what = what, .text = text };
}

static void edit_free(struct edit *e)
{
    free(e->change);
    buf_free(&e->append);
    arena_free(&e->arena);
}

static bool is_comment_or_blank(struct span line)
{
    struct span t = span_trim(line);
    return t.n == 0 || t.p[0] == '#';
}

static void put_line(struct buf *out, struct span line)
{
    buf_add_span(out, line);
    buf_putc(out, '\n');
}

static void put_changed(struct buf *out, const struct change *ch, struct span line, int number)
{
    if (ch->what == CHANGE_REPLACE && number == ch->first)
        put_line(out, span_cstr(ch->text));
    if (is_comment_or_blank(line)) {
        put_line(out, line);
    } else if (ch->what == CHANGE_COMMENT) {
        buf_putc(out, '#');
        put_line(out, line);
    }
}

static const struct change *change_at(const struct edit *e, int number)
{
    for (size_t i = 0; i < e->count; i++) {
        if (number >= e->change[i].first && number <= e->change[i].last)
            return &e->change[i];
    }
    return NULL;
}

static void edit_apply(const struct edit *e, struct span text, struct buf *out)
{
    for (int number = 1; text.n > 0; number++) {
        ptrdiff_t nl = span_find(text, '\n');
        struct span line = span_of(text.p, nl < 0 ? text.n : (size_t)nl);
        const struct change *ch = change_at(e, number);
        text = span_from(text, nl < 0 ? text.n : (size_t)nl + 1);
        if (ch == NULL)
            put_line(out, line);
        else
            put_changed(out, ch, line, number);
    }
    buf_add_span(out, buf_span(&e->append));
}

/* Last physical line of the logical line that begins at `first`. */
static int last_line_of(struct span text, int first)
{
    struct conf_lines r;
    struct conf_line line = { .text = BUF_INIT(0) };
    int last = first;
    conf_lines_init(&r, text);
    while (conf_lines_next(&r, &line)) {
        if (line.first == first)
            last = line.last;
    }
    conf_line_free(&line);
    return last;
}

/* Notes what is to be done with each definition of `name`; the number of definitions found. */
static size_t find_definitions(struct edit *e, struct span text, struct span name, int what, const char *new_text)
{
    struct conf_lines r;
    struct conf_line line = { .text = BUF_INIT(0) };
    struct span got, value;
    size_t found = 0;
    conf_lines_init(&r, text);
    while (conf_lines_next(&r, &line)) {
        if (line.starts_blank || conf_split_definition(buf_span(&line.text), &got, &value) != NULL ||
            !span_eq(got, name))
            continue;
        if (found++ > 0 && what == CHANGE_REPLACE)
            e->change[e->count - 1].what = CHANGE_DROP;
        edit_add(e, line.first, line.last, what, new_text);
    }
    conf_line_free(&line);
    return found;
}

static bool is_settable_name(struct span name)
{
    if (name.n == 0 || name.p[0] == '#')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        if (!ascii_is_print(name.p[i]) || name.p[i] == ' ')
            return false;
    }
    return true;
}

/* Refuses the new text when it makes one of the edited parameters wrong. */
static bool new_text_is_good(struct ctl_conf *c, struct buf *text)
{
    struct conf_options o = { .dir = c->dir, .main_cf_text = buf_cstr(text) };
    struct conf_report r;
    struct conf *conf = conf_load_any(&o, &r);
    bool good = true;
    for (size_t i = 0; i < r.count; i++) {
        for (char **arg = c->args; *arg != NULL; arg++) {
            struct span name, value, found = span_cstr(r.items[i].text);
            if (conf_split_definition(span_cstr(*arg), &name, &value) != NULL || !span_starts_with(found, name) ||
                r.items[i].severity == CONF_NOTE || (found.n > name.n && found.p[name.n] != ' ' && found.p[name.n] != ':'))
                continue;
            bool is_error = r.items[i].severity == CONF_ERROR;
            fprintf(c->err, "posthousectl: %s: %s\n", is_error ? "error" : "warning", r.items[i].text);
            good = good && !is_error;
        }
    }
    conf_unref(&conf);
    conf_report_free(&r);
    return good;
}

static bool plan_main(struct ctl_conf *c, struct edit *e, struct span text, const char *arg)
{
    struct span name, value;
    if (c->action == CTL_EDIT) {
        const char *wrong = conf_split_definition(span_cstr(arg), &name, &value);
        if (wrong == NULL && (!is_settable_name(name) || strpbrk(arg, "\r\n") != NULL))
            wrong = "not a name and a value on one line";
        if (wrong != NULL) {
            fprintf(c->err, "posthousectl: %s: %s\n", arg, wrong);
            return false;
        }
        const char *line = arena_printf(e->arena, value.n ? "%.*s = %.*s" : "%.*s =%.*s", SPAN_ARG(name), SPAN_ARG(value));
        if (find_definitions(e, text, name, CHANGE_REPLACE, line) == 0)
            put_line(&e->append, span_cstr(line));
        return true;
    }
    int what = c->action == CTL_REMOVE ? CHANGE_DROP : CHANGE_COMMENT;
    if (strchr(arg, '=') != NULL) {
        fprintf(c->err, "posthousectl: %s: a name is expected, without a value\n", arg);
        return false;
    }
    /* What is not there need not be removed: a script may do it twice. */
    if (find_definitions(e, text, span_cstr(arg), what, NULL) == 0)
        fprintf(c->err, "posthousectl: warning: %s: not defined in main.cf\n", arg);
    return true;
}

int ctl_conf_edit_main(struct ctl_conf *c)
{
    struct buf old = BUF_INIT(0), new = BUF_INIT(0);
    struct edit e = { .arena = arena_new(0), .append = BUF_INIT(0) };
    bool ok = ctl_conf_read_file(c, "main.cf", &old);
    for (char **arg = c->args; ok && *arg != NULL; arg++)
        ok = plan_main(c, &e, buf_span(&old), *arg);
    if (ok) {
        edit_apply(&e, buf_span(&old), &new);
        ok = (c->action != CTL_EDIT || new_text_is_good(c, &new)) && ctl_conf_replace_file(c, "main.cf", &new);
    }
    edit_free(&e);
    buf_free(&old);
    buf_free(&new);
    return ok ? 0 : 1;
}

static struct master_line *find_service(const struct ctl_conf *c, struct span name, struct span type)
{
    for (struct master_line *l = c->conf->lines; l != NULL; l = l->next) {
        if (!l->replaced && span_eq(name, span_cstr(l->name)) && span_eq(type, span_cstr(l->type)))
            return l;
    }
    return NULL;
}

static bool take_part(struct span *rest, char end, struct span *part)
{
    ptrdiff_t at = span_find(*rest, end);
    if (at <= 0)
        return false;
    *part = span_of(rest->p, (size_t)at);
    *rest = span_from(*rest, (size_t)at + 1);
    return true;
}

/* The line again, with one -o set or removed. NULL when there is nothing to remove. */
static const char *with_override(struct ctl_conf *c, struct edit *e, const struct master_line *l, struct span name,
                                 struct span value)
{
    struct master_line copy = *l;
    const char **argv = arena_alloc(e->arena, (l->argc + 3) * sizeof(*argv));
    size_t n = 0, options = 0;
    bool found = false;
    for (size_t i = 0; i < l->argc; i++) {
        bool is_o = i + 1 < l->first_plain && strcmp(l->argv[i], "-o") == 0;
        struct span got, old;
        if (is_o && conf_split_definition(span_cstr(l->argv[i + 1]), &got, &old) == NULL && span_eq(got, name)) {
            found = true;
            i++;
            continue;
        }
        if (i == l->first_plain)
            options = n;
        argv[n++] = l->argv[i];
    }
    if (l->first_plain == l->argc)
        options = n;
    if (c->action == CTL_EDIT) {
        memmove(argv + options + 2, argv + options, (n - options) * sizeof(*argv));
        argv[options] = "-o";
        argv[options + 1] = arena_printf(e->arena, "%.*s=%.*s", SPAN_ARG(name), SPAN_ARG(value));
        n += 2;
        options += 2;
    } else if (!found) {
        return NULL;
    }
    struct buf b = BUF_INIT(0);
    copy.argv = argv;
    copy.argc = n;
    copy.first_plain = options;
    ctl_conf_service_text(&b, &copy, true);
    const char *text = arena_strdup(e->arena, buf_cstr(&b));
    buf_free(&b);
    return text;
}

static const char *with_field(struct edit *e, const struct master_line *l, int field, struct span value)
{
    struct master_line copy = *l;
    const char *text = arena_strndup(e->arena, value.p ? value.p : "", value.n);
    struct buf b = BUF_INIT(0);
    if (field == 0)
        copy.name = text;
    else if (field == 1)
        copy.type = text;
    else if (field == 7)
        copy.argc = copy.first_plain = 0;
    if (field >= 2)
        copy.column[field - 2] = text;
    ctl_conf_service_text(&b, &copy, true);
    text = arena_strdup(e->arena, buf_cstr(&b));
    buf_free(&b);
    return text;
}

/* A service line must read back as one line without a finding; then it is put in columns. NULL: told on c->err. */
static const char *tidy_line(struct ctl_conf *c, struct edit *e, const char *text)
{
    struct arena *a = arena_new(0);
    struct conf_report r = { .items = NULL };
    struct master_line *l = master_cf_read(a, span_cstr(text), "master.cf", &r);
    const char *tidy = NULL;
    for (size_t i = 0; i < r.count; i++)
        fprintf(c->err, "posthousectl: %s\n", r.items[i].text);
    if (l != NULL && l->next == NULL && !conf_report_has_errors(&r)) {
        struct buf b = BUF_INIT(0);
        ctl_conf_service_text(&b, l, true);
        tidy = arena_strdup(e->arena, buf_cstr(&b));
        buf_free(&b);
    }
    master_cf_free(&l);
    conf_report_free(&r);
    arena_free(&a);
    return tidy;
}

/* SERVICE/TYPE/ITEM=VALUE, as much of it as the options ask for. */
struct target {
    struct span name, type, item, value;
};

static bool read_target(const struct ctl_conf *c, const char *arg, struct target *t)
{
    struct span rest = span_cstr(arg);
    bool edit = c->action == CTL_EDIT, whole = c->object == CTL_SERVICES;
    *t = (struct target){ .name = span_of(NULL, 0) };
    if (!take_part(&rest, '/', &t->name))
        return false;
    if (whole && !edit) {
        t->type = rest;
        rest = span_of(NULL, 0);
    } else if (!take_part(&rest, whole ? '=' : '/', &t->type) || (!whole && edit && !take_part(&rest, '=', &t->item))) {
        return false;
    }
    if (!whole && !edit)
        t->item = rest;
    else
        t->value = span_trim(rest);
    t->name = span_trim(t->name);
    t->type = span_trim(t->type);
    t->item = span_trim(t->item);
    return true;
}

/* What becomes of one line: its new text, or NULL when there is nothing to change. False: told on c->err. */
static bool change_line(struct ctl_conf *c, struct edit *e, const struct master_line *l, const struct target *t, const char **text)
{
    int field = c->object == CTL_FIELDS ? ctl_conf_field(t->item) : 0;
    *text = NULL;
    if (field < 0) {
        fprintf(c->err, "posthousectl: %.*s: no such field: service, type, private, unprivileged, chroot, wakeup, process_limit, "
                        "command\n", SPAN_ARG(t->item));
        return false;
    }
    const char *raw = c->object == CTL_FIELDS ? with_field(e, l, field, t->value) : with_override(c, e, l, t->item, t->value);
    if (raw != NULL)
        *text = tidy_line(c, e, raw);
    return raw == NULL || *text != NULL;
}

/* The number of lines of the file that are changed; -1: told on c->err. */
static int change_lines(struct ctl_conf *c, struct edit *e, struct span file, const struct target *t)
{
    int changed = 0;
    for (const struct master_line *l = c->conf->lines; l != NULL; l = l->next) {
        const char *text = NULL;
        int what = CHANGE_REPLACE;
        if (l->replaced || (!ctl_conf_is_any(t->name) && !span_eq(t->name, span_cstr(l->name))) ||
            (!ctl_conf_is_any(t->type) && !span_eq(t->type, span_cstr(l->type))))
            continue;
        if (c->object == CTL_SERVICES)
            what = c->action == CTL_REMOVE ? CHANGE_DROP : CHANGE_COMMENT;
        else if (!change_line(c, e, l, t, &text))
            return -1;
        else if (text == NULL)
            continue;
        edit_add(e, l->line, last_line_of(file, l->line), what, text);
        changed++;
    }
    return changed;
}

/* SERVICE/TYPE=LINE: replaces the line of that service, or adds it. */
static bool set_line(struct ctl_conf *c, struct edit *e, struct span file, const struct target *t)
{
    const struct master_line *l = find_service(c, t->name, t->type);
    const char *text = tidy_line(c, e, arena_strndup(e->arena, t->value.p ? t->value.p : "", t->value.n));
    if (text != NULL && l != NULL)
        edit_add(e, l->line, last_line_of(file, l->line), CHANGE_REPLACE, text);
    else if (text != NULL)
        put_line(&e->append, span_cstr(text));
    return text != NULL;
}

static bool plan_master(struct ctl_conf *c, struct edit *e, struct span file, const char *arg)
{
    struct target t;
    bool whole = c->object == CTL_SERVICES;
    if (!read_target(c, arg, &t)) {
        fprintf(c->err, "posthousectl: %s: write it as SERVICE/TYPE%s%s\n", arg, whole ? "" : "/NAME",
                c->action != CTL_EDIT ? "" : whole ? "=LINE" : "=VALUE");
        return false;
    }
    if (whole && c->action == CTL_EDIT)
        return set_line(c, e, file, &t);
    int changed = change_lines(c, e, file, &t);
    if (changed == 0)
        fprintf(c->err, "posthousectl: %s%s: there is no such %s in master.cf\n", c->action == CTL_EDIT ? "" : "warning: ", arg,
                c->object == CTL_SERVICE_PARAMS && c->action != CTL_EDIT ? "-o setting" : "service");
    return changed > 0 || (changed == 0 && c->action != CTL_EDIT);
}

/* One change after the other, so that several may concern one line. */
int ctl_conf_edit_master(struct ctl_conf *c)
{
    bool ok = true;
    for (char **arg = c->args; ok && *arg != NULL; arg++) {
        struct buf old = BUF_INIT(0), new = BUF_INIT(0);
        struct edit e = { .arena = arena_new(0), .append = BUF_INIT(0) };
        struct conf_options o = { .dir = c->dir };
        struct conf_report r;
        conf_unref(&c->conf);
        c->conf = conf_load_any(&o, &r);
        conf_report_free(&r);
        ok = c->conf != NULL && ctl_conf_read_file(c, "master.cf", &old) && plan_master(c, &e, buf_span(&old), *arg);
        if (ok) {
            edit_apply(&e, buf_span(&old), &new);
            ok = ctl_conf_replace_file(c, "master.cf", &new);
        }
        edit_free(&e);
        buf_free(&old);
        buf_free(&new);
    }
    return ok ? 0 : 1;
}

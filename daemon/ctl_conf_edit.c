/*
 * ctl_conf_edit: changes lines and leaves everything else of the file as it is. A logical line is replaced at its
 * place; comments in the middle of it stay behind it. A name that is defined several times keeps its last place, the
 * one that counted. An edit whose value would be refused at start is refused here, and the file stays as it was.
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
    if (strchr(arg, '=') == NULL && find_definitions(e, text, span_cstr(arg), what, NULL) > 0)
        return true;
    fprintf(c->err, "posthousectl: %s: not defined in main.cf\n", arg);
    return false;
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

/* A service line must read back as one line without a finding. */
static bool is_good_line(struct ctl_conf *c, const char *text)
{
    struct arena *a = arena_new(0);
    struct conf_report r = { .items = NULL };
    struct master_line *l = master_cf_read(a, span_cstr(text), "master.cf", &r);
    bool good = l != NULL && l->next == NULL && !conf_report_has_errors(&r);
    for (size_t i = 0; i < r.count; i++)
        fprintf(c->err, "posthousectl: %s\n", r.items[i].text);
    master_cf_free(&l);
    conf_report_free(&r);
    arena_free(&a);
    return good;
}

/* New text of the line for one argument; *l is the line it replaces, or NULL for a new one. NULL: told on c->err. */
static const char *new_line(struct ctl_conf *c, struct edit *e, const char *arg, struct master_line **l)
{
    struct span rest = span_cstr(arg), name, type, item = span_of(NULL, 0);
    const char *text = NULL, *problem = "write it as SERVICE/TYPE/NAME=VALUE";
    bool edit = c->action == CTL_EDIT, whole = c->object == CTL_SERVICES;

    if (!take_part(&rest, '/', &name) || !take_part(&rest, whole ? '=' : '/', &type) ||
        (!whole && edit && !take_part(&rest, '=', &item)))
        goto out;
    item = span_trim(edit ? item : rest);
    name = span_trim(name);
    type = span_trim(type);
    *l = find_service(c, name, type);
    problem = "there is no such service in master.cf";
    if (whole) {
        text = arena_strndup(e->arena, span_trim(rest).p, span_trim(rest).n);
    } else if (*l != NULL && c->object == CTL_FIELDS) {
        int field = ctl_conf_field(item);
        problem = "no such field: service, type, private, unprivileged, chroot, wakeup, process_limit, command";
        text = field < 0 ? NULL : with_field(e, *l, field, span_trim(rest));
    } else if (*l != NULL) {
        problem = "this service has no such -o setting";
        text = with_override(c, e, *l, item, span_trim(rest));
    }
out:
    if (text == NULL)
        fprintf(c->err, "posthousectl: %s: %s\n", arg, problem);
    else if (!is_good_line(c, text))
        text = NULL;
    return text;
}

static bool plan_master(struct ctl_conf *c, struct edit *e, struct span file, const char *arg)
{
    struct master_line *l = NULL;
    if (c->object == CTL_SERVICES && c->action != CTL_EDIT) {
        struct span type = span_cstr(arg), name;
        if (take_part(&type, '/', &name))
            l = find_service(c, name, type);
        if (l == NULL)
            fprintf(c->err, "posthousectl: %s: there is no such service in master.cf\n", arg);
        else
            edit_add(e, l->line, last_line_of(file, l->line), c->action == CTL_REMOVE ? CHANGE_DROP : CHANGE_COMMENT, NULL);
        return l != NULL;
    }
    const char *text = new_line(c, e, arg, &l);
    if (text == NULL)
        return false;
    if (l != NULL)
        edit_add(e, l->line, last_line_of(file, l->line), CHANGE_REPLACE, text);
    else
        put_line(&e->append, span_cstr(text));
    return true;
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

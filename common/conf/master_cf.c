/* master_cf: eight columns, then arguments in which { } groups keep white space together. */
#include "common/conf/master_cf.h"
#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/conf/conf_ignore.h"
#include "common/conf/conf_lines.h"
#include "common/conf/expand.h"

#define COLUMNS 8
#define ARGS_MAX 1000

static const char *const column_names[COLUMNS] = {
    "service", "type", "private", "unpriv", "chroot", "wakeup", "maxproc", "command"
};

struct reader {
    struct arena *a;
    const char *file;
    int line;
    struct conf_report *report;
};

static bool is_yes_no(struct span s)
{
    return s.n == 1 && (s.p[0] == 'y' || s.p[0] == 'n' || s.p[0] == '-');
}

static bool is_dash(struct span s)
{
    return s.n == 1 && s.p[0] == '-';
}

static bool column_is_valid(int i, struct span s, const char **expected)
{
    static const char *const types[] = { "inet", "unix", "unix-dgram", "pass", "fifo" };
    int64_t n;
    switch (i) {
    case 1:
        *expected = "inet, unix, unix-dgram, pass or fifo";
        for (size_t t = 0; t < ARRAY_LEN(types); t++) {
            if (span_eq(s, span_cstr(types[t])))
                return true;
        }
        return false;
    case 2: case 3: case 4:
        *expected = "y, n or -";
        return is_yes_no(s);
    case 5:
        *expected = "a number of seconds, with an optional ?, or -";
        if (s.n > 1 && s.p[s.n - 1] == '?')
            s.n--;
        return is_dash(s) || num_parse(s, 0, INT32_MAX, &n);
    case 6:
        *expected = "a number of processes, or -";
        return is_dash(s) || num_parse(s, 0, INT32_MAX, &n);
    default:
        return true;
    }
}

/* The next argument: up to white space, or a {group}. False with a finding when a brace is missing. */
static bool take_argument(struct reader *r, struct span *rest, struct span *arg, bool *braced)
{
    size_t n = 0;
    *braced = rest->p[0] == '{';
    if (!*braced) {
        while (n < rest->n && !ascii_is_space(rest->p[n])) {
            size_t group = rest->p[n] == '{' ? expand_group_len(span_from(*rest, n)) : 0;
            n += group ? group : 1;
        }
        *arg = span_of(rest->p, n);
        *rest = span_trim(span_from(*rest, n));
        return true;
    }
    n = expand_group_len(*rest);
    if (n == 0 || (n < rest->n && !ascii_is_space(rest->p[n]))) {
        conf_report_add(r->report, CONF_ERROR, r->file, r->line, "%s in \"%.*s\"",
                        n == 0 ? "missing }" : "text directly behind }",
                        SPAN_ARG(span_of(rest->p, rest->n < 60 ? rest->n : 60)));
        return false;
    }
    *arg = span_trim(span_of(rest->p + 1, n - 2));
    *rest = span_trim(span_from(*rest, n));
    return true;
}

static bool read_arguments(struct reader *r, struct master_line *l, struct span rest)
{
    const char **argv = xcalloc(ARGS_MAX + 1, sizeof(*argv));
    bool *braced = xcalloc(ARGS_MAX, sizeof(*braced));
    bool ok = true;
    while (ok && rest.n > 0) {
        struct span arg;
        if (l->argc == ARGS_MAX) {
            conf_report_add(r->report, CONF_ERROR, r->file, r->line, "more than %d arguments", ARGS_MAX);
            ok = false;
        } else if ((ok = take_argument(r, &rest, &arg, &braced[l->argc]))) {
            argv[l->argc++] = arena_strndup(r->a, arg.p ? arg.p : "", arg.n);
        }
    }
    if (ok) {
        const char **kept = arena_alloc(r->a, (l->argc + 1) * sizeof(*kept));
        bool *kept_braced = arena_alloc(r->a, l->argc + 1);
        memcpy(kept, argv, l->argc * sizeof(*kept));
        memcpy(kept_braced, braced, l->argc);
        l->argv = kept;
        l->braced = kept_braced;
    }
    free(argv);
    free(braced);
    return ok;
}

static bool add_override(struct reader *r, struct master_line *l, const char *text)
{
    struct span name, value;
    const char *wrong = conf_split_definition(span_cstr(text), &name, &value);
    if (wrong != NULL) {
        conf_report_add(r->report, CONF_ERROR, r->file, r->line, "-o %s: %s; write it as -o name=value or -o { name = value }",
                        text, wrong);
        return false;
    }
    if (!conf_ignored(name))
        (void)conf_dict_set(l->overrides, name, value, r->file, r->line);
    return true;
}

/* Options come before anything else; what follows them belongs to the program (flags=, argv=). */
static bool read_options(struct reader *r, struct master_line *l)
{
    size_t i = 0;
    for (; i < l->argc && l->argv[i][0] == '-' && !l->braced[i]; i++) {
        const char *arg = l->argv[i];
        if (strcmp(arg, "-o") == 0) {
            if (i + 1 >= l->argc) {
                conf_report_add(r->report, CONF_ERROR, r->file, r->line, "-o needs name=value behind it");
                return false;
            }
            if (!add_override(r, l, l->argv[++i]))
                return false;
        } else if (strncmp(arg, "-o", 2) == 0) {
            if (!add_override(r, l, arg + 2))
                return false;
        } else if (strspn(arg + 1, "v") == strlen(arg + 1)) {
            l->verbose += (int)strlen(arg + 1);
        } else if (strcmp(arg, "-D") != 0) {
            break;
        }
    }
    l->first_plain = i;
    return true;
}

static struct master_line *read_line(struct reader *r, struct span text)
{
    struct span col[COLUMNS], rest = text;
    for (int i = 0; i < COLUMNS; i++) {
        if (!span_next_token(&rest, " \t\r\n\v\f", &col[i])) {
            conf_report_add(r->report, CONF_ERROR, r->file, r->line,
                            "the \"%s\" column is missing: a line is service type private unpriv chroot wakeup maxproc "
                            "command", column_names[i]);
            return NULL;
        }
    }
    for (int i = 0; i < COLUMNS; i++) {
        const char *expected = "";
        if (!column_is_valid(i, col[i], &expected)) {
            conf_report_add(r->report, CONF_ERROR, r->file, r->line, "column \"%s\": \"%.*s\" found, %s expected",
                            column_names[i], SPAN_ARG(col[i]), expected);
            return NULL;
        }
    }
    struct master_line *l = arena_alloc(r->a, sizeof(*l));
    l->line = r->line;
    l->name = arena_strndup(r->a, col[0].p, col[0].n);
    l->type = arena_strndup(r->a, col[1].p, col[1].n);
    for (int i = 0; i < 6; i++)
        l->column[i] = arena_strndup(r->a, col[i + 2].p, col[i + 2].n);
    l->overrides = conf_dict_new(r->a);
    if (!read_arguments(r, l, span_trim(rest)) || !read_options(r, l)) {
        conf_dict_free(&l->overrides);
        return NULL;
    }
    return l;
}

/* The last line of a name and type wins. */
static void mark_replaced(struct reader *r, struct master_line *list, const struct master_line *l)
{
    for (struct master_line *m = list; m != NULL; m = m->next) {
        if (!m->replaced && strcmp(m->name, l->name) == 0 && strcmp(m->type, l->type) == 0) {
            m->replaced = true;
            conf_report_add(r->report, CONF_WARNING, r->file, r->line,
                            "service %s %s is given again; line %d has no effect", l->name, l->type, m->line);
        }
    }
}

struct master_line *master_cf_read(struct arena *a, struct span text, const char *file, struct conf_report *report)
{
    struct reader r = { .a = a, .file = file, .report = report };
    struct conf_lines lines;
    struct conf_line line = { .text = BUF_INIT(0) };
    struct master_line *list = NULL, **tail = &list;

    conf_lines_init(&lines, text);
    while (conf_lines_next(&lines, &line)) {
        r.line = line.first;
        if (line.starts_blank || memchr(line.text.p, '\0', line.text.n) != NULL) {
            conf_report_add(report, line.starts_blank ? CONF_WARNING : CONF_ERROR, file, line.first,
                            line.starts_blank ? "ignored: it begins with white space, but there is no line that it continues"
                                              : "a NUL byte: this is not a text file");
            continue;
        }
        struct master_line *l = read_line(&r, buf_span(&line.text));
        if (l == NULL)
            continue;
        mark_replaced(&r, list, l);
        *tail = l;
        tail = &l->next;
    }
    conf_line_free(&line);
    return list;
}

void master_cf_free(struct master_line **list)
{
    for (struct master_line *l = *list; l != NULL; l = l->next)
        conf_dict_free(&l->overrides);
    *list = NULL;
}

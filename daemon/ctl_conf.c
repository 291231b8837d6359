/* ctl_conf: options, and what both files have in common. */
#include "daemon/ctl_conf.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include "common/base/ascii.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/conf/conf_status.h"
#include "daemon/ctl_conf_internal.h"

static const char usage[] =
    "usage: posthousectl conf [-dfhHjnx] [-o NAME=VALUE]... [NAME ...]   show main.cf parameters\n"
    "       posthousectl conf [-e] NAME=VALUE ...        change them in main.cf\n"
    "       posthousectl conf -X | -# NAME ...           remove them, or make comments of them\n"
    "       posthousectl conf -M [-efjxX#] [SERVICE[/TYPE][=LINE] ...]\n"
    "       posthousectl conf -F [-ehHjx] [SERVICE[/TYPE[/FIELD]][=VALUE] ...]\n"
    "       posthousectl conf -P [-ehHjxX] [SERVICE[/TYPE[/NAME]][=VALUE] ...]\n"
    "SERVICE and TYPE may be *, which stands for each.\n";

void ctl_conf_squeeze(struct buf *out, const char *value)
{
    struct span rest = span_cstr(value), word;
    for (const char *gap = ""; span_next_token(&rest, " \t\r\n\v\f", &word); gap = " ") {
        buf_puts(out, gap);
        buf_add_span(out, word);
    }
}

static void put_folded(FILE *out, struct span text)
{
    struct span word;
    size_t column = 0;
    while (span_next_token(&text, " ", &word)) {
        if (column > 0 && column + 1 + word.n > CTL_CONF_FOLD) {
            fputs("\n    ", out);
            column = 4;
        } else if (column > 0) {
            fputc(' ', out);
            column++;
        }
        fwrite(word.p, 1, word.n, out);
        column += word.n;
    }
    fputc('\n', out);
}

/* JSON is UTF-8: a value that is not gets its other bytes replaced. */
static json_t *json_text(const char *s)
{
    json_t *t = json_string(s);
    if (t != NULL)
        return t;
    char *copy = xstrdup(s);
    for (char *p = copy; *p != '\0'; p++) {
        if (ascii_is_8bit(*p))
            *p = '?';
    }
    t = json_string(copy);
    free(copy);
    return t;
}

void ctl_conf_put_json(struct ctl_conf *c, const char *const *pairs, size_t count)
{
    json_t *o = json_object();
    for (size_t i = 0; i < count; i++)
        json_object_set_new(o, pairs[2 * i], json_text(pairs[2 * i + 1]));
    char *text = json_dumps(o, 0);
    fprintf(c->out, "%s\n", text ? text : "{}");
    free(text);
    json_decref(o);
}

void ctl_conf_put(struct ctl_conf *c, const struct master_line *l, const char *name, const char *value)
{
    struct buf line = BUF_INIT(0), text = BUF_INIT(0);
    ctl_conf_squeeze(&text, value);
    if (c->json) {
        const char *const pairs[] = { "name", name, "value", buf_cstr(&text), "service_name", l ? l->name : "",
                                      "service_type", l ? l->type : "" };
        ctl_conf_put_json(c, pairs, l ? 4 : 2);
    } else {
        if (!c->hide_name && l != NULL)
            buf_printf(&line, "%s/%s/", l->name, l->type);
        if (!c->hide_name)
            buf_puts(&line, name);
        if (!c->hide_name && !c->hide_value)
            buf_puts(&line, text.n ? " = " : " =");
        if (!c->hide_value)
            buf_add_span(&line, buf_span(&text));
        if (c->fold)
            put_folded(c->out, buf_span(&line));
        else
            fprintf(c->out, "%s\n", buf_cstr(&line));
    }
    buf_free(&line);
    buf_free(&text);
}

bool ctl_conf_read_file(struct ctl_conf *c, const char *name, struct buf *text)
{
    struct err e = ERR_INIT;
    char *path = xasprintf("%s/%s", c->dir, name);
    bool ok = io_read_file(path, text, &e);
    if (!ok)
        fprintf(c->err, "posthousectl: %s\n", e.text);
    free(path);
    return ok;
}

static bool write_temporary(const char *tmp, const struct stat *st, const struct buf *text)
{
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && io_write_all(fd, text->p, text->n) && fchmod(fd, st->st_mode & 07777) == 0;
    /* Only root can give a file away; for anyone else the owner is the same already, or the edit should fail. */
    ok = ok && (fchown(fd, st->st_uid, st->st_gid) == 0 || st->st_uid == geteuid()) && fsync(fd) == 0;
    int saved = errno;
    if (fd >= 0 && close(fd) != 0)
        ok = false;
    errno = saved;
    return ok;
}

bool ctl_conf_replace_file(struct ctl_conf *c, const char *name, const struct buf *text)
{
    char *given = xasprintf("%s/%s", c->dir, name), *path = realpath(given, NULL), *tmp = NULL;
    struct stat st;
    bool ok = false;

    if (path != NULL && stat(path, &st) == 0) {
        tmp = xasprintf("%s.tmp", path);
        ok = write_temporary(tmp, &st, text) && rename(tmp, path) == 0;
        if (ok)
            ok = io_sync_dir(c->dir);
        else
            (void)unlink(tmp);
    }
    if (!ok)
        fprintf(c->err, "posthousectl: cannot change %s: %s\n", given, strerror(errno));
    free(tmp);
    free(path);
    free(given);
    return ok;
}

/* -oNAME=VALUE or -o NAME=VALUE: the arguments used, or 0 when it is no definition. */
static int take_setting(struct ctl_conf *c, const char *rest, const char *next)
{
    struct span name, value;
    const char *text = rest[0] != '\0' ? rest : next;
    if (text == NULL || conf_split_definition(span_cstr(text), &name, &value) != NULL)
        return 0;
    c->settings = xrealloc(c->settings, (c->setting_count + 2) * sizeof(*c->settings));
    c->settings[c->setting_count++] = text;
    c->settings[c->setting_count] = NULL;
    return text == rest ? 1 : 2;
}

static bool read_options(struct ctl_conf *c, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (argv[i][1] == 'o') {
            int used = take_setting(c, argv[i] + 2, argv[i + 1]);
            if (used == 0)
                return false;
            i += used - 1;
            continue;
        }
        for (const char *o = argv[i] + 1; *o != '\0'; o++) {
            switch (*o) {
            case 'd': c->defaults = true; break;
            case 'e': c->action = CTL_EDIT; break;
            case 'f': c->fold = true; break;
            case 'h': c->hide_name = true; break;
            case 'H': c->hide_value = true; break;
            case 'j': c->json = true; break;
            case 'n': c->set_only = true; break;
            case 'x': c->expand = true; break;
            case 'X': c->action = CTL_REMOVE; break;
            case '#': c->action = CTL_COMMENT; break;
            case 'M': c->object = CTL_SERVICES; break;
            case 'F': c->object = CTL_FIELDS; break;
            case 'P': c->object = CTL_SERVICE_PARAMS; break;
            case 'p': c->object = CTL_MAIN; break;
            case 'v': break;
            default: return false;
            }
        }
    }
    c->args = argv + i;
    /* NAME=VALUE without -e is an edit too, if every argument is one. */
    if (c->action == CTL_SHOW && c->args[0] != NULL && strchr(c->args[0], '=') != NULL)
        c->action = CTL_EDIT;
    return !(c->action != CTL_SHOW && (c->args[0] == NULL || c->settings != NULL)) && !(c->defaults && c->set_only);
}

static void put_finding(FILE *out, const struct conf_finding *f)
{
    static const char *const words[] = { [CONF_NOTE] = "note", [CONF_WARNING] = "warning", [CONF_ERROR] = "error" };
    if (f->file != NULL && f->line > 0)
        fprintf(out, "%s, line %d: %s: %s\n", f->file, f->line, words[f->severity], f->text);
    else if (f->file != NULL)
        fprintf(out, "%s: %s: %s\n", f->file, words[f->severity], f->text);
    else
        fprintf(out, "%s: %s\n", words[f->severity], f->text);
}

static int run(struct ctl_conf *c)
{
    if (c->object == CTL_MAIN && c->action != CTL_SHOW)
        return ctl_conf_edit_main(c);
    /* Defaults are those of a main.cf without a line, when they are expanded too. */
    struct conf_options o = { .dir = c->dir, .main_cf_text = c->defaults ? "" : NULL, .settings = c->settings };
    c->conf = conf_load_any(&o, &c->report);
    enum conf_severity least = c->action == CTL_SHOW ? CONF_WARNING : CONF_ERROR;
    for (size_t i = 0; !c->defaults && i < c->report.count; i++) {
        if (c->report.items[i].severity >= least)
            put_finding(c->err, &c->report.items[i]);
    }
    if (c->conf == NULL)
        return 1;
    if (c->action != CTL_SHOW)
        return ctl_conf_edit_master(c);
    return c->object == CTL_MAIN ? ctl_conf_show_main(c) : ctl_conf_show_master(c);
}

int ctl_conf_to(const char *dir, int argc, char **argv, FILE *out, FILE *err)
{
    struct ctl_conf c = { .dir = dir, .out = out, .err = err };
    if (!read_options(&c, argc, argv)) {
        fputs(usage, err);
        free(c.settings);
        return EX_USAGE;
    }
    int rc = run(&c);
    if (fflush(out) != 0) {
        fprintf(err, "posthousectl: cannot write: %s\n", strerror(errno));
        rc = 1;
    }
    conf_unref(&c.conf);
    conf_report_free(&c.report);
    free(c.settings);
    return rc;
}

int ctl_conf(const char *dir, int argc, char **argv)
{
    return ctl_conf_to(dir, argc, argv, stdout, stderr);
}

struct status_print {
    FILE *out;
    bool verbose;
    size_t notes;
};

/* A setting that is not in effect is a warning, one that means nothing here a note. */
static void tell_idle_cb(void *arg, const struct conf_idle_setting *s)
{
    struct status_print *p = arg;
    if (s->class == PARAM_CLASS_NOT_YET)
        fprintf(p->out, "%s, line %d: warning: %s: %s\n", s->file, s->line, s->name, s->why);
    else if (p->verbose)
        fprintf(p->out, "%s, line %d: note: %s changes nothing: %s\n", s->file, s->line, s->name, s->why);
    p->notes += s->class == PARAM_CLASS_INERT;
}

static void note_services(const struct conf *c, FILE *out)
{
    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *s = conf_service(c, i);
        if (s->role == SVC_UNSUPPORTED)
            fprintf(out, "%s, line %d: warning: service %s is not served: there is no %s here\n", c->master_file, s->line,
                    s->name, s->command);
    }
}

static void tell_all_status(const struct conf *c, FILE *out, bool verbose)
{
    struct status_print p = { .out = out, .verbose = verbose };
    conf_each_idle_setting(c, tell_idle_cb, &p);
    size_t notes = p.notes;
    if (notes > 0 && !verbose)
        fprintf(out, "note: %zu setting%s without meaning here; check -v names %s and says why\n", notes,
                notes == 1 ? " is" : "s are", notes == 1 ? "it" : "them");
}

int ctl_check_conf(const char *dir, FILE *out, bool verbose, struct conf **conf)
{
    struct conf_options o = { .dir = dir };
    struct conf_report r;
    struct conf *c = conf_load_any(&o, &r);
    bool bad = conf_report_has_errors(&r);

    for (size_t i = 0; i < r.count; i++) {
        if (verbose || r.items[i].severity != CONF_NOTE)
            put_finding(out, &r.items[i]);
    }
    if (c != NULL) {
        tell_all_status(c, out, verbose);
        note_services(c, out);
    }
    conf_report_free(&r);
    if (bad || conf == NULL)
        conf_unref(&c);
    if (conf != NULL)
        *conf = c;
    return bad ? 1 : 0;
}

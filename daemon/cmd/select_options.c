#include "daemon/cmd/select_options.h"

#include <getopt.h>
#include <sysexits.h>

#include "common/base/mem.h"
#include "queue/qid.h"
#include "queue/select.h"

enum { OPT_SELECT = 1000, OPT_FINAL = 2000 };
#define OPTIONS_MAX 32
#define ID_BYTES_MAX 300

void select_args_free(struct select_args *a)
{
    json_decref(a->select);
    json_decref(a->ids);
    a->select = a->ids = NULL;
}

bool select_args_has_options(const struct select_args *a)
{
    return json_object_size(a->select) > 0;
}

void select_args_add(struct select_args *a, const char *name, const char *value)
{
    json_t *list = json_object_get(a->select, name);
    if (list == NULL) {
        list = json_array();
        json_object_set_new(a->select, name, list);
    }
    json_array_append_new(list, json_string(value));
}

bool select_args_is_empty(const struct select_args *a)
{
    return !a->all && !a->is_stdin && !select_args_has_options(a) && json_array_size(a->ids) == 0;
}

void select_args_read_stdin(struct select_args *a)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    while (a->is_stdin && (n = getline(&line, &cap, stdin)) >= 0) {
        struct span s = span_trim(span_of(line, (size_t)n));
        json_t *id = s.n > 0 && s.n <= ID_BYTES_MAX ? json_stringn(s.p, s.n) : NULL;
        if (id != NULL)
            json_array_append_new(a->ids, id);
        else if (s.n > 0)
            ctl_complain("no message with queue id %.*s", s.n > 64 ? 64 : (int)s.n, s.p);
    }
    free(line);
}

json_t *select_ids_told(const json_t *ids)
{
    json_t *good = json_array(), *id;
    uint64_t number;
    size_t i;
    json_array_foreach(ids, i, id) {
        if (qid_parse(span_cstr(json_string_value(id)), &number))
            json_array_append(good, id);
        else
            ctl_complain("no message with queue id %.64s", json_string_value(id));
    }
    return good;
}

int select_each_batch(const json_t *ids, size_t size, int (*fn)(void *arg, json_t *batch), void *arg)
{
    size_t n = json_array_size(ids);
    int status = 0;
    for (size_t at = 0; at < n && status == 0;) {
        json_t *batch = json_array();
        for (size_t i = 0; i < size && at < n; i++, at++)
            json_array_append(batch, json_array_get(ids, at));
        status = fn(arg, batch);
        json_decref(batch);
    }
    return status;
}

static void fill_options(struct option *o, unsigned accepted)
{
    const struct selection_option *s = selection_options();
    size_t n = 0;
    for (; s[n].name != NULL; n++)
        o[n] = (struct option){ s[n].name, required_argument, NULL, OPT_SELECT + (int)n };
    if (accepted & SEL_DRY_RUN)
        o[n++] = (struct option){ "dry-run", no_argument, NULL, 'n' };
    if (accepted & SEL_FINAL)
        o[n++] = (struct option){ "final", no_argument, NULL, OPT_FINAL };
}

static int add_option(struct select_args *a, struct selection *check, const char *name, const char *value)
{
    struct err e = ERR_INIT;
    json_t *text = json_string(value);
    json_decref(text);
    if (text == NULL) {
        ctl_complain("--%s: the value is not UTF-8", name);
        return EX_USAGE;
    }
    if (!selection_add(check, name, span_cstr(value), &e)) {
        ctl_complain("--%s", e.text);
        return EX_USAGE;
    }
    select_args_add(a, name, value);
    return 0;
}

static int parse_options(struct select_args *a, struct selection *check, int argc, char **argv, unsigned accepted)
{
    struct option longopts[OPTIONS_MAX] = { 0 };
    char letters[16];
    int c, status = 0;
    fill_options(longopts, accepted);
    snprintf(letters, sizeof letters, "%s%s%s%s", accepted & SEL_JSON ? "j" : "", accepted & SEL_DRY_RUN ? "n" : "",
             accepted & SEL_VERBOSE ? "v" : "", accepted & SEL_SITE ? "s:" : "");
    while (status == 0 && (c = getopt_long(argc, argv, letters, longopts, NULL)) != -1) {
        if (c == 'j')
            a->json = true;
        else if (c == 'n')
            a->dry_run = true;
        else if (c == 'v')
            a->verbose = true;
        else if (c == OPT_FINAL)
            a->final = true;
        else if (c == 's')
            status = add_option(a, check, "destination", optarg);
        else if (c >= OPT_SELECT && c < OPT_FINAL)
            status = add_option(a, check, selection_options()[c - OPT_SELECT].name, optarg);
        else
            status = EX_USAGE; /* getopt has told */
    }
    return status;
}

static int parse_ids(struct select_args *a, struct selection *check, int argc, char **argv)
{
    bool has_options = select_args_has_options(a);
    for (int i = optind; i < argc; i++) {
        if (strcmp(argv[i], "ALL") == 0) {
            a->all = true;
        } else if (strcmp(argv[i], "-") == 0) {
            a->is_stdin = true;
        } else if (has_options) {
            if (add_option(a, check, "id", argv[i]) != 0)
                return EX_USAGE;
        } else {
            json_t *j = strlen(argv[i]) <= ID_BYTES_MAX ? json_string(argv[i]) : NULL;
            json_array_append_new(a->ids, j != NULL ? j : json_string("?"));
        }
    }
    if (a->all && (has_options || a->is_stdin || json_array_size(a->ids) > 0)) {
        ctl_complain("ALL stands alone");
        return EX_USAGE;
    }
    if (a->is_stdin && has_options) {
        ctl_complain("either ids from standard input, or a selection");
        return EX_USAGE;
    }
    return 0;
}

int select_args_parse(struct select_args *a, int argc, char **argv, unsigned accepted, int skip)
{
    struct selection *check = selection_new();
    *a = (struct select_args){ .select = json_object(), .ids = json_array() };
    int status = parse_options(a, check, argc, argv, accepted);
    if (status == 0 && argc - optind < skip) {
        ctl_complain("something is missing");
        status = EX_USAGE;
    }
    optind += status == 0 ? skip : 0;
    if (status == 0)
        status = parse_ids(a, check, argc, argv);
    selection_free(&check);
    if (status != 0)
        select_args_free(a);
    return status;
}

json_t *select_ids(struct ctl *ctl, json_t *select, const char *of, int *status)
{
    struct err e = ERR_INIT;
    json_t *ids = json_array();
    bool is_last = false;
    *status = ctl_open(ctl, false);
    if (*status != 0) {
        json_decref(ids);
        return NULL;
    }
    if (!ctl_request(&ctl->conn, json_pack("{s:s, s:O, s:s}", "op", "queue-select", "select", select, "of", of), &e))
        *status = EX_TEMPFAIL;
    while (*status == 0 && !is_last) {
        json_t *j = ctl_answer(&ctl->conn, &is_last, &e);
        if (j == NULL)
            *status = EX_TEMPFAIL;
        else if (is_last)
            *status = ctl_status_of(j, &e);
        else
            json_array_extend(ids, json_object_get(j, "ids"));
        json_decref(j);
    }
    if (*status == 0)
        return ids;
    ctl_complain("%s", e.text);
    json_decref(ids);
    return NULL;
}

/*
 * posthousectl queue pause, resume: no attempts for a destination or by a transport
 *
 * Without the daemon the list can be shown, from its file; changes are the daemon's.
 */
#include "daemon/cmd/posthousectl.h"

#include <getopt.h>
#include <sysexits.h>

#include "common/base/mem.h"
#include "common/conf/params.h"
#include "common/mail/maildate.h"
#include "queue/pauses.h"
#include "queue/spool.h"

struct target {
    const char *kind, *name;
    bool all, as_json, is_bad;
};

static struct target parse(int argc, char **argv)
{
    static const struct option longopts[] = {
        { "destination", required_argument, NULL, 'd' }, { "transport", required_argument, NULL, 't' },
        { "all", no_argument, NULL, 'a' }, { "json", no_argument, NULL, 'j' }, { 0 },
    };
    struct target t = { .kind = NULL };
    int c;
    while ((c = getopt_long(argc, argv, "jd:t:", longopts, NULL)) != -1) {
        switch (c) {
        case 'd':
        case 't':
            t.is_bad = t.is_bad || t.kind != NULL;
            t.kind = c == 'd' ? "destination" : "transport";
            t.name = optarg;
            break;
        case 'a':
            t.all = true;
            break;
        case 'j':
            t.as_json = true;
            break;
        default:
            t.is_bad = true;
        }
    }
    t.is_bad = t.is_bad || optind < argc;
    return t;
}

static void print_pause(const json_t *j, bool as_json)
{
    char date[MAIL_DATE_MAX];
    if (as_json) {
        json_dumpf(j, stdout, 0);
        putchar('\n');
        return;
    }
    mail_date_format(json_integer_value(json_object_get(j, "since")), date);
    printf("%-11s %-40s since %s\n", json_string_value(json_object_get(j, "kind")), json_string_value(json_object_get(j, "name")), date);
}

/* The pauses of the running daemon into list; told when it fails. */
static int fetch(struct ctl *ctl, json_t *list)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    int status = ctl_request(&ctl->conn, json_pack("{s:s}", "op", "queue-pauses"), &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&ctl->conn, &is_last, &e);
        if (j == NULL)
            status = EX_TEMPFAIL;
        else if (is_last)
            status = ctl_status_of(j, &e);
        else
            json_array_append(list, j);
        json_decref(j);
    }
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

static int fetch_offline(struct ctl *ctl, json_t *list)
{
    char *path = xasprintf("%s/paused", conf_global(ctl->conf)->queue_directory);
    struct pauses p = { .v = NULL };
    struct err e = ERR_INIT;
    unsigned bad;
    int status = 0;
    if (!spool_is_there(conf_global(ctl->conf)->queue_directory)) {
        ctl_complain("posthoused is not running, and there is no spool in %s", conf_global(ctl->conf)->queue_directory);
        status = EX_NOINPUT;
    } else if (pauses_load(&p, path, &bad, &e)) {
        ctl_complain("posthoused is not running: reading %s", path);
        for (size_t i = 0; i < p.n; i++)
            json_array_append_new(list, json_pack("{s:s, s:s, s:I}", "kind", pause_kind_name(p.v[i].kind), "name", p.v[i].name, "since",
                                                  (json_int_t)(p.v[i].since_us / 1000000)));
    } else {
        ctl_complain("%s", e.text);
        status = EX_NOINPUT;
    }
    pauses_free(&p);
    free(path);
    return status;
}

static int show_list(struct ctl *ctl, bool as_json)
{
    json_t *list = json_array(), *j;
    size_t i;
    int status = ctl_open(ctl, true);
    if (status == 0)
        status = fetch(ctl, list);
    else if (status == EX_UNAVAILABLE)
        status = fetch_offline(ctl, list);
    json_array_foreach(list, i, j)
        print_pause(j, as_json);
    if (status == 0 && !as_json && json_array_size(list) == 0)
        puts("nothing is paused");
    json_decref(list);
    return status;
}

static int change(struct ctl *ctl, const char *op, const char *kind, const char *name, bool as_json)
{
    json_t *request = json_pack("{s:s, s:s, s:s}", "op", op, "kind", kind, "name", name);
    if (request == NULL) {
        ctl_complain("\"%s\" is not valid UTF-8", name);
        return EX_DATAERR;
    }
    json_t *last = NULL;
    int status = ctl_simple(ctl, request, &last);
    if (status == 0 && json_is_false(json_object_get(last, "waits")))
        ctl_complain("note: no mail waits for \"%s\" now (a next hop is written as queue show prints it)", name);
    json_decref(last);
    if (status == 0 && as_json) {
        json_t *o = json_pack("{s:s, s:s, s:s}", "kind", kind, "name", name, "result", "done");
        print_pause(o, true);
        json_decref(o);
    }
    return status;
}

int ctl_queue_cmd_pause(struct ctl *ctl, int argc, char **argv)
{
    struct target t = parse(argc, argv);
    if (t.is_bad || t.all) {
        ctl_complain("usage: queue pause [-j] [--destination NEXTHOP | --transport NAME]");
        return EX_USAGE;
    }
    if (t.kind == NULL)
        return show_list(ctl, t.as_json);
    return change(ctl, "queue-pause", t.kind, t.name, t.as_json);
}

static int resume_all(struct ctl *ctl, bool as_json)
{
    json_t *list = json_array(), *j;
    size_t i;
    int status = ctl_open(ctl, false);
    if (status == 0)
        status = fetch(ctl, list);
    json_array_foreach(list, i, j) {
        if (status == 0)
            status = change(ctl, "queue-resume", json_string_value(json_object_get(j, "kind")),
                            json_string_value(json_object_get(j, "name")), as_json);
    }
    json_decref(list);
    return status;
}

int ctl_queue_cmd_resume(struct ctl *ctl, int argc, char **argv)
{
    struct target t = parse(argc, argv);
    if (t.is_bad || t.all == (t.kind != NULL)) {
        ctl_complain("usage: queue resume [-j] --destination NEXTHOP | --transport NAME | --all");
        return EX_USAGE;
    }
    return t.all ? resume_all(ctl, t.as_json) : change(ctl, "queue-resume", t.kind, t.name, t.as_json);
}

/*
 * posthousectl queue VERB
 *
 * list, show and cat work on the files, read-only, when the daemon does not run, and say so.
 */
#include "daemon/cmd/posthousectl.h"

#include <errno.h>
#include <getopt.h>
#include <sysexits.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "daemon/cmd/queue_format.h"
#include "daemon/cmd/queue_offline.h"

#define IDS_PER_REQUEST 500
#define ID_BYTES_MAX 64

static int usage_error(const char *text)
{
    ctl_complain("%s", text);
    return EX_USAGE;
}

/* -j; anything else is an error. */
static bool parse_json_flag(int argc, char **argv, bool *as_json)
{
    int c;
    while ((c = getopt(argc, argv, "j")) != -1) {
        if (c != 'j')
            return false;
        *as_json = true;
    }
    return true;
}

/* A request to the daemon, or the files when it does not run. */
static int open_or_offline(struct ctl *ctl, struct queue_offline **off)
{
    struct err e = ERR_INIT;
    int status = ctl_open(ctl, true);
    *off = NULL;
    if (status != EX_UNAVAILABLE)
        return status;
    *off = queue_offline_open(ctl->conf, &e);
    if (*off == NULL) {
        ctl_complain("posthoused is not running (nobody listens on %s), and the files cannot be read: %s",
                     conf_global(ctl->conf)->control_socket, e.text);
        return EX_UNAVAILABLE;
    }
    ctl_complain("posthoused is not running: reading the files in %s", conf_global(ctl->conf)->queue_directory);
    return 0;
}

/* ---- list ---- */

static bool list_offline_cb(void *arg, json_t *m)
{
    queue_list_add(arg, m);
    return !ferror(stdout);
}

static int list_online(struct ctl *ctl, struct queue_list *l)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    int status = ctl_request(&ctl->conn, json_pack("{s:s}", "op", "queue-list"), &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last && !ferror(stdout)) {
        json_t *j = ctl_answer(&ctl->conn, &is_last, &e);
        if (j == NULL)
            status = EX_TEMPFAIL;
        else if (is_last)
            status = ctl_status_of(j, &e);
        else
            queue_list_add(l, j);
        json_decref(j);
    }
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

int ctl_queue_cmd_list(struct ctl *ctl, int argc, char **argv)
{
    struct queue_list l = { .out = stdout };
    struct queue_offline *off;
    if (!parse_json_flag(argc, argv, &l.as_json) || optind < argc)
        return usage_error("usage: queue list [-j]");
    int status = open_or_offline(ctl, &off);
    if (status != 0)
        return status;
    l.long_ids = conf_global(ctl->conf)->enable_long_queue_ids;
    if (off == NULL)
        status = list_online(ctl, &l);
    else
        queue_offline_list(off, list_offline_cb, &l);
    queue_offline_close(&off);
    if (status == 0)
        queue_list_end(&l);
    return status;
}

/* ---- show ---- */

static void show_one(const json_t *m, bool as_json, size_t shown)
{
    if (as_json) {
        queue_show_json(stdout, m);
        return;
    }
    if (shown > 0)
        putchar('\n');
    queue_show_text(stdout, m, clock_wall_s());
}

static int show_online(struct ctl *ctl, int argc, char **argv, bool as_json, size_t *shown)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    json_t *ids = json_array();
    for (int i = optind; i < argc; i++)
        json_array_append_new(ids, json_string(argv[i]));
    int status = ctl_request(&ctl->conn, json_pack("{s:s, s:o}", "op", "queue-show", "ids", ids), &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&ctl->conn, &is_last, &e);
        if (j == NULL)
            status = EX_TEMPFAIL;
        else if (is_last)
            status = ctl_status_of(j, &e);
        else if (json_object_get(j, "missing") != NULL)
            ctl_complain("no message with queue id %s", json_string_value(json_object_get(j, "queue_id")));
        else
            show_one(j, as_json, (*shown)++);
        json_decref(j);
    }
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

static int show_offline(struct queue_offline *off, int argc, char **argv, bool as_json, size_t *shown)
{
    for (int i = optind; i < argc; i++) {
        json_t *j = queue_offline_find(off, argv[i]);
        if (j == NULL)
            ctl_complain("no message with queue id %s", argv[i]);
        else
            show_one(j, as_json, (*shown)++);
        json_decref(j);
    }
    return 0;
}

int ctl_queue_cmd_show(struct ctl *ctl, int argc, char **argv)
{
    struct queue_offline *off;
    bool as_json = false;
    size_t shown = 0;
    if (!parse_json_flag(argc, argv, &as_json) || optind == argc)
        return usage_error("usage: queue show [-j] ID...");
    int status = open_or_offline(ctl, &off);
    if (status != 0)
        return status;
    status = off != NULL ? show_offline(off, argc, argv, as_json, &shown) : show_online(ctl, argc, argv, as_json, &shown);
    queue_offline_close(&off);
    return status == 0 && shown == 0 ? 1 : status;
}

/* ---- cat ---- */

/* Content as a file on this machine has it: lines end with LF. */
struct cat {
    bool held_cr;
};

static void cat_bytes(struct cat *c, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (c->held_cr && s.p[i] != '\n')
            putchar_unlocked('\r');
        c->held_cr = s.p[i] == '\r';
        if (!c->held_cr)
            putchar_unlocked(s.p[i]);
    }
}

static bool cat_online_bytes(struct ctl_conn *conn, uint64_t left, struct err *e)
{
    struct cat c = { .held_cr = false };
    struct span s;
    while (left > 0) {
        if (stream_read_some(conn->s, &s) != STREAM_OK || s.n > left) {
            err_set(e, "lost the connection to posthoused within the message");
            return false;
        }
        cat_bytes(&c, s);
        left -= s.n;
    }
    if (c.held_cr)
        putchar('\r');
    return true;
}

static int cat_online(struct ctl *ctl, const char *id)
{
    struct err e = ERR_INIT;
    json_t *last = NULL;
    int status = EX_TEMPFAIL;
    if (ctl_request(&ctl->conn, json_pack("{s:s, s:s}", "op", "queue-cat", "id", id), &e))
        status = ctl_finish(&ctl->conn, &last, &e);
    if (status == 0 &&
        !cat_online_bytes(&ctl->conn, (uint64_t)json_integer_value(json_object_get(last, "content_bytes")), &e))
        status = EX_TEMPFAIL;
    json_decref(last);
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

static bool cat_offline_cb(void *arg, struct span s)
{
    cat_bytes(arg, s);
    return true;
}

int ctl_queue_cmd_cat(struct ctl *ctl, int argc, char **argv)
{
    struct queue_offline *off;
    struct err e = ERR_INIT;
    if (argc != 2 || argv[1][0] == '-')
        return usage_error("usage: queue cat ID");
    int status = open_or_offline(ctl, &off);
    if (status != 0)
        return status;
    if (off != NULL) {
        struct cat c = { .held_cr = false };
        status = queue_offline_cat(off, argv[1], cat_offline_cb, &c, &e);
        if (status != 0)
            ctl_complain("%s", e.text);
        queue_offline_close(&off);
        return status;
    }
    return cat_online(ctl, argv[1]);
}

/* ---- flush ---- */

static int flush_ids(struct ctl *ctl, int argc, char **argv)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    json_t *ids = json_array();
    size_t asked = (size_t)(argc - optind), missing = 0;
    for (int i = optind; i < argc; i++)
        json_array_append_new(ids, json_string(argv[i]));
    int status = ctl_request(&ctl->conn, json_pack("{s:s, s:o}", "op", "queue-flush", "ids", ids), &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&ctl->conn, &is_last, &e);
        if (j == NULL) {
            status = EX_TEMPFAIL;
        } else if (is_last) {
            status = ctl_status_of(j, &e);
        } else {
            missing++;
            ctl_complain("no message with queue id %s that could be tried now",
                         json_string_value(json_object_get(j, "queue_id")));
        }
        json_decref(j);
    }
    if (status != 0)
        ctl_complain("%s", e.text);
    return status == 0 && missing == asked ? 1 : status;
}

int ctl_queue_cmd_flush(struct ctl *ctl, int argc, char **argv)
{
    static const struct option longopts[] = { { "destination", required_argument, NULL, 's' }, { 0 } };
    const char *site = NULL;
    int c;
    while ((c = getopt_long(argc, argv, "s:", longopts, NULL)) != -1) {
        if (c != 's')
            return usage_error("usage: queue flush [ID... | -s NEXTHOP | --destination NEXTHOP]");
        site = optarg;
    }
    if (site != NULL && optind < argc)
        return usage_error("queue flush: either ids or -s SITE");
    int status = ctl_open(ctl, false);
    if (status != 0)
        return status;
    if (optind < argc)
        return flush_ids(ctl, argc, argv);
    return ctl_simple(ctl, site != NULL ? json_pack("{s:s, s:s}", "op", "queue-flush", "site", site)
                                        : json_pack("{s:s}", "op", "queue-flush"), NULL);
}

/* ---- hold, release, delete, requeue ---- */

struct change {
    struct ctl *ctl;
    const char *verb;
    json_t *ids;      /* not sent yet */
    size_t asked;
    json_int_t done, missing, busy, failed;
};

static const char *result_text(const char *result)
{
    if (strcmp(result, "missing") == 0)
        return "no such message in the queue";
    if (strcmp(result, "busy") == 0)
        return "is being delivered now: the change takes effect after the attempt";
    return "the change failed";
}

static void tell_result(const json_t *j)
{
    const char *result = queue_text(j, "result"), *error = queue_text(j, "error");
    if (result[0] != '\0' && strcmp(result, "done") != 0)
        ctl_complain("%s: %s", queue_text(j, "queue_id"), error[0] != '\0' ? error : result_text(result));
}

static int send_change(struct change *ch, json_t *request)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    int status = ctl_request(&ch->ctl->conn, request, &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&ch->ctl->conn, &is_last, &e);
        if (j == NULL) {
            status = EX_TEMPFAIL;
        } else if (is_last) {
            status = ctl_status_of(j, &e);
            ch->done += json_integer_value(json_object_get(j, "done"));
            ch->missing += json_integer_value(json_object_get(j, "missing"));
            ch->busy += json_integer_value(json_object_get(j, "busy"));
            ch->failed += json_integer_value(json_object_get(j, "failed"));
        } else {
            tell_result(j);
        }
        json_decref(j);
    }
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

static int send_ids(struct change *ch)
{
    char op[64];
    if (json_array_size(ch->ids) == 0)
        return 0;
    snprintf(op, sizeof op, "queue-%s", ch->verb);
    json_t *request = json_pack("{s:s, s:O}", "op", op, "ids", ch->ids);
    int status = send_change(ch, request);
    json_array_clear(ch->ids);
    return status;
}

static int add_id(struct change *ch, const char *text)
{
    json_t *j = strlen(text) <= ID_BYTES_MAX ? json_string(text) : NULL;
    ch->asked++;
    if (j == NULL) {
        ctl_complain("%.*s: no such message in the queue", ID_BYTES_MAX, text);
        ch->missing++;
        return 0;
    }
    json_array_append_new(ch->ids, j);
    return json_array_size(ch->ids) < IDS_PER_REQUEST ? 0 : send_ids(ch);
}

/* Ids from standard input, one a line. */
static int add_stdin(struct change *ch)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int status = 0;
    while (status == 0 && (n = getline(&line, &cap, stdin)) >= 0) {
        struct span s = span_trim(span_of(line, (size_t)n));
        if (s.n == 0)
            continue;
        char *id = xstrndup(s.p, s.n);
        status = add_id(ch, id);
        free(id);
    }
    free(line);
    return status;
}

static int change_all(struct change *ch)
{
    char op[64];
    snprintf(op, sizeof op, "queue-%s", ch->verb);
    return send_change(ch, json_pack("{s:s, s:b}", "op", op, "all", 1));
}

static int report_change(const struct change *ch, bool all)
{
    static const struct { const char *verb, *word; } words[] = {
        { "hold", "placed on hold" }, { "release", "released" }, { "delete", "deleted" }, { "requeue", "requeued" },
    };
    const char *word = "changed";
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        word = strcmp(words[i].verb, ch->verb) == 0 ? words[i].word : word;
    fprintf(stderr, "%" JSON_INTEGER_FORMAT " message%s %s\n", ch->done, ch->done == 1 ? "" : "s", word);
    if (ch->failed > 0)
        return EX_IOERR;
    return !all && ch->done + ch->busy == 0 && ch->asked > 0 ? 1 : 0;
}

int ctl_queue_cmd_change(struct ctl *ctl, int argc, char **argv)
{
    struct change ch = { .ctl = ctl, .verb = argv[0] };
    bool all = argc == 2 && strcmp(argv[1], "ALL") == 0;
    if (argc < 2 || (argv[1][0] == '-' && argv[1][1] != '\0'))
        return usage_error("usage: queue hold|release|delete|requeue ID... | - | ALL");
    int status = ctl_open(ctl, false);
    if (status != 0)
        return status;
    ch.ids = json_array();
    if (all)
        status = change_all(&ch);
    for (int i = 1; i < argc && !all && status == 0; i++)
        status = strcmp(argv[i], "-") == 0 ? add_stdin(&ch) : add_id(&ch, argv[i]);
    if (status == 0)
        status = send_ids(&ch);
    json_decref(ch.ids);
    return status != 0 ? status : report_change(&ch, all);
}

/* ---- the verbs ---- */

int ctl_cmd_queue(struct ctl *ctl, int argc, char **argv)
{
    static const struct {
        const char *name;
        ctl_subcommand *run;
    } verbs[] = {
        { "list", ctl_queue_cmd_list },     { "show", ctl_queue_cmd_show },      { "cat", ctl_queue_cmd_cat },
        { "flush", ctl_queue_cmd_flush },   { "hold", ctl_queue_cmd_change },    { "release", ctl_queue_cmd_change },
        { "delete", ctl_queue_cmd_change }, { "requeue", ctl_queue_cmd_change },
        { "pause", ctl_queue_cmd_pause },   { "resume", ctl_queue_cmd_resume },
        { "check", ctl_queue_cmd_check },   { "compact", ctl_queue_cmd_compact }, { "rebuild", ctl_queue_cmd_rebuild },
    };
    if (argc < 2)
        return usage_error("usage: queue list|show|cat|flush|hold|release|delete|requeue|pause|resume|check|compact|rebuild ...");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(ctl, argc - 1, argv + 1);
    }
    ctl_complain("unknown queue command \"%s\"", argv[1]);
    return EX_USAGE;
}

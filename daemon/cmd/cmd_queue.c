/*
 * posthousectl queue VERB
 *
 * list, show and cat work on the files, read-only, when the daemon does not run, and say so.
 */
#include "daemon/cmd/posthousectl.h"

#include <errno.h>
#include <sysexits.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "common/mail/maildate.h"
#include "daemon/cmd/queue_format.h"
#include "daemon/cmd/queue_offline.h"
#include "daemon/cmd/select_options.h"
#include "queue/qid.h"

#define IDS_PER_REQUEST 500

static int usage_error(const char *text)
{
    ctl_complain("%s", text);
    return EX_USAGE;
}

/* A request to the daemon, or the files when it does not run. */
int ctl_queue_open(struct ctl *ctl, struct queue_offline **off)
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
        return EX_NOINPUT;
    }
    ctl_complain("posthoused is not running: reading the files in %s", conf_global(ctl->conf)->queue_directory);
    return 0;
}

/* ---- list ---- */

struct list_run {
    struct ctl *ctl;
    struct queue_offline *off; /* NULL: the daemon is asked */
    struct queue_list l;
    json_t *seen;              /* owned: the numbers of what was listed; NULL when nobody wants to know */
};

static void number_of(const char *id, char out[32])
{
    uint64_t number = 0;
    if (id == NULL || !qid_parse(span_cstr(id), &number))
        number = 0;
    snprintf(out, 32, "%llu", (unsigned long long)number);
}

static void list_add(struct list_run *r, const json_t *m)
{
    char number[32];
    queue_list_add(&r->l, m);
    if (r->seen == NULL)
        return;
    number_of(json_string_value(json_object_get(m, "queue_id")), number);
    json_object_set_new(r->seen, number, json_true());
}

static bool list_offline_cb(void *arg, json_t *m)
{
    list_add(arg, m);
    return !ferror(stdout);
}

static int list_online(struct list_run *r, json_t *select)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    json_t *request = json_pack("{s:s}", "op", "queue-list");
    if (select != NULL)
        json_object_set(request, "select", select);
    int status = ctl_request(&r->ctl->conn, request, &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last && !ferror(stdout)) {
        json_t *j = ctl_answer(&r->ctl->conn, &is_last, &e);
        if (j == NULL)
            status = EX_TEMPFAIL;
        else if (is_last)
            status = ctl_status_of(j, &e);
        else
            list_add(r, j);
        json_decref(j);
    }
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

static int list_offline(struct list_run *r, json_t *select)
{
    struct err e = ERR_INIT;
    int status;
    size_t i;
    json_t *id;
    if (select == NULL) {
        queue_offline_list(r->off, list_offline_cb, r);
        return 0;
    }
    json_t *ids = queue_offline_select(r->off, select, &status, &e);
    if (ids == NULL)
        ctl_complain("%s", e.text);
    json_array_foreach(ids, i, id) {
        json_t *m = queue_offline_find(r->off, json_string_value(id), false);
        if (m != NULL)
            list_add(r, m);
        json_decref(m);
    }
    json_decref(ids);
    return status;
}

static int list_some(struct list_run *r, json_t *select)
{
    return r->off == NULL ? list_online(r, select) : list_offline(r, select);
}

static int list_batch(void *arg, json_t *batch)
{
    json_t *select = json_pack("{s:O}", "id", batch);
    int status = list_some(arg, select);
    json_decref(select);
    return status;
}

/* Ids alone: those that are not there are told, as by show. */
static int list_ids(struct list_run *r, const json_t *texts)
{
    json_t *ids = select_ids_told(texts), *id;
    char number[32];
    size_t i;
    r->seen = json_object();
    int status = select_each_batch(ids, IDS_PER_REQUEST, list_batch, r);
    json_array_foreach(ids, i, id) {
        number_of(json_string_value(id), number);
        if (status == 0 && !ferror(stdout) && json_object_get(r->seen, number) == NULL)
            ctl_complain("no message with queue id %.64s", json_string_value(id));
    }
    if (json_array_size(texts) == 0)
        ctl_complain("standard input has no queue id");
    json_decref(r->seen);
    json_decref(ids);
    return status == 0 && r->l.count == 0 ? 1 : status;
}

static int list_selected(struct list_run *r, json_t *select)
{
    int status = list_some(r, select);
    if (status == 0 && select != NULL && r->l.count == 0) {
        ctl_complain("no message matches");
        status = 1;
    }
    return status;
}

int ctl_queue_cmd_list(struct ctl *ctl, int argc, char **argv)
{
    struct list_run r = { .ctl = ctl, .l = { .out = stdout } };
    struct select_args a;
    if (select_args_parse(&a, argc, argv, SEL_JSON, 0) != 0)
        return usage_error("usage: queue list [-j] [ID... | -] [SELECTION]");
    bool has_ids = a.is_stdin || (!select_args_has_options(&a) && json_array_size(a.ids) > 0);
    select_args_read_stdin(&a);
    r.l.as_json = a.json;
    int status = ctl_queue_open(ctl, &r.off);
    if (status == 0) {
        r.l.long_ids = conf_global(ctl->conf)->enable_long_queue_ids;
        status = has_ids ? list_ids(&r, a.ids) : list_selected(&r, select_args_has_options(&a) ? a.select : NULL);
        queue_offline_close(&r.off);
        if (status == 0)
            queue_list_end(&r.l);
    }
    select_args_free(&a);
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

struct show_run {
    struct ctl *ctl;
    bool as_json;
    size_t shown;
};

static int show_batch(void *arg, json_t *ids)
{
    struct show_run *r = arg;
    struct err e = ERR_INIT;
    bool is_last = false;
    int status = ctl_request(&r->ctl->conn, json_pack("{s:s, s:O}", "op", "queue-show", "ids", ids), &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&r->ctl->conn, &is_last, &e);
        if (j == NULL)
            status = EX_TEMPFAIL;
        else if (is_last)
            status = ctl_status_of(j, &e);
        else if (json_object_get(j, "missing") != NULL)
            ctl_complain("no message with queue id %s", queue_text(j, "queue_id"));
        else
            show_one(j, r->as_json, r->shown++);
        json_decref(j);
    }
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

static int show_offline(struct show_run *r, struct queue_offline *off, const json_t *ids)
{
    size_t i;
    json_t *id;
    json_array_foreach(ids, i, id) {
        json_t *j = queue_offline_find(off, json_string_value(id), true);
        if (j == NULL)
            ctl_complain("no message with queue id %s", json_string_value(id));
        else
            show_one(j, r->as_json, r->shown++);
        json_decref(j);
    }
    return 0;
}

/* The ids that were given, or those that the options select; NULL with *status after telling why. A new reference. */
json_t *ctl_queue_ids(struct ctl *ctl, struct queue_offline *off, struct select_args *a, int *status)
{
    struct err e = ERR_INIT;
    json_t *ids;
    *status = 0;
    if (!select_args_has_options(a) && !a->all) {
        if (json_array_size(a->ids) > 0)
            return json_incref(a->ids);
        ctl_complain("standard input has no queue id");
        *status = 1;
        return NULL;
    }
    if (off == NULL) {
        ids = select_ids(ctl, a->select, "queue", status);
    } else {
        ids = queue_offline_select(off, a->select, status, &e);
        if (ids == NULL)
            ctl_complain("%s", e.text);
    }
    if (ids != NULL && json_array_size(ids) == 0) {
        ctl_complain("no message matches");
        *status = 1;
        json_decref(ids);
        ids = NULL;
    }
    return ids;
}

int ctl_queue_cmd_show(struct ctl *ctl, int argc, char **argv)
{
    static const char usage[] = "usage: queue show [-j] ID... | - | ALL | SELECTION";
    struct show_run r = { .ctl = ctl };
    struct queue_offline *off = NULL;
    struct select_args a;
    if (select_args_parse(&a, argc, argv, SEL_JSON, 0) != 0)
        return usage_error(usage);
    r.as_json = a.json;
    int status = select_args_is_empty(&a) ? usage_error(usage) : 0;
    select_args_read_stdin(&a);
    status = status == 0 ? ctl_queue_open(ctl, &off) : status;
    json_t *ids = status == 0 ? ctl_queue_ids(ctl, off, &a, &status) : NULL;
    if (ids != NULL) {
        status = off != NULL ? show_offline(&r, off, ids) : select_each_batch(ids, IDS_PER_REQUEST, show_batch, &r);
        status = status == 0 && r.shown == 0 ? 1 : status;
    }
    json_decref(ids);
    queue_offline_close(&off);
    select_args_free(&a);
    return status;
}

/* ---- deleted ---- */

static bool print_deleted(void *arg, json_t *j)
{
    size_t *shown = arg, i;
    json_t *r;
    char deleted[MAIL_DATE_MAX], until[MAIL_DATE_MAX];
    mail_date_format(json_integer_value(json_object_get(j, "deleted_time")), deleted);
    mail_date_format(json_integer_value(json_object_get(j, "until_time")), until);
    printf("%s%-17s %8" JSON_INTEGER_FORMAT "  %s\n", (*shown)++ > 0 ? "\n" : "", queue_text(j, "queue_id"),
           json_integer_value(json_object_get(j, "message_size")), queue_text(j, "sender"));
    printf("    deleted %s, for good %s\n", deleted, until);
    json_array_foreach(json_object_get(j, "recipients"), i, r)
        printf("    %s\n", json_string_value(r));
    return !ferror(stdout);
}

static bool print_deleted_json(void *arg, json_t *j)
{
    ++*(size_t *)arg;
    queue_show_json(stdout, j);
    return !ferror(stdout);
}

struct deleted_run {
    struct ctl *ctl;
    struct queue_offline *off;
    bool (*fn)(void *, json_t *);
    size_t shown;
};

static int deleted_online(struct deleted_run *r, json_t *select, struct err *e)
{
    bool is_last = false;
    int status = ctl_request(&r->ctl->conn, json_pack("{s:s, s:O}", "op", "queue-deleted", "select", select), e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last && !ferror(stdout)) {
        json_t *j = ctl_answer(&r->ctl->conn, &is_last, e);
        if (j == NULL)
            status = EX_TEMPFAIL;
        else if (is_last)
            status = ctl_status_of(j, e);
        else
            r->fn(&r->shown, j);
        json_decref(j);
    }
    return status;
}

static int deleted_selected(struct deleted_run *r, json_t *select)
{
    struct err e = ERR_INIT;
    int status = r->off == NULL ? deleted_online(r, select, &e) : queue_offline_deleted(r->off, select, r->fn, &r->shown, &e);
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

static int deleted_batch(void *arg, json_t *batch)
{
    json_t *select = json_pack("{s:O}", "id", batch);
    int status = deleted_selected(arg, select);
    json_decref(select);
    return status;
}

int ctl_queue_cmd_deleted(struct ctl *ctl, int argc, char **argv)
{
    struct deleted_run r = { .ctl = ctl };
    struct select_args a;
    if (select_args_parse(&a, argc, argv, SEL_JSON, 0) != 0)
        return usage_error("usage: queue deleted [-j] [ID... | -] [SELECTION]");
    r.fn = a.json ? print_deleted_json : print_deleted;
    bool everything = select_args_is_empty(&a), has_ids = a.is_stdin || (!select_args_has_options(&a) && json_array_size(a.ids) > 0);
    select_args_read_stdin(&a);
    int status = ctl_queue_open(ctl, &r.off);
    if (status == 0 && has_ids) {
        json_t *ids = select_ids_told(a.ids);
        status = select_each_batch(ids, IDS_PER_REQUEST, deleted_batch, &r);
        json_decref(ids);
    } else if (status == 0) {
        status = deleted_selected(&r, a.select);
    }
    if (status == 0 && r.shown == 0 && !everything && !a.all) {
        ctl_complain("no deleted message matches");
        status = 1;
    } else if (status == 0 && r.shown == 0 && !a.json) {
        puts("Nothing can be restored");
    }
    queue_offline_close(&r.off);
    select_args_free(&a);
    return status;
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
        { "expire", ctl_queue_cmd_change }, { "readdress", ctl_queue_cmd_change },
        { "undelete", ctl_queue_cmd_change }, { "deleted", ctl_queue_cmd_deleted },
        { "export", ctl_queue_cmd_export }, { "import", ctl_queue_cmd_import },
        { "sql", ctl_queue_cmd_sql },       { "stats", ctl_queue_cmd_stats },
        { "pause", ctl_queue_cmd_pause },   { "resume", ctl_queue_cmd_resume },
        { "check", ctl_queue_cmd_check },   { "compact", ctl_queue_cmd_compact }, { "rebuild", ctl_queue_cmd_rebuild },
    };
    if (argc < 2)
        return usage_error("usage: queue list|show|cat|flush|hold|release|delete|undelete|deleted|requeue|expire|readdress|export|import|sql|stats|pause|resume|check|compact|rebuild ...");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(ctl, argc - 1, argv + 1);
    }
    ctl_complain("unknown queue command \"%s\"", argv[1]);
    return EX_USAGE;
}

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

static int list_online(struct ctl *ctl, json_t *select, struct queue_list *l)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    json_t *request = json_pack("{s:s}", "op", "queue-list");
    if (select != NULL)
        json_object_set(request, "select", select);
    int status = ctl_request(&ctl->conn, request, &e) ? 0 : EX_TEMPFAIL;
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

static int list_offline(struct queue_offline *off, json_t *select, struct queue_list *l)
{
    struct err e = ERR_INIT;
    int status;
    size_t i;
    json_t *id;
    if (select == NULL) {
        queue_offline_list(off, list_offline_cb, l);
        return 0;
    }
    json_t *ids = queue_offline_select(off, select, &status, &e);
    if (ids == NULL)
        ctl_complain("%s", e.text);
    json_array_foreach(ids, i, id) {
        json_t *m = queue_offline_find(off, json_string_value(id), false);
        if (m != NULL)
            queue_list_add(l, m);
        json_decref(m);
    }
    json_decref(ids);
    return status;
}

/* Ids and options as one selection; NULL: neither was given. Borrowed. */
static json_t *selection_of(struct select_args *a)
{
    size_t i;
    json_t *id;
    json_array_foreach(a->ids, i, id)
        select_args_add(a, "id", json_string_value(id));
    return select_args_has_options(a) ? a->select : NULL;
}

int ctl_queue_cmd_list(struct ctl *ctl, int argc, char **argv)
{
    struct queue_list l = { .out = stdout };
    struct queue_offline *off;
    struct select_args a;
    if (select_args_parse(&a, argc, argv, SEL_JSON, 0) != 0)
        return usage_error("usage: queue list [-j] [ID...] [SELECTION]");
    json_t *select = selection_of(&a);
    l.as_json = a.json;
    int status = a.is_stdin ? usage_error("queue list reads no ids from standard input") : ctl_queue_open(ctl, &off);
    if (status == 0) {
        l.long_ids = conf_global(ctl->conf)->enable_long_queue_ids;
        status = off == NULL ? list_online(ctl, select, &l) : list_offline(off, select, &l);
        queue_offline_close(&off);
        if (status == 0 && select != NULL && l.count == 0) {
            ctl_complain("no message matches");
            status = 1;
        } else if (status == 0) {
            queue_list_end(&l);
        }
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

static int show_batch(struct ctl *ctl, json_t *ids, bool as_json, size_t *shown)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    int status = ctl_request(&ctl->conn, json_pack("{s:s, s:O}", "op", "queue-show", "ids", ids), &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&ctl->conn, &is_last, &e);
        if (j == NULL)
            status = EX_TEMPFAIL;
        else if (is_last)
            status = ctl_status_of(j, &e);
        else if (json_object_get(j, "missing") != NULL)
            ctl_complain("no message with queue id %s", queue_text(j, "queue_id"));
        else
            show_one(j, as_json, (*shown)++);
        json_decref(j);
    }
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

static int show_online(struct ctl *ctl, const json_t *ids, bool as_json, size_t *shown)
{
    int status = 0;
    for (size_t at = 0, n = json_array_size(ids); at < n && status == 0;) {
        json_t *batch = json_array();
        for (size_t i = 0; i < IDS_PER_REQUEST && at < n; i++, at++)
            json_array_append(batch, json_array_get(ids, at));
        status = show_batch(ctl, batch, as_json, shown);
        json_decref(batch);
    }
    return status;
}

static int show_offline(struct queue_offline *off, const json_t *ids, bool as_json, size_t *shown)
{
    size_t i;
    json_t *id;
    json_array_foreach(ids, i, id) {
        json_t *j = queue_offline_find(off, json_string_value(id), true);
        if (j == NULL)
            ctl_complain("no message with queue id %s", json_string_value(id));
        else
            show_one(j, as_json, (*shown)++);
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
    if (!select_args_has_options(a) && !a->all)
        return json_incref(a->ids);
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

/* Nothing says which messages. */
static bool is_nothing_said(const struct select_args *a)
{
    return a->is_stdin || (!a->all && !select_args_has_options(a) && json_array_size(a->ids) == 0);
}

int ctl_queue_cmd_show(struct ctl *ctl, int argc, char **argv)
{
    struct queue_offline *off = NULL;
    struct select_args a;
    size_t shown = 0;
    if (select_args_parse(&a, argc, argv, SEL_JSON, 0) != 0)
        return usage_error("usage: queue show [-j] ID... | SELECTION");
    int status = is_nothing_said(&a) ? usage_error("usage: queue show [-j] ID... | SELECTION") : ctl_queue_open(ctl, &off);
    json_t *ids = status == 0 ? ctl_queue_ids(ctl, off, &a, &status) : NULL;
    if (ids != NULL) {
        status = off != NULL ? show_offline(off, ids, a.json, &shown) : show_online(ctl, ids, a.json, &shown);
        status = status == 0 && shown == 0 ? 1 : status;
    }
    json_decref(ids);
    queue_offline_close(&off);
    select_args_free(&a);
    return status;
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

static int cat_one(struct ctl *ctl, struct queue_offline *off, const char *id)
{
    struct err e = ERR_INIT;
    struct cat c = { .held_cr = false };
    if (off == NULL)
        return cat_online(ctl, id);
    int status = queue_offline_cat(off, id, cat_offline_cb, &c, &e);
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

int ctl_queue_cmd_cat(struct ctl *ctl, int argc, char **argv)
{
    struct queue_offline *off = NULL;
    struct select_args a;
    size_t i, shown = 0;
    json_t *id;
    if (select_args_parse(&a, argc, argv, 0, 0) != 0)
        return usage_error("usage: queue cat ID... | SELECTION");
    int status = is_nothing_said(&a) ? usage_error("usage: queue cat ID... | SELECTION") : ctl_queue_open(ctl, &off), last = 0;
    json_t *ids = status == 0 ? ctl_queue_ids(ctl, off, &a, &status) : NULL;
    bool many = json_array_size(ids) > 1;
    json_array_foreach(ids, i, id) {
        if (many) /* as head(1) and tail(1) part files */
            printf("%s==> %s <==\n", i > 0 ? "\n" : "", json_string_value(id));
        last = cat_one(ctl, off, json_string_value(id));
        shown += last == 0;
        status = last > 1 ? last : status;
        if (last > 1 || ferror(stdout))
            break;
    }
    if (ids != NULL && status == 0 && shown == 0)
        status = 1;
    json_decref(ids);
    queue_offline_close(&off);
    select_args_free(&a);
    return status;
}

/* ---- flush ---- */

static int flush_batch(struct ctl *ctl, json_t *ids, size_t *missing)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    int status = ctl_request(&ctl->conn, json_pack("{s:s, s:O}", "op", "queue-flush", "ids", ids), &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&ctl->conn, &is_last, &e);
        if (j == NULL) {
            status = EX_TEMPFAIL;
        } else if (is_last) {
            status = ctl_status_of(j, &e);
        } else {
            ++*missing;
            ctl_complain("no message with queue id %s that could be tried now",
                         queue_text(j, "queue_id"));
        }
        json_decref(j);
    }
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

static int flush_ids(struct ctl *ctl, const json_t *ids)
{
    size_t n = json_array_size(ids), missing = 0;
    int status = 0;
    for (size_t at = 0; at < n && status == 0;) {
        json_t *batch = json_array();
        for (size_t i = 0; i < IDS_PER_REQUEST && at < n; i++, at++)
            json_array_append(batch, json_array_get(ids, at));
        status = flush_batch(ctl, batch, &missing);
        json_decref(batch);
    }
    return status == 0 && missing == n ? 1 : status;
}

/* A next hop alone, not a pattern: all that goes there, also what is not in the index yet. */
static const char *flush_site(const struct select_args *a)
{
    const json_t *list = json_object_get(a->select, "destination");
    const char *site = json_object_size(a->select) == 1 && json_array_size(list) == 1 ? json_string_value(json_array_get(list, 0)) : NULL;
    return site != NULL && strchr(site, '*') == NULL ? site : NULL;
}

static int flush_selected(struct ctl *ctl, struct select_args *a)
{
    int status;
    size_t i;
    json_t *id;
    json_t *ids = ctl_queue_ids(ctl, NULL, a, &status);
    if (ids != NULL && a->dry_run)
        json_array_foreach(ids, i, id)
            puts(json_string_value(id));
    else if (ids != NULL)
        status = flush_ids(ctl, ids);
    json_decref(ids);
    return status;
}

int ctl_queue_cmd_flush(struct ctl *ctl, int argc, char **argv)
{
    static const char usage[] = "usage: queue flush [-n] [ID... | -s NEXTHOP | SELECTION]";
    struct select_args a;
    if (select_args_parse(&a, argc, argv, SEL_SITE | SEL_DRY_RUN, 0) != 0)
        return usage_error(usage);
    const char *site = flush_site(&a);
    int status = a.is_stdin ? usage_error(usage) : ctl_open(ctl, false);
    if (status == 0 && site != NULL && !a.dry_run)
        status = ctl_simple(ctl, json_pack("{s:s, s:s}", "op", "queue-flush", "site", site), NULL);
    else if (status == 0 && !a.dry_run && is_nothing_said(&a))
        status = ctl_simple(ctl, json_pack("{s:s}", "op", "queue-flush"), NULL);
    else if (status == 0) {
        a.all = a.all || is_nothing_said(&a);
        status = flush_selected(ctl, &a);
    }
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

static int deleted_online(struct ctl *ctl, json_t *select, bool (*fn)(void *, json_t *), size_t *shown, struct err *e)
{
    bool is_last = false;
    int status = ctl_request(&ctl->conn, json_pack("{s:s, s:O}", "op", "queue-deleted", "select", select), e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&ctl->conn, &is_last, e);
        if (j == NULL)
            status = EX_TEMPFAIL;
        else if (is_last)
            status = ctl_status_of(j, e);
        else
            fn(shown, j);
        json_decref(j);
    }
    return status;
}

int ctl_queue_cmd_deleted(struct ctl *ctl, int argc, char **argv)
{
    struct queue_offline *off = NULL;
    struct select_args a;
    struct err e = ERR_INIT;
    size_t shown = 0;
    if (select_args_parse(&a, argc, argv, SEL_JSON, 0) != 0)
        return usage_error("usage: queue deleted [-j] [ID...] [SELECTION]");
    bool (*fn)(void *, json_t *) = a.json ? print_deleted_json : print_deleted;
    json_t *select = selection_of(&a);
    int status = a.is_stdin ? usage_error("queue deleted reads no ids from standard input") : ctl_queue_open(ctl, &off);
    if (status == 0) {
        status = off == NULL ? deleted_online(ctl, a.select, fn, &shown, &e) : queue_offline_deleted(off, a.select, fn, &shown, &e);
        if (status != 0)
            ctl_complain("%s", e.text);
        else if (shown == 0 && select != NULL) {
            ctl_complain("no deleted message matches");
            status = 1;
        } else if (shown == 0 && !a.json) {
            puts("Nothing can be restored");
        }
    }
    queue_offline_close(&off);
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

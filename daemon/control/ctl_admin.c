/*
 * queue-hold, -release, -delete, -undelete, -requeue, -expire, -readdress: {"ids": [..]} or {"all": true}
 * -delete: "final": true deletes for good; -readdress: "from" and "to" are addresses, or both "@domain"
 *
 * Each id is answered by {"queue_id": id, "result": "done" | "missing" | "busy" | "failed"} ("error" with the last);
 * the last line counts. With "all", or "quiet": true, only failures and what is busy are told one by one. Every change is durable before its answer.
 */
#include "daemon/control/control_internal.h"

#include <sysexits.h>

#include "common/base/mem.h"
#include "common/base/printable.h"
#include "common/conf/params.h"
#include "daemon/control/requeue.h"
#include "policy/route.h"
#include "queue/sched.h"

#define READDRESS_MAX 1000 /* bytes of an address */

struct admin_run {
    struct ctl_client *cl;
    struct sched_change change;
    bool quiet, long_ids;
    size_t done, missing, busy, failed;
};

struct id_list {
    enum spool_admin what;
    uint64_t *ids; /* owned */
    size_t n, cap;
};

/* hold ALL is for what is not on hold, release ALL for what is. */
static bool collect(void *arg, struct msg *m, enum sched_where w)
{
    struct id_list *l = arg;
    if ((l->what == ADMIN_HOLD && w == SCHED_HOLD) || (l->what == ADMIN_RELEASE && w != SCHED_HOLD))
        return true;
    if (l->n == l->cap) {
        l->cap = l->cap > 0 ? l->cap * 2 : 256;
        l->ids = xrealloc(l->ids, l->cap * sizeof *l->ids);
    }
    l->ids[l->n++] = m->env.id;
    return true;
}

static bool tell(struct admin_run *r, const char *id, const char *result, const char *error)
{
    json_t *o = json_pack("{s:s, s:s}", "queue_id", id, "result", result);
    if (o == NULL) /* the id was not UTF-8 */
        o = json_pack("{s:s, s:s}", "queue_id", "?", "result", result);
    if (error != NULL)
        json_object_set_new(o, "error", json_string(error));
    return ctl_send(r->cl, o);
}

static bool answer_one(struct admin_run *r, const char *text, enum sched_cmd_status status, const struct err *e)
{
    switch (status) {
    case SCHED_CMD_OK:
        r->done++;
        return r->quiet || tell(r, text, "done", NULL);
    case SCHED_CMD_NOT_FOUND:
        r->missing++;
        return r->quiet || tell(r, text, "missing", NULL);
    case SCHED_CMD_BUSY:
        r->busy++;
        return tell(r, text, "busy", NULL);
    case SCHED_CMD_FAILED:
        break;
    }
    r->failed++;
    return tell(r, text, "failed", e->text[0] != '\0' ? e->text : "the change could not be written");
}

/* Those that come to be other messages, or cannot; the rest goes to `left`, and how many are left. */
static size_t renew(struct admin_run *r, const uint64_t *ids, size_t n, uint64_t *left, bool *ok)
{
    const struct control_options *o = &r->cl->c->o;
    struct log_src log = *o->log;
    struct conf *c = o->conf(o->arg);
    struct policy *p = o->policy != NULL ? o->policy(o->arg) : NULL;
    struct requeue_env env = { .spool = o->spool, .sched = o->sched, .policy = p, .conf = c, .log = &log };
    char text[QID_TEXT_MAX];
    size_t left_n = 0;
    log.prog = "postsuper";
    for (size_t i = 0; *ok && i < n; i++) {
        struct err e = ERR_INIT;
        if (!ctl_commit_begin(r->cl)) {
            *ok = false;
            break;
        }
        enum requeue answer = requeue_renew(&env, ids[i], &e);
        ctl_commit_end(r->cl);
        qid_format(ids[i], r->long_ids, text);
        if (answer == REQUEUE_SAME)
            left[left_n++] = ids[i];
        else
            *ok = answer_one(r, text, answer == REQUEUE_RENEWED ? SCHED_CMD_OK : SCHED_CMD_FAILED, &e);
    }
    policy_unref(&p);
    conf_unref(&c);
    return left_n;
}

/* SCHED_CHANGE_MAX at a time: that many records have a flush in common, and a client that goes away stops the rest. */
static bool apply(struct admin_run *r, const uint64_t *ids, size_t n)
{
    enum sched_cmd_status *status = xcalloc(SCHED_CHANGE_MAX, sizeof *status);
    uint64_t *left = xcalloc(SCHED_CHANGE_MAX, sizeof *left);
    char text[QID_TEXT_MAX];
    bool ok = true;
    for (size_t at = 0, took; ok && at < n; at += took) {
        struct err e = ERR_INIT;
        const uint64_t *these = ids + at;
        size_t piece = took = n - at < SCHED_CHANGE_MAX ? n - at : SCHED_CHANGE_MAX;
        if (r->change.what == ADMIN_REQUEUE) {
            piece = renew(r, these, piece, left, &ok);
            these = left;
        }
        sched_change(r->cl->c->o.sched, &r->change, these, piece, status, &e);
        for (size_t i = 0; ok && i < piece; i++) {
            qid_format(these[i], r->long_ids, text);
            ok = answer_one(r, text, status[i], &e);
        }
    }
    free(left);
    free(status);
    return ok;
}

static bool apply_all(struct admin_run *r)
{
    struct id_list l = { .what = r->change.what };
    r->quiet = true;
    sched_list(r->cl->c->o.sched, collect, &l);
    bool ok = apply(r, l.ids, l.n);
    free(l.ids);
    return ok;
}

static bool apply_ids(struct admin_run *r, json_t *list)
{
    uint64_t *ids = xcalloc(json_array_size(list) + 1, sizeof *ids);
    size_t i, n = 0;
    json_t *item;
    bool ok = true;
    json_array_foreach(list, i, item) {
        const char *text = json_string_value(item);
        if (text != NULL && qid_parse(span_cstr(text), &ids[n])) {
            n++;
        } else if (ok) {
            r->missing++;
            ok = tell(r, text ? text : "", "missing", NULL);
        }
    }
    ok = ok && apply(r, ids, n);
    free(ids);
    return ok;
}

static void log_count(struct admin_run *r, const char *word)
{
    struct log_src src = *r->cl->c->o.log;
    src.prog = "postsuper";
    if (r->done > 0)
        log_info(&src, "%s: %zu message%s", word, r->done, r->done == 1 ? "" : "s");
}

static bool run(struct ctl_client *cl, json_t *request, const struct sched_change *change, const char *word)
{
    struct admin_run r = { .cl = cl, .change = *change, .long_ids = ctl_long_ids(cl),
                           .quiet = json_is_true(json_object_get(request, "quiet")) };
    json_t *ids = json_object_get(request, "ids");
    bool all = json_is_true(json_object_get(request, "all"));
    if (!all && !json_is_array(ids))
        return ctl_fail(cl, EX_PROTOCOL, "neither \"ids\" nor \"all\" in the request");
    bool ok = all ? apply_all(&r) : apply_ids(&r, ids);
    log_count(&r, word);
    return ok && ctl_ok(cl, json_pack("{s:I, s:I, s:I, s:I}", "done", (json_int_t)r.done, "missing", (json_int_t)r.missing,
                                      "busy", (json_int_t)r.busy, "failed", (json_int_t)r.failed));
}

static bool run_simple(struct ctl_client *cl, json_t *request, enum spool_admin what, const char *word)
{
    struct sched_change c = { .what = what };
    return run(cl, request, &c, word);
}

bool ctl_queue_hold(struct ctl_client *cl, json_t *request)
{
    return run_simple(cl, request, ADMIN_HOLD, "Placed on hold");
}

bool ctl_queue_release(struct ctl_client *cl, json_t *request)
{
    return run_simple(cl, request, ADMIN_RELEASE, "Released from hold");
}

bool ctl_queue_delete(struct ctl_client *cl, json_t *request)
{
    struct conf *c = cl->c->o.conf(cl->c->o.arg);
    bool is_final = conf_global(c)->queue_undelete_time == 0 || json_is_true(json_object_get(request, "final"));
    conf_unref(&c);
    return run_simple(cl, request, is_final ? ADMIN_DELETE : ADMIN_TRASH, "Deleted");
}

bool ctl_queue_undelete(struct ctl_client *cl, json_t *request)
{
    return run_simple(cl, request, ADMIN_UNDELETE, "Restored");
}

bool ctl_queue_requeue(struct ctl_client *cl, json_t *request)
{
    return run_simple(cl, request, ADMIN_REQUEUE, "Requeued");
}

bool ctl_queue_expire(struct ctl_client *cl, json_t *request)
{
    return run_simple(cl, request, ADMIN_EXPIRE, "Expired");
}

bool ctl_queue_readdress(struct ctl_client *cl, json_t *request)
{
    const char *from = json_string_value(json_object_get(request, "from")), *to = json_string_value(json_object_get(request, "to"));
    if (from == NULL || to == NULL || *from == '\0' || *to == '\0' || (*from == '@') != (*to == '@') || strlen(to) > READDRESS_MAX ||
        !text_is_printable(span_cstr(to))) /* it goes into SMTP commands and into the log */
        return ctl_fail(cl, EX_USAGE, "readdressing needs two addresses, or two domains as @example.com");
    struct sched_change c = { .what = ADMIN_READDRESS, .from = span_cstr(from), .to = span_cstr(to) };
    return run(cl, request, &c, "Readdressed");
}

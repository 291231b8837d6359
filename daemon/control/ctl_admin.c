/*
 * queue-hold, -release, -delete, -requeue: {"ids": [..]} or {"all": true}
 *
 * Each id is answered by {"queue_id": id, "result": "done" | "missing" | "busy" | "failed"} ("error" with the last);
 * the last line counts. With "all" only failures are told one by one. Every change is durable before its answer.
 */
#include "daemon/control/control_internal.h"

#include <sysexits.h>

#include "common/base/mem.h"
#include "common/conf/params.h"
#include "queue/sched.h"

struct admin_run {
    struct ctl_client *cl;
    enum spool_admin what;
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

static bool apply(struct admin_run *r, const char *text, uint64_t id)
{
    struct err e = ERR_INIT;
    switch (sched_admin(r->cl->c->o.sched, r->what, id, &e)) {
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
    return tell(r, text, "failed", e.text[0] != '\0' ? e.text : "the change could not be written");
}

static bool apply_all(struct admin_run *r)
{
    struct id_list l = { .what = r->what };
    char text[QID_TEXT_MAX];
    bool ok = true;
    r->quiet = true;
    sched_list(r->cl->c->o.sched, collect, &l);
    for (size_t i = 0; i < l.n && ok; i++) {
        qid_format(l.ids[i], r->long_ids, text);
        ok = apply(r, text, l.ids[i]);
    }
    free(l.ids);
    return ok;
}

static bool apply_ids(struct admin_run *r, json_t *ids)
{
    size_t i;
    json_t *item;
    json_array_foreach(ids, i, item) {
        const char *text = json_string_value(item);
        uint64_t id;
        bool ok;
        if (text != NULL && qid_parse(span_cstr(text), &id)) {
            ok = apply(r, text, id);
        } else {
            r->missing++;
            ok = tell(r, text ? text : "", "missing", NULL);
        }
        if (!ok)
            return false;
    }
    return true;
}

static void log_count(struct admin_run *r, const char *word)
{
    struct log_src src = *r->cl->c->o.log;
    src.prog = "postsuper";
    if (r->done > 0)
        log_info(&src, "%s: %zu message%s", word, r->done, r->done == 1 ? "" : "s");
}

static bool run(struct ctl_client *cl, json_t *request, enum spool_admin what, const char *word)
{
    const struct control_options *o = &cl->c->o;
    struct conf *c = o->conf(o->arg);
    struct admin_run r = { .cl = cl, .what = what, .long_ids = conf_global(c)->enable_long_queue_ids };
    conf_unref(&c);
    json_t *ids = json_object_get(request, "ids");
    bool all = json_is_true(json_object_get(request, "all"));
    if (!all && !json_is_array(ids))
        return ctl_fail(cl, EX_PROTOCOL, "neither \"ids\" nor \"all\" in the request");
    bool ok = all ? apply_all(&r) : apply_ids(&r, ids);
    log_count(&r, word);
    return ok && ctl_ok(cl, json_pack("{s:I, s:I, s:I, s:I}", "done", (json_int_t)r.done, "missing", (json_int_t)r.missing,
                                      "busy", (json_int_t)r.busy, "failed", (json_int_t)r.failed));
}

bool ctl_queue_hold(struct ctl_client *cl, json_t *request)
{
    return run(cl, request, ADMIN_HOLD, "Placed on hold");
}

bool ctl_queue_release(struct ctl_client *cl, json_t *request)
{
    return run(cl, request, ADMIN_RELEASE, "Released from hold");
}

bool ctl_queue_delete(struct ctl_client *cl, json_t *request)
{
    return run(cl, request, ADMIN_DELETE, "Deleted");
}

bool ctl_queue_requeue(struct ctl_client *cl, json_t *request)
{
    return run(cl, request, ADMIN_REQUEUE, "Requeued");
}

/*
 * queue-list  {} | {"select": {..}}       one queue_json() line per message; a selection is for the owner only
 * queue-show  {"ids": [..]}             one detailed line per id, or {"queue_id": id, "missing": true}
 * queue-cat   {"id": ".."}              the last line, with "content_bytes": n; n bytes follow it
 * queue-flush {} | {"ids": [..]} | {"site": ".."}
 */
#include "daemon/control/control_internal.h"

#include <sysexits.h>

#include "common/base/clock.h"
#include "common/conf/params.h"
#include "common/base/mem.h"
#include "daemon/control/ctl_select.h"
#include "daemon/control/queue_json.h"
#include "queue/sched.h"

bool ctl_long_ids(struct ctl_client *cl)
{
    const struct control_options *o = &cl->c->o;
    struct conf *c = o->conf(o->arg);
    bool yes = conf_global(c)->enable_long_queue_ids;
    conf_unref(&c);
    return yes;
}

struct list_run {
    struct ctl_client *cl;
    bool long_ids;
};

static bool list_one(void *arg, struct msg *m, enum sched_where w)
{
    struct list_run *run = arg;
    return ctl_send(run->cl, queue_json(m, w, run->long_ids, false));
}

static bool list_selected(struct ctl_client *cl, json_t *request, struct list_run *run)
{
    uint64_t *ids = NULL;
    size_t n = 0;
    if (!cl->peer.is_owner) /* a selection may be SQL of any cost, and has the index flushed */
        return ctl_fail(cl, EX_NOPERM, "only root and the owner of the mail system may select messages") && false;
    struct selection *s = ctl_selection(cl, request);
    bool ok = s != NULL && ctl_select_ids(cl, s, SELECT_QUEUE, &ids, &n);
    selection_free(&s);
    for (size_t i = 0; ok && i < n; i++) {
        enum sched_where w;
        struct msg *m = sched_find(cl->c->o.sched, ids[i], &w);
        ok = m == NULL || list_one(run, m, w); /* NULL: it has left meanwhile */
        msg_unref(&m);
    }
    free(ids);
    return ok && ctl_ok(cl, json_pack("{s:b}", "long_ids", run->long_ids));
}

bool ctl_queue_list(struct ctl_client *cl, json_t *request)
{
    struct list_run run = { .cl = cl, .long_ids = ctl_long_ids(cl) };
    if (json_object_get(request, "select") != NULL)
        return list_selected(cl, request, &run);
    sched_list(cl->c->o.sched, list_one, &run);
    return !cl->is_broken && ctl_ok(cl, json_pack("{s:b}", "long_ids", run.long_ids));
}

static bool show_missing(struct ctl_client *cl, const char *text)
{
    return ctl_send(cl, json_pack("{s:s, s:b}", "queue_id", text, "missing", 1));
}

static json_t *show_json(struct ctl_client *cl, struct query *q, const struct msg *m, enum sched_where w, bool lng)
{
    json_t *o = queue_json(m, w, lng, true);
    struct sched_wait *wait = xcalloc(m->env.rcpt_count + 1, sizeof *wait);
    sched_explain(cl->c->o.sched, m, w, wait);
    queue_json_add_waits(o, m, wait);
    if (q != NULL)
        queue_json_add_history(o, m, q);
    free(wait);
    return o;
}

bool ctl_queue_show(struct ctl_client *cl, json_t *request)
{
    struct err e = ERR_INIT;
    bool lng = ctl_long_ids(cl);
    size_t i;
    json_t *item;
    bool sent = true;
    struct query *q = ctl_query(cl, true, &e); /* without it only the history is missing */
    json_array_foreach(json_object_get(request, "ids"), i, item) {
        const char *text = json_string_value(item);
        uint64_t id;
        enum sched_where w;
        struct msg *m = NULL;
        if (text != NULL && qid_parse(span_cstr(text), &id))
            m = sched_find(cl->c->o.sched, id, &w);
        sent = m != NULL ? ctl_send(cl, show_json(cl, q, m, w, lng)) : show_missing(cl, text ? text : "");
        msg_unref(&m);
        if (!sent)
            break;
    }
    query_close(&q);
    return sent && ctl_ok(cl, NULL);
}

static bool send_content(struct ctl_client *cl, struct msg *m)
{
    struct content_view v;
    struct err e = ERR_INIT;
    if (!content_acquire(cl->c->o.spool, m, &v, &e))
        return ctl_fail(cl, EX_IOERR, "%s", e.text);
    bool ok = ctl_ok(cl, json_pack("{s:I}", "content_bytes", (json_int_t)v.n));
    for (size_t done = 0; ok && done < v.n; ) { /* in pieces: the deadline is for each of them */
        size_t piece = v.n - done < 65536 ? v.n - done : 65536;
        stream_put_borrowed(cl->s, span_of(v.p + done, piece));
        ok = ctl_flush(cl);
        done += piece;
    }
    content_release(&v);
    return ok;
}

bool ctl_queue_cat(struct ctl_client *cl, json_t *request)
{
    const char *text = json_string_value(json_object_get(request, "id"));
    uint64_t id;
    struct msg *m = NULL;
    if (text != NULL && qid_parse(span_cstr(text), &id))
        m = sched_ref(cl->c->o.sched, id);
    if (m == NULL)
        return ctl_fail(cl, 1, "no message with queue id %.64s", text ? text : "");
    bool ok = send_content(cl, m);
    msg_unref(&m);
    return ok;
}

static bool flush_ids(struct ctl_client *cl, json_t *list)
{
    size_t i, n = 0, done = 0, all = json_array_size(list);
    uint64_t *ids = xcalloc(all + 1, sizeof *ids);
    const char **text = xcalloc(all + 1, sizeof *text);
    enum sched_cmd_status *status = xcalloc(all + 1, sizeof *status);
    json_t *item;
    bool ok = true;
    json_array_foreach(list, i, item) {
        text[n] = json_string_value(item);
        if (text[n] != NULL && qid_parse(span_cstr(text[n]), &ids[n]))
            n++;
        else
            ok = ok && show_missing(cl, text[n] ? text[n] : "");
    }
    sched_flush_many(cl->c->o.sched, ids, n, status);
    for (i = 0; ok && i < n; i++) {
        done += status[i] == SCHED_CMD_OK;
        ok = status[i] == SCHED_CMD_OK || show_missing(cl, text[i]);
    }
    free(ids);
    free(text);
    free(status);
    return ok && ctl_ok(cl, json_pack("{s:I}", "done", (json_int_t)done));
}

/* All next hops with mail that `site` means, as in a selection. False: there is none. What cannot be found out counts as one. */
static bool flush_forms(struct ctl_client *cl, struct span site)
{
    struct err e = ERR_INIT;
    sqlite3_stmt *st = NULL;
    enum query_status k = QUERY_FAILED;
    bool any = false;
    struct query *q = ctl_query(cl, true, &e);
    if (q != NULL)
        k = query_prepare(q, SPAN_LIT("SELECT DISTINCT nexthop FROM recipients WHERE state <> 2"), &st, &e);
    while (st != NULL && (k = query_step(q, st, &e)) == QUERY_ROW) {
        struct span nexthop = query_column(st, 0);
        if (!select_is_destination(site, nexthop))
            continue;
        any = true;
        sched_flush_nexthop(cl->c->o.sched, nexthop);
    }
    sqlite3_finalize(st);
    query_close(&q);
    if (!any) /* in memory there may be what the index does not know */
        sched_flush_nexthop(cl->c->o.sched, site);
    return any || k != QUERY_OK;
}

bool ctl_queue_flush(struct ctl_client *cl, json_t *request)
{
    json_t *ids = json_object_get(request, "ids");
    const char *site = json_string_value(json_object_get(request, "site"));
    if (ids != NULL)
        return flush_ids(cl, ids);
    if (site == NULL) {
        sched_flush_all(cl->c->o.sched);
        return ctl_ok(cl, NULL);
    }
    bool waits = true;
    if (cl->peer.is_owner)
        waits = flush_forms(cl, span_cstr(site));
    else /* others cannot have the index flushed */
        sched_flush_nexthop(cl->c->o.sched, span_cstr(site));
    return ctl_ok(cl, json_pack("{s:b}", "waits", waits));
}

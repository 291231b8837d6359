/*
 * queue-select  {"select": {..}, "of": "queue" | "deleted"}  lines {"ids": [..]}; the last line has "count"
 * queue-deleted {"select": {..}}                             a line per deleted message that can be restored
 *
 * "select" is an object of options (queue/select.h), each with a text or a list of texts.
 */
#include "daemon/control/ctl_select.h"

#include <poll.h>
#include <sysexits.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "daemon/control/queue_json.h"
#include "queue/sched.h"

#define SELECT_MS 60000
#define IDS_PER_LINE 500

/* ---- the request ---- */

struct selection *ctl_selection(struct ctl_client *cl, json_t *request)
{
    struct err e = ERR_INIT;
    json_t *select = json_object_get(request, "select");
    struct selection *s = selection_new();
    if (!json_is_object(select)) {
        ctl_fail(cl, EX_PROTOCOL, "the request has no \"select\"");
        selection_free(&s);
    } else if (!queue_json_selection(s, select, &e)) {
        ctl_fail(cl, EX_USAGE, "%s", e.text);
        selection_free(&s);
    }
    return s;
}

/* ---- the query ---- */

/* The daemon stops, or nobody waits for the answer any more. */
static bool is_in_vain(void *arg)
{
    struct ctl_client *cl = arg;
    struct pollfd p = { .fd = stream_fd(cl->s) };
    lock_take(&cl->c->m);
    bool yes = cl->c->stopping;
    lock_drop(&cl->c->m);
    return yes || poll(&p, 1, 0) > 0; /* without events asked for: POLLHUP and POLLERR */
}

int ctl_query_exit(enum query_status k)
{
    switch (k) {
    case QUERY_ROW:
    case QUERY_OK:
        return 0;
    case QUERY_BAD:
        return EX_DATAERR;
    case QUERY_DENIED:
        return EX_NOPERM;
    case QUERY_TIMEOUT:
    case QUERY_INTERRUPTED:
        return EX_TEMPFAIL;
    case QUERY_FAILED:
        break;
    }
    return EX_IOERR;
}

struct fill {
    struct sched *sched;
    struct query_tail *tail;
    struct err *e;
    bool ok;
};

static bool fill_one(void *arg, uint64_t id, struct msg *m, int64_t deleted_us)
{
    struct fill *f = arg;
    f->ok = query_tail_put(f->tail, id, m, deleted_us, f->e);
    return f->ok;
}

static bool fill_from_memory(void *arg, struct query_tail *tail, struct err *e)
{
    struct fill f = { arg, tail, e, true };
    sched_each_in_memory(f.sched, fill_one, &f);
    return f.ok;
}

/* The index, brought up to date; where it cannot be written, what is in memory is laid over it: a full disk is when one wants to delete. */
static struct query *open_query(const struct control_options *o, const char *path, bool up_to_date, struct err *e)
{
    struct err why = ERR_INIT;
    if (!up_to_date || sched_index_sync(o->sched, e))
        return query_open(path, e);
    return query_open_over(path, o->spool, fill_from_memory, o->sched, &why);
}

struct query *ctl_query(struct ctl_client *cl, bool up_to_date, struct err *e)
{
    const struct control_options *o = &cl->c->o;
    struct conf *c = o->conf(o->arg);
    char *path = xasprintf("%s/index.db", conf_global(c)->queue_directory);
    conf_unref(&c);
    struct query *q = open_query(o, path, up_to_date, e);
    free(path);
    if (q == NULL)
        return NULL;
    query_limit(q, SELECT_MS);
    query_on_progress(q, is_in_vain, cl);
    size_t n;
    uint64_t *ids = sched_active_ids(o->sched, &n);
    if (!selection_set_active(q, ids, n, e))
        query_close(&q);
    free(ids);
    return q;
}

bool ctl_select_ids(struct ctl_client *cl, const struct selection *s, enum selection_of of, uint64_t **ids, size_t *n)
{
    struct err e = ERR_INIT;
    sqlite3_stmt *st = NULL;
    size_t cap = 0, at = 0;
    uint64_t *v = NULL;
    enum query_status k = QUERY_FAILED;
    struct query *q = ctl_query(cl, true, &e);
    if (q != NULL)
        k = selection_prepare(s, q, of, "m.id", clock_wall_us(), &st, &e);
    while (st != NULL && (k = query_step(q, st, &e)) == QUERY_ROW) {
        if (at == cap) {
            cap = cap > 0 ? 2 * cap : 256;
            v = xrealloc(v, cap * sizeof *v);
        }
        v[at++] = (uint64_t)sqlite3_column_int64(st, 0);
    }
    sqlite3_finalize(st);
    query_close(&q);
    if (k != QUERY_OK) {
        free(v);
        return ctl_fail(cl, ctl_query_exit(k), "%s", e.text) && false;
    }
    *ids = v;
    *n = at;
    return true;
}

/* ---- commands ---- */

bool ctl_queue_select(struct ctl_client *cl, json_t *request)
{
    const char *of = json_string_value(json_object_get(request, "of"));
    struct selection *s = ctl_selection(cl, request);
    uint64_t *ids = NULL;
    size_t n = 0;
    if (s == NULL)
        return false;
    bool lng = ctl_long_ids(cl);
    bool ok = ctl_select_ids(cl, s, of != NULL && strcmp(of, "deleted") == 0 ? SELECT_DELETED : SELECT_QUEUE, &ids, &n);
    selection_free(&s);
    for (size_t i = 0; ok && i < n;) {
        json_t *list = json_array();
        for (size_t k = 0; k < IDS_PER_LINE && i < n; k++, i++) {
            char text[QID_TEXT_MAX];
            qid_format(ids[i], lng, text);
            json_array_append_new(list, json_string(text));
        }
        ok = ctl_send(cl, json_pack("{s:o}", "ids", list));
    }
    free(ids);
    return ok && ctl_ok(cl, json_pack("{s:I}", "count", (json_int_t)n));
}

bool ctl_queue_deleted(struct ctl_client *cl, json_t *request)
{
    struct err e = ERR_INIT;
    sqlite3_stmt *st = NULL;
    struct selection *s = ctl_selection(cl, request);
    enum query_status k = QUERY_FAILED;
    if (s == NULL)
        return false;
    struct conf *c = cl->c->o.conf(cl->c->o.arg);
    int64_t keep_s = conf_global(c)->queue_undelete_time / 1000;
    bool lng = conf_global(c)->enable_long_queue_ids;
    conf_unref(&c);
    struct query *q = ctl_query(cl, true, &e);
    if (q != NULL)
        k = selection_prepare(s, q, SELECT_DELETED, DELETED_COLUMNS, clock_wall_us(), &st, &e);
    while (st != NULL && (k = query_step(q, st, &e)) == QUERY_ROW && ctl_send(cl, queue_deleted_json(st, lng, keep_s)))
        ;
    sqlite3_finalize(st);
    query_close(&q);
    selection_free(&s);
    if (cl->is_broken)
        return false;
    if (k != QUERY_OK)
        return ctl_fail(cl, ctl_query_exit(k), "%s", e.text) && false;
    return ctl_ok(cl, NULL);
}

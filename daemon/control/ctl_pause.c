/*
 * queue-pause, queue-resume {"kind": "destination" | "transport", "name": ".."}: durable when the answer comes
 * queue-pauses {}: a line per pause, {"kind", "name", "since"}
 */
#include "daemon/control/control_internal.h"

#include <sysexits.h>

#include "daemon/control/ctl_select.h"
#include "daemon/control/queue_json.h"
#include "queue/sched.h"

json_t *pause_json(const struct pause *p)
{
    return json_pack("{s:s, s:o, s:I}", "kind", pause_kind_name(p->kind), "name", queue_json_text(span_cstr(p->name)), "since",
                     (json_int_t)(p->since_us / 1000000));
}

static void send_pause(void *arg, const struct pause *p)
{
    ctl_send(arg, pause_json(p));
}

bool ctl_queue_pauses(struct ctl_client *cl, json_t *request)
{
    (void)request;
    sched_each_pause(cl->c->o.sched, send_pause, cl);
    return !cl->is_broken && ctl_ok(cl, NULL);
}

/* False after an answer that says why. */
static bool parse(struct ctl_client *cl, json_t *request, enum pause_kind *k, struct span *name)
{
    const char *kind = json_string_value(json_object_get(request, "kind")), *text = json_string_value(json_object_get(request, "name"));
    if (kind == NULL || text == NULL) {
        ctl_fail(cl, EX_PROTOCOL, "a pause needs \"kind\" and \"name\"");
        return false;
    }
    *k = strcmp(kind, pause_kind_name(PAUSE_TRANSPORT)) == 0 ? PAUSE_TRANSPORT : PAUSE_DESTINATION;
    if (strcmp(kind, pause_kind_name(*k)) != 0) {
        ctl_fail(cl, EX_PROTOCOL, "a pause has no kind \"%.40s\"", kind);
        return false;
    }
    *name = span_cstr(text);
    return true;
}

static bool has_transport(struct ctl_client *cl, struct span name)
{
    struct conf *c = cl->c->o.conf(cl->c->o.arg);
    bool yes = conf_transport(c, name) != NULL;
    conf_unref(&c);
    return yes;
}

/* Does mail wait for it, or would it by a transport? What cannot be found out counts as yes. */
static bool has_mail(struct ctl_client *cl, enum pause_kind k, struct span name)
{
    struct err e = ERR_INIT;
    sqlite3_stmt *st = NULL;
    struct query *q = k == PAUSE_DESTINATION ? ctl_query(cl, true, &e) : NULL;
    bool no = q != NULL && query_prepare(q, SPAN_LIT("SELECT 1 FROM recipients WHERE nexthop = ?1 AND state <> 2 LIMIT 1"), &st, &e) == QUERY_OK;
    if (no) {
        query_bind(st, 1, name);
        no = query_step(q, st, &e) == QUERY_OK;
    }
    sqlite3_finalize(st);
    query_close(&q);
    return !no;
}

bool ctl_queue_pause(struct ctl_client *cl, json_t *request)
{
    enum pause_kind k;
    struct span name;
    struct err e = ERR_INIT;
    if (!parse(cl, request, &k, &name))
        return false;
    if (k == PAUSE_TRANSPORT && !has_transport(cl, name))
        return ctl_fail(cl, EX_DATAERR, "there is no transport \"%.*s\" in master.cf", SPAN_ARG(name));
    switch (sched_pause(cl->c->o.sched, k, name, &e)) {
    case SCHED_CMD_OK:
        return ctl_ok(cl, json_pack("{s:b}", "waits", has_mail(cl, k, name)));
    case SCHED_CMD_BUSY:
        return ctl_fail(cl, 1, "%s %.*s is paused already", pause_kind_name(k), SPAN_ARG(name));
    case SCHED_CMD_NOT_FOUND:
    case SCHED_CMD_FAILED:
        break;
    }
    return ctl_fail(cl, e.sys != 0 ? EX_IOERR : EX_DATAERR, "%s", e.text);
}

bool ctl_queue_resume(struct ctl_client *cl, json_t *request)
{
    enum pause_kind k;
    struct span name;
    struct err e = ERR_INIT;
    if (!parse(cl, request, &k, &name))
        return false;
    switch (sched_resume(cl->c->o.sched, k, name, &e)) {
    case SCHED_CMD_OK:
        return ctl_ok(cl, NULL);
    case SCHED_CMD_NOT_FOUND:
        return ctl_fail(cl, 1, "%s %.*s is not paused", pause_kind_name(k), SPAN_ARG(name));
    case SCHED_CMD_BUSY:
    case SCHED_CMD_FAILED:
        break;
    }
    return ctl_fail(cl, EX_IOERR, "%s", e.text);
}

/* status, reload, stop */
#include "daemon/control/control_internal.h"

#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/params.h"
#include "common/table/table.h"
#include "daemon/control/queue_json.h"
#include "daemon/reactor.h"
#include "policy/trace.h"
#include "queue/sched.h"

static json_t *queue_counts(struct sched *s)
{
    struct sched_counts n = sched_counts(s);
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "active", (json_int_t)n.active, "deferred", (json_int_t)n.deferred, "hold",
                     (json_int_t)n.hold, "in_delivery", (json_int_t)n.in_delivery, "jobs_waiting", (json_int_t)n.jobs_waiting);
}

static json_t *session_counts(struct reactor *r)
{
    struct reactor_stats n = reactor_stats(r);
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "open", (json_int_t)n.sessions, "accepted", (json_int_t)n.accepted, "refused",
                     (json_int_t)n.refused, "workers", (json_int_t)n.workers, "workers_idle", (json_int_t)n.workers_idle);
}

static void add_pause(void *arg, const struct pause *p)
{
    json_array_append_new(arg, pause_json(p));
}

/* Limits that were reached, and how often, by the parameter's name. */
static json_t *limit_counts(const struct control_options *o)
{
    json_t *j = json_object();
    for (size_t i = 0; i < o->limit_count; i++)
        if (limit_count(o->limits[i]) > 0)
            json_object_set_new(j, o->limits[i]->parameter, json_integer((json_int_t)limit_count(o->limits[i])));
    return j;
}

bool ctl_status(struct ctl_client *cl, json_t *request)
{
    (void)request;
    const struct control_options *o = &cl->c->o;
    struct conf *c = o->conf(o->arg);
    int64_t now_us = clock_wall_us();
    json_t *s = json_object();
    json_object_set_new(s, "version", json_string(PACKAGE_VERSION));
    json_object_set_new(s, "pid", json_integer(getpid()));
    json_object_set_new(s, "configuration", queue_json_text(span_cstr(o->conf_dir)));
    json_object_set_new(s, "configuration_generation", json_integer((json_int_t)conf_generation(c)));
    json_object_set_new(s, "myhostname", queue_json_text(span_cstr(conf_global(c)->myhostname)));
    json_object_set_new(s, "queue_directory", queue_json_text(span_cstr(conf_global(c)->queue_directory)));
    json_object_set_new(s, "started", json_integer((json_int_t)(o->started_us / 1000000)));
    json_object_set_new(s, "uptime", json_integer((json_int_t)((now_us - o->started_us) / 1000000)));
    json_object_set_new(s, "has_room", json_boolean(spool_has_room(o->spool, 0)));
    json_object_set_new(s, "queue", queue_counts(o->sched));
    json_t *paused = json_array();
    sched_each_pause(o->sched, add_pause, paused);
    json_object_set_new(s, "paused", paused);
    if (o->reactor != NULL)
        json_object_set_new(s, "sessions", session_counts(o->reactor));
    json_object_set_new(s, "limits_reached", limit_counts(o));
    json_object_set_new(s, "log_lines_dropped", json_integer(o->log->log != NULL ? (json_int_t)log_dropped(o->log->log) : 0));
    conf_unref(&c);
    return ctl_send(cl, s) && ctl_ok(cl, NULL);
}

static void add_restriction(void *arg, const struct policy_count *c)
{
    json_t *j = json_pack("{s:s, s:s, s:o, s:o, s:I}", "listener", c->service, "list", c->list, "restriction", queue_json_text(c->name),
                          "argument", queue_json_text(c->arg), "evaluated", (json_int_t)c->evaluated);
    for (int o = 0; o < OUTCOME_COUNT; o++)
        json_object_set_new(j, policy_outcome_word((enum policy_outcome)o), json_integer((json_int_t)c->outcome[o]));
    if (c->is_warn_only)
        json_object_set_new(j, "warn_if_reject", json_true());
    json_array_append_new(arg, j);
}

/* The listeners' lists: main.cf's own, which no listener uses, are left out. */
bool ctl_restrictions(struct ctl_client *cl, json_t *request)
{
    (void)request;
    const struct control_options *o = &cl->c->o;
    if (o->policy == NULL)
        return ctl_fail(cl, EX_UNAVAILABLE, "there are no restrictions here");
    struct policy *p = o->policy(o->arg);
    json_t *all = json_array(), *j;
    size_t i;
    bool ok = true;
    policy_each_count(p, add_restriction, all);
    policy_unref(&p);
    json_array_foreach(all, i, j)
        if (ok && *json_string_value(json_object_get(j, "listener")) != '\0')
            ok = ctl_send(cl, json_incref(j));
    json_decref(all);
    return ok && ctl_ok(cl, NULL);
}

static void add_table(void *arg, const char *name, const struct table_counts *n)
{
    json_t *j = json_pack("{s:o, s:I, s:I, s:I, s:I}", "table", queue_json_text(span_cstr(name)), "lookups",
                          (json_int_t)(n->hits + n->misses + n->errors), "found", (json_int_t)n->hits, "not_found", (json_int_t)n->misses,
                          "failed", (json_int_t)n->errors);
    if (n->is_server) {
        json_object_set_new(j, "cached", json_integer((json_int_t)n->cached));
        json_object_set_new(j, "asked_ms", json_integer((json_int_t)(n->asked_us / 1000)));
    }
    json_array_append_new(arg, j);
}

bool ctl_tables(struct ctl_client *cl, json_t *request)
{
    (void)request;
    const struct control_options *o = &cl->c->o;
    if (o->policy == NULL)
        return ctl_fail(cl, EX_UNAVAILABLE, "there are no tables here");
    struct policy *p = o->policy(o->arg);
    json_t *all = json_array(), *j;
    size_t i;
    bool ok = true;
    table_registry_each(policy_tables(p), add_table, all);
    policy_unref(&p);
    json_array_foreach(all, i, j)
        ok = ok && ctl_send(cl, json_incref(j));
    json_decref(all);
    return ok && ctl_ok(cl, NULL);
}

bool ctl_reload(struct ctl_client *cl, json_t *request)
{
    (void)request;
    const struct control_options *o = &cl->c->o;
    struct buf text = BUF_INIT(CTL_LINE_MAX / 8);
    bool ok = o->reload(o->arg, &text);
    struct span rest = buf_span(&text), line;
    while (span_next_token(&rest, "\n", &line)) {
        json_t *j = json_object();
        json_object_set_new(j, "finding", queue_json_text(line));
        ctl_send(cl, j);
    }
    buf_free(&text);
    return ok ? ctl_ok(cl, NULL)
              : ctl_fail(cl, EX_CONFIG, "the configuration was not reloaded: the running one stays in force");
}

bool ctl_stop(struct ctl_client *cl, json_t *request)
{
    (void)request;
    const struct control_options *o = &cl->c->o;
    bool ok = ctl_ok(cl, json_pack("{s:I}", "pid", (json_int_t)getpid()));
    o->stop(o->arg);
    return ok;
}

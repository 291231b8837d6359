/*
 * queue-sync {}: brings index.db up to date for a query that follows. The last line has "queue" (counts), "rates" (an object for
 * each of the last 1, 5 and 15 minutes) and "paused"; "sync_error" when the index may be old.
 */
#include "daemon/control/control_internal.h"

#include "daemon/control/queue_json.h"
#include "queue/sched.h"

static json_t *rates_json(struct sched *s)
{
    static const int minutes[] = { 1, 5, 15 };
    json_t *a = json_array();
    for (size_t i = 0; i < ARRAY_LEN(minutes); i++) {
        uint64_t v[RATE_COUNT];
        int64_t over_ms = sched_rates(s, minutes[i] * INT64_C(60000), v);
        json_t *o = json_pack("{s:i, s:f}", "minutes", minutes[i], "over_seconds", (double)over_ms / 1000);
        for (unsigned k = 0; k < RATE_COUNT; k++)
            json_object_set_new(o, rate_name((enum rate)k), json_integer((json_int_t)v[k]));
        json_array_append_new(a, o);
    }
    return a;
}

static void add_pause(void *arg, const struct pause *p)
{
    json_array_append_new(arg, pause_json(p));
}

bool ctl_queue_sync(struct ctl_client *cl, json_t *request)
{
    (void)request;
    struct sched *s = cl->c->o.sched;
    struct err e = ERR_INIT;
    bool ok = sched_index_sync(s, &e);
    struct sched_counts n = sched_counts(s);
    json_t *paused = json_array();
    sched_each_pause(s, add_pause, paused);
    json_t *o = json_pack("{s:{s:I, s:I, s:I, s:I}, s:o, s:o}", "queue", "active", (json_int_t)n.active, "deferred", (json_int_t)n.deferred,
                          "hold", (json_int_t)n.hold, "in_delivery", (json_int_t)n.in_delivery, "rates", rates_json(s), "paused", paused);
    if (!ok)
        json_object_set_new(o, "sync_error", queue_json_text(span_cstr(e.text)));
    return ctl_ok(cl, o);
}

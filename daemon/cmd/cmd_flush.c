/*
 * posthousectl queue flush
 *
 * A next hop alone is one request: only its recipients are tried, also those that the index has not heard of. That nothing
 * waits for it is told from the index.
 */
#include "daemon/cmd/posthousectl.h"

#include <sysexits.h>

#include "common/base/mem.h"
#include "daemon/cmd/queue_format.h"
#include "daemon/cmd/select_options.h"

#define IDS_PER_REQUEST 500

struct flush_run {
    struct ctl *ctl;
    struct select_args a;
    size_t done;
};

static void tell(const struct flush_run *r, const char *id, const char *result)
{
    if (!r->a.json)
        return;
    json_t *o = json_pack("{s:s, s:s}", "queue_id", id, "result", result);
    queue_show_json(stdout, o);
    json_decref(o);
}

/* Removes an id that the daemon did not try from the batch; the others were. */
static void take_out(json_t *batch, const char *id)
{
    size_t i;
    json_t *text;
    json_array_foreach(batch, i, text) {
        if (strcmp(json_string_value(text), id) == 0) {
            json_array_remove(batch, i);
            return;
        }
    }
}

static int flush_batch(void *arg, json_t *batch)
{
    struct flush_run *r = arg;
    struct err e = ERR_INIT;
    bool is_last = false;
    json_t *left = json_copy(batch), *id;
    size_t i;
    int status = ctl_request(&r->ctl->conn, json_pack("{s:s, s:O}", "op", "queue-flush", "ids", batch), &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&r->ctl->conn, &is_last, &e);
        if (j == NULL) {
            status = EX_TEMPFAIL;
        } else if (is_last) {
            status = ctl_status_of(j, &e);
        } else {
            const char *raw = json_string_value(json_object_get(j, "queue_id"));
            take_out(left, raw != NULL ? raw : "");
            tell(r, raw, "missing");
            ctl_complain("no message with queue id %s that could be tried now", queue_text(j, "queue_id"));
        }
        json_decref(j);
    }
    if (status == 0) {
        r->done += json_array_size(left);
        json_array_foreach(left, i, id)
            tell(r, json_string_value(id), "done");
    } else {
        ctl_complain("%s", e.text);
    }
    json_decref(left);
    return status;
}

static int flush_ids(struct flush_run *r)
{
    int status;
    size_t i;
    json_t *id;
    json_t *ids = ctl_queue_ids(r->ctl, NULL, &r->a, &status);
    if (ids != NULL && r->a.dry_run) {
        json_array_foreach(ids, i, id) {
            tell(r, json_string_value(id), "selected");
            if (!r->a.json)
                puts(json_string_value(id));
        }
    } else if (ids != NULL) {
        status = select_each_batch(ids, IDS_PER_REQUEST, flush_batch, r);
        status = status == 0 && r->done == 0 ? 1 : status;
    }
    json_decref(ids);
    return status;
}

/* A next hop alone, not a pattern: all that goes there, also what is not in the index yet. */
static const char *flush_site(const struct select_args *a)
{
    const json_t *list = json_object_get(a->select, "destination");
    const char *site = json_object_size(a->select) == 1 && json_array_size(list) == 1 ? json_string_value(json_array_get(list, 0)) : NULL;
    return site != NULL && strchr(site, '*') == NULL ? site : NULL;
}

/* Everything, or one destination. */
static int flush_at_once(struct flush_run *r, const char *site)
{
    json_t *request = json_pack("{s:s}", "op", "queue-flush"), *last = NULL;
    if (site != NULL)
        json_object_set_new(request, "site", json_string(site));
    int status = ctl_simple(r->ctl, request, &last);
    bool is_known = status != 0 || !json_is_false(json_object_get(last, "waits"));
    if (!is_known) {
        ctl_complain("no mail waits for %s", site);
        status = 1;
    }
    if (r->a.json && (status == 0 || !is_known))
        puts(status == 0 ? "{\"result\": \"done\"}" : "{\"result\": \"missing\"}");
    json_decref(last);
    return status;
}

int ctl_queue_cmd_flush(struct ctl *ctl, int argc, char **argv)
{
    struct flush_run r = { .ctl = ctl };
    if (select_args_parse(&r.a, argc, argv, SEL_SITE | SEL_JSON | SEL_DRY_RUN, 0) != 0) {
        ctl_complain("usage: queue flush [-j] [-n] [ID... | - | -s NEXTHOP | SELECTION]");
        return EX_USAGE;
    }
    const char *site = flush_site(&r.a);
    bool everything = select_args_is_empty(&r.a);
    select_args_read_stdin(&r.a);
    int status = ctl_open(ctl, false);
    if (status == 0 && (site != NULL || everything) && !r.a.dry_run) {
        status = flush_at_once(&r, site);
    } else if (status == 0) {
        r.a.all = r.a.all || everything;
        status = flush_ids(&r);
    }
    select_args_free(&r.a);
    return status;
}

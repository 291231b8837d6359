/*
 * The commands of one client, in order. A request is one line holding a JSON object with a member "op"; the answer is any
 * number of lines and a last one with a member "ok".
 */
#include "daemon/control/control_internal.h"

#include <sysexits.h>

#include "common/base/clock.h"

#define FIRST_REQUEST_MS 30000
#define NEXT_REQUEST_MS 300000

struct command {
    const char *op;
    enum ctl_right right;
    ctl_command_fn *run;
};

static const struct command commands[] = {
    { "queue-list", RIGHT_MAILQ, ctl_queue_list },
    { "queue-show", RIGHT_OWNER, ctl_queue_show },
    { "queue-cat", RIGHT_OWNER, ctl_queue_cat },
    { "queue-flush", RIGHT_FLUSH, ctl_queue_flush },
    { "queue-hold", RIGHT_OWNER, ctl_queue_hold },
    { "queue-release", RIGHT_OWNER, ctl_queue_release },
    { "queue-delete", RIGHT_OWNER, ctl_queue_delete },
    { "queue-requeue", RIGHT_OWNER, ctl_queue_requeue },
    { "queue-expire", RIGHT_OWNER, ctl_queue_expire },
    { "queue-readdress", RIGHT_OWNER, ctl_queue_readdress },
    { "queue-undelete", RIGHT_OWNER, ctl_queue_undelete },
    { "queue-select", RIGHT_OWNER, ctl_queue_select },
    { "queue-deleted", RIGHT_OWNER, ctl_queue_deleted },
    { "queue-pause", RIGHT_OWNER, ctl_queue_pause },
    { "queue-resume", RIGHT_OWNER, ctl_queue_resume },
    { "queue-pauses", RIGHT_OWNER, ctl_queue_pauses },
    { "queue-export", RIGHT_OWNER, ctl_queue_export },
    { "queue-import", RIGHT_OWNER, ctl_queue_import },
    { "queue-sync", RIGHT_OWNER, ctl_queue_sync },
    { "queue-compact", RIGHT_OWNER, ctl_queue_compact },
    { "restrictions", RIGHT_OWNER, ctl_restrictions },
    { "verify-list", RIGHT_OWNER, ctl_verify_list },
    { "verify-forget", RIGHT_OWNER, ctl_verify_forget },
    { "verify-probe", RIGHT_SUBMIT, ctl_verify_probe },
    { "status", RIGHT_OWNER, ctl_status },
    { "tables", RIGHT_OWNER, ctl_tables },
    { "reload", RIGHT_OWNER, ctl_reload },
    { "stop", RIGHT_OWNER, ctl_stop },
    { "submit", RIGHT_SUBMIT, ctl_submit },
    { "smtp", RIGHT_SUBMIT, ctl_smtp },
};

static bool run_request(struct ctl_client *cl, json_t *request)
{
    const char *op = json_string_value(json_object_get(request, "op"));
    struct err e = ERR_INIT;
    if (op == NULL)
        return ctl_fail(cl, EX_PROTOCOL, "the request has no \"op\"") && false;
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(op, commands[i].op) != 0)
            continue;
        if (!ctl_is_allowed(cl, commands[i].right, &e))
            return ctl_fail(cl, EX_NOPERM, "%s", e.text) && false;
        return commands[i].run(cl, request);
    }
    return ctl_fail(cl, EX_PROTOCOL, "unknown request \"%.64s\": posthoused may be older than this program", op) && false;
}

static bool one_request(struct ctl_client *cl, int64_t wait_ms)
{
    struct span line;
    json_error_t je;
    stream_set_deadline(cl->s, clock_mono_ms() + wait_ms);
    enum stream_status st = stream_read_line(cl->s, CTL_LINE_MAX, &line);
    if (st == STREAM_TOO_LONG)
        return ctl_fail(cl, EX_PROTOCOL, "request longer than %d bytes", CTL_LINE_MAX) && false;
    if (st != STREAM_OK)
        return false;
    json_t *request = json_loadb(line.p, line.n, JSON_REJECT_DUPLICATES, &je);
    if (request == NULL || !json_is_object(request)) {
        json_decref(request);
        return ctl_fail(cl, EX_PROTOCOL, "the request is not a JSON object") && false;
    }
    bool more = run_request(cl, request);
    json_decref(request);
    return more && !cl->is_broken;
}

bool ctl_commit_begin(struct ctl_client *cl)
{
    lock_take(&cl->c->m);
    bool ok = !cl->c->stopping;
    cl->is_committing = ok;
    lock_drop(&cl->c->m);
    return ok;
}

void ctl_commit_end(struct ctl_client *cl)
{
    lock_take(&cl->c->m);
    cl->is_committing = false;
    lock_drop(&cl->c->m);
}

static bool is_stopping(struct control *c)
{
    lock_take(&c->m);
    bool yes = c->stopping;
    lock_drop(&c->m);
    return yes;
}

void ctl_client_run(struct ctl_client *cl)
{
    int64_t wait_ms = FIRST_REQUEST_MS;
    while (!is_stopping(cl->c) && one_request(cl, wait_ms))
        wait_ms = NEXT_REQUEST_MS;
}

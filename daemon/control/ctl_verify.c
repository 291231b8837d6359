/*
 * verify-list {}: a line per result of address verification, the newest first: {"address", "status", "text", "updated", "probing"}
 * verify-forget {"address": ".."}, or without one all: {"forgotten": n} in the last line
 * verify-probe {"address": ".."}: finds out (the owner of the mail system: anew), and waits for it: {"status", "text"} in the last line
 */
#include "daemon/control/control_internal.h"

#include <sysexits.h>

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/conf/params.h"
#include "daemon/control/queue_json.h"
#include "policy/verify.h"

#define PROBE_WAIT_MS 120000

static const char *status_word(enum verify_status s)
{
    switch (s) {
    case VERIFY_OK:
        return "deliverable";
    case VERIFY_DEFER:
        return "deferred";
    case VERIFY_BOUNCE:
        return "undeliverable";
    case VERIFY_TODO:
        break;
    }
    return "unknown";
}

static bool send_item(void *arg, const struct verify_item *i)
{
    struct ctl_client *cl = arg;
    ctl_send(cl, json_pack("{s:o, s:s, s:o, s:I, s:b}", "address", queue_json_text(i->address), "status", status_word(i->result->status), "text",
                           queue_json_text(span_cstr(i->result->text)), "updated", (json_int_t)i->updated_s, "probing", i->is_probing));
    return !cl->is_broken;
}

static struct conf *begin(struct ctl_client *cl)
{
    struct conf *c = cl->c->o.conf(cl->c->o.arg);
    verifier_load(cl->c->o.verifier);
    return c;
}

bool ctl_verify_list(struct ctl_client *cl, json_t *request)
{
    (void)request;
    struct conf *c = begin(cl);
    verifier_each(cl->c->o.verifier, send_item, cl);
    conf_unref(&c);
    return !cl->is_broken && ctl_ok(cl, NULL);
}

bool ctl_verify_forget(struct ctl_client *cl, json_t *request)
{
    const char *address = json_string_value(json_object_get(request, "address"));
    struct conf *c = begin(cl);
    size_t n = verifier_forget(cl->c->o.verifier, span_cstr(address != NULL ? address : ""));
    conf_unref(&c);
    if (n == 0 && address != NULL)
        return ctl_fail(cl, 1, "nothing is known of %s", address);
    return ctl_ok(cl, json_pack("{s:I}", "forgotten", (json_int_t)n));
}

struct wait {
    struct lock m;
    struct cond done;
    bool is_done;
    struct verify_result result;
};

static void probed_cb(void *arg, const struct verify_result *r)
{
    struct wait *w = arg;
    lock_take(&w->m);
    w->result = *r;
    w->is_done = true;
    cond_signal(&w->done);
    lock_drop(&w->m);
}

bool ctl_verify_probe(struct ctl_client *cl, json_t *request)
{
    const char *address = json_string_value(json_object_get(request, "address"));
    struct wait w = { .is_done = false };
    struct err e = ERR_INIT;
    if (address == NULL || *address == '\0')
        return ctl_fail(cl, EX_PROTOCOL, "verify-probe needs \"address\"");
    struct conf *c = begin(cl);
    lock_init(&w.m, LOCK_VERIFY_WAIT);
    cond_init(&w.done);
    if (ctl_is_allowed(cl, RIGHT_OWNER, &e)) /* others get what is known */
        (void)verifier_forget(cl->c->o.verifier, span_cstr(address));
    verifier_ask(cl->c->o.verifier, conf_global(c), span_cstr(address), PROBE_WAIT_MS, probed_cb, &w);
    lock_take(&w.m);
    while (!w.is_done) /* bounded by PROBE_WAIT_MS, and by the end of the daemon */
        cond_wait(&w.done, &w.m);
    lock_drop(&w.m);
    cond_destroy(&w.done);
    lock_destroy(&w.m);
    conf_unref(&c);
    return ctl_ok(cl, json_pack("{s:s, s:o}", "status", status_word(w.result.status), "text",
                                queue_json_text(span_cstr(w.result.text))));
}

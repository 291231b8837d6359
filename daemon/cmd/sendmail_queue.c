/* mailq (sendmail -bp) and sendmail -q: through public/submit, which every local user may reach. */
#include "daemon/cmd/sendmail.h"

#include <sysexits.h>

#include "common/base/mem.h"
#include "common/conf/params.h"
#include "daemon/cmd/ctl_client.h"
#include "daemon/cmd/queue_format.h"
#include "daemon/cmd/queue_offline.h"

static enum ctl_connect connect_public(const struct sendmail *sm, struct ctl_conn *c, struct err *e)
{
    char *path = xasprintf("%s/public/submit", sm->p->queue_directory);
    enum ctl_connect st = ctl_connect(path, c, e);
    free(path);
    return st;
}

static bool list_cb(void *arg, json_t *m)
{
    queue_list_add(arg, m);
    return !ferror(stdout);
}

static int list_offline(struct sendmail *sm, struct queue_list *l)
{
    struct err e = ERR_INIT;
    struct queue_offline *off = queue_offline_open(sm->conf, &e);
    if (off == NULL)
        return sendmail_fail(sm, EX_UNAVAILABLE, "posthoused is not running, and the files cannot be read: %s", e.text);
    sendmail_fail(sm, 0, "posthoused is not running: reading the files in %s", sm->p->queue_directory);
    queue_offline_list(off, list_cb, l);
    queue_offline_close(&off);
    queue_list_end(l);
    return 0;
}

int sendmail_list(struct sendmail *sm)
{
    struct queue_list l = { .out = stdout, .long_ids = sm->p->enable_long_queue_ids };
    struct ctl_conn c;
    struct err e = ERR_INIT;
    bool is_last = false;
    enum ctl_connect st = connect_public(sm, &c, &e);
    if (st == CTL_CONNECT_DOWN)
        return list_offline(sm, &l);
    if (st != CTL_CONNECT_OK)
        return sendmail_fail(sm, EX_NOPERM, "%s", e.text);
    int status = ctl_request(&c, json_pack("{s:s}", "op", "queue-list"), &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last && !ferror(stdout)) {
        json_t *j = ctl_answer(&c, &is_last, &e);
        if (j == NULL)
            status = EX_TEMPFAIL;
        else if (is_last)
            status = ctl_status_of(j, &e);
        else
            queue_list_add(&l, j);
        json_decref(j);
    }
    ctl_disconnect(&c);
    if (status != 0)
        return sendmail_fail(sm, status, "%s", e.text);
    queue_list_end(&l);
    return 0;
}

static json_t *flush_request(const struct sendmail *sm)
{
    if (sm->o.mode == SM_FLUSH_ID)
        return json_pack("{s:s, s:[s]}", "op", "queue-flush", "ids", sm->o.arg);
    if (sm->o.mode == SM_FLUSH_SITE)
        return json_pack("{s:s, s:s}", "op", "queue-flush", "site", sm->o.arg);
    return json_pack("{s:s}", "op", "queue-flush");
}

int sendmail_flush(struct sendmail *sm)
{
    struct ctl_conn c;
    struct err e = ERR_INIT;
    json_t *last = NULL;
    enum ctl_connect st = connect_public(sm, &c, &e);
    if (st != CTL_CONNECT_OK)
        return sendmail_fail(sm, st == CTL_CONNECT_DOWN ? EX_UNAVAILABLE : EX_NOPERM, "%s", e.text);
    json_t *request = flush_request(sm);
    int status = EX_USAGE;
    if (request == NULL)
        err_set(&e, "not UTF-8: %s", sm->o.arg);
    else
        status = ctl_request(&c, request, &e) ? ctl_finish(&c, &last, &e) : EX_TEMPFAIL;
    if (status == 0 && sm->o.mode == SM_FLUSH_ID && json_integer_value(json_object_get(last, "done")) == 0) {
        err_set(&e, "no message with queue id %s that could be tried now", sm->o.arg);
        status = 1;
    }
    json_decref(last);
    ctl_disconnect(&c);
    return status != 0 ? sendmail_fail(sm, status, "%s", e.text) : 0;
}

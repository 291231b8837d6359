/*
 * submit {"posthouse_submission": ...}, then content_bytes bytes: the last line comes when the message is durable, with
 *        "queue_id". A client that loses the connection before it has sent the last byte knows that nothing was taken;
 *        after that it does not know.
 * smtp   {}: after the last line the connection is an SMTP session (sendmail -bs), as a local client's.
 */
#include "daemon/control/control_internal.h"

#include <errno.h>
#include <sysexits.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/conf/params.h"
#include "daemon/control/local_submit.h"

struct socket_content {
    struct ctl_client *cl;
    uint64_t left;
};

static bool read_content(void *arg, struct span *out, struct err *e)
{
    struct socket_content *sc = arg;
    *out = span_of(NULL, 0);
    if (sc->left == 0)
        return true;
    stream_set_deadline(sc->cl->s, clock_mono_ms() + CTL_IO_MS);
    if (stream_read_some(sc->cl->s, out) != STREAM_OK) {
        err_set(e, "the connection ended before the message did");
        return false;
    }
    if (out->n > sc->left) {
        err_set(e, "more content than announced");
        return false;
    }
    sc->left -= out->n;
    return true;
}

bool ctl_submit(struct ctl_client *cl, json_t *request)
{
    const struct control_options *o = &cl->c->o;
    struct local_env env = { .spool = o->spool, .log = o->log, .conf = o->conf, .policy = o->policy, .report = o->report, .arg = o->arg };
    struct arena *a = arena_new(0);
    struct submission s;
    struct err e = ERR_INIT;
    int status = EX_DATAERR;
    uint64_t id = qid_new(spool_qids(o->spool));
    if (submission_decode(request, a, &s, &e)) {
        struct socket_content sc = { .cl = cl, .left = s.content_bytes };
        if (ctl_commit_begin(cl)) {
            status = local_submit(&env, &s, cl->peer.uid, id, read_content, &sc, &e);
            ctl_commit_end(cl);
            if (status == LOCAL_DISCARDED) /* which the sender need not know */
                status = 0;
        } else {
            status = EX_TEMPFAIL;
            err_set(&e, "the mail system is stopping");
        }
    }
    arena_free(&a);
    if (status != 0)
        return ctl_fail(cl, status, "%s", e.text) && false;
    char text[QID_TEXT_MAX];
    struct conf *c = o->conf(o->arg);
    qid_format(id, conf_global(c)->enable_long_queue_ids, text);
    conf_unref(&c);
    return ctl_ok(cl, json_pack("{s:s}", "queue_id", text));
}

/* The service whose rules a session on standard input follows: "smtp" when there is one, else the first. */
static const struct conf_service *smtp_service(const struct conf *c)
{
    const struct conf_service *first = NULL;
    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *s = conf_service(c, i);
        if (s->role != SVC_LISTENER)
            continue;
        if (strcmp(s->name, "smtp") == 0 || strcmp(s->name, "25") == 0)
            return s;
        if (first == NULL)
            first = s;
    }
    return first;
}

static struct smtpd_service *local_service(struct ctl_client *cl, struct err *e)
{
    const struct control_options *o = &cl->c->o;
    struct policy *p = o->policy != NULL ? o->policy(o->arg) : NULL;
    const struct conf_service *svc = p != NULL ? smtp_service(policy_conf(p)) : NULL;
    struct smtpd_service *v = NULL;
    if (svc != NULL)
        v = smtpd_service_new(svc, p, e);
    else
        err_set(e, "no smtpd service is configured");
    policy_unref(&p);
    return v;
}

bool ctl_smtp(struct ctl_client *cl, json_t *request)
{
    (void)request;
    struct err e = ERR_INIT;
    struct smtpd_service *v = local_service(cl, &e);
    if (v == NULL)
        return ctl_fail(cl, EX_UNAVAILABLE, "%s", e.text) && false;
    if (ctl_ok(cl, NULL)) {
        int fd = stream_fd(cl->s);
        int rc = io_set_nonblock(fd, true) ? smtpd_run(&cl->c->smtpd, v, fd, fd) : errno;
        if (rc != 0)
            log_warn(cl->c->o.log, "sendmail -bs: %s", strerror(rc));
    }
    smtpd_service_unref(&v);
    return false;
}

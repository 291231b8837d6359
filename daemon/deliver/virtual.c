/*
 * virtual(8): the mailbox of each recipient is looked up and its Maildir below virtual_mailbox_base gets a copy.
 *
 * Patterns in these maps may not put what they match into their result (virtual(8)): the path would be the sender's to
 * choose, into another user's mailbox for one.
 *
 * Started as root, the file belongs to the user that virtual_uid_maps and virtual_gid_maps name; running as an ordinary
 * user the maps are not asked and everything belongs to that user.
 */
#include <errno.h>
#include <inttypes.h>

#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/base/num.h"
#include "common/conf/params.h"
#include "common/mail/address.h"
#include "daemon/deliver.h"
#include "daemon/deliver/maildir.h"
#include "daemon/deliver/tables.h"
#include "daemon/deliver/trace_headers.h"

struct virtual_job {
    struct deliver_env *env;
    struct job *job;
    const struct params *p;
    struct log_src log;
    struct arena *arena;
    struct content_view view;
    bool has_owner;       /* files are given to the users of the uid and gid maps */
    int64_t begun_us;
};

/* What one recipient came to. */
struct verdict {
    enum outcome outcome;
    const char *dsn;
    struct span reason; /* in the arena */
};

static struct verdict verdict(struct virtual_job *v, enum outcome outcome, const char *dsn, const char *fmt, ...) PRINTF_FMT(4, 5);

static struct verdict verdict(struct virtual_job *v, enum outcome outcome, const char *dsn, const char *fmt, ...)
{
    struct buf b = BUF_INIT(2000);
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    struct verdict r = { outcome, dsn, arena_dup_span(v->arena, buf_span(&b)) };
    buf_free(&b);
    return r;
}

static enum lookup lookup(struct virtual_job *v, const char *list, struct span addr, struct span *value, struct err *e)
{
    struct maps_addr parts = maps_addr_of(addr, v->p->recipient_delimiter, v->p->owner_request_special);
    return maps_lookup_address(deliver_tables_get_literal(v->env->tables, list), &parts, MAPS_AT_DOMAIN, v->arena, value, NULL, e);
}

/* A number from virtual_uid_maps or virtual_gid_maps. False: *why is set. */
static bool lookup_id(struct virtual_job *v, const char *what, const char *list, int64_t minimum, struct span addr,
                      int64_t *id, struct verdict *why)
{
    struct span value;
    struct err e = ERR_INIT;
    switch (lookup(v, list, addr, &value, &e)) {
    case LOOKUP_FOUND:
        if (num_parse(span_trim(value), 0, UINT32_MAX - 1, id) && *id >= minimum)
            return true;
        log_warn(&v->log, "recipient %.*s: bad %s %.*s in virtual_%s_maps: expected a number from %" PRId64 " on%s",
                 SPAN_ARG(addr), what, SPAN_ARG(value), what, minimum, minimum > 1 ? " (virtual_minimum_uid)" : "");
        break;
    case LOOKUP_NONE:
        log_warn(&v->log, "recipient %.*s: not found in virtual_%s_maps", SPAN_ARG(addr), what);
        break;
    case LOOKUP_TEMPFAIL:
        log_warn(&v->log, "recipient %.*s: virtual_%s_maps: %s", SPAN_ARG(addr), what, e.text);
        break;
    }
    *why = verdict(v, OUTCOME_DEFERRED, "4.3.5", "mail system configuration error");
    return false;
}

static struct verdict maildir_verdict(struct virtual_job *v, enum maildir_status status, const struct err *e)
{
    switch (status) {
    case MAILDIR_OK:
        return verdict(v, OUTCOME_SENT, "2.0.0", "delivered to maildir");
    case MAILDIR_NO_SPACE:
        return verdict(v, OUTCOME_DEFERRED, "4.3.1", "maildir delivery failed: %s", e->text);
    case MAILDIR_NO_QUOTA:
        return verdict(v, OUTCOME_DEFERRED, "4.2.2", "maildir delivery failed: %s", e->text);
    case MAILDIR_FAILED:
        break;
    }
    return verdict(v, OUTCOME_DEFERRED, "4.2.0", "maildir delivery failed: %s", e->text);
}

static struct verdict deliver_to(struct virtual_job *v, uint32_t index, const struct msg_rcpt *rcpt, struct span key,
                                 struct span path)
{
    const struct envelope *env = &v->job->msg->env;
    struct verdict why;
    struct err e = ERR_INIT;
    int64_t uid = 0, gid = 0;
    if (v->has_owner && (!lookup_id(v, "uid", v->p->virtual_uid_maps, v->p->virtual_minimum_uid, key, &uid, &why) ||
                         !lookup_id(v, "gid", v->p->virtual_gid_maps, 1, key, &gid, &why)))
        return why;
    if (v->job->probe != NULL)
        return verdict(v, OUTCOME_SENT, "2.0.0", "delivers to maildir");
    unsigned flags = COPY_RETURN_PATH | COPY_DELIVERED_TO | (v->p->enable_original_recipient ? COPY_ORIGINAL_TO : 0);
    struct buf headers = BUF_INIT(16384);
    trace_headers_add(&headers, flags, env, rcpt, "\n");
    int64_t bytes = (int64_t)(v->view.n + headers.n), limit = v->p->virtual_mailbox_limit;
    if (limit > 0 && bytes > limit) {
        buf_free(&headers);
        return verdict(v, OUTCOME_BOUNCED, "5.2.3", "maildir delivery failed: message of %lld bytes is over virtual_mailbox_limit",
                       (long long)bytes);
    }
    struct maildir_job m = {
        .base = v->p->virtual_mailbox_base, .path = path, .host = v->p->myhostname, .id = env->id, .serial = index,
        .headers = buf_span(&headers), .content = span_of(v->view.p, v->view.n),
        .may_be_repeat = v->job->msg->received_ms == 0,
        .has_owner = v->has_owner, .uid = (uid_t)uid, .gid = (gid_t)gid,
    };
    enum maildir_status status = maildir_deliver(&m, &e);
    buf_free(&headers);
    if (status != MAILDIR_OK)
        log_warn(&v->log, "%s", e.text);
    return maildir_verdict(v, status, &e);
}

static struct verdict deliver_one(struct virtual_job *v, uint32_t index, const struct msg_rcpt *rcpt)
{
    struct span path;
    struct err e = ERR_INIT;
    if (v->job->probe == NULL && trace_headers_has_delivered_to(span_of(v->view.p, v->view.n), rcpt->addr))
        return verdict(v, OUTCOME_BOUNCED, "5.4.6", "mail forwarding loop for %.*s", SPAN_ARG(rcpt->addr));
    char *key = arena_strndup(v->arena, rcpt->addr.p, rcpt->addr.n);
    ascii_lower_buf(key, rcpt->addr.n);
    struct span folded = span_of(key, rcpt->addr.n);
    switch (lookup(v, v->p->virtual_mailbox_maps, folded, &path, &e)) {
    case LOOKUP_NONE:
        return verdict(v, OUTCOME_BOUNCED, "5.1.1", "unknown user: \"%.*s\"", SPAN_ARG(rcpt->addr));
    case LOOKUP_TEMPFAIL:
        log_warn(&v->log, "virtual_mailbox_maps: %s", e.text);
        return verdict(v, OUTCOME_DEFERRED, "4.3.5", "mailbox lookup failed; the log has details");
    case LOOKUP_FOUND:
        break;
    }
    path = span_trim(path);
    if (path.n == 0 || path.p[path.n - 1] != '/') {
        log_warn(&v->log, "recipient %.*s: mailbox %.*s: only Maildirs (a path with / at its end) are supported",
                 SPAN_ARG(rcpt->addr), SPAN_ARG(path));
        return verdict(v, OUTCOME_DEFERRED, "4.3.5", "mail system configuration error");
    }
    return deliver_to(v, index, rcpt, folded, path);
}

static void report(struct virtual_job *v, uint32_t i, struct verdict r, int64_t from_us)
{
    struct delivery_result res = {
        .outcome = r.outcome, .dsn = span_cstr(r.dsn), .relay = SPAN_LIT("virtual"), .reason = r.reason,
        .xfer_us = clock_wall_us() - from_us, .is_final_delivery = true,
    };
    sched_report(v->env->sched, v->job, i, &res);
}

void deliver_virtual(struct deliver_env *env, struct job *j)
{
    struct virtual_job v = { .env = env, .job = j, .p = j->transport->p, .log = *env->log, .begun_us = clock_wall_us() };
    struct err e = ERR_INIT;
    v.log.name = v.p->syslog_name;
    v.log.prog = "virtual";
    if (j->probe == NULL && !content_acquire(env->spool, j->msg, &v.view, &e)) {
        log_warn(&v.log, "cannot read the content of a message: %s", e.text);
        struct delivery_result res = { .outcome = OUTCOME_DEFERRED, .dsn = SPAN_LIT("4.3.0"), .relay = SPAN_LIT("virtual"),
                                       .reason = SPAN_LIT("local data error") };
        sched_report_all(env->sched, j, &res);
        sched_finish(env->sched, &j, SITE_NEUTRAL);
        return;
    }
    v.arena = arena_new(0);
    v.has_owner = maildir_can_switch_user();
    for (uint32_t i = 0; i < j->rcpt_count; i++) {
        int64_t from_us = clock_wall_us();
        uint32_t index = j->rcpts[i].index;
        report(&v, i, deliver_one(&v, index, &j->msg->env.rcpts[index]), from_us);
        arena_reset(v.arena);
    }
    arena_free(&v.arena);
    if (j->probe == NULL)
        content_release(&v.view);
    sched_finish(env->sched, &j, SITE_OK);
}

/*
 * The order: envelope (addresses completed, aliases expanded, duplicates dropped), content, commit, log. Nothing is in
 * the spool before the commit; a failure before it leaves no trace.
 */
#include "daemon/control/local_submit.h"

#include <sysexits.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/conf/params.h"
#include "common/mail/address.h"
#include "common/mail/maildate.h"
#include "daemon/control/local_content.h"
#include "daemon/control/local_inspect.h"
#include "policy/rewrite/rewrite.h"
#include "queue/copy.h"

struct run {
    const struct local_env *env;
    const struct submission *s;
    const struct params *p;
    struct conf *conf;
    struct policy *policy; /* NULL: none */
    const struct conf_service *pickup; /* NULL: master.cf has none */
    const struct params *pickup_p;     /* its values */
    struct mail_list *lists;           /* recipients whose sender is the owner of a list */
    struct mail_expanded *expanded;    /* of whom the sender wants to hear */
    struct msg *report;                /* owned: on those */
    bool has_maps;                     /* receive_override_options lets addresses be changed */
    struct msg *m;
    char id[QID_TEXT_MAX];
    uid_t uid;
    struct content_writer *w;
    enum spool_status write_status;
};

/* ---- envelope ---- */

/* user -> user@myorigin, user@host -> user@host.mydomain, as the configuration says. */
static struct span complete_address(const struct params *p, struct arena *a, struct span s)
{
    struct span local, domain;
    if (s.n == 0)
        return s;
    if (!addr_split(s, &local, &domain))
        return p->append_at_myorigin ? span_cstr(arena_printf(a, "%.*s@%s", SPAN_ARG(s), p->myorigin)) : arena_dup_span(a, s);
    if (p->append_dot_mydomain && span_find(domain, '.') < 0 && domain.n > 0 && domain.p[0] != '[')
        return span_cstr(arena_printf(a, "%.*s.%s", SPAN_ARG(s), p->mydomain));
    return arena_dup_span(a, s);
}

/* A duplicate differs in nothing but case; without enable_original_recipient the address alone counts. */
static bool is_there(const struct run *r, const struct msg_rcpt *rcpts, uint32_t count, struct span addr, struct span orig, uint8_t notify)
{
    int64_t filter = r->p->duplicate_filter_limit; /* 0: no limit */
    for (uint32_t i = 0; i < count && (filter == 0 || i < filter); i++) {
        const struct msg_rcpt *x = &rcpts[i];
        if (span_ieq(x->addr, addr) && (!r->p->enable_original_recipient || (span_ieq(x->orig, orig) && x->notify == notify)))
            return true;
    }
    return false;
}

/* owner: of the mailing list that it is a member of, or empty. */
static bool add_rcpt(struct run *r, struct span addr, struct span orig, uint8_t notify, struct span owner)
{
    struct mail_list *l = owner.n > 0 ? mail_list_of(&r->lists, owner, r->m->arena) : NULL;
    if (l != NULL)
        notify = 0;
    if (is_there(r, l ? l->rcpts : r->m->env.rcpts, l ? l->count : r->m->env.rcpt_count, addr, orig, notify))
        return false;
    struct msg_rcpt *rc = l != NULL ? mail_list_add(l, r->m->arena) : msg_add_rcpt(r->m);
    rc->addr = addr;
    rc->orig = orig;
    rc->notify = notify;
    return true;
}

/* As in daemon/smtpd/mapping.c. */
static void add_targets(struct run *r, struct span addr, uint8_t notify, const struct route_targets *to)
{
    bool is_told = (notify & NOTIFY_SUCCESS) && r->env->report != NULL && route_targets_is_expanded(to, addr), is_new = false;
    for (size_t k = 0; k < to->count; k++)
        is_new |= add_rcpt(r, to->list[k].addr, addr, is_told ? mail_expanded_notify(notify) : notify, to->list[k].sender);
    if (!is_told || !is_new)
        return;
    struct mail_expanded *m = arena_alloc(r->m->arena, sizeof *m);
    *m = (struct mail_expanded){ .next = r->expanded, .rcpt = { .addr = addr, .orig = addr, .notify = notify }, .is_final = route_targets_is_list(to) };
    r->expanded = m;
}

static int add_bcc(struct run *r, enum rewrite_bcc which, struct span address, struct err *e);

/* The address as it is to be written, and what aliases make of it. */
static int add_expanded(struct run *r, struct span address, uint8_t notify, bool is_copy, struct err *e)
{
    struct arena *a = r->m->arena;
    struct span addr = complete_address(r->p, a, address);
    struct route_targets to = { 0 };
    if (r->policy != NULL && rewrite_envelope(r->policy, REWRITE_ENV_RCPT, r->has_maps, address, a, &addr, NULL, e) == LOOKUP_TEMPFAIL)
        return EX_TEMPFAIL;
    if (r->policy == NULL || !r->has_maps)
        add_rcpt(r, addr, addr, notify, span_of(NULL, 0));
    else if (route_expand_to(r->policy, addr, a, &to, NULL, e) == LOOKUP_TEMPFAIL)
        return EX_TEMPFAIL;
    add_targets(r, addr, notify, &to);
    return is_copy ? 0 : add_bcc(r, REWRITE_BCC_RCPT, addr, e);
}

/* The blind copy that the address causes; nobody is told of it. */
static int add_bcc(struct run *r, enum rewrite_bcc which, struct span address, struct err *e)
{
    struct span to;
    if (r->policy == NULL || !r->has_maps || !rewrite_has_bcc(r->policy))
        return 0;
    switch (rewrite_bcc(r->policy, which, address, true, r->m->arena, &to, NULL, e)) {
    case LOOKUP_FOUND:
        return add_expanded(r, to, NOTIFY_NEVER, true, e);
    case LOOKUP_NONE:
        break;
    case LOOKUP_TEMPFAIL:
        return EX_TEMPFAIL;
    }
    return 0;
}

static int add_rcpts(struct run *r, struct err *e)
{
    int status = 0;
    for (size_t i = 0; i < r->s->rcpt_count && status == 0; i++)
        status = add_expanded(r, r->s->rcpts[i], r->s->notify, false, e);
    if (status == 0)
        status = add_bcc(r, REWRITE_BCC_SENDER, r->m->env.sender, e);
    if (status == 0)
        status = add_bcc(r, REWRITE_BCC_ALWAYS, SPAN_LIT(""), e);
    return status;
}

static bool detects_utf8(const struct params *p)
{
    struct span rest = span_cstr(p->smtputf8_autodetect_classes), item;
    while (conf_list_next(&rest, &item, NULL)) {
        if (span_ieq_cstr(item, "sendmail") || span_ieq_cstr(item, "all"))
            return p->smtputf8_enable;
    }
    return false;
}

static int fill_envelope(struct run *r, struct err *e)
{
    struct envelope *env = &r->m->env;
    struct arena *a = r->m->arena;
    env->arrival_us = clock_wall_us();
    env->sender = complete_address(r->p, a, r->s->sender);
    if (r->policy != NULL && rewrite_envelope(r->policy, REWRITE_ENV_SENDER, r->has_maps, r->s->sender, a, &env->sender, NULL, e) == LOOKUP_TEMPFAIL)
        return EX_TEMPFAIL;
    env->flags = ENV_LOCAL_SUBMIT | (r->s->is_8bitmime ? ENV_8BITMIME : 0) | (r->s->is_smtputf8 ? ENV_SMTPUTF8 : 0);
    env->ret = r->s->ret;
    env->envid = arena_dup_span(a, r->s->envid);
    env->client_name = SPAN_LIT("localhost");
    env->client_addr = SPAN_LIT("127.0.0.1");
    env->helo = span_cstr(arena_strdup(a, r->p->myhostname));
    int status = add_rcpts(r, e);
    bool ascii = span_is_ascii(env->sender);
    for (uint32_t i = 0; i < env->rcpt_count; i++)
        ascii = ascii && span_is_ascii(env->rcpts[i].addr);
    if (!ascii && detects_utf8(r->p))
        env->flags |= ENV_SMTPUTF8;
    return status;
}

/* ---- content ---- */

static bool content_sink(void *arg, struct span bytes)
{
    struct run *r = arg;
    r->write_status = content_append(r->w, bytes);
    return r->write_status == SPOOL_OK;
}

static int status_of(enum spool_status st, struct err *e)
{
    switch (st) {
    case SPOOL_OK:
        return 0;
    case SPOOL_FULL:
        err_set(e, "insufficient system storage");
        break;
    case SPOOL_IO:
        err_set(e, "the spool could not be written");
        break;
    case SPOOL_STOPPING:
        err_set(e, "the mail system is stopping");
        break;
    }
    return EX_TEMPFAIL;
}

static struct local_content_options content_options(struct run *r)
{
    struct arena *a = r->m->arena;
    char date[MAIL_DATE_MAX], stamp[32];
    int64_t now_s = r->m->env.arrival_us / 1000000;
    time_t t = (time_t)now_s;
    struct tm tm;
    mail_date_format(now_s, date);
    strftime(stamp, sizeof stamp, "%Y%m%d%H%M%S", gmtime_r(&t, &tm));
    return (struct local_content_options){
        .received = span_cstr(arena_printf(a, "Received: by %s (%s, from userid %lu)\r\n\tid %s; %s\r\n", r->p->myhostname,
                                           r->p->mail_name, (unsigned long)r->uid, r->id, date)),
        .drop_headers = hdr_names_of(r->p->message_drop_headers),
        .undisclosed = r->p->undisclosed_recipients_header,
        .from_is_obsolete = strcmp(r->p->header_from_format, "obsolete") == 0,
        .sender = r->m->env.sender,
        .origin = span_cstr(r->p->myorigin),
        .full_name = r->s->full_name,
        .message_id = span_cstr(arena_printf(a, "<%s.%s@%s>", stamp, r->id, r->p->myhostname)),
        .date = arena_strdup(a, date),
    };
}

/* Reads all pieces; what is wrong with them is in the result, the reading goes on so that the stream stays in step. */
static int copy_content(struct run *r, struct local_content *lc, local_read_fn *read, void *arg, struct err *e)
{
    struct span piece;
    bool ok = true;
    for (;;) {
        if (!read(arg, &piece, e))
            return EX_IOERR;
        if (piece.n == 0)
            break;
        ok = ok && local_content_add(lc, piece);
    }
    if (ok)
        return 0;
    if (!lc->is_too_big)
        return status_of(r->write_status, e);
    err_set(e, "the message header is larger than %d bytes", LOCAL_HEADER_MAX);
    return EX_DATAERR;
}

/* What the tables want done with the message, and the content filter. */
static int apply_effects(struct run *r, const struct local_inspect *i, struct err *e)
{
    struct envelope *env = &r->m->env;
    const char *filter = r->pickup_p->content_filter;
    int status = local_inspect_verdict(i, e);
    if (status != 0)
        return status;
    if (i->is_discard)
        return LOCAL_DISCARDED;
    env->flags |= i->is_hold ? ENV_HOLD : 0;
    if (i->redirect.n > 0) {
        env->rcpt_count = 0;
        r->lists = NULL;
        r->expanded = NULL;
        return add_expanded(r, i->redirect, 0, true, e);
    }
    for (const struct local_inspect_address *b = i->bcc; b != NULL && status == 0; b = b->next)
        status = add_expanded(r, b->address, NOTIFY_NEVER, true, e);
    env->filter = i->filter.n > 0 ? i->filter : arena_dup_span(r->m->arena, span_cstr(filter));
    return status;
}

/* The content through those who want to see it, into the spool's writer. */
static int store_content(struct run *r, const struct local_inspect *inspect, local_read_fn *read, void *arg, struct err *e)
{
    struct local_content lc;
    struct local_content_options o = content_options(r);
    o.inspect = &inspect->o;
    r->w = content_begin(r->env->spool, r->m->env.id);
    local_content_begin(&lc, &o, r->m->arena, content_sink, r);
    int status = copy_content(r, &lc, read, arg, e);
    if (status != 0) {
        local_content_abort(&lc);
        return status;
    }
    if (!local_content_end(&lc))
        return status_of(r->write_status, e);
    if (lc.scan.received_count > r->p->hopcount_limit) {
        err_set(e, "too many hops: the message was received %u times", lc.scan.received_count);
        return EX_DATAERR;
    }
    r->m->env.content_flags = lc.flags;
    r->m->env.message_id = lc.scan.message_id.n > 0 ? lc.scan.message_id : o.message_id;
    if ((lc.flags & CONTENT_HAS_8BIT_HEADER) && detects_utf8(r->p))
        r->m->env.flags |= ENV_SMTPUTF8;
    r->m->env.content_bytes = content_bytes(r->w);
    return 0;
}

static int take_content(struct run *r, local_read_fn *read, void *arg, struct err *e)
{
    struct local_inspect_options o = { .pickup = r->pickup, .p = r->pickup_p, .policy = r->policy, .log = r->env->log, .queue_id = r->id };
    struct local_inspect inspect;
    local_inspect_begin(&inspect, &o, r->m);
    int status = store_content(r, &inspect, read, arg, e);
    if (status == 0)
        status = apply_effects(r, &inspect, e);
    local_inspect_end(&inspect);
    if (status == 0)
        status = status_of(content_finish(&r->w, r->m), e);
    if (status == 0 && r->expanded != NULL) /* first: the sender may become another */
        status = status_of(r->env->report(r->env->arg, r->m, r->expanded, &r->report), e);
    if (status == 0 && r->lists != NULL)
        status = status_of(mail_lists_copy(r->env->spool, &r->lists, r->m, e), e);
    return status;
}

/* ---- commit ---- */

/* The message and what goes to lists with an owner: all of it or nothing. */
static int commit(struct run *r, struct err *e)
{
    char id[QID_TEXT_MAX];
    size_t n;
    for (const struct mail_list *l = r->lists; l != NULL; l = l->next) {
        qid_format(l->copy->env.id, r->p->enable_long_queue_ids, id);
        log_info(r->env->log, "%s: mail for a list of %.*s is queued as %s", r->id, SPAN_ARG(l->owner), id);
    }
    struct msg **v = mail_lists_take(&r->lists, r->m, r->report, &n);
    r->m = r->report = NULL;
    enum spool_status st = spool_commit(r->env->spool, v, n);
    free(v);
    return status_of(st, e);
}

/* Before the commit, so that these lines stand before those of the delivery. */
static void log_arrival(struct run *r)
{
    struct log_src src = *r->env->log;
    struct buf b = BUF_INIT(0);
    addr_quote(&b, r->m->env.sender);
    src.prog = "pickup";
    log_info(&src, "%s: uid=%lu from=<%.*s>", r->id, (unsigned long)r->uid, SPAN_ARG(buf_span(&b)));
    src.prog = "cleanup";
    log_info(&src, "%s: message-id=%.*s", r->id, SPAN_ARG(r->m->env.message_id));
    buf_free(&b);
}

static int build(struct run *r, local_read_fn *read, void *arg, struct err *e)
{
    if (r->p->message_size_limit > 0 && r->s->content_bytes > (uint64_t)r->p->message_size_limit) {
        err_set(e, "the message of %llu bytes exceeds message_size_limit (%lld)", (unsigned long long)r->s->content_bytes,
                (long long)r->p->message_size_limit);
        return EX_DATAERR;
    }
    if (!spool_has_room(r->env->spool, r->s->content_bytes))
        return status_of(SPOOL_FULL, e);
    int status = fill_envelope(r, e);
    return status != 0 ? status : take_content(r, read, arg, e);
}

static const struct conf_service *pickup_of(const struct conf *c)
{
    for (size_t i = conf_service_count(c); i > 0; i--)
        if (strcmp(conf_service(c, i - 1)->command, "pickup") == 0)
            return conf_service(c, i - 1);
    return NULL;
}

const struct params *local_pickup_params(const struct conf *c)
{
    const struct conf_service *svc = pickup_of(c);
    return svc != NULL ? svc->p : conf_global(c);
}

static void find_pickup(struct run *r)
{
    r->pickup = pickup_of(r->conf);
    r->pickup_p = local_pickup_params(r->conf);
    r->has_maps = local_inspect_maps_addresses(r->pickup_p);
}

int local_submit(const struct local_env *env, const struct submission *s, uid_t uid, uint64_t id, local_read_fn *read,
                 void *arg, struct err *e)
{
    struct run r = { .env = env, .s = s, .uid = uid, .conf = env->conf(env->arg), .m = msg_new() };
    r.p = conf_global(r.conf);
    r.policy = env->policy != NULL ? env->policy(env->arg) : NULL;
    r.m->env.id = id;
    find_pickup(&r);
    qid_format(id, r.p->enable_long_queue_ids, r.id);
    int status = build(&r, read, arg, e);
    if (status == 0 || status == LOCAL_DISCARDED)
        log_arrival(&r);
    if (status == 0)
        status = commit(&r, e);
    content_abort(&r.w);
    mail_lists_drop(env->spool, &r.lists);
    spool_msg_drop(env->spool, &r.report);
    spool_msg_drop(env->spool, &r.m);
    policy_unref(&r.policy);
    conf_unref(&r.conf);
    return status;
}

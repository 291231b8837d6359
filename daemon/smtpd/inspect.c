/*
 * Who wants to see the content of a message as it comes in: rewriting of addresses in the header, header and body checks.
 * When nobody does there is no pipe, and content goes from the scanner straight to the spool.
 */
#include "daemon/smtpd/smtpd_internal.h"

static void effect_cb(void *arg, enum policy_effect effect, struct span value)
{
    struct smtpd_sess *S = arg;
    smtpd_action_add(S->tx, effect, value);
}

/* A proxy in front of us may have said whose mail it is (XFORWARD). */
static void tell_forwarded(struct smtpd_sess *S, struct checks_message *m)
{
    struct span name = smtpd_forwarded(S, XATTR_NAME), addr = smtpd_forwarded(S, XATTR_ADDR);
    struct span proto = smtpd_forwarded(S, XATTR_PROTO), helo = smtpd_forwarded(S, XATTR_HELO);
    if (addr.n > 0)
        m->origin = span_cstr(arena_printf(S->tx->msg->arena, "%.*s[%.*s]", SPAN_ARG(name.n > 0 ? name : SPAN_LIT("unknown")), SPAN_ARG(addr)));
    m->proto = proto.n > 0 ? proto : m->proto;
    m->helo = helo.n > 0 ? helo : m->helo;
}

static const struct checks_message *checks_message(struct smtpd_sess *S)
{
    struct smtpd_tx *tx = S->tx;
    struct arena *a = tx->msg->arena;
    struct log_src *log = arena_alloc(a, sizeof *log);
    struct checks_message *m = arena_alloc(a, sizeof *m);
    *log = S->log;
    log->prog = "cleanup";
    *m = (struct checks_message){
        .log = log,
        .queue_id = span_cstr(arena_strdup(a, smtpd_qid(S))),
        .origin = span_cstr(S->namaddr),
        .sender = tx->mail_arg,
        .recipient = tx->msg->env.rcpt_count > 0 ? addr_quoted(a, tx->msg->env.rcpts[tx->msg->env.rcpt_count - 1].orig) : addr_quoted(a, tx->first_rcpt),
        .proto = S->is_esmtp ? SPAN_LIT("ESMTP") : SPAN_LIT("SMTP"),
        .helo = S->helo != NULL ? span_cstr(S->helo) : SPAN_LIT(""),
        .is_utf8 = tx->is_smtputf8,
        .effect = effect_cb,
        .arg = S,
    };
    if (S->forward != NULL)
        tell_forwarded(S, m);
    return m;
}

/* The stages in the order in which they see a field: first who judges it as it came, then who changes it. */
static void add_stages(struct smtpd_sess *S, struct pipe_options *o)
{
    struct smtpd_tx *tx = S->tx;
    if (S->svc->checks != NULL && !smtpd_action_is(tx, EFFECT_DISCARD)) /* what is thrown away is not judged */
        S->tx->checks = checks_begin(S->svc->checks, checks_message(S), S->tx->msg->arena, &o->stages[o->stage_count++]);
    tx->rewrite = rewrite_stage_new(S->svc->policy, tx->header_origin, smtpd_maps_addresses(S));
    if (tx->rewrite != NULL)
        o->stages[o->stage_count++] = rewrite_stage_of(tx->rewrite);
}

/* Whose header it is: local users' and those clients' that local_header_rewrite_clients names. */
static enum rewrite_origin origin_of(struct smtpd_sess *S)
{
    struct policy_client c;
    if (S->out_fd >= 0) /* sendmail -bs */
        return REWRITE_LOCAL;
    if (S->forward != NULL && smtpd_forwarded(S, XATTR_SOURCE).n > 0) /* what XFORWARD says goes before what we see */
        return span_ieq_cstr(smtpd_forwarded(S, XATTR_SOURCE), "LOCAL") ? REWRITE_LOCAL : rewrite_remote_origin(S->svc->policy);
    smtpd_policy_client(S, &c);
    if (rewrite_is_local_client(S->svc->policy, S->svc->svc, &c) == LOOKUP_FOUND)
        return REWRITE_LOCAL;
    return rewrite_remote_origin(S->svc->policy);
}

void smtpd_inspect_begin(struct smtpd_sess *S, void (*put)(void *arg, struct span bytes))
{
    const struct params *p = S->p;
    struct pipe_options o = {
        .header_bytes = (size_t)p->header_size_limit,
        .line_bytes = (size_t)p->line_length_limit,
        .mime = { .boundary_bytes = (size_t)p->mime_boundary_length_limit, .nesting = (size_t)p->mime_nesting_limit },
        .is_mime = !p->disable_mime_input_processing,
        .drop = S->t->drop,
        .put = put,
        .arg = S,
    };
    S->tx->header_origin = origin_of(S);
    add_stages(S, &o);
    if (o.stage_count == 0)
        return;
    S->tx->pipe = xcalloc(1, sizeof *S->tx->pipe);
    pipe_init(S->tx->pipe, &o, S->tx->msg->arena);
}

bool smtpd_inspect_refused(struct smtpd_sess *S)
{
    int code = 0;
    const char *dsn = "";
    struct span text = SPAN_LIT("");
    switch (S->tx->checks != NULL ? checks_status(S->tx->checks, &code, &dsn, &text) : CHECKS_OK) {
    case CHECKS_OK:
        return false;
    case CHECKS_REJECTED:
        smtpd_notify_reject(S, "END-OF-MESSAGE", code, dsn);
        smtpd_reply(S, code, dsn, "%.*s", SPAN_ARG(text));
        return true;
    case CHECKS_FAILED:
        break;
    }
    smtpd_reply(S, 451, "4.3.0", "Error: queue file write error");
    return true;
}

void smtpd_inspect_free(struct smtpd_tx *tx)
{
    checks_end(&tx->checks);
    rewrite_stage_free(&tx->rewrite);
    if (tx->pipe == NULL)
        return;
    pipe_free(tx->pipe);
    free(tx->pipe);
    tx->pipe = NULL;
}

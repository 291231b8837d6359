/*
 * Addresses of the envelope as they are stored: canonical and masquerading rewriting, alias expansion, blind copies. What
 * policy and log lines are told is what the client said. cleanup(8); receive_override_options.
 */
#include "daemon/smtpd/smtpd_internal.h"
#include "queue/copy.h"

bool smtpd_maps_addresses(const struct smtpd_sess *S)
{
    const char *options = S->p->receive_override_options;
    return LIKELY(*options == '\0') || !smtpd_word_in_list(options, SPAN_LIT("no_address_mappings"));
}

/* The client hears of it when the message is complete, as from cleanup(8): until then nothing is lost. */
static void note_fault(struct smtpd_sess *S, struct span addr, enum map_fault fault, const struct err *e)
{
    log_line(&S->log, LOG_LV_WARNING, "%.*s: lookup failed: %s", SPAN_ARG(addr), e->text);
    if (S->tx->map_fault == MAP_FAULT_NONE)
        S->tx->map_fault = (uint8_t)fault;
}

void smtpd_map_sender(struct smtpd_sess *S)
{
    struct envelope *env = &S->tx->msg->env;
    struct err e = ERR_INIT;
    if (rewrite_envelope(S->svc->policy, REWRITE_ENV_SENDER, smtpd_maps_addresses(S), S->tx->sender, S->tx->msg->arena, &env->sender, NULL, &e) ==
        LOOKUP_TEMPFAIL)
        note_fault(S, S->tx->mail_arg, MAP_FAULT_TABLE, &e);
}

/* owner: of the mailing list that the recipient is a member of; who wrote to it hears nothing of its members. */
static bool add(struct smtpd_sess *S, const struct rcpt_ctx *x, struct span addr, const struct route *route, uint8_t wants, struct span owner)
{
    struct smtpd_tx *tx = S->tx;
    struct arena *a = tx->msg->arena;
    bool is_list = owner.n > 0;
    struct span orcpt = is_list ? SPAN_LIT("") : x->params.orcpt;
    uint8_t notify = is_list ? 0 : wants;
    struct mail_list *list = is_list ? mail_list_of(&tx->lists, owner, a) : NULL;
    const struct msg_rcpt *others = is_list ? list->rcpts : tx->msg->env.rcpts;
    struct msg_rcpt r = { .addr = addr, .orig = x->addr.text, .orcpt = orcpt, .notify = notify };
    if (!S->p->enable_original_recipient) /* the one who stays keeps what was asked for it */
        r = (struct msg_rcpt){ .addr = addr };
    if (smtpd_tx_is_duplicate(tx, others, is_list ? list->count : tx->msg->env.rcpt_count, &r, S->p->duplicate_filter_limit))
        return false;
    struct msg_rcpt *to = is_list ? mail_list_add(list, a) : msg_add_rcpt(tx->msg);
    to->addr = arena_dup_span(a, addr);
    to->orig = span_eq(addr, x->addr.text) ? to->addr : arena_dup_span(a, x->addr.text);
    to->orcpt = arena_dup_span(a, orcpt);
    to->notify = notify;
    to->route.transport = arena_dup_span(a, route->transport);
    to->route.nexthop = arena_dup_span(a, route->nexthop);
    return true;
}

/* The sender wants to hear of success, and this is all there is to hear: what becomes of the mail of those others is not it. */
static void note_expanded(struct smtpd_sess *S, const struct rcpt_ctx *x, struct span addr, bool is_list)
{
    struct smtpd_tx *tx = S->tx;
    struct arena *a = tx->msg->arena;
    struct mail_expanded *m = arena_alloc(a, sizeof *m);
    *m = (struct mail_expanded){ .next = tx->expanded, .is_final = is_list };
    m->rcpt.addr = arena_dup_span(a, addr);
    m->rcpt.orig = arena_dup_span(a, x->addr.text);
    m->rcpt.orcpt = arena_dup_span(a, x->params.orcpt);
    m->rcpt.notify = x->params.notify;
    tx->expanded = m;
}

/* The results of an expansion with their routes, none of them added when a look-up fails. */
static enum lookup add_all(struct smtpd_sess *S, const struct rcpt_ctx *x, struct span from, const struct route_targets *to, struct err *e)
{
    struct arena *a = smtpd_scratch(S);
    struct route *routes = arena_alloc(a, (to->count + 1) * sizeof *routes);
    for (size_t i = 0; i < to->count; i++) {
        struct span addr = to->list[i].addr, owner = to->list[i].sender, sender = owner.n > 0 ? owner : S->tx->msg->env.sender;
        if (owner.n == 0 && span_eq(addr, x->route.recipient))
            routes[i] = x->route;
        else if (route_resolve_for(S->svc->policy, S->svc->svc, sender, addr, a, &routes[i], e) == LOOKUP_TEMPFAIL)
            return LOOKUP_TEMPFAIL;
    }
    bool is_told = UNLIKELY(x->params.notify & NOTIFY_SUCCESS) && S->env->report != NULL && route_targets_is_expanded(to, from), is_new = false;
    uint8_t notify = is_told ? mail_expanded_notify(x->params.notify) : x->params.notify;
    for (size_t i = 0; i < to->count; i++)
        is_new |= add(S, x, routes[i].recipient, &routes[i], notify, to->list[i].sender);
    if (is_told && is_new)
        note_expanded(S, x, from, route_targets_is_list(to));
    return LOOKUP_FOUND;
}

/* A blind copy that the recipient causes is added with the others, at the end of the message. */
static enum lookup note_bcc(struct smtpd_sess *S, struct span rcpt, struct err *e)
{
    struct policy_note n = { .effect = EFFECT_BCC };
    enum lookup got = rewrite_bcc(S->svc->policy, REWRITE_BCC_RCPT, rcpt, true, smtpd_scratch(S), &n.value, NULL, e);
    if (got == LOOKUP_FOUND)
        smtpd_action_note(S, &n);
    return got;
}

void smtpd_map_rcpt(struct smtpd_sess *S, const struct rcpt_ctx *x)
{
    struct span addr;
    struct route_targets to = { 0 };
    struct err e = ERR_INIT;
    struct arena *a = smtpd_scratch(S);
    const struct policy *pol = S->svc->policy;
    if (!smtpd_maps_addresses(S)) {
        add(S, x, x->route.recipient, &x->route, x->params.notify, span_of(NULL, 0));
        return;
    }
    if (rewrite_envelope(pol, REWRITE_ENV_RCPT, true, x->addr.text, a, &addr, NULL, &e) == LOOKUP_TEMPFAIL ||
        route_expand_to(pol, addr, a, &to, NULL, &e) == LOOKUP_TEMPFAIL || add_all(S, x, addr, &to, &e) == LOOKUP_TEMPFAIL ||
        (!x->is_copy && note_bcc(S, addr, &e) == LOOKUP_TEMPFAIL)) {
        note_fault(S, x->as_given, to.is_alias_error ? MAP_FAULT_ALIAS : MAP_FAULT_TABLE, &e);
        add(S, x, x->route.recipient, &x->route, x->params.notify, span_of(NULL, 0)); /* stands for those who are not known; the message will be refused */
    }
}

void smtpd_rcpt_add(struct smtpd_sess *S, struct span address, uint8_t notify)
{
    struct rcpt_ctx x = {
        .as_given = address, .addr.text = address, .params = { .notify = notify, .orcpt = SPAN_LIT("") }, .is_copy = true,
    };
    struct err e = ERR_INIT;
    if (route_resolve_for(S->svc->policy, S->svc->svc, S->tx->msg->env.sender, address, smtpd_scratch(S), &x.route, &e) == LOOKUP_TEMPFAIL)
        note_fault(S, address, MAP_FAULT_TABLE, &e);
    else
        smtpd_map_rcpt(S, &x);
}

void smtpd_map_bcc(struct smtpd_sess *S)
{
    static const enum rewrite_bcc kinds[] = { REWRITE_BCC_SENDER, REWRITE_BCC_ALWAYS };
    const struct policy *pol = S->svc->policy;
    struct span sender = S->tx->msg->env.sender, to;
    struct err e = ERR_INIT;
    if (!rewrite_has_bcc(pol) || !smtpd_maps_addresses(S))
        return;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        enum lookup got = rewrite_bcc(pol, kinds[i], sender, true, smtpd_scratch(S), &to, NULL, &e);
        if (got == LOOKUP_TEMPFAIL)
            note_fault(S, sender, MAP_FAULT_TABLE, &e);
        else if (got == LOOKUP_FOUND)
            smtpd_rcpt_add(S, to, NOTIFY_NEVER);
    }
}

bool smtpd_map_failed(struct smtpd_sess *S)
{
    if (LIKELY(S->tx->map_fault == MAP_FAULT_NONE))
        return false;
    if (S->tx->map_fault == MAP_FAULT_ALIAS)
        smtpd_reply(S, 451, "4.6.0", "Alias expansion error");
    else
        smtpd_reply(S, 451, "4.3.0", "Error: queue file write error");
    return true;
}

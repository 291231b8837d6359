/*
 * What access tables, policy servers and content checks want done with the message: access(5) HOLD, DISCARD, FILTER, REDIRECT, BCC, PREPEND. Of each
 * but the last two there is one at most. Copies are many when recipient_bcc_maps names another one for each recipient.
 */
#include "daemon/smtpd/smtpd_internal.h"
#include "queue/copy.h"

struct smtpd_action {
    struct smtpd_action *next;
    enum policy_effect effect;
    struct span value; /* in the message's arena */
};

/* The one that stands for the new one: the same header, or any of a kind of which the last one holds. */
static struct smtpd_action *find(const struct smtpd_tx *tx, enum policy_effect effect, struct span value)
{
    for (struct smtpd_action *a = tx->actions; a != NULL; a = a->next)
        if (a->effect == effect && (effect != EFFECT_PREPEND || span_eq(a->value, value)))
            return a;
    return NULL;
}

void smtpd_action_add(struct smtpd_tx *tx, enum policy_effect effect, struct span value)
{
    struct arena *arena = tx->msg->arena;
    struct smtpd_action *a = NULL;
    if (effect == EFFECT_BCC ? !span_set_add(&tx->copies, arena, value, &value) : (a = find(tx, effect, value)) != NULL) {
        if (a != NULL)
            a->value = value;
        return;
    }
    if (tx->actions == NULL)
        tx->actions_end = &tx->actions;
    a = arena_alloc(arena, sizeof *a);
    *a = (struct smtpd_action){ .effect = effect, .value = value };
    *tx->actions_end = a;
    tx->actions_end = &a->next;
}

/* Each recipient's evaluation may say it again. */
void smtpd_action_note(struct smtpd_sess *S, const struct policy_note *n)
{
    struct smtpd_tx *tx = S->tx;
    if (n->effect == EFFECT_NONE || tx == NULL)
        return;
    const struct smtpd_action *a = n->effect != EFFECT_BCC ? find(tx, n->effect, n->value) : NULL;
    if (a == NULL || !span_eq(a->value, n->value))
        smtpd_action_add(tx, n->effect, n->effect == EFFECT_BCC ? n->value : arena_dup_span(tx->msg->arena, n->value));
}

bool smtpd_action_is(const struct smtpd_tx *tx, enum policy_effect effect)
{
    for (const struct smtpd_action *a = tx != NULL ? tx->actions : NULL; a != NULL; a = a->next)
        if (a->effect == effect)
            return true;
    return false;
}

void smtpd_action_headers(const struct smtpd_tx *tx, struct buf *b)
{
    for (const struct smtpd_action *a = tx->actions; a != NULL; a = a->next) {
        if (a->effect != EFFECT_PREPEND)
            continue;
        buf_add_span(b, a->value);
        buf_puts(b, "\r\n");
    }
}

static struct span last_value(const struct smtpd_tx *tx, enum policy_effect effect)
{
    struct span value = { NULL, 0 };
    for (const struct smtpd_action *a = tx->actions; a != NULL; a = a->next)
        if (a->effect == effect)
            value = a->value;
    return value;
}

static void filter_all(struct smtpd_sess *S, struct span filter, struct msg_rcpt *r, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        route_filter(S->svc->policy, filter, r[i].addr, S->tx->msg->arena, &r[i].route.transport, &r[i].route.nexthop);
}

/* All recipients go by way of the content filter. */
static void set_filter(struct smtpd_sess *S, struct span filter)
{
    struct envelope *env = &S->tx->msg->env;
    env->filter = filter;
    filter_all(S, filter, env->rcpts, env->rcpt_count);
    for (struct mail_list *l = S->tx->lists; l != NULL; l = l->next)
        filter_all(S, filter, l->rcpts, l->count);
}

bool smtpd_action_apply(struct smtpd_sess *S)
{
    struct smtpd_tx *tx = S->tx;
    struct span to = last_value(tx, EFFECT_REDIRECT), filter = last_value(tx, EFFECT_FILTER);
    if (smtpd_action_is(tx, EFFECT_HOLD))
        tx->msg->env.flags |= ENV_HOLD;
    if (to.n > 0) {
        struct span last = tx->msg->env.rcpt_count > 0 ? tx->msg->env.rcpts[tx->msg->env.rcpt_count - 1].orig : to;
        tx->msg->env.rcpt_count = 0;
        tx->lists = NULL;
        tx->expanded = NULL;
        tx->seen_count = 0;
        if (tx->seen != NULL)
            memset(tx->seen, 0, tx->seen_cap * sizeof *tx->seen);
        smtpd_rcpt_add(S, to, 0); /* without a filter */
        for (uint32_t i = 0; i < tx->msg->env.rcpt_count && S->p->enable_original_recipient; i++)
            tx->msg->env.rcpts[i].orig = last;
        return !smtpd_map_failed(S);
    }
    for (const struct smtpd_action *a = tx->actions; a != NULL; a = a->next)
        if (a->effect == EFFECT_BCC)
            smtpd_rcpt_add(S, a->value, NOTIFY_NEVER);
    smtpd_map_bcc(S);
    if (smtpd_map_failed(S))
        return false;
    if (filter.n == 0)
        filter = span_cstr(S->p->content_filter);
    if (filter.n > 0)
        set_filter(S, arena_dup_span(tx->msg->arena, filter));
    return true;
}

/*
 * Members of mailing lists that have an owner (owner- in aliases(5)): their mail leaves with the owner as its sender, as a
 * message of its own beside that for all others. All of them are committed before the client is answered.
 */
#include "daemon/smtpd/smtpd_internal.h"
#include "queue/copy.h"

struct smtpd_list {
    struct smtpd_list *next;
    struct span owner;
    struct msg_rcpt *rcpts; /* spans and array in the message's arena */
    uint32_t count, cap;
    struct msg *copy;       /* owned until submitted */
};

static struct smtpd_list *list_of(struct smtpd_tx *tx, struct span owner)
{
    struct smtpd_list **end = &tx->lists;
    for (; *end != NULL; end = &(*end)->next)
        if (span_eq((*end)->owner, owner))
            return *end;
    *end = arena_alloc(tx->msg->arena, sizeof **end);
    (*end)->owner = arena_dup_span(tx->msg->arena, owner);
    return *end;
}

const struct msg_rcpt *smtpd_list_members(struct smtpd_tx *tx, struct span owner, uint32_t *count)
{
    const struct smtpd_list *l = list_of(tx, owner);
    *count = l->count;
    return l->rcpts;
}

struct msg_rcpt *smtpd_list_add(struct smtpd_tx *tx, struct span owner)
{
    struct smtpd_list *l = list_of(tx, owner);
    if (l->count == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 8;
        struct msg_rcpt *more = arena_alloc(tx->msg->arena, l->cap * sizeof *more);
        if (l->count > 0)
            memcpy(more, l->rcpts, l->count * sizeof *more);
        l->rcpts = more;
    }
    return &l->rcpts[l->count++];
}

static void move_members(struct msg *to, const struct smtpd_list *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        struct msg_rcpt *r = msg_add_rcpt(to);
        *r = l->rcpts[i];
        struct span *const spans[] = { &r->addr, &r->orig, &r->orcpt, &r->route.transport, &r->route.nexthop };
        for (size_t k = 0; k < ARRAY_LEN(spans); k++)
            *spans[k] = arena_dup_span(to->arena, *spans[k]);
    }
}

enum spool_status smtpd_lists_copy(struct smtpd_sess *S)
{
    struct smtpd_tx *tx = S->tx;
    struct err e = ERR_INIT;
    char id[QID_TEXT_MAX], copy_id[QID_TEXT_MAX];
    if (tx->lists != NULL && tx->msg->env.rcpt_count == 0) { /* nobody else */
        tx->msg->env.sender = tx->lists->owner;
        tx->msg->env.envid = SPAN_LIT("");
        tx->msg->env.ret = DSN_RET_UNSET;
        move_members(tx->msg, tx->lists);
        tx->lists = tx->lists->next;
    }
    for (struct smtpd_list *l = tx->lists; l != NULL; l = l->next) {
        enum spool_status st = spool_copy(S->env->spool, tx->msg, l->owner, &l->copy, &e);
        if (st != SPOOL_OK)
            return st;
        l->copy->env.sender = arena_dup_span(l->copy->arena, l->owner);
        move_members(l->copy, l);
        qid_format(l->copy->env.id, S->p->enable_long_queue_ids, copy_id);
        log_info(&S->log, "%s: mail for a list of %.*s is queued as %s", smtpd_qid(S, id), SPAN_ARG(l->owner), copy_id);
    }
    return SPOOL_OK;
}

unsigned smtpd_lists_submit(struct smtpd_sess *S, struct smtpd_list *l, bool just_count)
{
    unsigned n = 0;
    while (l != NULL) {
        struct smtpd_list *next = l->next; /* in an arena that goes with the message, which is submitted last */
        struct msg *m = l->copy;
        n++;
        if (!just_count) {
            l->copy = NULL;
            spool_submit(S->env->spool, m);
        } else {
            m->done_cb = smtpd_committed_cb;
            m->done_arg = S;
        }
        l = next;
    }
    return n;
}

void smtpd_lists_drop(struct smtpd_tx *tx)
{
    for (struct smtpd_list *l = tx->lists; l != NULL; l = l->next)
        msg_unref(&l->copy);
    tx->lists = NULL;
}

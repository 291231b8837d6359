/* A transaction from MAIL on: the message being built, its queue ID, its recipients. */
#include "daemon/smtpd/smtpd_internal.h"
#include "queue/copy.h"

struct smtpd_tx *smtpd_tx_begin(struct smtpd_sess *S)
{
    S->transactions++;
    S->bdat_failed = false;
    struct smtpd_tx *tx = xcalloc(1, sizeof *tx);
    tx->msg = msg_new();
    tx->mail_arg = tx->sender = tx->sender_given = span_of("", 0);
    tx->first_rcpt = span_of("", 0);
    buf_init(&tx->carry, IN_BUF_DATA_BYTES + 2 * CONTENT_HEADER_LINE_MAX);
    S->tx = tx;
    return tx;
}

void smtpd_tx_drop(struct smtpd_sess *S)
{
    struct smtpd_tx *tx = S->tx;
    S->bdat_failed = false;
    if (!S->is_asking) /* MAIL is done again with the answers: the message that XFORWARD is about has not even begun */
        smtpd_forward_forget(S);
    if (tx == NULL)
        return;
    S->tx = NULL;
    if (S->carry != NULL) /* what was postponed at MAIL goes with it */
        S->carry->permit[2].active = false;
    content_abort(&tx->writer);
    mail_lists_drop(S->env->spool, &tx->lists);
    spool_msg_drop(S->env->spool, &tx->report);
    smtpd_inspect_free(tx);
    spool_msg_drop(S->env->spool, &tx->msg);
    buf_free(&tx->carry);
    free(tx->seen);
    free(tx);
}

void smtpd_tx_need_qid(struct smtpd_sess *S)
{
    S->tx->msg->env.id = qid_new(spool_qids(S->env->spool));
    S->tx->has_qid = true;
    qid_format(S->tx->msg->env.id, S->p->enable_long_queue_ids, S->tx->qid_text);
    smtpd_log_client(S);
}

static uint64_t mix(uint64_t h, struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)ascii_lower(s.p[i])) * UINT64_C(0x100000001b3);
    return (h ^ s.n) * UINT64_C(0x9e3779b97f4a7c15);
}

static void insert(struct smtpd_tx *tx, uint64_t h)
{
    size_t i = h & (tx->seen_cap - 1);
    while (tx->seen[i] != 0)
        i = (i + 1) & (tx->seen_cap - 1);
    tx->seen[i] = h;
}

static void grow(struct smtpd_tx *tx)
{
    uint64_t *old = tx->seen;
    size_t old_cap = tx->seen_cap;
    tx->seen_cap = old_cap ? old_cap * 2 : 16;
    tx->seen = xcalloc(tx->seen_cap, sizeof *tx->seen);
    for (size_t i = 0; i < old_cap; i++)
        if (old[i] != 0)
            insert(tx, old[i]);
    free(old);
}

/* Compares the recipients themselves only when hashes meet, so a collision cannot drop one. */
static bool is_really_there(const struct msg_rcpt *rcpts, uint32_t count, const struct msg_rcpt *r)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct msg_rcpt *x = &rcpts[i];
        if (r->orig.p == NULL && span_ieq(x->addr, r->addr))
            return true;
        if (x->notify == r->notify && span_ieq(x->addr, r->addr) && span_ieq(x->orig, r->orig) && span_ieq(x->orcpt, r->orcpt))
            return true;
    }
    return false;
}

bool smtpd_tx_is_duplicate(struct smtpd_tx *tx, const struct msg_rcpt *rcpts, uint32_t count, const struct msg_rcpt *r, int64_t limit)
{
    uint64_t h = mix(mix(mix(r->orig.p == NULL ? 0 : r->notify + 1u, r->addr), r->orig), r->orcpt) | 1;
    if (tx->seen_cap > 0) {
        for (size_t i = h & (tx->seen_cap - 1); tx->seen[i] != 0; i = (i + 1) & (tx->seen_cap - 1))
            if (tx->seen[i] == h)
                return is_really_there(rcpts, count, r);
    }
    if (limit > 0 && tx->seen_count >= (size_t)limit)
        return false;
    if (2 * (tx->seen_count + 1) > tx->seen_cap)
        grow(tx);
    insert(tx, h);
    tx->seen_count++;
    return false;
}

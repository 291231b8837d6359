/*
 * Members of mailing lists that have an owner (owner- in aliases(5)): their mail leaves with the owner as its sender, as a
 * message of its own beside that for all others (queue/copy.h). All of them are committed together before the client is answered.
 */
#include "daemon/smtpd/smtpd_internal.h"
#include "queue/copy.h"

enum spool_status smtpd_lists_copy(struct smtpd_sess *S)
{
    struct smtpd_tx *tx = S->tx;
    struct err e = ERR_INIT;
    char copy_id[QID_TEXT_MAX];
    enum spool_status st = SPOOL_OK;
    if (tx->expanded != NULL) /* first: the sender may become another */
        st = S->env->report(S->env->report_arg, tx->msg, tx->expanded, &tx->report);
    if (st == SPOOL_OK)
        st = mail_lists_copy(S->env->spool, &tx->lists, tx->msg, &e);
    for (const struct mail_list *l = tx->lists; l != NULL && st == SPOOL_OK; l = l->next) {
        qid_format(l->copy->env.id, S->p->enable_long_queue_ids, copy_id);
        log_info(&S->log, "%s: mail for a list of %.*s is queued as %s", smtpd_qid(S), SPAN_ARG(l->owner), copy_id);
    }
    return st;
}

/*
 * bounce: non-delivery, delay and success notifications
 *
 * Purpose    builds multipart/report messages from the null sender and hands them to the spool; the caller removes the
 *            original's recipients only after `queued` was called with success
 * Source     RFC 3461 to 3464, 6522, 6533, 3834; bounce(8), bounce(5); reference/wire-formats.md section 14
 * Threads    any; no locks held by the caller
 */
#pragma once
#include "common/conf/conf.h"
#include "queue/own_policy.h"

enum bounce_kind { BOUNCE_FAILURE, BOUNCE_DELAY, BOUNCE_SUCCESS, BOUNCE_POSTMASTER_COPY, BOUNCE_DOUBLE };

struct bounce_rcpt {
    uint32_t rcpt;             /* index into the original's recipients */
    const struct msg_rcpt *to; /* borrowed: one that is not among them; NULL: it is */
    enum outcome outcome;
    const char *action;        /* "failed", "delayed", "delivered", "relayed", "expanded" */
    struct span dsn, reason, remote_mta, diagnostic;
};

struct bounce_options {
    struct spool *spool;
    struct conf *conf;         /* borrowed during the call */
    const struct log_src *log; /* program name "bounce" */
    struct own_policy own;     /* who the notification goes to, and who looks at it; zero: to the address itself, nobody */
};

/*
 * Queues the notification for these recipients of `original` (and postmaster copies per notify_classes). Honours NOTIFY,
 * RET, null and double-bounce senders. queued(arg, status) is called once, maybe before the return when nothing needs to be sent.
 * When its recipient cannot be mapped or its content not be inspected now, a notification that will be asked for again (failure,
 * delay) is a failure; the others (success, a copy for the postmaster) are queued as they are, on hold. So is what content
 * checks refuse.
 */
void bounce_send(const struct bounce_options *o, enum bounce_kind kind, struct msg *original,
                 const struct bounce_rcpt *r, size_t n, void (*queued)(void *arg, int status), void *arg);
/*
 * The success report on addresses (to) that others took the place of, before the original is submitted: the caller submits it
 * too. *out NULL: the null sender and our own get none, or nobody is to see it.
 */
enum spool_status bounce_expanded(const struct bounce_options *o, struct msg *original, const struct bounce_rcpt *r, size_t n,
                                  struct msg **out) MUST_CHECK;
/* Whom a row is about. */
static inline const struct msg_rcpt *bounce_rcpt_of(const struct msg *original, const struct bounce_rcpt *r)
{
    return r->to != NULL ? r->to : &original->env.rcpts[r->rcpt];
}

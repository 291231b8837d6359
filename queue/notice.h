/*
 * notice: mail to the postmaster about trouble, as notify_classes asks
 *
 * Purpose    takes what others noticed (a broken protocol with its transcript, a full disk), decides whether it is too much,
 *            and queues a message from the double-bounce address. Whoever posts never waits: a thread writes the mail, and
 *            tries again while the spool is what the notice is about, or a table
 *            that is to say who gets it.
 * Source     postconf(5) notify_classes, error_notice_recipient; smtpd(8), smtp(8); DESIGN "The spool"
 * Threads    notices_post(): any, also before notices_start(). All else: main.
 * Locks      NOTICES (74), a leaf
 * Ownership  copies what it is given
 * Limits     a client or server: one notice of a class a minute, and NOTICES_PER_MINUTE of a class for all together;
 *            trouble of our own: one of a kind in NOTICE_OWN_PAUSE_MS. NOTICES_WAITING in memory. What was left out is
 *            counted in the next notice of that class, and logged once a minute.
 */
#pragma once
#include <stdint.h>
#include "common/base/log.h"
#include "common/conf/notify_class.h"
#include "common/conf/conf.h"
#include "queue/own_policy.h"

#define NOTICES_PER_MINUTE  20
#define NOTICES_WAITING     64
#define NOTICE_PAUSE_MS     60000
#define NOTICE_OWN_PAUSE_MS 600000
#define NOTICE_TEXT_MAX     32768

struct notice {
    enum notify_class cls;
    bool is_own;            /* trouble of our own: notify_classes is asked here, not by the caller */
    struct span about;      /* client or server, or the kind of trouble: what the limit counts for */
    const char *to;         /* error_notice_recipient or another of the caller's parameters; NULL: the current one */
    const char *subject;
    struct span text;       /* lines ended by LF; cut at NOTICE_TEXT_MAX */
};

struct notices;
/* conf: the current snapshot, counted. own: who the mail goes to and who looks at it; NULL: the address itself, nobody. Both are called on the thread. */
struct notices *notices_new(const struct log_src *log, struct conf *(*conf)(void *arg), void *arg, const struct own_policy *own);
/* Returns errno. The spool must answer what is submitted until notices_stop() has returned. */
int notices_start(struct notices *n, struct spool *s) MUST_CHECK;
/* Tries what waits once more, then ends the thread. What still cannot be mapped then is queued as it is, on hold. */
void notices_stop(struct notices *n);
void notices_free(struct notices **n);
/* n may be NULL. */
void notices_post(struct notices *n, const struct notice *x);

/*
 * copy: a message once more, for other recipients and with another sender
 *
 * Purpose    mail for a mailing list with an owner leaves with the owner as its sender, beside what the same message brings to
 *            others. Who takes the message gathers such recipients here; the copies are messages of their own from then on
 * Source     aliases(5), owner- aliases
 * Threads    the owner of the original, which is complete (content_finish) and not submitted
 * Errors     as content_finish(); nothing is left of a copy that failed
 */
#pragma once
#include "queue/spool.h"

/* An address that others took the place of, whose sender wants to hear of success (RFC 3461 5.2.7). */
struct mail_expanded {
    struct mail_expanded *next;
    struct msg_rcpt rcpt;   /* the address, with ORCPT and NOTIFY; in the original's arena */
    bool is_final;          /* a list with an owner: delivered, as far as the sender is concerned */
};
/* What NOTIFY is for those who took its place: success has been reported. */
static inline uint8_t mail_expanded_notify(uint8_t notify)
{
    return notify == NOTIFY_SUCCESS ? NOTIFY_NEVER : notify & (uint8_t)~NOTIFY_SUCCESS;
}
/*
 * Makes the report on such addresses of a complete message, to be committed with it. *out NULL: nobody is to get one. The
 * daemon's, whom those call that take messages.
 */
typedef enum spool_status mail_report_fn(void *arg, struct msg *original, const struct mail_expanded *list, struct msg **out);

struct mail_list {
    struct mail_list *next;
    struct span owner;
    struct msg_rcpt *rcpts; /* [count]; spans and array in the original's arena */
    uint32_t count, cap;
    struct msg *copy;       /* owned until submitted */
};

/* A complete message of its own with that content: envelope but for DSN wishes and recipients, another number and sender. */
enum spool_status mail_copy(struct spool *s, struct msg *original, struct span sender, struct msg **out, struct err *e) MUST_CHECK;
/* The list of that owner, made when there is none; in the arena of the original. */
struct mail_list *mail_list_of(struct mail_list **all, struct span owner, struct arena *a);
/* A zeroed member; spans are the caller's to fill with arena copies. */
struct msg_rcpt *mail_list_add(struct mail_list *l, struct arena *a);
/*
 * Makes the copies: envelope without DSN wishes, content, a number of its own, the members. When the original has no recipient
 * at all, it is given to the first list, which is taken off.
 */
enum spool_status mail_lists_copy(struct spool *s, struct mail_list **all, struct msg *original, struct err *e) MUST_CHECK;
/*
 * The original, its copies and the report (may be NULL), to be submitted together (spool_submit_all()); malloc'd, [*n]. The
 * lists are empty then.
 */
struct msg **mail_lists_take(struct mail_list **all, struct msg *original, struct msg *report, size_t *n);
/* Copies that will not be submitted. */
void mail_lists_drop(struct spool *s, struct mail_list **all);

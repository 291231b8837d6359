/*
 * own_rcpts: who gets a message that this system writes itself
 *
 * Purpose    a notification or notice goes through address mapping like other mail: its recipient may be an alias. This adds what
 *            comes of it to the message.
 * Source     cleanup(8): mail from within is mapped, but causes no blind copies; RFC 5321 4.5.5
 * Threads    any; expand() may wait for a table, so no lock is held
 *
 * The sender stays: mail for the members of a list with an owner has no other one than the notification itself, so that it
 * never causes another.
 */
#pragma once
#include "queue/own_policy.h"

/*
 * Gives m what `to` (which lasts as long as m) stands for, each once, as far as duplicate_limit (0: none) looks back. False:
 * m has no recipient, and e says why.
 */
bool own_rcpts_add(struct msg *m, struct span to, const struct own_policy *x, int64_t duplicate_limit, struct err *e) MUST_CHECK;
/* For those that cannot be made again: the recipient as it is, and the message is on hold until somebody looks at it. */
void own_rcpts_hold(struct msg *m, struct span to);

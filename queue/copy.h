/*
 * copy: a message once more, for other recipients and with another sender
 *
 * Purpose    mail for a mailing list with an owner leaves with the owner as its sender, beside what the same message brings to
 *            others. The copy is a message of its own from then on
 * Threads    the owner of the original, which is complete (content_finish) and not submitted
 * Errors     as content_finish(); nothing is left of a copy that failed
 */
#pragma once
#include "queue/spool.h"

/* Envelope without recipients, DSN wishes and flags of the delivery to the original's sender; the content; a number of its own. */
enum spool_status spool_copy(struct spool *s, struct msg *original, struct span sender, struct msg **out, struct err *e) MUST_CHECK;

/*
 * downgrade: 8-bit parts of a message as quoted-printable, for a host without 8BITMIME
 *
 * Purpose    Every part whose header says that it is 8-bit or binary is encoded and its header changed to say so;
 *            multiparts and messages are only relabelled 7bit. Parts that do not say so, and headers, go as they are, 8-bit
 *            or not: smtp(8) trusts the labels, and so must we, for nothing tells what unlabelled bytes mean.
 * Source     smtp(8) "MIME PROCESSING CONTROLS"; RFC 6152 3; RFC 2045 6.7
 * Threads    any; values
 * Limits     memory: one page of output and the open boundaries, whatever the message's size
 */
#pragma once
#include "common/mail/mime.h"

enum downgrade_need {
    DOWNGRADE_NONE,      /* no part says that it is 8-bit */
    DOWNGRADE_NEEDED,
    DOWNGRADE_TOO_DEEP,  /* nested deeper than mime_nesting_limit: to be refused */
};

enum downgrade_need downgrade_need_of(struct span content, struct mime_limits limits) MUST_CHECK;

/*
 * Takes converted text in runs of whole lines; only where the content itself ends within a line may its last run do so,
 * and "\r\n" come next. Runs of the content are borrowed as long as the content, others only during the call.
 */
typedef void downgrade_put_fn(void *ctx, struct span run, bool is_borrowed);

void downgrade(struct span content, struct mime_limits limits, downgrade_put_fn *put, void *ctx);

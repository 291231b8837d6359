/*
 * reason_class: why mail waits, without what differs from one message to the next
 *
 * Purpose    two deferrals for the same reason have the same class, whoever the recipient and whichever the host: what
 *            "queue stats" counts. It is a column of the index, so that counting a million reads one small index.
 * Source     ours; posthouse-index(5)
 * Threads    any
 */
#pragma once
#include "common/base/buf.h"
#include "common/base/span.h"

#define REASON_CLASS_MAX 100

/*
 * Appends the class of a reason to b: "connect to mx.example.com[192.0.2.1]:25: Connection timed out" becomes
 * "connect to ...: Connection timed out". Words with an address, a host name, a URL or a long number become dots.
 */
void reason_class(struct buf *b, struct span reason);

/* The code of the reply that a reason quotes ("host mx.example.com[192.0.2.1] said: 451 4.3.0 busy"); 0 when it quotes none. */
int reason_reply_code(struct span reason);

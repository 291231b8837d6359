/*
 * own_inspect: who looks at the mail that the system itself writes before it is stored, and what they make of it
 *
 * Purpose    joins queue/own_policy.h to policy: the header is rewritten as that of local mail, and header and body checks of
 *            main.cf's cleanup service look at the classes that internal_mail_filter_classes names. content_filter is for
 *            mail from outside; a FILTER of the checks counts here too.
 * Source     cleanup(8), postconf(5) internal_mail_filter_classes; header_checks(5)
 * Threads    any; may wait for a table
 * Ownership  a begun inspection counts policy; texts live in the message's arena
 */
#pragma once
#include "queue/own_policy.h"

struct daemon;
/* All callbacks (own_expand.h too), for this daemon. */
struct own_policy own_policy_of(struct daemon *d);

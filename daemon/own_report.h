/*
 * own_report: the report to a sender who asked for it that an address was replaced by others
 *
 * Purpose    joins those that take messages (smtpd/, control/) to queue/bounce.h
 * Source     RFC 3461 5.2.7, RFC 3464 2.3.3 ("expanded")
 * Threads    any; may wait for a table
 */
#pragma once
#include "queue/copy.h"

/* arg is the daemon. */
mail_report_fn own_report_cb;

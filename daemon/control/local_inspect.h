/*
 * local_inspect: who wants to see the content of a local message before it is stored
 *
 * Purpose    the stages (policy/pipe.h) for messages of sendmail, maildrop/ and queue import; what daemon/smtpd/inspect.c is
 *            for those that come over SMTP
 * Source     cleanup(8), pickup(8)
 * Threads    one owner
 */
#pragma once
#include "common/conf/params.h"
#include "policy/pipe.h"
#include "queue/spool.h"

struct policy;

struct local_inspect {
    struct pipe_options o; /* no stages: nobody wants to */
};

/* All that is given is borrowed until the content is complete; policy may be NULL. */
void local_inspect_init(struct local_inspect *i, const struct params *p, struct policy *policy, struct msg *m);

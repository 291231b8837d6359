/*
 * local_inspect: who wants to see the content of a local message before it is stored, and what they make of the message
 *
 * Purpose    the stages (policy/pipe.h) for messages of sendmail and maildrop/; what daemon/smtpd/inspect.c is for those that
 *            come over SMTP
 * Source     cleanup(8), pickup(8); header_checks(5)
 * Threads    one owner
 * Ownership  texts live in the message's arena; local_inspect_end() releases the rest
 */
#pragma once
#include "common/base/log.h"
#include "common/conf/params.h"
#include "policy/checks.h"
#include "policy/pipe.h"
#include "policy/rewrite/rewrite_stage.h"
#include "queue/spool.h"

struct local_inspect_address {
    struct local_inspect_address *next;
    struct span address;
};

struct local_inspect {
    struct pipe_options o;       /* no stages: nobody wants to */
    /* What the tables want done with it. */
    bool is_hold, is_discard;
    struct span redirect, filter; /* the last that was said; empty: none */
    struct local_inspect_address *bcc, **bcc_end;

    struct msg *m;               /* borrowed */
    struct log_src log;
    struct checks_message message;
    struct checks_run *checks;   /* owned */
    struct rewrite_stage *rewrite; /* owned */
};

struct local_inspect_options {
    const struct conf_service *pickup; /* the line of master.cf; NULL: none */
    const struct params *p;            /* its values */
    const struct policy *policy;       /* NULL: no checks */
    const struct log_src *log;
    const char *queue_id;
    bool is_own;                       /* written by the system itself: receive_override_options does not count */
    bool has_no_checks;                /* nor do the tables */
};

/* receive_override_options lets addresses be changed. */
bool local_inspect_maps_addresses(const struct params *p);
/* All that is given is borrowed until local_inspect_end(), and the envelope is complete. */
void local_inspect_begin(struct local_inspect *i, const struct local_inspect_options *o, struct msg *m);
/* After the content: 0, or an exit status of sysexits with *e. */
int local_inspect_verdict(const struct local_inspect *i, struct err *e);
void local_inspect_end(struct local_inspect *i);

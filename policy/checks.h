/*
 * checks: header_checks, body_checks and their kin, and the MIME rules that a site may insist on
 *
 * Purpose    one message's content against the tables: a stage of the pipe (pipe.h) that looks each header field and body
 *            line up, does to it what the answer says, remembers what it says of the message, and logs in Postfix's words
 * Source     header_checks(5), cleanup(8); postconf(5) header_checks, mime_header_checks, nested_header_checks, body_checks,
 *            body_checks_size_limit, strict_7bit_headers, strict_8bitmime, strict_8bitmime_body,
 *            strict_mime_encoding_domain, mime_nesting_limit, cleanup_service_name, smtp_header_checks and its kin
 * Threads    compiled checks are immutable, any thread; a run has one owner at a time
 * Ownership  compiled checks belong to the policy; a run and all that it gives out live in the arena it was given
 * Limits     different addresses of BCC, and values of FILTER: smtpd_recipient_limit of each; a message that asks for more is refused
 * Errors     a table that fails makes the message temporarily unacceptable (CHECKS_FAILED)
 */
#pragma once
#include "common/base/log.h"
#include "common/conf/params.h"
#include "common/table/maps.h"
#include "policy/effect.h"
#include "policy/pipe.h"

struct conf_service;
struct policy;
struct content_checks;
/*
 * What the cleanup service behind this listener or pickup line (NULL: main.cf alone) checks; NULL: nothing. Values are those
 * of the master.cf line that cleanup_service_name names, as in Postfix, not those of the listener.
 */
const struct content_checks *policy_content_checks(const struct policy *p, const struct conf_service *svc);

/* For log lines; spans are borrowed as long as the run is used. */
struct checks_message {
    const struct log_src *log;
    struct span queue_id;
    struct span origin;            /* "name[addr]" or "local" */
    struct span sender, recipient; /* recipient: the last one, "" for none */
    struct span proto, helo;       /* "" for local mail */
    bool is_utf8;                  /* asked for SMTPUTF8: 8-bit headers are in order */
    /* What the tables want done with the message, in their order: enum policy_effect. value is in the arena. */
    void (*effect)(void *arg, enum policy_effect effect, struct span value);
    void *arg;
};

/* What a delivery agent's own checks are (smtp_header_checks and its kin); NULL or empty: none. */
struct checks_tables {
    const char *prefix;            /* "smtp_" or "lmtp_": of the parameters' names */
    const struct maps *header, *mime, *nested, *body;
};

enum checks_status { CHECKS_OK, CHECKS_REJECTED, CHECKS_FAILED };

struct checks_run;
struct checks_run *checks_begin(const struct content_checks *c, const struct checks_message *m, struct arena *a,
                                struct pipe_stage *stage);
/*
 * The same while a message is delivered: only actions that change the content or log. Of m only log and queue_id count; p and
 * the tables are borrowed as long as the run is used.
 */
struct checks_run *checks_begin_client(const struct checks_tables *t, const struct params *p, const struct checks_message *m,
                                       struct arena *a, struct pipe_stage *stage);
/* What became of it so far; for a rejected message code, status and text of the reply. */
enum checks_status checks_status(const struct checks_run *r, int *code, const char **dsn, struct span *text);
/* Releases what is not in the arena; NULL is fine. */
void checks_end(struct checks_run **r);

/* ---- for policy_compile() ---- */
struct compiler;
void checks_compile(struct compiler *c);

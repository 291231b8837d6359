/*
 * explain: what would become of a client, a sender and recipients, found out without sending anything
 *
 * Purpose    evaluates the restriction lists of a listener in the order of an SMTP session, then finds where accepted
 *            recipients go; the result is a JSON object, which explain_print.c turns into text for people
 * Source     ours; posthousectl(8)
 * Threads    one, and the dns thread
 * Ownership  strings of the question are borrowed; the result is a new reference
 */
#pragma once
#include <jansson.h>
#include <stdio.h>
#include "common/conf/conf.h"
#include "policy/route.h"

#define EXPLAIN_RCPTS_MAX 1000

struct explain_question {
    const char *client;           /* address */
    const char *name, *reverse;   /* NULL: asked of DNS */
    const char *helo, *sender;    /* NULL: the command is not sent */
    const char *rcpt[EXPLAIN_RCPTS_MAX];
    size_t rcpt_count;
    const char *sasl_user, *sasl_method;
    const char *etrn;
    const char *listener;         /* service name in master.cf; NULL: the first one */
    bool is_tls, is_data, asks_services;
    bool is_esmtp;
    uint64_t size_bytes;
};

struct explain {
    const struct explain_question *q;
    struct conf *conf;
    struct policy *policy;
    struct dns *dns;              /* NULL: cannot be asked */
    const struct conf_service *listener;
    struct arena *arena;
    json_t *out, *stages, *routes, *notes;
    struct span *accepted;        /* recipients; in the arena */
    size_t accepted_count;
    struct policy_note *actions;  /* what restrictions want done with the message, oldest first; in the arena */
    struct span sender;           /* explain_rewrite.c: as rewritten */
};
/* NULL with *e: no such listener, a bad address. */
json_t *explain_run(struct conf *conf, struct policy *policy, struct dns *dns, const struct explain_question *q, struct err *e) MUST_CHECK;
void explain_print(FILE *to, const json_t *answer);
/* Not known, and why; said once. */
void explain_note(struct explain *x, const char *fmt, ...) PRINTF_FMT(2, 3);
json_t *explain_text(struct span s);
struct policy_trace;
json_t *explain_events(const struct policy_trace *t);
struct route_target;
/* explain_route.c: transport, next hop and servers for one address at the end of the rewriting, appended to the list. */
void explain_destination(struct explain *x, const struct route_target *to, struct span filter, json_t *list);
/* explain_rewrite.c: what becomes of the sender and of the accepted recipients, and who gets copies: x->out, x->routes. */
void explain_message(struct explain *x);

/*
 * explain_log.c: fills the question from the mail log, for a queue id or a session (as in smtpd[SESSION]). The strings live
 * in the arena. False with *e when the log has no such thing.
 */
bool explain_from_log(const char *log_file, const char *what, struct arena *a, struct explain_question *q, struct err *e) MUST_CHECK;

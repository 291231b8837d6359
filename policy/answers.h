/*
 * answers: what an evaluation had to ask of others, so that it can begin anew without asking twice
 *
 * Purpose    restrictions must not wait: one that needs a DNS answer that is not here notes the question and the evaluation
 *            goes on as if it said nothing, noting what else will be needed. policy_check() then says VERDICT_WAIT; its
 *            caller has the questions asked, all at once, and calls it again, until all answers are here.
 *            `sleep` works in the same way, with a time instead of questions.
 * Threads    one owner at a time (the session). Between policy_answers_ask() and its callback nobody may touch it.
 *            The callback runs on the dns thread or, when everything is in the cache, at once on the caller's.
 * Ownership  answers stay valid until policy_answers_clear() or _free()
 */
#pragma once
#include "common/base/span.h"
#include "common/conf/params.h"
#include "common/dns/dns.h"
#include "policy/verify.h"

struct policy_answers;

/* dns: borrowed for life; NULL: every question is answered DNS_TEMPFAIL. */
struct policy_answers *policy_answers_new(struct dns *dns);
void policy_answers_free(struct policy_answers **a);
/* Forgets everything: the command is over. */
void policy_answers_clear(struct policy_answers *a);

/* The answer, or NULL: noted, to be asked. */
const struct dns_answer *policy_answers_get(struct policy_answers *a, struct span name, enum dns_type type);
/* smtpd_dns_reply_filter for what is got from now on; borrowed for the evaluation. NULL: none. */
struct dns_filter;
void policy_answers_set_filter(struct policy_answers *a, const struct dns_filter *f);
enum answers_status { ANSWERS_HERE, ANSWERS_WAIT, ANSWERS_NONE };
/* Who verifies addresses; borrowed for life. Without one nobody does. */
void policy_answers_set_verifier(struct policy_answers *a, struct verifier *v);
/*
 * Is the address good? HERE: *out, valid as answers are; WAIT: noted, to be asked, for at most wait_ms; NONE: nobody can be
 * asked. p: main.cf's, borrowed until it is asked.
 */
enum answers_status policy_answers_verify(struct policy_answers *a, const struct params *p, struct span address, int64_t wait_ms,
                                          const struct verify_result **out);
/* Asks what was noted; done(arg) is called once, when the last answer is here. */
void policy_answers_ask(struct policy_answers *a, void (*done)(void *arg), void *arg);
/* Asks and waits, at most until the deadline of each question; for programs that have nothing else to do. Sends no probes. */
void policy_answers_wait(struct policy_answers *a);

/* What somebody outside answered when this command was evaluated before, by the step that asked. */
bool policy_answers_recall(struct policy_answers *a, const void *step, struct span *value);
void policy_answers_remember(struct policy_answers *a, const void *step, struct span value); /* copied */

/* A pause is wanted: the n-th (from 0) of this evaluation. True: it is over; else it is noted. */
bool policy_answers_has_slept(struct policy_answers *a, unsigned n, int64_t ms);
/* The pause noted last, 0 none; taking it counts it as over. */
int64_t policy_answers_take_sleep_ms(struct policy_answers *a);

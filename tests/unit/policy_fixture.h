/* A compiled policy from configuration text, and one RCPT TO asked of it. For the unit tests of policy/. */
#pragma once
#include "policy/policy_internal.h"

struct fixture {
    struct conf *conf;
    struct policy *policy;      /* NULL when it, or conf, was refused */
    struct conf_report report;
    struct arena *arena;
    struct dns *dns;            /* borrowed; NULL: every DNS question fails */
    unsigned waits, slept_ms;   /* of the last fixture_check(): rounds of questions, pauses */
};

/* myhostname hub.example.com, a master.cf with smtpd, smtp, relay, lmtp, virtual, error, retry; main_cf is appended to. */
struct fixture *fixture_new(const char *main_cf);
struct fixture *fixture_new_master(const char *main_cf, const char *master_cf);
void fixture_free(struct fixture **f);
/* The first finding whose text contains `text`, or NULL. */
const struct conf_finding *fixture_finding(const struct fixture *f, const char *text);

struct rcpt_case {
    const char *client;         /* NULL: 192.0.2.9, nobody's */
    const char *client_name;    /* NULL: "unknown" */
    const char *helo, *sender, *recipient;
    const char *sender_given;   /* NULL: sender */
    const char *sasl_user;
    const struct policy_tls *tls;
    unsigned rcpt_count;
    const char *reverse_name;   /* NULL: client_name */
    const struct conf_service *listener;
    enum policy_stage stage;    /* 0 (STAGE_CONNECT) means STAGE_RCPT here */
    struct policy_carry *carry;
};
/* "250", or "554 5.7.1 text"; in the fixture's arena. */
const char *fixture_check(struct fixture *f, const struct rcpt_case *c);
/* The same for a recipient from a stranger. */
const char *fixture_rcpt(struct fixture *f, const char *recipient);
/* Notes of the last fixture_check: "what: text" lines. */
const char *fixture_notes(const struct fixture *f);

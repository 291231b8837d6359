/*
 * restrict_internal: steps of a compiled restriction list, and what is carried through an evaluation
 */
#pragma once
#include "policy/answers.h"
#include "policy/dnsbl.h"
#include "policy/policy_internal.h"
#include "policy/trace.h"

enum answer { ANSWER_DUNNO, ANSWER_PERMIT, ANSWER_REJECT };

struct eval;
typedef enum answer step_fn(struct eval *ev, const struct step *s);

enum arg_kind { ARG_NONE, ARG_TABLE, ARG_CERT_TABLE, ARG_DNSBL, ARG_TIME, ARG_SERVICE };

enum { /* struct restriction.flags */
    RF_GUARDS_RELAY = 1,  /* counts as relay control: nothing unauthorised gets past it */
    RF_ENDS_LIST = 2,     /* what follows is never reached */
    RF_PREFIX = 4,        /* warn_if_reject: belongs to the step behind it */
    RF_OLD = 8,           /* works, but should not be used any more: named at load */
};

/* A name of the language. */
struct restriction {
    const char *name;
    enum arg_kind arg;
    unsigned flags;
    step_fn *run;
};
const struct restriction *restriction_find(struct span name);
const struct restriction *restriction_row(size_t i); /* NULL behind the last */

/* Keys of check_ccert_access, in the order in which they are tried. */
enum cert_key { CERT_KEY_FINGERPRINT, CERT_KEY_PUBKEY };
#define CERT_KEYS_MAX 4

struct step {
    const struct restriction *what; /* NULL: a restriction class */
    const struct step_list *sub;    /* the class's list */
    struct span name;               /* as configured, for messages */
    struct maps *table;             /* ARG_TABLE, ARG_CERT_TABLE */
    struct span table_name;         /* table, server, DNS list or time as configured */
    uint8_t cert_keys[CERT_KEYS_MAX], cert_key_count; /* enum cert_key; ARG_CERT_TABLE */
    const struct dnsbl *dnsbl;      /* ARG_DNSBL */
    int64_t ms;                     /* ARG_TIME */
    struct policy_server *server;   /* ARG_SERVICE; the policy closes it */
    bool warn_only;
};

/* What a reply is about: decides its words and how an enhanced status is adapted. */
enum subject_kind {
    SUBJECT_CLIENT, SUBJECT_REVERSE_CLIENT, SUBJECT_SASL_USER, SUBJECT_CERT, SUBJECT_HELO, SUBJECT_SENDER, SUBJECT_RECIPIENT,
    SUBJECT_DATA, SUBJECT_END_OF_DATA, SUBJECT_ETRN
};

struct pending {
    bool active;
    int code;
    struct span dsn, text;
};

/* An outcome to be counted when the evaluation is over; OUTCOME_NONE: the list was begun. */
struct tally {
    struct list_counts *counts;
    uint32_t step;
    uint8_t outcome;
};
#define TALLY_MAX 32

struct eval {
    const struct policy *p;
    const struct policy_service *s;
    const struct policy_client *c;
    struct arena *a;
    struct verdict_reply *out;
    enum policy_stage stage;
    enum restriction_list list;
    const struct route *route;       /* of the recipient; NULL when there is none */
    struct pending permit, reject;   /* defer_if_permit, defer_if_reject */
    unsigned depth;                  /* of restriction classes */
    bool warn_only;
    bool sender_checked, recipient_checked; /* reject_unlisted_*: once is enough */
    bool has_subject;                /* restrictions that a table gave speak of what was looked up */
    enum subject_kind subject;
    bool disconnect;
    bool is_discarded;               /* DISCARD: no list after this one counts */
    bool is_waiting;                 /* something was asked that is not here yet: the verdict does not count */
    unsigned sleeps;                 /* `sleep` steps met so far */
    enum policy_outcome said;        /* the most that the restriction under way did so far, short of a verdict */
    unsigned tally_count;
    struct tally tally[TALLY_MAX];   /* what does not fit is not counted: classes in classes in tables */
};

/* The subject of the list that is being evaluated, and its name in replies: "<name>: CLASS rejected: ...". */
enum subject_kind eval_list_subject(const struct eval *ev);
struct span eval_subject_name(struct eval *ev, enum subject_kind k);
static inline struct span eval_sender_given(const struct eval *ev)
{
    return ev->c->sender_given.p != NULL ? ev->c->sender_given : ev->c->sender;
}
const char *eval_subject_class(enum subject_kind k);

/* Rejects, or under warn_if_reject notes that it would have. fmt gives the text behind code and dsn. */
enum answer eval_reject(struct eval *ev, enum subject_kind k, int code, const char *dsn, const char *fmt, ...)
    PRINTF_FMT(5, 6);
/* "<name>: CLASS rejected: WHY" */
enum answer eval_reject_why(struct eval *ev, enum subject_kind k, int code, const char *dsn, const char *why);
/* A table or list could not be asked: 451 4.3.0 whatever warn_if_reject says. */
enum answer eval_tempfail(struct eval *ev, struct span name, const struct err *e);
/* An access table could not be asked: 451 4.3.5 whatever warn_if_reject says. */
enum answer eval_table_error(struct eval *ev, enum subject_kind k, const struct err *e);
/*
 * A table permitted for a name that its owner chooses freely: 451 4.3.5, unless the message is thrown away, which permits nothing.
 */
enum answer eval_forbid_permit(struct eval *ev, const struct step *s);
/* 451 4.3.5 whatever warn_if_reject says. */
enum answer eval_config_error(struct eval *ev, const char *fmt, ...) PRINTF_FMT(2, 3);
struct policy_note *eval_note(struct eval *ev, const char *what, int code, struct span dsn, struct span text);
/* A mistake in the configuration that leaves the verdict alone; says nothing while is_waiting. */
void eval_warn(struct eval *ev, const char *fmt, ...) PRINTF_FMT(2, 3);
void eval_later(struct eval *ev, struct pending *which, enum subject_kind k, int code, const char *dsn, const char *why);
/* The same with another name than the subject's in <>. */
void eval_later_for(struct eval *ev, struct pending *which, enum subject_kind k, struct span name, int code, const char *dsn,
                    const char *why);
/* What a *_tempfail_action says ("defer", or defer_if_permit): now, or when nothing rejects. */
enum answer eval_doubt(struct eval *ev, const char *action, enum subject_kind k, const char *dsn, const char *why);
/*
 * Servers of one name that are asked about. The name is a stranger's, who could have a thousand, each worth two questions
 * that nobody answers; the DNS questions under way are limited for all.
 */
#define EVAL_SERVERS_MAX 50
/* The answer to a DNS question; NULL: it is not here, go on as if nothing was known. */
const struct dns_answer *eval_dns(struct eval *ev, struct span name, enum dns_type type);
/* smtpd_log_access_permit_actions: "action=A for SUBJECT=NAME FROM" when the list has the action. */
void eval_log_permit(struct eval *ev, struct span action, enum subject_kind k, const char *from);
enum answer eval_list(struct eval *ev, const struct step_list *l);
/* restrict_count.c */
void eval_count(struct eval *ev, const struct step_list *l, size_t step, enum policy_outcome o);
void eval_count_all(const struct eval *ev);
/* trace.c; only while there is a trace */
struct policy_event *trace_step(struct eval *ev, const struct step *s);
void trace_step_end(struct eval *ev, struct policy_event *e, enum policy_outcome o);
void trace_later(struct eval *ev, const struct pending *which, int code, struct span dsn, struct span text);
void policy_trace_dns(struct policy_trace *t, struct span name, enum dns_type type, const struct dns_answer *a);
static inline void eval_said(struct eval *ev, enum policy_outcome o)
{
    if (o > ev->said)
        ev->said = o;
}
/* The enhanced status as it should be for this subject and code. */
struct span eval_fix_dsn(struct arena *a, enum subject_kind k, int code, struct span dsn);

/* ---- steps ---- */
#define STEP_FN(n) enum answer n(struct eval *ev, const struct step *s)
STEP_FN(step_permit);
STEP_FN(step_reject);
STEP_FN(step_defer);
STEP_FN(step_defer_if_permit);
STEP_FN(step_defer_if_reject);
STEP_FN(step_reject_plaintext);
STEP_FN(step_reject_pipelining);
STEP_FN(step_permit_inet_interfaces);
STEP_FN(step_permit_mynetworks);
STEP_FN(step_permit_sasl);
STEP_FN(step_permit_all_clientcerts);
STEP_FN(step_permit_clientcerts);
STEP_FN(step_check_ccert_access);
STEP_FN(step_permit_naked_ip);
STEP_FN(step_reject_unknown_forward);
STEP_FN(step_reject_multi_bounce);
STEP_FN(step_reject_login_mismatch);
STEP_FN(step_reject_auth_login_mismatch);
STEP_FN(step_reject_unauth_login_mismatch);
STEP_FN(step_reject_known_login_mismatch);
STEP_FN(step_reject_unknown_client);
STEP_FN(step_reject_unknown_reverse);
STEP_FN(step_reject_invalid_helo);
STEP_FN(step_reject_non_fqdn_helo);
STEP_FN(step_reject_non_fqdn_sender);
STEP_FN(step_reject_non_fqdn_recipient);
STEP_FN(step_reject_unlisted_sender);
STEP_FN(step_reject_unlisted_recipient);
STEP_FN(step_permit_auth_destination);
STEP_FN(step_check_relay_domains);
STEP_FN(step_reject_unauth_destination);
STEP_FN(step_defer_unauth_destination);
STEP_FN(step_check_client_access);
STEP_FN(step_check_reverse_access);
STEP_FN(step_check_sasl_access);
STEP_FN(step_check_helo_access);
STEP_FN(step_check_sender_access);
STEP_FN(step_check_recipient_access);
STEP_FN(step_check_etrn_access);
STEP_FN(step_check_policy_service);
STEP_FN(step_sleep);
STEP_FN(step_reject_unknown_sender_domain);
STEP_FN(step_reject_unknown_recipient_domain);
STEP_FN(step_reject_unknown_helo);
STEP_FN(step_permit_mx_backup);
STEP_FN(step_reject_rbl_client);
STEP_FN(step_reject_rhsbl_client);
STEP_FN(step_reject_rhsbl_reverse_client);
STEP_FN(step_reject_rhsbl_helo);
STEP_FN(step_reject_rhsbl_sender);
STEP_FN(step_reject_rhsbl_recipient);
STEP_FN(step_permit_dnswl_client);
STEP_FN(step_permit_rhswl_client);
STEP_FN(step_reject_maps_rbl);
STEP_FN(step_reject_unverified_sender);
STEP_FN(step_reject_unverified_recipient);
STEP_FN(step_check_client_a);
STEP_FN(step_check_client_mx);
STEP_FN(step_check_client_ns);
STEP_FN(step_check_reverse_a);
STEP_FN(step_check_reverse_mx);
STEP_FN(step_check_reverse_ns);
STEP_FN(step_check_helo_a);
STEP_FN(step_check_helo_mx);
STEP_FN(step_check_helo_ns);
STEP_FN(step_check_sender_a);
STEP_FN(step_check_sender_mx);
STEP_FN(step_check_sender_ns);
STEP_FN(step_check_recipient_a);
STEP_FN(step_check_recipient_mx);
STEP_FN(step_check_recipient_ns);
/* Access tables, for other restrictions: the keys that are tried, and what a found value means. */
enum lookup eval_access_by_host(struct eval *ev, const struct maps *m, struct span name, struct span *value, struct err *e) MUST_CHECK;
enum lookup eval_access_by_addr(struct eval *ev, const struct maps *m, struct span addr, struct span *value, struct err *e) MUST_CHECK;
enum answer eval_access_answer(struct eval *ev, const struct step *s, enum subject_kind k, enum lookup got, struct span value,
                               const struct err *e);
/* Does the address name no more than its domain for a destination of ours? */
enum answer eval_auth_destination(struct eval *ev);

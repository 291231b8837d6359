/*
 * smtpd: the SMTP server dialogue
 *
 * Purpose    everything between an accepted connection and spool_submit(): greeting, commands, policy, message content,
 *            limits and log lines. The reactor and its workers carry the session (daemon/sess.h).
 * Source     RFC 5321 and the extensions named in smtpd(8); reference/wire-formats.md sections 8 and 12
 * Threads    smtpd_create(): reactor thread; a session: whoever's place it is in. smtpd_service_*: main thread to make,
 *            any thread to ref and unref; immutable after creation.
 * Locks      SESSION_TABLE (20) inside client_count.c; nothing held across a return
 * Ownership  a session holds a reference on its smtpd_service; the service one on its policy
 *
 * How to wire it up: one struct smtpd_env for the process, passed as reactor_options.create_arg with smtpd_create as
 * .create; one smtpd_service per listener and configuration snapshot as listener->arg.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include "common/base/err.h"
#include "common/base/limit.h"
#include "common/base/log.h"
#include "common/dns/dns.h"
#include "daemon/sess.h"
#include "daemon/smtpd/client_count.h"
#include "policy/route.h"
#include "queue/copy.h"
#include "queue/notice.h"
#include "queue/spool.h"

/* Totals since the start; relaxed atomics, read by the metrics. */
struct smtpd_counters {
    _Atomic uint64_t sessions, commands, messages, recipients, bytes;
    _Atomic uint64_t rejects, tempfails;      /* 5xx and 4xx replies */
    _Atomic uint64_t lost, timeouts, limit_refusals;
};

/* Limits of a session or client that have a place in the status. */
enum smtpd_limit {
#define LIMIT(id, parameter, what) SMTPD_LIMIT_##id,
#include "daemon/smtpd/limits.def"
#undef LIMIT
    SMTPD_LIMITS
};

/* What all sessions share. Set up before the first session, then unchanged but for the atomics. */
struct smtpd_env {
    struct spool *spool;
    struct dns *dns;                       /* NULL: client names are not looked up */
    struct log *log;                       /* may be NULL: nothing is logged */
    struct verifier *verifier;             /* NULL: addresses cannot be verified */
    struct client_counts *clients;         /* NULL: no limits per client */
    bool (*is_stressed)(void *arg);        /* NULL: never. Asked once when a session begins. */
    void *stress_arg;
    void (*resume)(struct sess *s);        /* sess_resume, or a test's */
    void (*will_block)(struct sess *s);    /* reactor_will_block; NULL: nobody needs to know */
    void (*flush)(void *arg, struct span nexthop); /* mail for that next hop is tried now; NULL: cannot be done */
    void *flush_arg;
    void (*notice)(void *arg, const struct notice *x); /* NULL: nobody is told of errors of clients */
    void *notice_arg;
    mail_report_fn *report;                /* NULL: nobody hears that an address stands for others */
    void *report_arg;
    struct smtpd_counters counters;
    struct limit limits[SMTPD_LIMITS];     /* smtpd_limits_init() */
    atomic_uint next_pid;                  /* number of the next session in log lines */
};

/* A listener's settings, parsed and made ready once for each configuration snapshot. Counted. */
struct smtpd_service;
/* The policy and svc must belong to one snapshot; takes a reference on the policy. NULL with *e: a setting makes no sense. */
struct smtpd_service *smtpd_service_new(const struct conf_service *svc, struct policy *policy, struct err *e) MUST_CHECK;
struct smtpd_service *smtpd_service_ref(struct smtpd_service *v);
void smtpd_service_unref(struct smtpd_service **v);

/* Names the limits of env; before the first session. */
void smtpd_limits_init(struct smtpd_env *env);

/* The sess_create_fn: listener->arg is a struct smtpd_service, arg a struct smtpd_env. */
sess_create_fn smtpd_create;

/*
 * One session over descriptors that need not be sockets (sendmail -bs), on the calling thread until it ends; the
 * descriptors stay open. It is a local user's: no access restrictions, no check of early input. env->resume must be smtpd_run_resume. Returns 0, or errno when it could not begin.
 */
int smtpd_run(struct smtpd_env *env, struct smtpd_service *v, int in_fd, int out_fd) MUST_CHECK;
void smtpd_run_resume(struct sess *s);

/*
 * daemon: everything that makes one running posthoused
 *
 * Purpose    holds the parts, starts them in order, swaps the configuration, stops them in reverse
 * Source     DESIGN "Threads"; the order of start and stop is written in lifecycle.c and nowhere else
 * Threads    main owns it; daemon_policy() may be called by any thread
 * Locks      CONF_CURRENT (5) guards conf and policy
 */
#pragma once
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/lock.h"
#include "common/base/log.h"
#include "common/conf/conf.h"
#include "common/dns/dns.h"
#include "daemon/control/control.h"
#include "daemon/control/pickup.h"
#include "daemon/deliver.h"
#include "daemon/listeners.h"
#include "daemon/privileges.h"
#include "daemon/probe.h"
#include "daemon/reactor.h"
#include "daemon/smtpd/smtpd.h"
#include "policy/route.h"
#include "queue/notice.h"
#include "queue/sched.h"
#include "queue/spool.h"

struct daemon {
    const char *conf_dir;          /* -c */
    bool in_foreground;            /* -f */
    int64_t started_us;            /* wall clock */

    struct lock m;                 /* CONF_CURRENT */
    struct conf *conf;             /* counted, guarded by m */
    struct policy *policy;         /* counted, guarded by m */

    struct log *log;
    struct log_src src;            /* program "master" */
    struct log_src qmgr_src, spool_src, dns_src, smtp_src, policy_src, verify_src;
    char *syslog_name;             /* owned: of the configuration the daemon was started with */
    struct owner owner;
    unsigned sessions_max;         /* session_limit, or what the descriptors allow */
    struct listeners *listeners;
    struct spool *spool;
    struct dns *dns;
    struct sched *sched;
    struct conn_cache *conn_cache;
    struct deliver_tables *tables;
    struct deliver_env deliver_env;
    struct deliver_pool *pool;
    struct prober prober;
    struct verifier *verifier;
    struct smtpd_env smtpd_env;
    struct reactor *reactor;
    struct control *control;
    struct pickup *pickup;
    struct notices *notices;
    const struct limit *limits[SMTPD_LIMITS + 3]; /* for the status */
    int64_t clients_due_ms;        /* main: when the worst clients are logged next; 0: not yet set */
    int order_pipe[2];             /* the control thread asks main to stop or reload: one byte 't' or 'h' */
    struct cond reload_done;       /* with m: reloads_done rose, or is_stopping */
    unsigned reloads_asked;        /* guarded by m: by control clients */
    unsigned reloads_begun;        /* main: reloads_asked when the running reload began to read the files */
    unsigned reloads_done;         /* guarded by m: requests that a finished reload has served */
    bool is_stopping;              /* guarded by m: no reload comes any more */
    bool reload_ok;                /* guarded by m */
    struct buf reload_text;        /* guarded by m: findings of the last reload, one a line */
};

/* The current policy (and through it the configuration), one reference. Any thread. */
struct policy *daemon_policy(struct daemon *d);

/*
 * Reads and checks the configuration into d->conf and d->policy; findings go to standard error. False when there is an
 * error.
 */
bool daemon_configure(struct daemon *d) MUST_CHECK;
/* One warning that names the settings an administrator might count on in vain (a content filter, say). Main, after start and reload. */
void daemon_tell_idle_settings(struct daemon *d);
/* Opens the log and the ports, becomes mail_owner, opens the spool. False with *e; nothing runs yet. */
bool daemon_prepare(struct daemon *d, struct err *e) MUST_CHECK;
/* Starts every thread. False with *e. */
bool daemon_start(struct daemon *d, struct err *e) MUST_CHECK;
/* anvil_status_update_time: logs the worst clients when it is time; returns the ms until then. Main. */
int64_t daemon_look_at_clients(struct daemon *d);
/* The control socket; started last, see lifecycle.c. */
bool daemon_start_control(struct daemon *d, struct err *e) MUST_CHECK;
/* A new snapshot from the files; the running one stays when it has errors. The report is filled either way. */
bool daemon_reload(struct daemon *d, struct conf_report *report, struct err *e) MUST_CHECK;
/* Before each daemon_reload(): requests that came until now are served by it. Main. */
void daemon_reload_begins(struct daemon *d);
/* Tells the control clients that wait how the reload went; main, after each daemon_reload(). */
void daemon_reload_over(struct daemon *d, bool ok, const struct buf *text);
/* Drains and stops what was started; safe at any stage of a start. Returns false when something had to be left running (exit at once then). */
bool daemon_stop(struct daemon *d);

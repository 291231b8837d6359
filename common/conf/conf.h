/*
 * conf: an immutable snapshot of main.cf and master.cf
 *
 * Purpose    reads a configuration directory as Postfix reads it, checks every known parameter, evaluates each
 *            master.cf service with its -o overrides, and hands out typed values. Code reads a field of
 *            struct params, never a string key; user-defined names (restriction classes, macros) go through
 *            conf_text().
 * Source     postconf(5), master(5); DESIGN "Configuration"; reference/wire-formats.md section 16
 * Threads    conf_load(): one thread. A loaded snapshot is immutable: any thread may read it while it holds a
 *            reference. conf_ref()/conf_unref(): any.
 * Ownership  everything reachable from a snapshot belongs to it
 * Errors     conf_load() gives NULL and at least one CONF_ERROR entry in the report; warnings alone still load
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/span.h"

struct conf;

enum conf_severity { CONF_NOTE, CONF_WARNING, CONF_ERROR };

/* One finding: "FILE, line N: text"; text says what was found, what was expected, what to do. */
struct conf_finding {
    enum conf_severity severity;
    const char *file; /* owned by the report; NULL when it concerns no file */
    int line;         /* 1-based; 0 when unknown */
    const char *text; /* owned by the report, one line */
};

struct conf_report {
    struct conf_finding *items; /* owned */
    size_t count;
};
void conf_report_free(struct conf_report *r);

/*
 * Typed values of all parameters for one service. One field per row of params.def, named as the parameter:
 *   P_BOOL -> bool;  P_INT, P_BYTES -> int64_t;  P_TIME -> int64_t milliseconds;
 *   P_STR, P_NAME, P_LIST, P_TABLES, P_RESTR, P_ENUM -> const char * (fully expanded, never NULL; P_ENUM in lower case)
 *   P_RAW -> const char * as written: its $names are expanded for each reply (default_rbl_reply, ...)
 * Rows of client_params.def are not here but in struct client_params.
 */
struct params;        /* defined in common/conf/params.h, generated from params.def */
/* The parameters that exist as smtp_X and lmtp_X: field X (without the prefix), filled for the service's own protocol. */
struct client_params; /* defined in common/conf/params.h, generated from client_params.def */

/* What master.cf and <transport>_X / default_X parameters say of one transport; see postconf(5). */
struct transport_limits {
    int64_t destination_concurrency_limit;
    int64_t destination_recipient_limit;
    int64_t initial_destination_concurrency;
    int64_t destination_rate_delay_ms;
    int64_t transport_rate_delay_ms;
    int64_t destination_concurrency_failed_cohort_limit;
    const char *destination_concurrency_positive_feedback; /* "1", "1/concurrency", ... checked at load */
    const char *destination_concurrency_negative_feedback;
    int64_t recipient_limit;
    int64_t extra_recipient_limit;
    int64_t recipient_refill_limit;
    int64_t recipient_refill_delay_ms;
    int64_t minimum_delivery_slots;
    int64_t delivery_slot_cost, delivery_slot_discount, delivery_slot_loan;
    int64_t time_limit_ms;
};

enum conf_service_type { SVC_INET, SVC_UNIX, SVC_FIFO, SVC_PASS, SVC_UNIX_DGRAM };

/* What posthoused makes of a master.cf line. */
enum conf_service_role {
    SVC_LISTENER,    /* smtpd, type inet: a listening socket */
    SVC_TRANSPORT,   /* smtp, lmtp, virtual, error, retry, discard: a transport */
    SVC_INTERNAL,    /* pickup, cleanup, qmgr, ...: a thread or function here */
    SVC_UNSUPPORTED, /* pipe, local, spawn, ...: named by `posthousectl check` */
};

struct conf_service {
    const char *name;              /* first column: "smtp", "127.0.0.1:10025", "relay" */
    enum conf_service_type type;
    enum conf_service_role role;
    const char *command;           /* program: "smtpd", "smtp", "lmtp", "virtual", "error", ... */
    const char *host, *port;       /* SVC_INET: host "" when not given; port number or name */
    int64_t maxproc;               /* process limit column; default_process_limit when "-"; 0 = no limit */
    bool is_private, chroot;
    int line;                      /* in master.cf */
    size_t argc;
    const char *const *argv;       /* arguments behind the program without -o and -v, NULL-terminated */
    const struct params *p;        /* this service's values under normal load */
    const struct params *p_stress; /* the same evaluated with stress=yes */
    const struct client_params *client; /* for smtp and lmtp transports, else NULL */
    const char *source4, *source6; /* with client: the only address of its family that inet_interfaces names, not loopback; else "" */
    struct transport_limits limits;     /* for transports */
};

struct conf_options {
    const char *dir;                 /* directory of main.cf and master.cf */
    const char *main_cf_text;        /* instead of DIR/main.cf when not NULL (tests, quickstart, fuzzing) */
    const char *master_cf_text;      /* instead of DIR/master.cf when not NULL */
    const char *hostname;            /* instead of gethostname() when not NULL (tests) */
    const char *const *settings;     /* NULL, or "name=value" texts that count after main.cf, the last one NULL */
};

/* Reads, expands, checks. On failure NULL. The report (never NULL) is filled in either case; caller frees it. */
struct conf *conf_load(const struct conf_options *o, struct conf_report *report) MUST_CHECK;
struct conf *conf_ref(struct conf *c);
void conf_unref(struct conf **c);
/* Rises by one with each conf_load() of the process. */
uint64_t conf_generation(const struct conf *c);
const char *conf_dir(const struct conf *c);

/* Values outside any service (queue manager, spool, control). */
const struct params *conf_global(const struct conf *c);
size_t conf_service_count(const struct conf *c);
const struct conf_service *conf_service(const struct conf *c, size_t i);
/* The SVC_TRANSPORT line of that name, or NULL. */
const struct conf_service *conf_transport(const struct conf *c, struct span name);
/*
 * Expanded text of any parameter for a service (NULL: global): known, set in main.cf, or by -o. NULL when nobody
 * defined it. Belongs to the snapshot. For names that only the configuration knows (smtpd_restriction_classes).
 */
const char *conf_text(const struct conf *c, const struct conf_service *svc, struct span name);
/* Has a parameter, outside any service, the value of the table? Only for defaults without $name. */
bool conf_is_default(const struct conf *c, struct span name);
/*
 * Takes one item of a comma/whitespace separated list, honouring { } grouping (braces removed, inner space trimmed).
 * False at the end. The item borrows from *rest.
 */
bool conf_list_next(struct span *rest, struct span *item, bool *was_braced);

/*
 * control: the sockets through which people and local programs talk to a running posthoused
 *
 * Purpose    $control_socket (mode 0600: owner and root) carries posthousectl's commands; public/submit below
 *            queue_directory (mode 0666) carries what every local user may ask for: submission by sendmail, mailq, flush,
 *            each within its authorized_*_users list
 * Source     DESIGN "Threads" (control); postconf(5) authorized_mailq_users, authorized_flush_users,
 *            authorized_submit_users; protocol in README.md
 * Threads    control_start/stop: main. One thread accepts, one more per client.
 * Locks      CONTROL (8) guards the table of clients; never held across I/O or a call into another part
 * Ownership  sched, spool, reactor are borrowed until control_stop() returns
 * Limits     CONTROL_CLIENTS_MAX and SUBMIT_CLIENTS_MAX connections, SUBMIT_CLIENTS_PER_USER for one ordinary user;
 *            CTL_LINE_MAX bytes a request; a client that does not read or write for CTL_IO_MS is dropped
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/conf/conf.h"
#include "queue/copy.h"

#define CONTROL_CLIENTS_MAX 16
#define SUBMIT_CLIENTS_MAX 32
#define SUBMIT_CLIENTS_PER_USER 12
#define CTL_LINE_MAX (1024 * 1024)
#define CTL_IO_MS 60000

struct policy;
struct reactor;
struct sched;
struct spool;

struct control_options {
    const char *socket_path;       /* control_socket; borrowed during control_start() */
    const char *queue_dir;         /* queue_directory; borrowed during control_start() */
    const char *conf_dir;          /* borrowed until control_stop() */
    int64_t started_us;            /* wall clock */
    struct sched *sched;
    struct spool *spool;
    struct verifier *verifier;     /* policy/verify.h */
    struct reactor *reactor;       /* NULL: no sessions to count */
    const struct limit *const *limits; /* borrowed: those that are counted */
    size_t limit_count;
    const struct log_src *log;     /* borrowed; its log and name serve for the lines of other programs too */
    struct conf *(*conf)(void *arg);     /* the current snapshot, one reference */
    struct policy *(*policy)(void *arg); /* the current policy, one reference; NULL: no alias expansion,
                                            no sendmail -bs */
    mail_report_fn *report;        /* as in local_submit.h */
    /* Reloads and waits for the outcome; findings, one a line, into *text. */
    bool (*reload)(void *arg, struct buf *text);
    /* Asks main to stop; returns at once. */
    void (*stop)(void *arg);
    void *arg;
};

struct control;
/* Makes public/ when it is missing. NULL with *e: a socket in use, a directory that cannot be made. */
struct control *control_start(const struct control_options *o, struct err *e) MUST_CHECK;
/* No more clients; submissions under way are finished, everything else is cut off. Frees, sets NULL; NULL is fine. */
void control_stop(struct control **c);

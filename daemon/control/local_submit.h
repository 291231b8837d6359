/*
 * local_submit: takes a message from a local user into the spool
 *
 * Purpose    completes addresses, expands aliases, makes the message presentable (local_content) and commits it. Behind the
 *            submission socket and behind maildrop/ alike.
 * Source     pickup(8), cleanup(8); postconf(5) append_at_myorigin, append_dot_mydomain, duplicate_filter_limit,
 *            message_size_limit, hopcount_limit, smtputf8_autodetect_classes
 * Threads    any; local_submit() waits for the commit
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/conf/conf.h"
#include "daemon/control/submission.h"
#include "queue/copy.h"
#include "queue/spool.h"

struct policy;

struct local_env {
    struct spool *spool;
    const struct log_src *log;           /* name and log; the lines carry the tags pickup and cleanup */
    struct conf *(*conf)(void *arg);     /* one reference */
    struct policy *(*policy)(void *arg); /* one reference; NULL: no alias expansion */
    mail_report_fn *report;              /* NULL: nobody hears that an address stands for others */
    void *arg;
};

/* The values of master.cf's pickup line, which are those of local mail; without such a line main.cf's. */
const struct params *local_pickup_params(const struct conf *c);

/* The next piece of content in *out, valid until the next call; *out empty at the end. False with *e: it cannot be read. */
typedef bool local_read_fn(void *arg, struct span *out, struct err *e);

/* local_submit(): taken, and nothing of it is left, because a table said DISCARD. */
#define LOCAL_DISCARDED (-1)

/*
 * 0 when the message is durable, or LOCAL_DISCARDED; else an exit status of sysexits(3) with *e: EX_TEMPFAIL when it may be tried again,
 * anything else when it must not. id: its number, from qid_new(). After a failure content may be left unread.
 */
int local_submit(const struct local_env *env, const struct submission *s, uid_t uid, uint64_t id, local_read_fn *read,
                 void *arg, struct err *e) MUST_CHECK;

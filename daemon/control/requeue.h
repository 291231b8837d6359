/*
 * requeue: a queued message as it would be if it came now
 *
 * Purpose    `posthousectl queue requeue`: addresses of the envelope are rewritten and expanded once more, and the content
 *            filter is that of new local mail. Where this changes anything the message is replaced by a new one; where not, the
 *            scheduler has only to find its routes anew.
 * Source     postsuper(1) -r
 * Threads    control threads; waits for tables, commits, and a moment for deliveries under way
 *
 * Nothing is lost and nothing sent twice: the old message is put on hold, then the new one is committed, then the old one is
 * deleted, each durably. If the process ends in between, the old one is still there, on hold.
 */
#pragma once
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/conf/conf.h"
#include "queue/sched.h"

struct policy;

struct requeue_env {
    struct spool *spool;
    struct sched *sched;
    const struct policy *policy; /* NULL: nothing is mapped */
    struct conf *conf;
    const struct log_src *log;   /* program "postsuper" */
};

enum requeue {
    REQUEUE_SAME,    /* nothing changes, it is gone, or it is being delivered: the old one can go on */
    REQUEUE_RENEWED, /* the new one is queued */
    REQUEUE_FAILED,  /* the old one is as it was; e says why */
};
enum requeue requeue_renew(const struct requeue_env *env, uint64_t id, struct err *e) MUST_CHECK;

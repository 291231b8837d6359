/*
 * query_source: the queue in SQL, for commands, while the daemon runs and while it does not
 *
 * Purpose    asks a running daemon to bring index.db up to date and opens it, or reads the spool's files; queries run in this
 *            process, so that nothing an operator asks takes the daemon's memory or time
 * Source     posthousectl(8) "queue sql", "queue stats"
 * Threads    one
 */
#pragma once
#include "daemon/cmd/posthousectl.h"
#include "daemon/cmd/queue_offline.h"
#include "queue/query.h"

struct query_source {
    struct query *q;             /* owned */
    struct queue_offline *off;   /* owned; NULL while a daemon runs */
    json_t *daemon;              /* owned: what it said of counts, rates and pauses; NULL when none runs */
};

/* 0, or the exit status after telling why. A process of root's becomes the spool's owner. */
int query_source_open(struct ctl *ctl, struct query_source *s) MUST_CHECK;
void query_source_close(struct query_source *s);
/* The exit status for an outcome that is not QUERY_OK or QUERY_ROW; tells e. */
int query_source_failed(enum query_status st, const struct err *e) MUST_CHECK;

/* query_internal: a query before it is sealed; query_overlay.c fills temporary tables then. */
#pragma once
#include <stdatomic.h>
#include "queue/query.h"

struct query {
    sqlite3 *db;
    int64_t until_ms, limit_ms;   /* 0: none */
    bool (*stop)(void *arg);
    void *stop_arg;
    bool is_late, is_stopped;     /* why the progress handler ended a statement */
    bool is_denied;               /* the authorizer refused something in the statement */
    _Atomic bool is_interrupted;  /* set by any thread, for good */
};

/* A connection that can still write to temporary tables. read_only false: for ":memory:". */
struct query *query_new(const char *path, bool read_only, struct err *e) MUST_CHECK;
bool query_run(struct query *q, const char *sql, struct err *e) MUST_CHECK;
bool query_seal(struct query *q, struct err *e) MUST_CHECK;

/*
 * query: reading index.db in SQL, and nothing but reading
 *
 * Purpose    what an operator asks of the queue: selections, listings, statistics, his own SQL. A connection of its own
 *            that cannot write, attach, load or set anything, and that gives up after a time or when told to.
 *            Whoever wants the whole queue in the answer calls sched_index_sync() first (daemon), or opens it with
 *            query_open_spool() (no daemon runs).
 * Source     ours; posthouse-index(5)
 * Threads    a query has one owner; query_interrupt() may be called by any thread and in a signal handler
 * Ownership  statements belong to the caller, who finalizes them (sqlite3_finalize) before query_close()
 * Errors     enum query_status; *e has one line for people
 * Limits     the time set by query_limit(), which also bounds how long index.db-wal is held back
 */
#pragma once
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"

struct spool;
struct query;

enum query_status {
    QUERY_ROW,         /* query_step(): a row is there */
    QUERY_OK,          /* done */
    QUERY_BAD,         /* the SQL is wrong, or not one statement */
    QUERY_DENIED,      /* the SQL would do more than read */
    QUERY_TIMEOUT,     /* the time of query_limit() is over */
    QUERY_INTERRUPTED, /* query_interrupt(), or the function of query_on_progress() said so */
    QUERY_FAILED,      /* the database: locked, damaged, no memory */
};

/* index_path: queue_directory/index.db. NULL with *e, also when the schema is of another version. */
struct query *query_open(const char *index_path, struct err *e) MUST_CHECK;
/*
 * For tools while no daemon runs: s was opened read-only and started. What the journal's tail knows better than
 * index.db (or all of it, when there is none) is laid over the tables, by temporary ones of the same names.
 */
struct query *query_open_spool(struct spool *s, struct err *e) MUST_CHECK;
/*
 * For a daemon that cannot bring its index up to date: `fill` puts every message that may be known better than its rows, m with its
 * present progress (ENV_HOLD: on hold) or NULL when it is over; deleted_us: it is one of the deleted, else 0.
 */
struct query_tail;
struct msg;
bool query_tail_put(struct query_tail *t, uint64_t id, struct msg *m, int64_t deleted_us, struct err *e) MUST_CHECK;
struct query *query_open_over(const char *index_path, struct spool *s, bool (*fill)(void *arg, struct query_tail *t, struct err *e),
                              void *arg, struct err *e) MUST_CHECK;
/* NULL is fine; sets NULL. */
void query_close(struct query **q);

/* A function for its SQL; data goes to sqlite3_user_data() and is freed with free_data, also on failure. */
bool query_add_function(struct query *q, const char *name, int argc, void (*fn)(sqlite3_context *, int, sqlite3_value **),
                        void *data, void (*free_data)(void *), struct err *e) MUST_CHECK;
/* From now on at most so long, for everything; 0: no limit (the default). */
void query_limit(struct query *q, int64_t limit_ms);
/* Asked now and then while a statement runs: true stops it. NULL: nobody. */
void query_on_progress(struct query *q, bool (*stop)(void *arg), void *arg);
void query_interrupt(struct query *q);

/*
 * Exactly one statement (a final ';' and comments may follow), which may only read. QUERY_OK, QUERY_BAD, QUERY_DENIED or
 * QUERY_FAILED; with QUERY_BAD the text names what is wrong.
 */
enum query_status query_prepare(struct query *q, struct span sql, sqlite3_stmt **out, struct err *e) MUST_CHECK;
/* QUERY_ROW or QUERY_OK (at the end); else the statement has been reset and *e says why. */
enum query_status query_step(struct query *q, sqlite3_stmt *st, struct err *e) MUST_CHECK;
/* Binds text that lives until the statement is reset. */
void query_bind(sqlite3_stmt *st, int at, struct span s);
/* Text of a column, valid until the next step. */
struct span query_column(sqlite3_stmt *st, int column);

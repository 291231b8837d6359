/*
 * index: index.db, the SQLite view of what is still queued
 *
 * Purpose    write-behind rows for messages that were not delivered soon; the place where the scheduler finds what
 *            is due when it is not in memory, and where people ask questions in SQL. Can be deleted and rebuilt.
 * Source     ours; DESIGN "The spool"; posthouse-index(5)
 * Threads    index_flush(): hands over to the indexer thread. index_fetch_*() : any thread (own connection each).
 * Locks      INDEX_INBOX (46)
 */
#pragma once
#include "queue/spool.h"

/* Copy of the progress of one recipient. Spans borrowed until index_flush() returns. */
struct index_rcpt {
    uint32_t rcpt;
    uint8_t state;          /* enum rcpt_state, RCPT_BUSY counts as RCPT_TODO */
    bool is_alone, is_readdressed; /* see struct msg_rcpt */
    uint16_t attempts;
    int64_t due_us;
    int64_t when_us;        /* of the last attempt, for the table of attempts; 0: about now */
    struct span addr;       /* empty: as in the message */
    struct span transport, nexthop, dsn, mta, reason;
};

enum index_kind { INDEX_UPSERT, INDEX_DELETE, INDEX_TRASH /* as UPSERT, then to the deleted ones */ };

/* Tells the index of one message. UPSERT: m must be committed; all recipients that changed are listed. */
struct index_change {
    enum index_kind kind;
    uint64_t id;
    struct msg *m;          /* UPSERT: borrowed until the call returns (what is needed is copied) */
    bool is_new;            /* UPSERT: no row exists yet: envelope and all recipients are inserted */
    bool was_deleted;       /* its rows may be among the deleted ones */
    bool on_hold, forced_expire;
    int64_t deleted_us;     /* TRASH */
    int64_t due_us;         /* earliest due of its recipients */
    bool delay_warned;
    const struct index_rcpt *rcpts;
    uint32_t rcpt_count;
};

struct index_mark {         /* what a flush covers; taken BEFORE the changes are collected */
    struct journal_pos journal;
    uint64_t results;
};
/* Result position first, then journal position (see spool_result_append). */
struct index_mark spool_index_mark(struct spool *s);

/* Every failure of SQLite in this process is logged with its place. Once, before the first spool; src borrowed for good. */
void index_log_errors(const struct log_src *src);

/* One transaction: all changes and the mark. cb runs on the indexer thread when it is durable in the index (status 0) or failed. */
void index_flush(struct index *ix, const struct index_change *c, size_t n, const struct index_mark *mark,
                 void (*cb)(void *arg, int status), void *arg);

/* The mark of the last flush that was committed. */
struct index_mark index_durable_mark(struct index *ix);

/*
 * Messages with due_us <= until_us, in order of (due_us, id) after the cursor, at most `limit`, not on hold; each
 * comes with one reference, envelope and recipient progress filled in (content not loaded, routes left empty; a message
 * whose sender was warned of the delay has ENV_NO_DELAY_WARNING). Returns the count;
 * -1 with *e on a database error.
 */
struct index_cursor { int64_t due_us; uint64_t id; };
int index_fetch_due(struct index *ix, int64_t until_us, struct index_cursor *cur, int limit, struct msg **out, struct err *e) MUST_CHECK;
/* One message by id with progress, whatever its state; NULL when not there. *on_hold may be NULL. */
struct msg *index_fetch(struct index *ix, uint64_t id, bool *on_hold, struct err *e) MUST_CHECK;
/* Every message (held ones too) with an id above after_id, in order of id, at most `limit`; like index_fetch_due() otherwise. */
int index_list(struct index *ix, uint64_t after_id, int limit, struct msg **out, bool *on_hold, struct err *e) MUST_CHECK;
/*
 * Makes the waiting messages that are not on hold due at due_us if they are due later: all of them, or those with a
 * recipient for this next hop. Runs behind the flushes handed over before it, in pieces, with other
 * changes in between; cb as in index_flush(), and before with status 1 whenever some more are due. A stop ends it early.
 */
void index_make_due(struct index *ix, int64_t due_us, const struct span *nexthop, void (*cb)(void *arg, int status), void *arg);
/* The same for what is to go by a transport. */
void index_make_due_transport(struct index *ix, int64_t due_us, struct span transport, void (*cb)(void *arg, int status), void *arg);
/* Fills in the routes that the rows of m's recipients have, for people: the scheduler finds its own. */
void index_fill_routes(struct index *ix, struct msg *m);

/* ---- deleted messages that can be restored ---- */
/* One of them, like index_fetch(); *deleted_us is when. NULL when not there. */
struct msg *index_fetch_deleted(struct index *ix, uint64_t id, int64_t *deleted_us, bool *on_hold, struct err *e) MUST_CHECK;
/* Ids of those deleted at or before until_us, at most limit; *next_us: when the first one after those was, INT64_MAX none. -1 with *e. */
int index_deleted_until(struct index *ix, int64_t until_us, uint64_t *ids, int limit, int64_t *next_us, struct err *e) MUST_CHECK;
/* They go for good: their rows, then their place in the journal and their large files. cb as in index_flush(). */
void index_purge(struct index *ix, const uint64_t *ids, size_t n, void (*cb)(void *arg, int status), void *arg);

/* How often a row was passed over because its record could not be read; it may be readable later. */
uint64_t index_passed_over(struct index *ix);
/* Messages on hold. */
int64_t index_hold_count(struct index *ix);
/* Earliest due time among messages not on hold; INT64_MAX when none. */
int64_t index_next_due_us(struct index *ix);
/* Messages in the index. */
int64_t index_count(struct index *ix);

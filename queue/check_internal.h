/* check_internal: what the parts of check share; one owner, no locks */
#pragma once
#include <sqlite3.h>
#include <uthash.h>
#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/span.h"
#include "queue/check.h"
#include "queue/index.h"
#include "queue/logfile.h"
#include "queue/record.h"

/* A row of the index, by place. */
struct check_row {
    uint64_t id;
    struct journal_pos pos;
    uint64_t size;
    uint32_t rcpts;
    bool is_large, is_found;
};

/* A recipient that is done. */
struct check_done {
    struct check_done *next;
    uint32_t rcpt;
    bool is_before_mark; /* the index claims to know it */
};

/* A message of which checkpoint, journal or results speak. */
struct check_msg {
    uint64_t id;
    struct check_done *done;
    uint32_t done_n, known_n; /* recipients done; of these the index must know */
    uint32_t rcpts;           /* when found */
    bool is_found;            /* a valid record, behind the checkpoint or where it says */
    bool in_checkpoint, is_deleted, is_lost; /* is_lost: its large file is gone */
    struct journal_pos pos;
    UT_hash_handle hh;
};

struct check_cut { /* a segment that is valid only up to here */
    struct check_cut *next;
    struct journal_pos at;
};

/* One finding of a comparison, kept until it is sure. */
struct check_doubt {
    struct check_doubt *next;
    struct check_finding f; /* texts in the arena */
};

struct check {
    const struct check_options *o;
    struct check_totals *t;
    struct arena *arena;
    struct err *e;
    /* the index */
    sqlite3 *db;
    bool has_index;
    struct index_mark mark;
    struct check_row *rows;   /* owned; by place */
    size_t row_n;
    /* the checkpoint */
    bool has_checkpoint;
    struct index_mark since;  /* its marks; zero without one */
    struct check_msg *msgs;   /* uthash by id */
    struct check_cut *cuts;
    uint64_t *generations;    /* owned; rising; segments that are there */
    size_t generation_n;
    uint64_t bytes_done, bytes_all;
    bool is_second;           /* a further round: only doubts count */
    struct check_doubt *doubts; /* of this round */
};

/* ---- check.c ---- */
bool check_is_cancelled(const struct check *c);
/* A finding about one file. */
void check_tell(struct check *c, enum check_kind k, const char *file, int64_t offset, uint64_t id, const char *advice,
                const char *fmt, ...) PRINTF_FMT(7, 8);
/* One that may pass by itself while a daemon runs. */
void check_doubt(struct check *c, enum check_kind k, const char *file, int64_t offset, uint64_t id, const char *advice,
                 const char *fmt, ...) PRINTF_FMT(7, 8);
void check_progress(struct check *c, const char *what, uint64_t more);
struct check_msg *check_msg_get(struct check *c, uint64_t id);
/* The queue ID in short form. */
const char *check_qid(struct check *c, uint64_t id);

/* ---- check_files.c ---- */
bool check_results(struct check *c);
bool check_journal(struct check *c);
void check_large_dir(struct check *c);

/* ---- check_index.c ---- */
void check_read_checkpoint(struct check *c);
void check_open_index(struct check *c);
void check_close_index(struct check *c);
/* The row at this place, or NULL. */
struct check_row *check_row_at(struct check *c, struct journal_pos pos);
void check_compare(struct check *c);

/*
 * check: verifies the files of a spool and compares them with each other
 *
 * Purpose    every frame's checksums in journal and result log, every large file against its record, the checkpoint, index.db's
 *            own structure; then journal and index both ways: each row has its record where it says, and what the
 *            journal and the results say is queued has a row. Reads only; nothing is mended.
 * Source     ours; posthouse-spool(5), posthouse-index(5)
 * Threads    the caller's
 * Errors     CHECK_FAILED: the directory is no spool, or cannot be read at all
 *
 * It works beside a running daemon too: what does not fit then may only be on its way, so comparisons that fail are made
 * again, and only what stays wrong is reported.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/base/attrs.h"
#include "common/base/err.h"

enum check_kind {
    CHECK_K_FORMAT,     /* the file "format" */
    CHECK_K_HEADER,     /* a journal or result file without a valid header */
    CHECK_K_DAMAGE,     /* bytes that are no record, with records behind them */
    CHECK_K_TORN,       /* note: the unfinished end that a power cut leaves */
    CHECK_K_UNREADABLE, /* the system cannot read it */
    CHECK_K_LARGE,      /* a large file is missing, or is not what its record says */
    CHECK_K_STRAY,      /* note: a large file that belongs to no message */
    CHECK_K_CHECKPOINT, /* not valid */
    CHECK_K_INDEX,      /* index.db cannot be used, or is not sound */
    CHECK_K_NO_RECORD,  /* a row whose record is not in the journal */
    CHECK_K_NO_ROW,     /* queued, but not in the index */
    CHECK_K_FINISHED,   /* finished, but in the index */
    CHECK_K_KEPT,       /* note: damaged bytes of earlier times in corrupt/ */
    CHECK_KINDS
};

struct check_finding {
    enum check_kind kind;
    bool is_note;        /* nothing is wrong */
    const char *file;    /* below the spool directory */
    int64_t offset;      /* -1: none */
    uint64_t id;         /* of a message; 0: none */
    const char *text;    /* what was found */
    const char *advice;  /* what to do; "" when nothing */
};

struct check_totals {
    uint64_t segments, result_files, large_files;
    uint64_t messages, admins, results; /* records that are sound */
    uint64_t rows;                      /* messages in the index */
    uint64_t problems, notes;
    bool is_running;                    /* a daemon uses the spool */
    long pid;
};

struct check_options {
    const char *dir;                 /* queue_directory */
    int64_t settle_ms;               /* how long a running daemon may take until its files agree */
    void (*found)(void *arg, const struct check_finding *f);
    /* What is being read, how much of how much (bytes, or 0 of 0). May be NULL. */
    void (*progress)(void *arg, const char *what, uint64_t done, uint64_t total);
    void *arg;
    const _Atomic bool *cancel;      /* may be NULL */
};

enum check_status { CHECK_CLEAN, CHECK_PROBLEMS, CHECK_FAILED, CHECK_CANCELLED };
enum check_status check_spool(const struct check_options *o, struct check_totals *t, struct err *e) MUST_CHECK;
/* "damage" and so on, for machines. */
const char *check_kind_name(enum check_kind k);

/*
 * table_file: the file behind a table, and whether it has changed
 *
 * Purpose    finds the file of a table (the text, or the database that was made from it, for types that read one), reads
 *            it under the lock that its writers take, and knows it again
 * Source     postmap(1); lmdb_table(5) "SYNCHRONIZATION"
 * Threads    one at a time (the thread that has the turn to look)
 * Errors     a writer holds the lock: TABLE_FILE_BUSY when the caller does not wait, else a failure after some seconds
 * Limits     a file is at most 4 GiB
 */
#pragma once
#include <sys/stat.h>
#include "common/base/buf.h"
#include "common/base/err.h"

struct table_file_state {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime, ctime;
    int error;       /* errno of stat(), 0 when it is there */
    bool is_young;   /* may change again without looking different */
};

struct table_file {
    const char *path;      /* borrowed: as the table's name says */
    const char *suffix;    /* borrowed: of the database file, ".lmdb"; NULL when the type reads the text only */
    char *database;        /* owned: path and suffix, or NULL */
    bool is_database;      /* what was read last was the database */
    struct table_file_state seen; /* when it was read last */
};

void table_file_init(struct table_file *f, const char *path, const char *suffix);
void table_file_free(struct table_file *f);
/* Is there another file, or has it changed, since table_file_read()? */
bool table_file_is_new(const struct table_file *f);

enum table_file_answer { TABLE_FILE_READ, TABLE_FILE_BUSY, TABLE_FILE_FAILED };
/* Appends the file to *out. *e says what is missing, and what was found instead. */
enum table_file_answer table_file_read(struct table_file *f, bool may_wait, struct buf *out, struct err *e) MUST_CHECK;
/* The database is older than the text it was made from. */
bool table_file_is_stale(const struct table_file *f);

/*
 * map_file: databases as posthousectl makes them
 *
 * Purpose    reads and writes the lmdb, cdb and sqlite files behind maps. A file is written whole beside the old one and takes
 *            its name when it is on disk, so a reader sees the old map or the new one.
 * Source     postmap(1); lmdb_table(5); posthousectl(8) "map"
 * Threads    one
 */
#pragma once
#include <sys/stat.h>
#include "daemon/cmd/map_rows.h"

struct map_type {
    const char *name;
    const char *suffix;    /* of the database: ".lmdb" */
    bool has_nul;          /* Postfix ends keys and values with a NUL by default */
    bool (*read)(const char *path, struct map_rows *r, struct err *e);
    /* path: a file that is not there, or is empty; must be on disk when it returns true */
    bool (*write)(const char *path, const struct map_rows *r, bool with_nul, struct err *e);
};

/* NULL when maps of that type cannot be made. */
const struct map_type *map_type_find(struct span name);

/* Writes path and its suffix. mode: of the new file. */
bool map_file_write(const struct map_type *t, const char *path, mode_t mode, bool with_nul, const struct map_rows *r,
                    struct err *e) MUST_CHECK;
/* Adds the rows of path and its suffix. *fd gets the file, locked against other writers until it is closed; -1 when there is none. */
bool map_file_read(const struct map_type *t, const char *path, struct map_rows *r, int *fd, struct err *e) MUST_CHECK;

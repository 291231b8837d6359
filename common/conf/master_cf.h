/*
 * master_cf: the lines of master.cf
 *
 * Purpose    service, type, flags, limits, program, arguments and -o overrides of each line. What becomes of a line
 *            (listener, transport, ...) is decided by conf_load().
 * Source     master(5); reference/wire-formats.md section 16
 * Threads    one owner while it is read; immutable after
 * Ownership  everything belongs to the arena
 * Errors     each in the report with the line; a wrong line is left out
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/arena.h"
#include "common/conf/conf_dict.h"

struct master_line {
    const char *name, *type;       /* as written */
    const char *column[6];         /* private, unprivileged, chroot, wakeup, maxproc, program: as written */
    int line;
    size_t argc;                   /* all arguments behind the program, braces removed */
    const char *const *argv;       /* NULL-terminated */
    const bool *braced;            /* argv[i] was written in { } */
    struct conf_dict *overrides;   /* of -o; freed by master_cf_free() */
    size_t first_plain;            /* index in argv behind the last option of ours (-o, -v, -D) */
    int verbose;                   /* number of -v */
    bool replaced;                 /* a later line has the same name and type */
    struct master_line *next;
};

enum { MASTER_PRIVATE, MASTER_UNPRIV, MASTER_CHROOT, MASTER_WAKEUP, MASTER_MAXPROC, MASTER_PROGRAM };

/* The list in file order. `file` must live as long as the arena. */
struct master_line *master_cf_read(struct arena *a, struct span text, const char *file, struct conf_report *report);
void master_cf_free(struct master_line **list);

/*
 * table: one lookup table, whatever its type
 *
 * Purpose    opens `type:name` and answers exact queries: found, none, or temporary failure. Which keys are tried for
 *            an address or a host is the business of maps.h. Files are watched: at most once a second a lookup looks
 *            whether the file changed, reads it anew and swaps it in; a broken file leaves the old content in place. Keys
 *            are compared without case where the type says so; a key that is no UTF-8 is in no table, unless TABLE_BYTES.
 * Source     DESIGN "Lookup tables"; DATABASE_README, postmap(1), and the *_table(5) pages for each type
 * Threads    table_open() and table_lookup(): any. The registry is shared by all snapshots of the process, so a table
 *            that a reload still names is the same table.
 * Locks      tables.registry (rank 60) guards the list of open tables and their counts;
 *            tables.content (rank 62) guards the pointer to a table's content, for the time of taking a reference.
 *            No lock is held while a content is searched, read or parsed.
 * Ownership  a table belongs to those who opened it: one table_close() for each table_open(). Values go to the caller's
 *            arena.
 * Errors     LOOKUP_TEMPFAIL with *e naming table and cause; never a silent "not found"
 * Limits     a table file is at most 4 GiB
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/arena.h"
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/span.h"

enum lookup { LOOKUP_FOUND, LOOKUP_NONE, LOOKUP_TEMPFAIL };

struct table;
struct table_registry;

/* The log is for what is found at run time, when no caller is there to be told; borrowed for life, may be NULL. */
struct table_registry *table_registry_new(const struct log_src *log);
struct table_registry *table_registry_ref(struct table_registry *r);
void table_registry_unref(struct table_registry **r);
/*
 * Tables that are opened from now on take from this snapshot what they need of main.cf: the settings of `ldap:NAME`, the
 * directory of sockets and of modules. The registry holds a reference until the next call.
 */
struct conf;
void table_registry_use_conf(struct table_registry *r, struct conf *c);

/* What a table has to say while it is opened: a line that is ignored, a duplicate, a file that is not there. */
typedef void table_note_fn(void *arg, bool is_error, const char *file, int line, const char *text);
struct table_notes {
    table_note_fn *fn; /* NULL: nobody listens */
    void *arg;
};

#define TABLE_ALIASES 1u  /* the file is written as aliases(5) says: `name: value, value` */
#define TABLE_NO_REFERENCES 2u /* a rule whose result has parts of the key in it ($1) is a mistake */
#define TABLE_BYTES 4u /* keys and values are any bytes: smtputf8_enable = no, header_checks and the like; else they are UTF-8 */
#define TABLE_KEEP_CASE 8u /* keys are not folded (posthousectl map -f) */

enum table_status {
    TABLE_OK,
    TABLE_BROKEN,       /* cannot be read now; lookups fail until it can */
    TABLE_UNAVAILABLE,  /* a type of Postfix that this program has not; lookups fail */
    TABLE_BAD,          /* no such type, or the text is no table: a mistake in the configuration; lookups fail */
};

/*
 * Never NULL. `spec` is `type:name`, `proxy:type:name` (the same table), or a name alone (type hash). *e says why the
 * status is not TABLE_OK.
 */
struct table *table_open(struct table_registry *r, struct span spec, unsigned flags, const struct table_notes *notes,
                         enum table_status *status, struct err *e) MUST_CHECK;
void table_close(struct table **t);
/* "type:name" as opened, without "proxy:". */
const char *table_name(const struct table *t);
/* Answers only keys that are there literally: false for regexp, pcre and cidr, which see no partial keys. */
bool table_is_fixed(const struct table *t);
/* A look-up may take as long as a server pleases: not for a thread that others wait for. */
bool table_may_wait(const struct table *t);

/* One row of a listing; false when no more are wanted. Valid during the call. */
typedef bool table_row_fn(void *arg, struct span key, struct span value);
/* Every row, in the order of the file. False with *e when the table cannot be read, or its type cannot list. */
bool table_each(struct table *t, table_row_fn *fn, void *arg, struct err *e) MUST_CHECK;

/* `value` may be NULL when only the fact matters; else it is copied into `a`. The value is never empty. */
enum lookup table_lookup(struct table *t, struct span key, struct arena *a, struct span *value, struct err *e) MUST_CHECK;

/* What was asked of a table since it was opened. */
struct table_counts {
    uint64_t hits, misses, errors; /* together: the lookups */
    uint64_t cached;               /* of them answered without asking the server */
    uint64_t asked_us;             /* time spent waiting for servers; 0 for tables on this machine */
    bool is_server;
};
/* Every open table, in the order of opening; fn must not open or close any. */
void table_registry_each(struct table_registry *r, void (*fn)(void *arg, const char *name, const struct table_counts *c),
                         void *arg);

/* The names of the types, for messages: "btree cdb cidr ..." */
const char *table_type_names(void);

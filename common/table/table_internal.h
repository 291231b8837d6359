/*
 * table_internal: what a table type is, for the files of this folder
 *
 * A type loads a content, which is immutable from then on and counted: readers keep the one they began with while a
 * newer one takes its place.
 */
#pragma once
#include <stdatomic.h>
#include "common/base/buf.h"
#include "common/table/table.h"

struct table_content;

struct table_ops {
    enum lookup (*find)(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                        struct err *e);
    void (*free)(struct table_content *c);
    /* NULL when the type cannot list its rows. Every row, until fn returns false; false with *e. */
    bool (*each)(const struct table_content *c, table_row_fn *fn, void *arg, struct err *e);
};

/* Its last reference frees it; NULL is nothing. */
void table_content_ref(struct table_content *c);
void table_content_unref(struct table_content *c);

/* First member of each type's own content. */
struct table_content {
    const struct table_ops *ops;
    atomic_uint refs;
    bool is_pattern;        /* tables of tables: all of them are of types with TT_PATTERN */
    bool may_wait;          /* tables of tables: one of them may wait */
};

/* What a type gets to load from. */
struct table_load {
    struct table_registry *registry;
    const char *spec;               /* "type:name", for messages */
    struct span name;               /* behind "type:" */
    struct buf *text;               /* TT_FILE: the file's bytes (the type may take the memory), else NULL */
    bool is_database;               /* text is the file with the type's suffix */
    unsigned flags;                 /* TABLE_ALIASES, ... */
    const struct table_notes *notes;
    bool strict;                    /* a line with a mistake fails the load instead of being left out (reload) */
    const char *queue_directory;    /* for relative paths of sockets; NULL: not known */
    const char *module_directory;   /* where loadable types are; NULL: none */
    bool *is_unavailable;           /* set by a failing load: this program has not got what the type needs */
};

enum {
    TT_FILE = 1,     /* the name is a file to read and watch, unless it begins with a brace */
    TT_FOLD = 2,     /* keys are compared without case */
    TT_PATTERN = 4,  /* see table_is_fixed() */
    TT_MISSING = 8,  /* Postfix has it, this program does not */
    TT_CHECKED = 16, /* values are known to be valid UTF-8 (unless TABLE_BYTES) */
    TT_SERVER = 32,  /* asks a server: timed, and its failures are logged */
    TT_WAITS = 128,  /* asks no server itself, but what it asks may (the users of the system) */
    TT_SETTINGS = 64, /* the text is "name = value" lines: a file if the name begins with / or a dot, else NAME_x of main.cf */
};

struct table_type {
    const char *name;
    unsigned flags;
    bool (*load)(const struct table_load *in, struct table_content **out, struct err *e);
    const char *suffix; /* of a database file that is read instead of the one that is named, or NULL */
    const char *const *settings; /* TT_SETTINGS: their names, ended by NULL */
};

/* The types, ordered by name; NULL when there is none. */
const struct table_type *table_type_find(struct span name);

bool table_lmdb_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_cdb_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_text_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_sqlite_load(const struct table_load *in, struct table_content **out, struct err *e);
extern const char *const table_sqlite_settings[];
bool table_inline_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_static_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_fail_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_environ_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_unix_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_regexp_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_pcre_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_cidr_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_union_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_pipe_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_debug_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_rand_load(const struct table_load *in, struct table_content **out, struct err *e);

/* common/table/net */
bool table_socketmap_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_tcp_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_memcache_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_ldap_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_mysql_load(const struct table_load *in, struct table_content **out, struct err *e);
bool table_pgsql_load(const struct table_load *in, struct table_content **out, struct err *e);
extern const char *const table_memcache_settings[], *const table_ldap_settings[], *const table_mysql_settings[],
    *const table_pgsql_settings[];

/* A mistake on a line: tells the notes, and when `strict` fills *e. Returns false when the load should stop. */
bool table_bad_line(const struct table_load *in, int line, struct err *e, const char *fmt, ...) PRINTF_FMT(4, 5);
/* Something that is odd and no mistake: tells the notes. */
void table_odd_line(const struct table_load *in, int line, const char *fmt, ...) PRINTF_FMT(3, 4);
/* Where the registry's owner wants to be told at run time; may be NULL. */
const struct log_src *table_registry_log(const struct table_registry *r);
/* For find functions: copies when the caller wants the value. */
enum lookup table_found(struct span value, struct arena *a, struct span *out);

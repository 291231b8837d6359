/*
 * conf_internal: the insides of a snapshot, for the files of this folder and `posthousectl conf`
 *
 * Threads    immutable after conf_load(), but for the counter
 */
#pragma once
#include <stdatomic.h>
#include "common/base/arena.h"
#include "common/conf/conf.h"
#include "common/conf/conf_scope.h"
#include "common/conf/params.h"

/* Everything a scope evaluates to. Services without overrides share one. */
struct conf_values {
    struct conf_scope scope;
    const char **text;        /* expanded, by row number; NULL for rows without a name */
    struct conf_dict *named;  /* expanded values of names that main.cf or -o define and no table knows */
    struct params *params;
    struct client_params *smtp, *lmtp;
    struct conf_values *next; /* all of a snapshot */
};

struct conf {
    atomic_uint refs;
    uint64_t generation;
    struct arena *arena;          /* owned: everything below but dictionaries and index */
    struct param_index *index;    /* owned */
    struct conf_dict *main;       /* owned */
    struct master_line *lines;    /* owned */
    struct conf_source source;
    struct conf_values *values;   /* list of all */
    struct conf_values *global;
    struct conf_service *services;
    struct conf_values **service_values; /* by service number */
    size_t service_count;
    const char *dir, *main_file, *master_file;
};

/* conf_load() that keeps a configuration with errors, so that it can be printed. NULL when a file cannot be read. */
struct conf *conf_load_any(const struct conf_options *o, struct conf_report *report) MUST_CHECK;

/* conf_values.c: evaluates a scope; findings go to the report. Never NULL. */
struct conf_values *conf_values_make(struct conf *c, const struct conf_scope *scope, struct conf_report *report);
void conf_values_free_all(struct conf_values **list);
/* Limits of one transport, from <transport>_X and default_X. */
void conf_transport_limits(struct conf *c, const struct conf_values *v, const char *transport,
                           struct transport_limits *out, struct conf_report *report);

/* conf_check.c: what Postfix refuses at start, and names that nobody knows. */
void conf_check_global(const struct conf *c, struct conf_report *report);
void conf_check_listener(const struct conf *c, const struct conf_service *svc, const struct conf_values *v,
                         struct conf_report *report);
void conf_check_names(const struct conf *c, struct conf_report *report);

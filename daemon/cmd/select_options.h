/*
 * select_options: ids and selection options on the command line of posthousectl queue
 *
 * Purpose    one parser for every queue command that takes a selection; values are checked here, with the words of
 *            queue/select.h, before anything is asked of the daemon
 * Source     posthousectl(8) "SELECTIONS"
 * Threads    one
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "common/base/attrs.h"
#include "daemon/cmd/posthousectl.h"

enum { /* options beside those of selections */
    SEL_JSON = 1,       /* -j */
    SEL_DRY_RUN = 2,    /* -n, --dry-run */
    SEL_VERBOSE = 4,    /* -v */
    SEL_FINAL = 8,      /* --final */
    SEL_SITE = 16,      /* -s NEXTHOP: --destination */
};

struct select_args {
    json_t *select;     /* owned: object of options, each a list of texts; empty when none was given */
    json_t *ids;        /* owned: array of texts as given; with options they are in `select` too */
    bool all, is_stdin; /* ALL; - */
    bool json, dry_run, verbose, final;
};

/*
 * Options, then ids, "-" or ALL, from argv[first] on as getopt has permuted them; `skip` words before them are left to the caller
 * (argv[optind - skip] and so on). 0, or EX_USAGE after telling what is wrong.
 */
int select_args_parse(struct select_args *a, int argc, char **argv, unsigned accepted, int skip) MUST_CHECK;
void select_args_free(struct select_args *a);
/* Appends the ids of standard input, one a line, when "-" was given. What cannot be one is told and left out. */
void select_args_read_stdin(struct select_args *a);
/* Nothing says which messages. */
bool select_args_is_empty(const struct select_args *a);
/* Those texts that can be queue ids; the others are told: no message has them. A new array. */
json_t *select_ids_told(const json_t *ids);
/* Calls fn with `ids` (texts), `size` at a time, until it returns another status than 0, which is returned. */
int select_each_batch(const json_t *ids, size_t size, int (*fn)(void *arg, json_t *batch), void *arg) MUST_CHECK;
/* Some option was given. */
bool select_args_has_options(const struct select_args *a);
/* Appends a value to an option. */
void select_args_add(struct select_args *a, const char *name, const char *value);
/* Asks the daemon which messages these are. A new array of ids, or NULL with *status after telling why. */
json_t *select_ids(struct ctl *ctl, json_t *select, const char *of, int *status) MUST_CHECK;

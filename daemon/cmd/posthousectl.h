/*
 * posthousectl: what its subcommands share
 *
 * Purpose    finds the daemon of a configuration directory and reports failures in one way
 * Source     posthousectl(8)
 * Threads    one
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "common/base/attrs.h"
#include "common/conf/conf.h"
#include "daemon/cmd/ctl_client.h"

struct ctl {
    const char *dir;     /* -c */
    struct conf *conf;   /* counted; read when first needed */
    struct ctl_conn conn;
};

typedef int ctl_subcommand(struct ctl *ctl, int argc, char **argv);
ctl_subcommand ctl_cmd_queue, ctl_cmd_status, ctl_cmd_reload, ctl_cmd_stop, ctl_cmd_check, ctl_cmd_explain, ctl_cmd_restrictions, ctl_cmd_map, ctl_cmd_tables, ctl_cmd_verify;
/* The program was called by a name that is `map` alone: postmap or postalias. */
bool ctl_is_map_name(const char *program);
/* Subcommands of queue; argv[0] is the verb. */
ctl_subcommand ctl_queue_cmd_list, ctl_queue_cmd_show, ctl_queue_cmd_cat, ctl_queue_cmd_flush, ctl_queue_cmd_change, ctl_queue_cmd_deleted;
ctl_subcommand ctl_queue_cmd_export, ctl_queue_cmd_import; /* cmd_export.c */
ctl_subcommand ctl_queue_cmd_sql, ctl_queue_cmd_stats;    /* cmd_sql.c, cmd_stats.c */
ctl_subcommand ctl_queue_cmd_pause, ctl_queue_cmd_resume; /* cmd_pause.c */
ctl_subcommand ctl_queue_cmd_check, ctl_queue_cmd_compact, ctl_queue_cmd_rebuild; /* cmd_spool.c */

struct queue_offline;
struct select_args;
/* Connects, or opens the files and says so when the daemon does not run (*off is then not NULL). 0, or the exit status after telling why. */
int ctl_queue_open(struct ctl *ctl, struct queue_offline **off) MUST_CHECK;
/* The ids that were given, or that are selected; NULL with *status after telling why. A new reference. */
json_t *ctl_queue_ids(struct ctl *ctl, struct queue_offline *off, struct select_args *a, int *status) MUST_CHECK;
/* The configuration, also one with errors; NULL (told on standard error) when the files cannot be read. Borrowed. */
const struct conf *ctl_config(struct ctl *ctl);
/* Connects once. 0, or the exit status after telling why; EX_UNAVAILABLE when the daemon does not run (quiet_down: untold). */
int ctl_open(struct ctl *ctl, bool quiet_down) MUST_CHECK;
/* Tells on standard error: "posthousectl: ...". */
void ctl_complain(const char *fmt, ...) PRINTF_FMT(1, 2);
/* Gives each line of the answer before the last one to fn; told when it fails. */
int ctl_answers(struct ctl *ctl, const char *op, void (*fn)(void *arg, const json_t *j), void *arg) MUST_CHECK;
/* ctl_request() and ctl_finish() for requests whose answer is the last line alone; told when it fails. */
int ctl_simple(struct ctl *ctl, json_t *request, json_t **last) MUST_CHECK;

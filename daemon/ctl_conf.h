/*
 * ctl_conf: `posthousectl conf` and the configuration part of `posthousectl check`
 *
 * Purpose    prints and edits main.cf and master.cf as postconf(1) does, and lists what is wrong with them. Works on
 *            the files; no daemon need run.
 * Source     postconf(1) options -d -e -f -h -H -j -n -o -x -X -# -M -F -P
 * Threads    one; reads the files, replaces them atomically (temporary file, fsync, rename, fsync of the directory)
 * Errors     exit status: 0 done, 1 something was wrong (told on *err), 64 usage
 */
#pragma once
#include <stdbool.h>
#include <stdio.h>
#include "common/base/attrs.h"

struct conf;

/* posthousectl conf ARGS: argv[0] is "conf". Uses standard output and standard error. */
int ctl_conf(const char *dir, int argc, char **argv);
/* The same with other streams. */
int ctl_conf_to(const char *dir, int argc, char **argv, FILE *out, FILE *err);
/*
 * posthousectl check: prints each finding as "FILE, line N: error: TEXT" on `out`, then which settings are not in effect
 * in this version and which master.cf lines are not served. Settings that mean nothing here are only counted, unless
 * `verbose`; a setting that repeats the default is not mentioned. Returns 1 when there are errors, else 0 and, when `conf` is not NULL, the
 * snapshot in *conf (conf_unref() it), so that the caller can go on with tables and ports.
 */
int ctl_check_conf(const char *dir, FILE *out, bool verbose, struct conf **conf);

/*
 * conf_status: settings that change nothing in this version
 *
 * Purpose    what `posthousectl check` and the daemon's start tell of settings that are not in effect yet, or have no meaning
 *            here; a setting that repeats the default is left out
 * Source     param_status.def
 * Threads    any with a reference on the snapshot
 */
#pragma once
#include "common/conf/conf.h"
#include "common/conf/param_table.h"

/* One setting of main.cf or of a master.cf -o; everything belongs to the snapshot or is static. */
struct conf_idle_setting {
    const char *file;
    int line;
    const char *name;
    enum param_class class;  /* PARAM_CLASS_NOT_YET or PARAM_CLASS_INERT */
    const char *why;
};

/* In the order of the files, main.cf first. */
void conf_each_idle_setting(const struct conf *c, void (*fn)(void *arg, const struct conf_idle_setting *s), void *arg);

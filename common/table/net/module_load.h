/*
 * module_load: finds the module of a table type
 *
 * Purpose    dlopen(3) of DIRECTORY/TYPE.so, checked to be made for this daemon
 * Threads    any
 * Ownership  a module stays loaded until the process ends: its library may have threads and exit functions of its own
 */
#pragma once
#include "common/table/modules/module.h"
#include "common/table/table_config.h"
#include "common/table/table_internal.h"

/* NULL with *e; *in->is_unavailable is then set. */
const struct table_module *module_load(const struct table_load *in, const char *type, struct err *e) MUST_CHECK;
/* The settings of a table for its module. */
struct module_settings module_settings_of(const struct table_config *c);

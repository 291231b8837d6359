/*
 * module_open: a connection by a module's driver, within a deadline
 *
 * Purpose    the libraries look up host names and talk TLS before they look at the time limit they were given: what they do beyond it
 *            is left behind on a thread of its own, and what comes of it is closed there
 * Threads    any
 * Ownership  a thread that is left behind holds the table's content
 */
#pragma once
#include "common/table/modules/module.h"
#include "common/table/table_internal.h"

struct module_opening {
    struct table_content *content;      /* whose settings they are */
    struct module_settings settings;
    const struct table_sql_driver *sql; /* one of the two */
    const struct table_ldap_driver *ldap;
    const char *host;                   /* sql; lives as long as the content */
    int64_t timeout_ms;
};
/* NULL with *why. */
void *module_open(const struct module_opening *o, struct module_why *why);

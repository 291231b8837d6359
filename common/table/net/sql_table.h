/*
 * sql_table: tables in an SQL database, whatever the database
 *
 * Purpose    what mysql and pgsql tables have in common: settings, hosts and fail-over, the query with everything of the key
 *            quoted, results and their limit
 * Source     mysql_table(5), pgsql_table(5)
 * Threads    lookups from any thread
 * Locks      those of the pool
 * Errors     no host answers, the query fails, too many results: temporary
 * Limits     SQL_CONNECTIONS at a time; a lookup ends within SQL_LOOKUP_MS
 */
#pragma once
#include "common/table/modules/module.h"
#include "common/table/table_internal.h"

#define SQL_CONNECTIONS 10
#define SQL_LOOKUP_MS   60000

/* known: the names of settings. For tests, and for the load functions of these types, which find the driver in its module. */
bool sql_table_make(const struct table_load *in, const char *const *known, const struct table_sql_driver *driver,
                    struct table_content **out, struct err *e) MUST_CHECK;

/*
 * ldap_table: tables in a directory
 *
 * Purpose    the question with everything of the key quoted; what an entry says, entries that it refers to, results and limits
 * Source     ldap_table(5)
 * Threads    lookups from any thread
 * Locks      those of the pool
 * Errors     no server, a search that fails, a limit that is passed: temporary
 * Limits     LDAP_CONNECTIONS at a time; a search ends within `timeout`, a lookup within LDAP_LOOKUP_MS
 */
#pragma once
#include "common/table/modules/module.h"
#include "common/table/table_internal.h"

#define LDAP_CONNECTIONS 10
#define LDAP_LOOKUP_MS   100000

/* For tests, and for the load function, which finds the driver in its module. */
bool ldap_table_make(const struct table_load *in, const struct table_ldap_driver *driver, struct table_content **out,
                     struct err *e) MUST_CHECK;

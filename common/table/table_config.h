/*
 * table_config: the `name = value` file behind sqlite, mysql, pgsql, ldap and memcache tables
 *
 * Purpose    reads such a file once and answers by name. Values are taken literally: no $name is expanded in them.
 * Source     sqlite_table(5), mysql_table(5), ldap_table(5) ...: "the same format as main.cf"
 * Threads    immutable once read
 * Ownership  owns copies of all it hands out
 */
#pragma once
#include <stdint.h>
#include "common/table/table_internal.h"

struct table_config;

/*
 * Reads in->text. known: the names that mean something to the type, ended by NULL; others are told as a note (in a
 * strict load they are no error: Postfix ignores them). NULL with *e naming file and line when a line is no `name = value`.
 * The text is the file that the table's name says, or made from NAME_x of main.cf (TT_SETTINGS).
 */
struct table_config *table_config_read(const struct table_load *in, const char *const *known, struct err *e) MUST_CHECK;
void table_config_free(struct table_config **c);

/* The value, or `def` when the name is not there. The last line of a name counts. */
const char *table_config_text(const struct table_config *c, const char *name, const char *def);
/* False with *e when the value is no number, or out of range. */
bool table_config_int(const struct table_config *c, const char *name, int64_t def, int64_t min, int64_t max, int64_t *out,
                      struct err *e) MUST_CHECK;
bool table_config_bool(const struct table_config *c, const char *name, bool def, bool *out, struct err *e) MUST_CHECK;

/*
 * table_query: the %-templates of tables that ask a database
 *
 * Purpose    what `query` and `result_format` of sqlite, mysql, pgsql, ldap and memcache tables mean: the parts of the key and
 *            of the value that they name, when a key is not asked for at all, how several results become one
 * Source     sqlite_table(5), mysql_table(5), ldap_table(5): "query", "result_format", "domain", "expansion_limit"
 * Threads    immutable once made; expanding: any thread
 * Ownership  keeps the templates and the compiled domain list
 */
#pragma once
#include <stdint.h>
#include "common/base/buf.h"
#include "common/table/table_internal.h"

struct table_query;

/*
 * query: what is asked, with %s %u %d %S %U %D %1-%9 %%. result_format: NULL for "%s". domain: a list of names and tables,
 * NULL or "" when every key is asked. NULL with *e when a template has another % sequence.
 */
struct table_query *table_query_new(const struct table_load *in, const char *query, const char *result_format,
                                    const char *domain, struct err *e) MUST_CHECK;
void table_query_free(struct table_query **q);

/*
 * LOOKUP_FOUND: this key may be asked for. LOOKUP_NONE: it has not the parts that the templates need, or is not in a domain
 * of the list. LOOKUP_TEMPFAIL with *e: a table of the list failed.
 */
enum lookup table_query_admits(const struct table_query *q, struct span key, struct err *e) MUST_CHECK;

/* Appends what a part of the key becomes inside the query. False with *e when the bytes cannot be put there. */
typedef bool table_quote_fn(void *arg, struct span part, struct buf *out, struct err *e);
/* The query for a key that is admitted; quote NULL: as it is. False with *e. */
bool table_query_expand(const struct table_query *q, struct span key, table_quote_fn *quote, void *arg, struct buf *out,
                        struct err *e) MUST_CHECK;
/* The same for any other template of the type (%u, %d and %1-%9 must then also be in the query). */
bool table_query_expand_other(const char *text, struct span key, table_quote_fn *quote, void *arg, struct buf *out,
                              struct err *e) MUST_CHECK;
/* One part of the key: what the letter behind % stands for ("s", "u", "d" in either case, digits). Borrows. */
struct span table_query_part(char letter, struct span key);

/*
 * Appends one result of the database, through result_format, behind a comma when *out has something already. False when
 * the result is left out: empty, or without the part that the format takes from it.
 */
bool table_query_result(const struct table_query *q, struct span key, struct span result, struct buf *out);

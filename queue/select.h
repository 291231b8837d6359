/*
 * select: which messages of the queue an operator means
 *
 * Purpose    the selection language of "posthousectl queue": options with values, turned into one SQL statement with bound
 *            parameters over index.db. The commands check options with it, the daemon compiles and runs them.
 * Source     ours; posthousectl(8) "SELECTIONS"
 * Threads    one owner
 * Errors     *e says what was expected
 * Limits     SELECT_VALUES_MAX, SELECT_OPTIONS_MAX
 *
 * Different options must all hold; of an option that is given more than once one value must hold (of `where`: all). What is
 * said of recipients must hold for one and the same recipient that is still waiting.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"
#include "queue/query.h"

#define SELECT_VALUES_MAX 1000 /* ids, and */
#define SELECT_OPTIONS_MAX 200 /* values of options: SQLite limits the depth of an expression */

struct selection;

struct selection *selection_new(void);
void selection_free(struct selection **s);
/* The options, in the order of the manual; NULL ends. `value` is what the value is called in usage texts. */
struct selection_option { const char *name, *value, *help; };
const struct selection_option *selection_options(void);

/* Adds an option by its name ("sender"), or a queue id ("id"). False with *e: what was expected. */
bool selection_add(struct selection *s, const char *name, struct span value, struct err *e) MUST_CHECK;
/* Nothing was added: it would mean every message. */
bool selection_is_empty(const struct selection *s);

/* Where to look: what waits, or what was deleted and can be restored. */
enum selection_of { SELECT_QUEUE, SELECT_DELETED };

/*
 * A statement with the columns of `columns` ("m.id", m being the table of messages), a row for each selected message, in order
 * of id. now_us: ages are counted from it. A wrong `where` is told with the columns that it may use.
 */
enum query_status selection_prepare(const struct selection *s, struct query *q, enum selection_of of, const char *columns,
                                    int64_t now_us, sqlite3_stmt **out, struct err *e) MUST_CHECK;

/* Makes is_active(ID) known to the SQL of q, which selections with a state need: true for these (copied; NULL: none). */
bool selection_set_active(struct query *q, const uint64_t *ids, size_t n, struct err *e) MUST_CHECK;

/* Does "destination" mean this next hop: itself, or a host with brackets and port added? Patterns mean none. */
bool select_is_destination(struct span value, struct span nexthop);
/* "90", "15m", "2h", "3d", "1w" in seconds; "500", "10k", "2M", "1g" in bytes. */
bool select_parse_age(struct span text, int64_t *seconds) MUST_CHECK;
bool select_parse_size(struct span text, int64_t *bytes) MUST_CHECK;

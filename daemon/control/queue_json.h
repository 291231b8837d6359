/*
 * queue_json: a queued message as JSON
 *
 * Purpose    the one description of a queued message that the control socket, posthousectl -j and the offline commands
 *            share. The plain form has exactly the members of postqueue -j; the detailed form adds more behind them.
 * Source     reference/wire-formats.md section 9; postqueue(1)
 * Threads    any
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "common/base/span.h"
#include "queue/sched.h"

/* A JSON string of any bytes: what is not UTF-8 becomes '?'. Never NULL. */
json_t *queue_json_text(struct span s);
/* A new reference. detail: envelope, progress of every recipient. Without it recipients that are done are left out. */
json_t *queue_json(const struct msg *m, enum sched_where where, bool long_ids, bool detail);

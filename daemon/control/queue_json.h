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
#include "queue/query.h"
#include "queue/sched.h"
#include "queue/select.h"

/* A JSON string of any bytes: what is not UTF-8 becomes '?'. Never NULL. */
json_t *queue_json_text(struct span s);
/* A new reference. detail: envelope, progress of every recipient. Without it recipients that are done are left out. */
json_t *queue_json(const struct msg *m, enum sched_where where, bool long_ids, bool detail);
/* Members "wait", "wait_reason", "wait_until" for each recipient of a detailed object. */
void queue_json_add_waits(json_t *o, const struct msg *m, const struct sched_wait *w);
/* Member "history" for each recipient that was tried, from the index. */
void queue_json_add_history(json_t *o, const struct msg *m, struct query *q);

/* What queue_deleted_json() wants of a selection among the deleted ones. */
#define DELETED_COLUMNS "m.id, m.deleted_us, m.arrival_us, m.size, m.sender," \
                        " (SELECT json_group_array(r.address) FROM deleted_recipients r WHERE r.message = m.id AND r.state <> 2)"
json_t *queue_deleted_json(sqlite3_stmt *st, bool long_ids, int64_t keep_s);

/* Adds the options of a JSON object, each with a text or a list of texts, to a selection. False with *e. */
bool queue_json_selection(struct selection *s, json_t *select, struct err *e) MUST_CHECK;

/*
 * ctl_select: selections in requests
 *
 * Purpose    what the commands that take a selection share: reading it, running it, and the query that sees the whole queue
 * Source     daemon/control/README.md; queue/select.h
 * Threads    the client's own
 */
#pragma once
#include "daemon/control/control_internal.h"
#include "queue/query.h"
#include "queue/select.h"

/* That of the request's member "select"; NULL after the client was told what is wrong. */
struct selection *ctl_selection(struct ctl_client *cl, json_t *request) MUST_CHECK;
/* A query of the index, up_to_date with what is in memory when asked, limited in time, that knows what is active. NULL with *e. */
struct query *ctl_query(struct ctl_client *cl, bool up_to_date, struct err *e) MUST_CHECK;
/* What a program should exit with. */
int ctl_query_exit(enum query_status k);
/* The ids it selects, in order; free(). False after the client was told. */
bool ctl_select_ids(struct ctl_client *cl, const struct selection *s, enum selection_of of, uint64_t **ids, size_t *n) MUST_CHECK;

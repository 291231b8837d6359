/*
 * queue_offline: the queue as the files have it, while no daemon runs
 *
 * Purpose    lets what only reads work without the daemon: spool and scheduler are opened read-only and without threads,
 *            so journal, results and index are read exactly as a start would read them
 * Source     DESIGN "The spool"
 * Threads    one
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "common/base/err.h"
#include "common/base/span.h"
#include "common/conf/conf.h"

struct queue_offline;
struct query;

/* Makes a process of root's the owner of this directory, for good. False with *e. */
bool queue_offline_become_owner(const char *dir, struct err *e) MUST_CHECK;
/* NULL with *e. c is borrowed until close. A process of root's becomes the spool's owner, and stays that. */
struct queue_offline *queue_offline_open(struct conf *c, struct err *e) MUST_CHECK;
/* NULL is fine; sets NULL. */
void queue_offline_close(struct queue_offline **q);
/* fn gets a borrowed queue_json() for each message; stops when it returns false. */
void queue_offline_list(struct queue_offline *q, bool (*fn)(void *arg, json_t *m), void *arg);
/* The same in SQL; to be closed before q. NULL with *e. */
struct query *queue_offline_query(struct queue_offline *q, struct err *e) MUST_CHECK;
/* A new reference, or NULL. */
json_t *queue_offline_find(struct queue_offline *q, const char *id, bool detail);
/* The ids that a selection (queue_json_selection()) means, as texts, in a new array; NULL with *status and *e. */
json_t *queue_offline_select(struct queue_offline *q, json_t *select, int *status, struct err *e);
/* fn gets a borrowed queue_deleted_json() for each deleted message that a selection means. 0, or an exit status with *e. */
int queue_offline_deleted(struct queue_offline *q, json_t *select, bool (*fn)(void *arg, json_t *m), void *arg, struct err *e) MUST_CHECK;
/* envelope_encode() of it, or NULL. */
json_t *queue_offline_envelope(struct queue_offline *q, const char *id);
/* 0, or an exit status with *e. */
int queue_offline_cat(struct queue_offline *q, const char *id, bool (*fn)(void *arg, struct span bytes), void *arg,
                      struct err *e) MUST_CHECK;

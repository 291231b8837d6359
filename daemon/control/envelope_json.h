/*
 * envelope_json: the envelope of a queued message as JSON, so that it can be put back exactly
 *
 * Purpose    what queue export writes before a message, and queue import reads
 * Source     ours; posthousectl(8) "THE ENVELOPE OF AN EXPORTED MESSAGE"
 * Threads    any
 * Errors     envelope_decode() checks everything: the file comes from whoever wrote it
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "queue/msg.h"

#define ENVELOPE_VERSION 1
#define ENVELOPE_RCPTS_MAX 100000

/* Recipients that are done are left out. A new reference. */
json_t *envelope_encode(const struct msg *m, bool on_hold, bool long_ids);
/* Fills a new message but for id, content and Message-ID of the content. False with *e. */
bool envelope_decode(const json_t *j, struct msg *m, struct err *e) MUST_CHECK;

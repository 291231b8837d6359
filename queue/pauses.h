/*
 * pauses: which destinations and transports an administrator has paused, in memory and in a file
 *
 * Purpose    the list that the scheduler asks before it tries anything, and its survival of a restart
 * Source     ours; posthousectl(8) "queue pause"; the file is described in posthouse-spool(5)
 * Threads    values; whoever owns the list guards it
 * Errors     false with *e: the file cannot be read or written; the list is then as it was
 *
 * The file has a line for each: "destination" or "transport", the time in microseconds since 1970, and the name, which
 * takes the rest of the line. It is written beside and renamed.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"

#define PAUSES_MAX 10000
#define PAUSE_NAME_MAX 1024

enum pause_kind { PAUSE_DESTINATION, PAUSE_TRANSPORT };

struct pause {
    enum pause_kind kind;
    int64_t since_us;   /* wall clock */
    char *name;         /* owned */
};

struct pauses {
    struct pause *v;    /* owned */
    size_t n;
};

void pauses_free(struct pauses *p);
struct pauses pauses_copy(const struct pauses *p);
/* Names are compared without case. NULL: it is not there. */
const struct pause *pauses_find(const struct pauses *p, enum pause_kind k, struct span name);
/* The pause that holds up what goes by this transport to this next hop, or NULL. */
const struct pause *pauses_match(const struct pauses *p, struct span transport, struct span nexthop);
void pauses_add(struct pauses *p, enum pause_kind k, struct span name, int64_t since_us);
/* False when it was not there. */
bool pauses_remove(struct pauses *p, enum pause_kind k, struct span name);
/* A name that can be kept: not empty, not too long, no control characters. */
bool pause_name_is_valid(struct span name);
const char *pause_kind_name(enum pause_kind k);

/* A file that is not there is an empty list. Lines that make no sense are passed over; *bad counts them. */
bool pauses_load(struct pauses *p, const char *path, unsigned *bad, struct err *e) MUST_CHECK;
/* Durable when it returns. */
bool pauses_save(const struct pauses *p, const char *path, struct err *e) MUST_CHECK;

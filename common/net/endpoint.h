/*
 * endpoint: the place of a server, "inet:host:port" or "unix:path", and a connection to it
 *
 * Purpose    parse once, connect often: every address of the host is tried within one deadline
 * Source     postconf(5) for the forms; socketmap_table(5), tcp_table(5), memcache_table(5)
 * Threads    immutable after endpoint_parse(); endpoint_dial() from any thread, blocks
 * Limits     a host name is looked up by the C library, whose own time limits apply (resolv.conf(5)) before the deadline is
 *            looked at again
 */
#pragma once
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"
#include "common/net/dest.h"

struct endpoint {
    char *text;         /* owned; as written */
    char *path;         /* owned; unix: the whole path, else NULL */
    struct dest dest;   /* spans of text */
};

/* "inet:host:port" or "unix:path"; a relative path is below `directory`. False with *e. */
bool endpoint_parse(struct span text, const char *directory, struct endpoint *out, struct err *e) MUST_CHECK;
void endpoint_free(struct endpoint *p);
/* A blocking socket, or -1 with *e, which does not name the endpoint. */
int endpoint_dial(const struct endpoint *p, int64_t deadline_ms, struct err *e) MUST_CHECK;

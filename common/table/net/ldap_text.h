/*
 * ldap_text: texts inside LDAP questions, and URLs inside LDAP answers
 *
 * Source     RFC 4514 (names; once 2253), RFC 4515 (filters; once 2254), RFC 4516 (URLs; once 2255); ldap_table(5)
 * Threads    values; any thread
 */
#pragma once
#include <stdbool.h>
#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/table/modules/module.h"

/* A part of a key inside a filter, or inside a distinguished name: nothing in it has a meaning of its own there. */
void ldap_quote_filter(struct span part, struct buf *out);
void ldap_quote_name(struct span part, struct buf *out);

struct ldap_url {
    const char *base, *filter;       /* in the arena; filter is never empty */
    const char *const *attributes;   /* in the arena, ended by NULL; NULL: all */
    enum ldap_scope scope;
};
/* ldap:, ldaps: or ldapi: in front */
bool ldap_is_url(struct span s);
/* The host is passed over: it is asked where the first question was. False when it is no URL of this kind. */
bool ldap_url_parse(struct span s, struct arena *a, struct ldap_url *out) MUST_CHECK;

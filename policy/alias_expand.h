/*
 * alias_expand: one name looked up in the alias files
 *
 * Purpose    the addresses behind a local name, those of :include: files among them, and the owner of a mailing list. Commands
 *            and files as destinations are refused with a log line.
 * Source     aliases(5), local(8); postconf(5) alias_maps, owner_request_special, expand_owner_alias,
 *            propagate_unmatched_extensions (alias, include), recipient_delimiter
 * Threads    any; results in the caller's arena. Reading an :include: file waits for the disk
 * Limits     an :include: file of ALIAS_INCLUDE_MAX bytes, ALIAS_INCLUDE_DEPTH of them inside each other
 */
#pragma once
#include "common/base/arena.h"
#include "common/base/err.h"
#include "policy/route.h"

#define ALIAS_INCLUDE_MAX   (4 * 1024 * 1024)
#define ALIAS_INCLUDE_DEPTH 20

struct alias_members {
    struct span *list;   /* internal form, completed */
    size_t count;
    bool has_agents;     /* commands or files were among them, too: not done here */
    struct span owner;   /* the envelope sender that mail for the list gets; empty: it has no owner */
};

/*
 * NONE: no alias, or not a name that alias files are asked for. TEMPFAIL: a table or an :include: file that cannot be read, or
 * should not (a relative path, no regular file, writable by anybody, too large): half a list is never taken for all of it.
 */
enum lookup alias_expand(const struct policy *p, struct span addr, struct arena *a, struct alias_members *out, struct err *e) MUST_CHECK;

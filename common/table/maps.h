/*
 * maps: a list of tables, and the keys that are tried in them
 *
 * Purpose    the value of a *_maps parameter. The tables are asked in their order for one key before the next key is
 *            tried. All query semantics live here: address forms, extensions, parent domains.
 * Source     postconf(5) of each parameter; virtual(5), canonical(5), transport(5); DESIGN "Lookup tables"
 * Threads    immutable once opened; any thread
 * Ownership  holds its tables open
 */
#pragma once
#include "common/table/table.h"

struct maps;

/* Opens every table of the list (a name alone is type hash). Never NULL; an empty list finds nothing. */
struct maps *maps_open(struct table_registry *r, struct span list, unsigned (*flags_of)(void *arg, struct span spec),
                       void (*problem)(void *arg, struct span spec, enum table_status status, const struct err *e),
                       const struct table_notes *notes, void *arg) MUST_CHECK;
void maps_close(struct maps **m);
static inline bool maps_is_set(const struct maps *m) { return m != NULL; }
bool maps_is_empty(const struct maps *m);
/* One of its tables may wait for a server. */
bool maps_may_wait(const struct maps *m);

/* Who wants to know of each look-up: hung on the arena that takes the values (arena_set_watch). */
struct lookup_watch {
    void (*fn)(void *arg, const char *table, struct span key, enum lookup got, struct span value);
    void *arg;
};

/* One exact query in each table. fixed_only: not in tables of patterns, which see whole addresses alone. */
enum lookup maps_lookup(const struct maps *m, struct span key, bool fixed_only, struct arena *a, struct span *value,
                        struct err *e) MUST_CHECK;

enum {
    MAPS_LOCAL_PART = 1,   /* user+ext and user alone, for addresses in a domain of ours (the caller knows) */
    MAPS_AT_DOMAIN = 2,    /* @domain */
    MAPS_DOMAIN = 4,       /* domain */
    MAPS_PARENT = 8,       /* with MAPS_DOMAIN: parent domains, written like subdomains (parent_domain_matches_...) */
    MAPS_DOT_PARENT = 16,  /* with MAPS_DOMAIN: parent domains, written with a dot in front */
    MAPS_USER_AT = 32,     /* user@ */
};

/* An address taken apart; all parts borrow. */
struct maps_addr {
    struct span full;    /* local@domain, or local alone */
    struct span local;   /* before the last @ */
    struct span domain;  /* behind it, may be empty */
    size_t base_n;       /* length of the user part of local; local.n when there is no extension */
};
/* delimiters: recipient_delimiter, "" for none; keeps_lists: owner_request_special. */
struct maps_addr maps_addr_of(struct span address, const char *delimiters, bool keeps_lists);
/* Where the extension begins (its delimiter), or local.n: not for double-bounce and its like; keeps_lists: nor for owner-x and x-request. */
size_t maps_user_length(struct span local, const char *delimiters, bool keeps_lists);

/*
 * Tries user+ext@domain, user@domain, then the forms that `forms` names. *ext gets the extension with its delimiter when
 * the key that matched did not contain it, else empty. value and ext may be NULL.
 */
enum lookup maps_lookup_address(const struct maps *m, const struct maps_addr *addr, unsigned forms, struct arena *a,
                                struct span *value, struct span *ext, struct err *e) MUST_CHECK;
/* domain, then its parents as MAPS_PARENT or MAPS_DOT_PARENT say. fixed_only_parents: patterns see the name itself only. */
enum lookup maps_lookup_domain(const struct maps *m, struct span domain, unsigned forms, bool fixed_only,
                               struct arena *a, struct span *value, struct err *e) MUST_CHECK;

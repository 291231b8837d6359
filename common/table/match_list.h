/*
 * match_list: lists of names, domains, addresses and networks that answer "is it in there?"
 *
 * Purpose    mydestination, relay_domains, mynetworks and their like: literal names, `.domain`, networks, `!pattern`,
 *            `/file`, `type:table`. Compiled once: runs of literal names become a hash set, runs of networks an array.
 * Source     postconf(5) mynetworks, mydestination, relay_domains, parent_domain_matches_subdomains, debug_peer_list
 * Threads    immutable once compiled; any thread
 * Errors     three answers: a table that fails, or a /file that could not be read, is LOOKUP_TEMPFAIL
 */
#pragma once
#include "common/net/ipaddr.h"
#include "common/table/table.h"

enum match_kind {
    MATCH_NAMES,    /* whole names only */
    MATCH_DOMAINS,  /* names and domains above them */
    MATCH_HOSTS,    /* MATCH_DOMAINS and addresses and networks */
};

struct match_list;

struct match_options {
    struct table_registry *registry;
    struct span list;
    enum match_kind kind;
    bool parents;        /* `example.com` also matches what is below it; else `.example.com` does that */
    const char *title;   /* the parameter's name, for messages */
    struct table_notes notes;
    /* told of tables that cannot be opened, files that cannot be read and items that make no sense */
    void (*problem)(void *arg, enum table_status status, const char *text);
    void *arg;           /* for problem */
};
struct match_list *match_list_compile(const struct match_options *o) MUST_CHECK;
void match_list_free(struct match_list **l);
bool match_list_is_empty(const struct match_list *l);
/* One of its tables may wait for a server. */
bool match_list_may_wait(const struct match_list *l);

/* name: any case. Not for MATCH_HOSTS. */
enum lookup match_list_name(const struct match_list *l, struct span name, struct err *e) MUST_CHECK;
/* MATCH_HOSTS: by name (may be empty) or address. addr_text is the plain form; addr may have no family. */
enum lookup match_list_host(const struct match_list *l, struct span name, const struct ip_addr *addr,
                            struct span addr_text, struct err *e) MUST_CHECK;

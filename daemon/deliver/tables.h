/*
 * tables: the lookup tables that delivery agents ask
 *
 * Purpose    opens a *_maps value or a list of hosts on first use and keeps it. Two snapshots that name the same tables share them; what no
 *            snapshot names any more stays open until the end, which costs a few hundred bytes.
 * Source     ours; common/table
 * Threads    any
 * Locks      DELIVER_TABLES (58) guards the list, not held while a table is opened
 * Ownership  maps and lists are borrowed and valid until deliver_tables_free()
 */
#pragma once
#include "common/base/log.h"
#include "common/table/maps.h"
#include "common/table/match_list.h"

struct deliver_tables;
/* Takes a reference of the registry. */
struct deliver_tables *deliver_tables_new(struct table_registry *r, const struct log_src *log);
void deliver_tables_free(struct deliver_tables **t);
/* The tables of a list as a parameter gives it; never NULL, an empty list finds nothing. */
const struct maps *deliver_tables_get(struct deliver_tables *t, const char *list);
/* The same, but no part of a key gets into a value: for paths and users, which senders must have no hand in. */
const struct maps *deliver_tables_get_literal(struct deliver_tables *t, const char *list);
/* The same, asked for lines of a message or texts of records, whatever bytes they have: *_checks, *_dns_reply_filter. */
const struct maps *deliver_tables_get_bytes(struct deliver_tables *t, const char *list);
/* A list of names, addresses and networks; `parents`: parent_domain_matches_subdomains has the parameter. */
const struct match_list *deliver_tables_list(struct deliver_tables *t, const char *parameter, const char *list, bool parents);

/*
 * conf_scope: what a name means for one service
 *
 * Purpose    looks a name up in the order -o override, stress, main.cf, computed, table default, and expands it.
 *            The global scope has no overrides.
 * Source     postconf(5), master(5), STRESS_README
 * Threads    any, once the source is complete
 * Ownership  borrows everything
 */
#pragma once
#include <stdbool.h>
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/conf/conf_dict.h"
#include "common/conf/master_cf.h"
#include "common/conf/param_table.h"

/* What all scopes of a snapshot share. */
struct conf_source {
    const struct conf_dict *main;       /* main.cf */
    const struct param_index *index;
    const struct master_line *services; /* for <transport>_SUFFIX names */
    const char *dir;                    /* config_directory; NULL when the text did not come from a directory */
    const char *hostname;               /* of the system */
    const char *mydomain;               /* default of mydomain; NULL while it is being found out */
    const char *mynetworks;             /* default of mynetworks */
    const char *process_id;
};

struct conf_scope {
    const struct conf_source *src;
    const struct conf_dict *overrides; /* -o; NULL in the global scope */
    const char *service_name;          /* first column of master.cf; "" in the global scope */
    const char *process_name;          /* program */
    bool stress;
};

/* Unexpanded text, or NULL when nobody defined the name. */
const char *conf_scope_raw(const struct conf_scope *s, struct span name);
/* The parameter that <transport>_SUFFIX, for a service of master.cf, falls back to; NULL when `name` is no such name. */
const char *conf_scope_fallback(const struct conf_source *src, struct span name);
/* The i-th name whose text is found out, not read from a table; NULL behind the last one. */
const char *conf_scope_computed(size_t i);
/* Where the name is defined; NULL when it is not in any file. */
const struct conf_entry *conf_scope_entry(const struct conf_scope *s, struct span name);
/* Appends the expanded text of a name (raw parameters stay unexpanded); false with *e when it cannot be expanded. */
bool conf_scope_expand(const struct conf_scope *s, struct span name, struct buf *out, struct err *e) MUST_CHECK;
/* The same for a row of the tables that has a name. */
bool conf_scope_expand_row(const struct conf_scope *s, const struct param_row *row, struct buf *out, struct err *e) MUST_CHECK;
/* The same for any text. */
bool conf_scope_expand_text(const struct conf_scope *s, const char *text, struct buf *out, struct err *e) MUST_CHECK;
/* Fills mydomain and mynetworks of *src (texts go to the arena). */
void conf_source_compute(struct conf_source *src, struct arena *a, struct conf_report *report);

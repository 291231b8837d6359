/*
 * param_table: what is known of each parameter, from the .def tables
 *
 * Purpose    one row a name: kind, default, unit, range, status, documentation and the field that holds its value.
 *            Parser, range checks, `posthousectl conf`, the ledger and the manual page all read these rows.
 * Source     params.def, client_params.def, transport_params.def, other_params.def
 * Threads    rows are constant; an index is immutable after param_index_new()
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/span.h"

enum param_kind {
    PARAM_BOOL, PARAM_INT, PARAM_BYTES, PARAM_TIME, PARAM_STR, PARAM_NAME, PARAM_RAW,
    PARAM_LIST, PARAM_TABLES, PARAM_RESTR, PARAM_ENUM, PARAM_FEEDBACK
};

enum param_status {
#define STATUS(id, class, text) PARAM_STATUS_##id,
#include "common/conf/param_status.def"
#undef STATUS
};

enum param_class { PARAM_CLASS_EFFECTIVE, PARAM_CLASS_NOT_YET, PARAM_CLASS_INERT };

/* Which struct holds the value. */
enum param_home {
    PARAM_HOME_PARAMS,    /* struct params */
    PARAM_HOME_SMTP,      /* struct client_params of an smtp transport */
    PARAM_HOME_LMTP,      /* struct client_params of an lmtp transport */
    PARAM_HOME_TRANSPORT, /* struct transport_limits; the name is the default_ one */
    PARAM_HOME_NONE,      /* nobody reads it, or it is computed */
};

struct param_row {
    const char *name;
    enum param_kind kind;
    enum param_home home;
    enum param_status status;
    bool ours;           /* not a Postfix name */
    char unit;           /* PARAM_TIME: of a bare number */
    size_t offset;       /* of the field in its home */
    const char *def;     /* default, unexpanded */
    int64_t min, max;    /* PARAM_TIME: milliseconds */
    const char *words;   /* PARAM_ENUM, and PARAM_LIST with a closed set of items: a|b|c; else NULL */
    const char *suffix;  /* PARAM_HOME_TRANSPORT: the parameter is also <transport>_SUFFIX */
    const char *doc;
};

/* Rows by number, in the order of the tables. */
size_t param_count(void);
const struct param_row *param_row(size_t i);

enum param_class param_status_class(enum param_status s);
const char *param_status_text(enum param_status s);
const char *param_kind_name(enum param_kind k);

/* Rows by name. */
struct param_index;
struct param_index *param_index_new(void);
void param_index_free(struct param_index **ix);
/* Number of names (rows without a name are left out). */
size_t param_index_count(const struct param_index *ix);
/* Row number, or -1. */
ptrdiff_t param_find(const struct param_index *ix, struct span name);
/* Row number of the i-th name in alphabetical order. */
size_t param_sorted(const struct param_index *ix, size_t i);
/* The row of the <transport>_SUFFIX family that `name` belongs to, for a transport of that name; NULL when none. */
const struct param_row *param_transport_row(struct span name, struct span transport);
/* The i-th of these families (its suffix is .suffix); NULL behind the last one. */
const struct param_row *param_transport_family(size_t i);
/* The known name with the smallest edit distance, or NULL when nothing is near. */
const char *param_nearest(struct span name);

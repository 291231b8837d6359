/* conf_ignore: the one place where the environment variable is read. */
#include "common/conf/conf_ignore.h"

#ifdef POSTHOUSE_DEBUG
#include <stdlib.h>
#include "common/conf/param_table.h"

/* <transport>_SUFFIX of that row, and of no row with a longer suffix. */
static bool is_transport_form(struct span name, const struct param_row *row)
{
    const struct param_row *best = NULL;
    for (size_t i = 0; i < param_count(); i++) {
        const struct param_row *r = param_row(i);
        struct span suffix = r->suffix != NULL ? span_cstr(r->suffix) : span_of(NULL, 0);
        if (r->name != NULL && span_eq(name, span_cstr(r->name)))
            return false;
        if (suffix.n > 0 && name.n > suffix.n + 1 && name.p[name.n - suffix.n - 1] == '_' &&
            span_eq(span_from(name, name.n - suffix.n), suffix) &&
            (best == NULL || suffix.n > strlen(best->suffix)))
            best = r;
    }
    return best == row;
}

bool conf_ignored(struct span name)
{
    const char *ignored = getenv("POSTHOUSE_IGNORE_PARAMETER");
    if (ignored == NULL || *ignored == '\0')
        return false;
    if (span_eq(name, span_cstr(ignored)))
        return true;
    for (size_t i = 0; i < param_count(); i++) {
        const struct param_row *row = param_row(i);
        if (row->suffix != NULL && strcmp(row->name, ignored) == 0)
            return is_transport_form(name, row);
    }
    return false;
}
#else
typedef int conf_ignore_has_nothing_to_do; /* a translation unit must declare something */
#endif

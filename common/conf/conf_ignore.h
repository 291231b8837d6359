/*
 * conf_ignore: a parameter whose settings count for nothing, to see which test misses it
 *
 * Purpose    in builds made with --enable-debug (or a sanitizer) the environment variable
 *            POSTHOUSE_IGNORE_PARAMETER=NAME drops every setting of NAME as it is read: in main.cf, by -o in master.cf,
 *            and, for a parameter that transports have under a name of their own (default_X, or X itself), each
 *            <transport>_X. Its default holds. `make mutate` runs the tests that name a parameter with it.
 *            Other builds never look at the variable.
 * Threads    any, while nobody changes the environment
 */
#pragma once
#include <stdbool.h>
#include "common/base/span.h"

#ifdef POSTHOUSE_DEBUG
/* Is this the name of a setting that must be dropped? */
bool conf_ignored(struct span name);
#else
static inline bool conf_ignored(struct span name)
{
    (void)name;
    return false;
}
#endif

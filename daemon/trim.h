/*
 * trim: what start-up or a reload needed and daily work does not, given back
 *
 * Purpose    a parsed configuration leaves holes in the heap, and the code that parses it, opens the spool and migrates
 *            the index stays mapped though it does not run again, as do the constants that only it uses; together that is as much as an idle hub needs
 * Threads    any; threads may run. Nothing is lost: free heap pages, and clean pages of program code that come back from
 *            the page cache by a minor fault when they run again
 * Errors     none told: without /proc only the heap is trimmed
 */
#pragma once
#include <stddef.h>

#define TRIM_CONSTANTS_MAX 64

/* Mappings of constants: of a file, never written to, there from the first moment of the process to its last. */
struct trim_constants {
    struct { void *at; size_t bytes; } v[TRIM_CONSTANTS_MAX];
    unsigned count;
};

/*
 * Finds them. Only as the first thing in main(): what is loaded later may be unloaded again, and while a library is being
 * loaded its mappings are not what they seem.
 */
void trim_find_constants(struct trim_constants *c);
/* c may be NULL. */
void trim_memory(const struct trim_constants *c);

/*
 * trim: what start-up or a reload needed and daily work does not, given back
 *
 * Purpose    a parsed configuration leaves holes in the heap, and the code that parses it, opens the spool and migrates
 *            the index stays mapped though it does not run again; together that is as much as an idle hub needs
 * Threads    any; threads may run. Nothing is lost: free heap pages, and clean pages of program code that come back from
 *            the page cache by a minor fault when they run again
 * Errors     none told: without /proc only the heap is trimmed
 */
#pragma once

void trim_memory(void);

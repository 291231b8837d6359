/*
 * trim_watch: gives memory back to the system after a peak
 *
 * Purpose    malloc keeps what was freed between blocks that are still used: after an attack or a large mailing tens of
 *            megabytes, for ever. Looks now and then how large the process is, and asks malloc to let go when it grew.
 *            (trim.h is for what start-up leaves behind.)
 * Threads    main
 */
#pragma once
#include <stdint.h>

#define TRIM_LOOK_MS 5000
#define TRIM_GROWTH_BYTES (INT64_C(4) << 20)

#define TRIM_WAIT_MAX_MS 40000

struct trim_watch {
    int64_t looked_ms;
    int64_t low_bytes;    /* the smallest size so far */
    int64_t wait_ms;      /* after a trim that did not help */
    int64_t next_ms;
};

/* Call about every TRIM_LOOK_MS; more often does nothing. */
void trim_watch_look(struct trim_watch *t);

/*
 * own_policy: what policy has to say of the mail that this system writes itself
 *
 * Purpose    address mapping and content inspection are policy's, which queue/ does not know: the daemon joins them by these
 *            callbacks (daemon/own_expand.h, daemon/own_inspect.h)
 * Source     cleanup(8); postconf(5) internal_mail_filter_classes
 * Threads    any; all of them may wait for a table, so no lock is held
 */
#pragma once
#include "queue/spool.h"

enum own_class { OWN_BOUNCE, OWN_NOTIFY }; /* of internal_mail_filter_classes */

enum own_verdict {
    OWN_KEEP,
    OWN_DISCARD,  /* nobody gets it */
    OWN_LATER,    /* a table does not answer */
    OWN_REFUSED,
    OWN_UNWRITTEN, /* the spool failed */
};

struct own_inspection;

struct own_policy { /* zero: no policy at all */
    /* Fills *out ([*count], at least one, in a) with the final recipients. False: not known now, and e says why. NULL: no mapping. */
    bool (*expand)(void *arg, struct span rcpt, struct arena *a, struct span **out, size_t *count, struct err *e);
    /*
     * Begins to look at the content of m, whose envelope is complete; what becomes of it goes to w. id is the queue ID as logs
     * show it. NULL: nobody wants to see it.
     */
    struct own_inspection *(*inspect)(void *arg, enum own_class cls, struct msg *m, const char *id, struct content_writer *w);
    /* False: w failed. */
    bool (*inspect_add)(struct own_inspection *x, struct span bytes);
    /*
     * The end of the content: does to the envelope what was asked for (hold, other recipients, a filter). e says why it is to be
     * tried again or refused; the envelope is as it was then. Releases x.
     */
    enum own_verdict (*inspect_end)(struct own_inspection **x, struct err *e);
    void *arg;
};

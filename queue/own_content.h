/*
 * own_content: the content of a message that this system writes itself, on its way into the spool
 *
 * Purpose    straight to the spool, or through those who inspect it first (internal_mail_filter_classes, header rewriting)
 * Source     cleanup(8)
 * Threads    one owner; may wait for a table
 * Ownership  own_content_end() releases everything
 */
#pragma once
#include "queue/own_mail.h"
#include "queue/own_policy.h"

struct own_content {
    struct content_writer *w; /* owned */
    const struct own_policy *policy;
    struct own_inspection *x; /* owned; NULL: nobody looks */
    bool has_failed;
};

/* x NULL: nobody is to look at it. The envelope of m is complete. */
void own_content_begin(struct own_content *c, const struct own_policy *x, enum own_class cls, const struct own_mail *own,
                       struct spool *s, struct msg *m);
/* False: the spool failed. */
bool own_content_put(struct own_content *c, struct span bytes);
/* OWN_KEEP: the content is in m. Otherwise nothing is left of it; e says why for OWN_LATER and OWN_REFUSED. */
enum own_verdict own_content_end(struct own_content *c, struct msg *m, struct err *e) MUST_CHECK;

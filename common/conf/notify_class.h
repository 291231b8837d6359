/*
 * notify_class: the kinds of trouble that notify_classes names
 *
 * Purpose    one vocabulary for whoever notices trouble and for whoever writes to the postmaster
 * Source     postconf(5) notify_classes; "bounce" implies "2bounce"
 * Threads    any; values
 */
#pragma once
#include "common/base/attrs.h"

enum notify_class {
    NOTIFY_CLASS_BOUNCE,
    NOTIFY_CLASS_2BOUNCE,
    NOTIFY_CLASS_DATA,     /* a table was not available */
    NOTIFY_CLASS_DELAY,
    NOTIFY_CLASS_POLICY,   /* a client was refused */
    NOTIFY_CLASS_PROTOCOL, /* a client or server broke the protocol */
    NOTIFY_CLASS_RESOURCE, /* we lack something: disk space, descriptors */
    NOTIFY_CLASS_SOFTWARE, /* damage, and what should not happen */
    NOTIFY_CLASSES
};
#define NOTIFY_BIT(c) (1u << (c))

/* The set of a list; words that are no class are passed over. */
unsigned notify_mask(const char *list);
const char *notify_class_word(enum notify_class c);

/*
 * maildir: one message into one Maildir
 *
 * Purpose    writes tmp/, flushes, renames into new/, flushes the directory: when it returns MAILDIR_OK the message is
 *            on the disk under its final name. Makes the Maildir when it is missing.
 * Source     the Maildir convention (D. J. Bernstein); virtual(8)
 * Threads    any; changes the file-system identity of the calling thread for the duration of the call
 * Errors     the err says what failed; the status whether it may work later
 * Limits     path components beneath the base; symbolic links that lead out of the base are not followed
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"

enum maildir_status {
    MAILDIR_OK,
    MAILDIR_NO_SPACE,  /* disk full: 4.3.1 */
    MAILDIR_NO_QUOTA,  /* 4.2.2 */
    MAILDIR_FAILED,    /* anything else: 4.2.0 */
};

struct maildir_job {
    const char *base;        /* directory that everything stays beneath; "" means "/" */
    struct span path;        /* of the Maildir below base, with or without slashes at its ends */
    const char *host;        /* part of the file's name */
    uint64_t id;             /* of the message, part of the file's name */
    uint32_t serial;         /* of the recipient, likewise */
    struct span headers;     /* put in front, LF line ends */
    struct span content;     /* CRLF line ends, written as LF */
    bool may_be_repeat;      /* the message was recovered after a crash: look whether it is there already (maildir_seen.h) */
    bool has_owner;          /* act as uid and gid (needs privilege) */
    uid_t uid;
    gid_t gid;
};

enum maildir_status maildir_deliver(const struct maildir_job *j, struct err *e) MUST_CHECK;
/* This thread may act as other users: root, or CAP_SETUID and CAP_SETGID. */
bool maildir_can_switch_user(void);

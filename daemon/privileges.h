/*
 * privileges: from root to mail_owner
 *
 * Purpose    started as root, the daemon binds its ports, makes its directories and becomes mail_owner, keeping only the
 *            capabilities that delivery to several users' Maildirs needs; started as anybody else it stays who it is
 * Source     postconf(5) mail_owner; capabilities(7); DESIGN "Security"
 * Threads    main, before any other thread starts
 */
#pragma once
#include <stdbool.h>
#include <sys/types.h>
#include "common/base/attrs.h"
#include "common/base/err.h"

struct owner {
    bool is_root;   /* we were started as root, uid and gid are mail_owner's */
    uid_t uid;
    gid_t gid;
    const char *name; /* borrowed from the configuration */
};

/* Finds mail_owner when we are root. False with *e: no such user, or it is root itself. */
bool owner_find(const char *mail_owner, struct owner *out, struct err *e) MUST_CHECK;
/*
 * Makes `path` (parents too), the value of `parameter`, with this mode; a new one belongs to the owner. One that exists is left
 * as it is. False with *e when it is not absolute, not a directory, or not the owner's.
 */
bool owner_make_dir(const struct owner *o, const char *parameter, const char *path, mode_t mode, struct err *e) MUST_CHECK;
/*
 * Becomes the owner, for good. keep_setuid: keep CAP_SETUID and CAP_SETGID (virtual_uid_maps, virtual_gid_maps), which
 * delivery threads use one by one. Nothing to do when not root.
 */
bool owner_become(const struct owner *o, bool keep_setuid, struct err *e) MUST_CHECK;

/*
 * The capability sets are set by the system call itself: two 32-bit words, well described in capabilities(7), do not
 * need a library.
 */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "daemon/privileges.h"

bool owner_find(const char *mail_owner, struct owner *out, struct err *e)
{
    struct passwd pw, *found = NULL;
    char space[4096];
    *out = (struct owner){ .uid = geteuid(), .gid = getegid(), .name = mail_owner };
    if (geteuid() != 0)
        return true;
    int rc = getpwnam_r(mail_owner, &pw, space, sizeof space, &found);
    if (rc != 0) {
        err_set_sys(e, rc, "mail_owner: looking up user %s", mail_owner);
        return false;
    }
    if (found == NULL) {
        err_set(e, "mail_owner: there is no user named \"%s\": create it (adduser --system --group %s) or name another "
                   "in main.cf", mail_owner, mail_owner);
        return false;
    }
    if (pw.pw_uid == 0) {
        err_set(e, "mail_owner: \"%s\" is the superuser: name an ordinary user that owns nothing else", mail_owner);
        return false;
    }
    out->is_root = true;
    out->uid = pw.pw_uid;
    out->gid = pw.pw_gid;
    return true;
}

static bool is_fit(const struct owner *o, const char *parameter, const char *path, const struct stat *st, struct err *e)
{
    if (!S_ISDIR(st->st_mode))
        err_set(e, "%s: %s exists and is not a directory", parameter, path);
    else if (st->st_uid != o->uid)
        err_set(e, "%s: %s is owned by uid %u, but this process runs as uid %u: change mail_owner, or the owner with chown -R",
                parameter, path, (unsigned)st->st_uid, (unsigned)o->uid);
    else
        return true;
    return false;
}

bool owner_make_dir(const struct owner *o, const char *parameter, const char *path, mode_t mode, struct err *e)
{
    struct stat st;
    if (path[0] != '/') {
        err_set(e, "%s: \"%s\" is not an absolute path", parameter, path);
        return false;
    }
    if (stat(path, &st) == 0)
        return is_fit(o, parameter, path, &st, e);
    char *copy = xstrdup(path);
    char *slash = strrchr(copy, '/');
    bool ok = true;
    if (slash != NULL && slash != copy) {
        *slash = '\0';
        ok = io_make_dirs(copy, 0755);
    }
    free(copy);
    ok = ok && (mkdir(path, mode) == 0 || errno == EEXIST);
    if (ok && o->is_root)
        ok = chown(path, o->uid, o->gid) == 0;
    if (!ok)
        err_set_sys(e, errno, "making directory %s", path);
    return ok;
}

static bool set_capabilities(uint32_t bits)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = { { .effective = bits, .permitted = bits } };
    return syscall(SYS_capset, &head, data) == 0;
}

bool owner_become(const struct owner *o, bool keep_setuid, struct err *e)
{
    if (!o->is_root)
        return true;
    const char *what = "prctl";
    bool ok = prctl(PR_SET_KEEPCAPS, keep_setuid ? 1 : 0) == 0;
    if (ok) {
        what = "initgroups";
        ok = initgroups(o->name, o->gid) == 0;
    }
    if (ok) {
        what = "setresgid";
        ok = setresgid(o->gid, o->gid, o->gid) == 0;
    }
    if (ok) {
        what = "setresuid";
        ok = setresuid(o->uid, o->uid, o->uid) == 0;
    }
    if (ok) {
        what = "capset";
        ok = set_capabilities(keep_setuid ? 1u << CAP_SETUID | 1u << CAP_SETGID : 0);
    }
    if (ok) {
        what = "prctl";
        ok = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    }
    if (!ok)
        err_set_sys(e, errno, "becoming user %s: %s", o->name, what);
    return ok;
}

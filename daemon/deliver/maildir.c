/*
 * Everything is opened relative to the base with openat2() and RESOLVE_BENEATH, so neither ".." nor a symbolic link in
 * the path leads out of it; tmp and new may not be links at all.
 *
 * Name: SECONDS.M<microseconds>P<pid>Q<queue number>R<recipient>, in new/ with V<device>I<inode> added, then the host. The
 * queue number is unique on this spool and the microseconds differ between attempts.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "daemon/deliver/maildir.h"
#include "daemon/deliver/maildir_seen.h"

#define WRITE_BYTES (64 * 1024)
#define NAME_BYTES  400

/* ---- identity ---- */

bool maildir_can_switch_user(void)
{
    struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct d[2] = { { 0 } };
    uint32_t need = 1u << CAP_SETUID | 1u << CAP_SETGID;
    return syscall(SYS_capget, &h, d) == 0 && (d[0].effective & need) == need;
}

/* Both calls return the identity before them; -1 changes nothing. */
static bool become(uid_t uid, gid_t gid)
{
    setfsgid(gid);
    setfsuid(uid);
    return (uid_t)setfsuid((uid_t)-1) == uid && (gid_t)setfsgid((gid_t)-1) == gid;
}

/* ---- directories ---- */

static int open_below(int dir, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC), .mode = mode, .resolve = RESOLVE_BENEATH | resolve };
    return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

/* Makes the directories of path one by one. */
static bool make_below(int base, const char *path)
{
    char *copy = xstrdup(path);
    bool ok = true;
    for (char *s = copy;; s++) {
        if (*s != '/' && *s != '\0')
            continue;
        char c = *s;
        *s = '\0';
        char *slash = strrchr(copy, '/');
        int parent = base;
        if (slash) {
            *slash = '\0';
            parent = open_below(base, copy, O_PATH | O_DIRECTORY, 0, 0);
            *slash = '/';
        }
        ok = parent >= 0 && (mkdirat(parent, slash ? slash + 1 : copy, 0700) == 0 || errno == EEXIST);
        int saved = errno;
        if (slash && parent >= 0)
            close(parent);
        errno = saved;
        *s = c;
        if (!ok || c == '\0')
            break;
    }
    int saved = errno;
    free(copy);
    errno = saved;
    return ok;
}

static int open_base(const char *base)
{
    const char *path = *base ? base : "/";
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && io_make_dirs(path, 0700))
        fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd;
}

/* path without empty components and slashes at its ends; false when it is empty or has "." or ".." in it */
static bool clean_path(struct span path, char *out, size_t size)
{
    struct span rest = path, part;
    size_t n = 0;
    while (span_next_token(&rest, "/", &part)) {
        if (span_eq(part, SPAN_LIT(".")) || span_eq(part, SPAN_LIT("..")) || memchr(part.p, '\0', part.n) ||
            n + part.n + 2 > size)
            return false;
        if (n > 0)
            out[n++] = '/';
        memcpy(out + n, part.p, part.n);
        n += part.n;
    }
    out[n] = '\0';
    return n > 0;
}

/* ---- the file ---- */

struct writer {
    int fd;
    char *p;     /* owned, WRITE_BYTES */
    size_t n;
};

static bool flush(struct writer *w)
{
    bool ok = io_write_all(w->fd, w->p, w->n);
    w->n = 0;
    return ok;
}

static bool put(struct writer *w, const char *p, size_t n)
{
    while (n > 0) {
        size_t room = WRITE_BYTES - w->n, k = n < room ? n : room;
        memcpy(w->p + w->n, p, k);
        w->n += k;
        p += k;
        n -= k;
        if (w->n == WRITE_BYTES && !flush(w))
            return false;
    }
    return true;
}

/* CRLF becomes LF; other CR stay. A last line without an end gets one. */
static bool put_content(struct writer *w, struct span content)
{
    const char *p = content.p, *end = content.p + content.n;
    while (p < end) {
        const char *cr = memchr(p, '\r', (size_t)(end - p));
        const char *stop = cr ? cr : end;
        if (!put(w, p, (size_t)(stop - p)))
            return false;
        if (cr && !(cr + 1 < end && cr[1] == '\n') && !put(w, "\r", 1))
            return false;
        p = cr ? cr + 1 : end;
    }
    return content.n == 0 || content.p[content.n - 1] == '\n' || put(w, "\n", 1);
}

static bool write_message(int fd, const struct maildir_job *j)
{
    struct writer w = { .fd = fd, .p = xmalloc(WRITE_BYTES) };
    bool ok = put(&w, j->headers.p, j->headers.n) && put_content(&w, j->content) && flush(&w) && fsync(fd) == 0;
    int saved = errno;
    free(w.p);
    errno = saved;
    return ok;
}

/* '/' and ':' mean something in Maildir names. */
static void put_host(char *out, size_t size, const char *host)
{
    size_t n = 0;
    for (; *host && n + 5 < size; host++) {
        if (*host == '/' || *host == ':')
            n += (size_t)snprintf(out + n, size - n, "\\%03o", (unsigned char)*host);
        else
            out[n++] = *host;
    }
    out[n] = '\0';
}

static enum maildir_status failed(struct err *e, int sys, const char *what, const struct maildir_job *j, const char *name)
{
    err_set_sys(e, sys, "%s %s/%.*s%s%s", what, j->base, SPAN_ARG(j->path),
                j->path.n > 0 && j->path.p[j->path.n - 1] == '/' ? "" : "/", name);
    return sys == EDQUOT ? MAILDIR_NO_QUOTA : sys == ENOSPC ? MAILDIR_NO_SPACE : MAILDIR_FAILED;
}

/* The final names: the one that a repeated delivery would have again, and one that nothing else has. */
struct names {
    char host[200];
    char tmp[NAME_BYTES], final[NAME_BYTES], other[NAME_BYTES];
};

static void make_names(struct names *n, const struct maildir_job *j)
{
    int64_t now = clock_wall_us();
    put_host(n->host, sizeof n->host, j->host);
    snprintf(n->tmp, sizeof n->tmp, "tmp/%lld.M%06lldP%ldQ%llxR%u.%s", (long long)(now / 1000000), (long long)(now % 1000000),
             (long)getpid(), (unsigned long long)j->id, j->serial, n->host);
    snprintf(n->final, sizeof n->final, "%llu.M%06lluQ%llxR%u.%s", (unsigned long long)(j->id / 1000000),
             (unsigned long long)(j->id % 1000000), (unsigned long long)j->id, j->serial, n->host);
}

/* From tmp/ to new/; returns the name there. The expected name is free unless another hub uses the Maildir, too: then device and inode tell them apart. */
static const char *move_to_new(int dir, int new_dir, int fd, struct names *n, const struct maildir_job *j)
{
    struct stat st;
    if (renameat2(dir, n->tmp, new_dir, n->final, RENAME_NOREPLACE) == 0)
        return n->final;
    if (errno != EEXIST || fstat(fd, &st) != 0)
        return NULL;
    snprintf(n->other, sizeof n->other, "%llu.M%06lluQ%llxR%uV%llxI%llx.%s", (unsigned long long)(j->id / 1000000),
             (unsigned long long)(j->id % 1000000), (unsigned long long)j->id, j->serial, (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino, n->host);
    return renameat2(dir, n->tmp, new_dir, n->other, RENAME_NOREPLACE) == 0 ? n->other : NULL;
}

/* open_below() of something in the Maildir, whose three directories are made when they are missing. */
static int open_in(int dir, const char *path, int flags, mode_t mode)
{
    int fd = open_below(dir, path, flags, mode, RESOLVE_NO_SYMLINKS);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    (void)!mkdirat(dir, "tmp", 0700);
    (void)!mkdirat(dir, "new", 0700);
    (void)!mkdirat(dir, "cur", 0700);
    return open_below(dir, path, flags, mode, RESOLVE_NO_SYMLINKS);
}

/* Fills tmp/NAME and moves it to new/. */
static enum maildir_status deliver_into(int dir, const struct maildir_job *j, struct err *e)
{
    struct names n;
    make_names(&n, j);
    int fd = open_in(dir, n.tmp, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return failed(e, errno, "create maildir file", j, n.tmp);
    enum maildir_status status = MAILDIR_OK;
    const char *in_new = NULL;
    bool is_repeat = j->may_be_repeat && maildir_has_already(dir, n.final, j->headers, j->content);
    /* Another thread may be making the same Maildir: tmp/ is there before new/. */
    int new_dir = open_in(dir, "new", O_RDONLY | O_DIRECTORY, 0);
    if (is_repeat)
        (void)!unlinkat(dir, n.tmp, 0);
    else if (!write_message(fd, j))
        status = failed(e, errno, "write maildir file", j, n.tmp);
    else if (new_dir < 0 || (in_new = move_to_new(dir, new_dir, fd, &n, j)) == NULL)
        status = failed(e, errno, "rename maildir file to", j, "new");
    if (status == MAILDIR_OK && (new_dir < 0 || fsync(new_dir) != 0)) {
        status = failed(e, errno, "fsync maildir directory", j, "new");
        /* It will be tried again: the reader must not find it twice. Who has it already keeps it. */
        if (in_new != NULL && unlinkat(new_dir, in_new, 0) != 0 && errno == ENOENT)
            status = MAILDIR_OK;
    }
    if (status != MAILDIR_OK)
        (void)!unlinkat(dir, n.tmp, 0);
    io_close(&new_dir);
    io_close(&fd);
    return status;
}

static enum maildir_status deliver_below(const struct maildir_job *j, struct err *e)
{
    char path[1024];
    if (!clean_path(j->path, path, sizeof path))
        return failed(e, EINVAL, "open maildir", j, "");
    int base = open_base(j->base);
    if (base < 0)
        return failed(e, errno, "open virtual_mailbox_base for", j, "");
    int dir = open_below(base, path, O_PATH | O_DIRECTORY, 0, 0);
    if (dir < 0 && errno == ENOENT && make_below(base, path))
        dir = open_below(base, path, O_PATH | O_DIRECTORY, 0, 0);
    int sys = errno;
    close(base);
    if (dir < 0)
        return failed(e, sys, "open maildir", j, "");
    enum maildir_status status = deliver_into(dir, j, e);
    close(dir);
    return status;
}

enum maildir_status maildir_deliver(const struct maildir_job *j, struct err *e)
{
    enum maildir_status status = MAILDIR_FAILED;
    if (!j->has_owner)
        return deliver_below(j, e);
    if (become(j->uid, j->gid))
        status = deliver_below(j, e);
    else
        err_set(e, "cannot act as uid %ld, gid %ld", (long)j->uid, (long)j->gid);
    if (!become(geteuid(), getegid()))
        abort(); /* never go on under another user's identity */
    return status;
}

/*
 * Directories: maildrop/ (sticky, write and search for those who may submit, not readable), maildrop/active/ and corrupt/
 * (ours alone). Names that begin with '.' are being written and are left alone for a day. A file in maildrop/ is
 * untrusted: it is opened without following links or blocking, must be a regular file with one link, and its owner is
 * the user who submits.
 */
#include "daemon/control/pickup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "daemon/control/control_internal.h"

#define STALE_S (24 * 3600)
#define PIECE_BYTES 65536

struct pickup {
    struct pickup_options o;
    char *dir;                /* maildrop */
    int drop_fd, active_fd, corrupt_fd;
    int watch_fd;             /* inotify */
    int stop_pipe[2];
    _Atomic bool stopping;
    bool started;
    pthread_t thread;
    _Atomic int64_t list_told_ms;  /* of a maildrop that cannot be listed */
    _Atomic uint64_t list_untold;
};

/* ---- directories ---- */

static int open_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        err_set_sys(e, errno, "directory %s", path);
    return fd;
}

static int make_dir(const char *queue_dir, const char *name, mode_t mode, struct err *e)
{
    char *path = xasprintf("%s/%s", queue_dir, name);
    int fd = -1;
    if (io_make_dirs(path, 0700))
        fd = open_dir(path, e);
    else
        err_set_sys(e, errno, "directory %s", path);
    if (fd >= 0 && fchmod(fd, mode) != 0) {
        err_set_sys(e, errno, "permissions of directory %s", path);
        io_close(&fd);
    }
    free(path);
    return fd;
}

#define GROUP_BYTES (1u << 20) /* with all its members */

/* With a group of its own (sendmail installed set-gid) only that group may write, else everybody; nobody may list. */
static bool let_users_write(int fd, const char *path, const char *group, struct err *e)
{
    struct group gr, *found = NULL;
    struct stat st;
    mode_t mode = 01733;
    char *bytes = xmalloc(GROUP_BYTES);
    int rc = group != NULL && group[0] != '\0' ? getgrnam_r(group, &gr, bytes, GROUP_BYTES, &found) : 0;
    free(bytes); /* of gr only the number is used */
    if (rc != 0 && rc != ENOENT && rc != ESRCH) { /* it may be there: what it protects must not be opened to everybody */
        err_set_sys(e, rc, "setgid_group %s", group);
        return false;
    }
    if (found != NULL && ((fstat(fd, &st) == 0 && st.st_gid == gr.gr_gid) || fchown(fd, (uid_t)-1, gr.gr_gid) == 0))
        mode = 01730;
    if (fchmod(fd, mode) == 0)
        return true;
    err_set_sys(e, errno, "permissions of directory %s", path);
    return false;
}

bool pickup_make_maildrop(const char *queue_dir, const char *setgid_group, uid_t uid, gid_t gid, struct err *e)
{
    char *path = xasprintf("%s/maildrop", queue_dir);
    int fd = make_dir(queue_dir, "maildrop", 0700, e);
    bool ok = fd >= 0;
    if (ok && fchown(fd, uid, gid) != 0) {
        err_set_sys(e, errno, "owner of directory %s", path);
        ok = false;
    }
    ok = ok && let_users_write(fd, path, setgid_group, e);
    io_close(&fd);
    free(path);
    return ok;
}

struct pickup *pickup_new(const struct pickup_options *o, struct err *e)
{
    struct pickup *p = xcalloc(1, sizeof *p);
    p->o = *o;
    p->o.queue_dir = p->o.setgid_group = NULL;
    p->active_fd = p->corrupt_fd = p->watch_fd = p->stop_pipe[0] = p->stop_pipe[1] = -1;
    p->dir = xasprintf("%s/maildrop", o->queue_dir);
    p->drop_fd = make_dir(o->queue_dir, "maildrop", 0700, e);
    if (p->drop_fd >= 0)
        p->active_fd = make_dir(o->queue_dir, "maildrop/active", 0700, e);
    if (p->active_fd >= 0)
        p->corrupt_fd = make_dir(o->queue_dir, "corrupt", 0700, e);
    if (p->corrupt_fd < 0 || !let_users_write(p->drop_fd, p->dir, o->setgid_group, e)) {
        pickup_free(&p);
        return NULL;
    }
    p->watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (p->watch_fd < 0 || inotify_add_watch(p->watch_fd, p->dir, IN_MOVED_TO | IN_ONLYDIR) < 0)
        log_warn(p->o.env.log, "%s cannot be watched (%s): new files wait up to %d seconds", p->dir, strerror(errno),
                 PICKUP_ROUND_MS / 1000);
    if (pipe2(p->stop_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
        err_set_sys(e, errno, "pickup: pipe");
        pickup_free(&p);
    }
    return p;
}

void pickup_free(struct pickup **pp)
{
    struct pickup *p = *pp;
    *pp = NULL;
    if (p == NULL)
        return;
    io_close(&p->drop_fd);
    io_close(&p->active_fd);
    io_close(&p->corrupt_fd);
    io_close(&p->watch_fd);
    io_close(&p->stop_pipe[0]);
    io_close(&p->stop_pipe[1]);
    free(p->dir);
    free(p);
}

/* ---- between spool and scheduler ---- */

static void active_name(uint64_t id, char out[QID_TEXT_MAX])
{
    qid_format(id, false, out);
}

void pickup_committed(void *arg, struct msg *m)
{
    struct pickup *p = arg;
    if (m->env.flags & ENV_LOCAL_SUBMIT) {
        char name[QID_TEXT_MAX];
        active_name(m->env.id, name);
        if (unlinkat(p->active_fd, name, 0) != 0 && errno != ENOENT)
            log_warn(p->o.env.log, "%s/active/%s cannot be removed (%s): its message may be sent twice", p->dir, name,
                     strerror(errno));
    }
    sched_committed(p->o.sched, m);
}

/* ---- one file ---- */

struct drop_file {
    int fd;
    struct buf in;    /* what follows the first line in the first piece; then each piece */
    bool has_rest;    /* `in` holds the rest of the first piece */
    uint64_t left;    /* content bytes not read yet */
};

static bool read_piece(struct drop_file *f, struct err *e)
{
    buf_reset(&f->in);
    if (!buf_reserve(&f->in, PIECE_BYTES)) {
        err_set(e, "out of memory");
        return false;
    }
    ssize_t n;
    do {
        n = read(f->fd, f->in.p, PIECE_BYTES);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        err_set_sys(e, errno, "reading");
        return false;
    }
    f->in.n = (size_t)n;
    return true;
}

static bool read_content(void *arg, struct span *out, struct err *e)
{
    struct drop_file *f = arg;
    *out = span_of(NULL, 0);
    if (f->left == 0)
        return true;
    if (!f->has_rest && !read_piece(f, e))
        return false;
    f->has_rest = false;
    if (f->in.n == 0 || f->in.n > f->left) {
        err_set(e, "the file changed while it was read");
        return false;
    }
    f->left -= f->in.n;
    *out = buf_span(&f->in);
    return true;
}

/* The first line: the submission. What was read behind it stays in f->in. */
static bool read_submission(struct drop_file *f, struct arena *a, struct submission *s, struct err *e)
{
    struct buf line = BUF_INIT(SUBMISSION_LINE_MAX);
    bool ok = false;
    ptrdiff_t nl = -1;
    while (nl < 0) {
        if (!read_piece(f, e))
            goto out;
        nl = span_find(buf_span(&f->in), '\n');
        buf_add(&line, f->in.p, nl < 0 ? f->in.n : (size_t)nl);
        if ((f->in.n == 0 && nl < 0) || !buf_ok(&line)) {
            err_set(e, "no submission in the first line");
            goto out;
        }
    }
    buf_consume(&f->in, (size_t)nl + 1);
    f->has_rest = f->in.n > 0;
    json_error_t je;
    json_t *j = json_loadb(line.p, line.n, JSON_REJECT_DUPLICATES, &je);
    if (j == NULL)
        err_set(e, "no submission in the first line: %s", je.text);
    else
        ok = submission_decode(j, a, s, e);
    json_decref(j);
    f->left = ok ? s->content_bytes : 0;
    if (ok) {
        struct stat st;
        off_t at = lseek(f->fd, 0, SEEK_CUR);
        ok = fstat(f->fd, &st) == 0 && at >= 0 && (uint64_t)(st.st_size - at) + f->in.n == s->content_bytes;
        if (!ok)
            err_set(e, "the file is not as long as it says");
    }
out:
    buf_free(&line);
    return ok;
}

/* 0 or an exit status: EX_TEMPFAIL leaves the file where it is. */
static int submit_file(struct pickup *p, int fd, uid_t uid, uint64_t id, struct err *e)
{
    struct drop_file f = { .fd = fd, .in = BUF_INIT(PIECE_BYTES) };
    struct arena *a = arena_new(0);
    struct submission s;
    struct conf *c = p->o.env.conf(p->o.env.arg);
    int status = EX_DATAERR;
    if (uid != geteuid() && !ctl_user_may_submit(c, uid, p->o.env.log, e))
        status = EX_NOPERM;
    else if (read_submission(&f, a, &s, e))
        status = local_submit(&p->o.env, &s, uid, id, read_content, &f, e);
    conf_unref(&c);
    arena_free(&a);
    buf_free(&f.in);
    return status;
}

/* What says nothing about the file itself: it can be opened later. */
static bool is_for_now(int sys)
{
    return sys == EMFILE || sys == ENFILE || sys == ENOMEM || sys == EINTR || sys == EIO;
}

/* Opens a file of active/ and makes sure that it is one that can be trusted to be the user's. -1 with *e and *status. */
static int open_file(struct pickup *p, const char *name, uid_t *uid, int *status, struct err *e)
{
    struct stat st;
    int fd = openat(p->active_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    *status = EX_DATAERR;
    if (fd < 0 || fstat(fd, &st) != 0) {
        if (is_for_now(errno))
            *status = EX_TEMPFAIL;
        err_set_sys(e, errno, "opening");
        io_close(&fd);
    } else if (!S_ISREG(st.st_mode) || st.st_nlink != 1) {
        err_set(e, "not a file of its own");
        io_close(&fd);
    } else {
        *uid = st.st_uid;
    }
    return fd;
}

static void put_aside(struct pickup *p, const char *name, const char *why)
{
    if (renameat(p->active_fd, name, p->corrupt_fd, name) == 0)
        log_warn(p->o.env.log, "maildrop file is no message that can be taken (%s): kept as corrupt/%s", why, name);
    else
        log_error(p->o.env.log, "%s/active/%s: %s; and it cannot be moved to corrupt/: %s", p->dir, name, why,
                  strerror(errno));
}

static void drop_leftover(struct pickup *p, const char *name)
{
    if (unlinkat(p->active_fd, name, 0) != 0)
        log_warn(p->o.env.log, "%s/active/%s cannot be removed: %s", p->dir, name, strerror(errno));
}

/* `name` in directory from_fd becomes active/ID and is submitted. */
static void take_file(struct pickup *p, int from_fd, const char *name)
{
    uint64_t id = qid_new(spool_qids(p->o.env.spool));
    char active[QID_TEXT_MAX];
    struct err e = ERR_INIT;
    uid_t uid = 0;
    active_name(id, active);
    if (renameat(from_fd, name, p->active_fd, active) != 0) {
        if (errno != ENOENT)
            log_warn(p->o.env.log, "%s/%s: %s", p->dir, name, strerror(errno));
        return;
    }
    int status, fd = open_file(p, active, &uid, &status, &e);
    if (fd >= 0)
        status = submit_file(p, fd, uid, id, &e);
    io_close(&fd);
    if (status == LOCAL_DISCARDED)
        drop_leftover(p, active);
    else if (status == EX_TEMPFAIL)
        log_warn(p->o.env.log, "%s/active/%s stays for the next round: %s", p->dir, active, e.text);
    else if (status != 0)
        put_aside(p, active, e.text);
}

/* ---- rounds ---- */

/* True when the message of this file of active/ is queued: the file is only left over. */
static bool is_queued(struct pickup *p, const char *name)
{
    uint64_t id;
    enum sched_where w;
    struct msg *m = NULL;
    if (qid_parse(span_cstr(name), &id))
        m = sched_find(p->o.sched, id, &w);
    bool yes = m != NULL;
    msg_unref(&m);
    return yes;
}

/* A file of an earlier round, or of an earlier life that pickup_recover() has left. */
static void take_leftover(struct pickup *p, const char *name)
{
    if (is_queued(p, name))
        drop_leftover(p, name);
    else
        take_file(p, p->active_fd, name);
}

static void drop_stale(struct pickup *p, const char *name)
{
    struct stat st;
    if (fstatat(p->drop_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
        st.st_mtime < clock_wall_s() - STALE_S)
        unlinkat(p->drop_fd, name, 0);
}

static DIR *list_dir(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL)
        io_close(&fd);
    return d;
}

/* Names are gathered first: renaming inside a directory while reading it would show files twice. */
static char **names_of(struct pickup *p, int dir_fd, size_t *count)
{
    char **names = NULL;
    size_t n = 0, cap = 0;
    DIR *d = list_dir(dir_fd);
    const struct dirent *de;
    uint64_t missed;
    if (d == NULL && log_once_a_minute(&p->list_told_ms, &p->list_untold, &missed))
        log_warn(p->o.env.log, "list %s: %m: mail there waits", p->dir);
    while (d != NULL && (de = readdir(d)) != NULL) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 || strcmp(de->d_name, "active") == 0)
            continue;
        if (n == cap) {
            cap = cap > 0 ? cap * 2 : 64;
            names = xrealloc(names, cap * sizeof *names);
        }
        names[n++] = xstrdup(de->d_name);
    }
    if (d != NULL)
        closedir(d);
    *count = n;
    return names;
}

static void round_of(struct pickup *p, bool leftovers)
{
    size_t n;
    char **names = names_of(p, leftovers ? p->active_fd : p->drop_fd, &n);
    for (size_t i = 0; i < n; i++) {
        if (!p->stopping) {
            if (leftovers)
                take_leftover(p, names[i]);
            else if (names[i][0] == '.')
                drop_stale(p, names[i]);
            else
                take_file(p, p->drop_fd, names[i]);
        }
        free(names[i]);
    }
    free(names);
}

static void *pickup_main(void *arg)
{
    struct pickup *p = arg;
    int64_t next_ms = 0; /* of a full round */
    while (!p->stopping) {
        if (clock_mono_ms() >= next_ms) {
            round_of(p, true);
            next_ms = clock_mono_ms() + PICKUP_ROUND_MS;
        }
        round_of(p, false);
        struct pollfd f[2] = { { .fd = p->stop_pipe[0], .events = POLLIN }, { .fd = p->watch_fd, .events = POLLIN } };
        char sink[4096];
        if (!p->stopping && poll(f, 2, clock_poll_ms(next_ms)) > 0 && f[1].revents != 0) {
            while (read(p->watch_fd, sink, sizeof sink) > 0) { }
        }
    }
    return NULL;
}

void pickup_recover(struct pickup *p)
{
    size_t n;
    char **names = names_of(p, p->active_fd, &n);
    for (size_t i = 0; i < n; i++) {
        if (is_queued(p, names[i]))
            drop_leftover(p, names[i]);
        free(names[i]);
    }
    free(names);
}

int pickup_start(struct pickup *p)
{
    int rc = thread_start(&p->thread, "pickup", 0, pickup_main, p);
    p->started = rc == 0;
    return rc;
}

void pickup_stop(struct pickup *p)
{
    if (p == NULL || !p->started)
        return;
    p->stopping = true;
    if (write(p->stop_pipe[1], "", 1) < 0) { /* full: it will wake up anyway */ }
    pthread_join(p->thread, NULL);
    p->started = false;
}

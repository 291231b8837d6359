/*
 * shim_kill: kills the program that it is preloaded into before, in the middle of or after its N-th step of a kind
 *
 * Purpose    crash tests that go through every step by which a spool changes. A step is a call that changes a file below
 *            $SHIM_KILL_DIR, or one of SQLite's that is not read-only; its kind is the call and what sort of file it is,
 *            "pwritev results". $SHIM_KILL is "KIND=N=WHEN" with WHEN before, half (writes only) or after; no more than
 *            counting when it is empty. The counts are kept in the file $SHIM_KILL_COUNTS, through restarts.
 *            With $SHIM_KILL_HOW "stop" the program freezes there instead, and waits for somebody to cut the power.
 * Threads    any; the kinds are found without a lock
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS /* each name is defined here once, for either size of off_t */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { KINDS = 96, NAME_BYTES = 56, FRAME_BYTES = 32, FRAME_KIND_AT = 12, FRAME_FLAGS_AT = 13 };
struct kind {
    char name[NAME_BYTES];
    _Atomic unsigned state; /* 0 free, 1 being named, 2 named */
    _Atomic unsigned count;
};

enum when { WHEN_NEVER, WHEN_BEFORE, WHEN_HALF, WHEN_AFTER };
struct step {
    enum when when; /* this process is to end there */
};

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static struct kind *kinds(void)
{
    static _Atomic(struct kind *) table;
    struct kind *t = atomic_load(&table);
    const char *path = getenv("SHIM_KILL_COUNTS");
    if (t != NULL || path == NULL)
        return t;
    int fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, KINDS * sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (p == MAP_FAILED)
        return NULL;
    atomic_store(&table, (struct kind *)p);
    return p;
}

/* At the start, before root is given up. */
__attribute__((constructor)) static void begin(void)
{
    (void)kinds();
}

static struct kind *find_kind(const char *name)
{
    struct kind *t = kinds();
    for (int i = 0; t != NULL && i < KINDS; i++) {
        unsigned none = 0;
        if (atomic_compare_exchange_strong(&t[i].state, &none, 1)) {
            snprintf(t[i].name, NAME_BYTES, "%s", name);
            atomic_store(&t[i].state, 2);
        }
        while (atomic_load(&t[i].state) != 2)
            ;
        if (strcmp(t[i].name, name) == 0)
            return &t[i];
    }
    return NULL;
}

static struct step take_step(const char *call, const char *sort)
{
    char name[NAME_BYTES];
    const char *order = getenv("SHIM_KILL");
    struct step s = { WHEN_NEVER };
    int saved = errno;
    snprintf(name, sizeof name, "%s %s", call, sort);
    struct kind *k = find_kind(name);
    unsigned n = k ? atomic_fetch_add(&k->count, 1) + 1 : 0;
    size_t length = strlen(name);
    if (order != NULL && strncmp(order, name, length) == 0 && order[length] == '=') {
        char *end;
        if (strtoul(order + length + 1, &end, 10) == n)
            s.when = strcmp(end, "=before") == 0 ? WHEN_BEFORE : strcmp(end, "=half") == 0 ? WHEN_HALF : WHEN_AFTER;
    }
    errno = saved;
    return s;
}

static void end_here(void)
{
    const char *how = getenv("SHIM_KILL_HOW");
    kill(getpid(), how != NULL && strcmp(how, "stop") == 0 ? SIGSTOP : SIGKILL);
    for (;;)
        pause();
}

static void before(struct step s)
{
    if (s.when == WHEN_BEFORE)
        end_here();
}

static void after(struct step s)
{
    if (s.when != WHEN_NEVER)
        end_here();
}

/* ---- what sort of file ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t a = strlen(s), b = strlen(end);
    return a >= b && strcmp(s + a - b, end) == 0;
}

/* NULL: not the spool's. */
static const char *sort_of_path(const char *path)
{
    const char *dir = getenv("SHIM_KILL_DIR");
    size_t n = dir ? strlen(dir) : 0;
    if (n == 0 || strncmp(path, dir, n) != 0 || (path[n] != '/' && path[n] != '\0'))
        return NULL;
    const char *rest = path[n] == '/' ? path + n + 1 : "";
    if (strncmp(rest, "journal/", 8) == 0)
        return ends_with(rest, ".jnl") ? "segment" : "spare";
    if (strncmp(rest, "results/", 8) == 0)
        return ends_with(rest, ".res") ? "results" : "result-spare";
    if (strncmp(rest, "large/", 6) == 0)
        return "large";
    if (strncmp(rest, "checkpoint", 10) == 0)
        return "checkpoint";
    if (strncmp(rest, "index.db", 8) == 0)
        return rest[8] == '\0' ? "index" : ends_with(rest, "-wal") ? "index-wal" : ends_with(rest, "-shm") ? NULL : "index-other";
    if (strcmp(rest, "journal") == 0 || strcmp(rest, "results") == 0 || strcmp(rest, "large") == 0 || *rest == '\0')
        return "directory";
    return "other";
}

static const char *sort_of_fd(int fd, char path[1024])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, 1023);
    if (n <= 0)
        return NULL;
    path[n] = '\0';
    return sort_of_path(path);
}

/* A segment's writes by what is in them: the first frame tells. */
static const char *sort_of_write(const char *sort, const struct iovec *v, int n, off64_t off)
{
    static const char *const names[] = { [1] = "message", [2] = "admin", [4] = "note" };
    if (off < 8192 && strcmp(sort, "segment") == 0)
        return "segment-head";
    if (off < 8192 && strcmp(sort, "results") == 0)
        return "results-head";
    if (strcmp(sort, "segment") != 0 || n < 1 || v[0].iov_len < FRAME_BYTES)
        return sort;
    const unsigned char *p = v[0].iov_base;
    unsigned kind = p[FRAME_KIND_AT];
    if (kind == 1 && p[FRAME_FLAGS_AT] & 1)
        return "copy"; /* compaction's */
    if (kind == 1 && p[FRAME_FLAGS_AT] & 2)
        return "together"; /* several that are committed as one */
    return kind < 5 && names[kind] ? names[kind] : sort;
}

static struct step take_fd_step(const char *call, int fd)
{
    char path[1024];
    int saved = errno;
    const char *sort = sort_of_fd(fd, path);
    errno = saved;
    return sort ? take_step(call, sort) : (struct step){ WHEN_NEVER };
}

static struct step take_path_step(const char *call, const char *path)
{
    const char *sort = sort_of_path(path);
    return sort ? take_step(call, sort) : (struct step){ WHEN_NEVER };
}

/* ---- the calls ---- */

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t off)
{
    char path[1024];
    const char *sort = sort_of_fd(fd, path);
    struct step s = sort ? take_step("pwritev", sort_of_write(sort, v, n, off)) : (struct step){ WHEN_NEVER };
    before(s);
    if (s.when == WHEN_HALF) {
        struct iovec half = { v[0].iov_base, v[0].iov_len / 2 };
        if (REAL(pwritev)(fd, n > 1 ? v : &half, n > 1 ? n / 2 : 1, off) >= 0)
            end_here();
    }
    ssize_t k = REAL(pwritev)(fd, v, n, off);
    after(s);
    return k;
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t off)
{
    return pwritev(fd, v, n, (off_t)off);
}

/* Only SQLite uses it here. */
ssize_t pwrite(int fd, const void *p, size_t n, off_t off)
{
    struct step s = take_fd_step("pwrite", fd);
    before(s);
    ssize_t k = REAL(pwrite)(fd, p, s.when == WHEN_HALF ? n / 2 : n, off);
    after(s);
    return k;
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t off)
{
    return pwrite(fd, p, n, (off_t)off);
}

ssize_t write(int fd, const void *p, size_t n)
{
    struct step s = take_fd_step("write", fd);
    before(s);
    ssize_t k = REAL(write)(fd, p, s.when == WHEN_HALF ? n / 2 : n);
    after(s);
    return k;
}

#define ON_FD(call, decl, args)                  \
    int call decl                                \
    {                                            \
        struct step s = take_fd_step(#call, fd); \
        before(s);                               \
        int rc = REAL(call) args;                \
        after(s);                                \
        return rc;                               \
    }
ON_FD(fdatasync, (int fd), (fd))
ON_FD(fsync, (int fd), (fd))
ON_FD(ftruncate, (int fd, off_t n), (fd, n))
ON_FD(ftruncate64, (int fd, off64_t n), (fd, n))
ON_FD(fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
ON_FD(fallocate64, (int fd, int mode, off64_t at, off64_t n), (fd, mode, at, n))

int rename(const char *from, const char *to)
{
    char kind[64];
    const char *a = sort_of_path(from), *b = sort_of_path(to);
    snprintf(kind, sizeof kind, "%s-to-%s", a ? a : "-", b ? b : "-");
    struct step s = a || b ? take_step("rename", kind) : (struct step){ WHEN_NEVER };
    before(s);
    int rc = REAL(rename)(from, to);
    after(s);
    return rc;
}

int unlink(const char *path)
{
    struct step s = take_path_step("unlink", path);
    before(s);
    int rc = REAL(unlink)(path);
    after(s);
    return rc;
}

static int do_open(const char *name, const char *path, int flags, mode_t mode)
{
    int (*f)(const char *, int, ...) = (int (*)(const char *, int, ...))real(name);
    struct step s = flags & O_CREAT ? take_path_step("create", path) : (struct step){ WHEN_NEVER };
    before(s);
    int fd = f(path, flags, mode);
    after(s);
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return do_open("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return do_open("open64", path, flags, mode);
}

/* ---- SQLite's ---- */

struct sqlite3_stmt;
struct sqlite3;

int sqlite3_step(struct sqlite3_stmt *st)
{
    int (*readonly)(struct sqlite3_stmt *) = (int (*)(struct sqlite3_stmt *))real("sqlite3_stmt_readonly");
    int (*f)(struct sqlite3_stmt *) = (int (*)(struct sqlite3_stmt *))real("sqlite3_step");
    struct step s = st && !readonly(st) ? take_step("step", "index") : (struct step){ WHEN_NEVER };
    before(s);
    int rc = f(st);
    after(s);
    return rc;
}

typedef int row_fn(void *, int, char **, char **);
int sqlite3_exec(struct sqlite3 *db, const char *sql, row_fn *row, void *arg, char **error)
{
    int (*f)(struct sqlite3 *, const char *, row_fn *, void *, char **) =
        (int (*)(struct sqlite3 *, const char *, row_fn *, void *, char **))real("sqlite3_exec");
    char word[16] = "";
    sscanf(sql, "%15[A-Z]", word);
    bool changes = strcmp(word, "SELECT") != 0;
    struct step s = changes ? take_step("exec", word) : (struct step){ WHEN_NEVER };
    before(s);
    int rc = f(db, sql, row, arg, error);
    after(s);
    return rc;
}

/*
 * shim_faults: lets the n-th call of a class fail, in a program that it is preloaded into
 *
 * Purpose    tests that go through every call a run makes. All is told, and counted, in a block of memory shared with the
 *            test: the file $FAULTS_BLOCK (faults.py writes it). It lives longer than one process, so that counts go on
 *            over a restart. Calls that have to do with a file count only below one of the directories $FAULTS_DIRS
 *            (separated by colons).
 * Classes    see `enum class`; the calls of each are where OURS() and fails() stand below
 * Orders     OFF counts; ONCE: the n-th call; ON: from the n-th on; STACK: the first call that comes by this way (a hash
 *            of return addresses, the same in each run); SHORT: the n-th write writes half; NOTE: counts the ways
 * Threads    any
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS /* each name is defined here once, for either size of off_t */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x50484654u
#define FRAMES 10
#define HITS_KEPT 64
#define WAYS 16384u
#define MODULES 64

enum class { C_WRITE, C_READ, C_FLUSH, C_OPEN, C_NAME, C_SPACE, C_MAP, C_STAT, C_DESCRIPTOR, C_THREAD, C_ALLOC, C_CLASSES = 16 };
enum order { OFF, ONCE, ON, STACK, SHORT, NOTE };

/* The layout is known to faults.py. */
struct block {
    uint32_t magic, hit_count;
    struct { _Atomic uint32_t order; _Atomic int32_t error; _Atomic uint64_t n, way, count, hits, spare[3]; } c[C_CLASSES];
    _Atomic int64_t clock_us;               /* added to the wall clock */
    _Atomic uint64_t way_count;
    char hit[HITS_KEPT][512];               /* class, call, errno, thread, path, return addresses */
    struct { _Atomic uint64_t hash, count; char text[240]; } way[WAYS];
};

static struct block *block;
static const char *dirs;
static struct { uintptr_t from, to, base; char name[24]; } module[MODULES];
static int module_n;
static pthread_mutex_t hit_lock = PTHREAD_MUTEX_INITIALIZER;
static __thread bool inside; /* what the shim itself calls does not count */

/* ---- where a call comes from ---- */

static int note_module(struct dl_phdr_info *i, size_t n, void *arg)
{
    (void)n, (void)arg;
    for (int k = 0; k < i->dlpi_phnum && module_n < MODULES; k++) {
        const ElfW(Phdr) *p = &i->dlpi_phdr[k];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
            continue;
        const char *slash = strrchr(i->dlpi_name, '/');
        module[module_n].base = i->dlpi_addr;
        module[module_n].from = i->dlpi_addr + p->p_vaddr;
        module[module_n].to = module[module_n].from + p->p_memsz;
        snprintf(module[module_n].name, sizeof module[0].name, "%.23s", i->dlpi_name[0] == '\0' ? "main" : slash ? slash + 1 : i->dlpi_name);
        module_n++;
    }
    return 0;
}

/* Return addresses without those of the shim, as text that is the same in each run; returns a hash of it. */
static uint64_t way_here(char *text, size_t size)
{
    void *at[FRAMES + 4];
    int n = backtrace(at, FRAMES + 4);
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    size_t len = 0;
    uintptr_t self = (uintptr_t)way_here;
    text[0] = '\0';
    for (int i = 0; i < n; i++) {
        uintptr_t a = (uintptr_t)at[i];
        int m = 0;
        while (m < module_n && (a < module[m].from || a >= module[m].to))
            m++;
        if (m == module_n || (self >= module[m].from && self < module[m].to))
            continue;
        for (uint64_t v = (uint64_t)(a - module[m].base) + ((uint64_t)m << 40); v != 0; v >>= 8)
            h = (h ^ (v & 255)) * UINT64_C(0x100000001b3);
        int k = len < size ? snprintf(text + len, size - len, " %s+%lx", module[m].name, (unsigned long)(a - module[m].base)) : 0;
        len += k > 0 ? (size_t)k : 0;
    }
    return h ? h : 1;
}

/* True the first time this way is seen. */
static bool note_way(uint64_t hash, const char *text)
{
    for (uint32_t i = (uint32_t)hash % WAYS, left = WAYS; left > 0; i = (i + 1) % WAYS, left--) {
        uint64_t none = 0;
        if (atomic_load(&block->way[i].hash) == hash || (!atomic_compare_exchange_strong(&block->way[i].hash, &none, hash) && none == hash)) {
            atomic_fetch_add(&block->way[i].count, 1);
            return false;
        }
        if (none == 0) {
            atomic_fetch_add(&block->way[i].count, 1);
            atomic_fetch_add(&block->way_count, 1);
            snprintf(block->way[i].text, sizeof block->way[i].text, "%.239s", text);
            return true;
        }
    }
    return false;
}

static void note_hit(enum class c, const char *call, const char *path, const char *way)
{
    char thread[16] = "";
    prctl(PR_GET_NAME, thread);
    pthread_mutex_lock(&hit_lock);
    if (block->hit_count < HITS_KEPT)
        snprintf(block->hit[block->hit_count++], sizeof block->hit[0], "%d %s %d %s %s%s", (int)c, call,
                 atomic_load(&block->c[c].error), thread[0] ? thread : "-", path[0] ? path : "-", way);
    pthread_mutex_unlock(&hit_lock);
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS_BLOCK");
    void *warm[2];
    inside = true;
    dirs = getenv("FAULTS_DIRS");
    dl_iterate_phdr(note_module, NULL);
    backtrace(warm, 2); /* loads what it needs */
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED : (void *)syscall(SYS_mmap, NULL, sizeof *block, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        syscall(SYS_close, fd);
    if (p != MAP_FAILED && ((struct block *)p)->magic == MAGIC)
        block = p;
    inside = false;
}

/* ---- whether a call fails ---- */

static bool is_below(const char *path)
{
    for (const char *d = dirs; d != NULL && *d != '\0';) {
        size_t n = strcspn(d, ":");
        if (strncmp(path, d, n) == 0 && (path[n] == '/' || path[n] == '\0'))
            return true;
        d += n + (d[n] == ':');
    }
    return false;
}

static const char *path_of(int fd, char *path, size_t size)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, size - 1);
    path[n > 0 ? n : 0] = '\0';
    return path;
}

/* The order that holds for this call, or OFF. Sets errno when it is to fail. */
static enum order decide(enum class c, const char *call, const char *path)
{
    if (block == NULL || inside)
        return OFF;
    inside = true;
    int saved = errno;
    enum order o = atomic_load(&block->c[c].order);
    uint64_t count = atomic_fetch_add(&block->c[c].count, 1) + 1, n = atomic_load(&block->c[c].n);
    char way[400] = "";
    bool yes = false;
    if (o == NOTE)
        (void)note_way(way_here(way, sizeof way), way);
    else if (o == STACK)
        yes = atomic_load(&block->c[c].hits) == 0 && way_here(way, sizeof way) == atomic_load(&block->c[c].way) &&
              atomic_fetch_add(&block->c[c].hits, 1) == 0;
    else if (o != OFF)
        yes = o == ON ? count >= n : count == n;
    if (yes) {
        if (o != STACK) {
            atomic_fetch_add(&block->c[c].hits, 1);
            (void)way_here(way, sizeof way);
        }
        note_hit(c, call, path, way);
    }
    errno = yes && o != SHORT ? atomic_load(&block->c[c].error) : saved;
    inside = false;
    return yes ? o : OFF;
}

static bool fails(enum class c, const char *call, const char *path)
{
    return decide(c, call, path) != OFF;
}

static enum order decide_fd(enum class c, const char *call, int fd)
{
    char path[1024];
    int saved = errno;
    bool ours = block != NULL && !inside && is_below(path_of(fd, path, sizeof path));
    errno = saved;
    return ours ? decide(c, call, path) : OFF;
}

static bool fails_fd(enum class c, const char *call, int fd)
{
    return decide_fd(c, call, fd) != OFF;
}

static bool fails_path(enum class c, const char *call, const char *path)
{
    return block != NULL && path != NULL && is_below(path) && fails(c, call, path);
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (real == NULL) \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* ---- write, read, flush ---- */

ssize_t write(int fd, const void *p, size_t n)
{
    REAL(write);
    enum order o = decide_fd(C_WRITE, "write", fd);
    return o == OFF ? real(fd, p, n) : o == SHORT ? real(fd, p, n - n / 2) : -1;
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    REAL(pwrite64);
    enum order o = decide_fd(C_WRITE, "pwrite", fd);
    return o == OFF ? real(fd, p, n, at) : o == SHORT ? real(fd, p, n - n / 2, at) : -1;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    return pwrite64(fd, p, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at)
{
    REAL(pwritev64);
    enum order o = decide_fd(C_WRITE, "pwritev", fd);
    if (o == SHORT)
        return pwrite64(fd, v[0].iov_base, v[0].iov_len - v[0].iov_len / 2, at);
    return o == OFF ? real(fd, v, n, at) : -1;
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    return pwritev64(fd, v, n, at);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
    REAL(writev);
    enum order o = decide_fd(C_WRITE, "writev", fd);
    return o == OFF ? real(fd, v, n) : o == SHORT ? write(fd, v[0].iov_base, v[0].iov_len - v[0].iov_len / 2) : -1;
}

ssize_t read(int fd, void *p, size_t n)
{
    REAL(read);
    return fails_fd(C_READ, "read", fd) ? -1 : real(fd, p, n);
}

ssize_t pread64(int fd, void *p, size_t n, off64_t at)
{
    REAL(pread64);
    return fails_fd(C_READ, "pread", fd) ? -1 : real(fd, p, n, at);
}

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    return pread64(fd, p, n, at);
}

int fsync(int fd)
{
    REAL(fsync);
    return fails_fd(C_FLUSH, "fsync", fd) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    return fails_fd(C_FLUSH, "fdatasync", fd) ? -1 : real(fd);
}

/* ---- open ---- */

static mode_t mode_of(int flags, va_list ap)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int openat64(int dir, const char *path, int flags, ...)
{
    REAL(openat64);
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return fails_path(C_OPEN, flags & O_CREAT ? "create" : "open", path) ? -1 : real(dir, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return openat64(dir, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return openat64(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return openat64(AT_FDCWD, path, flags, mode);
}

DIR *opendir(const char *path)
{
    REAL(opendir);
    return fails_path(C_OPEN, "opendir", path) ? NULL : real(path);
}

/* ---- names ---- */

int rename(const char *from, const char *to)
{
    REAL(rename);
    return fails_path(C_NAME, "rename", from) ? -1 : real(from, to);
}

int renameat(int d, const char *from, int e, const char *to)
{
    REAL(renameat);
    return fails_path(C_NAME, "rename", from) ? -1 : real(d, from, e, to);
}

int link(const char *from, const char *to)
{
    REAL(link);
    return fails_path(C_NAME, "link", from) ? -1 : real(from, to);
}

int unlink(const char *path)
{
    REAL(unlink);
    return fails_path(C_NAME, "unlink", path) ? -1 : real(path);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    return fails_path(C_NAME, "mkdir", path) ? -1 : real(path, mode);
}

int chmod(const char *path, mode_t mode)
{
    REAL(chmod);
    return fails_path(C_NAME, "chmod", path) ? -1 : real(path, mode);
}

/* ---- room ---- */

int ftruncate64(int fd, off64_t n)
{
    REAL(ftruncate64);
    return fails_fd(C_SPACE, "ftruncate", fd) ? -1 : real(fd, n);
}

int ftruncate(int fd, off_t n)
{
    return ftruncate64(fd, n);
}

int fallocate64(int fd, int mode, off64_t at, off64_t n)
{
    REAL(fallocate64);
    return fails_fd(C_SPACE, "fallocate", fd) ? -1 : real(fd, mode, at, n);
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
    return fallocate64(fd, mode, at, n);
}

int posix_fallocate64(int fd, off64_t at, off64_t n)
{
    REAL(posix_fallocate64);
    return fails_fd(C_SPACE, "posix_fallocate", fd) ? errno : real(fd, at, n);
}

int posix_fallocate(int fd, off_t at, off_t n)
{
    return posix_fallocate64(fd, at, n);
}

void *mmap64(void *p, size_t n, int prot, int flags, int fd, off64_t at)
{
    REAL(mmap64);
    return fd >= 0 && fails_fd(C_MAP, "mmap", fd) ? MAP_FAILED : real(p, n, prot, flags, fd, at);
}

void *mmap(void *p, size_t n, int prot, int flags, int fd, off_t at)
{
    return mmap64(p, n, prot, flags, fd, at);
}

/* ---- questions ---- */

int stat(const char *path, struct stat *out)
{
    REAL(stat);
    return fails_path(C_STAT, "stat", path) ? -1 : real(path, out);
}

int stat64(const char *path, struct stat64 *out)
{
    REAL(stat64);
    return fails_path(C_STAT, "stat", path) ? -1 : real(path, out);
}

int lstat(const char *path, struct stat *out)
{
    REAL(lstat);
    return fails_path(C_STAT, "lstat", path) ? -1 : real(path, out);
}

int lstat64(const char *path, struct stat64 *out)
{
    REAL(lstat64);
    return fails_path(C_STAT, "lstat", path) ? -1 : real(path, out);
}

int fstat(int fd, struct stat *out)
{
    REAL(fstat);
    return fails_fd(C_STAT, "fstat", fd) ? -1 : real(fd, out);
}

int fstat64(int fd, struct stat64 *out)
{
    REAL(fstat64);
    return fails_fd(C_STAT, "fstat", fd) ? -1 : real(fd, out);
}

int access(const char *path, int mode)
{
    REAL(access);
    return fails_path(C_STAT, "access", path) ? -1 : real(path, mode);
}

int statvfs(const char *path, struct statvfs *out)
{
    REAL(statvfs);
    return fails_path(C_STAT, "statvfs", path) ? -1 : real(path, out);
}

/* ---- descriptors and threads ---- */

int accept4(int fd, struct sockaddr *sa, socklen_t *n, int flags)
{
    REAL(accept4);
    return fails(C_DESCRIPTOR, "accept", "") ? -1 : real(fd, sa, n, flags);
}

int socket(int family, int type, int protocol)
{
    REAL(socket);
    return fails(C_DESCRIPTOR, "socket", "") ? -1 : real(family, type, protocol);
}

int epoll_create1(int flags)
{
    REAL(epoll_create1);
    return fails(C_DESCRIPTOR, "epoll_create", "") ? -1 : real(flags);
}

int eventfd(unsigned v, int flags)
{
    REAL(eventfd);
    return fails(C_DESCRIPTOR, "eventfd", "") ? -1 : real(v, flags);
}

int pipe2(int fd[2], int flags)
{
    REAL(pipe2);
    return fails(C_DESCRIPTOR, "pipe", "") ? -1 : real(fd, flags);
}

int signalfd(int fd, const sigset_t *set, int flags)
{
    REAL(signalfd);
    return fails(C_DESCRIPTOR, "signalfd", "") ? -1 : real(fd, set, flags);
}

int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg)
{
    REAL(pthread_create);
    return fails(C_THREAD, "pthread_create", "") ? errno : real(t, a, fn, arg);
}

/* ---- the wall clock ---- */

int clock_gettime(clockid_t id, struct timespec *out)
{
    REAL(clock_gettime);
    int rc = real(id, out);
    int64_t us = block != NULL ? atomic_load(&block->clock_us) : 0;
    if (rc == 0 && us != 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        int64_t ns = (int64_t)out->tv_nsec + us % 1000000 * 1000;
        out->tv_sec += us / 1000000 + (ns >= 1000000000) - (ns < 0);
        out->tv_nsec = ns < 0 ? ns + 1000000000 : ns >= 1000000000 ? ns - 1000000000 : ns;
    }
    return rc;
}

time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out != NULL)
        *out = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *out, void *zone)
{
    struct timespec t;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &t);
    *out = (struct timeval){ .tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000 };
    return 0;
}

/* ---- memory; a sanitizer has its own ---- */
#ifndef FAULTS_NO_ALLOC
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n)
{
    return fails(C_ALLOC, "malloc", "") ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return fails(C_ALLOC, "calloc", "") ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return fails(C_ALLOC, "realloc", "") ? NULL : __libc_realloc(p, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    void *p = fails(C_ALLOC, "posix_memalign", "") ? NULL : __libc_memalign(align, n);
    if (p != NULL)
        *out = p;
    return p != NULL ? 0 : ENOMEM;
}
#endif

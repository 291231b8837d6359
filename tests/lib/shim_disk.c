/*
 * shim_disk: makes system calls fail on order, in a program that it is preloaded into
 *
 * Purpose    scenarios with a disk that fails or is full. $SHIM_DISK names a file with one order a line:
 *                CALL ERRNO [N]      CALL is fdatasync, pwritev or fallocate; only descriptors below $SHIM_DISK_DIR count
 *                statvfs BYTES       so much is free
 *            With N only the N-th such call after the file was written fails, else each. No file: nothing fails.
 * Threads    any
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS /* each name is defined here once, for either size of off_t */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char seen[256];
static unsigned calls;

/* The order for this call, and which call after the order it is. */
static bool find_order(const char *call, long long *value, unsigned *nth, unsigned *now)
{
    char text[256] = "", name[32];
    const char *path = getenv("SHIM_DISK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return false;
    if (read(fd, text, sizeof text - 1) < 0)
        text[0] = '\0';
    close(fd);
    bool found = false;
    pthread_mutex_lock(&lock);
    if (memcmp(seen, text, sizeof seen) != 0) {
        memcpy(seen, text, sizeof seen);
        calls = 0;
    }
    for (char *line = text; line && !found; line = strchr(line, '\n'), line += line != NULL) {
        *nth = 0;
        found = sscanf(line, "%31s %lld %u", name, value, nth) >= 2 && strcmp(name, call) == 0;
    }
    *now = found ? ++calls : 0;
    pthread_mutex_unlock(&lock);
    return found;
}

static bool is_ours(int fd)
{
    char link[64], path[1024];
    const char *dir = getenv("SHIM_DISK_DIR");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    return dir && n > 0 && (size_t)n > strlen(dir) && memcmp(path, dir, strlen(dir)) == 0;
}

static bool fails(const char *call, int fd)
{
    long long error;
    unsigned nth, now;
    int saved = errno;
    bool yes = is_ours(fd) && find_order(call, &error, &nth, &now) && (nth == 0 || nth == now);
    errno = yes ? (int)error : saved;
    return yes;
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (real == NULL)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return fails("fdatasync", fd) ? -1 : real(fd);
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t off)
{
    static ssize_t (*real)(int, const struct iovec *, int, off_t);
    if (real == NULL)
        real = (ssize_t (*)(int, const struct iovec *, int, off_t))dlsym(RTLD_NEXT, "pwritev");
    return fails("pwritev", fd) ? -1 : real(fd, v, n, off);
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t off)
{
    return pwritev(fd, v, n, (off_t)off);
}

int fallocate(int fd, int mode, off_t at, off_t bytes)
{
    static int (*real)(int, int, off_t, off_t);
    if (real == NULL)
        real = (int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, "fallocate");
    return fails("fallocate", fd) ? -1 : real(fd, mode, at, bytes);
}

int fallocate64(int fd, int mode, off64_t at, off64_t bytes)
{
    return fallocate(fd, mode, (off_t)at, (off_t)bytes);
}

int statvfs(const char *path, struct statvfs *out)
{
    static int (*real)(const char *, struct statvfs *);
    long long bytes;
    unsigned nth, now;
    if (real == NULL)
        real = (int (*)(const char *, struct statvfs *))dlsym(RTLD_NEXT, "statvfs");
    int rc = real(path, out);
    if (rc == 0 && find_order("statvfs", &bytes, &nth, &now)) {
        out->f_frsize = 1;
        out->f_bavail = (fsblkcnt_t)bytes;
    }
    return rc;
}

int statvfs64(const char *path, struct statvfs64 *out)
{
    return statvfs(path, (struct statvfs *)out); /* the same on 64-bit systems */
}

/*
 * shim_flush: a disk whose flushes take their time, for a program that this is preloaded into
 *
 * Purpose    measurements and scenarios of group commit: fdatasync() and fsync() do their work and then wait until
 *            $SHIM_FLUSH_US microseconds have passed since they were called. $SHIM_FLUSH_LOG, if set, names a file that
 *            gets a byte for each
 * Threads    any; flushes of different threads wait side by side, as those of different files on a disk do
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int slowly(const char *name, int fd)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int rc = real(fd), saved = errno;
    const char *text = getenv("SHIM_FLUSH_US");
    long long ns = until.tv_nsec + (text ? atoll(text) : 0) * 1000;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
    const char *path = getenv("SHIM_FLUSH_LOG");
    int log = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (log >= 0) {
        if (write(log, ".", 1) != 1)
            rc = -1;
        close(log);
    }
    errno = saved;
    return rc;
}

int fdatasync(int fd) { return slowly("fdatasync", fd); }
int fsync(int fd) { return slowly("fsync", fd); }

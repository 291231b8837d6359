/*
 * spool_io: the system calls by which the spool changes the disk, as a table
 *
 * Purpose    tests put their own functions in, to record what is written, to cut it, and to make the n-th call fail
 * Threads    any; the functions of the system table keep no state
 * Errors     as the system calls: -1 and errno; short counts are dealt with by the callers below
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "common/base/attrs.h"

struct statvfs;

struct spool_io {
    void *arg; /* borrowed; first argument of each */
    int (*open)(void *arg, const char *path, int flags, mode_t mode);
    ssize_t (*pwritev)(void *arg, int fd, const struct iovec *v, int n, off_t off);
    int (*fdatasync)(void *arg, int fd);
    int (*fallocate)(void *arg, int fd, off_t bytes);
    int (*rename)(void *arg, const char *from, const char *to);
    int (*unlink)(void *arg, const char *path);
    int (*sync_dir)(void *arg, const char *path);
    int (*free_bytes)(void *arg, const char *path, uint64_t *out);
};

extern const struct spool_io spool_io_system;

/* Writes all of v (its entries are changed) or fails with errno. */
bool spool_io_writev(const struct spool_io *io, int fd, struct iovec *v, int n, off_t off) MUST_CHECK;
bool spool_io_write(const struct spool_io *io, int fd, const void *p, size_t n, off_t off) MUST_CHECK;

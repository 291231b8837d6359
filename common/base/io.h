/*
 * io: system calls with EINTR and short counts dealt with, once
 *
 * Threads    any
 * Errors     errno is kept for the caller
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/err.h"

/* Writes all n bytes (at offset off for the p forms); false with errno on failure. */
bool io_write_all(int fd, const void *p, size_t n) MUST_CHECK;
bool io_pwrite_all(int fd, const void *p, size_t n, off_t off) MUST_CHECK;
/* Reads exactly n bytes at off; false with errno (0 at end of file). */
bool io_pread_all(int fd, void *p, size_t n, off_t off) MUST_CHECK;
/*
 * The first n bytes of a file, mapped for reading. What the disk does not give (and what lies beyond the end) is zero and
 * counted in *bad_bytes, where a plain mapping would end the process by SIGBUS. Free with io_unmap(). NULL with errno.
 */
const char *io_map_readable(int fd, size_t n, size_t *bad_bytes) MUST_CHECK;
void io_unmap(const char *p, size_t n);
/* Appends the whole file to b; false with *e filled (also when it exceeds b->max). */
bool io_read_file(const char *path, struct buf *b, struct err *e) MUST_CHECK;
/* fsync of a directory by path; false with errno. */
bool io_sync_dir(const char *path) MUST_CHECK;
/* mkdir -p of one path with mode; an existing directory is fine. False with errno. */
bool io_make_dirs(const char *path, mode_t mode) MUST_CHECK;
/* Closes when >= 0 and sets to -1; keeps errno. */
void io_close(int *fd);
/* Sets O_NONBLOCK; false with errno. */
bool io_set_nonblock(int fd, bool on) MUST_CHECK;

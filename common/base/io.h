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

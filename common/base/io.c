#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"

bool io_write_all(int fd, const void *p, size_t n)
{
    const char *c = p;
    while (n > 0) {
        ssize_t k = write(fd, c, n);
        if (k < 0) {
            if (errno == EINTR)
                continue;
            return false;
        }
        c += k;
        n -= (size_t)k;
    }
    return true;
}

bool io_pwrite_all(int fd, const void *p, size_t n, off_t off)
{
    const char *c = p;
    while (n > 0) {
        ssize_t k = pwrite(fd, c, n, off);
        if (k < 0) {
            if (errno == EINTR)
                continue;
            return false;
        }
        c += k;
        off += k;
        n -= (size_t)k;
    }
    return true;
}

bool io_pread_all(int fd, void *p, size_t n, off_t off)
{
    char *c = p;
    while (n > 0) {
        ssize_t k = pread(fd, c, n, off);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            if (k == 0)
                errno = 0;
            return false;
        }
        c += k;
        off += k;
        n -= (size_t)k;
    }
    return true;
}

#define PROBE_BYTES (256u << 10)

/* Puts zeros over the pages of [at, at + n) that cannot be read. */
static bool cover_bad_pages(int fd, char *p, size_t at, size_t n, size_t *bad_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char one;
    for (size_t end = at + n; at < end; at += page) {
        if (io_pread_all(fd, &one, 1, (off_t)at))
            continue;
        if (mmap(p + at, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
            return false;
        *bad_bytes += end - at < page ? end - at : page;
    }
    return true;
}

const char *io_map_readable(int fd, size_t n, size_t *bad_bytes)
{
    char *scratch = NULL, *p = mmap(NULL, n ? n : 1, PROT_READ, MAP_PRIVATE, fd, 0);
    bool ok = p != MAP_FAILED;
    *bad_bytes = 0;
    if (ok)
        scratch = xmalloc(PROBE_BYTES);
    /* Reading is the only way to ask; it brings the pages into memory as well. */
    for (size_t at = 0; ok && at < n; at += PROBE_BYTES) {
        size_t k = n - at < PROBE_BYTES ? n - at : PROBE_BYTES;
        ok = io_pread_all(fd, scratch, k, (off_t)at) || cover_bad_pages(fd, p, at, k, bad_bytes);
    }
    int saved = errno;
    free(scratch);
    if (!ok && p != MAP_FAILED)
        munmap(p, n ? n : 1);
    errno = saved;
    return ok ? p : NULL;
}

void io_unmap(const char *p, size_t n)
{
    if (p != NULL)
        munmap((void *)(uintptr_t)p, n ? n : 1);
}

bool io_read_file(const char *path, struct buf *b, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_set_sys(e, errno, "open %s", path);
        return false;
    }
    bool ok = false;
    for (;;) {
        char tmp[16384];
        ssize_t k = read(fd, tmp, sizeof tmp);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0) {
            err_set_sys(e, errno, "read %s", path);
            break;
        }
        if (k == 0) {
            ok = true;
            break;
        }
        buf_add(b, tmp, (size_t)k);
        if (!buf_ok(b)) {
            err_set(e, "read %s: larger than %zu bytes", path, b->max);
            break;
        }
    }
    io_close(&fd);
    return ok;
}

bool io_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = fsync(fd) == 0;
    io_close(&fd);
    return ok;
}

bool io_make_dirs(const char *path, mode_t mode)
{
    char *copy = xstrdup(path);
    bool ok = true;
    for (char *s = copy + 1; ok && *s; s++) {
        if (*s != '/')
            continue;
        *s = '\0';
        ok = mkdir(copy, mode) == 0 || errno == EEXIST;
        *s = '/';
    }
    if (ok)
        ok = mkdir(copy, mode) == 0 || errno == EEXIST;
    int saved = errno;
    free(copy);
    errno = saved;
    return ok;
}

void io_close(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd);
    errno = saved;
    *fd = -1;
}

bool io_set_nonblock(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return false;
    flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return fcntl(fd, F_SETFL, flags) == 0;
}

#include <errno.h>
#include <fcntl.h>
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

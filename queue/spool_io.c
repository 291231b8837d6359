#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/io.h"
#include "queue/spool_io.h"

static int sys_open(void *arg UNUSED, const char *path, int flags, mode_t mode)
{
    return open(path, flags | O_CLOEXEC, mode);
}

static ssize_t sys_pwritev(void *arg UNUSED, int fd, const struct iovec *v, int n, off_t off)
{
    return pwritev(fd, v, n, off);
}

static int sys_fdatasync(void *arg UNUSED, int fd)
{
    return fdatasync(fd);
}

static int sys_fallocate(void *arg UNUSED, int fd, off_t bytes)
{
    return fallocate(fd, 0, 0, bytes);
}

static int sys_rename(void *arg UNUSED, const char *from, const char *to)
{
    return rename(from, to);
}

static int sys_unlink(void *arg UNUSED, const char *path)
{
    return unlink(path);
}

static int sys_sync_dir(void *arg UNUSED, const char *path)
{
    return io_sync_dir(path) ? 0 : -1;
}

static int sys_free_bytes(void *arg UNUSED, const char *path, uint64_t *out)
{
    struct statvfs v;
    if (statvfs(path, &v) != 0)
        return -1;
    *out = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}

const struct spool_io spool_io_system = {
    .open = sys_open,
    .pwritev = sys_pwritev,
    .fdatasync = sys_fdatasync,
    .fallocate = sys_fallocate,
    .rename = sys_rename,
    .unlink = sys_unlink,
    .sync_dir = sys_sync_dir,
    .free_bytes = sys_free_bytes,
};

bool spool_io_writev(const struct spool_io *io, int fd, struct iovec *v, int n, off_t off)
{
    while (n > 0) {
        ssize_t k = io->pwritev(io->arg, fd, v, n < IOV_MAX ? n : IOV_MAX, off);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            if (k == 0)
                errno = EIO;
            return false;
        }
        off += k;
        while (n > 0 && (size_t)k >= v->iov_len) {
            k -= (ssize_t)v->iov_len;
            v++;
            n--;
        }
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + k;
            v->iov_len -= (size_t)k;
        }
    }
    return true;
}

bool spool_io_write(const struct spool_io *io, int fd, const void *p, size_t n, off_t off)
{
    struct iovec v = { (void *)(uintptr_t)p, n };
    return n == 0 || spool_io_writev(io, fd, &v, 1, off);
}

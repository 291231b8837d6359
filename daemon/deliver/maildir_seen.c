/*
 * Size and the first HEAD_BYTES are compared: they hold Return-Path, Delivered-To and our Received line with the queue ID.
 * A file that differs is somebody else's, and the delivery goes on under another name.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/io.h"
#include "daemon/deliver/maildir_seen.h"

#define HEAD_BYTES 4096

/* Bytes of content once each CRLF is one LF and the last line has its end; the first `max` of them into head. */
static size_t as_written(struct span content, struct buf *head, size_t max)
{
    size_t n = 0;
    const char *p = content.p, *end = content.p + content.n;
    while (p < end) {
        const char *cr = memchr(p, '\r', (size_t)(end - p));
        bool is_end = cr != NULL && cr + 1 < end && cr[1] == '\n';
        const char *stop = cr == NULL ? end : is_end ? cr : cr + 1;
        size_t k = (size_t)(stop - p), room = head->n < max ? max - head->n : 0;
        buf_add(head, p, k < room ? k : room);
        n += k;
        p = is_end ? cr + 1 : stop;
    }
    if (content.n > 0 && content.p[content.n - 1] != '\n')
        n++;
    return n;
}

static bool is_same(int dir, const char *path, const struct buf *head, size_t size)
{
    char have[HEAD_BYTES];
    struct stat st;
    int fd = openat(dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool same = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == size &&
                io_pread_all(fd, have, head->n, 0) && memcmp(have, head->p, head->n) == 0;
    io_close(&fd);
    return same;
}

/* The reader has moved it to cur/ under NAME:FLAGS. */
static bool is_in_cur(int dir, const char *name, const struct buf *head, size_t size)
{
    size_t n = strlen(name);
    bool found = false;
    int fd = openat(dir, "cur", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        io_close(&fd);
        return false;
    }
    for (struct dirent *e = readdir(d); e != NULL && !found; e = readdir(d))
        if (strncmp(e->d_name, name, n) == 0 && (e->d_name[n] == ':' || e->d_name[n] == '\0'))
            found = is_same(dirfd(d), e->d_name, head, size);
    closedir(d);
    return found;
}

bool maildir_has_already(int dir, const char *name, struct span headers, struct span content)
{
    struct buf head = BUF_INIT(HEAD_BYTES), path = BUF_INIT(1024);
    size_t k = headers.n < HEAD_BYTES ? headers.n : HEAD_BYTES;
    buf_add(&head, headers.p, k);
    size_t size = headers.n + as_written(content, &head, HEAD_BYTES);
    buf_printf(&path, "new/%s", name);
    bool found = buf_ok(&path) && (is_same(dir, buf_cstr(&path), &head, size) || is_in_cur(dir, name, &head, size));
    buf_free(&head);
    buf_free(&path);
    return found;
}

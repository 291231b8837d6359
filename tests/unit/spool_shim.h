/*
 * A table of system calls for the spool that writes down what was done, and can make one call fail.
 *
 * What was written down can be put into another directory as a crash would have left it at any moment: shim_rebuild().
 * After a kill everything done is there. After a power cut, of writes that no fdatasync() followed (one that began after them,
 * and returned) any sector may be missing, and of names (created, renamed, removed) any number of the last that no flush of their directory followed.
 */
#pragma once
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/io.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "queue/spool_io.h"

enum shim_kind { SHIM_CREATE, SHIM_WRITE, SHIM_FLUSH, SHIM_SIZE, SHIM_RENAME, SHIM_UNLINK, SHIM_SYNC_DIR, SHIM_ACK, SHIM_ENDING, SHIM_END };

struct shim_op {
    enum shim_kind kind;
    int file;               /* number of the file, as an inode */
    char *a, *b;            /* names below the spool directory; owned */
    char *data;             /* owned */
    size_t n;
    off_t off;              /* SHIM_FLUSH: how many calls there were when it began */
    uint64_t id;            /* SHIM_ACK: answered 250; SHIM_ENDING, SHIM_END: before and after its results are written */
};

#define SHIM_FDS 1024
struct shim {
    struct spool_io io;
    const char *dir;
    struct lock m;          /* LOCK_TEST_B */
    bool record;
    struct shim_op *op;
    size_t n, cap;
    int fd_file[SHIM_FDS];
    struct { char *name; int file; } names[256];
    int name_n, files;
    unsigned calls, fail_at; /* the fail_at-th call fails; 0: none */
    bool fail_on;            /* and all after it */
    int fail_errno;
    bool failed;
    useconds_t flush_us;    /* a flush takes so long */
    unsigned flushing, most_flushing; /* flushes that run, and how many did at once */
};

static UNUSED struct shim_op *shim_add(struct shim *s, enum shim_kind k)
{
    if (s->n == s->cap)
        s->op = xrealloc(s->op, (s->cap = s->cap ? 2 * s->cap : 256) * sizeof *s->op);
    s->op[s->n] = (struct shim_op){ .kind = k, .file = -1 };
    return &s->op[s->n++];
}

static UNUSED void shim_note(struct shim *s, enum shim_kind k, uint64_t id)
{
    lock_take(&s->m);
    shim_add(s, k)->id = id;
    lock_drop(&s->m);
}

static UNUSED const char *shim_rel(struct shim *s, const char *path)
{
    size_t n = strlen(s->dir);
    return strncmp(path, s->dir, n) == 0 && path[n] == '/' ? path + n + 1 : path;
}

static UNUSED bool shim_fails(struct shim *s)
{
    lock_take(&s->m);
    s->calls++;
    bool fail = s->fail_at != 0 && (s->calls == s->fail_at || (s->fail_on && s->calls > s->fail_at));
    s->failed = s->failed || fail;
    lock_drop(&s->m);
    if (fail)
        errno = s->fail_errno;
    return fail;
}

static UNUSED int shim_name(struct shim *s, const char *rel)
{
    for (int i = 0; i < s->name_n; i++)
        if (s->names[i].name != NULL && strcmp(s->names[i].name, rel) == 0)
            return i;
    return -1;
}

static UNUSED void shim_set_name(struct shim *s, const char *rel, int file)
{
    int i = shim_name(s, rel);
    if (i < 0) {
        for (i = 0; i < s->name_n && s->names[i].name != NULL; i++)
            ;
        if (i == s->name_n)
            s->name_n++;
        if (s->name_n > 256)
            abort();
        s->names[i].name = xstrdup(rel);
    }
    s->names[i].file = file;
}

static UNUSED void shim_drop_name(struct shim *s, const char *rel)
{
    int i = shim_name(s, rel);
    if (i >= 0) {
        free(s->names[i].name);
        s->names[i].name = NULL;
    }
}

static UNUSED int shim_open(void *arg, const char *path, int flags, mode_t mode)
{
    struct shim *s = arg;
    if ((flags & O_CREAT) && shim_fails(s))
        return -1;
    lock_take(&s->m);
    int fd = open(path, flags | O_CLOEXEC, mode);
    if (fd >= 0 && fd < SHIM_FDS && s->record) {
        const char *rel = shim_rel(s, path);
        int i = shim_name(s, rel);
        if (i < 0) {
            struct shim_op *o = shim_add(s, SHIM_CREATE);
            o->file = s->files++;
            o->a = xstrdup(rel);
            shim_set_name(s, rel, o->file);
            i = shim_name(s, rel);
        }
        s->fd_file[fd] = s->names[i].file;
    }
    lock_drop(&s->m);
    return fd;
}

static UNUSED ssize_t shim_pwritev(void *arg, int fd, const struct iovec *v, int n, off_t off)
{
    struct shim *s = arg;
    if (shim_fails(s))
        return -1;
    lock_take(&s->m);
    ssize_t k = pwritev(fd, v, n, off);
    if (k > 0 && s->record) {
        struct shim_op *o = shim_add(s, SHIM_WRITE);
        o->file = s->fd_file[fd];
        o->off = off;
        o->data = xmalloc((size_t)k);
        for (int i = 0; i < n && o->n < (size_t)k; i++) {
            size_t take = v[i].iov_len < (size_t)k - o->n ? v[i].iov_len : (size_t)k - o->n;
            memcpy(o->data + o->n, v[i].iov_base, take);
            o->n += take;
        }
    }
    lock_drop(&s->m);
    return k;
}

static UNUSED int shim_fdatasync(void *arg, int fd)
{
    struct shim *s = arg;
    if (shim_fails(s))
        return -1;
    lock_take(&s->m);
    size_t began = s->n;
    if (++s->flushing > s->most_flushing)
        s->most_flushing = s->flushing;
    lock_drop(&s->m);
    if (s->flush_us > 0)
        usleep(s->flush_us);
    lock_take(&s->m);
    s->flushing--;
    if (s->record) {
        struct shim_op *o = shim_add(s, SHIM_FLUSH);
        o->file = s->fd_file[fd];
        o->off = (off_t)began;
    }
    lock_drop(&s->m);
    return 0;
}

static UNUSED int shim_fallocate(void *arg, int fd, off_t bytes)
{
    struct shim *s = arg;
    if (shim_fails(s))
        return -1;
    lock_take(&s->m);
    int rc = ftruncate(fd, bytes);
    if (rc == 0 && s->record) {
        struct shim_op *o = shim_add(s, SHIM_SIZE);
        o->file = s->fd_file[fd];
        o->off = bytes;
    }
    lock_drop(&s->m);
    return rc;
}

static UNUSED int shim_rename(void *arg, const char *from, const char *to)
{
    struct shim *s = arg;
    if (shim_fails(s))
        return -1;
    lock_take(&s->m);
    int rc = rename(from, to), i = shim_name(s, shim_rel(s, from));
    if (rc == 0 && s->record && i >= 0) {
        struct shim_op *o = shim_add(s, SHIM_RENAME);
        o->a = xstrdup(shim_rel(s, from));
        o->b = xstrdup(shim_rel(s, to));
        int file = s->names[i].file;
        shim_drop_name(s, o->a);
        shim_set_name(s, o->b, file);
    }
    lock_drop(&s->m);
    return rc;
}

static UNUSED int shim_unlink(void *arg, const char *path)
{
    struct shim *s = arg;
    if (shim_fails(s))
        return -1;
    lock_take(&s->m);
    int rc = unlink(path);
    if (rc == 0 && s->record) {
        struct shim_op *o = shim_add(s, SHIM_UNLINK);
        o->a = xstrdup(shim_rel(s, path));
        shim_drop_name(s, o->a);
    }
    lock_drop(&s->m);
    return rc;
}

static UNUSED int shim_sync_dir(void *arg, const char *path)
{
    struct shim *s = arg;
    if (shim_fails(s))
        return -1;
    lock_take(&s->m);
    if (s->record)
        shim_add(s, SHIM_SYNC_DIR)->a = xstrdup(shim_rel(s, path));
    lock_drop(&s->m);
    return 0;
}

static UNUSED int shim_free_bytes(void *arg UNUSED, const char *path UNUSED, uint64_t *out)
{
    *out = UINT64_C(1) << 40;
    return 0;
}

static UNUSED void shim_init(struct shim *s, const char *dir, bool record)
{
    *s = (struct shim){ .dir = dir, .record = record };
    lock_init(&s->m, LOCK_TEST_B);
    s->io = (struct spool_io){ s, shim_open, shim_pwritev, shim_fdatasync, shim_fallocate, shim_rename,
                               shim_unlink, shim_sync_dir, shim_free_bytes };
}

static UNUSED void shim_free(struct shim *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->op[i].a);
        free(s->op[i].b);
        free(s->op[i].data);
    }
    for (int i = 0; i < s->name_n; i++)
        free(s->names[i].name);
    free(s->op);
    lock_destroy(&s->m);
}

/* ---- after a crash ---- */

struct shim_file {
    char *p;
    size_t n;
    const char *name;       /* NULL: it has none any more */
};

static UNUSED uint64_t shim_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

static UNUSED void shim_grow(struct shim_file *f, size_t n)
{
    if (n <= f->n)
        return;
    f->p = xrealloc(f->p, n);
    memset(f->p + f->n, 0, n - f->n);
    f->n = n;
}

static UNUSED bool shim_is_flushed(const struct shim *s, size_t at, size_t cut)
{
    for (size_t i = at + 1; i < cut; i++)
        if (s->op[i].kind == SHIM_FLUSH && s->op[i].file == s->op[at].file && s->op[i].off > (off_t)at)
            return true;
    return false;
}

/* A flush of the directory of op[at]'s name came before the cut. */
static UNUSED bool shim_is_name_flushed(const struct shim *s, size_t at, size_t cut)
{
    const char *name = s->op[at].a;
    for (size_t i = at + 1; i < cut; i++)
        if (s->op[i].kind == SHIM_SYNC_DIR && strncmp(name, s->op[i].a, strlen(s->op[i].a)) == 0)
            return true;
    return false;
}

static UNUSED void shim_write(struct shim_file *f, const struct shim_op *o, size_t n, bool whole, uint64_t *seed)
{
    shim_grow(f, (size_t)o->off + n);
    for (size_t i = 0; i < n;) {
        size_t at = (size_t)o->off + i, take = 512 - at % 512 < n - i ? 512 - at % 512 : n - i;
        if (whole || shim_random(seed) % 2)
            memcpy(f->p + at, o->data + i, take);
        i += take;
    }
}

static UNUSED void shim_unname(const struct shim *s, struct shim_file *f, const char *name)
{
    for (int i = 0; i < s->files; i++)
        if (f[i].name != NULL && strcmp(f[i].name, name) == 0)
            f[i].name = NULL;
}

/* Fills dir (which has the subdirectories) as op[0..cut) and the first `bytes` of op[cut] leave it. seed 0: a kill, else a power cut. */
static UNUSED void shim_rebuild(const struct shim *s, size_t cut, size_t bytes, uint64_t seed, const char *dir)
{
    struct shim_file *f = xcalloc((size_t)s->files + 1, sizeof *f);
    size_t names_until = cut;
    bool power = seed != 0;
    if (power)
        names_until = (size_t)(shim_random(&seed) % (cut + 1));
    for (size_t i = 0; i <= cut && i < s->n; i++) {
        const struct shim_op *o = &s->op[i];
        bool partly = i == cut;
        if (partly && o->kind != SHIM_WRITE)
            break;
        if (o->kind == SHIM_WRITE)
            shim_write(&f[o->file], o, partly ? bytes : o->n, !power || (!partly && shim_is_flushed(s, i, cut)), &seed);
        else if (o->kind == SHIM_SIZE)
            shim_grow(&f[o->file], (size_t)o->off);
        else if (o->a == NULL || (i >= names_until && !shim_is_name_flushed(s, i, cut)))
            continue;
        else if (o->kind == SHIM_CREATE)
            f[o->file].name = o->a;
        else if (o->kind == SHIM_UNLINK)
            shim_unname(s, f, o->a);
        else if (o->kind == SHIM_RENAME) {
            shim_unname(s, f, o->b);
            for (int k = 0; k < s->files; k++)
                if (f[k].name != NULL && strcmp(f[k].name, o->a) == 0)
                    f[k].name = o->b;
        }
    }
    for (int i = 0; i < s->files; i++) {
        if (f[i].name != NULL) {
            char *path = xasprintf("%s/%s", dir, f[i].name);
            int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
            if (fd < 0 || !io_write_all(fd, f[i].p, f[i].n))
                abort();
            io_close(&fd);
            free(path);
        }
        free(f[i].p);
    }
    free(f);
}

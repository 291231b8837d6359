/*
 * A file whose last change is younger than its clock's grain when it is read may change again without looking different, so it
 * counts as changed at the next look.
 *
 * A database is written in place by postmap, under a POSIX lock on the whole file. Ours is an open-file-description lock,
 * which excludes it and does not go away when another thread closes the same file.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/table/table_file.h"

#define GRAIN_NS      INT64_C(50000000)
#define LOCK_TRIES    100
#define LOCK_PAUSE_US 50000

void table_file_init(struct table_file *f, const char *path, const char *suffix)
{
    *f = (struct table_file){ .path = path, .suffix = suffix };
    if (suffix != NULL)
        f->database = xasprintf("%s%s", path, suffix);
}

void table_file_free(struct table_file *f)
{
    free(f->database);
    f->database = NULL;
}

static void look(const char *path, struct table_file_state *s)
{
    struct stat st;
    *s = (struct table_file_state){ .error = 0 };
    if (stat(path, &st) != 0) {
        s->error = errno;
        return;
    }
    *s = (struct table_file_state){ .dev = st.st_dev, .ino = st.st_ino, .size = st.st_size, .mtime = st.st_mtim,
                                    .ctime = st.st_ctim };
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t age_s = (int64_t)now.tv_sec - st.st_ctim.tv_sec;
    s->is_young = age_s < 2 && age_s * INT64_C(1000000000) + now.tv_nsec - st.st_ctim.tv_nsec < GRAIN_NS;
}

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* The file to read now: the database if there is one. */
static bool look_at_either(const struct table_file *f, struct table_file_state *s)
{
    if (f->database != NULL) {
        look(f->database, s);
        if (s->error != ENOENT)
            return true;
    }
    look(f->path, s);
    return false;
}

bool table_file_is_new(const struct table_file *f)
{
    struct table_file_state now;
    bool is_database = look_at_either(f, &now);
    const struct table_file_state *a = &f->seen, *b = &now;
    return is_database != f->is_database || a->dev != b->dev || a->ino != b->ino || a->size != b->size
           || !is_same_time(&a->mtime, &b->mtime) || !is_same_time(&a->ctime, &b->ctime) || a->error != b->error
           || a->is_young;
}

bool table_file_is_stale(const struct table_file *f)
{
    struct stat st;
    return f->is_database && stat(f->path, &st) == 0 && st.st_mtim.tv_sec > f->seen.mtime.tv_sec;
}

static enum table_file_answer take_read_lock(int fd, const char *path, bool may_wait, struct err *e)
{
    struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
    for (int i = 0; fcntl(fd, F_OFD_SETLK, &l) != 0; i++) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            break; /* a file system without locks */
        if (!may_wait)
            return TABLE_FILE_BUSY;
        if (i == LOCK_TRIES) {
            err_set(e, "%s: another program keeps it locked for writing", path);
            return TABLE_FILE_FAILED;
        }
        usleep(LOCK_PAUSE_US);
    }
    return TABLE_FILE_READ;
}

static enum table_file_answer read_database(const char *path, bool may_wait, struct buf *out, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_set_sys(e, errno, "open %s", path);
        return TABLE_FILE_FAILED;
    }
    enum table_file_answer a = take_read_lock(fd, path, may_wait, e);
    if (a == TABLE_FILE_READ && !io_read_file(path, out, e))
        a = TABLE_FILE_FAILED;
    io_close(&fd);
    return a;
}

/* Adds to "no such file" what is there. */
static void explain(const struct table_file *f, struct err *e)
{
    if (f->database != NULL) {
        err_set_sys(e, ENOENT, "neither %s nor %s", f->database, f->path);
        return;
    }
    char db[4096];
    int n = snprintf(db, sizeof db, "%s.db", f->path);
    if (n > 0 && (size_t)n < sizeof db && access(db, F_OK) == 0)
        err_set_sys(e, ENOENT, "%s (only %s is there: not the compiled map is read here, but the text it was made from)",
                    f->path, db);
}

enum table_file_answer table_file_read(struct table_file *f, bool may_wait, struct buf *out, struct err *e)
{
    struct table_file_state now;
    bool is_database = look_at_either(f, &now); /* before reading: a change while we read shows at the next look */
    enum table_file_answer a = TABLE_FILE_READ;
    if (is_database)
        a = read_database(f->database, may_wait, out, e);
    else if (!io_read_file(f->path, out, e))
        a = TABLE_FILE_FAILED;
    if (a == TABLE_FILE_BUSY)
        return a;
    f->seen = now;
    f->is_database = is_database;
    if (a == TABLE_FILE_FAILED && now.error == ENOENT)
        explain(f, e);
    return a;
}

/*
 * The files behind the segments. A file that ends is renamed to spare-GENERATION and becomes, under a new header with
 * a new generation and salt, the next segment; its old bytes then belong to no valid frame. The committer finds
 * the next segment ready (prepared by the keeper: written, flushed, renamed, directory flushed) and only when the
 * keeper is behind, or a record is larger than any segment, makes one itself.
 *
 * At start every *.jnl file is a sealed segment: appending goes on in a new one, so a torn tail is never written over
 * while somebody may still want to look at it. A file whose header does not read is left alone and reported.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "queue/segment.h"

#define SPARES_KEPT 3
/* Made by the committer itself, so small. */
#define HASTY_BYTES (4u << 20)

char *segments_path(const struct segments *s, uint64_t generation)
{
    return xasprintf("%s/%016llx.jnl", s->dir, (unsigned long long)generation);
}

static char *spare_path(const struct segments *s, uint64_t name)
{
    return xasprintf("%s/spare-%016llx", s->dir, (unsigned long long)name);
}

static struct segment *segment_new(uint64_t generation, uint64_t salt, uint64_t bytes, int fd)
{
    struct segment *g = xcalloc(1, sizeof *g);
    *g = (struct segment){ .generation = generation, .salt = salt, .bytes = bytes, .end = LOGFILE_DATA_AT, .fd = fd };
    return g;
}

static void add_locked(struct segments *s, struct segment *g)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->v = xrealloc(s->v, s->cap * sizeof(struct segment *));
    }
    s->v[s->n++] = g;
}

/* ---- beginning one ---- */

/* Gives the file under `path` a new header and its segment name, durably. Takes fd. */
static struct segment *begin(struct segments *s, char *path, int fd, uint64_t bytes)
{
    lock_take(&s->m);
    struct logfile_head h = { .generation = s->next_generation++, .salt = logfile_salt(), .bytes = bytes,
                              .begun_us = clock_wall_us() };
    lock_drop(&s->m);
    char *to = segments_path(s, h.generation);
    struct segment *g = NULL;
    if (logfile_write_head(s->io, fd, LOGFILE_JOURNAL, &h) && s->io->fdatasync(s->io->arg, fd) == 0 &&
        s->io->rename(s->io->arg, path, to) == 0) {
        if (s->io->sync_dir(s->io->arg, s->dir) == 0) {
            g = segment_new(h.generation, h.salt, bytes, fd);
        } else {
            int saved = errno;
            s->io->unlink(s->io->arg, to);
            errno = saved;
        }
    }
    if (g == NULL)
        io_close(&fd);
    free(to);
    return g;
}

/* A file of fresh zeros. */
static struct segment *begin_fresh(struct segments *s, uint64_t bytes)
{
    lock_take(&s->m);
    uint64_t name = s->next_generation++;
    lock_drop(&s->m);
    char *path = spare_path(s, name);
    struct segment *g = NULL;
    int fd = logfile_create(s->io, path, bytes);
    if (fd >= 0) {
        g = begin(s, path, fd, bytes);
        if (g == NULL) {
            int saved = errno;
            s->io->unlink(s->io->arg, path);
            errno = saved;
        }
    }
    free(path);
    return g;
}

/* A recycled file, or NULL when there is none that fits. */
static struct segment *begin_recycled(struct segments *s, uint64_t need)
{
    lock_take(&s->m);
    unsigned i = 0;
    while (i < s->spare_count && s->spares[i].bytes < need)
        i++;
    if (i == s->spare_count) {
        lock_drop(&s->m);
        return NULL;
    }
    uint64_t name = s->spares[i].name, bytes = s->spares[i].bytes;
    s->spares[i] = s->spares[--s->spare_count];
    lock_drop(&s->m);

    char *path = spare_path(s, name);
    struct segment *g = NULL;
    int fd = s->io->open(s->io->arg, path, O_RDWR, 0);
    if (fd >= 0) {
        /* Appending to a page that is not in memory would have to read it first. */
        posix_fadvise(fd, 0, (off_t)bytes, POSIX_FADV_WILLNEED);
        g = begin(s, path, fd, bytes);
    }
    if (g == NULL)
        log_warn(s->log, "journal: %s cannot be used again: %m", path);
    if (g == NULL)
        s->io->unlink(s->io->arg, path); /* whatever is wrong with it, it shall not come back */
    free(path);
    return g;
}

bool segments_prepare(struct segments *s)
{
    lock_take(&s->m);
    bool ready = s->prepared != NULL;
    lock_drop(&s->m);
    if (ready)
        return true;
    struct segment *g = begin_recycled(s, s->standard_bytes);
    if (g == NULL)
        g = begin_fresh(s, s->standard_bytes);
    if (g == NULL)
        return false;
    lock_take(&s->m);
    s->prepared = g;
    lock_drop(&s->m);
    return true;
}

/* Generations rise along the list: one that was prepared while the committer made its own begins again. */
static struct segment *renew(struct segments *s, struct segment *g)
{
    char *path = segments_path(s, g->generation);
    struct segment *again = begin(s, path, g->fd, g->bytes);
    if (again == NULL)
        s->io->unlink(s->io->arg, path);
    g->fd = -1; /* begin() took it */
    segment_free(g);
    free(path);
    return again;
}

static struct segment *begin_hasty(struct segments *s, uint64_t need)
{
    uint64_t usual = s->standard_bytes < HASTY_BYTES ? s->standard_bytes : HASTY_BYTES;
    struct segment *g = begin_recycled(s, need);
    return g != NULL ? g : begin_fresh(s, need > usual ? need : usual);
}

struct segment *segments_take_active(struct segments *s, uint64_t need)
{
    need += LOGFILE_DATA_AT;
    lock_take(&s->m);
    struct segment *g = NULL;
    uint64_t last = s->n > 0 ? s->v[s->n - 1]->generation : 0;
    if (s->prepared != NULL && s->prepared->bytes >= need) {
        g = s->prepared;
        s->prepared = NULL;
    }
    if (s->n > 0)
        s->v[s->n - 1]->sealed = true;
    lock_drop(&s->m);
    if (g != NULL && g->generation < last)
        g = renew(s, g);
    if (g == NULL)
        g = begin_hasty(s, need);
    if (g == NULL)
        return NULL;
    lock_take(&s->m);
    add_locked(s, g);
    s->open_files++;
    s->keeper_wanted = true;
    cond_signal(&s->changed);
    lock_drop(&s->m);
    return g;
}

/* ---- ending one ---- */

static bool keep_as_spare(struct segments *s, const struct segment *g)
{
    /* An abandoned file stays away from the flushes of others, and an odd size from the standard ones. */
    return !g->abandoned && g->bytes == s->standard_bytes && s->spare_count < SPARES_KEPT;
}

bool segments_reclaim(struct segments *s, struct segment *g)
{
    lock_take(&s->m);
    size_t i = 0;
    while (i < s->n && s->v[i] != g)
        i++;
    if (i == s->n || !g->sealed || g->live > 0 || g->pins > 0) {
        lock_drop(&s->m);
        return false;
    }
    memmove(&s->v[i], &s->v[i + 1], (s->n - i - 1) * sizeof(struct segment *));
    s->n--;
    bool spare = keep_as_spare(s, g);
    s->open_files -= g->fd >= 0;
    lock_drop(&s->m);

    char *path = segments_path(s, g->generation), *to = spare_path(s, g->generation);
    io_close(&g->fd);
    bool renamed = spare && s->io->rename(s->io->arg, path, to) == 0;
    if (spare && !renamed)
        log_warn(s->log, "journal: rename %s: %m: removed instead", path);
    if (renamed) {
        lock_take(&s->m);
        s->spares[s->spare_count].name = g->generation;
        s->spares[s->spare_count++].bytes = g->bytes;
        lock_drop(&s->m);
    } else if (s->io->unlink(s->io->arg, path) != 0) {
        log_warn(s->log, "cannot remove journal segment %s: %m", path);
    }
    segment_free(g);
    free(path);
    free(to);
    return true;
}

void segments_trim_spares(struct segments *s, unsigned keep)
{
    for (;;) {
        lock_take(&s->m);
        bool more = s->spare_count > keep;
        uint64_t name = more ? s->spares[--s->spare_count].name : 0;
        lock_drop(&s->m);
        if (!more)
            return;
        char *path = spare_path(s, name);
        if (s->io->unlink(s->io->arg, path) != 0)
            log_warn(s->log, "cannot remove %s: %m", path);
        free(path);
    }
}

/* ---- at start ---- */

static bool parse_name(const char *name, const char *before, const char *after, uint64_t *out)
{
    struct span s = span_cstr(name);
    size_t a = strlen(before), b = strlen(after);
    if (s.n != a + 16 + b || memcmp(name, before, a) != 0 || strcmp(name + a + 16, after) != 0)
        return false;
    return num_parse_hex(span_of(name + a, 16), out);
}

static int by_generation(const void *a, const void *b)
{
    const struct segment *x = *(struct segment *const *)a, *y = *(struct segment *const *)b;
    return x->generation < y->generation ? -1 : x->generation > y->generation;
}

static void found_spare(struct segments *s, const char *path, uint64_t name, bool read_only)
{
    struct stat st;
    if (read_only)
        return;
    if (s->spare_count < SPARES_KEPT && stat(path, &st) == 0 && (uint64_t)st.st_size == s->standard_bytes) {
        s->spares[s->spare_count].name = name;
        s->spares[s->spare_count++].bytes = (uint64_t)st.st_size;
    } else {
        s->io->unlink(s->io->arg, path);
    }
}

static bool found_segment(struct segments *s, const char *path, uint64_t name, bool read_only, bool *newer, struct err *e)
{
    struct logfile_head h;
    struct stat st;
    int fd = s->io->open(s->io->arg, path, O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &st) != 0) {
        err_set_sys(e, errno, "open %s", path);
        io_close(&fd);
        return false;
    }
    int error = 0;
    enum logfile_head_status k = logfile_read_head(fd, LOGFILE_JOURNAL, &h, &error);
    io_close(&fd);
    if (error != 0 && error != EIO) {
        err_set_sys(e, error, "read %s", path);
        return false;
    }
    if (k == LOGFILE_HEAD_NEWER) {
        *newer = true;
        err_set(e, "%s was written by a newer version", path);
        return false;
    }
    if (k == LOGFILE_HEAD_OK && h.generation > name) {
        /* Its new life was cut short before the new name was durable, so nothing was answered from it. */
        if (!read_only)
            s->io->unlink(s->io->arg, path);
        return true;
    }
    if (k == LOGFILE_HEAD_BAD || h.generation != name) {
        log_error(s->log, "journal segment %s has no valid header%s: left as it is, its messages are not read", path,
                  error == EIO ? " (input/output error)" : "");
        return true;
    }
    /* The file may be shorter than it says after a damage; never longer. */
    struct segment *g = segment_new(h.generation, h.salt, (uint64_t)st.st_size, -1);
    g->end = g->bytes;
    g->sealed = true;
    add_locked(s, g);
    return true;
}

bool segments_open(struct segments *s, bool read_only, bool *newer, struct err *e)
{
    DIR *d = opendir(s->dir);
    struct dirent *de;
    bool ok = true;
    *newer = false;
    if (d == NULL) {
        err_set_sys(e, errno, "open directory %s", s->dir);
        return false;
    }
    while (ok && (de = readdir(d)) != NULL) {
        uint64_t name;
        char *path = xasprintf("%s/%s", s->dir, de->d_name);
        if (parse_name(de->d_name, "", ".jnl", &name))
            ok = found_segment(s, path, name, read_only, newer, e);
        else if (parse_name(de->d_name, "spare-", "", &name))
            found_spare(s, path, name, read_only);
        else
            name = 0;
        if (name >= s->next_generation)
            s->next_generation = name + 1;
        free(path);
    }
    closedir(d);
    if (s->n > 0)
        qsort(s->v, s->n, sizeof(struct segment *), by_generation);
    return ok;
}

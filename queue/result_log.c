/*
 * Results are written by the thread that got the reply, under the lock, so that the order in the log is the order of
 * the events, with one write() into the page cache and no flush: a killed process has lost nothing, and a power cut may
 * repeat deliveries of the last moments. The keeper flushes behind: FLUSH_AFTER_MS after the first that is not flushed, and always
 * before it lets go of journal space or a large file of a finished message, so that the end of a message never gets to disk
 * later than its disappearance.
 *
 * Positions count through all files: generation * RESULT_FILE_BYTES + offset. A zeroed file waits as "spare", so that
 * the log can go on while the disk is full. After a restart the log goes on in a new file.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/crc32c.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "queue/spool_internal.h"

#define FLUSH_AFTER_MS 250
#define FLUSH_AGAIN_MS 1000 /* after a failure */

void result_log_init(struct result_log *l, const struct spool_io *io, const struct log_src *log, const char *dir)
{
    *l = (struct result_log){ .io = io, .log = log, .dir = xstrdup(dir), .prepared_fd = -1, .flush_at_ms = CLOCK_NEVER };
    lock_init(&l->m, LOCK_RESULT_LOG);
    l->tokens.prev = l->tokens.next = &l->tokens;
}

void result_log_destroy(struct result_log *l)
{
    for (struct result_file *f = l->files, *next; f != NULL; f = next) {
        next = f->next;
        io_close(&f->fd);
        free(f);
    }
    io_close(&l->prepared_fd);
    free(l->dir);
    lock_destroy(&l->m);
}

static char *file_path(const struct result_log *l, uint64_t generation)
{
    return xasprintf("%s/%016llx.res", l->dir, (unsigned long long)generation);
}

static char *spare_path(const struct result_log *l)
{
    return xasprintf("%s/spare", l->dir);
}

/* ---- files ---- */

static void add_file_locked(struct result_log *l, uint64_t generation, uint64_t salt, int fd)
{
    struct result_file *f = xcalloc(1, sizeof *f);
    *f = (struct result_file){ .generation = generation, .salt = salt, .fd = fd };
    if (l->tail != NULL)
        l->tail->next = f;
    else
        l->files = f;
    l->tail = f;
    l->end = generation * RESULT_FILE_BYTES + LOGFILE_DATA_AT;
    l->files_begun++;
}

/* The next file becomes the tail. Under the lock because the log cannot go on without it; the spare makes it cheap. */
static bool next_file_locked(struct result_log *l)
{
    struct logfile_head h = { .generation = l->tail ? l->tail->generation + 1 : 1, .salt = logfile_salt(),
                              .bytes = RESULT_FILE_BYTES, .begun_us = clock_wall_us() };
    char *spare = spare_path(l), *path = file_path(l, h.generation);
    int fd = l->prepared_fd;
    l->prepared_fd = -1;
    if (fd < 0)
        fd = l->io->open(l->io->arg, spare, O_RDWR | O_CREAT | O_TRUNC, 0600);
    bool ok = fd >= 0 && logfile_write_head(l->io, fd, LOGFILE_RESULTS, &h) &&
              l->io->rename(l->io->arg, spare, path) == 0;
    if (ok)
        add_file_locked(l, h.generation, h.salt, fd);
    else
        io_close(&fd);
    free(spare);
    free(path);
    return ok;
}

/* What an earlier process left ready: a restart takes no more of the disk, which may be full. */
static int open_spare(const struct result_log *l, const char *spare)
{
    struct stat st;
    int fd = l->io->open(l->io->arg, spare, O_RDWR, 0);
    if (fd >= 0 && (fstat(fd, &st) != 0 || st.st_size != (off_t)RESULT_FILE_BYTES))
        io_close(&fd);
    return fd;
}

bool result_log_prepare(struct result_log *l)
{
    lock_take(&l->m);
    bool ready = l->prepared_fd >= 0;
    bool is_first = l->tail == NULL || l->tail->fd < 0; /* later a "spare" may be one that an append is making */
    lock_drop(&l->m);
    if (ready)
        return true;
    /* Not under its final name yet: an append that finds none makes and renames a "spare" of its own meanwhile. */
    char *tmp = xasprintf("%s/making", l->dir), *spare = spare_path(l);
    int fd = is_first ? open_spare(l, spare) : -1;
    bool made = fd < 0;
    if (made)
        fd = logfile_create(l->io, tmp, RESULT_FILE_BYTES);
    bool ok = fd >= 0;
    if (ok) {
        lock_take(&l->m);
        ok = !made || l->io->rename(l->io->arg, tmp, spare) == 0;
        if (ok) {
            l->prepared_fd = fd;
            fd = -1;
        }
        lock_drop(&l->m);
    }
    io_close(&fd);
    free(tmp);
    free(spare);
    return ok;
}

bool result_log_begin(struct result_log *l, struct err *e)
{
    bool ok = result_log_prepare(l);
    lock_take(&l->m);
    ok = ok && next_file_locked(l);
    lock_drop(&l->m);
    if (!ok)
        err_set_sys(e, errno, "begin a result log in %s", l->dir);
    return ok;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Generations of the files in the directory, rising. */
static bool list_files(const struct result_log *l, struct buf *out, struct err *e)
{
    DIR *d = opendir(l->dir);
    struct dirent *de;
    if (d == NULL) {
        err_set_sys(e, errno, "open directory %s", l->dir);
        return false;
    }
    while ((de = readdir(d)) != NULL) {
        uint64_t g;
        size_t n = strlen(de->d_name);
        if (n == 20 && strcmp(de->d_name + 16, ".res") == 0 && num_parse_hex(span_of(de->d_name, 16), &g))
            buf_add(out, &g, sizeof g);
    }
    closedir(d);
    if (out->n > 0)
        qsort(out->p, out->n / sizeof(uint64_t), sizeof(uint64_t), by_number);
    return true;
}

bool result_log_open(struct result_log *l, bool read_only UNUSED, bool *newer, struct err *e)
{
    struct buf gens = BUF_INIT(0);
    bool ok = list_files(l, &gens, e);
    *newer = false;
    for (size_t i = 0; ok && i < gens.n; i += sizeof(uint64_t)) {
        struct logfile_head h;
        uint64_t g;
        memcpy(&g, gens.p + i, sizeof g);
        char *path = file_path(l, g);
        int fd = l->io->open(l->io->arg, path, O_RDONLY, 0);
        if (fd < 0)
            log_warn(l->log, "open %s: %m: tried once more", path);
        if (fd < 0)
            fd = l->io->open(l->io->arg, path, O_RDONLY, 0); /* deliveries would be repeated without it */
        int error = fd < 0 ? errno : 0;
        enum logfile_head_status k = fd < 0 ? LOGFILE_HEAD_BAD : logfile_read_head(fd, LOGFILE_RESULTS, &h, &error);
        io_close(&fd);
        if (k == LOGFILE_HEAD_NEWER) {
            *newer = true;
            ok = false;
            err_set(e, "%s was written by a newer version", path);
        }
        /* A file without its header still counts: the next one must not take its number. */
        lock_take(&l->m);
        add_file_locked(l, g, k == LOGFILE_HEAD_OK && h.generation == g ? h.salt : 0, -1);
        lock_drop(&l->m);
        if (error != 0 && error != EIO) { /* a shortage: once more at the next start */
            err_set_sys(e, error, "read %s", path);
            ok = false;
        } else if (k == LOGFILE_HEAD_BAD) {
            log_error(l->log, "result log %s has no valid header%s: deliveries noted in it may be repeated", path,
                      error == EIO ? " (input/output error)" : "");
        }
        free(path);
    }
    buf_free(&gens);
    return ok;
}

/* ---- appending ---- */

/* CRC of each frame's metadata and its length, parked where the header will be. */
static void park_crcs(struct buf *b, size_t from)
{
    uint32_t meta = (uint32_t)(b->n - from - FRAME_HEADER_BYTES);
    uint32_t crc = crc32c(0, b->p + from + FRAME_HEADER_BYTES, meta);
    memcpy(b->p + from, &crc, sizeof crc);
    memcpy(b->p + from + 4, &meta, sizeof meta);
}

/* Seals and writes as many frames from p as the tail has room for; returns their bytes, 0 on failure. */
static size_t append_some_locked(struct result_log *l, char *p, size_t n)
{
    uint64_t base = l->tail->generation * RESULT_FILE_BYTES, room = RESULT_FILE_BYTES - (l->end - base);
    size_t fit = 0;
    while (fit < n) {
        struct frame f = { .kind = REC_RESULT, .generation = l->tail->generation };
        uint32_t crc;
        memcpy(&crc, p + fit, sizeof crc);
        memcpy(&f.meta_bytes, p + fit + 4, sizeof f.meta_bytes);
        if (fit + frame_bytes(&f) > room)
            break;
        frame_seal(p + fit, &f, crc, l->tail->salt);
        fit += frame_bytes(&f);
    }
    if (fit > 0 && !spool_io_write(l->io, l->tail->fd, p, fit, (off_t)(l->end - base)))
        return 0;
    l->end += fit;
    return fit;
}

static bool append_locked(struct result_log *l, char *p, size_t n)
{
    bool fresh = false; /* nothing can be wrong with the file any more that a new one would cure */
    while (n > 0) {
        size_t k = l->tail != NULL && l->tail->fd >= 0 ? append_some_locked(l, p, n) : 0;
        if (k == 0 && (fresh || !next_file_locked(l)))
            return false;
        fresh = k == 0;
        p += k;
        n -= k;
    }
    return true;
}

enum spool_status spool_result_append(struct spool *s, const struct spool_result *r, size_t n, struct result_token *t)
{
    struct result_log *l = &s->results;
    struct buf b = BUF_INIT(0);
    for (size_t i = 0; i < n; i++) {
        size_t from = b.n;
        record_result(&b, &r[i]);
        if (!buf_ok(&b))
            break;
        park_crcs(&b, from);
    }
    lock_take(&l->m);
    t->pos = l->end;
    bool ok = buf_ok(&b) && append_locked(l, b.p, b.n);
    int err = errno;
    if (ok) {
        t->next = &l->tokens;
        t->prev = l->tokens.prev;
        t->prev->next = t;
        l->tokens.prev = t;
    }
    bool want_keeper = l->prepared_fd < 0 || l->flush_at_ms == CLOCK_NEVER;
    if (l->flush_at_ms == CLOCK_NEVER)
        l->flush_at_ms = clock_mono_ms() + FLUSH_AFTER_MS;
    lock_drop(&l->m);
    buf_free(&b);
    if (want_keeper)
        keeper_wake(s);
    if (ok)
        return SPOOL_OK;
    t->prev = t->next = NULL;
    spool_tell(s, err == ENOSPC || err == EDQUOT ? SPOOL_TROUBLE_FULL : SPOOL_TROUBLE_IO, "result log: write failed: %s",
               strerrordesc_np(err));
    return err == ENOSPC || err == EDQUOT ? SPOOL_FULL : SPOOL_IO;
}

void spool_result_applied(struct spool *s, struct result_token *t)
{
    lock_take(&s->results.m);
    if (t->next != NULL) { /* else its append failed */
        t->prev->next = t->next;
        t->next->prev = t->prev;
    }
    lock_drop(&s->results.m);
    t->prev = t->next = NULL;
}

uint64_t result_log_mark(struct result_log *l)
{
    lock_take(&l->m);
    uint64_t pos = l->tokens.next == &l->tokens ? l->end : l->tokens.next->pos;
    lock_drop(&l->m);
    return pos;
}

uint64_t result_log_end(struct result_log *l)
{
    lock_take(&l->m);
    uint64_t pos = l->end;
    lock_drop(&l->m);
    return pos;
}

/* ---- the keeper's part ---- */

int64_t result_log_flush_at_ms(struct result_log *l)
{
    lock_take(&l->m);
    int64_t at = l->flush_at_ms;
    lock_drop(&l->m);
    return at;
}

static bool flush_files(struct result_log *l)
{
    bool ok = true, more = true;
    uint64_t after = 0;
    while (more) {
        lock_take(&l->m);
        struct result_file *f = l->files;
        while (f != NULL && (f->fd < 0 || f->generation < after))
            f = f->next;
        int fd = f != NULL ? f->fd : -1;
        bool is_tail = f == l->tail;
        after = f != NULL ? f->generation + 1 : after;
        more = f != NULL && !is_tail;
        lock_drop(&l->m);
        if (fd < 0)
            break;
        /* Only this thread closes and removes files, so fd and f stay valid without the lock. */
        bool flushed = l->io->fdatasync(l->io->arg, fd) == 0;
        if (!flushed)
            log_error(l->log, "result log: flush failed: %m");
        ok = ok && flushed;
        if (!is_tail) {
            lock_take(&l->m);
            f->fd = -1;
            lock_drop(&l->m);
            io_close(&fd);
        }
    }
    return ok;
}

static bool flush_names(struct result_log *l)
{
    if (l->io->sync_dir(l->io->arg, l->dir) == 0)
        return true;
    log_error(l->log, "result log: flush of the directory %s failed: %m", l->dir);
    return false;
}

bool result_log_sync(struct result_log *l)
{
    lock_take(&l->m);
    uint64_t end = l->end, begun = l->files_begun;
    l->flush_at_ms = CLOCK_NEVER; /* what comes from now on is flushed next time */
    lock_drop(&l->m);
    if (end == l->flushed_end && begun == l->files_flushed)
        return true;
    bool ok = flush_files(l) && (begun == l->files_flushed || flush_names(l));
    if (ok) {
        l->flushed_end = end;
        l->files_flushed = begun;
        return true;
    }
    lock_take(&l->m);
    l->flush_at_ms = clock_mono_ms() + FLUSH_AGAIN_MS;
    lock_drop(&l->m);
    return false;
}

void result_log_release(struct result_log *l, uint64_t pos)
{
    for (;;) {
        lock_take(&l->m);
        struct result_file *f = l->files;
        bool gone = f != NULL && f != l->tail && (f->generation + 1) * RESULT_FILE_BYTES <= pos;
        if (gone)
            l->files = f->next;
        bool spare_wanted = gone && l->prepared_fd < 0;
        lock_drop(&l->m);
        if (!gone)
            return;
        io_close(&f->fd);
        char *path = file_path(l, f->generation), *spare = spare_path(l);
        int fd = spare_wanted ? l->io->open(l->io->arg, path, O_RDWR, 0) : -1;
        struct stat st;
        lock_take(&l->m);
        if (fd >= 0 && l->prepared_fd < 0 && fstat(fd, &st) == 0 && st.st_size == (off_t)RESULT_FILE_BYTES &&
            l->io->rename(l->io->arg, path, spare) == 0) {
            l->prepared_fd = fd;
            fd = -1;
        } else {
            spare_wanted = false;
        }
        lock_drop(&l->m);
        io_close(&fd);
        if (!spare_wanted && l->io->unlink(l->io->arg, path) != 0)
            log_warn(l->log, "cannot remove result log %s: %m", path);
        free(path);
        free(spare);
        free(f);
    }
}

/* ---- replay ---- */

static bool replay_file(struct result_log *l, const struct result_file *f, const char *path, uint64_t from,
                        void (*fn)(void *arg, uint64_t pos, const struct spool_result *r), void *arg, struct err *e)
{
    uint64_t base = f->generation * RESULT_FILE_BYTES, off;
    struct stat st_file;
    size_t bad = 0;
    if (f->salt == 0)
        return true; /* no header: said so when it was opened */
    int fd = l->io->open(l->io->arg, path, O_RDONLY, 0);
    const char *p = NULL;
    if (fd >= 0 && fstat(fd, &st_file) == 0)
        p = io_map_readable(fd, (size_t)st_file.st_size, &bad);
    if (p == NULL)
        err_set_sys(e, errno, "read %s", path);
    io_close(&fd);
    if (p == NULL)
        return false;
    if (bad > 0)
        log_error(l->log, "result log %s: %zu bytes cannot be read", path, bad);
    struct frame_scan sc = { .p = p, .n = (size_t)st_file.st_size, .off = LOGFILE_DATA_AT, .generation = f->generation, .salt = f->salt };
    if (from > base + sc.off)
        sc.off = from - base;
    struct frame fr;
    for (enum scan_status st; (st = frame_scan_next(&sc, &fr, &off)) != SCAN_END;) {
        struct spool_result r;
        if (st == SCAN_FRAME && fr.kind == REC_RESULT && record_result_decode(frame_meta(&sc, off, &fr), &r))
            fn(arg, base + off, &r);
        else if (st == SCAN_GAP)
            log_error(l->log, "result log %s: damaged between %llu and %llu: deliveries noted there may be repeated",
                      path, (unsigned long long)off, (unsigned long long)sc.off);
    }
    io_unmap(p, (size_t)st_file.st_size);
    return true;
}

bool result_log_replay(struct result_log *l, uint64_t from, void (*fn)(void *arg, uint64_t pos, const struct spool_result *r),
                       void *arg, struct err *e)
{
    bool ok = true;
    for (struct result_file *f = l->files; ok && f != NULL; f = f->next) {
        if ((f->generation + 1) * RESULT_FILE_BYTES <= from)
            continue;
        char *path = file_path(l, f->generation);
        ok = replay_file(l, f, path, from, fn, arg, e);
        free(path);
    }
    return ok;
}

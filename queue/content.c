/*
 * Receiving: a buffer that doubles, charged to the pool as it grows. When it would exceed the limit for the journal, or
 * the pool refuses, what there is goes to large/ID and the rest follows it, in pieces of SPILL_BYTES, or of
 * SPILL_LEAST_BYTES (not charged) when the pool has not so much either.
 *
 * Reading: from memory when it is there; else from the journal (checksum verified; kept in memory for the next
 * reader if the pool allows); a large file is mapped, and its checksum verified by the first reader of the message.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/spool_internal.h"

#define FIRST_BYTES 4096u
#define BEGIN_BYTES 16384u /* most messages are smaller */
#define SPILL_BYTES 65536u
#define SPILL_LEAST_BYTES 2048u

void content_pool_init(struct content_pool *p, int64_t limit_bytes)
{
    *p = (struct content_pool){ .limit_bytes = limit_bytes };
    lock_init(&p->m, LOCK_MSG_CONTENT);
}

void content_pool_destroy(struct content_pool *p)
{
    lock_destroy(&p->m);
}

static bool charge(struct content_pool *p, size_t n, int64_t limit_bytes)
{
    int64_t now = atomic_fetch_add_explicit(&p->used_bytes, (int64_t)n, memory_order_relaxed) + (int64_t)n;
    if (now <= limit_bytes)
        return true;
    content_pool_uncharge(p, n);
    return false;
}

bool content_pool_charge(struct content_pool *p, size_t n)
{
    return charge(p, n, p->limit_bytes);
}

bool content_pool_charge_large(struct content_pool *p, size_t n)
{
    return charge(p, n, p->limit_bytes - p->limit_bytes / 8);
}

void content_pool_uncharge(struct content_pool *p, size_t n)
{
    if (p != NULL && n > 0)
        atomic_fetch_sub_explicit(&p->used_bytes, (int64_t)n, memory_order_relaxed);
}

/*
 * What waits for its delivery may keep a sixteenth of the budget: beyond that a backlog is growing, and its content is in the
 * page cache anyway; reading it back costs less than a hundredth of a delivery.
 */
#define WAITING_SHARE 16

bool content_pool_is_tight(struct content_pool *p)
{
    return atomic_load_explicit(&p->used_bytes, memory_order_relaxed) > p->limit_bytes / WAITING_SHARE;
}

char *spool_large_path(const struct spool *s, uint64_t id)
{
    return xasprintf("%s/large/%016llx", s->o.dir, (unsigned long long)id);
}

static void budget_refused(struct spool *s)
{
    limit_reached(&s->memory_limit, s->o.log, s->pool.limit_bytes,
                  "messages are received into files, envelopes that grow large are refused");
}

bool spool_memory_take(struct spool *s, size_t n)
{
    if (content_pool_charge_large(&s->pool, n))
        return true;
    budget_refused(s);
    return false;
}

void spool_memory_give(struct spool *s, size_t n)
{
    content_pool_uncharge(&s->pool, n);
}

const struct limit *spool_memory_limit(const struct spool *s)
{
    return &s->memory_limit;
}

/* ---- receiving ---- */

struct content_writer {
    struct spool *s;
    uint64_t id;
    uint64_t total;          /* bytes so far */
    uint32_t crc;
    char *p;                 /* owned: all of it, or what waits to be written to the file */
    size_t n, cap;
    size_t charged;          /* to the pool */
    int fd;                  /* large file, or -1 */
    enum spool_status status;
};

struct content_writer *content_begin(struct spool *s, uint64_t id)
{
    struct content_writer *w = xcalloc(1, sizeof *w);
    *w = (struct content_writer){ .s = s, .id = id, .fd = -1 };
    return w;
}

uint64_t content_bytes(const struct content_writer *w)
{
    return w->total;
}

bool content_is_file(const struct content_writer *w)
{
    return w->fd >= 0;
}

static enum spool_status fail(struct content_writer *w, const char *what)
{
    w->status = errno == ENOSPC || errno == EDQUOT ? SPOOL_FULL : SPOOL_IO;
    spool_tell(w->s, w->status == SPOOL_FULL ? SPOOL_TROUBLE_FULL : SPOOL_TROUBLE_IO, "large file of %llX: %s: %m",
               (unsigned long long)w->id, what);
    return w->status;
}

static enum spool_status spill(struct content_writer *w)
{
    if (w->n > 0 && !spool_io_write(w->s->io, w->fd, w->p, w->n, (off_t)(w->total - w->n)))
        return fail(w, "write");
    w->n = 0;
    return SPOOL_OK;
}

static enum spool_status to_file(struct content_writer *w)
{
    char *path = spool_large_path(w->s, w->id);
    w->fd = w->s->io->open(w->s->io->arg, path, O_RDWR | O_CREAT | O_EXCL, 0600);
    free(path);
    if (w->fd < 0)
        return fail(w, "create");
    if (spill(w) != SPOOL_OK)
        return w->status;
    content_pool_uncharge(&w->s->pool, w->charged);
    free(w->p);
    w->charged = content_pool_charge_large(&w->s->pool, SPILL_BYTES) ? SPILL_BYTES : 0;
    w->cap = w->charged > 0 ? SPILL_BYTES : SPILL_LEAST_BYTES;
    w->p = xmalloc(w->cap);
    return SPOOL_OK;
}

/* Room for n more in memory, or the decision for a file. */
static bool grow(struct content_writer *w, size_t n)
{
    uint64_t need = (uint64_t)w->n + n;
    if (need <= w->cap)
        return true;
    if (need > (uint64_t)w->s->content_limit)
        return false;
    size_t cap = w->cap ? w->cap : FIRST_BYTES;
    while (cap < need)
        cap *= 2;
    struct content_pool *pool = &w->s->pool;
    if (cap <= BEGIN_BYTES ? !content_pool_charge(pool, cap - w->cap) : !content_pool_charge_large(pool, cap - w->cap)) {
        budget_refused(w->s);
        return false;
    }
    char *q = realloc(w->p, cap);
    if (q == NULL) {
        content_pool_uncharge(pool, cap - w->cap);
        return false;
    }
    w->p = q;
    w->cap = w->charged = cap;
    return true;
}

enum spool_status content_append(struct content_writer *w, struct span b)
{
    if (w->status != SPOOL_OK || b.n == 0)
        return w->status;
    if (w->fd < 0 && !grow(w, b.n) && to_file(w) != SPOOL_OK)
        return w->status;
    w->crc = crc32c(w->crc, b.p, b.n);
    if (w->fd >= 0 && w->n + b.n > w->cap) {
        if (spill(w) != SPOOL_OK)
            return w->status;
        if (b.n > w->cap) {
            if (!spool_io_write(w->s->io, w->fd, b.p, b.n, (off_t)w->total))
                return fail(w, "write");
            w->total += b.n;
            return SPOOL_OK;
        }
    }
    memcpy(w->p + w->n, b.p, b.n);
    w->n += b.n;
    w->total += b.n;
    return SPOOL_OK;
}

static void finish_in_memory(struct content_writer *w, struct msg *m)
{
    if (w->cap > w->n + w->n / 4 + 64) {
        char *q = realloc(w->p, w->n ? w->n : 1);
        if (q != NULL) {
            size_t keep = w->n ? w->n : 1;
            if (w->charged > keep) {
                content_pool_uncharge(&w->s->pool, w->charged - keep);
                w->charged = keep;
            }
            w->p = q;
        }
    }
    m->content = w->p;
    m->pool = &w->s->pool;
    m->content_charged = w->charged;
    w->p = NULL;
    w->cap = w->charged = 0;
}

static enum spool_status finish_file(struct content_writer *w)
{
    const struct spool_io *io = w->s->io;
    if (spill(w) != SPOOL_OK)
        return w->status;
    if (io->fdatasync(io->arg, w->fd) != 0)
        return fail(w, "flush");
    char *dir = xasprintf("%s/large", w->s->o.dir);
    int rc = io->sync_dir(io->arg, dir);
    free(dir);
    return rc == 0 ? SPOOL_OK : fail(w, "flush of its directory");
}

enum spool_status content_finish(struct content_writer **wp, struct msg *m)
{
    struct content_writer *w = *wp;
    enum spool_status st = w->status;
    if (st == SPOOL_OK && w->fd >= 0)
        st = finish_file(w);
    if (st != SPOOL_OK) {
        content_abort(wp);
        return st;
    }
    m->env.content_bytes = w->total;
    m->content_crc = w->crc;
    m->content_checked = true;
    m->is_large = w->fd >= 0;
    if (m->is_large) {
        m->pool = &w->s->pool;
        content_pool_uncharge(m->pool, w->charged);
        free(w->p);
        io_close(&w->fd);
    } else {
        finish_in_memory(w, m);
    }
    free(w);
    *wp = NULL;
    return SPOOL_OK;
}

void spool_large_unlink(struct spool *s, uint64_t id)
{
    char *path = spool_large_path(s, id);
    s->io->unlink(s->io->arg, path);
    free(path);
}

void spool_msg_drop(struct spool *s, struct msg **m)
{
    if (*m != NULL && (*m)->is_large)
        spool_large_unlink(s, (*m)->env.id);
    msg_unref(m);
}

void content_abort(struct content_writer **wp)
{
    struct content_writer *w = *wp;
    *wp = NULL;
    if (w == NULL)
        return;
    if (w->fd >= 0) {
        io_close(&w->fd);
        spool_large_unlink(w->s, w->id);
    }
    content_pool_uncharge(&w->s->pool, w->charged);
    free(w->p);
    free(w);
}

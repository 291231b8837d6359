/*
 * Views of a message's content. A view of the buffer in memory counts in m->content_users; content_drop() while
 * somebody looks only leaves a mark, and the last view frees. A position may be out of date when compaction has moved the
 * message between the look-up and the read: then the segment is gone or its generation is another, the checksum does
 * not fit, and the look-up is done once more.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/spool_internal.h"

enum { VIEW_NONE, VIEW_MEMORY, VIEW_OWNED, VIEW_MAPPED };

static void free_content_locked(struct msg *m)
{
    free(m->content);
    m->content = NULL;
    m->content_drop = false;
    content_pool_uncharge(m->pool, m->content_charged);
    m->content_charged = 0;
}

void content_drop(struct spool *s, struct msg *m)
{
    lock_take(&s->pool.m);
    if (m->content != NULL && m->pos.segment != 0) {
        if (m->content_users == 0)
            free_content_locked(m);
        else
            m->content_drop = true;
    }
    lock_drop(&s->pool.m);
}

static bool view_memory(struct spool *s, struct msg *m, struct content_view *v)
{
    lock_take(&s->pool.m);
    bool there = m->content != NULL;
    if (there) {
        m->content_users++;
        m->content_drop = false;
        *v = (struct content_view){ m->content, m->env.content_bytes, m, VIEW_MEMORY };
    }
    lock_drop(&s->pool.m);
    return there;
}

/* Leaves p with the message for others when the budget allows; else the view owns it. */
static void view_read(struct spool *s, struct msg *m, char *p, size_t n, struct content_view *v)
{
    bool charged = content_pool_charge(&s->pool, n);
    lock_take(&s->pool.m);
    bool shared = charged && m->content == NULL;
    if (shared) {
        m->content = p;
        m->pool = &s->pool;
        m->content_charged = n;
        m->content_users = 1;
    }
    lock_drop(&s->pool.m);
    if (charged && !shared)
        content_pool_uncharge(&s->pool, n);
    *v = shared ? (struct content_view){ p, n, m, VIEW_MEMORY } : (struct content_view){ p, n, p, VIEW_OWNED };
}

static char *read_once(struct spool *s, struct msg *m, struct err *e)
{
    struct journal_pos pos = segments_where(&s->journal.segs, m->env.id, m->pos);
    size_t n = m->env.content_bytes;
    int fd;
    struct segment *g = segment_pin(&s->journal.segs, pos.segment, &fd);
    if (g == NULL) {
        err_set_sys(e, errno, "%llX: journal segment %016llx", (unsigned long long)m->env.id,
                    (unsigned long long)pos.segment);
        return NULL;
    }
    char *p = malloc(n + 1);
    bool ok = p != NULL && io_pread_all(fd, p, n, (off_t)(pos.offset + m->content_offset));
    int err = errno;
    segment_unpin(&s->journal.segs, &g);
    if (!ok)
        err_set_sys(e, err, "%llX: read journal segment %016llx", (unsigned long long)m->env.id,
                    (unsigned long long)pos.segment);
    else if (crc32c(0, p, n) != m->content_crc) {
        err_set(e, "%llX: checksum of the content in journal segment %016llx at %llu is wrong",
                (unsigned long long)m->env.id, (unsigned long long)pos.segment, (unsigned long long)pos.offset);
        ok = false;
    }
    if (!ok) {
        free(p);
        p = NULL;
    }
    return p;
}

static bool view_journal(struct spool *s, struct msg *m, struct content_view *v, struct err *e)
{
    char *p = read_once(s, m, e);
    if (p == NULL) {
        if (e->sys != 0 && e->sys != ENOENT) /* else it was moved meanwhile */
            log_warn(s->o.log, "%s: tried once more", e->text);
        p = read_once(s, m, e);
    }
    if (p == NULL)
        return false;
    view_read(s, m, p, m->env.content_bytes, v);
    return true;
}

static bool view_large(struct spool *s, struct msg *m, struct content_view *v, struct err *e)
{
    char *path = spool_large_path(s, m->env.id);
    struct stat st;
    size_t n = m->env.content_bytes;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const char *p = NULL;
    size_t bad = 0;
    if (fd < 0 || fstat(fd, &st) != 0)
        err_set_sys(e, errno, "open %s", path);
    else if ((uint64_t)st.st_size != n)
        err_set(e, "%s has %llu bytes, not %zu", path, (unsigned long long)st.st_size, n);
    else if ((p = io_map_readable(fd, n, &bad)) == NULL)
        err_set_sys(e, errno, "map %s", path);
    io_close(&fd);
    if (p != NULL && crc32c(0, p, n) != m->content_crc) {
        if (bad > 0)
            err_set_sys(e, EIO, "read %s: %zu bytes", path, bad);
        else
            err_set(e, "checksum of %s is wrong", path);
        io_unmap(p, n);
        p = NULL;
    }
    free(path);
    if (p == NULL)
        return false;
    *v = (struct content_view){ p, n, NULL, VIEW_MAPPED };
    return true;
}

bool content_acquire(struct spool *s, struct msg *m, struct content_view *v, struct err *e)
{
    *v = (struct content_view){ .private_kind = VIEW_NONE };
    if (view_memory(s, m, v))
        return true;
    return m->is_large ? view_large(s, m, v, e) : view_journal(s, m, v, e);
}

void content_release(struct content_view *v)
{
    switch (v->private_kind) {
    case VIEW_MEMORY: {
        struct msg *m = v->private_data;
        lock_take(&m->pool->m);
        if (--m->content_users == 0 && m->content_drop)
            free_content_locked(m);
        lock_drop(&m->pool->m);
        break;
    }
    case VIEW_OWNED:
        free(v->private_data);
        break;
    case VIEW_MAPPED:
        io_unmap(v->p, v->n);
        break;
    default:
        break;
    }
    *v = (struct content_view){ .private_kind = VIEW_NONE };
}

/* Header and metadata of the message record at *pos (looked up again when it moved). *meta is malloc'd, header included. */
bool content_read_record(struct spool *s, uint64_t id, struct journal_pos *pos, struct frame *f, char **meta, struct err *e)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        char first[1024];
        int fd;
        *pos = segments_where(&s->journal.segs, id, *pos);
        struct segment *g = segment_pin(&s->journal.segs, pos->segment, &fd);
        if (g == NULL) {
            err_set_sys(e, errno, "%llX: journal segment %016llx", (unsigned long long)id, (unsigned long long)pos->segment);
            if (e->sys != ENOENT && attempt == 0)
                log_warn(s->o.log, "%s: tried once more", e->text);
            continue;
        }
        uint64_t salt = g->salt, generation = g->generation, limit = g->bytes - pos->offset;
        errno = 0;
        ssize_t k = pos->offset < g->bytes ? pread(fd, first, sizeof first, (off_t)pos->offset) : 0;
        int sys = errno;
        size_t all = 0;
        *meta = NULL;
        if (k >= (ssize_t)FRAME_HEADER_BYTES && frame_parse(first, salt, f) && f->generation == generation &&
            f->kind == REC_MESSAGE && frame_bytes(f) <= limit) {
            all = FRAME_HEADER_BYTES + (size_t)f->meta_bytes;
            *meta = xmalloc(all);
            size_t have = all < (size_t)k ? all : (size_t)k;
            memcpy(*meta, first, have);
            if (!io_pread_all(fd, *meta + have, all - have, (off_t)(pos->offset + have))) {
                sys = errno;
                all = 0;
            }
        }
        segment_unpin(&s->journal.segs, &g);
        if (all > 0 && frame_meta_is_valid(*meta, f, salt))
            return true;
        free(*meta);
        if (sys != 0)
            err_set_sys(e, sys, "%llX: read journal segment %016llx at %llu", (unsigned long long)id,
                        (unsigned long long)pos->segment, (unsigned long long)pos->offset);
        else
            err_set(e, "%llX: no valid record in journal segment %016llx at %llu", (unsigned long long)id,
                    (unsigned long long)pos->segment, (unsigned long long)pos->offset);
        if (sys != 0 && attempt == 0)
            log_warn(s->o.log, "%s: tried once more", e->text);
    }
    return false;
}

struct msg *spool_msg_read(struct spool *s, uint64_t id, struct journal_pos pos, struct err *e)
{
    struct frame f;
    char *meta;
    if (!content_read_record(s, id, &pos, &f, &meta, e))
        return NULL;
    struct msg *m = record_message_decode(&f, span_of(meta + FRAME_HEADER_BYTES, f.meta_bytes));
    free(meta);
    if (m != NULL && m->env.id != id)
        msg_unref(&m);
    if (m == NULL) {
        err_set(e, "%llX: its journal record cannot be decoded", (unsigned long long)id);
        return NULL;
    }
    m->pos = pos;
    m->pool = &s->pool;
    return m;
}

/*
 * The checkpoint is to index.db what a backup is: the list of messages that were queued at one mark of the index, where
 * their records lie and which recipients have been tried or are done. With it, what lies before the mark in the result
 * log and in the administrative records of the journal is not needed to make the index anew.
 *
 * File "checkpoint", integers big-endian, written beside and renamed:
 *    0  8  "PHchkp1\n"              32  8  mark: position in the result log
 *    8  4  version (2)   12  4 zero 40  8  messages
 *   16  8  mark: segment            48  -  messages, then 4 bytes CRC-32C of all before
 *   24  8  mark: offset
 * A message: 8 id, 8 segment, 8 offset, 4 flags (1 hold, 2 delay warned, 4 forced expiry, 8 deleted), 4 recipients that follow;
 * each: 4 number, 1 state (2: done), 1 flags (1 readdressed), 2 attempts, 8 due. Then, when it is deleted, 8 bytes that
 * say when; then for each readdressed recipient 4 bytes of length and the address.
 * Version 1 had neither deleted messages nor new addresses, and is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/index_internal.h"
#include "queue/recover.h"

#define HEAD_BYTES 48
#define PIECE (256u << 10)
#define MESSAGES_PER_COMMIT 20000
enum { CP_HOLD = 1, CP_WARNED = 2, CP_EXPIRE = 4, CP_DELETED = 8 };
enum { CP_READDRESSED = 1 };
#define CP_VERSION 2

static const char magic[] = "PHchkp1\n";

/* ---- writing ---- */

struct out {
    struct spool *s;
    void (*meanwhile)(struct spool *s);
    const struct spool_io *io;
    int fd;
    struct buf b;
    uint64_t written;
    uint32_t crc;
    int error;              /* errno of the first write that failed */
    bool ok;
};

static void out_flush(struct out *o)
{
    o->crc = crc32c(o->crc, o->b.p, o->b.n);
    if (o->ok && !spool_io_write(o->io, o->fd, o->b.p, o->b.n, (off_t)o->written)) {
        o->ok = false;
        o->error = errno;
    }
    o->written += o->b.n;
    buf_reset(&o->b);
}

static void put_head(struct out *o, const struct index_mark *k, uint64_t count)
{
    buf_add(&o->b, magic, 8);
    buf_put_u32be(&o->b, CP_VERSION);
    buf_put_u32be(&o->b, 0);
    buf_put_u64be(&o->b, k->journal.segment);
    buf_put_u64be(&o->b, k->journal.offset);
    buf_put_u64be(&o->b, k->results);
    buf_put_u64be(&o->b, count);
}

static void put_rcpts(struct out *o, sqlite3_stmt *r, int *rc, int64_t id, int64_t deleted_us)
{
    struct buf rows = BUF_INIT(0), addresses = BUF_INIT(0);
    uint32_t n = 0;
    for (; *rc == SQLITE_ROW && sqlite3_column_int64(r, 0) <= id; *rc = sqlite3_step(r)) {
        if (sqlite3_column_int64(r, 0) < id)
            continue; /* of no message: cannot be, and does no harm */
        int attempts = sqlite3_column_int(r, 3), is_readdressed = sqlite3_column_int(r, 5) != 0;
        buf_put_u32be(&rows, (uint32_t)sqlite3_column_int64(r, 1));
        buf_put_u32be(&rows, (uint32_t)sqlite3_column_int(r, 2) << 24 | (uint32_t)(is_readdressed ? CP_READDRESSED : 0) << 16 |
                                 (uint32_t)(attempts & 0xffff));
        buf_put_u64be(&rows, (uint64_t)sqlite3_column_int64(r, 4));
        if (is_readdressed) {
            struct span addr = span_cstr((const char *)sqlite3_column_text(r, 6));
            buf_put_u32be(&addresses, (uint32_t)addr.n);
            buf_add_span(&addresses, addr);
        }
        n++;
    }
    buf_put_u32be(&o->b, n);
    buf_add_span(&o->b, buf_span(&rows));
    if (deleted_us != 0)
        buf_put_u64be(&o->b, (uint64_t)deleted_us);
    buf_add_span(&o->b, buf_span(&addresses));
    buf_free(&rows);
    buf_free(&addresses);
}

/* Two scans in the order of id, side by side, in one read transaction. True when both came to their end. */
static bool put_messages(struct out *o, sqlite3_stmt *m, sqlite3_stmt *r)
{
    int more = sqlite3_step(r), rc;
    while ((rc = sqlite3_step(m)) == SQLITE_ROW && o->ok && (more == SQLITE_ROW || more == SQLITE_DONE)) {
        int64_t id = sqlite3_column_int64(m, 0);
        buf_put_u64be(&o->b, (uint64_t)id);
        buf_put_u64be(&o->b, (uint64_t)sqlite3_column_int64(m, 1));
        buf_put_u64be(&o->b, (uint64_t)sqlite3_column_int64(m, 2));
        buf_put_u32be(&o->b, (sqlite3_column_int(m, 3) ? CP_HOLD : 0) | (sqlite3_column_int(m, 4) ? CP_WARNED : 0) |
                                 (sqlite3_column_int(m, 5) ? CP_EXPIRE : 0) | (sqlite3_column_int64(m, 6) ? CP_DELETED : 0));
        put_rcpts(o, r, &more, id, sqlite3_column_int64(m, 6));
        if (o->b.n < PIECE)
            continue;
        out_flush(o);
        if (o->meanwhile != NULL)
            o->meanwhile(o->s);
    }
    return rc == SQLITE_DONE && (more == SQLITE_ROW || more == SQLITE_DONE);
}

static bool read_number(struct index_conn *c, enum index_stmt k, const char *key, uint64_t *out, struct err *e)
{
    sqlite3_stmt *st = index_stmt(c, k, e);
    if (st == NULL)
        return false;
    if (key != NULL)
        index_bind_span(st, 1, span_cstr(key));
    bool ok = sqlite3_step(st) == SQLITE_ROW;
    *out = ok ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    if (!ok)
        err_set(e, "index.db: %s", sqlite3_errmsg(c->db));
    sqlite3_reset(st);
    return ok;
}

static bool put_snapshot(struct out *o, struct index_conn *c, struct index_mark *k, struct err *e)
{
    uint64_t count;
    if (!read_number(c, IX_META_GET, "mark_segment", &k->journal.segment, e) ||
        !read_number(c, IX_META_GET, "mark_offset", &k->journal.offset, e) ||
        !read_number(c, IX_META_GET, "mark_results", &k->results, e) || !read_number(c, IX_SNAP_COUNT, NULL, &count, e))
        return false;
    sqlite3_stmt *m = index_stmt(c, IX_SNAP_MESSAGES, e), *r = index_stmt(c, IX_SNAP_RCPTS, e);
    if (m == NULL || r == NULL)
        return false;
    put_head(o, k, count);
    bool ok = put_messages(o, m, r);
    if (!ok && o->ok)
        err_set(e, "index.db: %s", sqlite3_errmsg(c->db));
    sqlite3_reset(m);
    sqlite3_reset(r);
    out_flush(o);
    buf_put_u32be(&o->b, o->crc);
    out_flush(o);
    return ok || !o->ok; /* the caller speaks of a write that failed */
}

bool checkpoint_write(struct spool *s, void (*meanwhile)(struct spool *s), struct index_mark *mark, uint64_t *bytes, struct err *e)
{
    struct index_conn *c = index_conn_take(s->index, e);
    if (c == NULL)
        return false;
    char *path = xasprintf("%s/checkpoint", s->o.dir), *tmp = xasprintf("%s.new", path);
    struct out o = { .s = s, .meanwhile = meanwhile, .io = s->io, .b = BUF_INIT(0), .ok = true };
    bool ok = false, begun = false;
    o.fd = s->io->open(s->io->arg, tmp, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (o.fd < 0) {
        err_set_sys(e, errno, "create %s", tmp);
        goto out;
    }
    begun = index_exec(c, "BEGIN", e);
    if (!begun || !put_snapshot(&o, c, mark, e))
        goto out;
    errno = o.ok ? 0 : o.error;
    ok = o.ok && s->io->fdatasync(s->io->arg, o.fd) == 0 && s->io->rename(s->io->arg, tmp, path) == 0 &&
         s->io->sync_dir(s->io->arg, s->o.dir) == 0;
    if (!ok)
        err_set_sys(e, errno, "write %s", path);
    *bytes = o.written;
out:
    if (begun && !index_exec(c, "COMMIT", e))
        ok = false;
    io_close(&o.fd);
    buf_free(&o.b);
    index_conn_give(s->index, c);
    free(path);
    free(tmp);
    return ok;
}

/* ---- reading ---- */

static struct index_mark mark_of(const char *head)
{
    return (struct index_mark){ { be_read(head + 16, 8), be_read(head + 24, 8) }, be_read(head + 32, 8) };
}

enum read_status { READ_OK, READ_NONE, READ_FAILED };

/* The whole file, verified. READ_NONE when there is none or it is damaged (said in the log). */
static enum read_status read_all(struct spool *s, struct buf *b, struct index_mark *k, struct err *e)
{
    char *path = xasprintf("%s/checkpoint", s->o.dir);
    bool ok = access(path, F_OK) == 0;
    if (!ok && errno != ENOENT)
        err_set_sys(e, errno, "read %s", path);
    if ((ok && !io_read_file(path, b, e)) || (!ok && errno != ENOENT)) {
        free(path);
        return READ_FAILED; /* without it deliveries would be repeated: better to be started again */
    }
    if (ok) {
        ok = b->n >= HEAD_BYTES + 4 && memcmp(b->p, magic, 8) == 0 && be_read(b->p + 8, 4) <= CP_VERSION &&
             be_read(b->p + b->n - 4, 4) == crc32c(0, b->p, b->n - 4);
        if (!ok)
            spool_tell(s, SPOOL_TROUBLE_DAMAGE, "%s is damaged: not used, and deliveries that only it knew of may be repeated", path);
    }
    if (ok)
        *k = mark_of(b->p);
    free(path);
    return ok ? READ_OK : READ_NONE;
}

/* Piece by piece: a backlog's checkpoint is long. */
static bool is_whole(int fd, uint64_t size, char *piece)
{
    uint32_t crc = 0;
    for (uint64_t at = 0; at < size - 4;) {
        size_t n = size - 4 - at < PIECE ? (size_t)(size - 4 - at) : PIECE;
        if (!io_pread_all(fd, piece, n, (off_t)at))
            return false;
        crc = crc32c(crc, piece, n);
        at += n;
    }
    return io_pread_all(fd, piece, 4, (off_t)size - 4) && be_read(piece, 4) == crc;
}

bool checkpoint_read_mark(struct spool *s, struct index_mark *mark, uint64_t *bytes)
{
    char *path = xasprintf("%s/checkpoint", s->o.dir), *piece = xmalloc(PIECE);
    int fd = open(path, O_RDONLY | O_CLOEXEC), open_errno = fd < 0 ? errno : 0;
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    bool ok = size >= HEAD_BYTES + 4 && is_whole(fd, (uint64_t)size, piece) && io_pread_all(fd, piece, HEAD_BYTES, 0) &&
              memcmp(piece, magic, 8) == 0 && be_read(piece + 8, 4) <= CP_VERSION;
    if (ok) {
        *mark = mark_of(piece);
        *bytes = (uint64_t)size;
    } else if (fd >= 0) {
        log_warn(s->o.log, "%s is damaged: not used", path);
    } else if (open_errno != ENOENT) {
        log_warn(s->o.log, "open %s: %s: not used", path, strerrordesc_np(open_errno));
    }
    io_close(&fd);
    free(piece);
    free(path);
    return ok;
}

/* A message of the file. */
struct cp_message {
    uint64_t id;
    struct journal_pos pos;
    uint32_t flags, n;
    int64_t deleted_us;
    const char *rows;      /* n times 16 bytes */
    struct span addresses; /* of those that were readdressed */
};

/* The message at *p, and *p behind it. False when the bytes end within it. */
static bool next_message(const char **p, const char *end, struct cp_message *m)
{
    const char *q = *p;
    if (end - q < 32)
        return false;
    *m = (struct cp_message){ .id = be_read(q, 8), .pos = { be_read(q + 8, 8), be_read(q + 16, 8) },
                              .flags = (uint32_t)be_read(q + 24, 4), .n = (uint32_t)be_read(q + 28, 4), .rows = q + 32 };
    q += 32;
    if (m->n > (size_t)(end - q) / 16)
        return false;
    q += 16 * (size_t)m->n;
    if (m->flags & CP_DELETED) {
        if (end - q < 8)
            return false;
        m->deleted_us = (int64_t)be_read(q, 8);
        q += 8;
    }
    m->addresses.p = q;
    for (uint32_t i = 0; i < m->n; i++) {
        if (!(m->rows[16 * (size_t)i + 5] & CP_READDRESSED))
            continue;
        if (end - q < 4 || be_read(q, 4) > (size_t)(end - q - 4))
            return false;
        q += 4 + be_read(q, 4);
    }
    m->addresses.n = (size_t)(q - m->addresses.p);
    *p = q;
    return true;
}

static void to_replay(struct replay *r, struct replay_msg *p, const struct cp_message *m)
{
    const char *a = m->addresses.p;
    p->hold_known = true;
    p->hold = m->flags & CP_HOLD;
    p->expired = m->flags & CP_EXPIRE;
    p->delay_warned = m->flags & CP_WARNED;
    p->trash_known = true;
    p->trashed_us = m->deleted_us;
    for (uint32_t i = 0; i < m->n; i++) {
        const char *q = m->rows + 16 * (size_t)i;
        struct rcpt_progress *t = replay_rcpt(r, p, (uint32_t)be_read(q, 4));
        t->done = q[4] == RCPT_DONE;
        t->has_result = true;
        t->attempts = (uint16_t)be_read(q + 6, 2);
        t->is_total = true;
        t->due_us = (int64_t)be_read(q + 8, 8);
        p->done += t->done;
        if (q[5] & CP_READDRESSED) {
            size_t n = be_read(a, 4);
            t->addr = arena_dup_span(r->arena, span_of(a + 4, n));
            a += 4 + n;
        }
    }
}

/* One message of the checkpoint into the index, or among the orphans. */
static bool restore_one(struct spool *s, struct replay *r, const struct cp_message *c, uint64_t *restored, struct err *e)
{
    uint64_t id = c->id;
    struct journal_pos pos = c->pos;
    struct frame f;
    char *meta;
    struct replay one;
    struct msg *m = NULL;
    struct err why = ERR_INIT;
    bool ok = true;
    qid_seen(&s->qids, id);
    if (content_read_record(s, id, &pos, &f, &meta, &why)) {
        m = record_message_decode(&f, span_of(meta + FRAME_HEADER_BYTES, f.meta_bytes));
        free(meta);
    } else if (spool_may_heal(&why)) {
        *e = why;
        return false;
    }
    if (m == NULL || m->env.id != id) {
        struct replay_msg *q = replay_get(r, id);
        q->is_orphan = true;
        to_replay(r, q, c);
    } else {
        replay_init(&one, s);
        struct replay_msg *q = replay_get(&one, id);
        to_replay(&one, q, c);
        m->pos = pos;
        if (replay_apply(q, m) > 0) {
            ok = index_put_msg(s->index, m, e) && (c->deleted_us == 0 || index_trash(s->index, id, c->deleted_us, e));
            ++*restored;
        }
        replay_free(&one);
    }
    msg_unref(&m);
    return ok;
}

bool checkpoint_restore(struct spool *s, struct replay *r, uint64_t *restored, struct err *e)
{
    struct buf b = BUF_INIT(0);
    struct index_mark k;
    bool ok = true;
    *restored = 0;
    enum read_status st = read_all(s, &b, &k, e);
    if (st != READ_OK) {
        buf_free(&b);
        return st == READ_NONE;
    }
    ok = index_exec(s->index->writer, "BEGIN IMMEDIATE", e);
    struct cp_message m;
    const char *at = b.p + HEAD_BYTES;
    for (uint64_t i = 1; ok && next_message(&at, b.p + b.n - 4, &m); i++) {
        ok = restore_one(s, r, &m, restored, e);
        if (ok && i % MESSAGES_PER_COMMIT == 0)
            ok = index_exec(s->index->writer, "COMMIT; BEGIN IMMEDIATE", e);
    }
    ok = ok && index_exec(s->index->writer, "COMMIT", e);
    if (ok) {
        r->from = k.journal;
        r->results_from = k.results;
    }
    buf_free(&b);
    return ok;
}

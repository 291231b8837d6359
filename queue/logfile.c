/*
 * Zeros are written, not only allocated: a flush into an unwritten extent has to commit the extent's conversion in the
 * file system's log, a flush over written blocks does not, and that is what makes group commit fast. They are flushed
 * a piece at a time so that the committer's flushes are not queued behind one large one.
 *
 * A search for the next frame looks at every eighth byte. Only what carries this file's mark (magic and salt) and
 * generation has its checksums computed, so old or hostile bytes cost no more than the look.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/crc32c.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "queue/logfile.h"

#define HEAD_BYTES 64
#define HEAD_COPY_AT 4096
#define FORMAT_VERSION 1
#define ZERO_PIECE (1u << 20)

static const char magics[][9] = { [LOGFILE_JOURNAL] = "PHjrnl1\n", [LOGFILE_RESULTS] = "PHrslt1\n" };

uint64_t logfile_salt(void)
{
    uint64_t v;
    if (getrandom(&v, sizeof v, 0) != (ssize_t)sizeof v)
        v = (uint64_t)clock_wall_us() * UINT64_C(0x9E3779B97F4A7C15) ^ (uint64_t)clock_mono_ms();
    return v;
}

static bool write_zeros(const struct spool_io *io, int fd, uint64_t bytes)
{
    char *zeros = xcalloc(1, ZERO_PIECE);
    bool ok = true;
    for (uint64_t off = 0; ok && off < bytes; off += ZERO_PIECE) {
        uint64_t n = bytes - off < ZERO_PIECE ? bytes - off : ZERO_PIECE;
        ok = spool_io_write(io, fd, zeros, n, (off_t)off) && io->fdatasync(io->arg, fd) == 0;
    }
    free(zeros);
    return ok;
}

int logfile_create(const struct spool_io *io, const char *path, uint64_t bytes)
{
    int fd = io->open(io->arg, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return -1;
    /* Not every file system can allocate ahead; writing does it there. */
    bool ok = io->fallocate(io->arg, fd, (off_t)bytes) == 0 || errno == EOPNOTSUPP || errno == ENOSYS;
    if (!ok || !write_zeros(io, fd, bytes)) {
        int saved = errno;
        io_close(&fd);
        io->unlink(io->arg, path);
        errno = saved;
    }
    return fd;
}

static void head_encode(char out[HEAD_BYTES], enum logfile_kind k, const struct logfile_head *h)
{
    struct buf b = BUF_INIT(0);
    buf_add(&b, magics[k], 8);
    buf_put_u32be(&b, FORMAT_VERSION);
    buf_put_u32be(&b, LOGFILE_DATA_AT);
    buf_put_u64be(&b, h->generation);
    buf_put_u64be(&b, h->salt);
    buf_put_u64be(&b, h->bytes);
    buf_put_u64be(&b, (uint64_t)h->begun_us);
    memset(out, 0, HEAD_BYTES);
    memcpy(out, b.p, b.n);
    b.n = 0;
    buf_put_u32be(&b, crc32c(0, out, HEAD_BYTES - 4));
    memcpy(out + HEAD_BYTES - 4, b.p, 4);
    buf_free(&b);
}

bool logfile_write_head(const struct spool_io *io, int fd, enum logfile_kind k, const struct logfile_head *h)
{
    char head[HEAD_BYTES];
    head_encode(head, k, h);
    return spool_io_write(io, fd, head, sizeof head, 0) &&
           spool_io_write(io, fd, head, sizeof head, HEAD_COPY_AT);
}

static enum logfile_head_status head_decode(const char *p, enum logfile_kind k, struct logfile_head *h)
{
    if (memcmp(p, magics[k], 8) != 0 || be_read(p + HEAD_BYTES - 4, 4) != crc32c(0, p, HEAD_BYTES - 4))
        return LOGFILE_HEAD_BAD;
    if (be_read(p + 8, 4) > FORMAT_VERSION)
        return LOGFILE_HEAD_NEWER;
    if (be_read(p + 12, 4) != LOGFILE_DATA_AT)
        return LOGFILE_HEAD_BAD;
    *h = (struct logfile_head){ .generation = be_read(p + 16, 8), .salt = be_read(p + 24, 8), .bytes = be_read(p + 32, 8),
                                .begun_us = (int64_t)be_read(p + 40, 8) };
    return LOGFILE_HEAD_OK;
}

enum logfile_head_status logfile_read_head(int fd, enum logfile_kind k, struct logfile_head *h, int *error)
{
    char head[HEAD_BYTES];
    enum logfile_head_status st = LOGFILE_HEAD_BAD;
    if (io_pread_all(fd, head, sizeof head, 0))
        st = head_decode(head, k, h);
    if (st != LOGFILE_HEAD_BAD)
        return st;
    if (io_pread_all(fd, head, sizeof head, HEAD_COPY_AT))
        return head_decode(head, k, h);
    if (errno != 0 && error != NULL) /* else the file is short */
        *error = errno;
    return st;
}

/* A frame of this file may begin at off: mark, generation and extent fit. */
static bool looks_like_frame(const struct frame_scan *s, uint64_t off, struct frame *f)
{
    return s->n - off >= FRAME_HEADER_BYTES && frame_parse(s->p + off, s->salt, f) && f->generation == s->generation;
}

static bool is_frame(const struct frame_scan *s, uint64_t off, struct frame *f)
{
    return looks_like_frame(s, off, f) && frame_bytes(f) <= s->n - off && frame_meta_is_valid(s->p + off, f, s->salt) &&
           crc32c(0, s->p + off + FRAME_HEADER_BYTES + f->meta_bytes, f->content_bytes) == f->content_crc;
}

/* The first place from there on with the mark of a frame; s->n when there is none. What was never written is most of a file. */
static uint64_t next_mark(const struct frame_scan *s, uint64_t from)
{
    char mark[4];
    frame_mark(mark, s->salt);
    while (from < s->n && s->n - from >= FRAME_HEADER_BYTES) {
        const char *hit = memmem(s->p + from, s->n - from, mark, sizeof mark);
        if (hit == NULL)
            break;
        uint64_t at = (uint64_t)(hit - s->p);
        from = (at + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
        if (from == at)
            return at;
    }
    return s->n;
}

enum scan_status frame_scan_next(struct frame_scan *s, struct frame *f, uint64_t *off)
{
    *off = s->off;
    if (s->off >= s->n)
        return SCAN_END;
    if (is_frame(s, s->off, f)) {
        s->off += frame_bytes(f);
        return SCAN_FRAME;
    }
    bool begins = looks_like_frame(s, s->off, f);
    for (uint64_t at = s->off; (at = next_mark(s, at + FRAME_ALIGN)) < s->n;) {
        if (is_frame(s, at, f)) {
            s->off = at;
            return SCAN_GAP;
        }
        begins = begins || looks_like_frame(s, at, f);
    }
    s->off = s->n;
    return begins ? SCAN_TORN : SCAN_END;
}

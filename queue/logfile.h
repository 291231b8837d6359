/*
 * logfile: a preallocated file of frames with a header
 *
 * Purpose    what journal segments and result log files have in common: making one, its header, and finding the
 *            valid frames in it again
 * Source     ours; posthouse-spool(5)
 * Threads    any; no state of its own
 *
 * Header, integers big-endian, 64 bytes at 0 and a copy at 4096 (a damaged sector must not cost the whole file):
 *    0  8  "PHjrnl1\n" or "PHrslt1\n"     32  8  bytes of the file
 *    8  4  format version (1)             40  8  begun at, microseconds since 1970
 *   12  4  offset of the first frame      48 12  zero
 *   16  8  generation   24  8  salt       60  4  CRC-32C of bytes 0 to 59
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "queue/record.h"
#include "queue/spool_io.h"

#define LOGFILE_DATA_AT 8192u

enum logfile_kind { LOGFILE_JOURNAL, LOGFILE_RESULTS };

struct logfile_head {
    uint64_t generation, salt, bytes;
    int64_t begun_us;
};

/* A big-endian integer of n bytes (up to 8). */
static inline uint64_t be_read(const char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | (unsigned char)p[i];
    return v;
}

/* A number nobody outside can know. */
uint64_t logfile_salt(void);
/* Makes a file of `bytes` zeros (really written; flushed piece by piece). The descriptor, or -1 with errno; no file is left then. */
int logfile_create(const struct spool_io *io, const char *path, uint64_t bytes) MUST_CHECK;
/* Writes both copies (no flush); false with errno. */
bool logfile_write_head(const struct spool_io *io, int fd, enum logfile_kind k, const struct logfile_head *h) MUST_CHECK;
enum logfile_head_status { LOGFILE_HEAD_OK, LOGFILE_HEAD_BAD, LOGFILE_HEAD_NEWER };
/* *error (may be NULL): errno when neither copy could be read, else as it was. */
enum logfile_head_status logfile_read_head(int fd, enum logfile_kind k, struct logfile_head *h, int *error) MUST_CHECK;

/* The valid frames of a file in memory. */
struct frame_scan {
    const char *p;        /* borrowed: the file from its byte 0 */
    uint64_t n, off;
    uint64_t generation, salt;
};
enum scan_status {
    SCAN_FRAME, /* frame and its offset */
    SCAN_GAP,   /* bytes [*off, scan->off) are not frames, but a frame follows */
    SCAN_TORN,  /* a frame of this generation begins at *off but is not whole, and none follows */
    SCAN_END,
};
/* Leaves s->off behind what it found. */
enum scan_status frame_scan_next(struct frame_scan *s, struct frame *f, uint64_t *off);
static inline struct span frame_meta(const struct frame_scan *s, uint64_t off, const struct frame *f)
{
    return span_of(s->p + off + FRAME_HEADER_BYTES, f->meta_bytes);
}

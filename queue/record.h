/*
 * record: how journal and result log records look on disk
 *
 * Purpose    encoding and decoding of the frame and of the four kinds of records; no I/O. posthouse-spool(5) has the
 *            same, byte by byte.
 * Source     ours; DESIGN "The spool"
 * Threads    values; any thread
 * Errors     decoders return false on anything they do not understand and never read beyond what they were given
 *
 * A frame begins at a multiple of 8 and is, integers big-endian:
 *
 *    0  4  mark: "PHf1" XOR the upper 32 bits of the file's salt
 *    4  4  bytes of metadata (padding included: header, metadata and content together are a multiple of 8)
 *    8  4  bytes of content that follow the metadata (messages only)
 *   12  1  kind   (enum record_kind)
 *   13  1  flags  (RECORD_*)
 *   14  2  zero
 *   16  8  generation of the file
 *   24  4  CRC-32C of the content
 *   28  4  CRC-32C of: metadata, then bytes 0 to 27, then the 8 bytes of the file's salt
 *   32  -  metadata, content
 *
 * The salt is drawn when a file is begun and stands only in its header, so neither bytes of the file's earlier life
 * nor a message that contains something that looks like a frame can pass for one, nor make a search for frames
 * compute checksums without end. The checksum begins with the metadata so that the thread that encodes does that part;
 * the committer adds the 36 bytes only it knows.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/span.h"
#include "queue/spool.h"

#define FRAME_HEADER_BYTES 32u
#define FRAME_ALIGN 8u
#define FRAME_MAGIC 0x50486631u /* "PHf1" */

enum record_kind { REC_MESSAGE = 1, REC_ADMIN = 2, REC_RESULT = 3, REC_NOTE = 4 };
enum {
    RECORD_MOVED = 1 << 0, /* a message appended again by compaction */
    RECORD_MORE  = 1 << 1, /* the message counts only with that of the next record, which follows in the same segment */
};

struct frame {
    uint32_t meta_bytes, content_bytes;
    uint8_t kind, flags;
    uint64_t generation;
    uint32_t content_crc, crc;
};

static inline uint64_t frame_bytes(const struct frame *f)
{
    return FRAME_HEADER_BYTES + (uint64_t)f->meta_bytes + f->content_bytes;
}

/* Writes the header; meta_crc is the CRC of the metadata alone. */
void frame_seal(char out[FRAME_HEADER_BYTES], const struct frame *f, uint32_t meta_crc, uint64_t salt);
/* The four bytes with which a frame begins. */
void frame_mark(char out[4], uint64_t salt);
/* Reads a header: mark, zero bytes, known kind and alignment are checked, the checksum is not. */
bool frame_parse(const char in[FRAME_HEADER_BYTES], uint64_t salt, struct frame *f) MUST_CHECK;
/* The checksum of header and metadata (in is the header with its metadata behind it). */
bool frame_meta_is_valid(const char *in, const struct frame *f, uint64_t salt) MUST_CHECK;

/*
 * The record of a message: room for the header, then the metadata, padded for content_bytes of content.
 * malloc'd by record_message(); *bytes is header and metadata, *crc that of the metadata.
 */
char *record_message(const struct msg *m, uint32_t content_bytes, uint32_t *bytes);
/* Fills env, content_offset, content_crc, is_large of a new message from the metadata; pos stays empty. NULL: not valid. */
struct msg *record_message_decode(const struct frame *f, struct span meta) MUST_CHECK;
/* Only what replay needs first. */
bool record_message_peek(struct span meta, uint64_t *id, uint32_t *rcpt_count, struct journal_pos *moved_from) MUST_CHECK;
/* Marks encoded metadata as copied from `from` (compaction). */
void record_message_set_moved(char *meta, struct journal_pos from);

struct record_admin {
    uint8_t what; /* enum spool_admin */
    uint64_t id;
    int64_t when_us;
    struct span detail;
};
char *record_admin(const struct record_admin *a, uint32_t *bytes);
bool record_admin_decode(struct span meta, struct record_admin *a) MUST_CHECK;

/* Appends header room and metadata of one result to b. */
void record_result(struct buf *b, const struct spool_result *r);
/* Spans point into meta. */
bool record_result_decode(struct span meta, struct spool_result *r) MUST_CHECK;

/* A note says that a segment is valid only up to an offset, because a flush of it failed; offset 0 says nothing at all. */
char *record_note(struct journal_pos valid_end, uint32_t *bytes);
bool record_note_decode(struct span meta, struct journal_pos *valid_end) MUST_CHECK;

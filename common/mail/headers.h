/*
 * headers: reads the header of a message while it arrives, a line at a time
 *
 * Purpose    tells where the header ends, which of the fields that somebody asks for later are there, how often the
 *            message was received, and its Message-ID, so that no later leg has to look again
 * Source     RFC 5322 2.2 and 3.6; postconf(5) hopcount_limit
 * Threads    one owner at a time
 * Ownership  message_id lives in the arena passed to hdr_scan_init()
 * Limits     HDR_MESSAGE_ID_MAX bytes of a Message-ID are kept
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/arena.h"
#include "common/base/span.h"

#define HDR_MESSAGE_ID_MAX 998

enum hdr_id {
#define HDR(id, name) HDR_##id,
#include "common/mail/headers.def"
#undef HDR
    HDR_COUNT
};

enum hdr_line {
    HDR_LINE_FIELD,   /* a field begins */
    HDR_LINE_FOLDED,  /* belongs to the field before */
    HDR_LINE_EMPTY,   /* ends the header, part of it */
    HDR_LINE_BODY,    /* the header ended before this line, without an empty line */
};

struct hdr_scan {
    struct arena *arena;       /* borrowed */
    uint32_t seen;             /* 1 << enum hdr_id */
    unsigned received_count;
    bool has_8bit;
    bool is_done;
    bool is_first;             /* no field seen yet */
    size_t name_n;             /* of the last field: behind it blanks or the colon */
    int current;               /* enum hdr_id of the field whose lines come, HDR_COUNT for any other */
    bool message_id_has_room;  /* for HDR_MESSAGE_ID_MAX bytes: it was folded */
    struct span message_id;    /* with < >; empty when there is none (yet) */
};

void hdr_scan_init(struct hdr_scan *h, struct arena *a);
/*
 * One line without its line end; the start of it will do when it is very long (then continue after the line's end). The
 * line must not be passed again.
 */
enum hdr_line hdr_scan_line(struct hdr_scan *h, struct span line);
static inline bool hdr_has(const struct hdr_scan *h, enum hdr_id id) { return (h->seen >> id & 1) != 0; }
/* "Name:" at the start of a line: the name's length, 0 when this is no field. Blanks before the colon are not counted. */
size_t hdr_name_length(struct span line);

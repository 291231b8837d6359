/*
 * transcript: what was said on an SMTP connection, for a notice to the postmaster
 *
 * Purpose    keeps the lines of both sides within a bound: the first ones and the last ones, with the number of those left
 *            out between. Content is not kept, and what a client says to log in is never kept.
 * Source     postconf(5) notify_classes; RFC 4954 (AUTH)
 * Threads    one owner at a time
 * Limits     TRANSCRIPT_MAX bytes; a line is cut at TRANSCRIPT_LINE_MAX
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/buf.h"

#define TRANSCRIPT_MAX      16384
#define TRANSCRIPT_HEAD     2048  /* the beginning that stays when lines are left out */
#define TRANSCRIPT_LINE_MAX 600

struct transcript {
    struct buf text;       /* owned: "In:  ..." and "Out: ..." lines ended by LF */
    size_t gap;            /* where lines were left out, when left_out > 0 */
    unsigned left_out;     /* lines */
    unsigned lines;        /* since the last reset, those left out included */
    bool is_secret_next;   /* the next command line belongs to a login */
};

void transcript_init(struct transcript *t);
void transcript_free(struct transcript *t);
/* Forgets the lines and gives the memory back. */
void transcript_reset(struct transcript *t);
/* A command, received (is_in) or sent, without its line end. */
void transcript_command(struct transcript *t, bool is_in, struct span line);
/* A line that is no known command: nothing of it is kept when it may belong to a login before it. */
void transcript_unknown(struct transcript *t, struct span line);
/* A reply of one or more lines with their line ends. */
void transcript_reply(struct transcript *t, bool is_in, struct span lines);
/* Words of ours about what is not shown. */
void transcript_note(struct transcript *t, const char *fmt, ...) PRINTF_FMT(2, 3);
/* All of it, with a line about what was left out. */
void transcript_print(const struct transcript *t, struct buf *out);

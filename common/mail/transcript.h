/*
 * transcript: what was said on an SMTP connection, for a notice to the postmaster
 *
 * Purpose    keeps the lines of both sides within a bound: the first ones and the last ones, with the number of those left
 *            out between. Content is not kept, and what a client says to log in is never kept. It can log each line too.
 * Source     postconf(5) notify_classes, debug_peer_list; RFC 4954 (AUTH)
 * Threads    one owner at a time
 * Limits     TRANSCRIPT_MAX bytes; a line is cut at TRANSCRIPT_LINE_MAX
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/buf.h"
#include "common/base/log.h"

#define TRANSCRIPT_MAX      16384
#define TRANSCRIPT_HEAD     2048  /* the beginning that stays when lines are left out */
#define TRANSCRIPT_LINE_MAX 600

struct transcript {
    struct buf text;       /* owned: "In:  ..." and "Out: ..." lines ended by LF */
    size_t gap;            /* where lines were left out, when left_out > 0 */
    unsigned left_out;     /* lines */
    unsigned lines;        /* since the last reset, those left out included */
    bool is_secret_next;   /* the next command line belongs to a login */
    const struct log_src *echo; /* borrowed: where lines are logged as well; NULL: nowhere */
    int64_t echo_level;    /* debug_peer_level: 1 what is said, 2 also notes */
    char echo_peer[300];   /* in those log lines */
};

void transcript_init(struct transcript *t);
void transcript_free(struct transcript *t);
/* Forgets the lines and gives the memory back. */
void transcript_reset(struct transcript *t);
/*
 * From here on each line is logged too, as "< PEER: ..." when it came from there, "> PEER: ..." when it was sent, and "= PEER: ..."
 * for a note. NULL ends it.
 */
void transcript_echo(struct transcript *t, const struct log_src *to, const char *peer, int64_t level);
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

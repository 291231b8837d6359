/*
 * long_work: commands that take their time: how far they are, and a clean end when somebody presses Ctrl-C
 *
 * Purpose    one line on a terminal that is written over; nothing where standard error is no terminal, unless verbose, then
 *            a line every few seconds. SIGINT and SIGTERM are collected, not obeyed: whoever works asks.
 * Source     ours
 * Threads    one; long_work_begin() comes before any thread of the program
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"

/* What a shell reports of a program that SIGINT ended. */
#define EX_INTERRUPTED 130

struct long_work {
    int fd;            /* signalfd */
    bool is_terminal, is_verbose, has_line, is_interrupted;
    int64_t next_ms;
};

void long_work_begin(struct long_work *w, bool is_verbose);
/* Clears the line. */
void long_work_end(struct long_work *w);
/* Did SIGINT or SIGTERM come? */
bool long_work_is_interrupted(struct long_work *w);
/* The text of the line; called as often as one likes. */
void long_work_tell(struct long_work *w, const char *fmt, ...) PRINTF_FMT(2, 3);
/* "done of total" in percent; what is not counted (total 0) has no number. */
void long_work_tell_part(struct long_work *w, const char *what, uint64_t done, uint64_t total);
/* "12.3 MB" */
void long_work_bytes(uint64_t n, char *out, size_t size);

/*
 * err: the details of a failure, filled by the layer that saw it
 *
 * Purpose    functions return a small enum; who wants the story passes a struct err (may be NULL)
 * Threads    the caller's own
 * Source     STYLE "Errors"
 */
#pragma once
#include <stdbool.h>
#include "common/base/attrs.h"

struct err {
    int sys;         /* errno at the place of failure, 0 when none */
    bool is_logged;  /* who saw it has logged it, or counted it as a repeat: to be told to the peer, not logged again */
    char text[480];  /* one line for people: what, where, what to do; never secrets */
};

#define ERR_INIT ((struct err){ .sys = 0 })

/* Sets text; sys becomes 0, is_logged false. e may be NULL. */
void err_set(struct err *e, const char *fmt, ...) PRINTF_FMT(2, 3);
/* Sets text followed by ": " and the message of `sys` (an errno value). e may be NULL. */
void err_set_sys(struct err *e, int sys, const char *fmt, ...) PRINTF_FMT(3, 4);
/* Puts "prefix: " in front of the text. e may be NULL. */
void err_prefix(struct err *e, const char *fmt, ...) PRINTF_FMT(2, 3);

/*
 * log: one line per event, in Postfix's shape, without making anyone wait
 *
 * Purpose    callers format into a bounded ring; one thread writes it to syslog, a file or standard error in
 *            batches. Lines are "Mmm dd hh:mm:ss host tag[pid]: text" (syslog adds nothing of its own).
 * Source     maillog_file, syslog_name, syslog_facility; reference/wire-formats.md sections 8 and 15; RFC 3164
 * Threads    log_line() and friends: any. log_open/start/stop: the main thread.
 * Locks      log.ring (rank 90), a leaf
 * Limits     a line is cut at LOG_TEXT_MAX; when the ring is full lines are dropped, counted, and the count is
 *            logged as soon as there is room
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/span.h"

#define LOG_TEXT_MAX 2000
#define LOG_STUCK_MS 3000

enum log_level { LOG_LV_DEBUG, LOG_LV_INFO, LOG_LV_WARNING, LOG_LV_ERROR, LOG_LV_FATAL };

enum log_dest { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_FILE };

struct log_options {
    enum log_dest dest;
    const char *path;    /* LOG_TO_FILE: file, created with `mode`; borrowed during log_open() */
    unsigned mode;       /* permissions of a new file; 0 means 0600 */
    int facility;        /* syslog facility number (2 = mail) */
    bool debug;          /* let LOG_LV_DEBUG through */
};

struct log;

/* Who speaks: kept by each session, delivery or subsystem. Strings borrowed for the life of the source. */
struct log_src {
    struct log *log;
    const char *name;    /* syslog_name, e.g. "posthouse" or "posthouse/submission" */
    const char *prog;    /* e.g. "smtpd", "smtp", "qmgr" */
    unsigned pid;        /* printed in [ ]; sessions use a number of their own so that readers can pair lines */
};

/* Opens the destination; lines are kept in the ring until log_start(). NULL with *e on failure. */
struct log *log_open(const struct log_options *o, struct err *e) MUST_CHECK;
/* Starts the writing thread. Returns errno. */
int log_start(struct log *l) MUST_CHECK;
/*
 * Reopens a file destination (after rotation) or changes the destination; the old one stays on failure, also when it has not
 * taken a line for LOG_STUCK_MS (a full pipe).
 */
bool log_reopen(struct log *l, const struct log_options *o, struct err *e) MUST_CHECK;
/* Writes what is waiting, ends the thread, closes, frees, sets NULL. */
void log_close(struct log **l);
/* Waits until everything logged so far is written; false when the destination takes nothing for LOG_STUCK_MS: then log_close() would wait for it. */
bool log_flush(struct log *l);
/* Lines dropped since the start. */
uint64_t log_dropped(struct log *l);

/* Logs one line. Unprintable bytes become '?'; "warning: ", "error: ", "fatal: " are put in front by level. src and src->log may be NULL: nothing happens. */
void log_line(const struct log_src *src, enum log_level lv, const char *fmt, ...) PRINTF_FMT(3, 4);
void log_vline(const struct log_src *src, enum log_level lv, const char *fmt, va_list ap) PRINTF_FMT(3, 0);
/* The same for text that is ready: the cheap way on the path of a message. */
void log_text(const struct log_src *src, enum log_level lv, struct span text);

#define log_debug(src, ...) log_line(src, LOG_LV_DEBUG, __VA_ARGS__)
#define log_info(src, ...)  log_line(src, LOG_LV_INFO, __VA_ARGS__)
#define log_warn(src, ...)  log_line(src, LOG_LV_WARNING, __VA_ARGS__)
#define log_error(src, ...) log_line(src, LOG_LV_ERROR, __VA_ARGS__)
#define log_fatal(src, ...) log_line(src, LOG_LV_FATAL, __VA_ARGS__)

/*
 * Writes text and more to the destination at once, past the ring: for signal handlers of a process that ends. Async-signal-safe;
 * the time stamp is that of the last line.
 */
void log_last_words(const struct log_src *src, const char *text, const char *more);

/*
 * For messages that could repeat without end ("limit reached"): true at most once a minute per `last_ms`
 * (caller's static-lifetime storage, zero to begin with); *suppressed gets the number swallowed since.
 */
bool log_once_a_minute(_Atomic int64_t *last_ms, _Atomic uint64_t *count, uint64_t *suppressed);
/* "mail" -> 2 and so on; -1 when unknown. */
int log_facility_number(const char *name);

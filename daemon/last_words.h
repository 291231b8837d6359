/*
 * last_words: a process that ends by a signal of its own making says so in the log
 *
 * Purpose    SIGABRT (a broken invariant, no memory), SIGSEGV, SIGBUS, SIGFPE and SIGILL leave a line where the other lines are;
 *            standard error is not read by everybody. The signal then has its usual effect, core file included.
 * Source     ours
 * Threads    main sets it; the handler runs on the thread that fails
 */
#pragma once
#include "common/base/log.h"

/* From now on; src and its log are borrowed until last_words_from(NULL), which must come before the log is closed. */
void last_words_from(const struct log_src *src);

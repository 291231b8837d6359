/*
 * descriptors: how many sockets and files the process may have, and who gets them
 *
 * Purpose    raises RLIMIT_NOFILE to what the configuration can need. Where that is not allowed, clients get fewer: a
 *            daemon whose descriptors are all with clients can neither deliver nor begin a new journal segment.
 * Source     session_limit, delivery_threads (ours); getrlimit(2)
 * Threads    main, before other threads start
 */
#pragma once
#include <stdint.h>
#include "common/base/attrs.h"
#include "common/base/log.h"

/*
 * Returns how many SMTP sessions there is room for: session_limit, or fewer with a warning in the log. As root it raises
 * the hard limit too.
 */
unsigned descriptors_prepare(unsigned session_limit, unsigned delivery_threads, const struct log_src *log) MUST_CHECK;
/* The rule, apart from the system call: sessions for that many descriptors. */
unsigned descriptors_sessions(uint64_t allowed, unsigned session_limit, unsigned delivery_threads) MUST_CHECK;

/*
 * logging: from maillog_file, syslog_facility and friends to log_options
 *
 * Source     postconf(5) maillog_file, maillog_file_prefixes, maillog_file_permissions, syslog_facility
 * Threads    main
 */
#pragma once
#include <stdbool.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/conf/conf.h"

/* Strings are borrowed from c. in_foreground: standard error when neither a file is named nor a syslog socket exists. */
bool logging_options(struct conf *c, bool in_foreground, struct log_options *out, struct err *e) MUST_CHECK;

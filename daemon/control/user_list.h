/*
 * user_list: is a user in authorized_submit_users and its like?
 *
 * Source     postconf(5) authorized_submit_users, authorized_mailq_users, authorized_flush_users
 * Threads    any
 */
#pragma once
#include <stdbool.h>
#include <sys/types.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/base/log.h"

struct conf;
/*
 * False with *e: not in the list, or a table failed. title: the parameter's name. log may be NULL. c: where
 * the tables of the list find their settings.
 */
bool user_is_listed(struct conf *c, const char *title, const char *list, uid_t uid, const struct log_src *log, struct err *e) MUST_CHECK;

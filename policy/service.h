/*
 * service: one policy server (check_policy_service) and the connections to it
 *
 * Purpose    sends a request of name=value lines and takes the action out of the answer; connections are kept and used
 *            again within their limits
 * Source     SMTPD_POLICY_README of Postfix for the protocol; reference/wire-formats.md section 1; smtpd(8) POLICY
 * Threads    any; a request blocks its thread until the server answers or all attempts failed
 * Locks      POLICY_SERVICE (66): the idle connections; never held while talking
 * Ownership  made while a policy is compiled; policy_server_close() ends its connections
 */
#pragma once
#include "common/base/arena.h"
#include "common/base/err.h"
#include "common/base/span.h"

struct policy_server;

/* How a server is asked; times in ms. The defaults are smtpd_policy_service_*; "{ server, name = value }" changes some. */
struct policy_server_options {
    int64_t timeout, max_idle, max_ttl, retry_delay, request_limit, try_limit;
    struct span default_action, policy_context;
};

/*
 * `text` is "inet:host:port", "unix:path" or the inside of { ... } with options behind it. queue_directory: for relative
 * paths; borrowed for life, as are the texts of `defaults`. NULL with *e.
 */
struct policy_server *policy_server_open(struct span text, const char *queue_directory, const struct policy_server_options *defaults,
                                         struct arena *a, struct err *e) MUST_CHECK;
void policy_server_close(struct policy_server **s);
const struct policy_server_options *policy_server_options(const struct policy_server *s);
/* Same place and options: one may serve for both, and its connections too. */
bool policy_server_same(const struct policy_server *a, const struct policy_server *b);
/* As configured, for messages. */
const char *policy_server_name(const struct policy_server *s);
/* The action, in the arena. False with *e after the last attempt. */
bool policy_server_ask(struct policy_server *s, struct span request, struct arena *a, struct span *action, struct err *e) MUST_CHECK;

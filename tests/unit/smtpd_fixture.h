/*
 * A session of daemon/smtpd in a test: real configuration, policy and messages, a spool that keeps the last message in
 * memory, a log in a file, and a reactor that is one function. Everything runs on the test's thread.
 */
#pragma once
#include "tests/unit/unit.h"
#include <string.h>
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "daemon/smtpd/smtpd_internal.h"

/* What the spool in smtpd_fixture.c does; set by tests. */
struct fake_spool {
    bool is_full;                  /* no room at MAIL */
    enum spool_status append, finish, commit;
    bool hold_commit;              /* done_cb waits for fixture_commit() */
    struct msg *held;
    struct msg *last;              /* counted; NULL before the first */
    struct buf content;            /* of last */
    unsigned messages, begun, ended;
    size_t memory, memory_used;    /* budget beside content */
    struct qid_source qids;
};

struct fixture {
    struct conf *conf;
    struct conf_report report;
    struct policy *policy;
    struct smtpd_service *service;
    struct smtpd_env env;
    struct listener listener;
    struct fake_spool *spool;
    char log_path[64];
    /* the session */
    struct sess *s;
    int client;                    /* our end */
    enum sess_wait want;
    atomic_bool resumed;           /* set by callbacks, perhaps on another thread */
    bool is_open;
    int timers;                    /* tarpits that ran out (they are not waited for) */
    struct buf got;                /* what the server said and was not asked for yet */
};

/* main_cf is appended to a stock configuration whose client 127.0.0.1 is a stranger. */
struct fixture *fixture_new(const char *main_cf);
void fixture_free(struct fixture **f);
/* A new session from that address (NULL: 127.0.0.1); runs it until it waits. */
void fixture_open(struct fixture *f, const char *peer);
void fixture_send(struct fixture *f, struct span bytes);
/* Runs steps until the session waits for something that is not there. */
void fixture_run(struct fixture *f);
/* The client goes away. */
void fixture_hang_up(struct fixture *f);
void fixture_close(struct fixture *f);
/* Waits for a callback from another thread (at most some seconds), then runs on. */
void fixture_await(struct fixture *f);
/* Ends a held commit. */
void fixture_commit(struct fixture *f);
/* Time passes until the session's deadline. */
void fixture_time_out(struct fixture *f);
/* All it said since the last call; NUL-terminated, valid until the next. */
const char *fixture_said(struct fixture *f);
/* The log so far, without time, host and tag: "text\n" lines. free() it. */
char *fixture_log(struct fixture *f);

/*
 * ctl_client: a program's side of the control sockets
 *
 * Purpose    connects, sends a request, hands out the lines of the answer
 * Source     daemon/control/README.md
 * Threads    one owner
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>
#include "common/base/attrs.h"
#include "common/base/err.h"
#include "common/net/stream.h"

struct ctl_conn {
    struct stream *s;     /* owned */
    char *path;           /* owned */
    pid_t pid;            /* of the daemon */
};

enum ctl_connect {
    CTL_CONNECT_OK,
    CTL_CONNECT_DOWN,     /* nobody listens: the daemon does not run */
    CTL_CONNECT_DENIED,   /* we may not open the socket */
    CTL_CONNECT_FAILED,
};

/* *e names the socket and the reason. */
enum ctl_connect ctl_connect(const char *path, struct ctl_conn *out, struct err *e) MUST_CHECK;
void ctl_disconnect(struct ctl_conn *c);
/* Takes the reference of `request`. */
bool ctl_request(struct ctl_conn *c, json_t *request, struct err *e) MUST_CHECK;
/* The next line of the answer, a new reference; *is_last when it has the member "ok". NULL with *e: the connection is lost. */
json_t *ctl_answer(struct ctl_conn *c, bool *is_last, struct err *e) MUST_CHECK;
/*
 * Waits for the last line. 0 when it says ok, else the exit status that it names, with *e. *last (may be NULL) gets the
 * line, a new reference, or NULL.
 */
int ctl_finish(struct ctl_conn *c, json_t **last, struct err *e) MUST_CHECK;
/* What a last line means for the exit status; *e gets its error. */
int ctl_status_of(const json_t *last, struct err *e) MUST_CHECK;

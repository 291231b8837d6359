/* control_internal: what the command groups share. One thread per client runs its commands, in order. */
#pragma once
#include <jansson.h>
#include <pthread.h>
#include <sys/types.h>
#include "common/base/lock.h"
#include "common/base/span.h"
#include "common/net/stream.h"
#include "daemon/control/control.h"
#include "daemon/smtpd/smtpd.h"

struct ctl_peer {
    uid_t uid;
    pid_t pid;
    bool is_owner; /* root, or the user that the daemon runs as */
};

enum client_state { CLIENT_FREE, CLIENT_RUNNING, CLIENT_FINISHED };

struct ctl_client {
    struct control *c;
    struct stream *s;          /* owned by its thread; the accepting thread interrupts it under the lock */
    struct ctl_peer peer;      /* immutable */
    bool is_public;            /* immutable: came by public/submit or public/showq */
    bool is_showq;             /* immutable: came by public/showq */
    enum client_state state;   /* guarded by CONTROL */
    bool is_committing;        /* guarded by CONTROL: not to be interrupted */
    pthread_t thread;
    bool is_broken;            /* own thread: a reply could not be sent */
};

struct control {
    struct control_options o;
    char *socket_path, *submit_path, *showq_path; /* owned */
    int control_fd, submit_fd, showq_fd;
    int wake[2];               /* pipe: a client finished, or it is time to stop */
    pthread_t thread;
    struct smtpd_env smtpd;    /* for sessions of sendmail -bs */
    struct lock m;             /* CONTROL */
    struct ctl_client clients[CONTROL_CLIENTS_MAX + SUBMIT_CLIENTS_MAX];
    bool stopping;             /* guarded by m */
    _Atomic uint64_t served;
    _Atomic int64_t accept_told_ms; /* of connections that could not be taken */
    _Atomic uint64_t accept_untold;
};

/* ---- ctl_client.c ---- */
/* Serves one client until it is done. */
void ctl_client_run(struct ctl_client *cl);
/*
 * Around a commit: between the two the connection is not cut off by a stop. False when the daemon is stopping already: the
 * message must not be taken.
 */
bool ctl_commit_begin(struct ctl_client *cl) MUST_CHECK;
void ctl_commit_end(struct ctl_client *cl);

/* ---- ctl_reply.c: answers. Each false when the client is gone. ---- */
/* One line; takes the reference of obj. */
bool ctl_send(struct ctl_client *cl, json_t *obj);
/* The last line of an answer. extra (may be NULL; reference taken) is an object whose members are added. */
bool ctl_ok(struct ctl_client *cl, json_t *extra);
/* status: what a command line program should exit with (sysexits). */
bool ctl_fail(struct ctl_client *cl, int status, const char *fmt, ...) PRINTF_FMT(3, 4);
/* Sends what is buffered. */
bool ctl_flush(struct ctl_client *cl);

/* ---- ctl_auth.c ---- */
enum ctl_right { RIGHT_OWNER, RIGHT_MAILQ, RIGHT_FLUSH, RIGHT_SUBMIT };
/* False with *e: what is missing. */
bool ctl_is_allowed(struct ctl_client *cl, enum ctl_right right, struct err *e) MUST_CHECK;
/* May this user submit? The owner of the mail system has to be asked about elsewhere. False with *e. */
bool ctl_user_may_submit(struct conf *c, uid_t uid, const struct log_src *log, struct err *e) MUST_CHECK;

/* ---- showq.c ---- */
/* The whole queue, once. */
void showq_serve(struct ctl_client *cl);

/* ---- commands: false when the connection must end ---- */
typedef bool ctl_command_fn(struct ctl_client *cl, json_t *request);
ctl_command_fn ctl_queue_list, ctl_queue_show, ctl_queue_cat;                     /* ctl_queue.c */
ctl_command_fn ctl_queue_flush;
/* enable_long_queue_ids of the present configuration. */
bool ctl_long_ids(struct ctl_client *cl);
ctl_command_fn ctl_queue_hold, ctl_queue_release, ctl_queue_delete, ctl_queue_requeue; /* ctl_admin.c */
ctl_command_fn ctl_queue_expire, ctl_queue_readdress, ctl_queue_undelete;
ctl_command_fn ctl_queue_select, ctl_queue_deleted;                               /* ctl_select.c */
ctl_command_fn ctl_queue_pause, ctl_queue_resume, ctl_queue_pauses;                /* ctl_pause.c */
struct pause;
json_t *pause_json(const struct pause *p);
ctl_command_fn ctl_queue_export, ctl_queue_import;                                /* ctl_export.c */
ctl_command_fn ctl_queue_sync;                                                    /* ctl_sync.c */
ctl_command_fn ctl_queue_compact;                                                 /* ctl_compact.c */
ctl_command_fn ctl_restrictions, ctl_status, ctl_tables, ctl_reload, ctl_stop;                                /* ctl_daemon.c */
ctl_command_fn ctl_verify_list, ctl_verify_forget, ctl_verify_probe;              /* ctl_verify.c */
ctl_command_fn ctl_submit, ctl_smtp;                                              /* ctl_submit.c */

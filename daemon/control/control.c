/*
 * One thread polls both listening sockets and a pipe. A client gets a slot of a fixed table and a thread; when it ends, the
 * thread marks its slot finished and writes to the pipe, and the accepting thread joins it. While all slots of one
 * kind are taken, newcomers get a "busy" line and are closed, so that nobody waits without knowing why.
 *
 * Stop: listening ends, clients that are not committing a message are interrupted, the others after COMMIT_GRACE_MS; all
 * threads are joined.
 */
#include "daemon/control/control_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/net/listen.h"

#define BACKLOG 64
#define LOCAL_PID_FIRST 4990000
#define COMMIT_GRACE_MS 3000

static void wake_up(struct control *c)
{
    if (write(c->wake[1], "", 1) < 0) { /* full: a wake-up is pending anyway */ }
}

static void *client_main(void *arg)
{
    struct ctl_client *cl = arg;
    struct control *c = cl->c;
    if (cl->is_showq)
        showq_serve(cl);
    else
        ctl_client_run(cl);
    lock_take(&c->m);
    struct stream *s = cl->s;
    cl->s = NULL;
    cl->state = CLIENT_FINISHED;
    lock_drop(&c->m);
    stream_free(&s);
    wake_up(c);
    return NULL;
}

/* Joins finished clients and frees their slots. With `all` waits for those that still run. */
static void reap(struct control *c, bool all)
{
    for (size_t i = 0; i < ARRAY_LEN(c->clients); i++) {
        struct ctl_client *cl = &c->clients[i];
        lock_take(&c->m);
        bool join = cl->state == CLIENT_FINISHED || (all && cl->state == CLIENT_RUNNING);
        lock_drop(&c->m);
        if (!join)
            continue;
        pthread_join(cl->thread, NULL);
        lock_take(&c->m);
        cl->state = CLIENT_FREE;
        lock_drop(&c->m);
    }
}

static void refuse(int fd)
{
    static const char text[] = "{\"ok\": false, \"error\": \"too many clients, try again\", \"status\": 75}\n";
    if (send(fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) { /* it is told, or it is gone */ }
    close(fd);
}

/* A free slot of the right kind, or NULL when the limit for this kind or this user is reached. */
static struct ctl_client *slot_locked(struct control *c, bool is_public, const struct ctl_peer *peer) REQUIRES(&c->m)
{
    struct ctl_client *slot = NULL;
    unsigned of_kind = 0, of_user = 0;
    for (size_t i = 0; i < ARRAY_LEN(c->clients); i++) {
        struct ctl_client *cl = &c->clients[i];
        if (cl->state == CLIENT_FREE) {
            slot = cl;
        } else if (cl->is_public == is_public) {
            of_kind++;
            of_user += cl->peer.uid == peer->uid;
        }
    }
    if (of_kind >= (is_public ? SUBMIT_CLIENTS_MAX : CONTROL_CLIENTS_MAX) ||
        (is_public && !peer->is_owner && of_user >= SUBMIT_CLIENTS_PER_USER))
        return NULL;
    return slot;
}

static void start_client(struct control *c, int fd, bool is_public, bool is_showq)
{
    struct ucred cred;
    socklen_t size = sizeof cred;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) != 0) {
        close(fd);
        return;
    }
    struct ctl_peer peer = { .uid = cred.uid, .pid = cred.pid, .is_owner = cred.uid == 0 || cred.uid == geteuid() };
    lock_take(&c->m);
    struct ctl_client *cl = slot_locked(c, is_public, &peer);
    if (cl != NULL)
        *cl = (struct ctl_client){ .c = c, .peer = peer, .is_public = is_public, .is_showq = is_showq, .state = CLIENT_RUNNING };
    lock_drop(&c->m);
    if (cl == NULL) {
        if (is_showq)
            close(fd);
        else
            refuse(fd);
        return;
    }
    struct stream *s = stream_new_fd(fd);
    lock_take(&c->m);
    cl->s = s;
    lock_drop(&c->m);
    int rc = thread_start(&cl->thread, "control-client", 0, client_main, cl);
    if (rc != 0) {
        log_warn(c->o.log, "control: no thread for a client: %s", strerror(rc));
        lock_take(&c->m);
        cl->s = NULL;
        cl->state = CLIENT_FREE;
        lock_drop(&c->m);
        stream_free(&s);
    }
}

static void accept_client(struct control *c, int lfd, bool is_public, bool is_showq)
{
    int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        start_client(c, fd, is_public, is_showq);
    else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        uint64_t missed;
        if (log_once_a_minute(&c->accept_told_ms, &c->accept_untold, &missed))
            log_warn(c->o.log, "accept on %s: %m: tried again", is_public ? c->submit_path : c->socket_path);
        usleep(100 * 1000); /* the connection stays in the backlog: do not spin on it */
    }
}

static void *accept_main(void *arg)
{
    struct control *c = arg;
    for (;;) {
        struct pollfd p[4] = {
            { .fd = c->wake[0], .events = POLLIN },
            { .fd = c->control_fd, .events = POLLIN },
            { .fd = c->submit_fd, .events = POLLIN },
            { .fd = c->showq_fd, .events = POLLIN },
        };
        if (poll(p, ARRAY_LEN(p), -1) < 0)
            continue;
        if (p[0].revents != 0) {
            char sink[64];
            if (read(c->wake[0], sink, sizeof sink) < 0) { /* EAGAIN: somebody else's byte was enough */ }
            lock_take(&c->m);
            bool stop = c->stopping;
            lock_drop(&c->m);
            if (stop)
                return NULL;
            reap(c, false);
        }
        if (p[1].revents != 0)
            accept_client(c, c->control_fd, false, false);
        if (p[2].revents != 0)
            accept_client(c, c->submit_fd, true, false);
        if (p[3].revents != 0)
            accept_client(c, c->showq_fd, true, true);
    }
}

/* Every local user must be able to reach public/submit: the queue directory may be passed through, not read. */
static bool make_public(const char *queue_dir, char **submit_path, char **showq_path, struct err *e)
{
    char *dir = xasprintf("%s/public", queue_dir);
    struct stat st;
    bool ok = io_make_dirs(dir, 0755) && chmod(dir, 0755) == 0 && stat(queue_dir, &st) == 0;
    if (ok && (st.st_mode & 0111) != 0111 && chmod(queue_dir, (st.st_mode & 07777) | 0111) != 0)
        ok = false;
    if (!ok)
        err_set_sys(e, errno, "directory %s", dir);
    *submit_path = xasprintf("%s/submit", dir);
    *showq_path = xasprintf("%s/showq", dir);
    free(dir);
    return ok;
}

static void control_free(struct control *c)
{
    io_close(&c->control_fd);
    io_close(&c->submit_fd);
    io_close(&c->showq_fd);
    io_close(&c->wake[0]);
    io_close(&c->wake[1]);
    lock_destroy(&c->m);
    free(c->socket_path);
    free(c->submit_path);
    free(c->showq_path);
    free(c);
}

struct control *control_start(const struct control_options *o, struct err *e)
{
    struct control *c = xcalloc(1, sizeof *c);
    c->o = *o;
    c->o.queue_dir = c->o.socket_path = NULL;
    c->control_fd = c->submit_fd = c->showq_fd = c->wake[0] = c->wake[1] = -1;
    /* Their numbers in log lines begin far from those of sessions that come in by TCP. */
    c->smtpd = (struct smtpd_env){ .spool = o->spool, .log = o->log->log, .resume = smtpd_run_resume, .next_pid = LOCAL_PID_FIRST,
                                     .report = o->report, .report_arg = o->arg };
    smtpd_limits_init(&c->smtpd);
    lock_init(&c->m, LOCK_CONTROL);
    c->socket_path = xstrdup(o->socket_path);
    if (!make_public(o->queue_dir, &c->submit_path, &c->showq_path, e))
        goto failed;
    if (pipe2(c->wake, O_CLOEXEC | O_NONBLOCK) != 0) {
        err_set_sys(e, errno, "control: pipe");
        goto failed;
    }
    c->control_fd = listen_unix(c->socket_path, 0600, BACKLOG, e);
    if (c->control_fd < 0) {
        err_prefix(e, "control_socket");
        goto failed;
    }
    c->submit_fd = listen_unix(c->submit_path, 0666, BACKLOG, e);
    if (c->submit_fd < 0)
        goto failed;
    c->showq_fd = listen_unix(c->showq_path, 0666, BACKLOG, e);
    if (c->showq_fd < 0)
        goto failed;
    int rc = thread_start(&c->thread, "control", 0, accept_main, c);
    if (rc == 0)
        return c;
    err_set_sys(e, rc, "starting the control thread");
failed:
    if (c->control_fd >= 0)
        unlink(c->socket_path);
    if (c->submit_fd >= 0)
        unlink(c->submit_path);
    if (c->showq_fd >= 0)
        unlink(c->showq_path);
    control_free(c);
    return NULL;
}

static void interrupt_clients(struct control *c, bool committing_too)
{
    lock_take(&c->m);
    for (size_t i = 0; i < ARRAY_LEN(c->clients); i++) {
        struct ctl_client *cl = &c->clients[i];
        if (cl->state == CLIENT_RUNNING && cl->s != NULL && (committing_too || !cl->is_committing))
            stream_interrupt(cl->s);
    }
    lock_drop(&c->m);
}

static bool is_any_running(struct control *c)
{
    bool any = false;
    lock_take(&c->m);
    for (size_t i = 0; i < ARRAY_LEN(c->clients); i++)
        any = any || c->clients[i].state == CLIENT_RUNNING;
    lock_drop(&c->m);
    return any;
}

/* Who hands in a message gets his answer, unless he takes his time: any local user could hold up the stop. */
static void wait_for_commits(struct control *c)
{
    int64_t until_ms = clock_mono_ms() + COMMIT_GRACE_MS, left_ms;
    struct pollfd p = { .fd = c->wake[0], .events = POLLIN };
    while (is_any_running(c) && (left_ms = until_ms - clock_mono_ms()) > 0) {
        char sink[64];
        if (poll(&p, 1, (int)left_ms) > 0 && read(c->wake[0], sink, sizeof sink) < 0) { /* EAGAIN: looked at all the same */ }
    }
}

void control_stop(struct control **cp)
{
    struct control *c = *cp;
    *cp = NULL;
    if (c == NULL)
        return;
    lock_take(&c->m);
    c->stopping = true;
    lock_drop(&c->m);
    interrupt_clients(c, false);
    wake_up(c);
    pthread_join(c->thread, NULL);
    unlink(c->socket_path);
    unlink(c->submit_path);
    unlink(c->showq_path);
    interrupt_clients(c, false); /* the accepting thread may have let a last one in */
    wait_for_commits(c);
    interrupt_clients(c, true);
    reap(c, true);
    control_free(c);
}

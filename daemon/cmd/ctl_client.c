/* Waits are long (a reload opens tables, a commit waits for a disk), but not endless. */
#include "daemon/cmd/ctl_client.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "daemon/cmd/queue_format.h"

#define ANSWER_MS 300000
#define LINE_BYTES_MAX (64 * 1024 * 1024)

enum ctl_connect ctl_connect(const char *path, struct ctl_conn *out, struct err *e)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct ucred cred = { .pid = 0 };
    socklen_t size = sizeof cred;
    if (strlen(path) >= sizeof a.sun_path) {
        err_set(e, "socket name too long: %s", path);
        return CTL_CONNECT_FAILED;
    }
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        int sys = errno;
        io_close(&fd);
        bool down = sys == ENOENT || sys == ECONNREFUSED || sys == ENOTDIR;
        if (down)
            err_set(e, "posthoused is not running: nobody listens on %s", path);
        else
            err_set_sys(e, sys, "cannot talk to posthoused on %s", path);
        return down ? CTL_CONNECT_DOWN : sys == EACCES || sys == EPERM ? CTL_CONNECT_DENIED : CTL_CONNECT_FAILED;
    }
    (void)!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size);
    *out = (struct ctl_conn){ .s = stream_new_fd(fd), .path = xstrdup(path), .pid = cred.pid };
    return CTL_CONNECT_OK;
}

void ctl_disconnect(struct ctl_conn *c)
{
    stream_free(&c->s);
    free(c->path);
    c->path = NULL;
}

static void lost(struct ctl_conn *c, struct err *e)
{
    err_set(e, "lost the connection to posthoused on %s: %s", c->path, stream_error_text(c->s));
}

bool ctl_request(struct ctl_conn *c, json_t *request, struct err *e)
{
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    stream_set_deadline(c->s, clock_mono_ms() + ANSWER_MS);
    stream_puts(c->s, text != NULL ? text : "{}");
    stream_puts(c->s, "\n");
    free(text);
    if (stream_flush(c->s) == STREAM_OK)
        return true;
    lost(c, e);
    return false;
}

json_t *ctl_answer(struct ctl_conn *c, bool *is_last, struct err *e)
{
    struct span line;
    json_error_t je;
    stream_set_deadline(c->s, clock_mono_ms() + ANSWER_MS);
    if (stream_read_line(c->s, LINE_BYTES_MAX, &line) != STREAM_OK) {
        lost(c, e);
        return NULL;
    }
    json_t *j = json_loadb(line.p, line.n, 0, &je);
    if (j == NULL || !json_is_object(j)) {
        err_set(e, "posthoused on %s sent something that is no JSON object", c->path);
        json_decref(j);
        return NULL;
    }
    *is_last = json_object_get(j, "ok") != NULL;
    return j;
}

int ctl_status_of(const json_t *last, struct err *e)
{
    if (json_is_true(json_object_get(last, "ok")))
        return 0;
    const char *text = queue_text(last, "error");
    json_int_t status = json_integer_value(json_object_get(last, "status"));
    err_set(e, "%s", text[0] != '\0' ? text : "posthoused refused without a reason");
    return status > 0 && status < 126 ? (int)status : EX_UNAVAILABLE;
}

int ctl_finish(struct ctl_conn *c, json_t **last, struct err *e)
{
    bool is_last = false;
    if (last != NULL)
        *last = NULL;
    for (;;) {
        json_t *j = ctl_answer(c, &is_last, e);
        if (j == NULL)
            return EX_TEMPFAIL;
        if (is_last) {
            int status = ctl_status_of(j, e);
            if (last != NULL)
                *last = j;
            else
                json_decref(j);
            return status;
        }
        json_decref(j);
    }
}

/*
 * The file: written under a name that begins with '.', flushed, renamed to its name without the dot, and the directory flushed. An
 * ordinary user cannot open the directory for reading; then the file is flushed again, which on the usual journaling file
 * systems carries the rename. Names are 128 random bits: other users may pass through the directory, but not list it.
 */
#include "daemon/cmd/submit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "daemon/cmd/ctl_client.h"

#define SEND_MS 60000

/* ---- to the daemon ---- */

static bool send_piece(void *arg, struct span piece)
{
    struct ctl_conn *c = arg;
    stream_set_deadline(c->s, clock_mono_ms() + SEND_MS);
    stream_put_borrowed(c->s, piece);
    return stream_flush(c->s) == STREAM_OK;
}

/* The daemon's last line after a failed write: it may have said no and closed. */
static int early_answer(struct ctl_conn *c, struct err *e)
{
    struct stream *s = stream_new_fd(fcntl(stream_fd(c->s), F_DUPFD_CLOEXEC, 3));
    struct ctl_conn again = { .s = s, .path = c->path };
    int status = ctl_finish(&again, NULL, e);
    stream_free(&s);
    return status == 0 || status == EX_TEMPFAIL ? SUBMIT_USE_FILE : status;
}

int submit_to_daemon(const char *queue_dir, const struct submission *s, struct mail_input *in, char **queue_id, struct err *e)
{
    struct ctl_conn c;
    char *path = xasprintf("%s/public/submit", queue_dir);
    enum ctl_connect st = ctl_connect(path, &c, e);
    free(path);
    if (st != CTL_CONNECT_OK)
        return SUBMIT_USE_FILE;
    json_t *request = submission_encode(s), *last = NULL;
    json_object_set_new(request, "op", json_string("submit"));
    int status;
    if (!ctl_request(&c, request, e) || !mail_input_each(in, send_piece, &c)) {
        status = early_answer(&c, e);
    } else {
        status = ctl_finish(&c, &last, e);
        if (status == EX_TEMPFAIL && last != NULL)
            status = SUBMIT_USE_FILE; /* it said no, for now */
        else if (last == NULL)
            err_prefix(e, "the message was sent and not answered, it may or may not be queued");
    }
    const char *id = json_string_value(json_object_get(last, "queue_id"));
    if (status == 0 && queue_id != NULL && id != NULL)
        *queue_id = xstrdup(id);
    json_decref(last);
    ctl_disconnect(&c);
    return status;
}

/* ---- to maildrop/ ---- */

static bool write_piece(void *arg, struct span piece)
{
    return io_write_all(*(const int *)arg, piece.p, piece.n);
}

static bool write_file(int fd, const struct submission *s, struct mail_input *in)
{
    json_t *j = submission_encode(s);
    char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    bool ok = text != NULL && io_write_all(fd, text, strlen(text)) && io_write_all(fd, "\n", 1) &&
              mail_input_each(in, write_piece, &fd);
    free(text);
    return ok && fchmod(fd, 0644) == 0 && fsync(fd) == 0;
}

static bool random_name(char out[40])
{
    unsigned char b[16];
    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
        return false;
    out[0] = '.';
    for (size_t i = 0; i < sizeof b; i++)
        snprintf(out + 1 + 2 * i, 3, "%02x", b[i]);
    return true;
}

/* Makes the rename durable. */
static bool sync_rename(const char *dir, int fd)
{
    int dfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = dfd >= 0 ? fsync(dfd) == 0 : fsync(fd) == 0;
    io_close(&dfd);
    return ok;
}

static int drop_failed(const char *dir, int sys, struct err *e)
{
    err_set_sys(e, sys, "the message cannot be left in %s", dir);
    return EX_TEMPFAIL;
}

int submit_to_maildrop(const char *queue_dir, const struct submission *s, struct mail_input *in, struct err *e)
{
    char name[40];
    char *dir = xasprintf("%s/maildrop", queue_dir), *tmp = NULL, *final = NULL;
    int fd = -1, status = 0;
    if (!random_name(name)) {
        status = drop_failed(dir, errno, e);
        goto out;
    }
    tmp = xasprintf("%s/%s", dir, name);
    final = xasprintf("%s/%s", dir, name + 1);
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        status = drop_failed(dir, errno, e);
    } else if (!write_file(fd, s, in) || rename(tmp, final) != 0) {
        status = drop_failed(dir, errno, e);
        unlink(tmp);
    } else if (!sync_rename(dir, fd)) {
        /* It may be taken, or not survive a power cut: the caller must keep the message. */
        status = drop_failed(dir, errno, e);
        unlink(final);
    }
out:
    io_close(&fd);
    free(final);
    free(tmp);
    free(dir);
    return status;
}

int submit_message(const char *queue_dir, struct submission *s, struct mail_input *in, char **queue_id, struct err *e)
{
    struct err why = ERR_INIT;
    if (queue_id != NULL)
        *queue_id = NULL;
    s->content_bytes = in->bytes;
    int status = submit_to_daemon(queue_dir, s, in, queue_id, &why);
    if (status == SUBMIT_USE_FILE) {
        status = submit_to_maildrop(queue_dir, s, in, e);
        if (status != 0 && e != NULL && why.text[0] != '\0')
            err_prefix(e, "%s", why.text);
        return status;
    }
    if (status != 0 && e != NULL)
        *e = why;
    return status;
}

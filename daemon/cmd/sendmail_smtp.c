/*
 * sendmail -bs: the connection to public/submit becomes an SMTP session of the daemon; bytes go through unchanged, both ways, until
 * the daemon closes. While no daemon runs, sendmail_smtp_down.c speaks with the client.
 */
#include "daemon/cmd/sendmail.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "daemon/cmd/ctl_client.h"

#define PIECE_BYTES 65536

/* True while there is more to come from `from`. */
static bool pass_on(int from, int to, char *piece, bool *failed)
{
    ssize_t n = read(from, piece, PIECE_BYTES);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    *failed = n < 0 || (n > 0 && !io_write_all(to, piece, (size_t)n));
    return n > 0 && !*failed;
}

/* What came right behind the daemon's answer is in the stream already: the greeting. */
static bool pass_on_buffered(struct stream *s)
{
    struct span piece;
    while (stream_has_input(s)) {
        if (stream_read_some(s, &piece) != STREAM_OK || !io_write_all(STDOUT_FILENO, piece.p, piece.n))
            return false;
    }
    return true;
}

static int proxy(const struct sendmail *sm, struct stream *s)
{
    char *piece = xmalloc(PIECE_BYTES);
    int sock = stream_fd(s);
    bool input = true, failed = !pass_on_buffered(s);
    while (!failed) {
        struct pollfd p[2] = { { .fd = sock, .events = POLLIN }, { .fd = input ? STDIN_FILENO : -1, .events = POLLIN } };
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[0].revents != 0 && !pass_on(sock, STDOUT_FILENO, piece, &failed))
            break;
        if (p[1].revents != 0 && !pass_on(STDIN_FILENO, sock, piece, &failed)) {
            input = false;
            failed = false; /* the daemon has closed: what it still says is read above */
            shutdown(sock, SHUT_WR);
        }
    }
    free(piece);
    return failed ? sendmail_fail(sm, EX_IOERR, "connection: %s", strerror(errno)) : 0;
}

int sendmail_smtp(struct sendmail *sm)
{
    struct ctl_conn c;
    struct err e = ERR_INIT;
    char *path = xasprintf("%s/public/submit", sm->p->queue_directory);
    enum ctl_connect st = ctl_connect(path, &c, &e);
    int status = st == CTL_CONNECT_OK ? 0 : EX_TEMPFAIL;
    free(path);
    if (st == CTL_CONNECT_DOWN)
        return sendmail_smtp_down(sm);
    if (status == 0 && (!ctl_request(&c, json_pack("{s:s}", "op", "smtp"), &e) || (status = ctl_finish(&c, NULL, &e)) != 0))
        status = status == 0 ? EX_TEMPFAIL : status;
    if (status != 0) {
        printf("421 4.3.2 %s Service not available\r\n", sm->p->myhostname);
        sendmail_fail(sm, 0, "%s", e.text);
    } else {
        status = proxy(sm, c.s);
    }
    if (st == CTL_CONNECT_OK)
        ctl_disconnect(&c);
    return status;
}

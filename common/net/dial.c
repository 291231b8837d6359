/*
 * connect() on a blocking socket honours SO_SNDTIMEO, which saves the fcntl, poll and getsockopt of the nonblocking
 * way. It reports its time-out as EINPROGRESS (TCP) or EAGAIN (unix). After a signal it must not be called again;
 * signals are blocked in all threads but the main one, so EINTR is treated as an error.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/time.h>
#include <sys/un.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/net/dial.h"

static bool set_send_timeout(int fd, int64_t ms)
{
    struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
    return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) == 0;
}

static int fail(int fd, int sys, struct err *e)
{
    io_close(&fd);
    const char *text = strerrordesc_np(sys);
    err_set(e, "%s", text ? text : "Connection failed");
    if (e)
        e->sys = sys;
    return -1;
}

static int dial(int fd, const struct sockaddr *sa, socklen_t len, int64_t deadline_ms, struct err *e)
{
    if (deadline_ms != CLOCK_NEVER) {
        int64_t left = deadline_ms - clock_mono_ms();
        if (left <= 0)
            return fail(fd, ETIMEDOUT, e);
        if (!set_send_timeout(fd, left))
            return fail(fd, errno, e);
    }
    if (connect(fd, sa, len) != 0)
        return fail(fd, errno == EINPROGRESS || errno == EAGAIN ? ETIMEDOUT : errno, e);
    return fd;
}

int dial_tcp(const struct ip_addr *a, uint16_t port, const struct ip_addr *bind_to, int64_t deadline_ms,
             struct err *e)
{
    struct sockaddr_storage ss, local;
    socklen_t len = ip_to_sockaddr(a, port, &ss), local_len;
    if (len == 0)
        return fail(-1, EAFNOSUPPORT, e);
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(-1, errno, e);
    if (bind_to && bind_to->family == a->family) {
        local_len = ip_to_sockaddr(bind_to, 0, &local);
        /* The port is chosen at connect, so that one local address serves many peers. */
        (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){ 1 }, sizeof(int));
        if (bind(fd, (struct sockaddr *)&local, local_len) != 0) {
            int sys = errno;
            char text[IP_TEXT_MAX];
            (void)!fail(fd, sys, e);
            err_prefix(e, "cannot bind to local address %s", ip_print(bind_to, text));
            return -1;
        }
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    return dial(fd, (struct sockaddr *)&ss, len, deadline_ms, e);
}

int dial_unix(struct span path, int64_t deadline_ms, struct err *e)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    if (path.n == 0 || path.n >= sizeof un.sun_path)
        return fail(-1, path.n == 0 ? ENOENT : ENAMETOOLONG, e);
    memcpy(un.sun_path, path.p, path.n);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(-1, errno, e);
    return dial(fd, (struct sockaddr *)&un, sizeof un, deadline_ms, e);
}

/*
 * A session without a reactor: poll() on the calling thread, for sendmail -bs. Callbacks come from other threads through
 * an eventfd.
 */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "daemon/smtpd/smtpd_internal.h"

/* s.reactor is free for use here: nobody else looks at it. */
struct runner {
    int wake_fd;
};

void smtpd_run_resume(struct sess *s)
{
    const struct runner *r = (const struct runner *)s->reactor;
    uint64_t one = 1;
    if (write(r->wake_fd, &one, sizeof one) < 0) { /* full: a wake-up is waiting already */ }
}

static enum sess_wake wait_for(const struct runner *r, const struct smtpd_sess *S, enum sess_wait w)
{
    struct pollfd p = { .fd = S->s.fd, .events = POLLIN };
    int64_t deadline = S->s.deadline_ms;
    uint64_t n;
    switch (w) {
    case WAIT_AGAIN:
    case WAIT_DONE:
        return WAKE_READY;
    case WAIT_CALLBACK:
        p.fd = r->wake_fd;
        deadline = CLOCK_NEVER;
        break;
    case WAIT_OUTPUT:
        p.fd = S->out_fd;
        p.events = POLLOUT;
        break;
    case WAIT_TIMER:
        p.fd = -1;
        break;
    case WAIT_INPUT:
        break;
    }
    int rc;
    do
        rc = poll(&p, 1, clock_poll_ms(deadline));
    while ((rc < 0 && errno == EINTR) || (rc == 0 && clock_mono_ms() < deadline));
    if (rc == 0)
        return WAKE_TIMEOUT;
    if (w != WAIT_CALLBACK)
        return WAKE_READY;
    if (read(r->wake_fd, &n, sizeof n) < 0) { /* it was readable a moment ago */ }
    return WAKE_CALLBACK;
}

int smtpd_run(struct smtpd_env *env, struct smtpd_service *v, int in_fd, int out_fd)
{
    struct listener l = { .service = v->svc, .conf = v->conf, .arg = v, .fd = -1 };
    struct ip_addr here = { .family = IP_V4, .b = { 127, 0, 0, 1 } };
    struct runner r = { .wake_fd = eventfd(0, EFD_CLOEXEC) };
    if (r.wake_fd < 0)
        return errno;
    struct sess *s = smtpd_create(&l, in_fd, &here, 0, env);
    struct smtpd_sess *S = (struct smtpd_sess *)s;
    s->reactor = (struct reactor *)&r;
    S->out_fd = out_fd;
    enum sess_wait w = s->ops->step(s, WAKE_START);
    while (w != WAIT_DONE)
        w = s->ops->step(s, wait_for(&r, S, w));
    s->ops->destroy(s);
    io_close(&r.wake_fd);
    return 0;
}

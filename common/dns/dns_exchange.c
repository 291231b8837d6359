/*
 * Every try gets a socket and an id of its own, so that an off-path attacker must guess both (RFC 5452): the socket is
 * connected, which makes the kernel choose a random port and drop what comes from elsewhere. Packets that are not the
 * answer are passed over; a flood of them means that somebody is guessing, and the question is asked by TCP instead.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/dns/dns_internal.h"

#define STRANGERS_MAX  16
#define RCODE_FORMERR  1
#define RCODE_NOTIMP   4

struct dns_exchange *dns_exchange_new(const struct dns_question *q)
{
    struct dns_exchange *x = xcalloc(1, sizeof *x);
    x->q = *q;
    x->fd = -1;
    x->server = SIZE_MAX;
    return x;
}

void dns_exchange_close(struct dns_exchange *x)
{
    io_close(&x->fd); /* which also takes it out of epoll */
    free(x->io);
    x->io = NULL;
}

void dns_exchange_free(struct dns_exchange **xp)
{
    struct dns_exchange *x = *xp;
    *xp = NULL;
    dns_exchange_close(x);
    dns_answer_unref(&x->answer);
    dns_servers_unref(&x->servers);
    free(x);
}

static bool open_socket(struct dns_exchange *x)
{
    const struct dns_server *s = &x->servers->s[x->server];
    struct sockaddr_storage ss;
    socklen_t len = ip_to_sockaddr(&s->ip, s->port, &ss);
    x->fd = socket(ss.ss_family, (x->use_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (x->fd < 0)
        return false;
    return connect(x->fd, (struct sockaddr *)&ss, len) == 0 || errno == EINPROGRESS;
}

bool dns_exchange_send(struct dns_exchange *x, int epfd)
{
    uint8_t packet[DNS_QUERY_MAX];
    struct epoll_event ev = { .events = x->use_tcp ? EPOLLOUT : EPOLLIN, .data.ptr = x };
    dns_exchange_close(x);
    x->strangers = 0;
    x->replied = false;
    if (getrandom(&x->id, sizeof x->id, 0) != (ssize_t)sizeof x->id || !open_socket(x))
        return false;
    size_t n = dns_packet_query(&x->q, x->id, !x->plain && !x->servers->s[x->server].no_edns, packet);
    if (x->use_tcp) {
        x->io = xmalloc(n + 2);
        x->io[0] = (uint8_t)(n >> 8);
        x->io[1] = (uint8_t)n;
        memcpy(x->io + 2, packet, n);
        x->io_at = 0;
        x->io_n = n + 2;
        x->sending = true;
    } else if (send(x->fd, packet, n, MSG_NOSIGNAL) != (ssize_t)n) {
        return false;
    }
    return epoll_ctl(epfd, EPOLL_CTL_ADD, x->fd, &ev) == 0;
}

/* A reply to our question came: what does it mean for the exchange? */
static enum dns_event_result take_reply(struct dns_exchange *x, const uint8_t *p, size_t n)
{
    struct dns_server *s = &x->servers->s[x->server];
    unsigned rcode = dns_packet_rcode(p);
    bool edns = !x->plain && !s->no_edns;
    x->replied = true;
    if (dns_packet_truncated(p) && !x->use_tcp) {
        x->use_tcp = true;
        return DNS_EV_AGAIN;
    }
    if (edns && (rcode == RCODE_FORMERR || rcode == RCODE_NOTIMP)) {
        x->plain = true;
        return DNS_EV_AGAIN;
    }
    /* What it could answer without EDNS, it could not read with it: remember that. */
    if (x->plain && rcode != RCODE_FORMERR && rcode != RCODE_NOTIMP)
        s->no_edns = true;
    s->bad_until_ms = 0;
    dns_answer_unref(&x->answer);
    x->answer = dns_packet_parse(p, n, &x->q, s->trusted);
    if (x->answer->status != DNS_TEMPFAIL && x->answer->status != DNS_INVALID)
        return DNS_EV_ANSWER;
    x->failures++;
    return DNS_EV_FAILED;
}

static enum dns_event_result udp_event(struct dns_exchange *x)
{
    uint8_t packet[4096];
    for (;;) {
        ssize_t n = recv(x->fd, packet, sizeof packet, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? DNS_EV_WAIT : DNS_EV_FAILED; /* refused by ICMP, mostly */
        if (dns_packet_is_reply(packet, (size_t)n, &x->q, x->id))
            return take_reply(x, packet, (size_t)n);
        if (++x->strangers >= STRANGERS_MAX) {
            x->use_tcp = true;
            return DNS_EV_AGAIN;
        }
    }
}

static enum dns_event_result tcp_send(struct dns_exchange *x, int epfd)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = x };
    ssize_t n = send(x->fd, x->io + x->io_at, x->io_n - x->io_at, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? DNS_EV_WAIT : DNS_EV_FAILED;
    x->io_at += (size_t)n;
    if (x->io_at < x->io_n)
        return DNS_EV_WAIT;
    x->sending = false;
    x->io_at = 0;
    x->io_n = 2;
    return epoll_ctl(epfd, EPOLL_CTL_MOD, x->fd, &ev) == 0 ? DNS_EV_WAIT : DNS_EV_FAILED;
}

static enum dns_event_result tcp_event(struct dns_exchange *x, int epfd)
{
    if (x->sending)
        return tcp_send(x, epfd);
    for (;;) {
        ssize_t n = recv(x->fd, x->io + x->io_at, x->io_n - x->io_at, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return DNS_EV_WAIT;
        if (n <= 0)
            return DNS_EV_FAILED;
        x->io_at += (size_t)n;
        if (x->io_at < x->io_n)
            continue;
        if (x->io_n == 2) {
            x->io_n += (size_t)x->io[0] << 8 | x->io[1];
            x->io = xrealloc(x->io, x->io_n + 1);
            if (x->io_n < 2 + 12)
                return DNS_EV_FAILED;
            continue;
        }
        if (!dns_packet_is_reply(x->io + 2, x->io_n - 2, &x->q, x->id))
            return DNS_EV_FAILED;
        return take_reply(x, x->io + 2, x->io_n - 2);
    }
}

enum dns_event_result dns_exchange_event(struct dns_exchange *x, int epfd)
{
    return x->use_tcp ? tcp_event(x, epfd) : udp_event(x);
}

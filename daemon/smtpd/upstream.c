/*
 * smtpd_upstream_proxy_protocol: before the banner a proxy says who the client is (common/net/haproxy.h).
 *
 * The header is taken from the socket to its last byte and no further: what follows may be a TLS record. So it is looked at
 * (MSG_PEEK) before it is read. The time limit is for the whole header, however slowly its bytes come. Until it is here the
 * session counts for no client; afterwards everything, limits included, is about the client that was named.
 *
 * proxy_protocol_trusted_networks: others are refused. proxy_protocol_probe_networks: may come without a header, and with one
 * that names nobody (v1 UNKNOWN); who says nothing for UPSTREAM_PROBE_MS gets the banner.
 */
#include <errno.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/net/haproxy.h"
#include "daemon/smtpd/smtpd_internal.h"

#define UPSTREAM_PROBE_MS 1000 /* health checks want the banner within a few seconds; a proxy's header comes at once */

static bool is_listed(struct smtpd_sess *S, const char *parameter)
{
    char addr[IP_TEXT_MAX];
    return policy_match_addr(S->svc->policy, S->svc->svc, parameter, &S->s.peer, span_cstr(ip_print(&S->s.peer, addr)),
                             SPAN_LIT("unknown")) == LOOKUP_FOUND;
}

static void fail(struct smtpd_sess *S, const char *why)
{
    log_line(&S->log, LOG_LV_WARNING, "haproxy read: %s", why);
    smtpd_log_connect(S);
    smtpd_reply(S, 421, "4.3.0", "%s Server local error", S->p->myhostname);
}

/* The client is known. */
static void proceed(struct smtpd_sess *S)
{
    S->request_deadline_ms = 0;
    smtpd_set_state(S, SMTPD_CONNECT);
    if (smtpd_client_may_enter(S, S->t == &S->svc->stress) && !smtpd_connect_begin(S))
        smtpd_end_session(S);
}

void smtpd_upstream_begin(struct smtpd_sess *S)
{
    int64_t limit = S->p->smtpd_upstream_proxy_timeout;
    smtpd_set_name(S, "unknown", "unknown");
    smtpd_set_state(S, SMTPD_UPSTREAM);
    if (*S->p->proxy_protocol_trusted_networks != '\0' && !is_listed(S, "proxy_protocol_trusted_networks")) {
        fail(S, "the client is not in proxy_protocol_trusted_networks");
        return;
    }
    S->is_probe = *S->p->proxy_protocol_probe_networks != '\0' && is_listed(S, "proxy_protocol_probe_networks");
    if (S->is_probe && limit > UPSTREAM_PROBE_MS)
        limit = UPSTREAM_PROBE_MS;
    S->request_deadline_ms = clock_mono_ms() + limit;
}

void smtpd_upstream_timeout(struct smtpd_sess *S)
{
    if (S->is_probe && S->in.n == 0 && S->upstream_left == 0)
        proceed(S);
    else
        fail(S, "timeout error");
}

static bool is_protocol_enabled(const struct smtpd_sess *S, const struct ip_addr *a)
{
    return a->family == IP_V4 ? S->svc->has_v4 : S->svc->has_v6;
}

/* False: refused. */
static bool take_header(struct smtpd_sess *S, const struct haproxy_header *h)
{
    if (h->kind == HAPROXY_UNKNOWN && !S->is_probe) {
        fail(S, "the proxy does not know its client");
        return false;
    }
    S->upstream_left = h->more;
    S->is_probe = false; /* the header is here: no more waiting for it */
    if (h->kind != HAPROXY_CLIENT)
        return true;
    if (!is_protocol_enabled(S, &h->src) || !is_protocol_enabled(S, &h->dst)) {
        fail(S, "inet_protocols does not have the client's or server's IP version");
        return false;
    }
    S->s.peer = h->src;
    S->s.peer_port = h->src_port;
    S->server_addr = h->dst;
    S->server_port = h->dst_port;
    S->is_server_known = true;
    return true;
}

/* recv() with the three answers of a step: bytes, FLOW_INPUT (later), FLOW_ON (over). */
static bool receive(struct smtpd_sess *S, char *p, size_t n, int flags, ssize_t *got, enum flow *flow)
{
    do
        *got = recv(S->s.fd, p, n, flags);
    while (*got < 0 && errno == EINTR);
    if (*got > 0)
        return true;
    *flow = FLOW_INPUT;
    if (*got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    log_line(&S->log, LOG_LV_WARNING, "haproxy read: the connection from %s is lost", S->namaddr);
    smtpd_end_session(S);
    *flow = FLOW_ON;
    return false;
}

static enum flow skip_rest(struct smtpd_sess *S)
{
    char junk[4096];
    enum flow flow;
    ssize_t got;
    while (S->upstream_left > 0) {
        size_t n = S->upstream_left < sizeof junk ? S->upstream_left : sizeof junk;
        if (!receive(S, junk, n, 0, &got, &flow))
            return flow;
        S->upstream_left -= (size_t)got;
    }
    proceed(S);
    return FLOW_ON;
}

/* Of what is peeked the first n bytes are ours. */
static bool consume(struct smtpd_sess *S, char *p, size_t n, enum flow *flow)
{
    ssize_t got = 0;
    return n == 0 || receive(S, p, n, 0, &got, flow);
}

enum flow smtpd_upstream_run(struct smtpd_sess *S)
{
    char head[HAPROXY_V1_MAX + 1];
    struct haproxy_header h;
    const char *why = "";
    enum flow flow;
    ssize_t got;
    if (S->upstream_left > 0)
        return skip_rest(S);
    size_t old = S->in.n;
    memcpy(head, old > 0 ? S->in.p : "", old);
    if (!receive(S, head + old, sizeof head - old, MSG_PEEK, &got, &flow))
        return flow;
    switch (haproxy_parse(span_of(head, old + (size_t)got), &h, &why)) {
    case HAPROXY_MORE:
        if (!consume(S, head + old, (size_t)got, &flow))
            return flow;
        buf_add(&S->in, head + old, (size_t)got);
        return FLOW_ON;
    case HAPROXY_OK:
        if (!consume(S, head + old, h.bytes - old, &flow))
            return flow;
        buf_reset(&S->in);
        return take_header(S, &h) ? skip_rest(S) : FLOW_ON;
    case HAPROXY_NONE:
        if (S->is_probe)
            proceed(S);
        else
            fail(S, "no PROXY protocol header");
        return FLOW_ON;
    case HAPROXY_BAD:
        fail(S, why);
        return FLOW_ON;
    }
    return FLOW_ON;
}

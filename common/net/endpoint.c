#include "common/net/endpoint.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>

#include "common/base/bounded.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/dial.h"

bool endpoint_parse(struct span text, const char *directory, struct endpoint *out, struct err *e)
{
    struct endpoint p = { .text = xstrndup(text.p ? text.p : "", text.n) };
    struct err why = ERR_INIT;
    bool ok = dest_parse(span_cstr(p.text), &p.dest, &why)
              && (p.dest.is_unix || (p.dest.has_inet_prefix && p.dest.host.n > 0 && p.dest.service.n > 0));
    if (!ok) {
        err_set(e, "\"%s\": expected inet:host:port or unix:path", p.text);
        free(p.text);
        return false;
    }
    if (p.dest.is_unix) {
        bool is_absolute = p.dest.path.p[0] == '/' || directory == NULL || *directory == '\0';
        p.path = is_absolute ? xstrndup(p.dest.path.p, p.dest.path.n)
                             : xasprintf("%s/%.*s", directory, SPAN_ARG(p.dest.path));
    }
    *out = p;
    return true;
}

void endpoint_free(struct endpoint *p)
{
    free(p->text);
    free(p->path);
    *p = (struct endpoint){ .text = NULL };
}

/* A host name on its way to addresses, on a thread that may be left behind. */
struct naming {
    char host[256];
    int rc;
    struct addrinfo *list;
};

static void naming_run(void *job)
{
    struct naming *n = job;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
    n->rc = getaddrinfo(n->host, NULL, &hints, &n->list);
    if (n->rc == EAI_ADDRFAMILY || n->rc == EAI_NONAME) { /* a machine with nothing but loopback counts as having no address */
        hints.ai_flags = 0;
        n->rc = getaddrinfo(n->host, NULL, &hints, &n->list);
    }
}

static void naming_free(void *job)
{
    struct naming *n = job;
    if (n->rc == 0 && n->list != NULL)
        freeaddrinfo(n->list);
    free(n);
}

static int dial_any(const struct naming *n, uint16_t port, int64_t deadline_ms, struct err *e)
{
    int fd = -1;
    err_set(e, "%s has no address", n->host);
    for (struct addrinfo *i = n->list; i != NULL && fd < 0; i = i->ai_next) {
        struct ip_addr ip;
        if (ip_from_sockaddr(i->ai_addr, &ip, NULL))
            fd = dial_tcp(&ip, port, NULL, deadline_ms, e);
    }
    return fd;
}

static int dial_name(struct span name, uint16_t port, int64_t deadline_ms, struct err *e)
{
    struct naming *n = xcalloc(1, sizeof *n);
    int fd = -1;
    snprintf(n->host, sizeof n->host, "%.*s", SPAN_ARG(name));
    switch (bounded_call("name", naming_run, naming_free, n, deadline_ms)) {
    case BOUNDED_LATE:
        err_set(e, "looking up the name %.*s takes too long", SPAN_ARG(name));
        if (e != NULL)
            e->sys = ETIMEDOUT;
        return -1;
    case BOUNDED_NO_THREAD:
        naming_run(n);
        break;
    case BOUNDED_DONE:
        break;
    }
    if (n->rc == 0)
        fd = dial_any(n, port, deadline_ms, e);
    else
        err_set(e, "%s: %s", n->host, gai_strerror(n->rc));
    naming_free(n);
    return fd;
}

int endpoint_dial(const struct endpoint *p, int64_t deadline_ms, struct err *e)
{
    uint16_t port;
    if (p->path != NULL)
        return dial_unix(span_cstr(p->path), deadline_ms, e);
    if (!dest_port(p->dest.service, SPAN_LIT(""), &port, e))
        return -1;
    if (p->dest.ip.family != IP_NONE)
        return dial_tcp(&p->dest.ip, port, NULL, deadline_ms, e);
    struct ip_addr ip; /* inet:127.0.0.1:port, without brackets */
    if (ip_parse_any(p->dest.host, &ip))
        return dial_tcp(&ip, port, NULL, deadline_ms, e);
    return dial_name(p->dest.host, port, deadline_ms, e);
}

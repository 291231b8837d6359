/*
 * Each open socket remembers the service's name, the host text and port it was opened for; a reload matches on those. Sockets
 * of the new configuration are opened into `next` first, so that a failure leaves the running ones alone.
 */
#include <errno.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/conf/params.h"
#include "common/net/dest.h"
#include "common/net/listen.h"
#include "daemon/listeners.h"

#define LISTEN_BACKLOG 4096 /* the kernel cuts it to net.core.somaxconn */

struct open_socket {
    char *service;  /* owned: name of the master.cf line */
    char *hosts;    /* owned: what listen_list() was asked for */
    int fd;         /* owned */
    struct ip_addr addr;
    uint16_t port;
    bool is_taken;  /* by the configuration being prepared */
};

struct socket_list {
    struct open_socket *s; /* owned */
    size_t n;
};

struct listeners {
    struct socket_list now, next;
};

struct listeners *listeners_new(void)
{
    return xcalloc(1, sizeof(struct listeners));
}

static void list_add(struct socket_list *l, const struct open_socket *s)
{
    l->s = xrealloc(l->s, (l->n + 1) * sizeof *l->s);
    l->s[l->n++] = *s;
}

static void socket_close(struct open_socket *s)
{
    io_close(&s->fd);
    free(s->service);
    free(s->hosts);
}

static void list_free(struct socket_list *l, bool close_taken)
{
    for (size_t i = 0; i < l->n; i++)
        if (close_taken || !l->s[i].is_taken)
            socket_close(&l->s[i]);
    free(l->s);
    *l = (struct socket_list){ 0 };
}

void listeners_free(struct listeners **ls)
{
    if (*ls == NULL)
        return;
    list_free(&(*ls)->now, true);
    list_free(&(*ls)->next, true);
    free(*ls);
    *ls = NULL;
}

/* Moves the sockets of the running configuration that serve the same line into `next`. */
static bool keep_open(struct listeners *ls, const char *service, const char *hosts)
{
    bool found = false;
    for (size_t i = 0; i < ls->now.n; i++) {
        struct open_socket *s = &ls->now.s[i];
        if (s->is_taken || strcmp(s->service, service) != 0 || strcmp(s->hosts, hosts) != 0)
            continue;
        s->is_taken = true;
        struct open_socket copy = *s;
        copy.is_taken = false;
        list_add(&ls->next, &copy);
        found = true;
    }
    return found;
}

static void wanted_protocols(const char *inet_protocols, bool *v4, bool *v6)
{
    struct span rest = span_cstr(inet_protocols), item;
    bool braced;
    *v4 = *v6 = false;
    while (conf_list_next(&rest, &item, &braced)) {
        *v4 = *v4 || span_ieq_cstr(item, "ipv4") || span_ieq_cstr(item, "all");
        *v6 = *v6 || span_ieq_cstr(item, "ipv6") || span_ieq_cstr(item, "all");
    }
}

static bool open_service(struct listeners *ls, const struct conf_service *svc, struct err *e)
{
    bool v4, v6;
    uint16_t port;
    struct listen_set set = { 0 };
    const char *hosts = svc->host[0] ? svc->host : svc->p->inet_interfaces;
    wanted_protocols(svc->p->inet_protocols, &v4, &v6);
    if (keep_open(ls, svc->name, hosts))
        return true;
    if (!dest_port(span_cstr(svc->port), span_cstr(svc->p->known_tcp_ports), &port, e) ||
        !listen_list(span_cstr(hosts), port, v4, v6, LISTEN_BACKLOG, &set, e)) {
        err_prefix(e, "master.cf, line %d: service %s", svc->line, svc->name);
        return false;
    }
    for (size_t i = 0; i < set.count; i++) {
        struct open_socket s = { .service = xstrdup(svc->name), .hosts = xstrdup(hosts), .fd = set.l[i].fd,
                                 .addr = set.l[i].addr, .port = set.l[i].port };
        set.l[i].fd = -1;
        list_add(&ls->next, &s);
    }
    listen_set_close(&set);
    return true;
}

/* Closes what was opened for nothing; what came from the running configuration goes on. */
static void undo(struct listeners *ls)
{
    for (size_t i = 0; i < ls->next.n; i++) {
        struct open_socket *s = &ls->next.s[i];
        for (size_t k = 0; k < ls->now.n; k++)
            s->is_taken = s->is_taken || (ls->now.s[k].is_taken && ls->now.s[k].fd == s->fd);
    }
    list_free(&ls->next, false);
    for (size_t k = 0; k < ls->now.n; k++)
        ls->now.s[k].is_taken = false;
}

bool listeners_prepare(struct listeners *ls, struct conf *c, struct err *e)
{
    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *svc = conf_service(c, i);
        if (svc->role == SVC_LISTENER && !open_service(ls, svc, e)) {
            undo(ls);
            return false;
        }
    }
    return true;
}

static const struct conf_service *find_service(struct conf *c, const char *name)
{
    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *svc = conf_service(c, i);
        if (svc->role == SVC_LISTENER && strcmp(svc->name, name) == 0)
            return svc;
    }
    return NULL;
}

bool listeners_commit(struct listeners *ls, struct conf *c, struct reactor *r, const struct listener_maker *mk,
                      struct err *e)
{
    struct listener **l = xcalloc(ls->next.n, sizeof *l);
    size_t n = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < ls->next.n; i++) {
        const struct conf_service *svc = find_service(c, ls->next.s[i].service);
        void *made = mk->make(mk->arg, svc, e);
        ok = made != NULL;
        if (ok)
            l[n++] = listener_new(svc, c, ls->next.s[i].fd, made, mk->release);
    }
    if (!ok) {
        while (n > 0)
            listener_unref(&l[--n]);
        undo(ls);
    } else {
        ok = reactor_set_listeners(r, l, n, e);
        list_free(&ls->now, false); /* closes the sockets that the new configuration did not take */
        ls->now = ls->next;
        ls->next = (struct socket_list){ 0 };
    }
    free(l);
    return ok;
}

void listeners_each(struct listeners *ls,
                    void (*fn)(void *arg, const char *service, const struct ip_addr *a, uint16_t port), void *arg)
{
    struct socket_list *l = ls->next.n > 0 ? &ls->next : &ls->now;
    for (size_t i = 0; i < l->n; i++)
        fn(arg, l->s[i].service, &l->s[i].addr, l->s[i].port);
}

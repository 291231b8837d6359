#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/net/dial.h"
#include "common/net/listen.h"

static const char *hint(int sys)
{
    switch (sys) {
    case EADDRINUSE:
        return " (another program listens on that port: see ss -ltnp)";
    case EACCES:
    case EPERM:
        return " (ports below 1024 need root)";
    case EADDRNOTAVAIL:
        return " (this machine has no such address)";
    default:
        return "";
    }
}

bool listen_tcp(const struct ip_addr *addr, uint16_t port, int backlog, struct listen_socket *out, struct err *e)
{
    struct sockaddr_storage ss;
    socklen_t len = ip_to_sockaddr(addr, port, &ss);
    const char *what = "socket";
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        goto fail;
    what = "setsockopt";
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) != 0) /* what is accepted inherits it */
        goto fail;
    if (addr->family == IP_V6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 1 }, sizeof(int)) != 0)
        goto fail;
    what = "bind";
    if (bind(fd, (struct sockaddr *)&ss, len) != 0)
        goto fail;
    what = "listen";
    if (listen(fd, backlog) != 0)
        goto fail;
    len = sizeof ss;
    if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
        goto fail;
    *out = (struct listen_socket){ .fd = fd, .addr = *addr };
    struct ip_addr bound;
    if (ip_from_sockaddr((struct sockaddr *)&ss, &bound, &out->port))
        out->addr = bound;
    return true;
fail:;
    int sys = errno;
    char text[IP_TEXT_MAX];
    const char *why = strerrordesc_np(sys);
    err_set(e, "cannot listen on %s%s%s port %u: %s: %s%s", addr->family == IP_V6 ? "[" : "", ip_print(addr, text),
            addr->family == IP_V6 ? "]" : "", port, what, why ? why : "failed", hint(sys));
    if (e)
        e->sys = sys;
    io_close(&fd);
    return false;
}

void listen_set_close(struct listen_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        io_close(&set->l[i].fd);
    free(set->l);
    *set = (struct listen_set){ .count = 0 };
}

struct list_ctx {
    struct listen_set *set;
    uint16_t port;
    bool v4, v6;
    int backlog;
};

/* Adds one address unless the list had it already. */
static bool add(struct list_ctx *c, const struct ip_addr *a, struct err *e)
{
    struct listen_set *set = c->set;
    for (size_t i = 0; i < set->count; i++)
        if (ip_eq(&set->l[i].addr, a))
            return true;
    set->l = xrealloc(set->l, (set->count + 1) * sizeof *set->l);
    if (!listen_tcp(a, c->port, c->backlog, &set->l[set->count], e))
        return false;
    if (c->port == 0)
        c->port = set->l[set->count].port;
    set->count++;
    return true;
}

static bool add_pair(struct list_ctx *c, const struct ip_addr *v4, const struct ip_addr *v6, struct err *e)
{
    struct err e6 = ERR_INIT;
    if (c->v4 && !add(c, v4, e))
        return false;
    if (!c->v6 || add(c, v6, &e6))
        return true;
    if (c->v4 && (e6.sys == EAFNOSUPPORT || e6.sys == EADDRNOTAVAIL))
        return true;
    if (e)
        *e = e6;
    return false;
}

static bool add_name(struct list_ctx *c, struct span host, struct err *e)
{
    char name[256];
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list = NULL;
    if (host.n >= sizeof name) {
        err_set(e, "the host name \"%.*s\" is too long", 80, host.p);
        return false;
    }
    memcpy(name, host.p, host.n);
    name[host.n] = '\0';
    hints.ai_family = c->v4 && c->v6 ? AF_UNSPEC : c->v4 ? AF_INET : AF_INET6;
    int rc = getaddrinfo(name, NULL, &hints, &list);
    if (rc != 0) {
        err_set(e, "cannot listen on \"%s\": %s", name, gai_strerror(rc));
        return false;
    }
    bool ok = true;
    for (struct addrinfo *i = list; i && ok; i = i->ai_next) {
        struct ip_addr a;
        if (ip_from_sockaddr(i->ai_addr, &a, NULL))
            ok = add(c, &a, e);
    }
    freeaddrinfo(list);
    return ok;
}

static bool add_host(struct list_ctx *c, struct span host, struct err *e)
{
    static const struct ip_addr any4 = { .family = IP_V4 }, any6 = { .family = IP_V6 },
        one4 = { .family = IP_V4, .b = { 127, 0, 0, 1 } }, one6 = { .family = IP_V6, .b = { [15] = 1 } };
    struct ip_addr a;
    if (span_ieq(host, SPAN_LIT("all")))
        return add_pair(c, &any4, &any6, e);
    if (span_ieq(host, SPAN_LIT("loopback-only")))
        return add_pair(c, &one4, &one6, e);
    if (!ip_parse_any(host, &a))
        return add_name(c, host, e);
    if (a.family == IP_V4 ? c->v4 : c->v6)
        return add(c, &a, e);
    err_set(e, "cannot listen on %.*s: inet_protocols excludes IPv%d", SPAN_ARG(host), a.family);
    return false;
}

bool listen_list(struct span hosts, uint16_t port, bool v4, bool v6, int backlog, struct listen_set *set,
                 struct err *e)
{
    struct list_ctx c = { .set = set, .port = port, .v4 = v4, .v6 = v6, .backlog = backlog };
    struct span host;
    *set = (struct listen_set){ .count = 0 };
    while (span_next_token(&hosts, ", \t\r\n", &host)) {
        if (!add_host(&c, host, e)) {
            listen_set_close(set);
            return false;
        }
    }
    if (set->count == 0)
        err_set(e, "no address to listen on");
    return set->count > 0;
}

/* Removes a socket file that nobody listens on. */
static bool clear_stale(const char *path, struct err *e)
{
    struct stat st;
    struct err why = ERR_INIT;
    if (lstat(path, &st) != 0)
        return true; /* bind() tells what is wrong, if anything is */
    if (!S_ISSOCK(st.st_mode)) {
        err_set(e, "cannot listen on %s: it exists and is not a socket", path);
        return false;
    }
    int fd = dial_unix(span_cstr(path), clock_mono_ms() + 1000, &why);
    if (fd >= 0 || why.sys != ECONNREFUSED) {
        if (fd < 0 && (why.sys == EMFILE || why.sys == ENFILE || why.sys == ENOMEM))
            err_set_sys(e, why.sys, "cannot listen on %s", path);
        else
            err_set(e, "cannot listen on %s: another process listens there", path);
        io_close(&fd);
        if (e)
            e->sys = EADDRINUSE;
        return false;
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        err_set_sys(e, errno, "cannot remove the old socket %s", path);
        return false;
    }
    return true;
}

int listen_unix(const char *path, mode_t mode, int backlog, struct err *e)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof un.sun_path) {
        err_set(e, "cannot listen on \"%s\": a socket path has 1 to %zu bytes", path, sizeof un.sun_path - 1);
        return -1;
    }
    if (!clear_stale(path, e))
        return -1;
    memcpy(un.sun_path, path, n);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* fchmod before bind: the file is never there with wider permissions than asked for. */
    if (fd < 0 || fchmod(fd, mode) != 0 || bind(fd, (struct sockaddr *)&un, sizeof un) != 0 ||
        chmod(path, mode) != 0 || listen(fd, backlog) != 0) {
        err_set_sys(e, errno, "cannot listen on %s", path);
        io_close(&fd);
        return -1;
    }
    return fd;
}

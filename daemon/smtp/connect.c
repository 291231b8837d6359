#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/dial.h"
#include "daemon/smtp/request.h"

/*
 * Whatever must agree between two deliveries on one connection is part of both keys: the service (its -o overrides) and
 * the configuration snapshot stand for it. TLS policy and credentials will be added here (behaviours 22).
 */
static int key_begin(const struct smtp_request *r, char out[static CONN_KEY_MAX])
{
    return snprintf(out, CONN_KEY_MAX, "%s %llu ", r->job->transport->name,
                    (unsigned long long)conf_generation(r->job->conf));
}

bool conn_key_nexthop(const struct smtp_request *r, char out[static CONN_KEY_MAX])
{
    int n = key_begin(r, out);
    int k = snprintf(out + n, CONN_KEY_MAX - (size_t)n, "%.*s", SPAN_ARG(r->job->nexthop));
    return n + k < CONN_KEY_MAX;
}

bool conn_key_endpoint(const struct smtp_request *r, const struct smtp_target *t, char out[static CONN_KEY_MAX])
{
    char addr[IP_TEXT_MAX];
    int n = key_begin(r, out), k;
    if (t->addr.family == IP_NONE)
        k = snprintf(out + n, CONN_KEY_MAX - (size_t)n, "%.*s", SPAN_ARG(t->path));
    else
        k = snprintf(out + n, CONN_KEY_MAX - (size_t)n, "%s[%s]:%u", t->host, ip_print(&t->addr, addr), t->port);
    return n + k < CONN_KEY_MAX;
}

/* The local address for this family, or NULL. Without one by name it is that of a virtual host (inet_interfaces). */
static const struct ip_addr *bind_address(const struct smtp_request *r, int family, struct ip_addr *out)
{
    const struct conf_service *t = r->job->transport;
    const char *text = family == IP_V6 ? r->cp->bind_address6 : r->cp->bind_address;
    if (*text == '\0')
        return ip_parse(span_cstr(family == IP_V6 ? t->source6 : t->source4), out) ? out : NULL;
    if (ip_parse_any(span_cstr(text), out) && out->family == family)
        return out;
    log_warn(&r->log, "%s: not an address to bind to: %s", family == IP_V6 ? "smtp_bind_address6" : "smtp_bind_address",
             text);
    return NULL;
}

static int dial_inet(const struct smtp_request *r, const struct smtp_target *t, int64_t deadline_ms, struct err *e)
{
    struct ip_addr local;
    const struct ip_addr *from = bind_address(r, t->addr.family, &local);
    int fd = dial_tcp(&t->addr, t->port, from, deadline_ms, e);
    bool is_named = *(t->addr.family == IP_V6 ? r->cp->bind_address6 : r->cp->bind_address) != '\0';
    if (fd < 0 && from && strncmp(e->text, "cannot bind", 11) == 0 && !(is_named && r->cp->bind_address_enforce)) {
        log_warn(&r->log, "%s", e->text);
        fd = dial_tcp(&t->addr, t->port, NULL, deadline_ms, e);
    }
    return fd;
}

static int dial_path(const struct smtp_request *r, const struct smtp_target *t, int64_t deadline_ms, struct err *e)
{
    char path[512];
    if (t->path.n > 0 && t->path.p[0] == '/')
        return dial_unix(t->path, deadline_ms, e);
    int n = snprintf(path, sizeof path, "%s/%.*s", r->p->queue_directory, SPAN_ARG(t->path));
    return dial_unix(span_of(path, (size_t)n < sizeof path ? (size_t)n : sizeof path - 1), deadline_ms, e);
}

static bool dial_target(struct smtp_request *r, const struct smtp_target *t)
{
    char addr[IP_TEXT_MAX], path[128];
    struct err e = ERR_INIT;
    bool is_unix = t->addr.family == IP_NONE;
    int64_t limit = r->cp->connect_timeout;
    int64_t deadline = limit > 0 ? clock_mono_ms() + limit : CLOCK_NEVER;
    int fd = is_unix ? dial_path(r, t, deadline, &e) : dial_inet(r, t, deadline, &e);
    if (is_unix)
        snprintf(path, sizeof path, "%.*s", SPAN_ARG(t->path));
    const char *where = is_unix ? path : ip_print(&t->addr, addr);
    if (fd < 0) {
        r->verdict = SITE_UNAVAILABLE;
        if (is_unix)
            fail_words(r, "4.4.1", "connect to %s[%s]: %s", t->host, where, e.text);
        else
            fail_words(r, "4.4.1", "connect to %s[%s]:%u: %s", t->host, where, t->port, e.text);
        r->fail.is_site = true;
        log_info(&r->log, "%.*s", SPAN_ARG(buf_span(&r->fail.reason)));
        return false;
    }
    r->conn = conn_new(stream_new_fd(fd), t->host, where, is_unix ? 0 : t->port, r->is_lmtp);
    notify_adopt(r);
    r->conn->quit_timeout_ms = r->cp->quit_timeout;
    r->conn->skip_quit_response = r->cp->skip_quit_response;
    return true;
}

bool connect_target(struct smtp_request *r, const struct smtp_target *t, bool fresh)
{
    char key[2][CONN_KEY_MAX];
    bool can_park = conn_key_nexthop(r, key[CONN_KEY_NEXTHOP]) && conn_key_endpoint(r, t, key[CONN_KEY_ENDPOINT]);
    if (can_park && r->tried && strcmp(r->tried, key[CONN_KEY_ENDPOINT]) == 0)
        return false;
    if (can_park && !fresh) {
        r->conn = conn_cache_take(r->env->conn_cache, CONN_KEY_ENDPOINT, key[CONN_KEY_ENDPOINT]);
        r->is_reused = r->conn != NULL;
        notify_adopt(r);
        if (r->is_reused)
            return true;
    }
    if (!dial_target(r, t))
        return false;
    r->is_reused = false;
    if (!hello_exchange(r)) {
        log_soft_failure(r);
        r->is_over = r->fail.is_permanent;
        conn_close(&r->conn, true);
        return false;
    }
    for (int k = 0; can_park && k < 2; k++)
        r->conn->key[k] = xstrdup(key[k]);
    return true;
}

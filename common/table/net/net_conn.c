#include "common/table/net/net_conn.h"

#include <errno.h>

#include "common/base/mem.h"

void *net_conn_open(void *arg, size_t host, int64_t deadline_ms, struct err *e)
{
    (void)host;
    int fd = endpoint_dial(arg, deadline_ms, e);
    if (fd < 0)
        return NULL;
    struct net_conn *c = xcalloc(1, sizeof *c);
    c->s = stream_new_fd(fd);
    buf_init(&c->in, 0);
    return c;
}

void net_conn_close(void *arg, void *conn)
{
    struct net_conn *c = conn;
    (void)arg;
    stream_free(&c->s);
    buf_free(&c->in);
    free(c);
}

bool net_conn_is_fit(void *arg, void *conn)
{
    struct net_conn *c = conn;
    (void)arg;
    return c->in.n == 0 && !stream_has_input(c->s) && stream_is_quiet(c->s);
}

const struct pool_ops net_conn_ops = { net_conn_open, net_conn_close, net_conn_is_fit };

static bool failed(const struct net_conn *c, struct err *e)
{
    err_set(e, "%s", stream_error_text(c->s));
    if (e != NULL)
        e->sys = stream_status(c->s) == STREAM_TIMEOUT ? ETIMEDOUT : stream_errno(c->s);
    return false;
}

bool net_conn_send(struct net_conn *c, struct span bytes, int64_t deadline_ms, struct err *e)
{
    buf_reset(&c->in);
    stream_set_deadline(c->s, deadline_ms);
    stream_put_borrowed(c->s, bytes);
    return stream_flush(c->s) == STREAM_OK || failed(c, e);
}

static bool read_more(struct net_conn *c, struct err *e)
{
    struct span some;
    if (stream_read_some(c->s, &some) != STREAM_OK)
        return failed(c, e);
    buf_add_span(&c->in, some);
    return true;
}

bool net_conn_need(struct net_conn *c, size_t n, struct err *e)
{
    while (c->in.n < n) {
        if (!read_more(c, e))
            return false;
    }
    return true;
}

bool net_conn_need_line(struct net_conn *c, size_t max, size_t *n, struct err *e)
{
    for (size_t looked = 0;;) {
        const char *lf = c->in.n > looked ? memchr(c->in.p + looked, '\n', c->in.n - looked) : NULL;
        size_t length = lf != NULL ? (size_t)(lf - c->in.p) : c->in.n;
        if (length > max) {
            err_set(e, "the answer is longer than %zu bytes", max);
            return false;
        }
        if (lf != NULL) {
            *n = length;
            return true;
        }
        looked = c->in.n;
        if (!read_more(c, e))
            return false;
    }
}

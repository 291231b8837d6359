/*
 * socketmap and tcp: tables whose name says where the server is
 *
 * Both protocols are one question and one answer. A server that hangs up is asked once more over a new connection; one that
 * says something which is no answer is not.
 */
#include <errno.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/table/net/net_answer.h"
#include "common/table/net/net_conn.h"
#include "common/table/table_internal.h"

#define TIMEOUT_MS          100000
#define CONNECTIONS         20
#define SOCKETMAP_IDLE_MS   10000
#define SOCKETMAP_TTL_MS    100000
#define SOCKETMAP_QUERY_MAX 10000
#define SOCKETMAP_REPLY_MAX 100000
#define TCP_IDLE_MS         60000
#define TCP_LINE_MAX        4096

struct net_table {
    struct table_content base;
    struct endpoint place;
    struct pool *pool;      /* owned */
    struct span map;        /* socketmap: its name, within place.text's original; owned by `name` */
    char *name;             /* owned */
};

struct question {
    const struct net_table *t;
    struct span request;
    struct buf value;
    enum net_answer answer;
};

static void net_table_free(struct table_content *c)
{
    struct net_table *t = (struct net_table *)c;
    pool_free(&t->pool);
    endpoint_free(&t->place);
    free(t->name);
    free(t);
}

static bool net_table_new(const struct table_ops *ops, struct span place, const struct pool_options *o,
                          const struct table_load *in, struct net_table **out, struct err *e)
{
    struct net_table *t = xcalloc(1, sizeof *t);
    t->base.ops = ops;
    atomic_init(&t->base.refs, 1);
    if (!endpoint_parse(place, in->queue_directory, &t->place, e)) {
        free(t);
        return false;
    }
    struct pool_options with = *o;
    with.ops = &net_conn_ops;
    with.arg = &t->place;
    with.hosts = 1;
    with.attempts = 2;
    with.max_open = CONNECTIONS;
    t->pool = pool_new(&with);
    *out = t;
    return true;
}

/* Asks, and turns what came into the answer of a table. */
static enum lookup ask(struct question *q, pool_use_fn *use, struct arena *a, struct span *value, struct err *e)
{
    struct err own = ERR_INIT;
    enum lookup answer = LOOKUP_TEMPFAIL;
    q->answer = NET_GARBAGE;
    if (pool_run(q->t->pool, use, q, clock_mono_ms() + TIMEOUT_MS, &own)) {
        if (q->answer == NET_NONE)
            answer = LOOKUP_NONE;
        else if (q->answer == NET_FOUND && q->value.n == 0)
            err_set(&own, "the server answers with an empty value; \"not found\" must be said");
        else if (q->answer == NET_FOUND)
            answer = table_found(buf_span(&q->value), a, value);
    }
    if (answer == LOOKUP_TEMPFAIL)
        err_set(e, "%s", own.text);
    buf_free(&q->value);
    return answer;
}

static enum pool_use verdict(struct question *q, enum net_answer answer)
{
    q->answer = answer;
    return answer == NET_GARBAGE ? POOL_SPOILED : POOL_DONE;
}

/* ---- socketmap ---- */

static enum pool_use use_socketmap(void *arg, void *conn, int64_t deadline_ms, struct err *e)
{
    struct question *q = arg;
    struct net_conn *c = conn;
    size_t length = 0;
    bool more = true;
    buf_reset(&q->value);
    if (!net_conn_send(c, q->request, deadline_ms, e))
        return POOL_BROKEN;
    while (more) {
        if (!net_conn_need(c, c->in.n + 1, e))
            return POOL_BROKEN;
        if (!netstring_length(buf_span(&c->in), SOCKETMAP_REPLY_MAX, &length, &more)) {
            err_set(e, "the answer is no netstring of at most %d bytes", SOCKETMAP_REPLY_MAX);
            return POOL_SPOILED;
        }
    }
    size_t begin = (size_t)span_find(buf_span(&c->in), ':') + 1;
    if (!net_conn_need(c, begin + length + 1, e))
        return POOL_BROKEN;
    if (c->in.p[begin + length] != ',' || c->in.n != begin + length + 1) {
        err_set(e, "the answer is no netstring");
        return POOL_SPOILED;
    }
    struct span value = { NULL, 0 };
    enum net_answer answer = socketmap_answer(span_of(c->in.p + begin, length), &value, e);
    buf_add_span(&q->value, value);
    buf_reset(&c->in);
    return verdict(q, answer);
}

static enum lookup socketmap_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                                  struct err *e)
{
    const struct net_table *t = (const struct net_table *)c;
    struct buf request = BUF_INIT(2 * SOCKETMAP_QUERY_MAX);
    struct question q = { .t = t, .value = BUF_INIT(SOCKETMAP_REPLY_MAX) };
    size_t n = t->map.n + 1 + key.n;
    if (n > SOCKETMAP_QUERY_MAX) /* the protocol has no room for it: it cannot be there */
        return LOOKUP_NONE;
    buf_printf(&request, "%zu:%.*s ", n, SPAN_ARG(t->map));
    buf_add_span(&request, key);
    buf_putc(&request, ',');
    q.request = buf_span(&request);
    enum lookup answer = ask(&q, use_socketmap, a, value, e);
    buf_free(&request);
    return answer;
}

static const struct table_ops socketmap_ops = { socketmap_find, net_table_free, NULL };

bool table_socketmap_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    static const struct pool_options o = { .max_idle_ms = SOCKETMAP_IDLE_MS, .max_ttl_ms = SOCKETMAP_TTL_MS };
    ptrdiff_t colon = span_rfind(in->name, ':');
    struct span place = colon < 0 ? in->name : span_of(in->name.p, (size_t)colon);
    struct span map = colon < 0 ? span_of(NULL, 0) : span_from(in->name, (size_t)colon + 1);
    struct net_table *t;
    if (map.n == 0 || span_find(place, ':') < 0) {
        err_set(e, "expected socketmap:inet:host:port:name or socketmap:unix:path:name");
        return false;
    }
    if (!net_table_new(&socketmap_ops, place, &o, in, &t, e))
        return false;
    t->name = xstrndup(map.p, map.n);
    t->map = span_cstr(t->name);
    *out = &t->base;
    return true;
}

/* ---- tcp ---- */

static enum pool_use use_tcp(void *arg, void *conn, int64_t deadline_ms, struct err *e)
{
    struct question *q = arg;
    struct net_conn *c = conn;
    size_t n;
    buf_reset(&q->value);
    if (!net_conn_send(c, q->request, deadline_ms, e))
        return POOL_BROKEN;
    if (!net_conn_need_line(c, TCP_LINE_MAX - 1, &n, e))
        return stream_status(c->s) == STREAM_OK ? POOL_SPOILED : POOL_BROKEN;
    if (c->in.n != n + 1) {
        err_set(e, "the server says more than one line");
        return POOL_SPOILED;
    }
    enum net_answer answer = tcp_table_answer(span_of(c->in.p, n), &q->value, e);
    buf_reset(&c->in);
    return verdict(q, answer);
}

static enum lookup tcp_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                            struct err *e)
{
    struct buf request = BUF_INIT(0);
    struct question q = { .t = (const struct net_table *)c, .value = BUF_INIT(TCP_LINE_MAX) };
    buf_puts(&request, "get ");
    tcp_table_encode(key, &request);
    buf_putc(&request, '\n');
    q.request = buf_span(&request);
    enum lookup answer = ask(&q, use_tcp, a, value, e);
    buf_free(&request);
    return answer;
}

static const struct table_ops tcp_ops = { tcp_find, net_table_free, NULL };

bool table_tcp_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    static const struct pool_options o = { .max_idle_ms = TCP_IDLE_MS, .max_ttl_ms = CLOCK_NEVER };
    struct err why = ERR_INIT;
    struct net_table *t;
    char *place = xasprintf("inet:%.*s", SPAN_ARG(in->name));
    bool ok = net_table_new(&tcp_ops, span_cstr(place), &o, in, &t, &why);
    if (ok)
        *out = &t->base;
    else
        err_set(e, "expected tcp:host:port");
    free(place);
    return ok;
}

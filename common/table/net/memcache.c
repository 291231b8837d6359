/*
 * memcache: a table in memcached, perhaps with a slower one behind it
 *
 * What memcached does not have, or cannot be asked for, is looked up in the backup table; what is found there is stored in
 * memcached. The backup is asked for the plain key, memcached for the key as key_format makes it.
 */
#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/table/net/net_answer.h"
#include "common/table/net/net_conn.h"
#include "common/table/table_config.h"
#include "common/table/table_query.h"

#define CONNECTIONS   20
#define IDLE_MS       60000
#define LOOKUP_MAX_MS 100000

const char *const table_memcache_settings[] = {
    "memcache", "backup", "flags", "ttl", "key_format", "key_digest", "domain", "data_size_limit", "line_size_limit", "max_try",
    "retry_pause", "timeout", NULL,
};

struct memcache {
    struct table_content base;
    struct table_config *settings; /* owned */
    struct table_query *format;   /* owned; key_format and domain */
    struct endpoint place;
    struct pool *pool;            /* owned */
    struct table *backup;         /* held open; NULL: none */
    int64_t flags, ttl_s, data_max, line_max, tries, pause_ms, timeout_ms;
};

struct exchange {
    const struct memcache *m;
    struct span key, request;
    struct buf value;
    enum net_answer answer;
    bool is_stored;
};

static void memcache_free(struct table_content *c)
{
    struct memcache *m = (struct memcache *)c;
    pool_free(&m->pool);
    endpoint_free(&m->place);
    table_close(&m->backup);
    table_query_free(&m->format);
    table_config_free(&m->settings);
    free(m);
}

/* ---- asking ---- */

static enum pool_use broken(const struct net_conn *c, struct exchange *x)
{
    x->answer = NET_GARBAGE;
    return stream_status(c->s) == STREAM_OK ? POOL_SPOILED : POOL_BROKEN;
}

static enum pool_use use_get(void *arg, void *conn, int64_t deadline_ms, struct err *e)
{
    struct exchange *x = arg;
    struct net_conn *c = conn;
    size_t line, length = 0;
    buf_reset(&x->value);
    if (!net_conn_send(c, x->request, deadline_ms, e) || !net_conn_need_line(c, (size_t)x->m->line_max, &line, e))
        return broken(c, x);
    x->answer = memcache_answer(span_of(c->in.p, line), x->key, (size_t)x->m->data_max, &length, e);
    if (x->answer == NET_NONE && c->in.n == line + 1) {
        buf_reset(&c->in);
        return POOL_DONE;
    }
    if (x->answer == NET_NONE) { /* so who knows to which question it belongs */
        err_set(e, "there is more behind the end of the answer");
        x->answer = NET_GARBAGE;
    }
    if (x->answer != NET_FOUND)
        return POOL_SPOILED;
    static const char end[] = "\r\nEND\r\n";
    size_t tail = sizeof end - 1;
    if (!net_conn_need(c, line + 1 + length + tail, e))
        return broken(c, x);
    if (memcmp(c->in.p + line + 1 + length, end, tail) != 0) {
        err_set(e, "the data do not end where they should");
        x->answer = NET_GARBAGE;
        return POOL_SPOILED;
    }
    buf_add(&x->value, c->in.p + line + 1, length);
    buf_reset(&c->in);
    return POOL_DONE;
}

static enum pool_use use_set(void *arg, void *conn, int64_t deadline_ms, struct err *e)
{
    struct exchange *x = arg;
    struct net_conn *c = conn;
    size_t line;
    if (!net_conn_send(c, x->request, deadline_ms, e) || !net_conn_need_line(c, (size_t)x->m->line_max, &line, e))
        return broken(c, x);
    x->is_stored = span_eq(span_trim(span_of(c->in.p, line)), SPAN_LIT("STORED"));
    buf_reset(&c->in);
    return x->is_stored ? POOL_DONE : POOL_SPOILED;
}

static int64_t time_for(const struct memcache *m)
{
    int64_t all = m->tries * (m->timeout_ms + m->pause_ms) + m->timeout_ms;
    return clock_mono_ms() + (all < LOOKUP_MAX_MS ? all : LOOKUP_MAX_MS);
}

static enum net_answer get(const struct memcache *m, struct span key, struct buf *value, struct err *e)
{
    struct buf request = BUF_INIT(0);
    struct exchange x = { .m = m, .key = key, .value = BUF_INIT((size_t)m->data_max), .answer = NET_GARBAGE };
    buf_printf(&request, "get %.*s\r\n", SPAN_ARG(key));
    x.request = buf_span(&request);
    if (!pool_run(m->pool, use_get, &x, time_for(m), e))
        x.answer = NET_GARBAGE;
    buf_free(&request);
    *value = x.value;
    return x.answer;
}

/* Whether it works or not changes nothing for this lookup. */
static void set(const struct memcache *m, struct span key, struct span value)
{
    struct buf request = BUF_INIT(0);
    struct exchange x = { .m = m, .key = key };
    struct err e = ERR_INIT;
    if (value.n > (size_t)m->data_max)
        return;
    buf_printf(&request, "set %.*s %" PRId64 " %" PRId64 " %zu\r\n", SPAN_ARG(key), m->flags, m->ttl_s, value.n);
    buf_add_span(&request, value);
    buf_puts(&request, "\r\n");
    x.request = buf_span(&request);
    (void)!pool_run(m->pool, use_set, &x, time_for(m), &e);
    buf_free(&request);
}

static enum lookup ask_backup(const struct memcache *m, struct span key, struct span stored_key, bool may_store, struct arena *a,
                              struct span *value, struct err *e)
{
    struct arena *own = a == NULL ? arena_new(0) : NULL; /* the value is needed for memcached even if not by the caller */
    struct span found = { NULL, 0 };
    enum lookup answer = table_lookup(m->backup, key, a != NULL ? a : own, &found, e);
    if (answer == LOOKUP_FOUND && may_store)
        set(m, stored_key, found);
    if (answer == LOOKUP_FOUND && value != NULL)
        *value = found;
    arena_free(&own);
    return answer;
}

static enum lookup memcache_find(const struct table_content *c, struct span key, struct arena *a, struct span *value,
                                 struct err *e)
{
    const struct memcache *m = (const struct memcache *)c;
    enum lookup answer = table_query_admits(m->format, key, e);
    if (answer != LOOKUP_FOUND)
        return answer;
    struct buf stored = BUF_INIT(0), found = BUF_INIT(0);
    struct err why = ERR_INIT;
    bool ok = table_query_expand(m->format, key, NULL, NULL, &stored, &why) && memcache_key_is_good(buf_span(&stored));
    enum net_answer got = ok ? get(m, buf_span(&stored), &found, &why) : NET_NONE;
    if (got == NET_FOUND && found.n == 0) {
        err_set(&why, "an empty value is stored for this key");
        got = NET_GARBAGE;
    }
    if (got == NET_FOUND)
        answer = table_found(buf_span(&found), a, value);
    else if (m->backup != NULL)
        answer = ask_backup(m, key, buf_span(&stored), ok && got == NET_NONE, a, value, e);
    else
        answer = got == NET_NONE ? LOOKUP_NONE : LOOKUP_TEMPFAIL;
    if (answer == LOOKUP_TEMPFAIL && m->backup == NULL)
        err_set(e, "%s: %s", m->place.text, why.text);
    buf_free(&stored);
    buf_free(&found);
    return answer;
}

static const struct table_ops memcache_ops = { memcache_find, memcache_free, NULL };

/* ---- loading ---- */

static bool open_backup(struct memcache *m, const struct table_load *in, struct err *e)
{
    const char *spec = table_config_text(m->settings, "backup", "");
    enum table_status status;
    if (*spec == '\0')
        return true;
    m->backup = table_open(in->registry, span_cstr(spec), in->flags, in->notes, &status, e);
    if (status == TABLE_OK || status == TABLE_BROKEN)
        return true;
    err_prefix(e, "backup");
    return false;
}

static bool read_numbers(struct memcache *m, struct err *e)
{
    const struct table_config *s = m->settings;
    int64_t pause_s, timeout_s;
    if (!table_config_int(s, "flags", 0, 0, UINT32_MAX, &m->flags, e) || !table_config_int(s, "ttl", 3600, 0, INT32_MAX, &m->ttl_s, e)
        || !table_config_int(s, "data_size_limit", 10240, 1, 64 << 20, &m->data_max, e)
        || !table_config_int(s, "line_size_limit", 1024, 1, 1 << 20, &m->line_max, e)
        || !table_config_int(s, "max_try", 2, 1, 100, &m->tries, e) || !table_config_int(s, "retry_pause", 1, 0, 100, &pause_s, e)
        || !table_config_int(s, "timeout", 2, 1, 100, &timeout_s, e))
        return false;
    m->pause_ms = pause_s * 1000;
    m->timeout_ms = timeout_s * 1000;
    return true;
}

static bool read_settings(struct memcache *m, const struct table_load *in, struct err *e)
{
    const char *place;
    m->settings = table_config_read(in, table_memcache_settings, e);
    if (m->settings == NULL || !read_numbers(m, e))
        return false;
    m->format = table_query_new(in, table_config_text(m->settings, "key_format", "%s"), NULL,
                                table_config_text(m->settings, "domain", NULL), e);
    if (m->format == NULL)
        return false;
    if (*table_config_text(m->settings, "key_digest", "") != '\0') {
        err_set(e, "key_digest: not available in this version");
        return false;
    }
    place = table_config_text(m->settings, "memcache", "inet:localhost:11211");
    if (!endpoint_parse(span_cstr(place), in->queue_directory, &m->place, e)) {
        err_prefix(e, "memcache");
        return false;
    }
    return open_backup(m, in, e);
}

bool table_memcache_load(const struct table_load *in, struct table_content **out, struct err *e)
{
    struct memcache *m = xcalloc(1, sizeof *m);
    m->base.ops = &memcache_ops;
    atomic_init(&m->base.refs, 1);
    if (!read_settings(m, in, e)) {
        memcache_free(&m->base);
        return false;
    }
    struct pool_options o = { .ops = &net_conn_ops, .arg = &m->place, .hosts = 1, .max_open = CONNECTIONS,
                              .attempts = (size_t)m->tries, .pause_ms = m->pause_ms, .attempt_ms = m->timeout_ms,
                              .max_idle_ms = IDLE_MS, .max_ttl_ms = CLOCK_NEVER };
    m->pool = pool_new(&o);
    *out = &m->base;
    return true;
}

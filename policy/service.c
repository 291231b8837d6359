#include "policy/service.h"

#include <errno.h>
#include <time.h>
#include <utlist.h>

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/conf/conf.h"
#include "common/conf/param_value.h"
#include "common/net/endpoint.h"
#include "common/net/stream.h"

#define LINE_MAX_BYTES 8192
#define LINES_MAX      100  /* of one answer */

struct connection {
    struct connection *prev, *next;
    struct stream *s;               /* owned */
    int64_t born_ms, used_ms;
    int64_t requests;
};

struct policy_server {
    struct endpoint place;
    struct policy_server_options o;
    struct lock m;
    struct connection *idle;        /* guarded by m; DL, the newest first */
};

/* ---- configuration ---- */

static bool set_time(struct span v, int64_t *to)
{
    return param_parse_time(v, 's', to) && *to > 0;
}

static bool set_option(struct policy_server_options *o, struct span name, struct span v, struct arena *a)
{
    if (span_eq(name, SPAN_LIT("timeout")))
        return set_time(v, &o->timeout);
    if (span_eq(name, SPAN_LIT("max_idle")))
        return set_time(v, &o->max_idle);
    if (span_eq(name, SPAN_LIT("max_ttl")))
        return set_time(v, &o->max_ttl);
    if (span_eq(name, SPAN_LIT("retry_delay")))
        return set_time(v, &o->retry_delay);
    if (span_eq(name, SPAN_LIT("request_limit")))
        return num_parse(v, 0, INT32_MAX, &o->request_limit);
    if (span_eq(name, SPAN_LIT("try_limit")))
        return num_parse(v, 1, INT32_MAX, &o->try_limit);
    if (span_eq(name, SPAN_LIT("default_action")))
        o->default_action = arena_dup_span(a, v);
    else if (span_eq(name, SPAN_LIT("policy_context")))
        o->policy_context = arena_dup_span(a, v);
    else
        return false;
    return true;
}

static bool read_options(struct policy_server_options *o, struct span rest, struct arena *a, struct err *e)
{
    struct span item;
    bool braced;
    while (conf_list_next(&rest, &item, &braced)) {
        ptrdiff_t eq = span_find(item, '=');
        if (eq > 0 && set_option(o, span_trim(span_of(item.p, (size_t)eq)), span_trim(span_from(item, (size_t)eq + 1)), a))
            continue;
        err_set(e, "\"%.*s\": expected timeout, max_idle, max_ttl or retry_delay = time, request_limit or try_limit = number, "
                "default_action or policy_context = text", SPAN_ARG(item));
        return false;
    }
    return true;
}

struct policy_server *policy_server_open(struct span text, const char *queue_directory, const struct policy_server_options *defaults,
                                         struct arena *a, struct err *e)
{
    struct policy_server_options o = *defaults;
    struct span rest = text, where;
    bool braced;
    if (!conf_list_next(&rest, &where, &braced)) {
        err_set(e, "expected inet:host:port or unix:path");
        return NULL;
    }
    if (!read_options(&o, rest, a, e))
        return NULL;
    struct endpoint place;
    if (!endpoint_parse(where, queue_directory, &place, e))
        return NULL;
    struct policy_server *s = xcalloc(1, sizeof *s);
    s->place = place;
    s->o = o;
    lock_init(&s->m, LOCK_POLICY_SERVICE);
    return s;
}

static void connection_free(struct connection **c)
{
    stream_free(&(*c)->s);
    free(*c);
    *c = NULL;
}

void policy_server_close(struct policy_server **sp)
{
    struct policy_server *s = *sp;
    *sp = NULL;
    if (s == NULL)
        return;
    while (s->idle != NULL) {
        struct connection *c = s->idle;
        DL_DELETE(s->idle, c);
        connection_free(&c);
    }
    lock_destroy(&s->m);
    endpoint_free(&s->place);
    free(s);
}

bool policy_server_same(const struct policy_server *a, const struct policy_server *b)
{
    const struct policy_server_options *x = &a->o, *y = &b->o;
    return strcmp(a->place.text, b->place.text) == 0 && x->timeout == y->timeout && x->max_idle == y->max_idle && x->max_ttl == y->max_ttl &&
           x->retry_delay == y->retry_delay && x->request_limit == y->request_limit && x->try_limit == y->try_limit &&
           span_eq(x->default_action, y->default_action) && span_eq(x->policy_context, y->policy_context);
}

const struct policy_server_options *policy_server_options(const struct policy_server *s) { return &s->o; }

const char *policy_server_name(const struct policy_server *s) { return s->place.text; }

/* ---- connections ---- */

static struct connection *dial(struct policy_server *s, struct err *e)
{
    int64_t now = clock_mono_ms();
    int fd = endpoint_dial(&s->place, now + s->o.timeout, e);
    if (fd < 0)
        return NULL;
    struct connection *c = xcalloc(1, sizeof *c);
    c->s = stream_new_fd(fd);
    c->born_ms = c->used_ms = now;
    return c;
}

static bool is_worn(const struct policy_server *s, const struct connection *c, int64_t now)
{
    return now - c->used_ms > s->o.max_idle || now - c->born_ms > s->o.max_ttl ||
           (s->o.request_limit > 0 && c->requests >= s->o.request_limit);
}

/* The newest that is still good; those that are not are closed on the way. */
static struct connection *take_idle(struct policy_server *s)
{
    int64_t now = clock_mono_ms();
    struct connection *c;
    do {
        lock_take(&s->m);
        c = s->idle;
        if (c != NULL)
            DL_DELETE(s->idle, c);
        lock_drop(&s->m);
        if (c != NULL && (is_worn(s, c, now) || !stream_is_quiet(c->s))) {
            connection_free(&c);
            continue;
        }
        return c;
    } while (true);
}

static void give_back(struct policy_server *s, struct connection *c)
{
    struct connection *old = NULL;
    c->used_ms = clock_mono_ms();
    c->requests++;
    if (is_worn(s, c, c->used_ms) || stream_has_input(c->s)) {
        connection_free(&c);
        return;
    }
    stream_shrink(c->s);
    lock_take(&s->m);
    if (s->idle != NULL && is_worn(s, s->idle->prev, c->used_ms)) { /* the head's prev is the tail: the oldest */
        old = s->idle->prev;
        DL_DELETE(s->idle, old);
    }
    DL_PREPEND(s->idle, c);
    lock_drop(&s->m);
    if (old != NULL)
        connection_free(&old);
}

/* ---- a request ---- */

static bool read_answer(struct stream *s, struct arena *a, struct span *action, struct err *e)
{
    struct span line;
    *action = span_of(NULL, 0);
    for (int i = 0; i < LINES_MAX; i++) {
        enum stream_status got = stream_read_line(s, LINE_MAX_BYTES, &line);
        if (got != STREAM_OK) {
            err_set(e, "%s", got == STREAM_TOO_LONG ? "a line of the answer is too long" : stream_error_text(s));
            return false;
        }
        if (line.n == 0) {
            if (action->n > 0)
                return true;
            err_set(e, "the answer has no action");
            return false;
        }
        ptrdiff_t eq = span_find(line, '=');
        if (eq <= 0 || !span_eq(span_of(line.p, (size_t)eq), SPAN_LIT("action")))
            continue;
        if (action->p != NULL) {
            err_set(e, "the answer has more than one action");
            return false;
        }
        *action = arena_dup_span(a, span_trim(span_from(line, (size_t)eq + 1)));
    }
    err_set(e, "the answer does not end");
    return false;
}

static bool talk(struct policy_server *s, struct connection *c, struct span request, struct arena *a, struct span *action, struct err *e)
{
    stream_set_deadline(c->s, clock_mono_ms() + s->o.timeout);
    stream_put_borrowed(c->s, request);
    if (stream_flush(c->s) != STREAM_OK) {
        err_set(e, "%s", stream_error_text(c->s));
        return false;
    }
    return read_answer(c->s, a, action, e);
}

static void pause_ms(int64_t ms)
{
    struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    while (nanosleep(&t, &t) != 0 && errno == EINTR) { }
}

bool policy_server_ask(struct policy_server *s, struct span request, struct arena *a, struct span *action, struct err *e)
{
    struct connection *c;
    /* One that lay idle may have been closed by the server just now: that is no failed attempt. */
    while ((c = take_idle(s)) != NULL) {
        if (talk(s, c, request, a, action, e)) {
            give_back(s, c);
            return true;
        }
        bool timed_out = stream_status(c->s) == STREAM_TIMEOUT;
        connection_free(&c);
        if (timed_out)
            break;
    }
    for (int64_t i = 0; i < s->o.try_limit; i++) {
        if (i > 0)
            pause_ms(s->o.retry_delay);
        c = dial(s, e);
        if (c == NULL)
            continue;
        if (talk(s, c, request, a, action, e)) {
            give_back(s, c);
            return true;
        }
        connection_free(&c);
    }
    err_prefix(e, "policy server %s", s->place.text);
    return false;
}

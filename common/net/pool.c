/*
 * Idle connections are tried first, newest first. One of them breaking says nothing of the host (the server may have
 * been restarted since), so all go before a fresh connection is opened, which counts as an attempt.
 *
 * A host that failed is marked. With several hosts it is passed over for retry_ms. The only host is asked each time
 * again, unless the failure was a time-out: then everybody would wait for it, and the workers of a busy server would
 * all hang in it; so for ALONE_MS the answer is the failure itself.
 */
#include "common/net/pool.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <utlist.h>

#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"

#define ALONE_MS 5000

struct pool_conn {
    struct pool_conn *prev, *next;
    void *conn;                /* owned */
    size_t host;
    int64_t born_ms, used_ms;
};

struct pool_host {
    int64_t skip_until_ms;     /* guarded by the pool's lock */
};

struct pool {
    struct pool_options o;     /* immutable */
    struct lock m;
    struct cond room;
    struct pool_conn *idle;    /* guarded by m; DL, the newest first */
    size_t in_use;             /* guarded by m */
    struct pool_host *hosts;   /* owned; guarded by m */
    char why[400];             /* guarded by m: the last failure of a host */
};

struct pool *pool_new(const struct pool_options *o)
{
    struct pool *p = xcalloc(1, sizeof *p);
    p->o = *o;
    p->hosts = xcalloc(o->hosts, sizeof *p->hosts);
    lock_init(&p->m, LOCK_CONN_POOL);
    cond_init(&p->room);
    return p;
}

static void conn_free(struct pool *p, struct pool_conn **c)
{
    p->o.ops->close(p->o.arg, (*c)->conn);
    free(*c);
    *c = NULL;
}

void pool_free(struct pool **pp)
{
    struct pool *p = *pp;
    if (p == NULL)
        return;
    *pp = NULL;
    while (p->idle != NULL) {
        struct pool_conn *c = p->idle;
        DL_DELETE(p->idle, c);
        conn_free(p, &c);
    }
    cond_destroy(&p->room);
    lock_destroy(&p->m);
    free(p->hosts);
    free(p);
}

static bool is_worn(const struct pool *p, const struct pool_conn *c, int64_t now)
{
    return now - c->used_ms > p->o.max_idle_ms || now - c->born_ms > p->o.max_ttl_ms;
}

static struct pool_conn *take_idle(struct pool *p)
{
    int64_t now = clock_mono_ms();
    for (;;) {
        lock_take(&p->m);
        struct pool_conn *c = p->idle;
        if (c != NULL)
            DL_DELETE(p->idle, c);
        lock_drop(&p->m);
        if (c == NULL || (!is_worn(p, c, now) && (p->o.ops->is_fit == NULL || p->o.ops->is_fit(p->o.arg, c->conn))))
            return c;
        conn_free(p, &c);
    }
}

static void give_back(struct pool *p, struct pool_conn *c)
{
    struct pool_conn *old = NULL;
    c->used_ms = clock_mono_ms();
    if (is_worn(p, c, c->used_ms)) {
        conn_free(p, &c);
        return;
    }
    lock_take(&p->m);
    p->hosts[c->host].skip_until_ms = 0;
    if (p->idle != NULL && is_worn(p, p->idle->prev, c->used_ms)) { /* the head's prev is the tail: the oldest */
        old = p->idle->prev;
        DL_DELETE(p->idle, old);
    }
    DL_PREPEND(p->idle, c);
    lock_drop(&p->m);
    if (old != NULL)
        conn_free(p, &old);
}

/* ---- hosts ---- */

static void mark_failed(struct pool *p, size_t host, const struct err *why)
{
    int64_t skip = p->o.hosts > 1 ? p->o.retry_ms : why->sys == ETIMEDOUT ? ALONE_MS : 0;
    lock_take(&p->m);
    p->hosts[host].skip_until_ms = skip > 0 ? clock_mono_ms() + skip : 0;
    memcpy(p->why, why->text, sizeof p->why - 1);
    lock_drop(&p->m);
}

static size_t random_below(size_t n)
{
    uint32_t r = 0;
    return n > 1 && getrandom(&r, sizeof r, 0) == (ssize_t)sizeof r ? r % n : 0;
}

/* One of the hosts that were not tried in this call (`tried` has a byte for each) and did not fail a moment ago. */
static bool choose_host(struct pool *p, char *tried, size_t *host)
{
    size_t border = p->o.hosts_first, found = 0;
    int64_t now = clock_mono_ms();
    lock_take(&p->m);
    for (int part = 0; part < 2 && found == 0; part++) {
        size_t from = part == 0 ? 0 : border, to = part == 0 ? border : p->o.hosts, count = 0;
        for (size_t i = from; i < to; i++)
            count += !tried[i] && p->hosts[i].skip_until_ms <= now;
        size_t pick = random_below(count);
        for (size_t i = from; i < to && count > 0 && found == 0; i++) {
            if (tried[i] || p->hosts[i].skip_until_ms > now || pick-- != 0)
                continue;
            *host = i;
            found = 1;
        }
    }
    lock_drop(&p->m);
    if (found)
        tried[*host] = 1;
    return found != 0;
}

static void tell_skipped(struct pool *p, struct err *e)
{
    char why[sizeof p->why];
    lock_take(&p->m);
    memcpy(why, p->why, sizeof why);
    lock_drop(&p->m);
    why[sizeof why - 1] = '\0';
    err_set(e, "failed a moment ago (%s)", why);
}

/* ---- a question ---- */

static bool enter(struct pool *p, int64_t deadline_ms, struct err *e)
{
    bool ok = true;
    lock_take(&p->m);
    while (ok && p->in_use >= p->o.max_open)
        ok = cond_wait_until(&p->room, &p->m, deadline_ms);
    if (ok)
        p->in_use++;
    lock_drop(&p->m);
    if (!ok)
        err_set(e, "all %zu connections are busy", p->o.max_open);
    return ok;
}

static void leave(struct pool *p)
{
    lock_take(&p->m);
    p->in_use--;
    cond_signal(&p->room);
    lock_drop(&p->m);
}

static int64_t attempt_deadline(const struct pool *p, int64_t deadline_ms)
{
    int64_t mine = clock_mono_ms() + p->o.attempt_ms;
    return p->o.attempt_ms > 0 && mine < deadline_ms ? mine : deadline_ms;
}

static bool try_idle(struct pool *p, pool_use_fn *use, void *arg, int64_t deadline_ms, struct err *e)
{
    struct pool_conn *c;
    while ((c = take_idle(p)) != NULL) {
        enum pool_use r = use(arg, c->conn, attempt_deadline(p, deadline_ms), e);
        if (r == POOL_DONE) {
            give_back(p, c);
            return true;
        }
        if (r == POOL_BROKEN && e->sys == ETIMEDOUT)
            mark_failed(p, c->host, e);
        conn_free(p, &c);
        if (r == POOL_SPOILED)
            return true;
        if (e->sys == ETIMEDOUT)
            return false;
    }
    return false;
}

static enum pool_use try_host(struct pool *p, size_t host, pool_use_fn *use, void *arg, int64_t deadline_ms, bool *opened,
                              struct err *e)
{
    int64_t until = attempt_deadline(p, deadline_ms), now = clock_mono_ms();
    void *conn = p->o.ops->open(p->o.arg, host, until, e);
    *opened = conn != NULL;
    if (conn == NULL) {
        mark_failed(p, host, e);
        return POOL_BROKEN;
    }
    struct pool_conn *c = xcalloc(1, sizeof *c);
    *c = (struct pool_conn){ .conn = conn, .host = host, .born_ms = now, .used_ms = now };
    enum pool_use r = use(arg, conn, until, e);
    if (r == POOL_DONE) {
        give_back(p, c);
        return r;
    }
    if (r == POOL_BROKEN)
        mark_failed(p, host, e);
    conn_free(p, &c);
    return r;
}

static void pause_ms(int64_t ms)
{
    struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    while (ms > 0 && nanosleep(&t, &t) != 0 && errno == EINTR) { }
}

static bool try_fresh(struct pool *p, pool_use_fn *use, void *arg, int64_t deadline_ms, struct err *e)
{
    char *tried = xcalloc(p->o.hosts, 1);
    bool done = false, any = false;
    size_t host;
    while (!done && clock_mono_ms() < deadline_ms && choose_host(p, tried, &host)) {
        any = true;
        for (size_t i = 0; i < p->o.attempts && !done && clock_mono_ms() < deadline_ms; i++) {
            bool opened;
            if (i > 0)
                pause_ms(p->o.pause_ms);
            done = try_host(p, host, use, arg, deadline_ms, &opened, e) != POOL_BROKEN;
            if (!opened)
                break;
        }
    }
    if (!any && e->text[0] == '\0')
        tell_skipped(p, e);
    free(tried);
    return done;
}

bool pool_run(struct pool *p, pool_use_fn *use, void *arg, int64_t deadline_ms, struct err *e)
{
    struct err own = ERR_INIT;
    if (!enter(p, deadline_ms, e))
        return false;
    bool ok = try_idle(p, use, arg, deadline_ms, &own) || try_fresh(p, use, arg, deadline_ms, &own);
    leave(p);
    if (e != NULL && own.text[0] != '\0')
        *e = own;
    return ok;
}

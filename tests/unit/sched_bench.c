#include "unit.h"
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "sched_bench.h"

#define MUST(x) do { if (!(x)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); abort(); } } while (0)

struct conf *bench_conf(const char *more, const char *master)
{
    char *text = xasprintf("%s%s", BENCH_MAIN, more ? more : "");
    struct conf_options o = { .dir = "/nonexistent", .main_cf_text = text, .master_cf_text = master ? master : BENCH_MASTER };
    struct conf_report r = { 0 };
    struct conf *c = conf_load(&o, &r);
    for (size_t i = 0; c == NULL && i < r.count; i++)
        fprintf(stderr, "%s\n", r.items[i].text);
    conf_report_free(&r);
    free(text);
    MUST(c != NULL);
    return c;
}

/* The domain decides: every recipient goes to transport smtp, next hop its domain. */
static int resolve(void *arg, struct conf *c, struct span sender UNUSED, struct span filter UNUSED, struct msg_rcpt *r, struct arena *a,
                   struct span *dsn UNUSED, struct span *why)
{
    struct bench *b = arg;
    ptrdiff_t at = span_rfind(r->addr, '@');
    b->resolved++;
    if (b->look_up != NULL && b->look_up(b, c, r, a))
        return 0;
    if (b->resolve_status != 0) {
        *why = span_cstr(b->resolve_why);
        return b->resolve_status;
    }
    r->route.transport = arena_dup_span(a, SPAN_LIT("smtp"));
    r->route.nexthop = arena_dup_span(a, span_from(r->addr, (size_t)at + 1));
    return 0;
}

static bool may_wait(void *arg, struct conf *c UNUSED)
{
    struct bench *b = arg;
    return b->may_wait;
}

static void wake(void *arg, unsigned count)
{
    struct bench *b = arg;
    atomic_fetch_add(&b->wakes, count);
}

struct bench *bench_new(const char *more, const char *master)
{
    struct bench *b = xcalloc(1, sizeof *b);
    struct err e = ERR_INIT;
    snprintf(b->log_path, sizeof b->log_path, "/tmp/test_sched.XXXXXX");
    int fd = mkstemp(b->log_path);
    MUST(fd >= 0);
    io_close(&fd);
    struct log_options lo = { .dest = LOG_TO_FILE, .path = b->log_path };
    b->log = log_open(&lo, &e);
    MUST(b->log != NULL && log_start(b->log) == 0);
    b->src = (struct log_src){ .log = b->log, .name = "posthouse", .prog = "qmgr", .pid = 7 };
    b->spool = fake_spool_new();
    b->conf = bench_conf(more, master);
    struct sched_options o = { .spool = b->spool, .conf = b->conf, .log = &b->src, .resolve = resolve, .resolve_arg = b, .may_wait = may_wait,
                               .wake = wake, .wake_arg = b };
    b->sched = sched_new(&o, &e);
    MUST(b->sched != NULL);
    b->spool->sched = b->sched;
    b->sched->ix = spool_index(b->spool);
    b->sched->rng = 12345;
    return b;
}

void bench_free(struct bench **bp)
{
    struct bench *b = *bp;
    sched_stop(b->sched);
    sched_free(&b->sched);
    fake_spool_free(&b->spool);
    conf_unref(&b->conf);
    log_close(&b->log);
    unlink(b->log_path);
    free(b);
    *bp = NULL;
}

struct msg *bench_msg(struct bench *b, const char *sender)
{
    static const char content[] = "From: a\r\nSubject: test\r\n\r\nbody\r\n";
    struct msg *m = msg_new();
    m->env.id = qid_new(&b->spool->qids);
    m->env.arrival_us = clock_wall_us();
    m->env.sender = arena_dup_span(m->arena, span_cstr(sender));
    m->content = xstrdup(content);
    m->env.content_bytes = sizeof content - 1;
    m->env.message_id = SPAN_LIT("<orig@example.com>");
    m->received_ms = clock_mono_ms();
    return m;
}

struct msg_rcpt *bench_rcpt(struct msg *m, const char *addr, const char *transport, const char *nexthop)
{
    struct msg_rcpt *r = msg_add_rcpt(m);
    r->addr = r->orig = arena_dup_span(m->arena, span_cstr(addr));
    if (transport != NULL) {
        r->route.transport = arena_dup_span(m->arena, span_cstr(transport));
        r->route.nexthop = arena_dup_span(m->arena, span_cstr(nexthop));
    }
    return r;
}

uint64_t bench_commit(struct bench *b, struct msg *m)
{
    uint64_t id = m->env.id;
    fake_write(b->spool, m);
    sched_committed(b->sched, m);
    msg_unref(&m);
    return id;
}

uint64_t bench_send(struct bench *b, const char *sender, const char *addr, const char *transport, const char *nexthop)
{
    struct msg *m = bench_msg(b, sender);
    bench_rcpt(m, addr, transport, nexthop);
    return bench_commit(b, m);
}

struct job *bench_next(struct bench *b)
{
    return sched_next(b->sched, NULL);
}

struct delivery_result bench_result(enum outcome o)
{
    struct delivery_result r = { .outcome = o, .relay = SPAN_LIT("mx.example.net[192.0.2.1]:25"), .conn_us = 30000, .xfer_us = 1200000 };
    switch (o) {
    case OUTCOME_SENT:
        r.dsn = SPAN_LIT("2.0.0");
        r.reason = SPAN_LIT("250 2.0.0 Ok: queued as X");
        break;
    case OUTCOME_DEFERRED:
        r.dsn = SPAN_LIT("4.4.1");
        r.reason = SPAN_LIT("connect to mx.example.net[192.0.2.1]:25: Connection refused");
        break;
    case OUTCOME_BOUNCED:
    case OUTCOME_EXPIRED:
        r.dsn = SPAN_LIT("5.1.1");
        r.remote_mta = SPAN_LIT("mx.example.net");
        r.diagnostic = SPAN_LIT("550 5.1.1 no such user");
        r.reason = SPAN_LIT("host mx.example.net[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)");
        break;
    }
    return r;
}

void bench_finish(struct bench *b, struct job **j, enum outcome o, enum site_verdict v)
{
    struct delivery_result r = bench_result(o);
    sched_report_all(b->sched, *j, &r);
    sched_finish(b->sched, j, v);
}

void bench_run(struct bench *b)
{
    do
        sched_run_once(b->sched);
    while (fake_commit_all(b->spool) > 0);
}

void bench_advance(struct bench *b, int64_t ms)
{
    clock_advance_for_test(ms, ms * 1000);
    bench_run(b);
}

char *bench_log(struct bench *b)
{
    struct buf t = BUF_INIT(64 << 20);
    struct err e = ERR_INIT;
    log_flush(b->log);
    MUST(io_read_file(b->log_path, &t, &e));
    return buf_detach(&t);
}

unsigned bench_log_count(struct bench *b, const char *text)
{
    char *all = bench_log(b);
    unsigned n = 0;
    for (const char *p = all; (p = strstr(p, text)) != NULL; p += strlen(text))
        n++;
    free(all);
    return n;
}

const char *bench_place_name(enum bench_place p)
{
    switch (p) {
    case QUEUED:   return "queued";
    case BUSY:     return "busy";
    case WAITING:  return "waiting";
    case IN_INDEX: return "in the index";
    }
    return "nowhere";
}

uint64_t bench_put(struct bench *b, enum bench_place p, struct job **j)
{
    uint64_t id = bench_send(b, "a@example.org", "u@example.net", "smtp", "example.net");
    *j = NULL;
    if (p == QUEUED)
        return id;
    *j = bench_next(b);
    assert_non_null(*j);
    if (p == BUSY)
        return id;
    bench_finish(b, j, OUTCOME_DEFERRED, SITE_OK);
    bench_run(b);
    if (p == WAITING)
        return id;
    bench_advance(b, 6000);
    bench_advance(b, 6000);
    assert_int_equal(b->sched->n_messages, 0);
    return id;
}

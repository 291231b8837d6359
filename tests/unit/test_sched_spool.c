/*
 * Scheduler and real spool together: threads that deliver, a stop in the middle, a start that finds the rest. Every
 * recipient must be sent exactly once over both lives.
 */
#include "unit.h"
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "queue/query.h"
#include "queue/sched_internal.h"

#define THREADS 4
#define MESSAGES 2000
#define RCPTS 2

struct life {
    char dir[64];
    struct conf *conf;
    struct spool *spool;
    struct sched *sched;
    struct log_src log;
    uint64_t first_id;
    unsigned defer_every;    /* each n-th job is deferred; 0 none */
    _Atomic bool is_over;
    _Atomic unsigned answered, refused, sent, deferred, notices;
    _Atomic unsigned char seen[MESSAGES][RCPTS];
};

static int resolve(void *arg UNUSED, struct conf *c UNUSED, struct span sender UNUSED, struct span filter UNUSED, struct msg_rcpt *r, struct arena *a,
                   struct span *dsn UNUSED, struct span *why UNUSED)
{
    r->route.transport = arena_dup_span(a, SPAN_LIT("smtp"));
    r->route.nexthop = arena_dup_span(a, span_from(r->addr, (size_t)span_rfind(r->addr, '@') + 1));
    return 0;
}

static struct conf *load_conf(void)
{
    struct conf_options o = { .dir = "/nonexistent", .main_cf_text =
        "myhostname = hub.example.com\nmyorigin = example.com\nmydestination =\nindex_flush_interval = 1s\n"
        "inet_interfaces = loopback-only\nmynetworks = 127.0.0.0/8\n",
        .master_cf_text = "smtp unix - - n - - smtp\nretry unix - - n - - error\n" };
    struct conf_report r = { 0 };
    struct conf *c = conf_load(&o, &r);
    for (size_t i = 0; c == NULL && i < r.count; i++)
        fprintf(stderr, "%s\n", r.items[i].text);
    conf_report_free(&r);
    return c;
}

/* The message's number is the local part: "mNNN@...". */
static void note_sent(struct life *l, const struct msg *m, uint32_t rcpt)
{
    int64_t n;
    struct span a = m->env.rcpts[rcpt].addr;
    if (m->env.flags & ENV_BOUNCE) {
        atomic_fetch_add(&l->notices, 1);
        return;
    }
    if (!num_parse(span_of(a.p + 1, (size_t)span_find(a, '@') - 1), 0, MESSAGES - 1, &n))
        abort();
    atomic_fetch_add(&l->seen[n][rcpt], 1);
    atomic_fetch_add(&l->sent, 1);
}

static void deliver_one(struct life *l, struct job **j, unsigned turn)
{
    struct delivery_result r = { .dsn = SPAN_LIT("2.0.0"), .relay = SPAN_LIT("sink"), .reason = SPAN_LIT("250 2.0.0 Ok") };
    struct content_view v;
    struct err e = ERR_INIT;
    if (l->defer_every != 0 && turn % l->defer_every == 0) {
        r.outcome = OUTCOME_DEFERRED;
        r.dsn = SPAN_LIT("4.2.0");
        r.reason = SPAN_LIT("later");
        atomic_fetch_add(&l->deferred, 1);
    } else {
        if (!content_acquire(l->spool, (*j)->msg, &v, &e))
            abort();
        if (v.n != (*j)->msg->env.content_bytes)
            abort();
        content_release(&v);
        for (uint32_t i = 0; i < (*j)->rcpt_count; i++)
            note_sent(l, (*j)->msg, (*j)->rcpts[i].index);
    }
    sched_report_all(l->sched, *j, &r);
    sched_finish(l->sched, j, SITE_OK);
}

static void *deliver(void *arg)
{
    struct life *l = arg;
    for (unsigned turn = 1; !atomic_load(&l->is_over);) {
        struct job *j = sched_next(l->sched, NULL);
        if (j != NULL) {
            deliver_one(l, &j, turn++);
        } else {
            struct timespec t = { .tv_nsec = 200000 };
            nanosleep(&t, NULL);
        }
    }
    return NULL;
}

static void begin(struct life *l)
{
    struct err e = ERR_INIT;
    struct spool_options so = { .dir = l->dir, .segment_bytes = 4 << 20, .buffer_limit_bytes = 65536, .memory_limit_bytes = 64 << 20,
                                .index_flush_ms = 1000, .create = true, .log = &l->log };
    if (spool_open(&so, &l->spool, &e) != SPOOL_OPEN_OK)
        fail_msg("%s", e.text);
    struct sched_options o = { .spool = l->spool, .conf = l->conf, .log = &l->log, .resolve = resolve };
    l->sched = sched_new(&o, &e);
    assert_non_null(l->sched);
    struct spool_sink sink = { .committed = sched_committed, .arg = l->sched };
    if (!spool_start(l->spool, &sink, &e))
        fail_msg("%s", e.text);
    assert_int_equal(sched_start(l->sched), 0);
    atomic_store(&l->is_over, false);
}

static void end(struct life *l, pthread_t *t)
{
    atomic_store(&l->is_over, true);
    for (int i = 0; i < THREADS && t != NULL; i++)
        pthread_join(t[i], NULL);
    sched_stop(l->sched);
    spool_stop(l->spool);
    sched_free(&l->sched);
    spool_close(&l->spool);
}

static void answer(void *arg, struct msg *m UNUSED, int status)
{
    struct life *l = arg;
    if (status != SPOOL_OK)
        atomic_fetch_add(&l->refused, 1);
    atomic_fetch_add(&l->answered, 1);
}

static void submit(struct life *l, unsigned n)
{
    static const char text[] = "Subject: one\r\n\r\nbody\r\n";
    struct msg *m = msg_new();
    m->env.id = qid_new(spool_qids(l->spool));
    m->env.arrival_us = clock_wall_us();
    m->env.sender = SPAN_LIT("a@example.org");
    m->received_ms = clock_mono_ms();
    for (unsigned i = 0; i < RCPTS; i++) {
        struct msg_rcpt *r = msg_add_rcpt(m);
        r->addr = r->orig = span_cstr(arena_printf(m->arena, "m%u@d%u.example.net", n, (n + i) % 9));
        r->route.transport = SPAN_LIT("smtp");
        r->route.nexthop = span_from(r->addr, (size_t)span_find(r->addr, '@') + 1);
    }
    struct content_writer *w = content_begin(l->spool, m->env.id);
    assert_int_equal(content_append(w, span_of(text, sizeof text - 1)), SPOOL_OK);
    m->env.content_bytes = content_bytes(w);
    assert_int_equal(content_finish(&w, m), SPOOL_OK);
    m->done_cb = answer;
    m->done_arg = l;
    spool_submit(l->spool, m);
}

static bool wait_for(struct life *l, unsigned sent, unsigned answered)
{
    int64_t until = clock_mono_ms() + 30000;
    while (clock_mono_ms() < until) {
        if (atomic_load(&l->sent) >= sent && atomic_load(&l->answered) >= answered)
            return true;
        struct timespec t = { .tv_nsec = 5000000 };
        nanosleep(&t, NULL);
    }
    return false;
}

static int remove_one(const char *path, const struct stat *st UNUSED, int type UNUSED, struct FTW *f UNUSED)
{
    return remove(path);
}

static void each_recipient_once_over_two_lives(void **state UNUSED)
{
    struct life *l = xcalloc(1, sizeof *l);
    pthread_t t[THREADS];
    snprintf(l->dir, sizeof l->dir, "/tmp/test_sched_spool.XXXXXX");
    assert_non_null(mkdtemp(l->dir));
    l->log = (struct log_src){ .name = "posthouse", .prog = "qmgr" };
    l->conf = load_conf();
    assert_non_null(l->conf);
    l->defer_every = 3;
    begin(l);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, deliver, l);
    for (unsigned n = 0; n < MESSAGES; n++)
        submit(l, n);
    assert_true(wait_for(l, MESSAGES / 2, MESSAGES));
    end(l, t); /* in the middle of it */
    assert_int_equal(atomic_load(&l->refused), 0);
    unsigned before = atomic_load(&l->sent);
    assert_true(before < MESSAGES * RCPTS);

    l->defer_every = 0;
    begin(l);
    struct sched_counts c = sched_counts(l->sched);
    assert_true(c.active + c.deferred > 0);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, deliver, l);
    int64_t until = clock_mono_ms() + 30000;
    while (atomic_load(&l->sent) < MESSAGES * RCPTS && clock_mono_ms() < until) {
        struct timespec pause = { .tv_nsec = 50000000 };
        sched_flush_all(l->sched);
        nanosleep(&pause, NULL);
    }
    assert_int_equal(atomic_load(&l->sent), MESSAGES * RCPTS);
    for (int i = 0; i < 100; i++) {
        struct timespec pause = { .tv_nsec = 20000000 };
        c = sched_counts(l->sched);
        if (c.active + c.deferred == 0)
            break;
        nanosleep(&pause, NULL);
    }
    assert_int_equal(c.active + c.deferred + c.hold, 0);
    end(l, t);
    for (unsigned n = 0; n < MESSAGES; n++)
        for (unsigned i = 0; i < RCPTS; i++)
            if (atomic_load(&l->seen[n][i]) != 1)
                fail_msg("message %u recipient %u: %u times", n, i, atomic_load(&l->seen[n][i]));
    assert_true(atomic_load(&l->deferred) > 0);
    /* Nothing is left for a third life. */
    begin(l);
    assert_null(sched_next(l->sched, NULL));
    c = sched_counts(l->sched);
    assert_int_equal(c.active + c.deferred + c.hold, 0);
    atomic_store(&l->is_over, true);
    sched_stop(l->sched);
    spool_stop(l->spool);
    sched_free(&l->sched);
    spool_close(&l->spool);
    conf_unref(&l->conf);
    nftw(l->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(l);
}

static int64_t count_rows(struct life *l)
{
    char path[100];
    struct err e = ERR_INIT;
    sqlite3_stmt *st = NULL;
    snprintf(path, sizeof path, "%s/index.db", l->dir);
    struct query *q = query_open(path, &e);
    if (q == NULL || query_prepare(q, SPAN_LIT("SELECT count(*) FROM messages"), &st, &e) != QUERY_OK || query_step(q, st, &e) != QUERY_ROW)
        fail_msg("%s", e.text);
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    query_close(&q);
    return n;
}

/* The interval is a second: without the call the rows would come later. */
static void a_query_sees_what_came_a_moment_ago(void **state UNUSED)
{
    struct life *l = xcalloc(1, sizeof *l);
    struct err e = ERR_INIT;
    snprintf(l->dir, sizeof l->dir, "/tmp/test_sched_spool.XXXXXX");
    assert_non_null(mkdtemp(l->dir));
    l->log = (struct log_src){ .name = "posthouse", .prog = "qmgr" };
    l->conf = load_conf();
    begin(l);
    for (unsigned n = 0; n < 500; n++) {
        submit(l, n);
        if (n % 100 != 99)
            continue;
        assert_true(wait_for(l, 0, n + 1));
        assert_true(sched_index_sync(l->sched, &e));
        assert_int_equal(count_rows(l), n + 1);
    }
    assert_true(sched_index_sync(l->sched, &e)); /* nothing to do */
    end(l, NULL);
    conf_unref(&l->conf);
    nftw(l->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_recipient_once_over_two_lives),
        cmocka_unit_test(a_query_sees_what_came_a_moment_ago),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

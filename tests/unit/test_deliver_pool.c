/* The pool: threads on demand within the limit, no lost wake-up, stop; error, retry and discard; trace headers; the cache. */
#include "tests/unit/unit.h"

#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/lock.h"
#include "daemon/deliver/dsn_text.h"
#include "daemon/deliver/trace_headers.h"
#include "daemon/smtp/conn.h"
#include "tests/unit/client_fake.h"

static const struct fake_mail mail = { .sender = "s@s.example", .rcpts = "a@d.example b@d.example", .content = "x\r\n" };

static void wait_finished(struct sched *s, unsigned want)
{
    int64_t end = clock_mono_ms() + 10000;
    for (unsigned have = 0; have < want;) {
        pthread_mutex_lock(&s->m);
        have = s->finished;
        pthread_mutex_unlock(&s->m);
        if (clock_mono_ms() > end)
            fail_msg("only %u of %u jobs finished", have, want);
        usleep(500);
    }
}

static void next_hop_is_the_text(void **state)
{
    (void)state;
    static const struct {
        const char *transport, *nexthop;
        enum outcome outcome;
        const char *dsn, *reason;
    } cases[] = {
        { "error", "5.1.1 no such user here", OUTCOME_BOUNCED, "5.1.1", "no such user here" },
        { "error", "no mail", OUTCOME_BOUNCED, "5.0.0", "no mail" },
        { "error", "4.1.1 x", OUTCOME_BOUNCED, "5.1.1", "x" },
        { "retry", "4.4.1 later", OUTCOME_DEFERRED, "4.4.1", "later" },
        { "retry", "later", OUTCOME_DEFERRED, "4.0.0", "later" },
        { "discard", "black hole", OUTCOME_SENT, "2.0.0", "black hole" },
    };
    struct conf *c = fake_conf("", "");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sched *s = fake_sched_new();
        struct deliver_env env = { .sched = s };
        fake_add_job(s, c, cases[i].transport, cases[i].nexthop, 1, &mail);
        struct job *j = sched_next(s, NULL);
        deliver_agent(j->transport->command)(&env, j);
        assert_int_equal(s->report_count, 2);
        assert_int_equal(s->finished, 1);
        const struct fake_report *r = fake_report_of(s, 1, 1);
        if (r->outcome != cases[i].outcome || strcmp(r->dsn, cases[i].dsn) || strcmp(r->reason, cases[i].reason) ||
            strcmp(r->relay, "none"))
            fail_msg("%s:%s gave %d %s (%s)", cases[i].transport, cases[i].nexthop, r->outcome, r->dsn, r->reason);
        fake_sched_free(&s);
    }
    conf_unref(&c);
}

static void every_job_is_done_once(void **state)
{
    (void)state;
    struct conf *c = fake_conf("", "");
    struct log_src log = { .name = "posthouse" };
    for (unsigned threads = 1; threads <= 8; threads *= 2) {
        struct sched *s = fake_sched_new();
        struct deliver_env env = { .sched = s, .log = &log, .conn_cache = conn_cache_new() };
        struct err e = ERR_INIT;
        struct deliver_pool *p = deliver_pool_new(&env, threads, &e);
        for (unsigned i = 0; i < 200; i++) {
            pthread_mutex_lock(&s->m);
            fake_add_job(s, c, "discard", "x", i + 1, &mail);
            pthread_mutex_unlock(&s->m);
            deliver_pool_wake(p, 1);
        }
        wait_finished(s, 200);
        assert_true(deliver_pool_stop(p, clock_mono_ms() + 5000));
        assert_int_equal(s->report_count, 400);
        assert_int_equal(s->unreported, 0);
        deliver_pool_free(&p);
        assert_null(p);
        conn_cache_free(&env.conn_cache);
        fake_sched_free(&s);
    }
    conf_unref(&c);
}

/* One job at a time, each waking the pool just when its only thread is about to lie down. */
static void no_wakeup_is_lost(void **state)
{
    (void)state;
    struct conf *c = fake_conf("", "");
    struct log_src log = { .name = "posthouse" };
    struct sched *s = fake_sched_new();
    struct deliver_env env = { .sched = s, .log = &log };
    struct err e = ERR_INIT;
    struct deliver_pool *p = deliver_pool_new(&env, 1, &e);
    for (unsigned i = 0; i < 400; i++) {
        pthread_mutex_lock(&s->m);
        fake_add_job(s, c, "discard", "x", i + 1, &mail);
        s->report_count = 0;
        pthread_mutex_unlock(&s->m);
        deliver_pool_wake(p, 1);
        wait_finished(s, i + 1);
    }
    deliver_pool_free(&p);
    fake_sched_free(&s);
    conf_unref(&c);
}

static void unknown_command_waits(void **state)
{
    (void)state;
    struct conf *c = fake_conf("", "");
    struct log_src log = { .name = "posthouse" };
    struct sched *s = fake_sched_new();
    struct conf_service odd = *conf_transport(c, SPAN_LIT("discard"));
    odd.command = "teleport";
    fake_add_job(s, c, "discard", "x", 1, &mail);
    s->jobs[0]->transport = &odd;
    struct deliver_env env = { .sched = s, .log = &log };
    struct err e = ERR_INIT;
    struct deliver_pool *p = deliver_pool_new(&env, 1, &e);
    deliver_pool_wake(p, 1);
    wait_finished(s, 1);
    deliver_pool_free(&p);
    assert_int_equal(fake_report_of(s, 1, 0)->outcome, OUTCOME_DEFERRED);
    assert_string_equal(fake_report_of(s, 1, 0)->reason, "mail transport unavailable");
    fake_sched_free(&s);
    conf_unref(&c);
}

static struct smtp_conn *pair_conn(const char *key, int *peer)
{
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) != 0)
        abort();
    struct smtp_conn *c = conn_new(stream_new_fd(fd[0]), "h", "/s", 0, false);
    c->key[0] = strdup(key);
    c->key[1] = strdup("endpoint");
    c->skip_quit_response = true;
    *peer = fd[1];
    return c;
}

static bool said_quit(int fd)
{
    char b[16];
    ssize_t n = recv(fd, b, sizeof b, 0);
    bool ok = n == 6 && memcmp(b, "QUIT\r\n", 6) == 0 && recv(fd, b, sizeof b, 0) == 0;
    close(fd);
    return ok;
}

static void cache_gives_by_key_and_drops_the_dead(void **state)
{
    (void)state;
    struct conn_cache *cc = conn_cache_new();
    int a, b, d;
    int64_t now = clock_mono_ms();
    assert_true(conn_cache_next_ms(cc) == CLOCK_NEVER);
    conn_cache_put(cc, pair_conn("k1", &a), now + 60000);
    conn_cache_put(cc, pair_conn("k2", &b), now + 50000);
    conn_cache_put(cc, pair_conn("k2", &d), now + 70000);
    assert_int_equal(conn_cache_next_ms(cc), now + 50000);
    assert_null(conn_cache_take(cc, CONN_KEY_NEXTHOP, "k3"));
    close(d); /* the newest of k2 dies while parked */
    struct smtp_conn *c = conn_cache_take(cc, CONN_KEY_NEXTHOP, "k2");
    assert_non_null(c);
    assert_int_equal(conn_cache_count(cc), 1);
    assert_int_equal(conn_cache_next_ms(cc), now + 60000);
    conn_close(&c, true);
    assert_true(said_quit(b));
    c = conn_cache_take(cc, CONN_KEY_ENDPOINT, "endpoint");
    assert_non_null(c);
    conn_cache_put(cc, c, now + 10);
    conn_cache_sweep(cc, now + 9);
    assert_int_equal(conn_cache_count(cc), 1);
    conn_cache_sweep(cc, now + 10);
    assert_int_equal(conn_cache_count(cc), 0);
    assert_true(conn_cache_next_ms(cc) == CLOCK_NEVER);
    assert_true(said_quit(a));
    assert_false(conn_cache_note_demand(cc, "k", 2000));
    assert_true(conn_cache_note_demand(cc, "k", 2000));
    conn_cache_free(&cc);
}

static void idle_pool_closes_parked_connections(void **state)
{
    (void)state;
    struct conf *c = fake_conf("", "");
    struct log_src log = { .name = "posthouse" };
    struct sched *s = fake_sched_new();
    struct deliver_env env = { .sched = s, .log = &log, .conn_cache = conn_cache_new() };
    struct err e = ERR_INIT;
    struct deliver_pool *p = deliver_pool_new(&env, 3, &e);
    pthread_mutex_lock(&s->m);
    for (unsigned i = 0; i < 3; i++)
        fake_add_job(s, c, "discard", "x", i + 1, &mail);
    pthread_mutex_unlock(&s->m);
    deliver_pool_wake(p, 3);
    wait_finished(s, 3);
    usleep(20000); /* all lie down, none of them watching anything */
    int peer;
    conn_cache_put(env.conn_cache, pair_conn("k", &peer), clock_mono_ms() + 100);
    pthread_mutex_lock(&s->m);
    fake_add_job(s, c, "discard", "x", 4, &mail); /* its thread tells the bottom one */
    pthread_mutex_unlock(&s->m);
    deliver_pool_wake(p, 1);
    struct timeval tv = { .tv_sec = 3 };
    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    assert_true(said_quit(peer));
    deliver_pool_free(&p);
    conn_cache_free(&env.conn_cache);
    fake_sched_free(&s);
    conf_unref(&c);
}

struct hammer {
    struct conn_cache *cc;
    unsigned seed, peer_count;
    int peers[400];
};

static void *hammer_main(void *arg)
{
    struct hammer *h = arg;
    for (unsigned i = 0; i < 400; i++) {
        char key[8];
        int peer;
        snprintf(key, sizeof key, "k%u", (i * 7 + h->seed) % 5);
        struct smtp_conn *c = conn_cache_take(h->cc, CONN_KEY_NEXTHOP, key);
        if (c == NULL) {
            c = pair_conn(key, &peer);
            if (i % 3 == 0)
                close(peer); /* dead when it is taken again */
            else
                h->peers[h->peer_count++] = peer;
        }
        conn_cache_put(h->cc, c, clock_mono_ms() + (i % 4 == 0 ? 0 : 1000));
        if (i % 50 == 0)
            conn_cache_sweep(h->cc, clock_mono_ms());
    }
    return NULL;
}

static void cache_survives_many_threads(void **state)
{
    (void)state;
    struct hammer h[4];
    pthread_t t[4];
    struct conn_cache *cc = conn_cache_new();
    for (unsigned i = 0; i < 4; i++) {
        h[i] = (struct hammer){ .cc = cc, .seed = i };
        assert_int_equal(pthread_create(&t[i], NULL, hammer_main, &h[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    assert_true(conn_cache_count(cc) <= CONN_CACHE_MAX);
    conn_cache_free(&cc);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < h[i].peer_count; k++)
            close(h[i].peers[k]);
}

static void trace_headers(void **state)
{
    (void)state;
    struct envelope env = { .sender = SPAN_LIT("a b@s.example") };
    struct msg_rcpt rcpt = { .addr = SPAN_LIT("u@d.example"), .orig = SPAN_LIT("alias@d.example") };
    struct buf b = BUF_INIT(0);
    const char *const argv[] = { "x", "flags=DORXq", NULL };
    assert_int_equal(copy_flags_of(argv), COPY_DELIVERED_TO | COPY_ORIGINAL_TO | COPY_RETURN_PATH | COPY_FINAL);
    assert_int_equal(copy_flags_of(NULL), 0);
    trace_headers_add(&b, copy_flags_of(argv), &env, &rcpt, "\n");
    assert_string_equal(buf_cstr(&b), "Return-Path: <\"a b\"@s.example>\nX-Original-To: alias@d.example\nDelivered-To: u@d.example\n");
    buf_free(&b);
    struct span mine = SPAN_LIT("u@d.example");
    assert_true(trace_headers_has_delivered_to(SPAN_LIT("A: b\r\ndelivered-TO:  U@d.Example \r\n\r\n"), mine));
    assert_true(trace_headers_has_delivered_to(SPAN_LIT("Delivered-To: <u@d.example>\r\n"), mine));
    assert_false(trace_headers_has_delivered_to(SPAN_LIT("A: b\r\n\r\nDelivered-To: u@d.example\r\n"), mine));
    assert_false(trace_headers_has_delivered_to(SPAN_LIT("Delivered-To: xu@d.example\r\n"), mine));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_hop_is_the_text),
        cmocka_unit_test(every_job_is_done_once),
        cmocka_unit_test(no_wakeup_is_lost),
        cmocka_unit_test(unknown_command_waits),
        cmocka_unit_test(cache_gives_by_key_and_drops_the_dead),
        cmocka_unit_test(idle_pool_closes_parked_connections),
        cmocka_unit_test(cache_survives_many_threads),
        cmocka_unit_test(trace_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

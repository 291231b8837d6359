/*
 * The reactor with a small echo dialogue: parking, time-outs, callbacks that come early or late, stale events, draining,
 * blocking steps. Each client is a plain blocking socket of the test.
 */
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "daemon/reactor_internal.h"

/* The reactor only counts snapshots; this test has none. */
struct conf *conf_ref(struct conf *c)
{
    return c;
}

void conf_unref(struct conf **c)
{
    *c = NULL;
}

struct echo {
    struct sess s;
    char cmd;
};

static atomic_int destroyed, created;

static void *resume_later(void *arg)
{
    usleep(2000);
    sess_resume(arg);
    return NULL;
}

/* One-letter commands: e echo, c callback at once, l callback later, t timer, b block, q quit, w wait with a short deadline. */
static enum sess_wait echo_step(struct sess *s, enum sess_wake why)
{
    struct echo *ec = (struct echo *)s;
    char c;
    s->deadline_ms = clock_mono_ms() + 20000;
    switch (why) {
    case WAKE_START:
        return send(s->fd, "+", 1, MSG_NOSIGNAL) == 1 ? WAIT_INPUT : WAIT_DONE;
    case WAKE_TIMEOUT:
        if (ec->cmd == 'w') {
            (void)!send(s->fd, "T", 1, MSG_NOSIGNAL);
            return WAIT_DONE;
        }
        return send(s->fd, "t", 1, MSG_NOSIGNAL) == 1 ? WAIT_INPUT : WAIT_DONE;
    case WAKE_SHUTDOWN:
        (void)!send(s->fd, "S", 1, MSG_NOSIGNAL);
        return WAIT_DONE;
    case WAKE_CALLBACK:
        return send(s->fd, &ec->cmd, 1, MSG_NOSIGNAL) == 1 ? WAIT_INPUT : WAIT_DONE;
    case WAKE_READY:
        break;
    }
    ssize_t n = recv(s->fd, &c, 1, 0);
    if (n < 0)
        return errno == EAGAIN ? WAIT_INPUT : WAIT_DONE;
    if (n == 0)
        return WAIT_DONE;
    ec->cmd = c;
    switch (c) {
    case 'c':
        sess_resume(s);
        return WAIT_CALLBACK;
    case 'l': {
        pthread_t t;
        if (pthread_create(&t, NULL, resume_later, s) != 0)
            return WAIT_DONE;
        pthread_detach(t);
        return WAIT_CALLBACK;
    }
    case 't':
        s->deadline_ms = clock_mono_ms() + 10;
        return WAIT_TIMER;
    case 'w':
        s->deadline_ms = clock_mono_ms() + 10;
        return WAIT_INPUT;
    case 'b':
        reactor_will_block(s);
        usleep(150000);
        break;
    case 'u': /* blocks without saying so */
        usleep(150000);
        break;
    case 'q':
        return WAIT_DONE;
    default:
        break;
    }
    return send(s->fd, &c, 1, MSG_NOSIGNAL) == 1 ? WAIT_AGAIN : WAIT_DONE;
}

static void echo_destroy(struct sess *s)
{
    atomic_fetch_add(&destroyed, 1);
    free(s);
}

static const struct sess_ops echo_ops = { .step = echo_step, .destroy = echo_destroy };

static struct sess *echo_create(struct listener *l UNUSED, int fd UNUSED, const struct ip_addr *peer UNUSED,
                                uint16_t port UNUSED, void *arg UNUSED)
{
    struct echo *ec = xcalloc(1, sizeof *ec);
    ec->s.ops = &echo_ops;
    atomic_fetch_add(&created, 1);
    return &ec->s;
}

struct fixture {
    struct reactor *r;
    struct sockaddr_in addr;
    int fd;
    struct conf_service svc;
    struct log_src log;
};

static void prepare(struct fixture *f, unsigned workers, unsigned limit)
{
    struct err e = ERR_INIT;
    socklen_t len = sizeof f->addr;
    memset(f, 0, sizeof *f);
    f->log = (struct log_src){ NULL, "test", "reactor", 1 };
    f->svc.name = "test";
    struct reactor_options o = { .workers = workers, .session_limit = limit, .create = echo_create, .log = &f->log };
    f->r = reactor_new(&o, &e);
    if (f->r == NULL)
        fail_msg("%s", e.text);
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    f->addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(bind(f->fd, (struct sockaddr *)&f->addr, sizeof f->addr), 0);
    assert_int_equal(listen(f->fd, 1024), 0);
    assert_int_equal(getsockname(f->fd, (struct sockaddr *)&f->addr, &len), 0);
    struct listener *l = listener_new(&f->svc, NULL, f->fd, NULL, NULL);
    assert_true(reactor_set_listeners(f->r, &l, 1, &e));
    atomic_store(&created, 0);
    atomic_store(&destroyed, 0);
}

static void start(struct fixture *f, unsigned workers, unsigned limit)
{
    prepare(f, workers, limit);
    assert_int_equal(reactor_start(f->r), 0);
}

static void finish(struct fixture *f)
{
    (void)reactor_drain(f->r, clock_mono_ms() + 5000);
    reactor_free(&f->r);
    close(f->fd);
    assert_int_equal(atomic_load(&created), atomic_load(&destroyed));
}

static int dial(struct fixture *f)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval tv = { 10, 0 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    assert_int_equal(connect(fd, (struct sockaddr *)&f->addr, sizeof f->addr), 0);
    return fd;
}

static char get(int fd)
{
    char c = 0;
    ssize_t n = recv(fd, &c, 1, 0);
    return n == 1 ? c : n == 0 ? '$' : '!';
}

static void ask(int fd, char c, char want)
{
    assert_int_equal(send(fd, &c, 1, MSG_NOSIGNAL), 1);
    char got = get(fd);
    if (got != want)
        fail_msg("command %c: got %c, want %c", c, got, want);
}

static void every_wait_comes_back(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 4, 100);
    int fd = dial(&f);
    assert_int_equal(get(fd), '+');
    static const char dialogue[] = "eecclletbecu";
    for (int round = 0; round < 3; round++)
        for (const char *p = dialogue; *p; p++)
            ask(fd, *p, *p);
    ask(fd, 'q', '$');
    close(fd);
    fd = dial(&f);
    assert_int_equal(get(fd), '+');
    ask(fd, 'w', 'T');
    assert_int_equal(get(fd), '$');
    close(fd);
    finish(&f);
}

struct client {
    struct fixture *f;
    int rounds;
    int bad;
};

static void *client_main(void *arg)
{
    struct client *c = arg;
    static const char mix[] = "eeleceteee";
    for (int i = 0; i < c->rounds; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct timeval tv = { 10, 0 };
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
        if (connect(fd, (struct sockaddr *)&c->f->addr, sizeof c->f->addr) != 0 || get(fd) != '+') {
            c->bad++;
            close(fd);
            continue;
        }
        for (const char *p = mix; *p; p++)
            if (send(fd, p, 1, MSG_NOSIGNAL) != 1 || get(fd) != *p)
                c->bad++;
        if (i % 2)
            (void)!send(fd, "q", 1, MSG_NOSIGNAL);
        close(fd);
    }
    return NULL;
}

static void many_clients(void **state)
{
    (void)state;
    struct fixture f;
    struct client c[8];
    pthread_t t[8];
    start(&f, 6, 100);
    for (size_t i = 0; i < 8; i++) {
        c[i] = (struct client){ .f = &f, .rounds = 40 };
        assert_int_equal(pthread_create(&t[i], NULL, client_main, &c[i]), 0);
    }
    for (size_t i = 0; i < 8; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(c[i].bad, 0);
    }
    struct reactor_stats st = reactor_stats(f.r);
    assert_int_equal(st.accepted, 320);
    finish(&f);
}

/* A step that blocks, whether it says so or not, must not delay another session by its whole length. */
static void blocking_step_delays_nobody(void **state)
{
    (void)state;
    for (int pass = 0; pass < 2; pass++) {
        struct fixture f;
        start(&f, 4, 100);
        int a = dial(&f), b = dial(&f);
        assert_int_equal(get(a), '+');
        assert_int_equal(get(b), '+');
        assert_int_equal(send(a, pass ? "u" : "b", 1, MSG_NOSIGNAL), 1);
        for (int i = 0; i < 5; i++)
            ask(b, 'e', 'e');
        char c;
        assert_int_equal(recv(a, &c, 1, MSG_DONTWAIT), -1); /* b was served while a was still blocked */
        assert_int_equal(get(a), pass ? 'u' : 'b');
        close(a);
        close(b);
        finish(&f);
    }
}

static void limit_refuses_with_421(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 2, 2);
    int a = dial(&f), b = dial(&f);
    assert_int_equal(get(a), '+');
    assert_int_equal(get(b), '+');
    int c = dial(&f);
    char text[64] = { 0 };
    assert_true(recv(c, text, sizeof text - 1, 0) > 3);
    assert_memory_equal(text, "421 4.3.2", 9);
    ask(a, 'q', '$');
    close(a);
    int d = -1;
    for (int i = 0; i < 100; i++) { /* the slot comes back when the session has ended */
        d = dial(&f);
        if (get(d) == '+')
            break;
        close(d);
        d = -1;
        usleep(1000);
    }
    assert_true(d >= 0);
    close(b);
    close(c);
    close(d);
    finish(&f);
}

static void drain_tells_parked_sessions(void **state)
{
    (void)state;
    struct fixture f;
    int fd[20];
    start(&f, 3, 100);
    for (int i = 0; i < 20; i++) {
        fd[i] = dial(&f);
        assert_int_equal(get(fd[i]), '+');
    }
    assert_int_equal(send(fd[0], "l", 1, MSG_NOSIGNAL), 1); /* in a callback while the drain begins */
    assert_true(reactor_drain(f.r, clock_mono_ms() + 5000));
    for (int i = 1; i < 20; i++)
        assert_int_equal(get(fd[i]), 'S');
    for (int i = 0; i < 20; i++)
        close(fd[i]);
    finish(&f);
}

/* Sessions with much input go after the others, and yet have a share. */
static void bulk_goes_last(void **state)
{
    (void)state;
    static struct reactor r;
    static struct sess bulk[100], small[100];
    unsigned bulks = 0, smalls = 0;
    lock_init(&r.q, LOCK_RUN_QUEUE);
    lock_take(&r.q);
    assert_null(run_next_locked(&r));
    for (int i = 0; i < 100; i++) {
        bulk[i].is_bulk = true;
        run_list_push(&r.ready, &bulk[i]);
        run_list_push(&r.ready, &small[i]);
    }
    for (int i = 0; i < 40; i++) {
        struct sess *s = run_next_locked(&r);
        r.pops++;
        if (s->is_bulk)
            assert_ptr_equal(s, &bulk[bulks++]);
        else
            assert_ptr_equal(s, &small[smalls++]);
    }
    assert_int_equal(bulks, 40 / BULK_EVERY_POPS - 1); /* at first none was known */
    struct sess resumed = { .is_bulk = true };
    run_list_push(&r.resumed, &resumed);
    r.pops++;
    assert_ptr_equal(run_next_locked(&r), &resumed);
    for (; run_next_locked(&r) != NULL; r.pops++)
        bulks++;
    assert_int_equal(bulks + smalls, 200);
    lock_drop(&r.q);
    lock_destroy(&r.q);
}

/* However many connect: those who are there go first, and yet new ones have a share. */
static void new_sessions_have_their_share(void **state)
{
    (void)state;
    static struct reactor r;
    static struct sess known[90], fresh[60];
    unsigned knowns = 0, news = 0;
    lock_init(&r.q, LOCK_RUN_QUEUE);
    lock_take(&r.q);
    for (int i = 0; i < 60; i++)
        run_list_push(&r.fresh, &fresh[i]);
    for (int i = 0; i < 90; i++)
        run_list_push(&r.ready, &known[i]);
    for (struct sess *s; (s = run_next_locked(&r)) != NULL; r.pops++) {
        if (s >= fresh && s < fresh + 60)
            assert_ptr_equal(s, &fresh[news++]);
        else
            assert_ptr_equal(s, &known[knowns++]);
        if (knowns == 90 && r.pops == 119)
            assert_int_equal(news, 120 / FRESH_EVERY_POPS);
    }
    assert_int_equal(knowns + news, 150);
    lock_drop(&r.q);
    lock_destroy(&r.q);
}

static void takes_no_more_new_sessions_than_there_is_room_for(void **state)
{
    (void)state;
    struct fixture f;
    struct run_list ready = { 0 }, fresh = { 0 };
    int fd[10];
    prepare(&f, 2, 100);
    for (int i = 0; i < 10; i++)
        fd[i] = dial(&f);
    reactor_poll(f.r, 5000, 3, &ready, &fresh);
    assert_int_equal(fresh.n, 3);
    reactor_poll(f.r, 0, 3, &ready, &fresh);
    assert_int_equal(fresh.n, 3);
    reactor_poll(f.r, 5000, 5, &ready, &fresh);
    assert_int_equal(fresh.n, 5);
    assert_int_equal(ready.n, 0);
    lock_take(&f.r->q);
    f.r->fresh = fresh;
    lock_drop(&f.r->q);
    assert_int_equal(reactor_start(f.r), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(get(fd[i]), '+');
        close(fd[i]);
    }
    finish(&f);
}

/* Who sends a command while others send content without end waits for a turn of one of them, not for many. */
static void looks_before_each_bulk_turn(void **state)
{
    (void)state;
    static struct reactor r;
    static struct sess bulk[40], small[40];
    unsigned looks = 0;
    lock_init(&r.q, LOCK_RUN_QUEUE);
    lock_take(&r.q);
    for (int i = 0; i < 40; i++) {
        bulk[i].is_bulk = true;
        run_list_push(&r.ready, &bulk[i]);
        run_list_push(&r.ready, &small[i]);
    }
    for (unsigned turn = 0; turn < 80; turn++) {
        bool looks_now = is_time_to_look_locked(&r);
        if (looks_now)
            r.looked_at_pops = r.pops;
        assert_false(is_time_to_look_locked(&r)); /* once is enough */
        looks += looks_now;
        if (r.ready.n == 0 && r.pops > 0)
            assert_true(looks_now);
        r.has_poller = true;
        assert_false(is_time_to_look_locked(&r)); /* somebody does */
        r.has_poller = false;
        assert_non_null(run_next_locked(&r));
        r.pops++;
    }
    assert_in_range(looks, 20, 60);
    assert_false(is_time_to_look_locked(&r) && r.pops % 16 != 15); /* nothing is left to go on with */
    lock_drop(&r.q);
    lock_destroy(&r.q);
}

static void wheel_waits_for_the_next_slot_wherever_the_hand_is(void **state)
{
    (void)state;
    static struct wheel w;
    struct sess near = { 0 }, far = { 0 };
    for (int64_t hand = 0; hand < WHEEL_SLOTS; hand += 7) {
        int64_t t0 = (100 * WHEEL_SLOTS + hand) * WHEEL_TICK_MS;
        wheel_init(&w, t0);
        for (int64_t ticks = 1; ticks < WHEEL_SLOTS; ticks += 13) {
            wheel_insert(&w, &near, t0 + (ticks - 1) * WHEEL_TICK_MS);
            wheel_insert(&w, &far, t0 + (WHEEL_SLOTS - 1) * WHEEL_TICK_MS);
            assert_int_equal(wheel_wait_ms(&w, t0), ticks * WHEEL_TICK_MS);
            wheel_remove(&w, &near);
            assert_int_equal(wheel_wait_ms(&w, t0), WHEEL_SLOTS * WHEEL_TICK_MS);
            wheel_remove(&w, &far);
            assert_int_equal(wheel_wait_ms(&w, t0), -1);
        }
    }
}

static void wheel_fires_in_time_and_keeps_later_turns(void **state)
{
    (void)state;
    static struct wheel w;
    struct sess s[4];
    memset(s, 0, sizeof s);
    int64_t t0 = 1000000;
    wheel_init(&w, t0);
    assert_int_equal(wheel_wait_ms(&w, t0), -1);
    wheel_insert(&w, &s[0], t0 + 100);
    wheel_insert(&w, &s[1], t0 + 100 + (int64_t)WHEEL_SLOTS * WHEEL_TICK_MS); /* same slot, next turn */
    wheel_insert(&w, &s[2], t0 - 5);
    wheel_insert(&w, &s[3], t0 + 5000);
    assert_ptr_equal(wheel_expire(&w, t0 + WHEEL_TICK_MS + 10), &s[2]);
    assert_null(wheel_expire(&w, t0 + WHEEL_TICK_MS + 10));
    assert_ptr_equal(wheel_expire(&w, t0 + 100 + 2 * WHEEL_TICK_MS), &s[0]);
    assert_null(wheel_expire(&w, t0 + 100 + 2 * WHEEL_TICK_MS));
    wheel_remove(&w, &s[3]);
    assert_int_equal(w.count, 1);
    assert_null(wheel_expire(&w, t0 + 6000));
    assert_ptr_equal(wheel_expire(&w, t0 + 10 * (int64_t)WHEEL_SLOTS * WHEEL_TICK_MS), &s[1]);
    assert_int_equal(w.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bulk_goes_last),
        cmocka_unit_test(looks_before_each_bulk_turn),
        cmocka_unit_test(new_sessions_have_their_share),
        cmocka_unit_test(takes_no_more_new_sessions_than_there_is_room_for),
        cmocka_unit_test(wheel_fires_in_time_and_keeps_later_turns),
        cmocka_unit_test(wheel_waits_for_the_next_slot_wherever_the_hand_is),
        cmocka_unit_test(every_wait_comes_back),
        cmocka_unit_test(many_clients),
        cmocka_unit_test(blocking_step_delays_nobody),
        cmocka_unit_test(limit_refuses_with_421),
        cmocka_unit_test(drain_tells_parked_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

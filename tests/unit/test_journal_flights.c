/*
 * Flushes side by side, on a disk that is slow: who is answered when, one that fails among others, power cuts.
 * A gate holds the flushes of the flushers until the test lets them go, one by one, so nothing depends on time.
 */
#include "tests/unit/spool_fixture.h"
#include "tests/unit/spool_shim.h"

#define SLOW_US 2500
#define FLUSHES 64

struct gated {
    struct fixture f;
    struct shim sh;
    struct spool_io io;
    struct lock m;            /* LOCK_TEST_B */
    struct cond changed;
    bool is_open;             /* all go through */
    unsigned came;            /* flushes of flushers, numbered as they come */
    bool may_go[FLUSHES];
    int error[FLUSHES];
    unsigned fail_writes;
    bool is_serial;           /* the disk does one flush at a time */
    bool is_flushing;
};

static bool is_flusher(void)
{
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    return strcmp(name, "flusher") == 0;
}

static int gated_fdatasync(void *arg, int fd)
{
    struct gated *g = arg;
    if (!is_flusher())
        return shim_fdatasync(&g->sh, fd);
    lock_take(&g->m);
    unsigned mine = g->came++;
    cond_broadcast(&g->changed);
    while (!g->is_open && !g->may_go[mine % FLUSHES])
        cond_wait(&g->changed, &g->m);
    int error = g->is_open ? 0 : g->error[mine % FLUSHES];
    while (g->is_serial && g->is_flushing)
        cond_wait(&g->changed, &g->m);
    g->is_flushing = true;
    lock_drop(&g->m);
    int rc = error == 0 ? shim_fdatasync(&g->sh, fd) : -1;
    lock_take(&g->m);
    g->is_flushing = false;
    cond_broadcast(&g->changed);
    lock_drop(&g->m);
    if (error != 0)
        errno = error;
    return rc;
}

static ssize_t gated_pwritev(void *arg, int fd, const struct iovec *v, int n, off_t off)
{
    struct gated *g = arg;
    lock_take(&g->m);
    bool fails = g->fail_writes > 0;
    g->fail_writes -= fails;
    cond_broadcast(&g->changed);
    lock_drop(&g->m);
    if (!fails)
        return shim_pwritev(&g->sh, fd, v, n, off);
    errno = EIO;
    return -1;
}

/* The other calls of the shim, with its own argument. */
static int gated_open(void *arg, const char *path, int flags, mode_t mode) { return shim_open(&((struct gated *)arg)->sh, path, flags, mode); }
static int gated_fallocate(void *arg, int fd, off_t n) { return shim_fallocate(&((struct gated *)arg)->sh, fd, n); }
static int gated_rename(void *arg, const char *a, const char *b) { return shim_rename(&((struct gated *)arg)->sh, a, b); }
static int gated_unlink(void *arg, const char *path) { return shim_unlink(&((struct gated *)arg)->sh, path); }
static int gated_sync_dir(void *arg, const char *path) { return shim_sync_dir(&((struct gated *)arg)->sh, path); }

static void let_go(struct gated *g, unsigned i, int error)
{
    lock_take(&g->m);
    g->error[i] = error;
    g->may_go[i] = true;
    cond_broadcast(&g->changed);
    lock_drop(&g->m);
}

static void wait_until_came(struct gated *g, unsigned n)
{
    int64_t until = clock_mono_ms() + 20000;
    lock_take(&g->m);
    while (g->came < n && cond_wait_until(&g->changed, &g->m, until))
        ;
    unsigned came = g->came;
    lock_drop(&g->m);
    if (came != n)
        fail_msg("%u flushes are on their way, not %u", came, n);
}

/* A spool that has learnt that its flushes are slow. */
static int setup(void **state)
{
    struct gated *g = xcalloc(1, sizeof *g);
    fixture_init(&g->f);
    shim_init(&g->sh, g->f.dir, false);
    lock_init(&g->m, LOCK_TEST_B);
    cond_init(&g->changed);
    g->io = (struct spool_io){ g, gated_open, gated_pwritev, gated_fdatasync, gated_fallocate, gated_rename,
                               gated_unlink, gated_sync_dir, shim_free_bytes };
    g->sh.flush_us = SLOW_US;
    g->f.o.io = &g->io;
    fixture_start(&g->f);
    for (int i = 0; i < 8; i++)
        assert_int_equal(fixture_send(&g->f, 1, 100, NULL), SPOOL_OK);
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    struct gated *g = *state;
    lock_take(&g->m);
    g->is_open = true;
    cond_broadcast(&g->changed);
    lock_drop(&g->m);
    fixture_free(&g->f);
    shim_free(&g->sh);
    cond_destroy(&g->changed);
    lock_destroy(&g->m);
    free(g);
    return 0;
}

struct asked {
    struct gated *g;
    uint64_t id;
    int status;
    unsigned turn;            /* among the answers; 0: none yet */
};

static void asked_done(void *arg, struct msg *m UNUSED, int status)
{
    struct asked *a = arg;
    lock_take(&a->g->f.m);
    a->status = status;
    a->turn = a->g->f.answered + 1; /* only the committer answers */
    lock_drop(&a->g->f.m);
    fixture_done(&a->g->f, NULL, status);
}

/* Submits one and waits until its flush has begun, the n-th. */
static void ask(struct gated *g, struct asked *a, unsigned n)
{
    struct msg *m = fixture_msg(&g->f, 1, 100);
    *a = (struct asked){ .g = g, .id = m->env.id };
    m->done_cb = asked_done;
    m->done_arg = a;
    spool_submit(g->f.s, m);
    if (n > 0)
        wait_until_came(g, n);
}

static unsigned answers(struct gated *g)
{
    lock_take(&g->f.m);
    unsigned n = g->f.answered;
    lock_drop(&g->f.m);
    return n;
}

static void nobody_waits_for_the_flush_of_others_and_answers_keep_the_order(void **state)
{
    struct gated *g = *state;
    struct asked a[3];
    unsigned before = answers(g);
    for (unsigned i = 0; i < 3; i++)
        ask(g, &a[i], i + 1); /* its flush begins while those before it run */
    let_go(g, 1, 0);
    let_go(g, 2, 0);
    usleep(4 * SLOW_US); /* a wrong answer may come; a right one cannot */
    assert_int_equal(answers(g), before);
    let_go(g, 0, 0);
    assert_true(fixture_wait(&g->f, before + 3));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(a[i].status, SPOOL_OK);
        assert_int_equal(a[i].turn, before + i + 1);
    }
}

static void no_more_than_sixteen_at_once_and_the_rest_share_the_next(void **state)
{
    struct gated *g = *state;
    struct asked a[20];
    unsigned before = answers(g);
    for (unsigned i = 0; i < 16; i++)
        ask(g, &a[i], i + 1);
    for (unsigned i = 16; i < 20; i++)
        ask(g, &a[i], 0);
    usleep(4 * SLOW_US); /* one too many would begin */
    wait_until_came(g, 16);
    for (unsigned i = 0; i < 16; i++)
        let_go(g, i, 0);
    assert_true(fixture_wait(&g->f, before + 16));
    wait_until_came(g, 17); /* those that waited share one */
    let_go(g, 16, 0);
    assert_true(fixture_wait(&g->f, before + 20));
}

/* One fails: all that are up are refused and stay away, those before and after are there. */
static void a_flush_that_fails_is_one_of_all_that_run(void **state)
{
    struct gated *g = *state;
    struct asked a[4];
    uint64_t later;
    unsigned before = answers(g);
    ask(g, &a[0], 1);
    let_go(g, 0, 0);
    assert_true(fixture_wait(&g->f, before + 1));
    for (unsigned i = 1; i < 4; i++)
        ask(g, &a[i], i + 1);
    let_go(g, 2, EIO);
    usleep(4 * SLOW_US);
    assert_int_equal(answers(g), before + 1); /* the others still use the file */
    let_go(g, 3, 0);
    let_go(g, 1, 0);
    assert_true(fixture_wait(&g->f, before + 4));
    assert_int_equal(a[0].status, SPOOL_OK);
    for (unsigned i = 1; i < 4; i++)
        assert_int_equal(a[i].status, SPOOL_IO);
    assert_int_equal(fixture_send(&g->f, 1, 100, &later), SPOOL_OK);
    g->f.o.io = NULL;
    fixture_restart(&g->f);
    assert_int_equal(fixture_how_often(&g->f, a[0].id), 1);
    assert_int_equal(fixture_how_often(&g->f, later), 1);
    for (unsigned i = 1; i < 4; i++)
        assert_int_equal(fixture_how_often(&g->f, a[i].id), 0);
}

static void a_write_that_fails_is_too(void **state)
{
    struct gated *g = *state;
    struct asked a[2];
    uint64_t later;
    unsigned before = answers(g);
    ask(g, &a[0], 1);
    lock_take(&g->m);
    g->fail_writes = 1;
    lock_drop(&g->m);
    ask(g, &a[1], 0);
    lock_take(&g->m);
    while (g->fail_writes > 0)
        cond_wait(&g->changed, &g->m);
    lock_drop(&g->m);
    let_go(g, 0, 0);
    assert_true(fixture_wait(&g->f, before + 2));
    assert_int_equal(a[0].status, SPOOL_IO);
    assert_int_equal(a[1].status, SPOOL_IO);
    assert_int_equal(fixture_send(&g->f, 1, 100, &later), SPOOL_OK);
    g->f.o.io = NULL;
    fixture_restart(&g->f);
    assert_int_equal(fixture_how_often(&g->f, a[0].id) + fixture_how_often(&g->f, a[1].id), 0);
    assert_int_equal(fixture_how_often(&g->f, later), 1);
}

static void stop_waits_for_what_is_on_its_way(void **state)
{
    struct gated *g = *state;
    struct asked a[3];
    for (unsigned i = 0; i < 2; i++)
        ask(g, &a[i], i + 1);
    ask(g, &a[2], 0);
    lock_take(&g->m);
    g->is_open = true;
    cond_broadcast(&g->changed);
    lock_drop(&g->m);
    fixture_restart(&g->f);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(a[i].status, SPOOL_OK);
        assert_int_equal(fixture_how_often(&g->f, a[i].id), 1);
    }
}

/* A disk that does one flush at a time: that is noticed, and it gets one at a time. */
static void a_disk_without_the_gift_is_noticed(void **state)
{
    struct gated *g = *state;
    static struct asked a[600];
    lock_take(&g->m);
    g->is_open = g->is_serial = true;
    lock_drop(&g->m);
    unsigned n = 0, before = answers(g);
    for (int64_t until = clock_mono_ms() + 20000; n < ARRAY_LEN(a) && clock_mono_ms() < until; n++) {
        if (n % 8 == 0 && n > 0 && (!fixture_wait(&g->f, before + n - 6)))
            break;
        ask(g, &a[n], 0);
        usleep(600);
    }
    assert_true(fixture_wait(&g->f, before + n));
    spool_stop(g->f.s); /* the committer is gone, its fields may be read */
    assert_true(g->f.s->journal.pace.deep_from_us > 0);
}

/* ---- power cuts ---- */

#define SENDERS 6
#define EACH 30

struct sender {
    struct fixture *f;
    struct shim *sh;
    bool is_answered, ok;
};

static void sender_done(void *arg, struct msg *m, int status)
{
    struct sender *s = arg;
    s->ok = s->ok && status == SPOOL_OK;
    shim_note(s->sh, SHIM_ACK, m->env.id);
    lock_take(&s->f->m);
    s->is_answered = true;
    cond_broadcast(&s->f->changed);
    lock_drop(&s->f->m);
}

static void *sender(void *arg)
{
    struct sender *s = arg;
    for (unsigned i = 0; i < EACH; i++) {
        struct msg *m = fixture_msg(s->f, 1, i * 211 % 4000);
        m->done_cb = sender_done;
        m->done_arg = s;
        lock_take(&s->f->m);
        s->is_answered = false;
        lock_drop(&s->f->m);
        spool_submit(s->f->s, m);
        lock_take(&s->f->m);
        while (!s->is_answered)
            cond_wait(&s->f->changed, &s->f->m);
        lock_drop(&s->f->m);
    }
    return NULL;
}

/* What was answered before the power went is there. */
static void check_cut(const struct shim *sh, size_t cut, uint64_t seed)
{
    struct fixture g;
    fixture_init_for_files(&g);
    shim_rebuild(sh, cut, 0, seed, g.dir);
    fixture_start(&g);
    for (size_t i = 0; i < cut; i++)
        if (sh->op[i].kind == SHIM_ACK && fixture_how_often(&g, sh->op[i].id) != 1)
            fail_msg("cut before call %zu of %zu, seed %llu: message %llX is there %u times", cut, sh->n, (unsigned long long)seed,
                     (unsigned long long)sh->op[i].id, fixture_how_often(&g, sh->op[i].id));
    fixture_free(&g);
}

static void whenever_the_power_goes_the_answered_ones_are_there(void **state)
{
    (void)state;
    struct fixture f;
    struct shim sh;
    struct sender s[SENDERS];
    pthread_t t[SENDERS];
    fixture_init(&f);
    f.o.segment_bytes = 1 << 16; /* so that segments end while flushes run */
    f.discard = true;
    shim_init(&sh, f.dir, true);
    sh.flush_us = SLOW_US;
    f.o.io = &sh.io;
    fixture_start(&f);
    for (int i = 0; i < SENDERS; i++) {
        s[i] = (struct sender){ .f = &f, .sh = &sh, .ok = true };
        assert_int_equal(thread_start(&t[i], "sender", 0, sender, &s[i]), 0);
    }
    for (int i = 0; i < SENDERS; i++)
        pthread_join(t[i], NULL);
    spool_stop(f.s);
    spool_close(&f.s);
    uint64_t seed = 2463534242;
    unsigned cuts = 0;
    int64_t until = clock_mono_ms() + 6000; /* slow machines see fewer of the cuts */
    for (size_t cut = sh.n; cut > 20 && clock_mono_ms() < until; cut -= 1 + shim_random(&seed) % 12, cuts++)
        check_cut(&sh, cut, shim_random(&seed));
    print_message("%u cuts of %zu calls, up to %u flushes at once\n", cuts, sh.n, sh.most_flushing);
    for (int i = 0; i < SENDERS; i++)
        assert_true(s[i].ok);
    assert_true(sh.most_flushing >= 2);
    fixture_free(&f);
    shim_free(&sh);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(nobody_waits_for_the_flush_of_others_and_answers_keep_the_order),
        T(no_more_than_sixteen_at_once_and_the_rest_share_the_next),
        T(a_flush_that_fails_is_one_of_all_that_run),
        T(a_write_that_fails_is_too),
        T(stop_waits_for_what_is_on_its_way),
        T(a_disk_without_the_gift_is_noticed),
        cmocka_unit_test(whenever_the_power_goes_the_answered_ones_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Results of address verification and who waits for them, with probes that the test answers. Threads other than the
 * test's own only count.
 */
#include "tests/unit/unit.h"
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>
#include "common/base/clock.h"
#include "common/base/lock.h"
#include "common/base/mem.h"
#include "policy/verify.h"
#include "tests/unit/policy_fixture.h"

#define WAIT_MS 10000
#define VERIFY_MANY 450

struct world {
    struct fixture *f;
    struct verifier *v;
    struct lock m;
    struct cond changed;
    /* guarded by m */
    unsigned probes, running, running_max;
    bool is_held;               /* probes wait */
    enum verify_status says;    /* of the next probe */
    unsigned answers[4];        /* by status */
    char last[VERIFY_TEXT_MAX];
};

static struct policy *policy_cb(void *arg)
{
    struct world *w = arg;
    return policy_ref(w->f->policy);
}

static void probe_cb(void *arg, struct span address, struct verify_result *out)
{
    struct world *w = arg;
    lock_take(&w->m);
    w->probes++;
    w->running++;
    w->running_max = w->running > w->running_max ? w->running : w->running_max;
    cond_broadcast(&w->changed);
    while (w->is_held)
        cond_wait(&w->changed, &w->m);
    out->status = w->says;
    snprintf(out->text, sizeof out->text, "about %.*s", SPAN_ARG(address));
    w->running--;
    cond_broadcast(&w->changed);
    lock_drop(&w->m);
}

static void answer_cb(void *arg, const struct verify_result *r)
{
    struct world *w = arg;
    lock_take(&w->m);
    w->answers[r->status]++;
    snprintf(w->last, sizeof w->last, "%s", r->text);
    cond_broadcast(&w->changed);
    lock_drop(&w->m);
}

static struct world *world_new(const char *conf)
{
    struct world *w = xcalloc(1, sizeof *w);
    w->f = fixture_new(conf);
    lock_init(&w->m, LOCK_TEST_A);
    cond_init(&w->changed);
    w->v = verifier_new(&(struct verifier_options){ .policy = policy_cb, .probe = probe_cb, .arg = w });
    return w;
}

static void world_free(struct world *w)
{
    lock_take(&w->m);
    w->is_held = false;
    cond_broadcast(&w->changed);
    lock_drop(&w->m);
    assert_true(verifier_stop(w->v, clock_mono_ms() + WAIT_MS));
    verifier_free(&w->v);
    cond_destroy(&w->changed);
    lock_destroy(&w->m);
    fixture_free(&w->f);
    free(w);
}

#define MEMORY "address_verify_map =\n"
static const struct params *params_of(const struct world *w) { return conf_global(w->f->conf); }

static void ask(struct world *w, const char *address, int64_t wait_ms)
{
    verifier_ask(w->v, params_of(w), span_cstr(address), wait_ms, answer_cb, w);
}

/* Until *n reaches `want`. */
static void wait_for(struct world *w, const unsigned *n, unsigned want)
{
    int64_t until = clock_mono_ms() + WAIT_MS;
    lock_take(&w->m);
    while (*n < want && cond_wait_until(&w->changed, &w->m, until)) { }
    unsigned got = *n;
    lock_drop(&w->m);
    if (got < want)
        fail_msg("%u of %u", got, want);
}

static void set(struct world *w, enum verify_status says, bool is_held)
{
    lock_take(&w->m);
    w->says = says;
    w->is_held = is_held;
    cond_broadcast(&w->changed);
    lock_drop(&w->m);
}

static bool peek(struct world *w, const char *address, struct verify_result *r)
{
    return verifier_peek(w->v, params_of(w), span_cstr(address), r);
}

static unsigned probes(struct world *w)
{
    lock_take(&w->m);
    unsigned n = w->probes;
    lock_drop(&w->m);
    return n;
}

/* The callback of a waiter comes when the result is kept already. */
static void test_one_probe_for_many(void **state)
{
    (void)state;
    struct world *w = world_new(MEMORY);
    struct verify_result r;
    set(w, VERIFY_BOUNCE, true);
    for (int i = 0; i < 10; i++)
        ask(w, i % 2 ? "joe@Example.COM" : "joe@example.com", WAIT_MS);
    assert_false(peek(w, "joe@example.com", &r));
    set(w, VERIFY_BOUNCE, false);
    wait_for(w, &w->answers[VERIFY_BOUNCE], 10);
    assert_string_equal(w->last, "about joe@example.com");
    assert_int_equal(probes(w), 1);
    ask(w, "joe@EXAMPLE.com", WAIT_MS); /* at once, on this thread */
    assert_int_equal(w->answers[VERIFY_BOUNCE], 11);
    assert_false(peek(w, "Joe@example.com", &r)); /* local parts have case */
    world_free(w);
}

static void test_patience(void **state)
{
    (void)state;
    struct world *w = world_new(MEMORY);
    set(w, VERIFY_OK, true);
    ask(w, "a@b.example", 0);
    assert_int_equal(w->answers[VERIFY_TODO], 1);
    ask(w, "a@b.example", 50);
    wait_for(w, &w->answers[VERIFY_TODO], 2);
    assert_string_equal(w->last, "Address verification in progress");
    ask(w, "a@b.example", WAIT_MS);
    set(w, VERIFY_OK, false);
    wait_for(w, &w->answers[VERIFY_OK], 1);
    assert_int_equal(probes(w), 1);
    world_free(w);
}

static bool probing_cb(void *arg, const struct verify_item *i)
{
    bool *is_probing = arg;
    *is_probing |= i->is_probing;
    return true;
}

/* What a probe behind an answer found is kept a moment after it ended. */
static void wait_settled(struct world *w)
{
    bool is_probing = true;
    for (int k = 0; k < WAIT_MS && is_probing; k++) {
        is_probing = false;
        verifier_each(w->v, probing_cb, &is_probing);
        if (is_probing)
            usleep(1000);
    }
    assert_false(is_probing);
}

/* Ages are in whole seconds of the wall clock; each row moves it on. */
static void test_ages(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t after_s;
        enum verify_status probe;       /* what a probe would find now */
        enum verify_status want;
        unsigned probes;                /* all so far */
    } rows[] = {
        { "first", 0, VERIFY_OK, VERIFY_OK, 1 },
        { "young", 50, VERIFY_BOUNCE, VERIFY_OK, 1 },
        { "to be refreshed: still good", 100, VERIFY_BOUNCE, VERIFY_OK, 2 },
        { "a failed refresh takes nothing away", 10, VERIFY_BOUNCE, VERIFY_OK, 3 },
        { "expired", 1000, VERIFY_BOUNCE, VERIFY_BOUNCE, 4 },
        { "a failure stays", 20, VERIFY_OK, VERIFY_BOUNCE, 4 },
        { "a failure is refreshed", 40, VERIFY_OK, VERIFY_BOUNCE, 5 },
        { "and was mended", 0, VERIFY_BOUNCE, VERIFY_OK, 5 },
    };
    struct world *w = world_new(MEMORY "address_verify_positive_refresh_time = 100s\naddress_verify_positive_expire_time = 1000s\n"
                                       "address_verify_negative_refresh_time = 50s\naddress_verify_negative_expire_time = 500s\n");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned before[4];
        clock_advance_for_test(0, rows[i].after_s * 1000000);
        set(w, rows[i].probe, false);
        lock_take(&w->m);
        memcpy(before, w->answers, sizeof before);
        lock_drop(&w->m);
        ask(w, "a@b.example", WAIT_MS);
        wait_for(w, &w->answers[rows[i].want], before[rows[i].want] + 1);
        wait_for(w, &w->probes, rows[i].probes);
        wait_settled(w);
        if (probes(w) != rows[i].probes)
            fail_msg("%s: %u probes", rows[i].name, probes(w));
    }
    world_free(w);
}

static void test_failures_not_kept(void **state)
{
    (void)state;
    struct world *w = world_new(MEMORY "address_verify_negative_cache = no\n");
    struct verify_result r;
    set(w, VERIFY_DEFER, false);
    ask(w, "a@b.example", WAIT_MS);
    wait_for(w, &w->answers[VERIFY_DEFER], 1);
    assert_false(peek(w, "a@b.example", &r));
    ask(w, "a@b.example", WAIT_MS);
    wait_for(w, &w->answers[VERIFY_DEFER], 2);
    assert_int_equal(probes(w), 2);
    world_free(w);
}

static void test_limits(void **state)
{
    (void)state;
    struct world *w = world_new(MEMORY "address_verify_pending_request_limit = 12\n");
    char address[64];
    set(w, VERIFY_OK, true);
    for (int i = 0; i < 10; i++) {
        snprintf(address, sizeof address, "u%d@slow.example", i);
        ask(w, address, WAIT_MS);
    }
    wait_for(w, &w->running, VERIFY_PER_DOMAIN);
    ask(w, "a@other.example", WAIT_MS); /* one domain does not hold up another */
    wait_for(w, &w->running, VERIFY_PER_DOMAIN + 1);
    for (int i = 0; i < 20; i++) {
        snprintf(address, sizeof address, "v%d@slow.example", i);
        ask(w, address, WAIT_MS);
    }
    wait_for(w, &w->answers[VERIFY_DEFER], 1);
    assert_true(limit_count(verifier_limit(w->v)) > 0);
    assert_string_equal(w->last, "Too many address verification requests");
    set(w, VERIFY_OK, false);
    wait_for(w, &w->answers[VERIFY_OK], 11);
    lock_take(&w->m);
    assert_true(w->running_max <= VERIFY_PER_DOMAIN + 1);
    lock_drop(&w->m);
    char longest[1200];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    unsigned before = w->answers[VERIFY_DEFER];
    ask(w, longest, WAIT_MS);
    assert_int_equal(w->answers[VERIFY_DEFER], before + 1);
    world_free(w);
}

/* Questions that come at once are probed at once, though a thread is idle that can take only one of them. */
static void test_slow_probe_holds_nobody_up(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        struct world *w = world_new(MEMORY);
        ask(w, "first@a.example", WAIT_MS);
        wait_for(w, &w->answers[VERIFY_OK], 1);
        usleep(50000); /* the thread becomes idle; if it is late the test shows less */
        set(w, VERIFY_OK, true);
        ask(w, "second@b.example", 3 * WAIT_MS);
        ask(w, "third@c.example", 3 * WAIT_MS);
        wait_for(w, &w->probes, 3);
        world_free(w);
    }
}

static void test_stop_answers_who_waits(void **state)
{
    (void)state;
    struct world *w = world_new(MEMORY);
    set(w, VERIFY_OK, true);
    ask(w, "a@b.example", 100000);
    wait_for(w, &w->running, 1);
    verifier_halt(w->v);
    wait_for(w, &w->answers[VERIFY_TODO], 1);
    ask(w, "c@d.example", 100000);
    assert_int_equal(w->answers[VERIFY_TODO], 2);
    ask(w, "a@b.example", 100000); /* its probe goes on, but nobody is told of it any more */
    assert_int_equal(w->answers[VERIFY_TODO], 3);
    assert_false(verifier_stop(w->v, clock_mono_ms() + 50)); /* a probe hangs */
    world_free(w);
}

static bool count_cb(void *arg, const struct verify_item *i)
{
    unsigned *n = arg;
    (*n)++;
    return i->address.n > 0;
}

struct listing {
    struct verifier *v;
    unsigned n;
    char first[64], last[64];
};

/* What changes while somebody lists: the list goes on. */
static bool list_cb(void *arg, const struct verify_item *i)
{
    struct listing *x = arg;
    snprintf(x->n++ == 0 ? x->first : x->last, sizeof x->last, "%.*s", SPAN_ARG(i->address));
    if (x->n == VERIFY_MANY / 2)
        (void)verifier_forget(x->v, SPAN_LIT("u3@d3.example"));
    return x->n < 3 * VERIFY_MANY;
}

/* More results than are looked at in one piece. */
static void test_many(void **state)
{
    (void)state;
    char dir[] = "/tmp/posthouse-verify-XXXXXX", address[64];
    assert_non_null(mkdtemp(dir));
    char *conf = xasprintf("address_verify_map = btree:%s/cache\n", dir), *path = xasprintf("%s/cache.sqlite", dir);
    struct world *w = world_new(conf);
    for (unsigned i = 0; i < VERIFY_MANY; i++) {
        snprintf(address, sizeof address, "u%u@d%u.example", i, i);
        ask(w, address, WAIT_MS);
        wait_for(w, &w->answers[VERIFY_OK], i + 1);
    }
    struct listing x = { .v = w->v };
    verifier_each(w->v, list_cb, &x);
    assert_int_equal(x.n, VERIFY_MANY - 1);
    assert_string_equal(x.first, address);
    assert_string_equal(x.last, "u0@d0.example");
    world_free(w);
    w = world_new(conf);
    verifier_load(w->v);
    x = (struct listing){ .v = w->v };
    verifier_each(w->v, list_cb, &x);
    assert_int_equal(x.n, VERIFY_MANY - 1); /* all were written */
    assert_int_equal(verifier_forget(w->v, SPAN_LIT("")), VERIFY_MANY - 1);
    world_free(w);
    w = world_new(conf);
    verifier_load(w->v);
    assert_int_equal(verifier_forget(w->v, SPAN_LIT("")), 0);
    world_free(w);
    unlink(path);
    rmdir(dir);
    free(conf);
    free(path);
}

static void test_file(void **state)
{
    (void)state;
    char dir[] = "/tmp/posthouse-verify-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *conf = xasprintf("address_verify_map = proxy:btree:%s/cache\n", dir), *path = xasprintf("%s/cache.sqlite", dir);
    struct verify_result r;
    unsigned n = 0;
    struct world *w = world_new(conf);
    set(w, VERIFY_BOUNCE, false);
    ask(w, "a@b.example", WAIT_MS);
    ask(w, "c@b.example", WAIT_MS);
    ask(w, "d@b.example", WAIT_MS);
    wait_for(w, &w->answers[VERIFY_BOUNCE], 3);
    assert_int_equal(verifier_forget(w->v, SPAN_LIT("c@B.example")), 1);
    assert_int_equal(verifier_forget(w->v, SPAN_LIT("c@b.example")), 0);
    world_free(w);
    assert_int_equal(access(path, F_OK), 0);
    w = world_new(conf);
    ask(w, "a@b.example", WAIT_MS); /* before the file was read */
    wait_for(w, &w->answers[VERIFY_BOUNCE], 1);
    assert_string_equal(w->last, "about a@b.example");
    assert_false(peek(w, "c@b.example", &r));
    assert_true(peek(w, "d@b.example", &r));
    assert_int_equal(probes(w), 0);
    verifier_each(w->v, count_cb, &n);
    assert_int_equal(n, 2);
    assert_int_equal(verifier_forget(w->v, SPAN_LIT("")), 2);
    world_free(w);
    w = world_new(conf);
    verifier_load(w->v);
    assert_false(peek(w, "d@b.example", &r));
    world_free(w);
    static const char *const tails[] = { "", "-wal", "-shm" };
    for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
        char *one = xasprintf("%s%s", path, tails[i]);
        unlink(one);
        free(one);
    }
    rmdir(dir);
    free(path);
    free(conf);
}

static void *hammer(void *arg)
{
    struct world *w = arg;
    char address[40];
    for (int i = 0; i < 300; i++) {
        snprintf(address, sizeof address, "u%d@d%d.example", i % 40, i % 7);
        ask(w, address, i % 3 ? WAIT_MS : 0);
        if (i % 50 == 0)
            (void)verifier_forget(w->v, span_cstr(address));
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    struct world *w = world_new(MEMORY);
    pthread_t t[4];
    set(w, VERIFY_OK, false);
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, hammer, w), 0);
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        pthread_join(t[i], NULL);
    int64_t until = clock_mono_ms() + WAIT_MS;
    lock_take(&w->m);
    while (w->answers[VERIFY_OK] + w->answers[VERIFY_TODO] < 1200 && cond_wait_until(&w->changed, &w->m, until)) { }
    unsigned all = w->answers[VERIFY_OK] + w->answers[VERIFY_TODO];
    lock_drop(&w->m);
    assert_int_equal(all, 1200); /* each question has its answer */
    world_free(w);
}

static void test_probe_sender(void **state)
{
    (void)state;
    static const struct {
        const char *conf;
        int64_t now_s;
        const char *want;
    } rows[] = {
        { "", 1000, "double-bounce@hub.example.com" },
        { "address_verify_sender = <>\naddress_verify_sender_ttl = 100s\n", 1000, "" },
        { "address_verify_sender =\n", 1000, "" },
        { "address_verify_sender = p@x.example\n", 1000, "p@x.example" },
        { "address_verify_sender = p@x.example\naddress_verify_sender_ttl = 100s\n", 1000, "pB@x.example" },
        { "address_verify_sender = p@x.example\naddress_verify_sender_ttl = 100s\n", 3099, "pZ@x.example" },
        { "address_verify_sender = p@x.example\naddress_verify_sender_ttl = 100s\n", 3100, "p10@x.example" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fixture *f = fixture_new(rows[i].conf);
        struct span got = verify_sender(conf_global(f->conf), rows[i].now_s, f->arena);
        if (!span_eq(got, span_cstr(rows[i].want)))
            fail_msg("row %zu: %.*s, not %s", i, SPAN_ARG(got), rows[i].want);
        fixture_free(&f);
    }
    struct fixture *f = fixture_new("address_verify_sender = p@x.example\naddress_verify_sender_ttl = 100s\n");
    const struct params *p = conf_global(f->conf);
    int64_t now = clock_wall_s();
    assert_true(verify_is_sender(p, verify_sender(p, now, f->arena)));
    assert_true(verify_is_sender(p, verify_sender(p, now - 100, f->arena)));
    assert_false(verify_is_sender(p, verify_sender(p, now - 300, f->arena)));
    assert_false(verify_is_sender(p, SPAN_LIT("p@x.example")));
    assert_false(verify_is_sender(p, SPAN_LIT("")));
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_probe_for_many), cmocka_unit_test(test_patience),     cmocka_unit_test(test_ages),
        cmocka_unit_test(test_failures_not_kept),  cmocka_unit_test(test_limits),       cmocka_unit_test(test_stop_answers_who_waits),
        cmocka_unit_test(test_many), cmocka_unit_test(test_file),               cmocka_unit_test(test_many_threads), cmocka_unit_test(test_probe_sender),
        cmocka_unit_test(test_slow_probe_holds_nobody_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Calls that are waited for no longer than a deadline; and host names whose look-up does not end. */
#include "unit.h"
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/bounded.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/endpoint.h"

#define PATIENCE_MS 30000

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_open;
static atomic_uint discarded, asked;

static void set_gate(bool open)
{
    pthread_mutex_lock(&gate);
    is_open = open;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&gate);
}

static void pass_gate(void)
{
    pthread_mutex_lock(&gate);
    while (!is_open)
        pthread_cond_wait(&changed, &gate);
    pthread_mutex_unlock(&gate);
}

/* The C library's, as far as this program is concerned. */
int getaddrinfo(const char *restrict name, const char *restrict service, const struct addrinfo *restrict hints, struct addrinfo **restrict out)
{
    (void)service;
    (void)hints;
    (void)out;
    atomic_fetch_add(&asked, 1);
    if (strcmp(name, "slow.example") == 0)
        pass_gate();
    return EAI_AGAIN;
}

static void run(void *job)
{
    pass_gate();
    *(int *)job += 1;
}

static void discard(void *job)
{
    free(job);
    atomic_fetch_add(&discarded, 1);
}

static void wait_for(const atomic_uint *n, unsigned want)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    struct timespec t = { .tv_nsec = 1000000 };
    while (atomic_load(n) < want && clock_mono_ms() < until_ms)
        nanosleep(&t, NULL);
    assert_int_equal(atomic_load(n), want);
}

static void in_time_and_late(void **state)
{
    (void)state;
    int *job = xcalloc(1, sizeof *job);
    set_gate(true);
    assert_int_equal(bounded_call("t", run, discard, job, clock_mono_ms() + PATIENCE_MS), BOUNDED_DONE);
    assert_int_equal(*job, 1);
    assert_int_equal(atomic_load(&discarded), 0);
    set_gate(false);
    assert_int_equal(bounded_call("t", run, discard, job, clock_mono_ms() + 20), BOUNDED_LATE);
    set_gate(true);
    wait_for(&discarded, 1);
}

static void slow_name(void **state)
{
    (void)state;
    struct endpoint p;
    struct err e = ERR_INIT;
    set_gate(false);
    assert_true(endpoint_parse(SPAN_LIT("inet:slow.example:99"), NULL, &p, &e));
    int64_t begin_ms = clock_mono_ms();
    assert_int_equal(endpoint_dial(&p, clock_mono_ms() + 50, &e), -1);
    assert_true(clock_mono_ms() - begin_ms < PATIENCE_MS);
    assert_int_equal(e.sys, ETIMEDOUT);
    assert_non_null(strstr(e.text, "slow.example"));
    set_gate(true);
    wait_for(&asked, 1);
    endpoint_free(&p);
    assert_true(endpoint_parse(SPAN_LIT("inet:none.example:99"), NULL, &p, &e));
    assert_int_equal(endpoint_dial(&p, clock_mono_ms() + PATIENCE_MS, &e), -1);
    assert_non_null(strstr(e.text, "none.example"));
    endpoint_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(in_time_and_late), cmocka_unit_test(slow_name) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

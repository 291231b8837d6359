#include "unit.h"

#include "queue/retry.h"

#define HOUR_US INT64_C(3600000000)

static void backoff(void **state UNUSED)
{
    static const struct {
        const char *name;
        struct retry_times t;
        int64_t age_ms, lo, hi;
    } cases[] = {
        { "young", { 300000, 4000000, 300000 }, 10, 300000, 315000 },
        { "as old as the wait", { 300000, 4000000, 300000 }, 1000000, 950000, 1050000 },
        { "old", { 300000, 4000000, 300000 }, 90000000, 3800000, 4000000 },
        { "fixed", { 60000, 60000, 1000 }, 5000000, 60000, 60000 },
        { "queue_run_delay is a lower bound", { 60000, 120000, 3600000 }, 5, 3600000, 3600000 },
        { "age from the future", { 300000, 4000000, 300000 }, -5, 300000, 315000 },
    };
    uint64_t rng = 42;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t first = 0;
        bool varies = false;
        for (int k = 0; k < 200; k++) {
            int64_t w = retry_backoff_ms(&cases[i].t, cases[i].age_ms, &rng);
            if (w < cases[i].lo || w > cases[i].hi)
                fail_msg("%s: %lld", cases[i].name, (long long)w);
            varies |= k > 0 && w != first;
            first = w;
        }
        if (varies != (cases[i].lo != cases[i].hi))
            fail_msg("%s: jitter", cases[i].name);
    }
}

static void lifetime(void **state UNUSED)
{
    assert_true(retry_is_over(0, 0));
    assert_false(retry_is_over(999, 1));
    assert_true(retry_is_over(1000, 1));
    assert_false(retry_is_over(5 * 24 * HOUR_US - 1, INT64_C(432000000)));
}

static void jumps(void **state UNUSED)
{
    struct wall_watch w = { 0 };
    int64_t t0 = INT64_C(1000000) * 1000;
    assert_int_equal(wall_watch_note(&w, t0, 0), 0);
    assert_int_equal(wall_watch_note(&w, t0 + 10 * 1000000, 10000), 0);
    assert_int_equal(wall_watch_note(&w, t0 + 15 * 1000000, 20000), 0); /* slewed, not set */
    int64_t age = wall_watch_age_us(&w, t0, t0 + 20 * 1000000);
    assert_int_equal(age, 20 * 1000000);
    /* Set forward by 100 hours: what arrived before is not older for it, what arrives after has its own age. */
    int64_t after = t0 + 20 * 1000000 + 100 * HOUR_US;
    assert_true(wall_watch_note(&w, after, 25000) > 99 * HOUR_US);
    assert_in_range(wall_watch_age_us(&w, t0, after), 0, 60 * 1000000);
    assert_int_equal(wall_watch_age_us(&w, after, after + HOUR_US), HOUR_US);
    /* Set back: no negative age. */
    assert_true(wall_watch_note(&w, t0, 26000) < 0);
    assert_int_equal(wall_watch_age_us(&w, after, t0), 1000000);
    assert_int_equal(wall_watch_age_us(&w, after + HOUR_US, t0), 0);
    /* And forward again: what arrived before both has not grown older. */
    assert_true(wall_watch_note(&w, after + 50 * HOUR_US, 27000) > 0);
    assert_in_range(wall_watch_age_us(&w, t0 - HOUR_US, after + 50 * HOUR_US), HOUR_US, HOUR_US + 60 * 1000000);
    assert_in_range(wall_watch_age_us(&w, after, after + 50 * HOUR_US), 0, 60 * 1000000);
    assert_in_range(wall_watch_age_us(&w, t0 + 10 * 1000000, after + 50 * HOUR_US), 0, 60 * 1000000);
    for (int i = 0; i < 3 * WALL_JUMPS_MAX; i++) {
        assert_true(wall_watch_note(&w, after + (51 + i) * HOUR_US, 27001 + i) > 0);
        assert_true(w.n <= WALL_JUMPS_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backoff),
        cmocka_unit_test(lifetime),
        cmocka_unit_test(jumps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

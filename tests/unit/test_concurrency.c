#include "unit.h"

#include "queue/concurrency.h"

static void forms(void **state UNUSED)
{
    static const struct {
        const char *text;
        bool ok;
        double at_1, at_4, at_16;
    } cases[] = {
        { "1", true, 1, 1, 1 },
        { "0.5", true, .5, .5, .5 },
        { " 1/concurrency ", true, 1, .25, .0625 },
        { "0.5 / concurrency", true, .5, .125, .03125 },
        { "1/sqrt_concurrency", true, 1, .5, .25 },
        { "1/5", true, .2, .2, .2 },
        { "3/2", true, 1, 1, 1 }, /* cut to the range */
        { "0", true, 0, 0, 0 },
        { "", false, 0, 0, 0 },
        { "1/", false, 0, 0, 0 },
        { "-1", false, 0, 0, 0 },
        { "1/0", false, 0, 0, 0 },
        { "1/window", false, 0, 0, 0 },
        { "1..5", false, 0, 0, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct feedback f;
        if (feedback_parse(cases[i].text, &f) != cases[i].ok)
            fail_msg("'%s'", cases[i].text);
        if (!cases[i].ok)
            continue;
        assert_float_equal(feedback_value(&f, 1), cases[i].at_1, 1e-9);
        assert_float_equal(feedback_value(&f, 4), cases[i].at_4, 1e-9);
        assert_float_equal(feedback_value(&f, 16), cases[i].at_16, 1e-9);
    }
}

static struct window_limits limits(const char *pos, const char *neg, uint32_t max, double cohorts)
{
    struct window_limits l = { .initial = 5, .max = max, .failed_cohort_limit = cohorts };
    assert_true(feedback_parse(pos, &l.positive));
    assert_true(feedback_parse(neg, &l.negative));
    return l;
}

/* Successes needed to grow from 5 to `to` while all slots are busy. */
static unsigned successes_to(struct window_limits *l, uint32_t to)
{
    struct window w;
    unsigned n = 0;
    window_init(&w, l);
    while (w.size < to && n < 100000) {
        window_success(&w, l, w.size);
        n++;
    }
    return n;
}

static void growth(void **state UNUSED)
{
    struct window_limits one = limits("1", "1", 20, 1), each = limits("1/concurrency", "1", 20, 1), fifth = limits("1/5", "1", 20, 1);
    assert_int_equal(successes_to(&one, 20), 15);
    assert_int_equal(successes_to(&fifth, 20), 15 * 5);
    /* A full window of successes for each step. */
    unsigned n = successes_to(&each, 20);
    assert_in_range(n, 5 + 6 + 7 + 8 + 9 + 10 + 11 + 12 + 13 + 14 + 15 + 16 + 17 + 18 + 19 - 20, 200);
    struct window w;
    window_init(&w, &one);
    for (int i = 0; i < 100; i++)
        window_success(&w, &one, 20);
    assert_int_equal(w.size, 20);
    window_init(&w, &one);
    for (int i = 0; i < 100; i++)
        window_success(&w, &one, 1);
    assert_int_equal(w.size, 6); /* within reach of what is used */
}

static void shrinking(void **state UNUSED)
{
    struct window_limits one = limits("1", "1", 20, 0), each = limits("1", "1/concurrency", 20, 0);
    struct window w;
    window_init(&w, &one);
    w.size = 10;
    for (int i = 0; i < 3; i++)
        assert_false(window_failure(&w, &one));
    assert_int_equal(w.size, 7);
    for (int i = 0; i < 30; i++)
        assert_false(window_failure(&w, &one));
    assert_int_equal(w.size, 1);
    /* The first failure takes effect at once, the next nine not. */
    window_init(&w, &each);
    w.size = 10;
    assert_false(window_failure(&w, &each));
    assert_int_equal(w.size, 9);
    for (int i = 0; i < 7; i++)
        assert_false(window_failure(&w, &each));
    assert_int_equal(w.size, 9);
    for (int i = 0; i < 3; i++)
        assert_false(window_failure(&w, &each));
    assert_int_equal(w.size, 8);
}

static void death(void **state UNUSED)
{
    struct window_limits l = limits("1", "0", 20, 1), two = limits("1", "0", 20, 2), never = limits("1", "0", 20, 0);
    struct window w;
    window_init(&w, &l);
    for (int i = 0; i < 4; i++)
        assert_false(window_failure(&w, &l)); /* five at once are a cohort */
    assert_true(window_failure(&w, &l));
    assert_true(w.is_dead);
    assert_false(window_failure(&w, &l));
    window_success(&w, &l, 2);
    assert_false(w.is_dead);
    assert_int_equal(w.size, 2);
    window_init(&w, &two);
    for (int i = 0; i < 9; i++)
        assert_false(window_failure(&w, &two));
    assert_true(window_failure(&w, &two));
    window_revive(&w, &two);
    assert_false(w.is_dead);
    assert_int_equal(w.size, 5);
    /* A success in between forgets the failures. */
    for (int i = 0; i < 9; i++)
        assert_false(window_failure(&w, &two));
    window_success(&w, &two, 1);
    assert_false(window_failure(&w, &two));
    window_init(&w, &never);
    for (int i = 0; i < 1000; i++)
        assert_false(window_failure(&w, &never));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),
        cmocka_unit_test(growth),
        cmocka_unit_test(shrinking),
        cmocka_unit_test(death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* queue IDs: both forms, order, uniqueness */
#include "tests/unit/unit.h"

#include "common/base/attrs.h"
#include "common/base/clock.h"
#include "queue/qid.h"

static void both_forms_come_back(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t id;
        const char *short_form, *long_form;
    } cases[] = {
        { "a day in 2023", UINT64_C(1700000000123456), "60A2418202240", NULL },
        { "one", 1, "1", "0000000001z0" },
        { "microseconds 999999", UINT64_C(1999999), "1E847F", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char s[QID_TEXT_MAX], l[QID_TEXT_MAX];
        uint64_t a = 0, b = 0;
        size_t sn = qid_format(cases[i].id, false, s), ln = qid_format(cases[i].id, true, l);
        if (sn != strlen(s) || ln != strlen(l) || strcmp(s, cases[i].short_form) != 0)
            fail_msg("%s: short form %s", cases[i].name, s);
        if (cases[i].id == 1 && strcmp(l, cases[i].long_form) != 0)
            fail_msg("%s: long form %s", cases[i].name, l);
        if (!qid_parse(span_of(s, sn), &a) || a != cases[i].id)
            fail_msg("%s: %s does not come back", cases[i].name, s);
        if (!qid_parse(span_of(l, ln), &b) || b != cases[i].id)
            fail_msg("%s: %s does not come back", cases[i].name, l);
    }
}

static void long_form_sorts_by_time(void **state)
{
    (void)state;
    char before[QID_TEXT_MAX] = "", now[QID_TEXT_MAX];
    for (uint64_t id = UINT64_C(1700000000000000); id < UINT64_C(1900000000000000); id += UINT64_C(777777777777)) {
        qid_format(id, true, now);
        if (strcmp(before, now) >= 0)
            fail_msg("%s is not before %s", before, now);
        memcpy(before, now, sizeof now);
    }
}

static void what_is_no_id_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "", "0", "xyz", "3cf6b2aae8", "3CF6B2AAEG", "-5", "3CF6 ", "ALL",
                                       "4cYXdr0LPtQz", "4cYXdr0LPtQz1", "zzzzzzzzzzzzzzzzzzzzz0", "4cYXdaaaaaz0",
                                       "11112222333344445", "../3CF6B2", "00000000001z0" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint64_t id;
        if (qid_parse(span_cstr(bad[i]), &id))
            fail_msg("\"%s\" was taken", bad[i]);
    }
}

static void numbers_rise_even_within_a_microsecond(void **state)
{
    (void)state;
    struct qid_source s = { 0 };
    uint64_t last = 0;
    for (int i = 0; i < 10000; i++) {
        uint64_t id = qid_new(&s);
        assert_true(id > last);
        last = id;
    }
    qid_seen(&s, last + 5000000);
    assert_true(qid_new(&s) == last + 5000001);
    qid_seen(&s, 1);
    assert_true(qid_new(&s) == last + 5000002);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_come_back),
        cmocka_unit_test(long_form_sorts_by_time),
        cmocka_unit_test(what_is_no_id_is_refused),
        cmocka_unit_test(numbers_rise_even_within_a_microsecond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

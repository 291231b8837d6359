#include "tests/unit/unit.h"
#include "common/mail/xtext.h"

static void test_encode(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    xtext_encode(&b, span_of("a+b=c d\0\xff", 9));
    assert_string_equal(buf_cstr(&b), "a+2Bb+3Dc+20d+00+FF");
    buf_free(&b);
}

static void test_decode(void **state)
{
    (void)state;
    static const struct { const char *in, *out; bool utf8; } cases[] = {
        { "a+2Bb+3Dc", "a+b=c", false }, { "a+2bb", "a+b", false }, { "", "", false }, { "a+2", NULL, false },
        { "a+", NULL, false }, { "a+G0", NULL, false }, { "a=b", "a=b", false }, { "a b", NULL, false },
        { "\xc3\xb6", NULL, false }, { "\xc3\xb6", "\xc3\xb6", true }, { "a\x7f", NULL, false },
    };
    struct arena *a = arena_new(0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span out;
        bool ok = xtext_decode(span_cstr(cases[i].in), cases[i].utf8, a, &out);
        assert_int_equal(ok, cases[i].out != NULL);
        if (ok)
            assert_true(span_eq(out, span_cstr(cases[i].out)));
    }
    arena_free(&a);
}

static void test_unitext(void **state)
{
    (void)state;
    static const struct { const char *in, *out; } cases[] = {
        { "j\\x{F6}e", "j\xc3\xb6" "e" }, { "\\x{20AC}", "\xe2\x82\xac" }, { "\\x{1F600}", "\xf0\x9f\x98\x80" },
        { "\\x{5C}", "\\" }, { "\\x{61}", NULL }, { "\\x{D800}", NULL }, { "\\x{110000}", NULL }, { "\\x{}", NULL },
        { "\\x{F6", NULL }, { "\\y", NULL }, { "\\", NULL }, { "plain", "plain" }, { "\\x{7}", NULL },
    };
    struct arena *a = arena_new(0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span out;
        bool ok = xtext_decode_unitext(span_cstr(cases[i].in), a, &out);
        assert_int_equal(ok, cases[i].out != NULL);
        if (ok)
            assert_true(span_eq(out, span_cstr(cases[i].out)));
    }
    struct buf b = BUF_INIT(0);
    xtext_encode_unitext(&b, SPAN_LIT("j\xc3\xb6\\+ \xe2\x82\xac\xf0\x9f\x98\x80"));
    assert_string_equal(buf_cstr(&b), "j\\x{F6}\\x{5C}\\x{2B}\\x{20}\\x{20AC}\\x{1F600}");
    buf_free(&b);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode), cmocka_unit_test(test_decode), cmocka_unit_test(test_unitext),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

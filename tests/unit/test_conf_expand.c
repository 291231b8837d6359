/* Value expansion: each form of postconf(5); results as Postfix 3.7 gives them, but for domain_to_ascii (newer). */
#include "tests/unit/unit.h"
#include "common/base/mem.h"
#include "common/conf/expand.h"

struct definition {
    const char *name, *text;
};

static const struct definition definitions[] = {
    { "empty", "" },       { "indirect", "$empty" }, { "dom", "example.org" }, { "host", "mail.$dom" },
    { "loop", "$pool" },   { "pool", "${loop}" },    { "twice", "$host $host" },
    { "level", "3.6" },    { "dollar", "a$$b" },     { "idn", "b\xc3\xbc" "cher.example" },
    { "b0", "$b1$b1" },    { "b1", "$b2$b2$b2$b2" }, { "b2", "$b3$b3$b3$b3$b3$b3$b3$b3" },
    { "b3", "$b4$b4$b4$b4$b4$b4$b4$b4$b4$b4" }, { "b4", "$b5$b5$b5$b5$b5$b5$b5$b5$b5$b5" },
    { "b5", "${b6}${b6}${b6}${b6}${b6}${b6}${b6}${b6}${b6}${b6}" }, { "b6", "$empty$empty" },
};

static const char *lookup(void *arg, struct span name)
{
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(definitions); i++) {
        if (span_eq(name, span_cstr(definitions[i].name)))
            return definitions[i].text;
    }
    return NULL;
}

struct good_case {
    const char *text, *want;
};

static const struct good_case good[] = {
    { "", "" },
    { "plain text", "plain text" },
    { "$dom", "example.org" },
    { "${dom}", "example.org" },
    { "$(dom)", "example.org" },
    { "${ dom }", "example.org" },
    { "$dom.x", "example.org.x" },
    { "a${dom}b", "aexample.orgb" },
    { "$host", "mail.example.org" },
    { "$twice", "mail.example.org mail.example.org" },
    { "$nobody|${nobody}|", "||" },
    { "$$", "$" },
    { "$$dom", "$dom" },
    { "$dollar", "a$b" },
    { "x}", "x}" },
    { "${empty}}", "}" },
    /* ? and : */
    { "${dom?x}", "x" },
    { "${empty?x}|", "|" },
    { "${nobody?x}|", "|" },
    { "${empty:x}", "x" },
    { "${dom:x}|", "|" },
    { "${dom?{x}}", "x" },
    { "${dom?{x}:{y}}", "x" },
    { "${empty?{x}:{y}}", "y" },
    { "${ empty ? { x } : { y } }!", " y !" },
    { "${empty?{x}: y z}", "y z" },
    { "${dom?{a}:}", "a" },
    { "${empty?{a}:}|", "|" },
    { "${dom?}|", "|" },
    { "${empty:}|", "|" },
    { "$(empty?x)|$(dom?x)", "|x" },
    { "${dom?a:b}", "a:b" },
    { "${dom?{${empty?{x}:{deep $dom}}}}", "deep example.org" },
    { "${dom?a}b}", "ab}" },
    /* the condition looks at the text, not at its expansion */
    { "${indirect?x}", "x" },
    { "${stress?{10}:{300}}s", "300s" },
    /* comparisons */
    { "${{1} == {1}}", "true" },
    { "${{1} == {2}}|", "|" },
    { "${{1}=={1}?yes}", "yes" },
    { "${{1} != {1}:{no}}", "no" },
    { "${{ 1 } == {1} ? {t} : {f}}", "f" },
    { "${{abc} < {abd} ? {t} : {f}}", "t" },
    { "${{abc} < {abd} ? t : f}", "t : f" },
    { "${{10} > {9} ? {t} : {f}}", "t" },
    { "${{10} >= {10} ? {t} : {f}}", "t" },
    { "${{9} <= {10} ? {t} : {f}}", "t" },
    { "${{x10} > {x9} ? {t} : {f}}", "f" },
    { "${{010} == {10} ? {t} : {f}}", "t" },
    { "${{99999999999999999999999} > {1} ? {t} : {f}}", "t" },
    { "${{3.6} <= {3.11} ? {t} : {f}}", "f" },
    { "${{3.6} <level {3.11} ? {t} : {f}}", "t" },
    { "${{$level} >=level {3.6} ? {t} : {f}}", "t" },
    { "${{2} <level {2.0.1} ? {t} : {f}}", "t" },
    { "${{$dom} == {example.org}?{e}:{n}}", "e" },
    { "${{$empty} == {}?{e}:{n}}", "e" },
    /* functions */
    { "${domain_to_ascii{$idn}}", "xn--bcher-kva.example" },
    { "${domain_to_ascii{example.com}}", "example.com" },
    { "${domain_to_ascii{}}|", "|" },
};

struct bad_case {
    const char *text, *complaint;
};

static const struct bad_case bad[] = {
    { "$", "name expected behind $" },
    { "a $ b", "name expected behind $" },
    { "$-", "name expected behind $" },
    { "${", "missing }" },
    { "$(dom", "missing )" },
    { "${}", "name expected in" },
    { "${a-b}", "? or : expected" },
    { "${dom?{x}", "missing }" },
    { "${{1} = {2}?x}", "one of ==" },
    { "${{1}?x}", "one of ==" },
    { "${{1} ==?x}", "{value} expected" },
    { "${{1} == {1}junk?e}", "? or : expected" },
    { "${dom?{x}junk}", "unexpected" },
    { "${empty:{x}:{y}}", "unexpected" },
    { "${dom?{x}:{y}z}", "unexpected text" },
    { "${dom{x}}", "? or : expected" },
    { "${{abc} <level {3}?x}", "not a compatibility level" },
    { "${{3..6} <level {x}?x}", "not a compatibility level" },
    { "${domain_to_ascii{x}y}", "bad function call" },
    { "$loop", "refers to itself" },
    { "$b0", "more than 10000 references" },
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct buf out = BUF_INIT(0);
        struct err e = ERR_INIT;
        if (!expand_text(span_cstr(good[i].text), lookup, NULL, &out, &e))
            fail_msg("%s: %s", good[i].text, e.text);
        if (strcmp(buf_cstr(&out), good[i].want) != 0)
            fail_msg("%s: \"%s\", expected \"%s\"", good[i].text, buf_cstr(&out), good[i].want);
        buf_free(&out);
    }
}

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf out = BUF_INIT(0);
        struct err e = ERR_INIT;
        if (expand_text(span_cstr(bad[i].text), lookup, NULL, &out, &e))
            fail_msg("%s: accepted as \"%s\"", bad[i].text, buf_cstr(&out));
        if (strstr(e.text, bad[i].complaint) == NULL)
            fail_msg("%s: \"%s\", expected \"%s\"", bad[i].text, e.text, bad[i].complaint);
        buf_free(&out);
    }
}

/* Braces cost no stack beyond the limit, however long the text. */
static void test_deep_nesting(void **state)
{
    (void)state;
    struct buf text = BUF_INIT(0), out = BUF_INIT(0);
    struct err e = ERR_INIT;
    for (int i = 0; i < 100000; i++)
        buf_puts(&text, "${dom?{");
    for (int i = 0; i < 100000; i++)
        buf_puts(&text, "}}");
    assert_false(expand_text(buf_span(&text), lookup, NULL, &out, &e));
    assert_non_null(strstr(e.text, "nested more than"));
    buf_free(&text);
    buf_free(&out);
}

static void test_result_is_bounded(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(100);
    struct err e = ERR_INIT;
    assert_false(expand_text(SPAN_LIT("$twice $twice $twice $twice $twice"), lookup, NULL, &out, &e));
    assert_non_null(strstr(e.text, "expands to more"));
    buf_free(&out);
}

static void append_name_cb(void *arg, struct span name)
{
    struct buf *b = arg;
    buf_add_span(b, name);
    buf_putc(b, ' ');
}

static void test_names(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    expand_names(SPAN_LIT("$a ${b?{$c}:{$(d)}} $$no ${{$e} == {x}?f} $"), append_name_cb, &b);
    assert_string_equal(buf_cstr(&b), "a b c d e ");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),          cmocka_unit_test(test_bad),   cmocka_unit_test(test_deep_nesting),
        cmocka_unit_test(test_result_is_bounded), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

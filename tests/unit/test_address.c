#include "tests/unit/unit.h"
#include "common/mail/address.h"

struct parse_case {
    const char *name, *in;
    unsigned flags;
    enum addr_status st;
    const char *text, *domain;
};

#define L63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"

static const struct parse_case parse_cases[] = {
    { "plain", "<joe@example.com>", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "strict", "<joe@example.com>", ADDR_STRICT, ADDR_OK, "joe@example.com", "example.com" },
    { "null", "<>", 0, ADDR_OK, "", "" },
    { "strict null", "<>", ADDR_STRICT, ADDR_OK, "", "" },
    { "local only", "<postmaster>", 0, ADDR_OK, "postmaster", "" },
    { "no brackets", "joe@example.com", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "no brackets strict", "joe@example.com", ADDR_STRICT, ADDR_SYNTAX, NULL, NULL },
    { "source route", "<@a.example,@b.example:joe@c.example>", 0, ADDR_OK, "joe@c.example", "c.example" },
    { "strict source route", "<@a.example:joe@c.example>", ADDR_STRICT, ADDR_OK, "joe@c.example", "c.example" },
    { "route with literal", "<@[IPv6:::1]:joe@c.example>", 0, ADDR_OK, "joe@c.example", "c.example" },
    { "quoted", "<\"joe user\"@example.com>", 0, ADDR_OK, "joe user@example.com", "example.com" },
    { "quoted strict", "<\"joe user\"@example.com>", ADDR_STRICT, ADDR_OK, "joe user@example.com", "example.com" },
    { "quoted pair", "<\"a\\\"b\"@example.com>", 0, ADDR_OK, "a\"b@example.com", "example.com" },
    { "quoted at", "<\"a@b\"@example.com>", 0, ADDR_OK, "a@b@example.com", "example.com" },
    { "quoted at without domain", "<\"a@b.example\">", 0, ADDR_OK, "a@b.example", "b.example" },
    { "backslash", "<a\\ b@example.com>", 0, ADDR_OK, "a b@example.com", "example.com" },
    { "backslash in the domain", "<a@b\\.c>", ADDR_ANY_DOMAIN, ADDR_SYNTAX, NULL, NULL },
    { "needless quotes", "<\"joe\"@example.com>", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "unclosed quote", "<\"joe@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "trailing backslash", "<joe\\", 0, ADDR_SYNTAX, NULL, NULL },
    { "two ats", "<a@b@example.com>", 0, ADDR_OK, "a@b@example.com", "example.com" },
    { "two ats strict", "<a@b@example.com>", ADDR_STRICT, ADDR_OK, "a@b@example.com", "example.com" },
    { "no local", "<@example.com>", 0, ADDR_OK, "@example.com", "example.com" },
    { "no local strict", "<@example.com>", ADDR_STRICT, ADDR_SYNTAX, NULL, NULL },
    { "nothing but an at", "<@>", 0, ADDR_SYNTAX, NULL, NULL },
    { "no domain", "<joe@>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "unclosed angle", "<joe@example.com", 0, ADDR_SYNTAX, NULL, NULL },
    { "stray angle", "joe@example.com>", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "stray angle strict", "joe@example.com>", ADDR_STRICT, ADDR_SYNTAX, NULL, NULL },
    { "stray comma", "joe@example.com,", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "behind angle", "<joe@example.com>x", 0, ADDR_SYNTAX, NULL, NULL },
    { "double angle", "<<joe@example.com>>", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "double angle on one side", "<<joe@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "two addresses", "<a@b.c><d@e.f>", 0, ADDR_SYNTAX, NULL, NULL },
    { "list", "<a@b.c,d@e.f>", 0, ADDR_SYNTAX, NULL, NULL },
    { "phrase", "Joe Q. User <joe@example.com> (work)", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "phrase strict", "Joe<joe@example.com>", ADDR_STRICT, ADDR_SYNTAX, NULL, NULL },
    { "quoted phrase", "\"User, Joe\" <joe@example.com>", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "comment", "<joe(x (y))@example.com>", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "comment strict", "<joe(x)@example.com>", ADDR_STRICT, ADDR_SYNTAX, NULL, NULL },
    { "open comment", "joe@example.com (x", 0, ADDR_SYNTAX, NULL, NULL },
    { "space inside", "< joe @ example.com >", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "space inside strict", "< joe@example.com>", ADDR_STRICT, ADDR_OK, "joe@example.com", "example.com" },
    { "space outside strict", " <joe@example.com>", ADDR_STRICT, ADDR_SYNTAX, NULL, NULL },
    { "quotes behind a word", "<joe\"x\"@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "quotes before a word", "<\"joe\"x@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "quotes between dots", "<joe.\"x\".y@example.com>", 0, ADDR_OK, "joe.x.y@example.com", "example.com" },
    { "quotes in a phrase", "\"Joe\"s <joe@example.com>", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "two words", "<joe user@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "trailing dot", "<joe@example.com.>", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "two trailing dots", "<joe@example.com..>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "leading dot local", "<.joe@example.com>", 0, ADDR_OK, ".joe@example.com", "example.com" },
    { "double dot local", "<a..b@example.com>", 0, ADDR_OK, "a..b@example.com", "example.com" },
    { "numeric domain", "<u@12345>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "numeric domain allowed", "<u@12345>", ADDR_NUMERIC_DOMAIN, ADDR_OK, "u@12345", "12345" },
    { "bare ip domain", "<u@1.2.3.4>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "empty label", "<u@x..y>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "leading dot domain", "<u@.x>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "leading hyphen", "<u@-x.example>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "trailing hyphen", "<u@x-.example>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "underscore", "<u@a_b.example>", 0, ADDR_OK, "u@a_b.example", "a_b.example" },
    { "label 63", "<u@" L63 ".example>", 0, ADDR_OK, "u@" L63 ".example", L63 ".example" },
    { "label 64", "<u@" L63 "x.example>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "domain too long", "<u@" L63 "." L63 "." L63 "." L63 ".example>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "bad domain ignored", "<u@x..y>", ADDR_ANY_DOMAIN, ADDR_OK, "u@x..y", "x..y" },
    { "literal", "<u@[127.0.0.1]>", 0, ADDR_OK, "u@[127.0.0.1]", "[127.0.0.1]" },
    { "literal v6", "<u@[IPv6:::1]>", 0, ADDR_OK, "u@[IPv6:::1]", "[IPv6:::1]" },
    { "bad literal", "<u@[1.2.3]>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "literal open", "<u@[1.2.3.4>", 0, ADDR_SYNTAX, NULL, NULL },
    { "literal and more", "<u@[1.2.3.4]x>", 0, ADDR_BAD_DOMAIN, NULL, NULL },
    { "literal as local", "<[1.2.3.4]@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "8-bit local", "<j\xc3\xb6@example.com>", 0, ADDR_NOT_ASCII, NULL, NULL },
    { "utf8 local", "<j\xc3\xb6@example.com>", ADDR_UTF8, ADDR_OK, "j\xc3\xb6@example.com", "example.com" },
    { "latin1 as utf8", "<j\xf6@example.com>", ADDR_UTF8, ADDR_NOT_ASCII, NULL, NULL },
    { "latin1 allowed", "<j\xf6@example.com>", ADDR_ANY_8BIT, ADDR_OK, "j\xf6@example.com", "example.com" },
    { "8-bit domain", "<j@ex\xc3\xa4mple.com>", ADDR_ANY_8BIT, ADDR_NOT_ASCII, NULL, NULL },
    { "utf8 domain", "<j@ex\xc3\xa4mple.com>", ADDR_UTF8, ADDR_OK, "j@ex\xc3\xa4mple.com", "ex\xc3\xa4mple.com" },
    { "utf8 domain bad", "<j@ex\xe2\x80\xaemple.com>", ADDR_UTF8, ADDR_BAD_DOMAIN, NULL, NULL },
    { "control byte", "<j\x01@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "control byte in quotes", "<\"j\x1b[2J\"@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "CR in quotes", "<\"a\rb\"@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "quoted LF in quotes", "<\"a\\\nRCPT TO:\"@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "tab in quotes", "<\"a\tb\"@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "quoted DEL", "<a\\\177@example.com>", 0, ADDR_SYNTAX, NULL, NULL },
    { "tab in a phrase", "\"Joe\tUser\" (\x01) <joe@example.com>", 0, ADDR_OK, "joe@example.com", "example.com" },
    { "colon", "<a:b@example.com>", 0, ADDR_OK, "a:b@example.com", "example.com" },
    { "colon in the domain", "<a@b:c>", 0, ADDR_SYNTAX, NULL, NULL },
    { "percent and bang", "<a%b!c@example.com>", 0, ADDR_OK, "a%b!c@example.com", "example.com" },
};

static void test_parse(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    int bad = 0;
    for (size_t i = 0; i < ARRAY_LEN(parse_cases); i++) {
        const struct parse_case *c = &parse_cases[i];
        struct addr r = { 0 };
        enum addr_status st = addr_parse(span_cstr(c->in), c->flags, a, &r);
        bool ok = st == c->st;
        if (ok && st == ADDR_OK)
            ok = span_eq(r.text, span_cstr(c->text)) && span_eq(r.domain, span_cstr(c->domain));
        if (!ok)
            print_error("%s: status %d, text '%.*s', domain '%.*s'\n", c->name, st, SPAN_ARG(r.text), SPAN_ARG(r.domain)), bad++;
        arena_reset(a);
    }
    arena_free(&a);
    assert_int_equal(bad, 0);
}

/* A NUL is not an address byte, wherever it stands, and does not end the text. */
static void test_nul(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    struct addr r;
    assert_int_equal(addr_parse(span_of("<a\0b@c.d>", 9), 0, a, &r), ADDR_SYNTAX);
    assert_int_equal(addr_parse(span_of("<a@c.d\0>", 8), 0, a, &r), ADDR_SYNTAX);
    assert_int_equal(addr_parse(span_of("<\"a\0b\"@c.d>", 11), 0, a, &r), ADDR_SYNTAX);
    arena_free(&a);
}

static void test_too_long(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    struct addr r;
    char text[3000];
    memset(text, 'a', sizeof text);
    assert_int_equal(addr_parse(span_of(text, sizeof text), 0, a, &r), ADDR_TOO_LONG);
    assert_int_equal(addr_parse(span_of(text, ADDR_MAX + 1), 0, a, &r), ADDR_TOO_LONG);
    assert_int_equal(addr_parse(span_of(text, ADDR_MAX), 0, a, &r), ADDR_OK);
    arena_free(&a);
}

static void test_unquoted(void **state)
{
    (void)state;
    static const struct { const char *in, *want; } cases[] = {
        { "\"joe user\"@example.com", "joe user@example.com" }, { "\"q\\\"x\\\\\"@d", "q\"x\\@d" }, { "\"a@b\"@d", "a@b@d" },
        { "\"\"@d", "@d" }, { "joe@example.com", "joe@example.com" }, { "", "" }, { "\"", "\"" }, { "\"open@d", "\"open@d" },
        { "\"x\"", "\"x\"" }, { "\"x\" @d", "\"x\" @d" }, { "\"x\\", "\"x\\" }, { "\"a\"@", "a@" }, { "\"*\"@*", "*@*" },
    };
    struct arena *a = arena_new(0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span s = addr_unquoted(a, span_cstr(cases[i].in));
        if (!span_eq(s, span_cstr(cases[i].want)))
            fail_msg("%s: %.*s, expected %s", cases[i].in, SPAN_ARG(s), cases[i].want);
    }
    arena_free(&a);
}

static void test_quote(void **state)
{
    (void)state;
    static const struct { const char *in, *out; } cases[] = {
        { "", "" }, { "joe", "joe" }, { "joe@example.com", "joe@example.com" },
        { "joe user@example.com", "\"joe user\"@example.com" }, { "a@b@c.d", "\"a@b\"@c.d" },
        { "a\"b\\c@d.e", "\"a\\\"b\\\\c\"@d.e" }, { ".a@b.c", "\".a\"@b.c" }, { "a.@b.c", "\"a.\"@b.c" },
        { "a..b@c.d", "\"a..b\"@c.d" }, { "a(b@c.d", "\"a(b\"@c.d" }, { "@c.d", "\"\"@c.d" },
        { "j\xc3\xb6@c.d", "j\xc3\xb6@c.d" }, { "a%b!c+d=e/f@g.h", "a%b!c+d=e/f@g.h" },
    };
    struct arena *a = arena_new(0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = BUF_INIT(0);
        addr_quote(&b, span_cstr(cases[i].in));
        assert_string_equal(buf_cstr(&b), cases[i].out);
        struct span s = addr_quoted(a, span_cstr(cases[i].in));
        assert_true(span_eq(s, span_cstr(cases[i].out)));
        struct addr r;
        if (cases[i].in[0] != '@') { /* and back again */
            assert_int_equal(addr_parse(s, ADDR_UTF8 | ADDR_ANY_DOMAIN, a, &r), ADDR_OK);
            assert_true(span_eq(r.text, span_cstr(cases[i].in)));
        }
        buf_free(&b);
    }
    arena_free(&a);
}

static void test_path_length(void **state)
{
    (void)state;
    static const struct { const char *in; size_t n; } cases[] = {
        { "<a@b> SIZE=1", 5 }, { "<a@b>", 5 }, { "", 0 }, { "<\"a b\"@c> X", 9 }, { "<a b@c> X", 7 },
        { "\"a b\"@c X", 7 }, { "<\"a\\\" b\"@c> X", 11 }, { "<a", 2 }, { "<\">\" b@c> X", 9 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(addr_path_length(span_cstr(cases[i].in)), cases[i].n);
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct { const char *s; bool ok; } cases[] = {
        { "abc", true }, { "\xc3\xb6", true }, { "\xe2\x82\xac", true }, { "\xf0\x9f\x98\x80", true },
        { "\xc3", false }, { "\xb6", false }, { "\xc0\x80", false }, { "\xe0\x80\x80", false },
        { "\xed\xa0\x80", false }, { "\xf4\x90\x80\x80", false }, { "\xf5\x80\x80\x80", false },
        { "\xf0\x80\x80\x80", false }, { "\xe2\x82", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(utf8_is_valid(span_cstr(cases[i].s)), cases[i].ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse), cmocka_unit_test(test_nul), cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_unquoted), cmocka_unit_test(test_quote), cmocka_unit_test(test_path_length), cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

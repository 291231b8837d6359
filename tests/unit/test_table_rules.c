/*
 * The short cuts of long rule tables against the plain way: a cidr index against a walk through the rules, the filter of patterns
 * against tables of a single row. Random, from fixed seeds.
 */
#include "tests/unit/unit.h"
#include <stdlib.h>
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/table/rules.h"

struct rng { uint64_t s; };

static uint32_t roll(struct rng *r, uint32_t n)
{
    r->s = r->s * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(r->s >> 33) % n;
}

/* ---- cidr ---- */

static struct ip_addr random_ip(struct rng *r)
{
    struct ip_addr a = { .family = roll(r, 3) ? IP_V4 : IP_V6 };
    static const uint8_t first[] = { 0, 10, 10, 255 };
    size_t n = a.family == IP_V4 ? 4 : 16;
    uint8_t b = first[roll(r, 4)];
    for (size_t i = 0; i + 1 < n; i++)
        a.b[i] = b == 255 ? 255 : i == 0 ? b : 0;
    a.b[n - 1] = (uint8_t)(b == 255 ? 192 + roll(r, 64) : roll(r, 64));
    return a;
}

static struct ip_net random_net(struct rng *r)
{
    static const unsigned widths[] = { 0, 0, 1, 2, 3, 4, 5, 6, 8, 24 };
    struct ip_addr a = random_ip(r);
    unsigned all = a.family == IP_V4 ? 32 : 128, cut = widths[roll(r, ARRAY_LEN(widths))];
    return ip_net_of(&a, roll(r, 12) == 0 ? 0 : all - cut);
}

/* Rules as cidr_table(5) says: one after the other. An if reaches to its endif, or to the end. */
static struct span walk(const struct rule *rules, size_t count, const struct ip_addr *ip)
{
    for (size_t i = 0; i < count; i++) {
        const struct rule *u = &rules[i];
        if (u->kind == RULE_ENDIF)
            continue;
        bool applies = u->net.addr.family == ip->family && ip_net_contains(&u->net, ip) != u->negated;
        if (u->kind == RULE_RESULT && applies)
            return u->result;
        if (u->kind == RULE_IF && !applies)
            i = u->skip_to - 1;
    }
    return span_of(NULL, 0);
}

static size_t make_rules(struct rng *r, struct rule *rules, size_t max, struct arena *a)
{
    size_t open[64], depth = 0, n = 0, want = 1 + roll(r, (uint32_t)max);
    while (n < want) {
        struct rule u = { .kind = RULE_RESULT, .negated = roll(r, 4) == 0, .net = random_net(r) };
        uint32_t what = roll(r, 8);
        if (what == 0 && depth < 20) {
            u.kind = RULE_IF;
            open[depth++] = n;
        } else if (what == 1 && depth > 0) {
            u.kind = RULE_ENDIF;
            rules[open[--depth]].skip_to = n + 1;
        } else {
            u.result = span_cstr(arena_printf(a, "r%u", roll(r, 5) ? (unsigned)n : 7));
        }
        rules[n++] = u;
    }
    while (depth > 0)
        rules[open[--depth]].skip_to = n;
    return n;
}

static void test_cidr_index(void **state)
{
    (void)state;
    struct rule rules[60];
    unsigned found = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct rng r = { seed };
        struct arena *a = arena_new(0);
        size_t n = make_rules(&r, rules, ARRAY_LEN(rules), a);
        struct cidr_index *x = cidr_index_new(rules, n);
        for (int i = 0; i < 200; i++) {
            struct ip_addr ip = random_ip(&r);
            struct span want = walk(rules, n, &ip), got = cidr_index_find(x, &ip);
            char text[IP_TEXT_MAX];
            if (!span_eq(want, got))
                fail_msg("seed %u: %s is \"%.*s\", expected \"%.*s\"", (unsigned)seed, ip_print(&ip, text), SPAN_ARG(got), SPAN_ARG(want));
            found += want.n > 0;
        }
        cidr_index_free(&x);
        arena_free(&a);
    }
    assert_in_range(found, 20000, 78000); /* of 80,000: neither all nor nothing */
}

/* ---- patterns ---- */

static struct table *open_rows(struct table_registry *r, const char *type, const char *rows, enum table_status *st)
{
    char *spec = xasprintf("%s:{%s}", type, rows);
    struct err e = ERR_INIT;
    struct table *t = table_open(r, span_cstr(spec), TABLE_BYTES, NULL, st, &e);
    if (*st != TABLE_OK)
        fail_msg("%s: %s", spec, e.text);
    free(spec);
    return t;
}

/* Each with texts that it must find; the filter must not stand in the way. */
static const struct { const char *type, *pattern, *matches[4]; } literal_cases[] = {
    { "pcre", "/^abc\\.def$/", { "abc.def", "ABC.DEF" } },
    { "pcre", "/abcd?ef/", { "abcef", "abcdef" } },
    { "pcre", "/abcd*/", { "abc", "abcddd" } },
    { "pcre", "/ab+cdef/", { "abbbcdef" } },
    { "pcre", "/abcd{0,2}xyz/", { "abcxyz", "abcddxyz" } },
    { "pcre", "/abc+?def++ghi/", { "abccdefffghi" } },
    { "pcre", "/hello|world/", { "hello", "world" } },
    { "pcre", "/(hello|world) there/", { "hello there", "world there" } },
    { "pcre", "/(?i)hello/", { "HeLLo" } },
    { "pcre", "/(?x)he llo/", { "hello" } },
    { "pcre", "/he llo/x", { "hello" } },
    { "pcre", "/hello(?# not (this)world/", { "helloworld" } },
    { "pcre", "/\\Qa.b*c\\Edef/", { "a.b*cdef" } },
    { "pcre", "/\\x41bcd/", { "Abcd" } },
    { "pcre", "/[abc]def[]x]ghi/", { "adef]ghi", "cdefxghi" } },
    { "pcre", "/[[:alpha:]]def/", { "xdef" } },
    { "pcre", "/(?!never)abcd/", { "abcd" } },
    { "pcre", "/abc(?=def)def/", { "abcdef" } },
    { "pcre", "/(a(b)c)?defg/", { "defg", "abcdefg" } },
    { "pcre", "/a\\tbcd/", { "a\tbcd" } },
    { "pcre", "/(*UTF)(?i)stra\xc3\x9f" "e/", { "STRA\xc3\x9f" "E" } },
    { "pcre", "/abc\\|def/", { "abc|def" } },
    { "pcre", "/abc\\Kdef/", { "abcdef" } },
    { "pcre", "/(abc)\\1xyz/", { "abcabcxyz" } },
    { "regexp", "/abc+?def/", { "abdef", "abccdef" } },
    { "regexp", "/\\<word\\> abc*/", { "a word ab", "word abc" } },
    { "regexp", "/a\\.bcd/", { "a.bcd" } },
    { "regexp", "/abc|def/", { "abc", "def" } },
    { "regexp", "/[]abc]xyz/", { "]xyz" } },
    { "regexp", "/[\\]xyz/", { "\\xyz" } },
    { "regexp", "/abc\\(d\\)/x", { "abcd" } },
    { "regexp", "/abcd{0,1}e/", { "abce", "abcde" } },
    { "regexp", "/(abc|x)def$/", { "xdef" } },
};

/* Rows before it make the table long enough to be filtered, and match nothing. */
#define PADDING "{/padding-one-q1/ no}, {/padding-two-q2/ no}, {/padding-three-q3/ no}, {/padding-four-q4/ no}, {/padding-five-q5/ no}, " \
                "{/padding-six-q6/ no}, {/padding-seven-q7/ no}, {/padding-eight-q8/ no}, "

static void test_what_a_pattern_needs(void **state)
{
    (void)state;
    struct table_registry *r = table_registry_new(NULL);
    for (size_t i = 0; i < ARRAY_LEN(literal_cases); i++) {
        char *rows = xasprintf(PADDING "{%s yes}", literal_cases[i].pattern);
        enum table_status st;
        struct table *t = open_rows(r, literal_cases[i].type, rows, &st);
        struct arena *a = arena_new(0);
        for (size_t k = 0; k < 4 && literal_cases[i].matches[k] != NULL; k++) {
            char *longer = xasprintf("%s", literal_cases[i].matches[k]);
            struct span value = { NULL, 0 };
            if (table_lookup(t, span_cstr(longer), a, &value, NULL) != LOOKUP_FOUND || !span_eq(value, SPAN_LIT("yes")))
                fail_msg("%s %s does not find \"%s\"", literal_cases[i].type, literal_cases[i].pattern, longer);
            free(longer);
        }
        assert_int_equal(table_lookup(t, SPAN_LIT("nothing of all that"), a, NULL, NULL), LOOKUP_NONE);
        arena_free(&a);
        table_close(&t);
        free(rows);
    }
    table_registry_unref(&r);
}

static void random_pattern(struct rng *r, struct buf *out)
{
    static const char *const words[] = { "foo", "bar", "baz\\.com", "x", "abc", "mail", "dsl", "host", "\\.net", "-" };
    static const char *const after[] = { "", "", "", "", "", "?", "*", "+", "[0-9]+", ".*" };
    for (uint32_t n = 1 + roll(r, 4); n > 0; n--) {
        const char *w = words[roll(r, ARRAY_LEN(words))];
        uint32_t how = roll(r, 6);
        if (how == 0)
            buf_printf(out, "(%s|%s)", w, words[roll(r, ARRAY_LEN(words))]);
        else if (how == 1)
            buf_printf(out, "(%s)", w);
        else
            buf_puts(out, w);
        buf_puts(out, after[roll(r, ARRAY_LEN(after))]);
    }
}

static void random_key(struct rng *r, struct buf *out)
{
    static const char *const words[] = { "foo", "BAR", "baz.com", "x", "abc", "mail", "dsl", "Host", ".net", "-", "7" };
    for (uint32_t n = 1 + roll(r, 6); n > 0; n--)
        buf_puts(out, words[roll(r, ARRAY_LEN(words))]);
}

enum { PATTERNS = 40, KEYS = 60 };

/* The number of the first single-row table that has the key; -1: none. */
static int first_of(struct table *const *each, struct span key)
{
    for (int i = 0; i < PATTERNS; i++) {
        if (table_lookup(each[i], key, NULL, NULL, NULL) == LOOKUP_FOUND)
            return i;
    }
    return -1;
}

static void compare(const char *type, uint64_t seed, unsigned *found)
{
    struct rng r = { seed };
    struct table_registry *reg = table_registry_new(NULL);
    struct table *each[PATTERNS];
    struct buf rows = BUF_INIT(0), pattern = BUF_INIT(0), key = BUF_INIT(0);
    struct arena *a = arena_new(0);
    enum table_status st;
    for (int i = 0; i < PATTERNS; i++) {
        buf_reset(&pattern);
        const char *sign = roll(&r, 30) == 0 ? "!" : "";
        random_pattern(&r, &pattern);
        char *row = xasprintf("{%s/%s/ r%d}", sign, buf_cstr(&pattern), i);
        buf_printf(&rows, "%s ", row);
        each[i] = open_rows(reg, type, row, &st);
        free(row);
    }
    struct table *all = open_rows(reg, type, buf_cstr(&rows), &st);
    for (int i = 0; i < KEYS; i++) {
        char want[16] = "";
        struct span value = { NULL, 0 };
        buf_reset(&key);
        random_key(&r, &key);
        int n = first_of(each, buf_span(&key));
        if (n >= 0)
            snprintf(want, sizeof want, "r%d", n);
        if (table_lookup(all, buf_span(&key), a, &value, NULL) != LOOKUP_FOUND)
            value = span_of(NULL, 0);
        if (!span_eq(value, span_cstr(want)))
            fail_msg("%s, seed %u: \"%s\" is \"%.*s\", expected \"%s\" of %s", type, (unsigned)seed, buf_cstr(&key), SPAN_ARG(value), want,
                     buf_cstr(&rows));
        *found += n >= 0;
    }
    table_close(&all);
    for (int i = 0; i < PATTERNS; i++)
        table_close(&each[i]);
    table_registry_unref(&reg);
    arena_free(&a);
    buf_free(&rows);
    buf_free(&pattern);
    buf_free(&key);
}

static void test_filter(void **state)
{
    (void)state;
    unsigned found = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        compare("pcre", seed, &found);
        compare("regexp", seed + 1000, &found);
    }
    assert_in_range(found, 500, 4790); /* of 4,800 */
}

/* Some thousand rules: more than the bits on the stack are for; the last one is still found, one with if and endif around it too. */
static void test_many_patterns(void **state)
{
    (void)state;
    struct table_registry *r = table_registry_new(NULL);
    struct buf rows = BUF_INIT(0);
    struct arena *a = arena_new(0);
    enum table_status st;
    for (int i = 0; i < 5000; i++)
        buf_printf(&rows, "{/^a%d\\.zone%d\\.example$/ r%d} ", i, i * 7, i);
    buf_puts(&rows, "{if /last/} {/very last one/ END} {endif}");
    struct table *t = open_rows(r, "pcre", buf_cstr(&rows), &st);
    for (int i = 0; i < 5000; i += 613) {
        char key[64], want[16];
        struct span value;
        snprintf(key, sizeof key, "a%d.zone%d.example", i, i * 7);
        snprintf(want, sizeof want, "r%d", i);
        assert_int_equal(table_lookup(t, span_cstr(key), a, &value, NULL), LOOKUP_FOUND);
        assert_true(span_eq(value, span_cstr(want)));
    }
    assert_int_equal(table_lookup(t, SPAN_LIT("the very last one"), a, NULL, NULL), LOOKUP_FOUND);
    assert_int_equal(table_lookup(t, SPAN_LIT("the very first one"), a, NULL, NULL), LOOKUP_NONE);
    table_close(&t);
    table_registry_unref(&r);
    arena_free(&a);
    buf_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cidr_index),
        cmocka_unit_test(test_what_a_pattern_needs),
        cmocka_unit_test(test_filter),
        cmocka_unit_test(test_many_patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

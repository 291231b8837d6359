/* Each table type: what it finds, what it refuses, what it says of a bad line. */
#include "tests/unit/unit.h"
#include <stdlib.h>
#include <unistd.h>
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/table/table.h"

struct notes {
    struct buf text;
};

static void keep_note(void *arg, bool is_error, const char *file, int line, const char *text)
{
    struct notes *n = arg;
    (void)is_error;
    (void)file;
    buf_printf(&n->text, "%d:%s\n", line, text);
}

struct query {
    const char *key, *value; /* value NULL: none; "!": temporary failure */
};

struct kase {
    const char *name;
    const char *spec;        /* "%s" stands for a file with `file` in it */
    const char *file;
    unsigned flags;
    enum table_status status;
    const char *error;       /* part of the error, or NULL */
    const char *note;        /* part of the notes, or NULL: there are none */
    struct query q[10];
};

static const struct kase cases[] = {
    { .name = "texthash", .spec = "texthash:%s",
      .file = "# c\na first\nb  value with   spaces  \nc one\n  two\n# in between\n\n\tthree\n\"q r\"@x quoted\nd\tTab\n",
      .q = { { "a", "first" }, { "A", "first" }, { "b", "value with   spaces" }, { "c", "one  two\tthree" },
             { "\"q r\"@x", "quoted" }, { "d", "Tab" }, { "one", NULL }, { "", NULL } } },
    { .name = "duplicates: the first counts", .spec = "hash:%s", .file = "a 1\nA 2\n", .note = "2:duplicate entry \"a\"",
      .q = { { "a", "1" } } },
    { .name = "no value", .spec = "hash:%s", .file = "a\nb 2\n", .note = "1:expected: key, white space, value",
      .q = { { "a", NULL }, { "b", "2" } } },
    { .name = "stray continuation", .spec = "hash:%s", .file = " a 1\nb 2\n", .note = "1:a line that begins with white space",
      .q = { { "b", "2" } } },
    { .name = "no final newline, CRLF", .spec = "btree:%s", .file = "a 1\r\nb 2", .q = { { "a", "1" }, { "b", "2" } } },
    { .name = "empty file", .spec = "lmdb:%s", .file = "", .q = { { "a", NULL } } },
    { .name = "name alone is hash", .spec = "%s", .file = "a 1\n", .q = { { "a", "1" } } },
    { .name = "proxy is passed through", .spec = "proxy:hash:%s", .file = "a 1\n", .q = { { "a", "1" } } },
    { .name = "aliases", .spec = "hash:%s", .flags = TABLE_ALIASES,
      .file = "postmaster: root\n\"quoted key\": a\nroot: a@b,\n  \"c d\"@x\nx y : foo\nnocolon\nlist: :include:/etc/foo\n",
      .note = "6:expected: name, colon, value",
      .q = { { "postmaster", "root" }, { "quoted key", "a" }, { "Root", "a@b,  \"c d\"@x" }, { "x y", "foo" },
             { "list", ":include:/etc/foo" }, { "nocolon", NULL } } },
    { .name = "an alias with a domain", .spec = "hash:%s", .flags = TABLE_ALIASES, .file = "a@b: c\n\"a@b\": d\ne, f: g\n\\: x\n",
      .note = "1:an alias is a local name", .q = { { "a@b", "d" }, { "e, f", NULL }, { "\\", NULL } } },
    { .name = "backslashes and quotes in keys", .spec = "hash:%s", .file = "a\\ b 1\n\"c d\" 2\n\"e 3\n",
      .note = "3:a double quote", .q = { { "a\\ b", "1" }, { "\"c d\"", "2" }, { "\"e", NULL } } },
    { .name = "an alias file?", .spec = "hash:%s", .file = "a: b\n", .note = "1:the key ends with a colon", .q = { { "a:", "b" } } },
    { .name = "UTF-8", .spec = "hash:%s", .file = "J\xc3\x96RG@x 1\n\xc4\xb0stanbul 2\nstra\xc3\x9f" "e 3\n",
      .q = { { "j\xc3\xb6rg@x", "1" }, { "J\xc3\x96rg@X", "1" }, { "\xc4\xb0STANBUL", "2" }, { "STRASSE", "3" },
             { "j\xf6rg@x", NULL }, { "\xff", NULL } } },
    { .name = "no UTF-8", .spec = "hash:%s", .file = "a\xff 1\nb \xfe\nc 3\n", .note = "1:the key is not valid UTF-8",
      .q = { { "a\xff", NULL }, { "b", NULL }, { "c", "3" } } },
    { .name = "bytes", .spec = "hash:%s", .flags = TABLE_BYTES, .file = "A\xff 1\nb \xfe\n\xc3\x84 4\n",
      .q = { { "a\xff", "1" }, { "A\xff", "1" }, { "b", "\xfe" }, { "\xc3\xa4", NULL }, { "\xc3\x84", "4" } } },
    { .name = "case kept", .spec = "hash:%s", .flags = TABLE_KEEP_CASE, .file = "A 1\n", .q = { { "A", "1" }, { "a", NULL } } },
    { .name = "lmdb that is none", .spec = "lmdb:/nonexistent/x", .status = TABLE_BROKEN, .error = "neither /nonexistent/x.lmdb nor",
      .q = { { "a", "!" } } },
    { .name = "debug", .spec = "debug:inline:{a=1}", .q = { { "a", "1" }, { "b", NULL } } },
    { .name = "debug failing", .spec = "debug:fail:x", .q = { { "a", "!" } } },
    { .name = "debug of nothing", .spec = "debug:inline", .status = TABLE_BAD, .error = "debug:type:name", .q = { { "a", "!" } } },
    { .name = "unix folds", .spec = "unix:passwd.byname", .q = { { "Root", "root:" } } },
    { .name = "pcre without a result", .spec = "pcre:%s", .file = "/a/\n/ab/ later\n/(x)?y/ $1\n", .note = "1:there is no result",
      .q = { { "ab", "!" }, { "y", "!" }, { "xy", "x" } } },
    { .name = "pcre negated with groups", .spec = "pcre:%s", .file = "!/(a)/ $1\n!/a/ $$\n", .note = "1:$1: nothing has matched",
      .q = { { "b", "$" } } },
    { .name = "odd dollars", .spec = "pcre:%s", .file = "/(a)/ $x\n/(a)/ ${1\n/(a)/ $1x\n/(a)/ end$\n/(a)/ ${1}x$$\n", .note = "4:a $",
      .q = { { "a", "ax$" } } },
    { .name = "text behind if and endif", .spec = "cidr:%s", .file = "if 10.0.0.0/8 more\n10.0.0.1 x\nendif too\n",
      .note = "1:text behind if", .q = { { "10.0.0.1", "x" } } },
    { .name = "cidr without a result", .spec = "cidr:%s", .file = "10.0.0.0/8\n10.0.0.1 x\n", .note = "1:there is no result",
      .q = { { "10.0.0.1", "x" }, { "10.0.0.2", NULL } } },
    { .name = "sqlite without a query", .spec = "sqlite:%s", .file = "dbpath = /nonexistent/x\n", .status = TABLE_BROKEN,
      .error = "query is not set", .q = { { "a", "!" } } },
    { .name = "sqlite settings", .spec = "sqlite:%s", .file = "dbpath = /nonexistent/x\nquery = SELECT 1\nqurey = x\n",
      .note = "3:\"qurey\" means nothing", .q = { { "a", "!" } } },
    { .name = "sqlite, no settings", .spec = "sqlite:%s", .file = "dbpath\n", .status = TABLE_BROKEN, .error = "line 1: expected name = value",
      .q = { { "a", "!" } } },
    { .name = "no file", .spec = "hash:/nonexistent/x", .status = TABLE_BROKEN, .error = "No such file", .q = { { "a", "!" } } },
    { .name = "inline", .spec = "inline:{ A=1, { b = 2 3 }, c=x=y, a=4 }",
      .q = { { "a", "4" }, { "B", "2 3" }, { "c", "x=y" }, { "d", NULL } } },
    { .name = "inline without braces", .spec = "inline:a=b", .status = TABLE_BAD, .error = "inline:{", .q = { { "a", "!" } } },
    { .name = "inline empty value", .spec = "inline:{a=}", .status = TABLE_BAD, .error = "key=value", .q = { { "a", "!" } } },
    { .name = "static", .spec = "static:OK", .q = { { "x", "OK" }, { "", "OK" } } },
    { .name = "static braces", .spec = "static:{ 550 go away }", .q = { { "x", "550 go away" } } },
    { .name = "fail", .spec = "fail:why", .q = { { "x", "!" } } },
    { .name = "environ", .spec = "environ:", .q = { { "TABLE_TEST_VARIABLE", "set" }, { "TABLE_TEST_OTHER", NULL } } },
    { .name = "unix user", .spec = "unix:passwd.byname", .q = { { "root", "root:" }, { "no-such-user-here", NULL } } },
    { .name = "unix group", .spec = "unix:group.byname", .q = { { "root", "root:" } } },
    { .name = "unix other", .spec = "unix:hosts", .status = TABLE_BAD, .error = "passwd.byname", .q = { { "a", "!" } } },
    { .name = "unknown type", .spec = "hsah:/etc/x", .status = TABLE_BAD, .error = "known types: btree", .q = { { "a", "!" } } },
    { .name = "bare IPv6", .spec = "2001:db8::/32", .status = TABLE_BAD, .error = "brackets", .q = { { "a", "!" } } },
    { .name = "type of a later version", .spec = "mongodb:/etc/x.cf", .status = TABLE_UNAVAILABLE, .error = "mongodb", .q = { { "a", "!" } } },
    { .name = "regexp", .spec = "regexp:%s",
      .file = "/^(.*)@old\\.example$/ $1@new.example\n!/@/ no-at\n/^abc$/i CASE $$1\n"
              "if /example$/\n/^x/ X\nif !/^y/\n/z/ Z${0}\nendif\nendif\n/^x/ later\n",
      .note = "7:$0",
      .q = { { "joe@old.example", "joe@new.example" }, { "JOE@OLD.EXAMPLE", "JOE@new.example" }, { "plain", "no-at" },
             { "x@y.example", "X" }, { "x@y.org", "later" }, { "q@y.org", NULL } } },
    { .name = "regexp inline", .spec = "regexp:{{/^[^A-Z]/i Bogus}, {!/x/ no x}}",
      .q = { { "get", "Bogus" }, { "GET", "no x" }, { "1", "Bogus" } } },
    { .name = "regexp mistakes", .spec = "regexp:%s", .file = "/(/ a\n/a/q b\n/b\n/c/ $2\n/d/\nendif\nif /e/\n/^ok$/ fine\n",
      .note = "4:$2: the pattern has 0 groups", .q = { { "ok", NULL }, { "eok", NULL } } },
    { .name = "pcre", .spec = "pcre:%s", .file = "/^(?<u>\\w+)\\+(\\d+)@/ $1 and $(2)\n/^a.b$/ dot\n/^UP/i up\n",
      .q = { { "joe+12@x", "joe and 12" }, { "a\nb", "dot" }, { "UPPER", "up" }, { "upper", NULL } } },
    { .name = "pcre mistakes", .spec = "pcre:%s", .file = "/(?/ x\n/y/ yes\n", .note = "1:at byte", .q = { { "y", "yes" } } },
    { .name = "cidr", .spec = "cidr:%s",
      .file = "192.0.2.0/24 net\n192.0.2.0/25 never\n!10.0.0.0/8 outside $1\n",
      .q = { { "192.0.2.7", "net" }, { "198.51.100.1", "outside $1" }, { "10.1.2.3", NULL }, { "name", NULL },
             { "2001:db8::1", NULL } } }, /* says nothing of the other family */
    { .name = "cidr if", .spec = "cidr:%s", .file = "if 10.0.0.0/8\n10.1.0.0/16 in\n0.0.0.0/0 rest\nendif\n::/0 six\n",
      .q = { { "10.1.0.1", "in" }, { "10.2.0.1", "rest" }, { "192.0.2.1", NULL }, { "::1", "six" } } },
    { .name = "cidr mistakes", .spec = "cidr:%s", .file = "10.0.0.1/8 x\nfoo y\n10.0.0.0/8\n", .note = "2:", .q = { { "10.0.0.1", NULL } } },
    { .name = "unionmap", .spec = "unionmap:{inline:{a=1,b=2},inline:{a=3}}",
      .q = { { "a", "1,3" }, { "b", "2" }, { "c", NULL } } },
    { .name = "unionmap failing", .spec = "unionmap:{static:x,fail:y}", .q = { { "a", "!" } } },
    { .name = "pipemap", .spec = "pipemap:{inline:{a=b,c=d},inline:{b=e}}", .q = { { "a", "e" }, { "c", NULL }, { "b", NULL } } },
    { .name = "randmap", .spec = "randmap:{only}", .q = { { "a", "only" } } },
    { .name = "randmap empty", .spec = "randmap:{}", .status = TABLE_BAD, .error = "nothing", .q = { { "a", "!" } } },
};

static char *make_file(const char *content)
{
    char *path = xstrdup("/tmp/test_table_XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, content, strlen(content)) != (ssize_t)strlen(content))
        fail_msg("cannot write %s", path);
    close(fd);
    return path;
}

static void ask(const struct kase *k, struct table *t, const struct query *q)
{
    struct arena *a = arena_new(0);
    struct err e = ERR_INIT;
    struct span value = { NULL, 0 };
    enum lookup got = table_lookup(t, span_cstr(q->key), a, &value, &e);
    enum lookup fact = table_lookup(t, span_cstr(q->key), NULL, NULL, &e);
    enum lookup want = q->value == NULL ? LOOKUP_NONE : strcmp(q->value, "!") == 0 ? LOOKUP_TEMPFAIL : LOOKUP_FOUND;
    if (got != want || fact != want)
        fail_msg("%s: \"%s\" answers %d and %d, expected %d (%s)", k->name, q->key, got, fact, want, e.text);
    bool is_prefix = strncmp(k->spec, "unix", 4) == 0;
    if (want == LOOKUP_FOUND && (is_prefix ? !span_starts_with(value, span_cstr(q->value)) : !span_eq(value, span_cstr(q->value))))
        fail_msg("%s: \"%s\" is \"%.*s\", expected \"%s\"", k->name, q->key, SPAN_ARG(value), q->value);
    if (want == LOOKUP_TEMPFAIL && e.text[0] == '\0')
        fail_msg("%s: a failure without a reason", k->name);
    arena_free(&a);
}

static void run_case(const struct kase *k)
{
    struct notes n = { BUF_INIT(0) };
    struct table_notes notes = { keep_note, &n };
    struct table_registry *r = table_registry_new(NULL);
    char *path = k->file != NULL ? make_file(k->file) : NULL;
    const char *mark = strstr(k->spec, "%s");
    char *spec = mark != NULL ? xasprintf("%.*s%s", (int)(mark - k->spec), k->spec, path) : xstrdup(k->spec);
    enum table_status status;
    struct err e = ERR_INIT;
    struct table *t = table_open(r, span_cstr(spec), k->flags, &notes, &status, &e);
    if (status != k->status || (k->error != NULL && strstr(e.text, k->error) == NULL))
        fail_msg("%s: status %d, \"%s\"", k->name, status, e.text);
    const char *said = buf_cstr(&n.text);
    if (k->note != NULL ? strstr(said, k->note) == NULL : *said != '\0')
        fail_msg("%s: notes \"%s\"", k->name, said);
    for (size_t i = 0; i < ARRAY_LEN(k->q) && k->q[i].key != NULL; i++)
        ask(k, t, &k->q[i]);
    table_close(&t);
    table_registry_unref(&r);
    if (path != NULL)
        unlink(path);
    free(path);
    free(spec);
    buf_free(&n.text);
}

static void test_types(void **state)
{
    (void)state;
    setenv("TABLE_TEST_VARIABLE", "set", 1);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        run_case(&cases[i]);
}

/* A table that two lists name is one table; another format of the same file is another. */
static void test_sharing(void **state)
{
    (void)state;
    struct table_registry *r = table_registry_new(NULL);
    enum table_status st;
    struct table *a = table_open(r, SPAN_LIT("inline:{a=1}"), 0, NULL, &st, NULL);
    struct table *b = table_open(r, SPAN_LIT("proxy:inline:{a=1}"), 0, NULL, &st, NULL);
    struct table *c = table_open(r, SPAN_LIT("inline:{a=1}"), TABLE_ALIASES, NULL, &st, NULL);
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, c);
    table_close(&a);
    assert_int_equal(table_lookup(b, SPAN_LIT("a"), NULL, NULL, NULL), LOOKUP_FOUND);
    table_close(&b);
    table_close(&c);
    table_registry_unref(&r);
}

/* Enough rows that the hash table grows many times; all are found again, their neighbours are not. */
static void test_many_rows(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    for (unsigned i = 0; i < 50000; i++)
        buf_printf(&b, "user%u@Example.COM value%u\n", i, i * 7);
    char *path = make_file(buf_cstr(&b));
    char *spec = xasprintf("hash:%s", path);
    struct table_registry *r = table_registry_new(NULL);
    struct arena *a = arena_new(0);
    enum table_status st;
    struct table *t = table_open(r, span_cstr(spec), 0, NULL, &st, NULL);
    for (unsigned i = 0; i < 50000; i += 13) {
        char key[64], want[32];
        struct span value;
        snprintf(key, sizeof key, "user%u@example.com", i);
        snprintf(want, sizeof want, "value%u", i * 7);
        assert_int_equal(table_lookup(t, span_cstr(key), a, &value, NULL), LOOKUP_FOUND);
        assert_true(span_eq(value, span_cstr(want)));
        snprintf(key, sizeof key, "user%u@example.org", i);
        assert_int_equal(table_lookup(t, span_cstr(key), a, &value, NULL), LOOKUP_NONE);
    }
    table_close(&t);
    table_registry_unref(&r);
    arena_free(&a);
    unlink(path);
    free(path);
    free(spec);
    buf_free(&b);
}

/* A table that is only made of patterns is asked for whole keys, as they are. */
static void test_is_fixed(void **state)
{
    (void)state;
    static const struct { const char *spec; bool is_fixed; } specs[] = {
        { "inline:{a=1}", true }, { "regexp:{{/a/ b}}", false }, { "cidr:{{10.0.0.1 b}}", false }, { "unionmap:{regexp:{{/a/ b}}}", false },
        { "unionmap:{regexp:{{/a/ b}},static:c}", true }, { "debug:pcre:{{/a/ b}}", false }, { "debug:static:a", true },
        { "pipemap:{static:a,debug:pcre:{{/a/ b}}}", true }, { "randmap:{a}", false }, { "nosuch:x", true },
    };
    struct table_registry *r = table_registry_new(NULL);
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        enum table_status st;
        struct table *t = table_open(r, span_cstr(specs[i].spec), 0, NULL, &st, NULL);
        if (table_is_fixed(t) != specs[i].is_fixed)
            fail_msg("%s", specs[i].spec);
        table_close(&t);
    }
    table_registry_unref(&r);
}

static bool keep_row(void *arg, struct span key, struct span value)
{
    buf_printf(arg, "%.*s=%.*s ", SPAN_ARG(key), SPAN_ARG(value));
    return true;
}

static void test_listing(void **state)
{
    (void)state;
    struct table_registry *r = table_registry_new(NULL);
    struct buf b = BUF_INIT(0);
    struct err e = ERR_INIT;
    enum table_status st;
    struct table *t = table_open(r, SPAN_LIT("debug:inline:{B=1,a=2}"), 0, NULL, &st, NULL);
    assert_true(table_each(t, keep_row, &b, &e));
    assert_string_equal(buf_cstr(&b), "b=1 a=2 ");
    table_close(&t);
    t = table_open(r, SPAN_LIT("static:x"), 0, NULL, &st, NULL);
    assert_false(table_each(t, keep_row, &b, &e));
    assert_non_null(strstr(e.text, "cannot be listed"));
    table_close(&t);
    table_registry_unref(&r);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_fixed),
        cmocka_unit_test(test_listing),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_many_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Tables on servers without servers: what they say, how keys are quoted, what drivers are asked, answers that are kept. */
#include "tests/unit/unit.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/table/net/ldap_table.h"
#include "common/table/net/ldap_text.h"
#include "common/table/net/module_open.h"
#include "common/table/net/net_answer.h"
#include "common/table/net/sql_table.h"
#include "common/table/net/table_cache.h"

/* ---- answers ---- */

static void test_netstrings(void **state)
{
    (void)state;
    static const struct { const char *in; bool ok, more; size_t length; } cases[] = {
        { "", true, true, 0 },        { "1", true, true, 1 },     { "12:", true, false, 12 }, { "0:", true, false, 0 },
        { "100:x", true, false, 100 }, { "101:", false, false, 0 }, { ":", false, false, 0 },   { "01:", false, false, 0 },
        { "-1:", false, false, 0 },   { "1 :", false, false, 0 }, { "x", false, false, 0 },   { "99999999999999999999", false, false, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t length = 0;
        bool more = false;
        bool ok = netstring_length(span_cstr(cases[i].in), 100, &length, &more);
        if (ok != cases[i].ok || (ok && (more != cases[i].more || length != cases[i].length)))
            fail_msg("\"%s\": %d %d %zu", cases[i].in, ok, more, length);
    }
}

struct answer_case {
    const char *in;
    enum net_answer answer;
    const char *text; /* the value, or part of the error */
};

static void check_answer(const struct answer_case *k, enum net_answer got, struct span value, const struct err *e)
{
    bool ok = got == k->answer;
    if (ok && got == NET_FOUND)
        ok = span_eq(value, span_cstr(k->text));
    else if (ok && got != NET_NONE)
        ok = strstr(e->text, k->text) != NULL;
    if (!ok)
        fail_msg("\"%s\": %d \"%.*s\" (%s)", k->in, got, SPAN_ARG(value), e->text);
}

static void test_socketmap_answers(void **state)
{
    (void)state;
    static const struct answer_case cases[] = {
        { "OK value with blanks", NET_FOUND, "value with blanks" }, { "OK ", NET_FOUND, "" }, { "OK", NET_FOUND, "" },
        { "NOTFOUND ", NET_NONE, NULL }, { "NOTFOUND", NET_NONE, NULL }, { "TEMP try later", NET_TEMPORARY, "TEMP: try later" },
        { "TIMEOUT ", NET_TEMPORARY, "says TIMEOUT" }, { "PERM no", NET_TEMPORARY, "PERM: no" }, { "ok x", NET_GARBAGE, "\"ok x\"" },
        { "", NET_GARBAGE, "\"\"" }, { "OKAY x", NET_GARBAGE, "OKAY" }, { "\x01\x1b[2J", NET_GARBAGE, "\"??[2J\"" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span value = { NULL, 0 };
        struct err e = ERR_INIT;
        check_answer(&cases[i], socketmap_answer(span_cstr(cases[i].in), &value, &e), value, &e);
    }
}

static void test_tcp_answers(void **state)
{
    (void)state;
    static const struct answer_case cases[] = {
        { "200 plain", NET_FOUND, "plain" }, { "200 a%20b%25%C3%a9\r", NET_FOUND, "a b%\xc3\xa9" }, { "200\ttab", NET_FOUND, "tab" },
        { "200 ", NET_FOUND, "" }, { "500 no", NET_NONE, NULL }, { "500 ", NET_NONE, NULL }, { "400 ill%20today", NET_TEMPORARY, "ill today" },
        { "200", NET_GARBAGE, "200" }, { "200 %", NET_GARBAGE, "" }, { "200 %4", NET_GARBAGE, "" }, { "200 %4g", NET_GARBAGE, "" },
        { "2000 x", NET_GARBAGE, "" }, { "600 x", NET_GARBAGE, "600" }, { "", NET_GARBAGE, "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf value = BUF_INIT(0);
        struct err e = ERR_INIT;
        enum net_answer got = tcp_table_answer(span_cstr(cases[i].in), &value, &e);
        check_answer(&cases[i], got, buf_span(&value), &e);
        buf_free(&value);
    }
    struct buf out = BUF_INIT(0);
    tcp_table_encode(SPAN_LIT("a b%\n\xc3\xa9@x"), &out);
    assert_string_equal(buf_cstr(&out), "a%20b%25%0A%C3%A9@x");
    buf_free(&out);
}

static void test_memcache_answers(void **state)
{
    (void)state;
    static const struct { const char *in; enum net_answer answer; size_t length; } cases[] = {
        { "VALUE key 0 5", NET_FOUND, 5 }, { "VALUE key 4294967295 0\r", NET_FOUND, 0 }, { "VALUE key 0 5 12", NET_FOUND, 5 }, { "END\r", NET_NONE, 0 },
        { "END", NET_NONE, 0 }, { "VALUE other 0 5", NET_GARBAGE, 0 }, { "VALUE key 0", NET_GARBAGE, 0 }, { "VALUE key 0 -1", NET_GARBAGE, 0 },
        { "VALUE key 0 101", NET_GARBAGE, 0 }, { "VALUE key 0 99999999999999999999", NET_GARBAGE, 0 }, { "ERROR", NET_GARBAGE, 0 },
        { "SERVER_ERROR out of memory", NET_GARBAGE, 0 }, { "", NET_GARBAGE, 0 }, { "END x", NET_GARBAGE, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t length = 0;
        struct err e = ERR_INIT;
        enum net_answer got = memcache_answer(span_cstr(cases[i].in), SPAN_LIT("key"), 100, &length, &e);
        if (got != cases[i].answer || (got == NET_FOUND && length != cases[i].length) || (got == NET_GARBAGE && e.text[0] == '\0'))
            fail_msg("\"%s\": %d %zu", cases[i].in, got, length);
    }
    assert_true(memcache_key_is_good(SPAN_LIT("a@b")));
    assert_false(memcache_key_is_good(SPAN_LIT("a b")));
    assert_false(memcache_key_is_good(SPAN_LIT("a\r\nflush_all")));
    assert_false(memcache_key_is_good(SPAN_LIT("")));
    char long_key[251];
    memset(long_key, 'a', sizeof long_key);
    assert_true(memcache_key_is_good(span_of(long_key, 250)));
    assert_false(memcache_key_is_good(span_of(long_key, 251)));
}

/* ---- LDAP texts ---- */

static void test_ldap_quoting(void **state)
{
    (void)state;
    static const struct { const char *in, *filter, *name; } cases[] = {
        { "plain@x", "plain@x", "plain@x" },
        { "a*b(c)d\\e", "a\\2ab\\28c\\29d\\5ce", "a*b(c)d\\5Ce" },
        { "a,b+c\"d<e>f;g=h", "a,b+c\"d<e>f;g=h", "a\\2Cb\\2Bc\\22d\\3Ce\\3Ef\\3Bg\\3Dh" },
        { " #a# ", " #a# ", "\\20#a#\\20" },
        { "#a\n", "#a\\0a", "\\23a\\0A" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf filter = BUF_INIT(0), name = BUF_INIT(0);
        ldap_quote_filter(span_cstr(cases[i].in), &filter);
        ldap_quote_name(span_cstr(cases[i].in), &name);
        assert_string_equal(buf_cstr(&filter), cases[i].filter);
        assert_string_equal(buf_cstr(&name), cases[i].name);
        buf_free(&filter);
        buf_free(&name);
    }
}

static void test_ldap_urls(void **state)
{
    (void)state;
    static const struct { const char *in, *base, *filter; enum ldap_scope scope; const char *attributes; } cases[] = {
        { "ldap:///dc=x", "dc=x", "(objectClass=*)", LDAP_IN_BASE, "" },
        { "LDAPS://host:636/ou=a%20b,dc=x?mail,maildrop?sub?(a=%28b)", "ou=a b,dc=x", "(a=(b)", LDAP_IN_SUBTREE, "mail maildrop " },
        { "ldapi://%2Ftmp%2Fx/dc=x?" "?one", "dc=x", "(objectClass=*)", LDAP_IN_ONE_LEVEL, "" },
        { "ldap://host", "", "(objectClass=*)", LDAP_IN_BASE, "" },
        { "ldap:///dc=x??" "?" "?!ext", "dc=x", "(objectClass=*)", LDAP_IN_BASE, "" },
        { "ldap:///dc=x?" "?" "?(a=b)?ext", "dc=x", "(a=b)", LDAP_IN_BASE, "" },
    };
    static const char *const bad[] = { "http://x/", "ldap:dc=x", "ldap:///dc=%zz", "ldap:///dc=%4", "ldap:///x?a?nowhere", "ldap:///x?%00", "" };
    struct arena *a = arena_new(0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ldap_url u;
        struct buf names = BUF_INIT(0);
        assert_true(ldap_url_parse(span_cstr(cases[i].in), a, &u));
        assert_string_equal(u.base, cases[i].base);
        assert_string_equal(u.filter, cases[i].filter);
        assert_int_equal(u.scope, cases[i].scope);
        for (const char *const *n = u.attributes; n != NULL && *n != NULL; n++)
            buf_printf(&names, "%s ", *n);
        assert_string_equal(buf_cstr(&names), cases[i].attributes);
        buf_free(&names);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct ldap_url u;
        if (ldap_url_parse(span_cstr(bad[i]), a, &u))
            fail_msg("%s is taken", bad[i]);
    }
    arena_free(&a);
}

/* ---- a database that is a function: it answers with the query itself, or as the script in its settings says ---- */

/* Open while a test does not want "stuck" to be. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static unsigned stuck_closed; /* guarded by gate */

static void *sql_open(const struct module_settings *s, const char *host, int64_t timeout_ms, struct module_why *why)
{
    (void)timeout_ms;
    if (strcmp(host, "stuck") == 0) {
        pthread_mutex_lock(&gate);
        pthread_mutex_unlock(&gate);
    }
    if (strcmp(host, "down") != 0 && strcmp(s->text(s->arg, "password", ""), "wrong") != 0)
        return xstrdup(host);
    snprintf(why->text, sizeof why->text, "nobody there");
    return NULL;
}

static void sql_close(void *conn)
{
    if (strcmp(conn, "stuck") == 0) {
        pthread_mutex_lock(&gate);
        stuck_closed++;
        pthread_mutex_unlock(&gate);
    }
    free(conn);
}

static long sql_quote(void *conn, const char *in, size_t n, char *out)
{
    size_t at = 0;
    (void)conn;
    for (size_t i = 0; i < n; i++) {
        if (in[i] == '!')
            return -1;
        if (in[i] == '\'')
            out[at++] = '\'';
        out[at++] = in[i];
    }
    return (long)at;
}

static enum module_status sql_query(void *conn, const char *sql, size_t n, int64_t timeout_ms, void (*cell)(void *arg, const char *text, size_t n),
                                    void *arg, struct module_why *why)
{
    (void)timeout_ms;
    snprintf(why->text, sizeof why->text, "refused");
    if (strncmp(sql, "refuse", 6) == 0)
        return MODULE_REFUSED;
    if (strncmp(sql, "lose", 4) == 0 || strcmp(conn, "losing") == 0)
        return MODULE_LOST;
    if (strncmp(sql, "nothing", 7) == 0)
        return MODULE_NONE;
    if (strncmp(sql, "empty", 5) == 0)
        return MODULE_OK;
    if (strncmp(sql, "three", 5) == 0) {
        for (int i = 0; i < 3; i++)
            cell(arg, "v@w", 3);
    } else {
        cell(arg, sql, n);
    }
    cell(arg, "", 0);
    return MODULE_OK;
}

static const struct table_sql_driver sql_driver = { .sockets_first = true, .open = sql_open, .close = sql_close, .quote = sql_quote,
                                                    .query = sql_query };

struct table_case {
    const char *settings, *key, *value; /* value "!": temporary failure, "-": none, "?": the settings are refused */
    const char *error;
};

static const char *const sql_names[] = { "hosts", "query", "result_format", "domain", "expansion_limit", "password", "select_field", "table",
                                         "where_field", "additional_conditions", "select_function", NULL };

static bool make_sql(const struct table_load *in, struct table_content **out, struct err *e)
{
    return sql_table_make(in, sql_names, &sql_driver, out, e);
}

static void run_table_case(const struct table_case *k, bool (*load)(const struct table_load *in, struct table_content **out, struct err *e))
{
    struct table_registry *r = table_registry_new(NULL);
    struct buf text = BUF_INIT(0);
    struct table_load in = { .registry = r, .spec = "test:x", .name = SPAN_LIT("x"), .text = &text };
    struct table_content *c = NULL;
    struct arena *a = arena_new(0);
    struct err e = ERR_INIT;
    struct span value = { NULL, 0 };
    const char *got = "?";
    buf_puts(&text, k->settings);
    if (load(&in, &c, &e)) {
        enum lookup answer = c->ops->find(c, span_cstr(k->key), a, &value, &e);
        got = answer == LOOKUP_TEMPFAIL ? "!" : answer == LOOKUP_NONE ? "-" : arena_strndup(a, value.p, value.n);
        c->ops->free(c);
    }
    if (strcmp(got, k->value) != 0 || (k->error != NULL && strstr(e.text, k->error) == NULL))
        fail_msg("%s\n\"%s\" is \"%s\" (%s), expected \"%s\" (%s)", k->settings, k->key, got, e.text, k->value, k->error ? k->error : "");
    arena_free(&a);
    buf_free(&text);
    table_registry_unref(&r);
}

static void test_sql(void **state)
{
    (void)state;
    static const struct table_case cases[] = {
        { "query = a '%s' b\n", "x@y", "a 'x@y' b", NULL },
        { "query = '%s'\n", "o'x' OR ''=''@y", "'o''x'' OR ''''=''''@y'", NULL },
        { "query = %s %u %d %1 %2 %% %S %U %D\n", "x@a.b", "x@a.b x a.b b a % x@a.b x a.b", NULL },
        { "query = %u\n", "alone", "alone", NULL },
        { "query = %d\n", "alone", "-", NULL },
        { "query = %3\n", "x@a.b", "-", NULL },
        { "query = %u\n", "@a.b", "-", NULL },
        { "query = %s\n", "", "-", NULL },
        { "query = '%s'\n", "a!b", "!", "cannot be put into a query" },
        { "query = %s\nresult_format = [%s] %S\n", "k", "[k] k", NULL },
        { "query = three\n", "k", "v@w,v@w,v@w", NULL },
        { "query = three\nresult_format = %u at %d for %U\n", "k", "v at w for k,v at w for k,v at w for k", NULL },
        { "query = three\nresult_format = %D\n", "k", "-", NULL },
        { "query = three\nexpansion_limit = 3\n", "k", "v@w,v@w,v@w", NULL },
        { "query = three\nexpansion_limit = 2\n", "k", "!", "expansion_limit (2)" },
        { "query = empty\n", "k", "-", NULL },
        { "query = nothing\n", "k", "-", NULL },
        { "query = refuse\n", "k", "!", "refused" },
        { "query = lose\n", "k", "!", "refused" },
        { "query = %s\nhosts = down\n", "k", "!", "down: nobody there" },
        { "query = %s\nhosts = down, other\n", "k", "k", NULL },
        { "query = %s\nhosts = down losing unix:/x\n", "k", "k", NULL },
        { "query = %s\npassword = wrong\n", "k", "!", "localhost: nobody there" },
        { "query = %s\ndomain = a.b inline:{c=1}\n", "k@a.b", "k@a.b", NULL },
        { "query = %s\ndomain = a.b inline:{c=1}\n", "k@c", "k@c", NULL },
        { "query = %s\ndomain = a.b\n", "k@b", "-", NULL },
        { "query = %s\ndomain = a.b\n", "a.b", "-", NULL },
        { "query = %s\ndomain = a.b\n", "@a.b", "-", NULL },
        { "query = %s\ndomain = fail:x\n", "k@a.b", "!", NULL },
        { "select_field = f\ntable = t\nwhere_field = w\nadditional_conditions = AND x\n", "k", "SELECT f FROM t WHERE w = 'k' AND x", NULL },
        { "select_function = fn\ntable = t\n", "k", "SELECT fn('k')", NULL },
        { "query = q\nselect_function = fn\n", "k", "q", NULL },
        { "table = t\n", "k", "?", "query" },
        { "query = %x\n", "k", "?", "%x" },
        { "query = x%\n", "k", "?", "%" },
        { "query = x\nexpansion_limit = -1\n", "k", "?", "expansion_limit" },
        { "query\n", "k", "?", "line 1" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        run_table_case(&cases[i], make_sql);
}

/* ---- a directory of a few entries: base "a" has mail a@x, "g" refers to a and b ... ---- */

struct record {
    const char *base, *attribute, *value;
};

static const struct record directory[] = {
    { "a", "mail", "a@x" },      { "b", "mail", "b@x" },       { "b", "alias", "bb@x" },  { "g", "mail", "g@x" },
    { "g", "member", "a" },      { "g", "mail", "g2@x" },      { "g", "member", "b" },    { "g", "member", "gone" },
    { "loop", "member", "loop" }, { "loop", "mail", "l@x" },   { "t", "member", "a" },    { "t", "final", "t@x" },
    { "t", "mail", "no@x" },     { "u", "member", "ldap:///b?alias" }, { "u", "member", "ldap:///b?phone" }, { "u", "member", "ldap:///%" },
    { "deep", "member", "g" },   { "broken", "member", "lost" },
};

static int searches;

static void *ldap_open(const struct module_settings *s, int64_t timeout_ms, struct module_why *why)
{
    (void)timeout_ms;
    snprintf(why->text, sizeof why->text, "no directory");
    return strcmp(s->text(s->arg, "server_host", ""), "down") == 0 ? NULL : xstrdup("");
}

static enum module_status ldap_search(void *conn, const struct ldap_question *q, const struct ldap_sink *sink, struct module_why *why)
{
    bool found = false;
    (void)conn;
    searches++;
    snprintf(why->text, sizeof why->text, "search failed");
    if (strcmp(q->base, "lost") == 0)
        return MODULE_LOST;
    if (strcmp(q->filter, "(refuse)") == 0)
        return MODULE_REFUSED;
    for (size_t i = 0; i < ARRAY_LEN(directory); i++) {
        const struct record *d = &directory[i];
        if (strcmp(d->base, q->base) != 0)
            continue;
        if (!found)
            sink->entry(sink->arg, q->base);
        found = true;
        for (const char *const *a = q->attributes; *a != NULL; a++) {
            if (strcasecmp(*a, d->attribute) == 0)
                sink->value(sink->arg, d->attribute, d->value, strlen(d->value));
        }
    }
    return found ? MODULE_OK : MODULE_NONE;
}

static const struct table_ldap_driver ldap_driver = { ldap_open, sql_close, ldap_search };

static bool make_ldap(const struct table_load *in, struct table_content **out, struct err *e)
{
    return ldap_table_make(in, &ldap_driver, out, e);
}

#define GROUPS "search_base = %s\nresult_attribute = mail\nspecial_result_attribute = member\n"

static void test_ldap(void **state)
{
    (void)state;
    static const struct table_case cases[] = {
        { "search_base = %s\nresult_attribute = mail\n", "a", "a@x", NULL },
        { "search_base = %s\nresult_attribute = mail, ALIAS\n", "b", "b@x,bb@x", NULL },
        { "search_base = %s\nresult_attribute = mail\n", "none", "-", NULL },
        { "search_base = %s\n", "a", "-", NULL },
        { GROUPS, "g", "g@x,a@x,g2@x,b@x", NULL },
        { GROUPS, "deep", "g@x,a@x,g2@x,b@x", NULL },
        { GROUPS "recursion_limit = 2\n", "deep", "g@x,a@x,g2@x,b@x", NULL },
        { GROUPS "recursion_limit = 1\n", "deep", "!", "recursion_limit (1)" },
        { GROUPS "recursion_limit = 1\n", "g", "g@x,a@x,g2@x,b@x", NULL },
        { GROUPS, "loop", "!", "recursion_limit (1000)" },
        { GROUPS "recursion_limit = 100000000\n", "loop", "!", "too many searches" },
        { GROUPS "expansion_limit = 4\n", "g", "g@x,a@x,g2@x,b@x", NULL },
        { GROUPS "expansion_limit = 3\n", "g", "!", "expansion_limit (3)" },
        { GROUPS "terminal_result_attribute = final\n", "t", "t@x", NULL },
        { "search_base = %s\nresult_attribute =\nspecial_result_attribute = member\nleaf_result_attribute = mail\n", "g", "a@x,b@x", NULL },
        { "search_base = %s\nresult_attribute = mail alias\nspecial_result_attribute = member\n", "u", "bb@x", NULL },
        { GROUPS, "broken", "!", "search failed" },
        { GROUPS "query_filter = (refuse)\n", "a", "!", "search failed" },
        { GROUPS "server_host = down\n", "a", "!", "down: no directory" },
        { GROUPS "result_format = <%u>\n", "a", "<a>", NULL },
        { GROUPS "result_filter = <%d>\n", "a", "<x>", NULL },
        { GROUPS "scope = all\n", "a", "?", "sub, base or one" },
        { GROUPS "bind = maybe\n", "a", "?", "bind" },
        { GROUPS "recursion_limit = 0\n", "a", "?", "recursion_limit" },
        { GROUPS "version = 4\n", "a", "?", "version" },
        { GROUPS "query_filter = %q\n", "a", "?", "%q" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        run_table_case(&cases[i], make_ldap);
    assert_true(searches < 30000);
}

/* More values than are taken: an error, not a part of them. */
static enum module_status ldap_search_much(void *conn, const struct ldap_question *q, const struct ldap_sink *sink, struct module_why *why)
{
    static char text[60000];
    (void)conn;
    (void)why;
    memset(text, 'x', sizeof text);
    sink->entry(sink->arg, q->base);
    for (int i = 0; i < (strcmp(q->base, "most") == 0 ? 400 : 2); i++)
        sink->value(sink->arg, "member", text, sizeof text);
    for (int i = 0; i < 100000 && strcmp(q->base, "many") == 0; i++)
        sink->value(sink->arg, "mail", "a@x", 3);
    sink->value(sink->arg, "mail", "m@x", 3);
    return MODULE_OK;
}

static const struct table_ldap_driver much_driver = { ldap_open, sql_close, ldap_search_much };

static bool make_much(const struct table_load *in, struct table_content **out, struct err *e)
{
    return ldap_table_make(in, &much_driver, out, e);
}

static void test_ldap_much(void **state)
{
    (void)state;
    static const struct table_case cases[] = {
        { "search_base = %s\nresult_attribute = mail member\n", "most", "!", "larger than" },
        { "search_base = %s\nresult_attribute = mail\n", "few", "m@x", NULL },
        { "search_base = %s\nresult_attribute = mail\nexpansion_limit = 99999\n", "many", "!", "expansion_limit" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        run_table_case(&cases[i], make_much);
}

static const char *no_text(void *arg, const char *name, const char *otherwise)
{
    (void)arg;
    (void)name;
    return otherwise;
}

/* A library that is still looking for its server when the time is over. */
static void test_stuck_open(void **state)
{
    (void)state;
    struct module_why why = { .timed_out = false };
    struct table_content *c = xcalloc(1, sizeof *c);
    struct module_opening o = { .content = c, .sql = &sql_driver, .host = "stuck", .timeout_ms = 10 };
    int64_t until_ms = clock_mono_ms() + 30000;
    unsigned closed = 0;
    atomic_init(&c->refs, 10);
    o.settings = (struct module_settings){ .text = no_text };
    pthread_mutex_lock(&gate);
    assert_null(module_open(&o, &why));
    assert_true(why.timed_out);
    assert_true(atomic_load(&c->refs) == 11); /* the thread that is left behind uses it */
    pthread_mutex_unlock(&gate);
    while (closed == 0 && clock_mono_ms() < until_ms) {
        pthread_mutex_lock(&gate);
        closed = stuck_closed;
        pthread_mutex_unlock(&gate);
    }
    assert_int_equal(closed, 1);
    while (atomic_load(&c->refs) != 10 && clock_mono_ms() < until_ms) { }
    assert_true(atomic_load(&c->refs) == 10);
    free(c);
}

/* ---- answers that are kept ---- */

static void test_cache(void **state)
{
    (void)state;
    struct table_cache *c = table_cache_new();
    struct arena *a = arena_new(0);
    struct span value = SPAN_LIT("value"), got = { NULL, 0 };
    enum lookup answer;
    uint64_t ticket, old;
    char key[32];
    assert_false(table_cache_get(c, SPAN_LIT("k"), 1000, &answer, a, &got, &ticket));
    table_cache_put(c, SPAN_LIT("k"), &value, ticket);
    table_cache_put(c, SPAN_LIT("none"), NULL, ticket);
    assert_true(table_cache_get(c, SPAN_LIT("k"), 1000, &answer, a, &got, &ticket));
    assert_true(answer == LOOKUP_FOUND && span_eq(got, value));
    assert_true(table_cache_get(c, SPAN_LIT("none"), 1000, &answer, NULL, NULL, &ticket) && answer == LOOKUP_NONE);
    clock_advance_for_test(1500, 0);
    assert_false(table_cache_get(c, SPAN_LIT("k"), 1000, &answer, a, &got, &ticket)); /* too old, and forgotten */
    assert_false(table_cache_get(c, SPAN_LIT("k"), 10000, &answer, a, &got, &ticket));
    assert_false(table_cache_get(c, SPAN_LIT("x"), 1000, &answer, a, &got, &old));
    table_cache_clear(c);
    table_cache_put(c, SPAN_LIT("x"), &value, old); /* asked for before the clearing */
    assert_false(table_cache_get(c, SPAN_LIT("x"), 1000, &answer, a, &got, &ticket));
    for (int i = 0; i < CACHE_ENTRIES + 10; i++) {
        snprintf(key, sizeof key, "k%d", i);
        table_cache_put(c, span_cstr(key), &value, ticket);
    }
    assert_false(table_cache_get(c, SPAN_LIT("k9"), 1000, &answer, a, &got, &ticket)); /* the oldest made room */
    assert_true(table_cache_get(c, SPAN_LIT("k10"), 1000, &answer, a, &got, &ticket));
    table_cache_free(&c);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_netstrings), cmocka_unit_test(test_socketmap_answers), cmocka_unit_test(test_tcp_answers),
        cmocka_unit_test(test_memcache_answers), cmocka_unit_test(test_ldap_quoting), cmocka_unit_test(test_ldap_urls),
        cmocka_unit_test(test_sql), cmocka_unit_test(test_ldap), cmocka_unit_test(test_ldap_much), cmocka_unit_test(test_stuck_open), cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

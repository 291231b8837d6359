/* select: what each option accepts, and which messages it means */
#include "tests/unit/unit.h"

#include <sqlite3.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "queue/index_internal.h"
#include "queue/select.h"
#include "tests/unit/select_rows.h"

static char db_path[] = "/tmp/test_select.XXXXXX";
static struct query *q;

static int setup(void **state UNUSED)
{
    struct err e = ERR_INIT;
    sqlite3 *db;
    char *why = NULL;
    static const uint64_t active[] = { 1, 5 };
    int fd = mkstemp(db_path);
    close(fd);
    if (sqlite3_open(db_path, &db) != SQLITE_OK || sqlite3_exec(db, index_schema, NULL, NULL, &why) != SQLITE_OK ||
        sqlite3_exec(db, select_rows, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s", why != NULL ? why : "cannot be opened");
    sqlite3_close(db);
    q = query_open(db_path, &e);
    if (q == NULL || !selection_set_active(q, active, ARRAY_LEN(active), &e))
        fail_msg("%s", e.text);
    return 0;
}

static int teardown(void **state UNUSED)
{
    query_close(&q);
    unlink(db_path);
    return 0;
}

/* "option=value option=value" to the ids it selects, as text. */
static void select_ids(const char *text, enum selection_of of, struct buf *out)
{
    struct selection *s = selection_new();
    struct err e = ERR_INIT;
    struct span rest = span_cstr(text), one;
    sqlite3_stmt *st = NULL;
    buf_reset(out);
    while (e.text[0] == '\0' && span_next_token(&rest, "|", &one)) {
        size_t eq = (size_t)span_find(one, '=');
        char *name = xstrndup(one.p, eq);
        if (!selection_add(s, name, span_from(one, eq + 1), &e))
            buf_printf(out, "bad: %s", e.text);
        free(name);
    }
    enum query_status k = e.text[0] != '\0' ? QUERY_OK : selection_prepare(s, q, of, "m.id", NOW_US, &st, &e);
    if (k != QUERY_OK)
        buf_printf(out, "%s: %s", k == QUERY_BAD ? "bad" : k == QUERY_DENIED ? "denied" : "failed", e.text);
    while (st != NULL && query_step(q, st, &e) == QUERY_ROW)
        buf_printf(out, "%d", sqlite3_column_int(st, 0));
    sqlite3_finalize(st);
    selection_free(&s);
}

static void options_mean(void **state UNUSED)
{
    static const struct { const char *sel, *want; } cases[] = {
        { "", "123456" },
        { "id=3", "3" },
        { "id=2|id=6|id=99", "26" },
        { "sender=ann@example.com", "1" },
        { "sender=BOB@example.COM", "2" },
        { "sender=<bob@example.org>", "3" },
        { "sender=bob@*", "23" },
        { "sender=@example.com", "12" },
        { "sender=*@example.*", "12356" },
        { "sender=<>", "4" },
        { "sender=MAILER-DAEMON", "4" },
        { "sender=a_b%c@example.net", "5" },
        { "sender=a_b%*", "5" },
        { "sender=ann@example.com|sender=<>", "14" },
        { "sender=nobody@example.com", "" },
        { "sender='; DROP TABLE messages; --", "" },
        { "recipient=x@d1.example", "14" },
        { "recipient=z@d2.example", "3" },
        { "recipient=done@d2.example", "" },
        { "recipient=@d3.example", "56" },
        { "recipient=w@d3.example|reason=try", "" }, /* not the same recipient */
        { "recipient=x@d4.example|reason=try", "5" },
        { "destination=d1.example", "1" },
        { "destination=mx.d1.example", "23" },
        { "destination=[mx.d1.example]", "3" },
        { "destination=D3.example", "5" },
        { "destination=*.example", "15" },
        { "destination=d_.example", "" },
        { "destination=unix:*", "4" },
        { "transport=relay", "3" },
        { "transport=*m*", "12456" },
        { "reason=timed OUT", "2" },
        { "reason=host*busy", "3" },
        { "code=4.4.1", "2" },
        { "code=4.4", "25" },
        { "code=4", "2345" },
        { "code=450", "3" },
        { "code=451", "5" },
        { "code=250", "" },
        { "code=4.4.1|code=450", "23" },
        { "client=localhost", "456" },
        { "client=192.0.2.*", "123" },
        { "client=*.CLIENT.example", "12" },
        { "older=999s", "3456" },
        { "older=1d", "56" },
        { "newer=2m", "12" },
        { "older=50|newer=1h", "23" },
        { "larger=1k", "2345" },
        { "smaller=500", "6" },
        { "larger=1k|smaller=1M", "234" },
        { "state=hold", "3" },
        { "state=active", "15" },
        { "state=deferred", "24" },
        { "state=incoming", "6" },
        { "state=hold|state=ACTIVE", "135" },
        { "where=attempts > 1", "24" },
        { "where=age > 5000 AND host = ''", "456" },
        { "where=wait BETWEEN 99 AND 101 AND size < 100", "6" },
        { "where=queue_id = '5'", "5" },
        { "where=id IN (SELECT message FROM recipients WHERE state = 2)", "2" },
        { "where=size > 1000|where=size < 5000", "2" },
        { "where=sender LIKE 'b%' -- comment", "23" },
        { "where=reason = ';)'", "" },
        { "sender=@example.net|recipient=@d3.example|larger=1M", "5" },
        { "id=5|state=deferred", "" },
    };
    struct buf out = BUF_INIT(0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        select_ids(cases[i].sel, SELECT_QUEUE, &out);
        if (strcmp(buf_cstr(&out), cases[i].want) != 0)
            fail_msg("%s: %s, wanted %s", cases[i].sel, buf_cstr(&out), cases[i].want);
    }
    select_ids("recipient=x@d1.example", SELECT_DELETED, &out);
    assert_string_equal(buf_cstr(&out), "7");
    select_ids("where=age = 0", SELECT_DELETED, &out);
    assert_string_equal(buf_cstr(&out), "7");
    select_ids("sender=ann@example.com", SELECT_DELETED, &out);
    assert_string_equal(buf_cstr(&out), "");
    buf_free(&out);
}

static void wrong_values_say_what_was_expected(void **state UNUSED)
{
    static const struct { const char *sel, *want; } cases[] = {
        { "colour=red", "bad: unknown selection \"colour\"" },
        { "id=xyz!", "queue id" },
        { "sender=", "expected an address" },
        { "recipient=<>", "expected an address" },
        { "destination=", "expected a name" },
        { "reason=", "expected a part" },
        { "code=abc", "expected a status" },
        { "code=4.", "expected a status" },
        { "code=4.4.1.1", "expected a status" },
        { "code=45", "expected a status" },
        { "code=999", "expected a status" },
        { "older=soon", "expected an age" },
        { "older=-5", "expected an age" },
        { "older=5y", "expected an age" },
        { "older=99999999999999999999", "expected an age" },
        { "newer=", "expected an age" },
        { "larger=big", "expected a size" },
        { "larger=1.5k", "expected a size" },
        { "smaller=k", "expected a size" },
        { "state=frozen", "expected active, deferred, hold or incoming" },
        { "where=", "expected one SQL condition" },
        { "where=1) OR (1", "expected one SQL condition" },
        { "where=1; DELETE FROM messages", "expected one SQL condition" },
        { "where='open", "expected one SQL condition" },
        { "where=nonsense = 1", "bad: where \"nonsense = 1\": no such column: nonsense (columns: id, " },
        { "where=SELEC", "no such column" },
        { "where=id = ?1", "parameters have no value" },
        { "where=load_extension('x')", "denied: " },
        { "where=id = /* open", "bad: " },
    };
    struct buf out = BUF_INIT(0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        select_ids(cases[i].sel, SELECT_QUEUE, &out);
        if (strstr(buf_cstr(&out), cases[i].want) == NULL)
            fail_msg("%s: %s, wanted %s", cases[i].sel, buf_cstr(&out), cases[i].want);
    }
    select_ids("state=hold", SELECT_DELETED, &out);
    assert_string_equal(buf_cstr(&out), "bad: deleted messages have no state");
    buf_free(&out);
}

static void there_is_an_end_to_values(void **state UNUSED)
{
    struct selection *s = selection_new();
    struct err e = ERR_INIT;
    sqlite3_stmt *st;
    assert_true(selection_is_empty(s));
    for (int i = 0; i < SELECT_OPTIONS_MAX; i++)
        assert_true(selection_add(s, i % 2 ? "destination" : "code", i % 2 ? SPAN_LIT("x.example") : SPAN_LIT("450"), &e));
    assert_false(selection_is_empty(s));
    assert_false(selection_add(s, "sender", SPAN_LIT("a@b"), &e));
    assert_non_null(strstr(e.text, "more than"));
    /* The most there can be still compiles. */
    assert_int_equal(selection_prepare(s, q, SELECT_QUEUE, "m.id", NOW_US, &st, &e), QUERY_OK);
    assert_int_equal(query_step(q, st, &e), QUERY_OK);
    sqlite3_finalize(st);
    selection_free(&s);
}

static void destinations_with_and_without_brackets(void **state UNUSED)
{
    static const struct { const char *value, *nexthop; bool want; } cases[] = {
        { "mx.example", "mx.example", true }, { "MX.example", "mx.example:2525", true }, { "mx.example", "[mx.example]", true },
        { "mx.example", "[mx.Example]:25", true }, { "mx.example", "[mx.example", false }, { "mx.example", "mx.example.org", false },
        { "mx.example", "[mx.example.org]:25", false }, { "[mx.example]", "[mx.example]:25", false }, { "[mx.example]", "[mx.example]", true },
        { "mx.example:25", "[mx.example]:25", false }, { "", "", true }, { "", "[x]", false }, { "mx.example", "", false }, { "*", "x", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (select_is_destination(span_cstr(cases[i].value), span_cstr(cases[i].nexthop)) != cases[i].want)
            fail_msg("\"%s\" and \"%s\"", cases[i].value, cases[i].nexthop);
}

static void sizes_and_ages(void **state UNUSED)
{
    int64_t n;
    assert_true(select_parse_size(SPAN_LIT("10K"), &n) && n == 10240);
    assert_true(select_parse_size(SPAN_LIT("3g"), &n) && n == INT64_C(3) << 30);
    assert_true(select_parse_size(SPAN_LIT("7b"), &n) && n == 7);
    assert_true(select_parse_age(SPAN_LIT("2w"), &n) && n == 14 * 86400);
    assert_true(select_parse_age(SPAN_LIT("0"), &n) && n == 0);
    assert_false(select_parse_size(SPAN_LIT("9999999999g"), &n));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_mean),
        cmocka_unit_test(wrong_values_say_what_was_expected),
        cmocka_unit_test(there_is_an_end_to_values),
        cmocka_unit_test(sizes_and_ages),
        cmocka_unit_test(destinations_with_and_without_brackets),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* query: reading and nothing else; limits; and the journal's tail laid over the tables */
#include "tests/unit/spool_fixture.h"

#include <pthread.h>
#include <sqlite3.h>

#include "queue/index_internal.h"
#include "queue/query.h"
#include "queue/recover.h"

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    fixture_init(f);
    fixture_start(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    fixture_free(f);
    free(f);
    return 0;
}

static void flushed(void *arg, int status)
{
    fixture_done(arg, NULL, status == 0 ? SPOOL_OK : SPOOL_IO);
}

/* What the sink has, from the n-th on, gets rows. */
static void flush_from(struct fixture *f, size_t n)
{
    struct index_mark k = spool_index_mark(f->s);
    struct index_change *c = xcalloc(f->got_n + 1, sizeof *c);
    for (size_t i = n; i < f->got_n; i++)
        c[i - n] = (struct index_change){ .kind = INDEX_UPSERT, .id = f->got[i]->env.id, .m = f->got[i], .is_new = true, .due_us = 1000 };
    lock_take(&f->m);
    unsigned want = f->answered + 1;
    lock_drop(&f->m);
    index_flush(spool_index(f->s), c, f->got_n - n, &k, flushed, f);
    assert_true(fixture_wait(f, want));
    assert_int_equal(f->last_status, SPOOL_OK);
    free(c);
}

static struct query *open_query(struct fixture *f)
{
    struct err e = ERR_INIT;
    struct query *q = query_open(spool_index(f->s)->path, &e);
    if (q == NULL)
        fail_msg("%s", e.text);
    return q;
}

/* The number that a statement answers; -1 - status when it fails. */
static int64_t number(struct query *q, const char *sql)
{
    struct err e = ERR_INIT;
    sqlite3_stmt *st;
    enum query_status k = query_prepare(q, span_cstr(sql), &st, &e);
    if (k != QUERY_OK)
        return -1 - (int64_t)k;
    k = query_step(q, st, &e);
    int64_t n = k == QUERY_ROW ? sqlite3_column_int64(st, 0) : -1 - (int64_t)k;
    sqlite3_finalize(st);
    return n;
}

static void only_one_statement_that_reads(void **state)
{
    struct fixture *f = *state;
    static const struct { const char *name, *sql; enum query_status want; } cases[] = {
        { "select", "SELECT count(*) FROM messages", QUERY_OK },
        { "a semicolon and a comment may follow", "SELECT 1; -- done\n", QUERY_OK },
        { "views", "SELECT * FROM queue, queue_messages, queue_destinations, queue_attempts, queue_deleted", QUERY_OK },
        { "recursive", "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n LIMIT 3) SELECT * FROM n", QUERY_OK },
        { "values", "VALUES (1), (2)", QUERY_OK },
        { "looking at a table", "PRAGMA table_info(messages)", QUERY_OK },
        { "looking at the schema", "SELECT sql FROM sqlite_schema", QUERY_OK },
        { "insert", "INSERT INTO meta VALUES ('x', 1)", QUERY_DENIED },
        { "update", "UPDATE messages SET on_hold = 1", QUERY_DENIED },
        { "delete", "DELETE FROM messages", QUERY_DENIED },
        { "drop", "DROP TABLE messages", QUERY_DENIED },
        { "create", "CREATE TABLE x (y)", QUERY_DENIED },
        { "temporary table", "CREATE TEMP TABLE x (y)", QUERY_DENIED },
        { "attach", "ATTACH '/tmp/x.db' AS x", QUERY_DENIED },
        { "vacuum into", "VACUUM INTO '/tmp/x.db'", QUERY_DENIED },
        { "begin", "BEGIN IMMEDIATE", QUERY_DENIED },
        { "pragma that sets", "PRAGMA query_only = OFF", QUERY_DENIED },
        { "pragma that writes", "PRAGMA user_version = 7", QUERY_DENIED },
        { "load_extension", "SELECT load_extension('x')", QUERY_DENIED },
        { "two statements", "SELECT 1; SELECT 2", QUERY_BAD },
        { "select, then write", "SELECT 1; DELETE FROM messages", QUERY_BAD },
        { "nothing", "", QUERY_BAD },
        { "a comment", "-- nothing", QUERY_BAD },
        { "wrong", "SELEC 1", QUERY_BAD },
        { "no such column", "SELECT nonsense FROM messages", QUERY_BAD },
    };
    struct query *q = open_query(f);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = ERR_INIT;
        sqlite3_stmt *st = NULL;
        enum query_status k = query_prepare(q, span_cstr(cases[i].sql), &st, &e);
        if (k != cases[i].want || (k != QUERY_OK && e.text[0] == '\0'))
            fail_msg("%s: %d, wanted %d (%s)", cases[i].name, (int)k, (int)cases[i].want, e.text);
        sqlite3_finalize(st);
    }
    query_close(&q);
    assert_null(q);
}

static const char endless[] = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

/* The daemon answers selections itself: no expression takes all of its memory. */
static void no_value_is_large(void **state)
{
    struct query *q = open_query(*state);
    assert_int_equal(number(q, "SELECT length(randomblob(1000000))"), 1000000);
    assert_true(number(q, "SELECT length(randomblob(500000000))") < 0);
    assert_true(number(q, "SELECT length(printf('%500000000d', 1))") <= 0); /* NULL, or an error */
    query_close(&q);
}

static void a_limit_ends_it(void **state)
{
    struct fixture *f = *state;
    struct query *q = open_query(f);
    int64_t began = clock_mono_ms();
    query_limit(q, 100);
    assert_int_equal(number(q, endless), -1 - (int64_t)QUERY_TIMEOUT);
    assert_in_range(clock_mono_ms() - began, 90, 5000);
    query_limit(q, 0);
    assert_int_equal(number(q, "SELECT 7"), 7);
    query_close(&q);
}

static bool at_once(void *arg)
{
    ++*(unsigned *)arg;
    return true;
}

static void *interrupter(void *arg)
{
    struct timespec t = { .tv_nsec = 50000000 };
    nanosleep(&t, NULL);
    query_interrupt(arg);
    return NULL;
}

static void it_can_be_interrupted(void **state)
{
    struct fixture *f = *state;
    struct query *q = open_query(f);
    unsigned asked = 0;
    pthread_t t;
    query_on_progress(q, at_once, &asked);
    assert_int_equal(number(q, endless), -1 - (int64_t)QUERY_INTERRUPTED);
    assert_true(asked > 0);
    query_close(&q);
    q = open_query(f);
    assert_int_equal(pthread_create(&t, NULL, interrupter, q), 0);
    assert_int_equal(number(q, endless), -1 - (int64_t)QUERY_INTERRUPTED);
    pthread_join(t, NULL);
    query_close(&q);
}

static void another_version_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err e = ERR_INIT;
    sqlite3 *db;
    assert_int_equal(sqlite3_open(spool_index(f->s)->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE meta SET value = 999 WHERE key = 'schema_version'", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_null(query_open(spool_index(f->s)->path, &e));
    assert_non_null(strstr(e.text, "schema version 999"));
    assert_null(query_open("/nonexistent/index.db", &e));
}

static void addresses_compare_without_case(void **state)
{
    struct fixture *f = *state;
    fixture_send(f, 2, 100, NULL);
    flush_from(f, 0);
    struct query *q = open_query(f);
    assert_int_equal(number(q, "SELECT count(*) FROM messages WHERE sender = 'SENDER@Example.COM'"), 1);
    assert_int_equal(number(q, "SELECT count(*) FROM recipients WHERE address = 'USER1@example.NET'"), 1);
    query_close(&q);
}

/* Three with rows, of which one ends and one is held behind the mark; one that has none; one that came and was deleted. */
static void fill(struct fixture *f, uint64_t id[5])
{
    for (int i = 0; i < 3; i++)
        fixture_send(f, 2, 100, &id[i]);
    flush_from(f, 0);
    fixture_result(f, id[0], 0, OUTCOME_SENT, 0);
    fixture_result(f, id[0], 1, OUTCOME_SENT, 0);
    assert_int_equal(fixture_admin(f, ADMIN_HOLD, id[1]), SPOOL_OK);
    fixture_result(f, id[1], 0, OUTCOME_DEFERRED, 5000);
    fixture_send(f, 2, 100, &id[3]);
    fixture_send(f, 2, 100, &id[4]);
    assert_int_equal(fixture_admin(f, ADMIN_DELETE, id[4]), SPOOL_OK);
}

static void check_tail(struct fixture *f, bool has_index)
{
    struct err e = ERR_INIT;
    struct spool *s;
    struct spool_sink none = { 0 };
    spool_stop(f->s);
    fixture_forget(f);
    spool_close(&f->s);
    if (!has_index) {
        char path[200];
        snprintf(path, sizeof path, "%s/index.db", f->dir);
        assert_int_equal(unlink(path), 0);
    }
    f->o.read_only = true;
    assert_int_equal(spool_open(&f->o, &s, &e), SPOOL_OPEN_OK);
    assert_true(spool_start(s, &none, &e));
    struct query *q = query_open_spool(s, &e);
    if (q == NULL)
        fail_msg("%s", e.text);
    assert_int_equal(number(q, "SELECT count(*) FROM messages"), 3);
    assert_int_equal(number(q, "SELECT count(*) FROM recipients"), 6);
    assert_int_equal(number(q, "SELECT count(*) FROM messages WHERE on_hold = 1"), 1);
    assert_int_equal(number(q, "SELECT count(*) FROM queue WHERE queue = 'hold' AND reason = 'because'"), 1);
    assert_int_equal(number(q, "SELECT count(*) FROM queue_messages WHERE sender = 'Sender@EXAMPLE.com'"), 3);
    assert_int_equal(number(q, "SELECT r.due_us FROM recipients r JOIN messages m ON m.id = r.message WHERE on_hold AND rcpt = 0"), 5000);
    assert_int_equal(number(q, "DELETE FROM temp.tail_messages"), -1 - (int64_t)QUERY_DENIED);
    query_close(&q);
    spool_close(&s);
    f->o.read_only = false;
}

static void the_tail_lies_over_the_tables(void **state)
{
    uint64_t id[5];
    fill(*state, id);
    check_tail(*state, true);
}

static void without_an_index_the_journal_has_all(void **state)
{
    uint64_t id[5];
    fill(*state, id);
    check_tail(*state, false);
}

static void apply(struct fixture *f, const struct index_change *c)
{
    struct index_mark k = spool_index_mark(f->s);
    lock_take(&f->m);
    unsigned want = f->answered + 1;
    lock_drop(&f->m);
    index_flush(spool_index(f->s), c, 1, &k, flushed, f);
    assert_true(fixture_wait(f, want));
    assert_int_equal(f->last_status, SPOOL_OK);
}

/* No record in the journal says it: only the checkpoint can. */
static void the_checkpoint_has_deletions_and_new_addresses(void **state)
{
    struct fixture *f = *state;
    uint64_t id[3], bytes;
    struct index_mark k;
    struct err e = ERR_INIT;
    char path[200];
    for (int i = 0; i < 3; i++)
        fixture_send(f, 2, 100, &id[i]);
    flush_from(f, 0);
    struct index_rcpt r = { .rcpt = 1, .is_readdressed = true, .due_us = 77, .addr = SPAN_LIT("new@example.com") };
    apply(f, &(struct index_change){ .kind = INDEX_UPSERT, .id = id[0], .m = fixture_find(f, id[0]), .due_us = 77, .rcpts = &r, .rcpt_count = 1 });
    apply(f, &(struct index_change){ .kind = INDEX_TRASH, .id = id[1], .m = fixture_find(f, id[1]), .on_hold = true, .deleted_us = 4711,
                                     .rcpts = &r, .rcpt_count = 1 });
    assert_int_equal(index_count(spool_index(f->s)), 2);
    if (!checkpoint_write(f->s, NULL, &k, &bytes, &e))
        fail_msg("%s", e.text);
    spool_stop(f->s);
    fixture_forget(f);
    spool_close(&f->s);
    snprintf(path, sizeof path, "%s/index.db", f->dir);
    assert_int_equal(unlink(path), 0);
    fixture_start(f);
    struct query *q = open_query(f);
    assert_int_equal(number(q, "SELECT count(*) FROM messages"), 2);
    assert_int_equal(number(q, "SELECT count(*) FROM recipients WHERE address = 'new@example.com' AND readdressed = 1 AND rcpt = 1"), 1);
    assert_int_equal(number(q, "SELECT count(*) FROM recipients WHERE readdressed = 0"), 3);
    assert_int_equal(number(q, "SELECT count(*) FROM deleted_messages WHERE deleted_us = 4711 AND on_hold = 1"), 1);
    assert_int_equal(number(q, "SELECT count(*) FROM deleted_recipients WHERE address = 'new@example.com'"), 1);
    query_close(&q);
    /* Purged, its place is free and nothing comes back. */
    lock_take(&f->m);
    unsigned want = f->answered + 1;
    lock_drop(&f->m);
    index_purge(spool_index(f->s), &id[1], 1, flushed, f);
    assert_true(fixture_wait(f, want));
    q = open_query(f);
    assert_int_equal(number(q, "SELECT count(*) FROM deleted_messages"), 0);
    query_close(&q);
    fixture_restart(f);
    assert_int_equal(index_count(spool_index(f->s)), 2);
}

/* Deleted and restored, deleted, readdressed: what the journal alone says after a kill. */
static void replay_knows_deletions_and_new_addresses(void **state)
{
    struct fixture *f = *state;
    uint64_t id[3];
    static const char detail[] = "\0\0\0\1" "new@example.com";
    for (int i = 0; i < 3; i++)
        fixture_send(f, 2, 100, &id[i]);
    assert_int_equal(fixture_admin(f, ADMIN_TRASH, id[0]), SPOOL_OK);
    assert_int_equal(fixture_admin(f, ADMIN_TRASH, id[1]), SPOOL_OK);
    assert_int_equal(fixture_admin(f, ADMIN_UNDELETE, id[1]), SPOOL_OK);
    fixture_result(f, id[2], 0, OUTCOME_SENT, 0);
    fixture_result(f, id[2], 1, OUTCOME_DEFERRED, INT64_MAX / 2);
    lock_take(&f->m);
    unsigned want = f->answered + 1;
    lock_drop(&f->m);
    spool_admin_submit(f->s, ADMIN_READDRESS, id[2], span_of(detail, sizeof detail - 1), fixture_admin_done, f);
    assert_true(fixture_wait(f, want));
    fixture_restart(f);
    for (int turn = 0; turn < 2; turn++) { /* the second time from the rows */
        struct query *q = open_query(f);
        assert_int_equal(number(q, "SELECT count(*) FROM messages"), 2);
        assert_int_equal(number(q, "SELECT count(*) FROM deleted_messages"), 1);
        assert_int_equal(number(q, "SELECT count(*) FROM deleted_recipients"), 2);
        assert_int_equal(number(q, "SELECT count(*) FROM recipients WHERE address = 'new@example.com' AND due_us = 0 AND readdressed = 1"), 1);
        assert_int_equal(number(q, "SELECT count(*) FROM recipients WHERE state = 2"), 1);
        query_close(&q);
        assert_null(fixture_find(f, id[0])); /* the scheduler is not told of it */
        fixture_restart(f);
    }
    /* Rows among the deleted ones, and the journal takes it back; then it was tried. */
    assert_int_equal(fixture_admin(f, ADMIN_UNDELETE, id[0]), SPOOL_OK);
    fixture_result(f, id[0], 0, OUTCOME_SENT, 0);
    fixture_result(f, id[0], 1, OUTCOME_DEFERRED, INT64_MAX / 2);
    fixture_restart(f);
    struct query *q = open_query(f);
    char sql[200];
    assert_int_equal(number(q, "SELECT count(*) FROM messages"), 3);
    assert_int_equal(number(q, "SELECT count(*) FROM deleted_messages"), 0);
    assert_int_equal(number(q, "SELECT count(*) FROM deleted_recipients"), 0);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM recipients WHERE message = %llu AND state = 2 AND rcpt = 0", (unsigned long long)id[0]);
    assert_int_equal(number(q, sql), 1);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM recipients WHERE message = %llu AND due_us = %lld AND attempts = 1 AND rcpt = 1",
             (unsigned long long)id[0], (long long)(INT64_MAX / 2));
    assert_int_equal(number(q, sql), 1);
    query_close(&q);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_one_statement_that_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(a_limit_ends_it, setup, teardown),
        cmocka_unit_test_setup_teardown(no_value_is_large, setup, teardown),
        cmocka_unit_test_setup_teardown(it_can_be_interrupted, setup, teardown),
        cmocka_unit_test_setup_teardown(another_version_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(addresses_compare_without_case, setup, teardown),
        cmocka_unit_test_setup_teardown(the_tail_lies_over_the_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(the_checkpoint_has_deletions_and_new_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(replay_knows_deletions_and_new_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(without_an_index_the_journal_has_all, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

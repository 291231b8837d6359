/* A file that changes under its readers: noticed, swapped as a whole, kept when broken, found again when it returns. */
#include "tests/unit/unit.h"
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/table/table.h"

struct site {
    char dir[64], path[80], next[80];
    struct table_registry *registry;
    struct table *table;
};

/* Replaces the file as editors do: a new one moved over it. */
static void put(struct site *s, const char *text)
{
    FILE *f = fopen(s->next, "w");
    if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0 || rename(s->next, s->path) != 0)
        fail_msg("cannot write %s", s->path);
}

static void begin(struct site *s, const char *text, enum table_status want)
{
    enum table_status st;
    snprintf(s->dir, sizeof s->dir, "/tmp/test_swap_XXXXXX");
    if (mkdtemp(s->dir) == NULL)
        fail_msg("mkdtemp");
    snprintf(s->path, sizeof s->path, "%s/map", s->dir);
    snprintf(s->next, sizeof s->next, "%s/map.new", s->dir);
    if (text != NULL)
        put(s, text);
    char *spec = xasprintf("hash:%s", s->path);
    s->registry = table_registry_new(NULL);
    s->table = table_open(s->registry, span_cstr(spec), 0, NULL, &st, NULL);
    free(spec);
    assert_int_equal(st, want);
}

static void end(struct site *s)
{
    table_close(&s->table);
    table_registry_unref(&s->registry);
    unlink(s->path);
    rmdir(s->dir);
}

static void expect(struct site *s, const char *key, const char *want)
{
    struct arena *a = arena_new(0);
    struct span v = { NULL, 0 };
    struct err e = ERR_INIT;
    enum lookup got = table_lookup(s->table, span_cstr(key), a, &v, &e);
    if (strcmp(want, "!") == 0)
        assert_int_equal(got, LOOKUP_TEMPFAIL);
    else if (strcmp(want, "-") == 0)
        assert_int_equal(got, LOOKUP_NONE);
    else if (got != LOOKUP_FOUND || !span_eq(v, span_cstr(want)))
        fail_msg("%s: %d \"%.*s\", expected \"%s\"; %s", key, got, SPAN_ARG(v), want, e.text);
    arena_free(&a);
}

static void later(void)
{
    clock_advance_for_test(1100, 1100000);
}

static void test_change_is_noticed(void **state)
{
    (void)state;
    struct site s;
    begin(&s, "a 1\n", TABLE_OK);
    expect(&s, "a", "1");
    put(&s, "a 2\nb 3\n");
    expect(&s, "a", "1"); /* not before a second has passed */
    later();
    expect(&s, "a", "2");
    expect(&s, "b", "3");
    end(&s);
}

static void test_broken_keeps_the_old(void **state)
{
    (void)state;
    struct site s;
    begin(&s, "a 1\n", TABLE_OK);
    put(&s, "a 2\nno-value\n");
    later();
    expect(&s, "a", "1");
    unlink(s.path);
    later();
    expect(&s, "a", "1");
    put(&s, "a 3\n");
    later();
    expect(&s, "a", "3");
    end(&s);
}

static void test_missing_file_comes(void **state)
{
    (void)state;
    struct site s;
    begin(&s, NULL, TABLE_BROKEN);
    expect(&s, "a", "!");
    put(&s, "a 1\n");
    expect(&s, "a", "!");
    later();
    expect(&s, "a", "1");
    end(&s);
}

/* Opening the table again, as a reload does, looks at once. */
static void test_reload_looks_at_once(void **state)
{
    (void)state;
    struct site s;
    begin(&s, "a 1\n", TABLE_OK);
    put(&s, "a 22\n");
    enum table_status st;
    char *spec = xasprintf("hash:%s", s.path);
    struct table *again = table_open(s.registry, span_cstr(spec), 0, NULL, &st, NULL);
    assert_ptr_equal(again, s.table);
    expect(&s, "a", "22");
    table_close(&again);
    free(spec);
    end(&s);
}

struct readers {
    struct table *table;
    atomic_bool stop;
    atomic_uint mixed, failed, asked;
};

/* Both keys of one version always go together; only whole contents are seen within one answer. */
static void *read_on(void *arg)
{
    struct readers *r = arg;
    struct arena *a = arena_new(0);
    while (!atomic_load(&r->stop)) {
        struct span v = { NULL, 0 };
        enum lookup got = table_lookup(r->table, SPAN_LIT("key"), a, &v, NULL);
        if (got != LOOKUP_FOUND)
            atomic_fetch_add(&r->failed, 1);
        for (size_t i = 1; got == LOOKUP_FOUND && i < v.n; i++) {
            if (v.p[i] != v.p[0])
                atomic_fetch_add(&r->mixed, 1);
        }
        atomic_fetch_add(&r->asked, 1);
        arena_reset(a);
    }
    arena_free(&a);
    return NULL;
}

static void test_swap_under_readers(void **state)
{
    (void)state;
    struct site s;
    begin(&s, "key aaaaaaaaaaaaaaaaaaaaaaaa\n", TABLE_OK);
    struct readers r = { .table = s.table };
    pthread_t t[4];
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, read_on, &r), 0);
    for (int turn = 0; turn < 60; turn++) {
        char text[64];
        char c = (char)('a' + turn % 26);
        snprintf(text, sizeof text, "key %c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c\n", c, c, c, c, c, c, c, c, c, c, c, c, c, c, c, c);
        put(&s, text);
        unsigned before = atomic_load(&r.asked);
        enum table_status st;
        char *spec = xasprintf("hash:%s", s.path);
        struct table *again = table_open(s.registry, span_cstr(spec), 0, NULL, &st, NULL);
        table_close(&again);
        free(spec);
        int64_t deadline = clock_mono_ms() + 2000;
        while (atomic_load(&r.asked) < before + 20 && clock_mono_ms() < deadline)
            usleep(100);
    }
    atomic_store(&r.stop, true);
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&r.mixed), 0);
    assert_int_equal(atomic_load(&r.failed), 0);
    assert_true(atomic_load(&r.asked) > 0);
    later();
    expect(&s, "key", "hhhhhhhhhhhhhhhh");
    end(&s);
}

/* ---- sqlite: connections of several threads, and another file in the database's place ---- */

static void put_database(const struct site *s, const char *name, const char *value)
{
    char fresh[120], sql[200];
    sqlite3 *db = NULL;
    snprintf(fresh, sizeof fresh, "%s/fresh", s->dir);
    snprintf(sql, sizeof sql, "CREATE TABLE t(k TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES('key', '%s')", value);
    assert_int_equal(sqlite3_open(fresh, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(rename(fresh, name), 0);
}

static void test_sqlite_connections(void **state)
{
    (void)state;
    struct site s;
    char name[120], text[300];
    snprintf(s.dir, sizeof s.dir, "/tmp/test_swap_XXXXXX");
    assert_non_null(mkdtemp(s.dir));
    snprintf(s.path, sizeof s.path, "%s/map", s.dir);
    snprintf(s.next, sizeof s.next, "%s/map.new", s.dir);
    snprintf(name, sizeof name, "%s/db", s.dir);
    put_database(&s, name, "aaaaaaaaaaaaaaaa");
    snprintf(text, sizeof text, "dbpath = %s\nquery = SELECT v FROM t WHERE k = '%%s'\n", name);
    put(&s, text);
    char *spec = xasprintf("sqlite:%s", s.path);
    enum table_status st;
    s.registry = table_registry_new(NULL);
    s.table = table_open(s.registry, span_cstr(spec), 0, NULL, &st, NULL);
    assert_int_equal(st, TABLE_OK);
    struct readers r = { .table = s.table };
    pthread_t t[4];
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, read_on, &r), 0);
    for (int turn = 0; turn < 3; turn++) {
        char value[] = "bbbbbbbbbbbbbbbb";
        memset(value, 'b' + turn, sizeof value - 1);
        put_database(&s, name, value);
        later();
        unsigned before = atomic_load(&r.asked);
        int64_t deadline = clock_mono_ms() + 5000;
        while (atomic_load(&r.asked) < before + 50 && clock_mono_ms() < deadline)
            usleep(100);
        expect(&s, "key", value);
        expect(&s, "none", "-");
    }
    atomic_store(&r.stop, true);
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&r.mixed), 0);
    assert_int_equal(atomic_load(&r.failed), 0);
    unlink(name);
    free(spec);
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_change_is_noticed),
        cmocka_unit_test(test_broken_keeps_the_old),
        cmocka_unit_test(test_missing_file_comes),
        cmocka_unit_test(test_reload_looks_at_once),
        cmocka_unit_test(test_swap_under_readers),
        cmocka_unit_test(test_sqlite_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

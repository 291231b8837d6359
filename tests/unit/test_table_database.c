/*
 * lmdb and cdb files: those that posthousectl writes with the libraries are read as they were meant, and any damage to them is an error or
 * fewer rows, never more than that.
 */
#include "tests/unit/unit.h"
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/table/table.h"
#include "common/table/table_database.h"
#include "daemon/cmd/map_file.h"
#include "daemon/cmd/posthousectl.h"

void ctl_complain(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
}

struct site {
    char dir[64], path[80];
    struct buf file;
};

/* Rows enough for branch pages, and values that need pages of their own. */
static void make(struct site *s, const char *type, unsigned rows, bool with_nul)
{
    struct map_rows_options o = { .is_bytes = true };
    struct map_rows r;
    struct err e = ERR_INIT;
    const struct map_type *t = map_type_find(span_cstr(type));
    snprintf(s->dir, sizeof s->dir, "/tmp/test_database_XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof s->path, "%s/map", s->dir);
    map_rows_init(&r, &o);
    for (unsigned i = 0; i < rows; i++) {
        char key[32], value[6000];
        int n = snprintf(key, sizeof key, "key%u", i * 7919 % 100003);
        size_t vn = i % 50 == 0 ? sizeof value - 1 : 20;
        memset(value, 'a' + (int)(i % 26), vn);
        assert_true(map_rows_add(&r, span_of(key, (size_t)n), span_of(value, vn), false));
    }
    if (!map_file_write(t, s->path, 0644, with_nul, &r, &e))
        fail_msg("%s", e.text);
    map_rows_free(&r);
    char *name = xasprintf("%s%s", s->path, t->suffix);
    s->file = BUF_INIT(0);
    assert_true(io_read_file(name, &s->file, &e));
    unlink(name);
    rmdir(s->dir);
    free(name);
}

struct seen {
    unsigned rows, wrong;
};

static bool see(void *arg, struct span key, struct span value)
{
    struct seen *s = arg;
    s->rows++;
    bool good = span_starts_with(key, SPAN_LIT("key")) && (value.n == 20 || value.n == 5999);
    for (size_t i = 0; good && i < value.n; i++)
        good = value.p[i] == value.p[0];
    s->wrong += !good;
    return true;
}

typedef bool read_fn(struct span file, table_database_row_fn *fn, void *arg, struct err *e);

static void check(const char *type, read_fn *read, bool with_nul)
{
    struct site s;
    make(&s, type, 3000, with_nul);
    struct seen seen = { 0 };
    struct err e = ERR_INIT;
    if (!read(buf_span(&s.file), see, &seen, &e))
        fail_msg("%s: %s", type, e.text);
    assert_int_equal(seen.rows, 3000);
    assert_int_equal(seen.wrong, 0);
    for (size_t n = 0; n < s.file.n; n += 1 + s.file.n / 97) { /* cut off */
        char *copy = xmalloc(n + 1); /* of exactly that size: a sanitizer sees a byte too far */
        memcpy(copy, s.file.p, n);
        seen = (struct seen){ 0 };
        if (read(span_of(copy, n), see, &seen, &e) && seen.rows == 3000)
            fail_msg("%s: %zu of %zu bytes are taken for the whole", type, n, s.file.n);
        free(copy);
    }
    buf_free(&s.file);
}

static void test_whole_and_cut_off(void **state)
{
    (void)state;
    check("lmdb", table_database_lmdb, true);
    check("lmdb", table_database_lmdb, false);
    check("cdb", table_database_cdb, false);
    check("cdb", table_database_cdb, true);
}

static void damage(const char *type, read_fn *read)
{
    struct site s;
    make(&s, type, 400, true);
    uint64_t x = 1;
    unsigned refused = 0;
    for (int turn = 0; turn < 3000; turn++) {
        char was[8];
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        size_t at = (size_t)(x >> 20) % (turn % 2 ? s.file.n - 8 : 8192);
        memcpy(was, s.file.p + at, sizeof was);
        memcpy(s.file.p + at, &x, 1 + (size_t)(x >> 60) % 8);
        struct seen seen = { 0 };
        struct err e = ERR_INIT;
        if (!read(buf_span(&s.file), see, &seen, &e)) {
            assert_true(e.text[0] != '\0');
            refused++;
        }
        memcpy(s.file.p + at, was, sizeof was);
    }
    assert_true(refused > 50);
    buf_free(&s.file);
}

static void test_damage(void **state)
{
    (void)state;
    damage("lmdb", table_database_lmdb);
    damage("cdb", table_database_cdb);
}

static void test_empty(void **state)
{
    (void)state;
    static const struct { const char *type; read_fn *read; } types[] = { { "lmdb", table_database_lmdb }, { "cdb", table_database_cdb } };
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct site s;
        struct seen seen = { 0 };
        struct err e = ERR_INIT;
        make(&s, types[i].type, 0, true);
        assert_true(types[i].read(buf_span(&s.file), see, &seen, &e));
        assert_int_equal(seen.rows, 0);
        assert_false(types[i].read(SPAN_LIT("this is text"), see, &seen, &e));
        buf_free(&s.file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_and_cut_off),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

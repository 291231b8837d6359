/*
 * Selections of queued messages. The first byte says of which messages; then an option a line, its first byte which one, the
 * rest its value. What is accepted is a statement that only reads and gives each message once, in order; an option more never
 * means more messages, so that no value is anything but a value, and no condition more than one condition.
 */
#include "tests/fuzz/fuzz.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "queue/index_internal.h"
#include "queue/select.h"
#include "tests/unit/select_rows.h"

#define LINES_MAX   12
#define ID_MAX      7
#define PIECES_MAX  30 /* of work: a condition may be one that takes forever */

struct line { const char *name; struct span value; };

static unsigned pieces;

static bool is_too_long(void *arg UNUSED) { return ++pieces > PIECES_MAX; }

static struct query *the_queue(void)
{
    static struct query *q;
    static const uint64_t active[] = { 1, 5 };
    char path[64];
    struct err e = ERR_INIT;
    sqlite3 *db;
    if (q != NULL)
        return q;
    snprintf(path, sizeof path, "%s/fuzz_select.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    int fd = mkstemp(path);
    CHECK(fd >= 0 && sqlite3_open(path, &db) == SQLITE_OK);
    CHECK(sqlite3_exec(db, index_schema, NULL, NULL, NULL) == SQLITE_OK && sqlite3_exec(db, select_rows, NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
    q = query_open(path, &e);
    CHECK(q != NULL && selection_set_active(q, active, ARRAY_LEN(active), &e));
    query_on_progress(q, is_too_long, NULL);
    close(fd);
    unlink(path);
    return q;
}

static const char *name_of(uint8_t b)
{
    const struct selection_option *o = selection_options();
    size_t n = 0;
    while (o[n].name != NULL)
        n++;
    return b % (n + 1) == n ? "id" : o[b % (n + 1)].name;
}

/* Which messages, a bit each; false when it is refused, or takes too long. Options of the name `but` are left out. */
static bool select_bits(const struct line *lines, size_t n, const char *but, enum selection_of of, unsigned *bits)
{
    struct selection *s = selection_new();
    struct err e = ERR_INIT;
    sqlite3_stmt *st = NULL;
    enum query_status k = QUERY_OK;
    bool ok = true, has_where = false;
    int last = 0;
    for (size_t i = 0; ok && i < n; i++) {
        if (but != NULL && strcmp(lines[i].name, but) == 0)
            continue;
        has_where = has_where || strcmp(lines[i].name, "where") == 0;
        ok = selection_add(s, lines[i].name, lines[i].value, &e);
        CHECK(ok || e.text[0] != '\0');
        CHECK(!ok || !selection_is_empty(s));
    }
    pieces = 0;
    *bits = 0;
    if (ok) {
        k = selection_prepare(s, the_queue(), of, "m.id", NOW_US, &st, &e);
        CHECK(k == QUERY_OK || ((has_where || of == SELECT_DELETED) && e.text[0] != '\0')); /* what is deleted has no state */
    }
    if (ok && k == QUERY_OK) {
        CHECK(sqlite3_stmt_readonly(st) && sqlite3_column_count(st) == 1);
        while ((k = query_step(the_queue(), st, &e)) == QUERY_ROW) {
            int id = sqlite3_column_int(st, 0);
            CHECK(id > last && id <= ID_MAX && (id == ID_MAX) == (of == SELECT_DELETED));
            *bits |= 1u << id;
            last = id;
        }
        CHECK(k == QUERY_OK || (has_where && e.text[0] != '\0'));
    }
    sqlite3_finalize(st);
    selection_free(&s);
    return ok && k == QUERY_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of((const char *)data, n), value;
    struct line lines[LINES_MAX];
    size_t count = 0;
    unsigned all, fewer;
    int64_t number;
    if (n > 4096)
        return 0;
    enum selection_of of = fuzz_byte(&in) & 1 ? SELECT_DELETED : SELECT_QUEUE;
    while (in.n > 0 && count < LINES_MAX) {
        uint8_t which = fuzz_byte(&in);
        if (!span_next_token(&in, "\n", &value))
            value = span_of("", 0);
        lines[count++] = (struct line){ name_of(which), value };
        CHECK(!select_parse_age(value, &number) || number >= 0);
        CHECK(!select_parse_size(value, &number) || number >= 0);
    }
    if (count == 0 || !select_bits(lines, count, NULL, of, &all))
        return 0;
    for (size_t i = 0; i < count; i++)
        if (select_bits(lines, count, lines[i].name, of, &fewer))
            CHECK((all & ~fewer) == 0);
    return 0;
}

/*
 * posthousectl queue sql [-j] [--time-limit SECONDS] STATEMENT | -
 *
 * The table for people takes its widths from the first WIDTH_ROWS rows, so that a long answer need not be kept.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <sysexits.h>

#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "daemon/cmd/long_work.h"
#include "daemon/cmd/query_source.h"
#include "daemon/control/queue_json.h"

#define LIMIT_S_DEFAULT 30
#define LIMIT_S_MAX 3600
#define WIDTH_ROWS 500
#define WIDTH_MAX 60
#define SQL_MAX (1024 * 1024)

struct table {
    int columns;
    size_t *width;   /* owned */
    bool *is_number; /* owned: all rows looked at have numbers there */
    char **cells;    /* owned: rows kept for the widths */
    size_t rows;
};

/* ---- cells ---- */

/* Control characters would spoil more than the table. */
static char *cell_text(sqlite3_stmt *st, int i)
{
    if (sqlite3_column_type(st, i) == SQLITE_NULL)
        return xstrdup("");
    struct span s = query_column(st, i);
    char *t = xstrndup(s.p != NULL ? s.p : "", s.n);
    for (char *p = t; *p != '\0'; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            *p = '?';
    return t;
}

/* Characters, not bytes. */
static size_t cell_width(const char *t)
{
    size_t n = 0;
    for (; *t != '\0'; t++)
        n += ((unsigned char)*t & 0xc0) != 0x80;
    return n;
}

static void print_cell(const struct table *t, int i, const char *text)
{
    size_t have = cell_width(text), pad = t->width[i] > have ? t->width[i] - have : 0;
    bool is_last = i + 1 == t->columns;
    if (t->is_number[i])
        printf("%*s%s", (int)pad, "", text);
    else
        printf("%s%*s", text, is_last ? 0 : (int)pad, "");
    fputs(is_last ? "\n" : "  ", stdout);
}

static void widen(struct table *t, int i, const char *text)
{
    size_t n = cell_width(text);
    n = n < WIDTH_MAX ? n : WIDTH_MAX;
    if (n > t->width[i])
        t->width[i] = n;
}

static void print_head(struct table *t, sqlite3_stmt *st)
{
    for (int i = 0; i < t->columns; i++)
        print_cell(t, i, sqlite3_column_name(st, i));
    for (int i = 0; i < t->columns; i++) {
        for (size_t k = 0; k < t->width[i]; k++)
            putchar('-');
        fputs(i + 1 == t->columns ? "\n" : "  ", stdout);
    }
}

static void flush_kept(struct table *t, sqlite3_stmt *st)
{
    size_t n = t->rows * (size_t)t->columns;
    print_head(t, st);
    for (size_t k = 0; t->columns > 0 && k < n; k++) {
        print_cell(t, (int)(k % (size_t)t->columns), t->cells[k]);
        free(t->cells[k]);
    }
    free(t->cells);
    t->cells = NULL;
}

static void table_row(struct table *t, sqlite3_stmt *st, size_t row)
{
    for (int i = 0; i < t->columns; i++) {
        char *text = cell_text(st, i);
        if (row < WIDTH_ROWS) {
            int type = sqlite3_column_type(st, i);
            t->is_number[i] = t->is_number[i] && (type == SQLITE_INTEGER || type == SQLITE_FLOAT || type == SQLITE_NULL);
            widen(t, i, text);
            t->cells[row * (size_t)t->columns + (size_t)i] = text;
        } else {
            print_cell(t, i, text);
            free(text);
        }
    }
    if (row < WIDTH_ROWS && (t->rows = row + 1) == WIDTH_ROWS)
        flush_kept(t, st);
}

static struct table table_new(sqlite3_stmt *st)
{
    struct table t = { .columns = sqlite3_column_count(st) };
    size_t n = (size_t)t.columns;
    t.width = xcalloc(n + 1, sizeof *t.width);
    t.is_number = xcalloc(n + 1, sizeof *t.is_number);
    t.cells = xcalloc(n * WIDTH_ROWS + 1, sizeof *t.cells);
    for (int i = 0; i < t.columns; i++) {
        t.is_number[i] = true;
        widen(&t, i, sqlite3_column_name(st, i));
    }
    return t;
}

static void table_end(struct table *t, sqlite3_stmt *st, bool ok)
{
    if (t->cells != NULL && (ok || t->rows > 0))
        flush_kept(t, st);
    free(t->cells);
    free(t->width);
    free(t->is_number);
}

/* ---- JSON ---- */

static json_t *json_value(sqlite3_stmt *st, int i)
{
    double value;
    switch (sqlite3_column_type(st, i)) {
    case SQLITE_INTEGER:
        return json_integer(sqlite3_column_int64(st, i));
    case SQLITE_FLOAT:
        value = sqlite3_column_double(st, i);
        return isfinite(value) ? json_real(value) : json_null(); /* JSON has no infinity */
    case SQLITE_NULL:
        return json_null();
    default:
        return queue_json_text(query_column(st, i));
    }
}

static void json_row(sqlite3_stmt *st)
{
    json_t *o = json_object();
    for (int i = 0; i < sqlite3_column_count(st); i++) {
        const char *name = sqlite3_column_name(st, i);
        if (json_object_get(o, name) == NULL) {
            json_object_set_new(o, name, json_value(st, i));
            continue;
        }
        char *other = xasprintf("%s_%d", name, i + 1); /* two columns of one name */
        json_object_set_new(o, other, json_value(st, i));
        free(other);
    }
    json_dumpf(o, stdout, 0);
    putchar('\n');
    json_decref(o);
}

/* ---- the command ---- */

struct sql_run {
    struct span sql;
    bool as_json;
    int64_t limit_s;
    struct long_work work;
};

static bool stop_cb(void *arg)
{
    return long_work_is_interrupted(arg);
}

static int run(struct query *q, struct sql_run *r)
{
    struct err e = ERR_INIT;
    sqlite3_stmt *st = NULL;
    query_limit(q, r->limit_s * 1000);
    query_on_progress(q, stop_cb, &r->work);
    enum query_status k = query_prepare(q, r->sql, &st, &e);
    if (k != QUERY_OK)
        return query_source_failed(k, &e);
    struct table t = table_new(st);
    for (size_t row = 0; !ferror(stdout) && (k = query_step(q, st, &e)) == QUERY_ROW; row++) {
        if (r->as_json)
            json_row(st);
        else
            table_row(&t, st, row);
    }
    if (r->as_json)
        t.rows = 0;
    table_end(&t, st, !r->as_json && k == QUERY_OK);
    sqlite3_finalize(st);
    return k == QUERY_OK ? 0 : ferror(stdout) ? EX_IOERR : query_source_failed(k, &e);
}

static bool read_stdin(struct buf *b)
{
    char piece[4096];
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, stdin)) > 0)
        buf_add(b, piece, n);
    return !ferror(stdin) && buf_ok(b);
}

static bool parse(int argc, char **argv, struct sql_run *r)
{
    static const struct option longopts[] = {
        { "json", no_argument, NULL, 'j' }, { "time-limit", required_argument, NULL, 't' }, { 0 },
    };
    int c;
    bool ok = true;
    while ((c = getopt_long(argc, argv, "jt:", longopts, NULL)) != -1) {
        if (c == 'j')
            r->as_json = true;
        else if (c != 't' || !num_parse(span_cstr(optarg), 1, LIMIT_S_MAX, &r->limit_s))
            ok = false;
    }
    return ok && optind + 1 == argc;
}

int ctl_queue_cmd_sql(struct ctl *ctl, int argc, char **argv)
{
    struct sql_run r = { .limit_s = LIMIT_S_DEFAULT };
    struct query_source s;
    struct buf text = BUF_INIT(SQL_MAX);
    if (!parse(argc, argv, &r)) {
        ctl_complain("usage: queue sql [-j] [--time-limit SECONDS] 'SELECT ...' | -");
        return EX_USAGE;
    }
    r.sql = span_cstr(argv[optind]);
    if (span_eq(r.sql, SPAN_LIT("-"))) {
        if (!read_stdin(&text)) {
            ctl_complain("standard input cannot be read, or is longer than %d bytes", SQL_MAX);
            buf_free(&text);
            return EX_NOINPUT;
        }
        r.sql = buf_span(&text);
    }
    int status = query_source_open(ctl, &s);
    if (status == 0) {
        long_work_begin(&r.work, false);
        status = run(s.q, &r);
        long_work_end(&r.work);
        query_source_close(&s);
    }
    buf_free(&text);
    return status;
}

/*
 * posthousectl queue stats [-j] [--top N]
 *
 * Three scans, each of one index and nothing else: recipients by next hop, messages by sender, recipients by class of reason. The age
 * of a message is that of its number, which is the time it came; the columns are those of qshape(1). Senders are put together by
 * domain here, because SQLite would need longer for it than for the rest.
 */
#include <getopt.h>
#include <inttypes.h>
#include <sysexits.h>
#include <uthash.h>

#include "common/base/ascii.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "daemon/cmd/long_work.h"
#include "daemon/cmd/query_source.h"
#include "daemon/control/queue_json.h"

#define AGES 10 /* columns; the last one has no end */
#define FIRST_AGE_S 300
#define TOP_DEFAULT 20
#define LIMIT_MS 120000

struct line {
    UT_hash_handle hh;
    uint64_t total, age[AGES];
    size_t n;
    char name[];
};

struct lines {
    struct line *v; /* uthash by name */
    struct line *sum;
};

struct stats_run {
    struct query *q;
    struct long_work work;
    bool as_json;
    size_t top;
    int64_t now_us, older_us[AGES];
};

/* ---- counting ---- */

static struct line *line_new(struct span name)
{
    struct line *l = xcalloc(1, sizeof *l + name.n + 1);
    l->n = name.n;
    memcpy(l->name, name.p != NULL ? name.p : "", name.n);
    return l;
}

static struct line *line_get(struct lines *ls, struct span name, bool is_host)
{
    struct line *fresh = line_new(name), *l;
    if (is_host)
        ascii_lower_buf(fresh->name, fresh->n);
    HASH_FIND(hh, ls->v, fresh->name, fresh->n, l);
    if (l != NULL) {
        free(fresh);
        return l;
    }
    HASH_ADD_KEYPTR(hh, ls->v, fresh->name, fresh->n, fresh);
    return fresh;
}

static void add(struct line *l, const struct stats_run *r, int64_t number)
{
    int64_t age_us = r->now_us - number;
    int i = 0;
    while (i + 1 < AGES && age_us > r->older_us[i])
        i++;
    l->total++;
    l->age[i]++;
}

static struct span domain_of(struct span sender)
{
    ptrdiff_t at = span_rfind(sender, '@');
    return at < 0 ? sender : span_from(sender, (size_t)at + 1);
}

/*
 * Rows of name and number, in the order of names: one look-up for each name that differs from the one before. Stepping a million
 * rows is quicker than ten sums of SQLite's over them. Without ages: rows of name and count.
 */
static enum query_status count_rows(struct stats_run *r, sqlite3_stmt *st, bool has_ages, bool by_domain, struct lines *ls, struct err *e)
{
    struct buf last = BUF_INIT(0);
    struct line *l = NULL;
    enum query_status k;
    while ((k = query_step(r->q, st, e)) == QUERY_ROW) {
        struct span name = query_column(st, 0);
        int64_t number = sqlite3_column_int64(st, 1);
        if (l == NULL || !span_eq(name, buf_span(&last))) {
            buf_reset(&last);
            buf_add_span(&last, name);
            l = line_get(ls, by_domain ? domain_of(name) : name, has_ages);
        }
        if (has_ages) {
            add(l, r, number);
            add(ls->sum, r, number);
        } else {
            l->total += (uint64_t)number;
            ls->sum->total += (uint64_t)number;
        }
    }
    buf_free(&last);
    return k;
}

static int count(struct stats_run *r, const char *sql, bool has_ages, bool by_domain, struct lines *ls)
{
    struct err e = ERR_INIT;
    sqlite3_stmt *st = NULL;
    ls->sum = line_new(SPAN_LIT("TOTAL"));
    enum query_status k = query_prepare(r->q, span_cstr(sql), &st, &e);
    if (k == QUERY_OK)
        k = count_rows(r, st, has_ages, by_domain, ls, &e);
    sqlite3_finalize(st);
    return k == QUERY_OK ? 0 : query_source_failed(k, &e);
}

static void lines_free(struct lines *ls)
{
    struct line *l, *tmp;
    HASH_ITER(hh, ls->v, l, tmp) {
        HASH_DEL(ls->v, l);
        free(l);
    }
    free(ls->sum);
}

/* ---- printing ---- */

static int by_total(struct line *a, struct line *b)
{
    if (a->total != b->total)
        return a->total > b->total ? -1 : 1;
    return strcmp(a->name, b->name);
}

static void print_ages(const struct line *l, const char *name)
{
    printf("%40.40s %8" PRIu64, name, l->total);
    for (int i = 0; i < AGES; i++)
        printf(" %6" PRIu64, l->age[i]);
    putchar('\n');
}

static void print_heading(const char *title, bool has_ages)
{
    printf("\n%s\n", title);
    if (!has_ages)
        return;
    printf("%40s %8s", "", "T");
    int minutes = FIRST_AGE_S / 60;
    for (int i = 0; i + 1 < AGES; i++, minutes *= 2)
        printf(" %6d", minutes);
    printf(" %5d+\n", minutes / 2);
}

static void print_json(const char *kind, const struct line *l, bool has_ages)
{
    json_t *o = json_pack("{s:s, s:o, s:I}", "kind", kind, "name", queue_json_text(span_of(l->name, l->n)), "total", (json_int_t)l->total);
    json_t *ages = json_array();
    for (int i = 0; has_ages && i < AGES; i++)
        json_array_append_new(ages, json_integer((json_int_t)l->age[i]));
    if (has_ages)
        json_object_set(o, "ages", ages);
    json_decref(ages);
    json_dumpf(o, stdout, 0);
    putchar('\n');
    json_decref(o);
}

static void print_lines(const struct stats_run *r, const char *kind, const char *title, const char *empty, bool has_ages, struct lines *ls)
{
    struct line *l, *tmp;
    size_t n = 0;
    HASH_SORT(ls->v, by_total);
    if (!r->as_json)
        print_heading(title, has_ages);
    if (!r->as_json && has_ages)
        print_ages(ls->sum, "TOTAL");
    HASH_ITER(hh, ls->v, l, tmp) {
        if (n++ >= r->top)
            break;
        const char *name = l->n > 0 ? l->name : empty;
        if (r->as_json)
            print_json(kind, l, has_ages);
        else if (has_ages)
            print_ages(l, name);
        else
            printf("%8" PRIu64 "  %s\n", l->total, name);
    }
    if (!r->as_json && HASH_COUNT(ls->v) > r->top)
        printf("%40s (and %zu more: --top)\n", "", HASH_COUNT(ls->v) - r->top);
}

/* ---- the parts ---- */

static json_int_t number(const json_t *o, const char *name)
{
    return json_integer_value(json_object_get(o, name));
}

static void print_rates(const json_t *rates)
{
    static const char *const names[] = { "accepted", "recipients", "bytes", "sent", "deferred", "bounced" };
    size_t i;
    json_t *w;
    printf("\nPer minute %12s", "");
    json_array_foreach(rates, i, w)
        printf(" %9" JSON_INTEGER_FORMAT " min", number(w, "minutes"));
    putchar('\n');
    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        printf("  %-21s", names[k]);
        json_array_foreach(rates, i, w) {
            double over = json_number_value(json_object_get(w, "over_seconds")) / 60;
            printf(" %13.1f", over > 0 ? (double)number(w, names[k]) / over : 0.0);
        }
        putchar('\n');
    }
}

static int print_totals(struct stats_run *r, const json_t *daemon)
{
    struct err e = ERR_INIT;
    sqlite3_stmt *st = NULL;
    enum query_status k = query_prepare(r->q, SPAN_LIT("SELECT count(*), total(size), (SELECT count(*) FROM messages WHERE on_hold = 1),"
                                                       " (SELECT count(*) FROM recipients WHERE state <> 2) FROM messages"), &st, &e);
    if (k == QUERY_OK)
        k = query_step(r->q, st, &e);
    if (k != QUERY_ROW) {
        sqlite3_finalize(st);
        return query_source_failed(k, &e);
    }
    json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:I}", "kind", "totals", "messages", (json_int_t)sqlite3_column_int64(st, 0), "bytes",
                          (json_int_t)sqlite3_column_double(st, 1), "on_hold", (json_int_t)sqlite3_column_int64(st, 2),
                          "recipients", (json_int_t)sqlite3_column_int64(st, 3));
    sqlite3_finalize(st);
    json_t *rates = json_object_get(daemon, "rates"), *paused = json_object_get(daemon, "paused"), *j;
    size_t i;
    if (r->as_json) {
        if (daemon != NULL)
            json_object_set(o, "active", json_object_get(json_object_get(daemon, "queue"), "active"));
        json_dumpf(o, stdout, 0);
        putchar('\n');
        json_array_foreach(rates, i, j) {
            json_object_set_new(j, "kind", json_string("rate"));
            json_dumpf(j, stdout, 0);
            putchar('\n');
        }
    } else {
        char bytes[32];
        long_work_bytes((uint64_t)number(o, "bytes"), bytes, sizeof bytes);
        printf("%" JSON_INTEGER_FORMAT " messages of %s, %" JSON_INTEGER_FORMAT " recipients waiting, %" JSON_INTEGER_FORMAT
               " messages on hold\n", number(o, "messages"), bytes, number(o, "recipients"), number(o, "on_hold"));
        json_array_foreach(paused, i, j)
            printf("paused: %s %s\n", json_string_value(json_object_get(j, "kind")), json_string_value(json_object_get(j, "name")));
        if (rates != NULL)
            print_rates(rates);
    }
    json_decref(o);
    return 0;
}

static int part(struct stats_run *r, const char *kind, const char *title, const char *empty, const char *sql, bool has_ages, bool by_domain)
{
    struct lines ls = { .v = NULL };
    int status = count(r, sql, has_ages, by_domain, &ls);
    if (status == 0)
        print_lines(r, kind, title, empty, has_ages, &ls);
    lines_free(&ls);
    return status;
}

static int all(struct stats_run *r, const json_t *daemon)
{
    int status = print_totals(r, daemon);
    if (status == 0)
        status = part(r, "destination", "Recipients by next hop and minutes in the queue", "(no route yet)",
                      "SELECT nexthop, message FROM recipients WHERE state <> 2 ORDER BY nexthop", true, false);
    if (status == 0)
        status = part(r, "sender_domain", "Messages by sender domain and minutes in the queue", "<>",
                      "SELECT sender, id FROM messages ORDER BY sender", true, true);
    if (status == 0)
        status = part(r, "reason", "Recipients by reason", "(not tried yet)",
                      "SELECT reason_class, count(*) FROM recipients WHERE state <> 2 GROUP BY reason_class", false, false);
    return status;
}

static bool stop_cb(void *arg)
{
    return long_work_is_interrupted(arg);
}

static bool parse(int argc, char **argv, struct stats_run *r)
{
    static const struct option longopts[] = {
        { "json", no_argument, NULL, 'j' }, { "top", required_argument, NULL, 't' }, { 0 },
    };
    int c;
    int64_t top = -1;
    bool ok = true;
    while ((c = getopt_long(argc, argv, "jt:", longopts, NULL)) != -1) {
        if (c == 'j')
            r->as_json = true;
        else if (c != 't' || !num_parse(span_cstr(optarg), 1, INT32_MAX, &top))
            ok = false;
    }
    r->top = top > 0 ? (size_t)top : r->as_json ? SIZE_MAX : TOP_DEFAULT;
    return ok && optind == argc;
}

int ctl_queue_cmd_stats(struct ctl *ctl, int argc, char **argv)
{
    struct stats_run r = { .now_us = clock_wall_us() };
    struct query_source s;
    if (!parse(argc, argv, &r)) {
        ctl_complain("usage: queue stats [-j] [--top N]");
        return EX_USAGE;
    }
    int status = query_source_open(ctl, &s);
    if (status != 0)
        return status;
    for (int i = 0; i < AGES; i++)
        r.older_us[i] = INT64_C(1000000) * FIRST_AGE_S << i;
    long_work_begin(&r.work, false);
    r.q = s.q;
    query_limit(r.q, LIMIT_MS);
    query_on_progress(r.q, stop_cb, &r.work);
    status = all(&r, s.daemon);
    long_work_end(&r.work);
    query_source_close(&s);
    return status;
}

/* param_table: the rows, and an index of them sorted by name. */
#include "common/conf/param_table.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/conf/params.h"

#define IN(n)  .home = PARAM_HOME_PARAMS, .offset = offsetof(struct params, n)
#define ROW(n, k, d, s, t) { .name = #n, .kind = PARAM_##k, IN(n), .def = d, .status = PARAM_STATUS_##s, .doc = t },
#define P_BOOL(n, d, s, t)             ROW(n, BOOL, d, s, t)
#define P_STR(n, d, s, t)              ROW(n, STR, d, s, t)
#define P_NAME(n, d, s, t)             ROW(n, NAME, d, s, t)
#define P_RAW(n, d, s, t)              ROW(n, RAW, d, s, t)
#define P_LIST(n, d, s, t)             ROW(n, LIST, d, s, t)
#define P_TABLES(n, d, s, t)           ROW(n, TABLES, d, s, t)
#define P_RESTR(n, d, s, t)            ROW(n, RESTR, d, s, t)
#define P_ENUM(n, d, w, s, t) \
    { .name = #n, .kind = PARAM_ENUM, IN(n), .def = d, .words = w, .status = PARAM_STATUS_##s, .doc = t },
#define P_WORDS(n, d, w, s, t) \
    { .name = #n, .kind = PARAM_LIST, IN(n), .def = d, .words = w, .status = PARAM_STATUS_##s, .doc = t },
#define P_INT(n, d, lo, hi, s, t) \
    { .name = #n, .kind = PARAM_INT, IN(n), .def = d, .min = lo, .max = hi, .status = PARAM_STATUS_##s, .doc = t },
#define P_BYTES(n, d, lo, hi, s, t) \
    { .name = #n, .kind = PARAM_BYTES, IN(n), .def = d, .min = lo, .max = hi, .status = PARAM_STATUS_##s, .doc = t },
#define P_TIME(n, d, u, lo, hi, s, t) \
    { .name = #n, .kind = PARAM_TIME, IN(n), .def = d, .unit = u, .min = lo, .max = hi, \
      .status = PARAM_STATUS_##s, .doc = t },
#define P_STR_AS(n, name_, d, s, t) \
    { .name = name_, .kind = PARAM_NAME, IN(n), .def = d, .status = PARAM_STATUS_##s, .doc = t },

/* A client row makes two: one for each protocol. Where Postfix has no such name, .name stays NULL. */
#define CLIENT(n, k, sn, ln, sd, ld, s, t, ...) \
    { .name = sn, .kind = PARAM_##k, .home = PARAM_HOME_SMTP, .offset = offsetof(struct client_params, n), .def = sd, \
      .status = PARAM_STATUS_##s, .doc = t, __VA_ARGS__ }, \
    { .name = ln, .kind = PARAM_##k, .home = PARAM_HOME_LMTP, .offset = offsetof(struct client_params, n), .def = ld, \
      .status = PARAM_STATUS_##s, .doc = t, __VA_ARGS__ },
#define C_BOOL(n, sn, ln, sd, ld, s, t)      CLIENT(n, BOOL, sn, ln, sd, ld, s, t, .unit = 0)
#define C_STR(n, sn, ln, sd, ld, s, t)       CLIENT(n, STR, sn, ln, sd, ld, s, t, .unit = 0)
#define C_NAME(n, sn, ln, sd, ld, s, t)      CLIENT(n, NAME, sn, ln, sd, ld, s, t, .unit = 0)
#define C_LIST(n, sn, ln, sd, ld, s, t)      CLIENT(n, LIST, sn, ln, sd, ld, s, t, .unit = 0)
#define C_TABLES(n, sn, ln, sd, ld, s, t)    CLIENT(n, TABLES, sn, ln, sd, ld, s, t, .unit = 0)
#define C_ENUM(n, sn, ln, sd, ld, w, s, t)   CLIENT(n, ENUM, sn, ln, sd, ld, s, t, .words = w)
#define C_WORDS(n, sn, ln, sd, ld, w, s, t)  CLIENT(n, LIST, sn, ln, sd, ld, s, t, .words = w)
#define C_INT(n, sn, ln, sd, ld, lo, hi, s, t)  CLIENT(n, INT, sn, ln, sd, ld, s, t, .min = lo, .max = hi)
#define C_TIME(n, sn, ln, sd, ld, u, lo, hi, s, t) \
    CLIENT(n, TIME, sn, ln, sd, ld, s, t, .unit = u, .min = lo, .max = hi)

#define TRANSPORT(n, field, k, name_, d, s, t, ...) \
    { .name = name_, .suffix = #n, .kind = PARAM_##k, .home = PARAM_HOME_TRANSPORT, \
      .offset = offsetof(struct transport_limits, field), .def = d, .status = PARAM_STATUS_##s, .doc = t, __VA_ARGS__ },
#define T_INT(n, name_, d, lo, hi, s, t)     TRANSPORT(n, n, INT, name_, d, s, t, .min = lo, .max = hi)
#define T_FEEDBACK(n, name_, d, s, t)        TRANSPORT(n, n, FEEDBACK, name_, d, s, t, .unit = 0)
#define T_TIME(n, name_, d, u, lo, hi, s, t) \
    TRANSPORT(n, n##_ms, TIME, name_, d, s, t, .unit = u, .min = lo, .max = hi)

#define O_PARAM(n, d, s, t) OTHER(n, STR, d, s, t)
#define O_RAW(n, d, s, t)   OTHER(n, RAW, d, s, t)
#define OTHER(n, k, d, s, t) \
    { .name = #n, .kind = PARAM_##k, .home = PARAM_HOME_NONE, .def = d, .status = PARAM_STATUS_##s, .doc = t },

static const struct param_row rows[] = {
#include "common/conf/params.def"
#include "common/conf/client_params.def"
#include "common/conf/transport_params.def"
#include "common/conf/other_params.def"
};
#include "common/conf/params_undef.h"

static const struct {
    enum param_class class;
    const char *text;
} statuses[] = {
#define STATUS(id, class_, text_) [PARAM_STATUS_##id] = { .class = PARAM_CLASS_##class_, .text = text_ },
#include "common/conf/param_status.def"
#undef STATUS
};

struct param_index {
    size_t count;
    size_t row[ARRAY_LEN(rows)]; /* sorted by name; rows without a name are left out */
};

size_t param_count(void)
{
    return ARRAY_LEN(rows);
}

const struct param_row *param_row(size_t i)
{
    return &rows[i];
}

enum param_class param_status_class(enum param_status s)
{
    return statuses[s].class;
}

const char *param_status_text(enum param_status s)
{
    return statuses[s].text;
}

const char *param_kind_name(enum param_kind k)
{
    switch (k) {
    case PARAM_BOOL: return "boolean";
    case PARAM_INT: return "integer";
    case PARAM_BYTES: return "bytes";
    case PARAM_TIME: return "time";
    case PARAM_STR:
    case PARAM_NAME:
    case PARAM_RAW: return "string";
    case PARAM_LIST: return "list";
    case PARAM_TABLES: return "tables";
    case PARAM_RESTR: return "restrictions";
    case PARAM_ENUM: return "word";
    case PARAM_FEEDBACK: return "feedback";
    }
    return "";
}

static int compare_rows(const void *a, const void *b)
{
    return strcmp(rows[*(const size_t *)a].name, rows[*(const size_t *)b].name);
}

struct param_index *param_index_new(void)
{
    struct param_index *ix = xcalloc(1, sizeof(*ix));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].name != NULL)
            ix->row[ix->count++] = i;
    }
    qsort(ix->row, ix->count, sizeof(ix->row[0]), compare_rows);
    return ix;
}

void param_index_free(struct param_index **ix)
{
    free(*ix);
    *ix = NULL;
}

size_t param_index_count(const struct param_index *ix)
{
    return ix->count;
}

static int compare_name(struct span name, const char *row_name)
{
    size_t n = strlen(row_name);
    int c = memcmp(name.p, row_name, name.n < n ? name.n : n);
    return c != 0 ? c : (name.n > n) - (name.n < n);
}

ptrdiff_t param_find(const struct param_index *ix, struct span name)
{
    size_t lo = 0, hi = name.n > 0 ? ix->count : 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = compare_name(name, rows[ix->row[mid]].name);
        if (c == 0)
            return (ptrdiff_t)ix->row[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return -1;
}

size_t param_sorted(const struct param_index *ix, size_t i)
{
    return ix->row[i];
}

const struct param_row *param_transport_row(struct span name, struct span transport)
{
    if (name.n <= transport.n + 1 || !span_starts_with(name, transport) || name.p[transport.n] != '_')
        return NULL;
    struct span suffix = span_from(name, transport.n + 1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].suffix != NULL && span_eq(suffix, span_cstr(rows[i].suffix)))
            return &rows[i];
    }
    return NULL;
}

const struct param_row *param_transport_family(size_t i)
{
    for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
        if (rows[r].suffix != NULL && i-- == 0)
            return &rows[r];
    }
    return NULL;
}

/* A bit for each byte that is there, some sharing one. */
static uint64_t bytes_in(struct span s)
{
    uint64_t set = 0;
    for (size_t i = 0; i < s.n; i++)
        set |= UINT64_C(1) << (s.p[i] & 63);
    return set;
}

/* Levenshtein distance, given up (limit + 1) as soon as every way is longer than the limit. */
static size_t edit_distance(struct span a, const char *b, size_t limit)
{
    size_t row[128];
    size_t n = strlen(b);
    if (n >= ARRAY_LEN(row) || a.n > n + limit || n > a.n + limit)
        return limit + 1;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.n; i++) {
        size_t diagonal = row[0], best = row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = diagonal + (a.p[i - 1] != b[j - 1]);
            size_t step = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = change < step ? change : step;
            best = row[j] < best ? row[j] : best;
        }
        if (best > limit)
            return limit + 1;
    }
    return row[n];
}

const char *param_nearest(struct span name)
{
    const char *best = NULL;
    size_t limit = name.n / 4 + 1;
    uint64_t has = bytes_in(name);
    if (limit > 5)
        limit = 5;
    for (size_t i = 0; i < ARRAY_LEN(rows) && name.n > 0; i++) {
        /* Each byte that only the one has costs an edit: that alone excludes nearly all. */
        uint64_t wants = rows[i].name ? bytes_in(span_cstr(rows[i].name)) : 0;
        bool is_near = rows[i].name != NULL && (size_t)__builtin_popcountll(has & ~wants) <= limit &&
                       (size_t)__builtin_popcountll(wants & ~has) <= limit;
        size_t d = is_near ? edit_distance(name, rows[i].name, limit) : limit + 1;
        if (d <= limit && d < name.n) {
            best = rows[i].name;
            if (d == 0)
                break;
            limit = d - 1;
        }
    }
    return best;
}

/* param_value: one strict parser a kind; "expected ..." texts are what `posthousectl check` shows. */
#include "common/conf/param_value.h"
#include "common/base/ascii.h"
#include "common/base/num.h"
#include "common/conf/conf.h"

struct value {
    bool flag;
    int64_t number;
    const char *text;
};

static int64_t unit_ms(char unit)
{
    switch (unit) {
    case 's': return 1000;
    case 'm': return INT64_C(60000);
    case 'h': return INT64_C(3600000);
    case 'd': return INT64_C(86400000);
    case 'w': return INT64_C(604800000);
    default:  return 0;
    }
}

bool param_parse_time(struct span text, char unit, int64_t *ms)
{
    int64_t n, factor = unit_ms(unit);
    if (text.n > 0 && ascii_is_alpha(text.p[text.n - 1])) {
        factor = unit_ms(ascii_lower(text.p[text.n - 1]));
        text.n--;
    }
    return factor > 0 && num_parse(text, 0, INT64_MAX, &n) && !__builtin_mul_overflow(n, factor, ms);
}

static bool parse_bool(const char *text, bool *out)
{
    *out = ascii_casecmp(text, "yes") == 0 || ascii_casecmp(text, "on") == 0;
    return *out || ascii_casecmp(text, "no") == 0 || ascii_casecmp(text, "off") == 0;
}

static bool parse_bytes(struct span text, int64_t *out)
{
    int64_t n, factor = 1;
    if (text.n > 1) {
        switch (ascii_lower(text.p[text.n - 1])) {
        case 'k': factor = 1 << 10; break;
        case 'm': factor = 1 << 20; break;
        case 'g': factor = 1 << 30; break;
        default: break;
        }
    }
    if (factor > 1)
        text.n--;
    return num_parse(text, 0, INT64_MAX, &n) && !__builtin_mul_overflow(n, factor, out);
}

static const char *unit_name(char unit)
{
    switch (unit) {
    case 'm': return "minutes";
    case 'h': return "hours";
    case 'd': return "days";
    case 'w': return "weeks";
    default:  return "seconds";
    }
}

/* Is text one of a|b|c, without regard to case? */
static bool find_word(const char *words, struct span text)
{
    struct span rest = span_cstr(words);
    for (;;) {
        ptrdiff_t bar = span_find(rest, '|');
        struct span word = span_of(rest.p, bar < 0 ? rest.n : (size_t)bar);
        if (span_ieq(word, text))
            return true;
        if (bar < 0)
            return false;
        rest = span_from(rest, (size_t)bar + 1);
    }
}

static bool are_words(const char *words, struct span list)
{
    struct span item;
    while (conf_list_next(&list, &item, NULL))
        if (!find_word(words, item))
            return false;
    return true;
}

static bool is_fraction(struct span s)
{
    bool digit = false, dot = false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '.' && !dot)
            dot = true;
        else if (ascii_is_digit(s.p[i]))
            digit = true;
        else
            return false;
    }
    return digit;
}

/* NUMBER, or NUMBER / NUMBER, or NUMBER / concurrency, or NUMBER / sqrt_concurrency */
static bool is_feedback(struct span s)
{
    ptrdiff_t slash = span_find(s, '/');
    struct span over = span_trim(span_of(s.p, slash < 0 ? s.n : (size_t)slash));
    if (!is_fraction(over))
        return false;
    if (slash < 0)
        return true;
    struct span under = span_trim(span_from(s, (size_t)slash + 1));
    return is_fraction(under) || span_eq(under, SPAN_LIT("concurrency")) ||
           span_eq(under, SPAN_LIT("sqrt_concurrency"));
}

static void expect_range(const struct param_row *row, struct err *e)
{
    if (row->max == INT64_MAX || row->max == INT32_MAX)
        err_set(e, "expected a whole number, at least %lld", (long long)row->min);
    else
        err_set(e, "expected a whole number from %lld to %lld", (long long)row->min, (long long)row->max);
}

/* A few parameters of our own reach below a second, and only those are given in ms. */
static bool takes_ms(const struct param_row *row)
{
    return row->min % 1000 != 0;
}

static bool parse_row_time(const struct param_row *row, struct span s, int64_t *ms)
{
    if (takes_ms(row) && s.n > 2 && span_ieq(span_from(s, s.n - 2), SPAN_LIT("ms")))
        return num_parse(span_of(s.p, s.n - 2), row->min, row->max, ms);
    return param_parse_time(s, row->unit, ms) && *ms >= row->min && *ms <= row->max;
}

static void expect_time(const struct param_row *row, struct err *e)
{
    if (takes_ms(row))
        err_set(e, "expected a time such as %lldms, 30s or 5m, at least %lldms (a number alone means %s)", (long long)row->min,
                (long long)row->min, unit_name(row->unit));
    else if (row->min > 0)
        err_set(e, "expected a time such as 30s, 5m, 2h or 1d, at least %gs (a number alone means %s)",
                (double)row->min / 1000.0, unit_name(row->unit));
    else
        err_set(e, "expected a time such as 30s, 5m, 2h or 1d (a number alone means %s)", unit_name(row->unit));
}

static bool parse_value(const struct param_row *row, const char *text, struct value *v)
{
    struct span s = span_cstr(text);
    v->text = text;
    switch (row->kind) {
    case PARAM_BOOL:
        return parse_bool(text, &v->flag);
    case PARAM_INT:
        return num_parse(s, row->min, row->max, &v->number);
    case PARAM_BYTES:
        return parse_bytes(s, &v->number) && v->number >= row->min && v->number <= row->max;
    case PARAM_TIME:
        return parse_row_time(row, s, &v->number);
    case PARAM_ENUM:
        return find_word(row->words, s);
    case PARAM_FEEDBACK:
        return is_feedback(s);
    case PARAM_NAME:
        return s.n > 0;
    case PARAM_STR:
    case PARAM_RAW:
    case PARAM_TABLES:
    case PARAM_RESTR:
        return true;
    case PARAM_LIST:
        return row->words == NULL || are_words(row->words, s);
    }
    return false;
}

/* What parse_value() wants; said only when it is not there, since a configuration has a thousand values. */
static void expect(const struct param_row *row, struct err *e)
{
    switch (row->kind) {
    case PARAM_BOOL:
        err_set(e, "expected yes or no");
        break;
    case PARAM_INT:
        expect_range(row, e);
        break;
    case PARAM_BYTES:
        err_set(e, "expected a size such as 4096, 64K, 16M or 1G, from %lld to %lld bytes", (long long)row->min,
                (long long)row->max);
        break;
    case PARAM_TIME:
        expect_time(row, e);
        break;
    case PARAM_ENUM:
        err_set(e, "expected one of: %s%s", row->words + (row->words[0] == '|'),
                row->words[0] == '|' ? " (or nothing)" : "");
        break;
    case PARAM_FEEDBACK:
        err_set(e, "expected a number, or NUMBER / concurrency, or NUMBER / sqrt_concurrency");
        break;
    case PARAM_NAME:
        err_set(e, "it must not be empty");
        break;
    case PARAM_LIST:
        err_set(e, "expected words of this list: %s", row->words != NULL ? row->words : "");
        break;
    case PARAM_STR:
    case PARAM_RAW:
    case PARAM_TABLES:
    case PARAM_RESTR:
        break;
    }
}

bool param_check(const struct param_row *row, const char *text, struct err *e)
{
    struct value v;
    bool ok = parse_value(row, text, &v);
    if (!ok)
        expect(row, e);
    return ok;
}

bool param_store(const struct param_row *row, const char *text, void *home, struct err *e)
{
    struct value v;
    char *field = (char *)home + row->offset;
    if (!parse_value(row, text, &v)) {
        expect(row, e);
        return false;
    }
    switch (row->kind) {
    case PARAM_BOOL:
        memcpy(field, &v.flag, sizeof(v.flag));
        break;
    case PARAM_INT:
    case PARAM_BYTES:
    case PARAM_TIME:
        memcpy(field, &v.number, sizeof(v.number));
        break;
    case PARAM_STR:
    case PARAM_NAME:
    case PARAM_RAW:
    case PARAM_LIST:
    case PARAM_TABLES:
    case PARAM_RESTR:
    case PARAM_ENUM:
    case PARAM_FEEDBACK:
        memcpy(field, &v.text, sizeof(v.text));
        break;
    }
    return true;
}

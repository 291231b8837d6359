/*
 * The number is the microsecond, so the short form is its hexadecimal text and the long form splits it into seconds
 * and microseconds. The remainder behind the 'z' stands for nothing here (elsewhere it is an inode) and is always "0".
 */
#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/num.h"
#include "queue/qid.h"

#define US_PER_S 1000000u
#define SECONDS_DIGITS 6
#define MICROS_DIGITS 4

/* No vowels, so that no words appear; in ASCII order, so that text sorts as the number does. */
static const char digits52[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

uint64_t qid_new(struct qid_source *s)
{
    uint64_t now = (uint64_t)clock_wall_us();
    uint64_t last = atomic_load_explicit(&s->last, memory_order_relaxed), id;
    do
        id = now > last ? now : last + 1;
    while (!atomic_compare_exchange_weak_explicit(&s->last, &last, id, memory_order_relaxed, memory_order_relaxed));
    return id;
}

void qid_seen(struct qid_source *s, uint64_t id)
{
    uint64_t last = atomic_load_explicit(&s->last, memory_order_relaxed);
    while (last < id &&
           !atomic_compare_exchange_weak_explicit(&s->last, &last, id, memory_order_relaxed, memory_order_relaxed))
        ;
}

/* Writes at least `width` digits; returns how many. */
static size_t put_base52(char *out, uint64_t v, size_t width)
{
    char tmp[16];
    size_t n = 0;
    while (v != 0 || n < width) {
        tmp[n++] = digits52[v % 52];
        v /= 52;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = tmp[n - 1 - i];
    return n;
}

/* By hand, because several log lines of every message begin with it. */
static size_t put_hex(char *out, uint64_t v)
{
    size_t n = v == 0 ? 1 : (size_t)(67 - __builtin_clzll(v)) / 4;
    for (size_t i = n; i > 0; v >>= 4)
        out[--i] = "0123456789ABCDEF"[v & 15];
    out[n] = '\0';
    return n;
}

size_t qid_format(uint64_t id, bool long_form, char out[QID_TEXT_MAX])
{
    if (!long_form)
        return put_hex(out, id);
    size_t n = put_base52(out, id / US_PER_S, SECONDS_DIGITS);
    n += put_base52(out + n, id % US_PER_S, MICROS_DIGITS);
    out[n++] = 'z';
    out[n++] = '0';
    out[n] = '\0';
    return n;
}

static bool parse_base52(struct span s, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        const char *d = s.p[i] == '\0' ? NULL : strchr(digits52, s.p[i]);
        if (d == NULL || __builtin_mul_overflow(v, 52, &v) || __builtin_add_overflow(v, (uint64_t)(d - digits52), &v))
            return false;
    }
    *out = v;
    return true;
}

/* Upper case only: this is what we print, and it keeps the two forms apart. */
static bool parse_short(struct span t, uint64_t *id)
{
    for (size_t i = 0; i < t.n; i++)
        if (t.p[i] >= 'a' && t.p[i] <= 'f')
            return false;
    return t.n > 0 && t.p[0] != '0' && num_parse_hex(t, id);
}

bool qid_parse(struct span t, uint64_t *id)
{
    uint64_t s, us;
    size_t time_n = SECONDS_DIGITS + MICROS_DIGITS;
    ptrdiff_t z = span_rfind(t, 'z');
    if (z < (ptrdiff_t)time_n || (size_t)z + 1 >= t.n || t.n >= QID_TEXT_MAX)
        return parse_short(t, id);
    if (!span_eq(span_from(t, (size_t)z + 1), SPAN_LIT("0")))
        return false;
    time_n = (size_t)z;
    if (time_n > SECONDS_DIGITS + MICROS_DIGITS && t.p[0] == '0') /* one text for each number */
        return false;
    if (!parse_base52(span_of(t.p, time_n - MICROS_DIGITS), &s) ||
        !parse_base52(span_of(t.p + time_n - MICROS_DIGITS, MICROS_DIGITS), &us) || us >= US_PER_S ||
        s > (UINT64_MAX - us) / US_PER_S)
        return false;
    *id = s * US_PER_S + us;
    return true;
}

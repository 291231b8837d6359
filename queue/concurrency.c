#include <errno.h>
#include <math.h>

#include "common/base/ascii.h"
#include "common/base/span.h"
#include "queue/concurrency.h"

/* A plain decimal number without sign or exponent. */
static bool parse_number(struct span s, double *out)
{
    double v = 0, unit = 1;
    bool seen = false, point = false;
    if (s.n > 20)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '.' && !point) {
            point = true;
        } else if (ascii_is_digit(s.p[i])) {
            seen = true;
            v = v * 10 + (s.p[i] - '0');
            if (point)
                unit *= 10;
        } else {
            return false;
        }
    }
    *out = v / unit;
    return seen;
}

bool feedback_parse(const char *text, struct feedback *out)
{
    struct span all = span_trim(span_cstr(text)), below = { 0 };
    struct feedback f = { .per = FEEDBACK_CONSTANT };
    ptrdiff_t slash = span_find(all, '/');
    if (slash >= 0) {
        below = span_trim(span_from(all, (size_t)slash + 1));
        all = span_trim(span_of(all.p, (size_t)slash));
    }
    if (!parse_number(all, &f.number))
        return false;
    if (slash >= 0) {
        double by;
        if (span_ieq_cstr(below, "concurrency"))
            f.per = FEEDBACK_PER_CONCURRENCY;
        else if (span_ieq_cstr(below, "sqrt_concurrency"))
            f.per = FEEDBACK_PER_SQRT_CONCURRENCY;
        else if (parse_number(below, &by) && by > 0)
            f.number /= by;
        else
            return false;
    }
    *out = f;
    return true;
}

double feedback_value(const struct feedback *f, uint32_t window)
{
    double v = f->number;
    double w = window < 1 ? 1 : window;
    switch (f->per) {
    case FEEDBACK_CONSTANT: break;
    case FEEDBACK_PER_CONCURRENCY: v /= w; break;
    case FEEDBACK_PER_SQRT_CONCURRENCY: v /= sqrt(w); break;
    }
    return v > 1 ? 1 : v;
}

void window_init(struct window *w, const struct window_limits *l)
{
    *w = (struct window){ .size = l->initial < 1 ? 1 : l->initial };
    window_clamp(w, l);
}

void window_clamp(struct window *w, const struct window_limits *l)
{
    if (l->max > 0 && w->size > l->max)
        w->size = l->max;
}

void window_revive(struct window *w, const struct window_limits *l)
{
    window_init(w, l);
}

void window_success(struct window *w, const struct window_limits *l, uint32_t busy)
{
    w->failed_cohorts = 0;
    if (w->is_dead) {
        window_init(w, l);
        if (busy > 0)
            w->size = busy;
        window_clamp(w, l);
        return;
    }
    /* A window far above what is really used could not react to trouble: it stays within reach of `busy`. */
    if ((l->max > 0 && w->size >= l->max) || w->size >= busy + l->initial)
        return;
    double step = feedback_value(&l->positive, w->size);
    w->success += step;
    /* Half a step of slack keeps rounding from costing one delivery more than documented. */
    if (step > 0 && w->success + step / 2 >= 1) {
        w->size++;
        w->success -= 1;
        if (w->success < 0)
            w->success = 0;
        w->failure = 0;
    }
}

bool window_failure(struct window *w, const struct window_limits *l)
{
    if (w->is_dead)
        return false;
    w->failed_cohorts += 1.0 / (w->size < 1 ? 1 : w->size);
    /* Compared with a little slack: n times 1/n must count as a whole cohort. */
    if (l->failed_cohort_limit > 0 && w->failed_cohorts + 1e-9 >= l->failed_cohort_limit) {
        w->is_dead = true;
        return true;
    }
    if (w->size > 1) {
        double step = feedback_value(&l->negative, w->size);
        if (step > 0 && w->failure < step / 2) {
            w->size--;
            w->success = 0;
            w->failure += 1;
        }
        w->failure -= step;
    }
    return false;
}

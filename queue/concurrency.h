/*
 * concurrency: how many deliveries to one destination may run at once
 *
 * Purpose    a window that grows with success and shrinks with failure, and the count of failed cohorts after which a
 *            destination is taken for dead
 * Source     postconf(5) default_destination_concurrency_positive_feedback, _negative_feedback, _failed_cohort_limit,
 *            initial_destination_concurrency; SCHEDULER_README for the meaning of feedback and hysteresis
 * Threads    values; guarded by whoever owns them (the scheduler's lock)
 *
 * Success is counted up to 1 before the window grows by one (the change comes at the end of a run of 1/feedback
 * successes); failure shrinks the window at the beginning of such a run, so that one bad reply after a good time takes effect at
 * once and the following ones do not empty the window at a stroke.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"

enum feedback_per { FEEDBACK_CONSTANT, FEEDBACK_PER_CONCURRENCY, FEEDBACK_PER_SQRT_CONCURRENCY };

struct feedback {
    double number; /* 0 to 1 */
    enum feedback_per per;
};

struct window_limits {
    uint32_t initial;
    uint32_t max;              /* 0: none */
    double failed_cohort_limit; /* 0: never dead */
    struct feedback positive, negative;
};

struct window {
    uint32_t size;
    double success, failure; /* progress within the present run */
    double failed_cohorts;
    bool is_dead;
};

/* "N", "N/M", "N/concurrency", "N/sqrt_concurrency"; the result is cut to 0..1. False on anything else. */
bool feedback_parse(const char *text, struct feedback *out) MUST_CHECK;
double feedback_value(const struct feedback *f, uint32_t window);

void window_init(struct window *w, const struct window_limits *l);
/* A delivery found the site alive; busy: deliveries under way, this one included. */
void window_success(struct window *w, const struct window_limits *l, uint32_t busy);
/* The site could not be used. True when it is now taken for dead (and was not before). */
bool window_failure(struct window *w, const struct window_limits *l) MUST_CHECK;
/* The back-off is over: start as with an unknown site. */
void window_revive(struct window *w, const struct window_limits *l);
/* After a change of limits. */
void window_clamp(struct window *w, const struct window_limits *l);

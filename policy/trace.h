/*
 * trace: what an evaluation looked at, in the order in which it did
 *
 * Purpose    with a trace in policy_client, policy_check() notes each list, restriction, table key, DNS answer and postponed
 *            answer; `posthousectl explain` prints them. Without one it costs a branch here and there.
 * Threads    one owner at a time, as the arena it lives in
 * Ownership  events live in the trace's arena, until policy_trace_reset()
 */
#pragma once
#include "common/table/maps.h"
#include "policy/route.h"

/* What became of a restriction. The higher counts when several things happen. */
enum policy_outcome {
    OUTCOME_NONE,      /* it had nothing to say */
    OUTCOME_PASSED,    /* its table has the key and says DUNNO */
    OUTCOME_ACTED,     /* something was logged, or is to be done with the message */
    OUTCOME_POSTPONED, /* defer_if_permit, defer_if_reject */
    OUTCOME_WARNED,    /* it would have rejected: warn_if_reject */
    OUTCOME_PERMIT,
    OUTCOME_DEFER,
    OUTCOME_REJECT,
    OUTCOME_COUNT
};
/* "none", "dunno", ... */
const char *policy_outcome_word(enum policy_outcome o);

enum policy_event_kind {
    EVENT_LIST,     /* name: the parameter */
    EVENT_STEP,     /* name, arg: restriction and its argument; outcome */
    EVENT_LOOKUP,   /* name: table, arg: key; got; value */
    EVENT_DNS,      /* name: what was asked for, arg: type; value: the answer */
    EVENT_NOTE,     /* name: "reject_warning", "hold", ...; value: text */
    EVENT_LATER,    /* name: defer_if_permit or defer_if_reject; value: the reply that is postponed */
    EVENT_SERVICE,  /* name: policy server; value: its action. is_skipped: it was not asked */
    EVENT_REMARK,   /* value: text */
};
struct policy_event {
    struct policy_event *next;
    enum policy_event_kind kind;
    enum policy_outcome outcome;
    enum lookup got;
    unsigned depth;
    bool is_warn_only, is_skipped;
    struct span name, arg, value;
};
struct policy_trace {
    struct arena *arena;          /* borrowed */
    struct policy_event *first, *last;
    unsigned depth;
    bool asks_services;           /* else policy servers and address probes are left alone */
    struct lookup_watch watch;    /* hung on the arena of an evaluation */
};
void policy_trace_init(struct policy_trace *t, struct arena *a);
void policy_trace_reset(struct policy_trace *t);
/* Notes each look-up whose values go to this arena. NULL ends it. */
void policy_trace_watch(struct policy_trace *t, struct arena *a);
/* A new event, with copies of the texts; for callers that add their own. */
struct policy_event *policy_trace_add(struct policy_trace *t, enum policy_event_kind kind, struct span name, struct span arg,
                                      struct span value);

/* ---- counters ---- */
/* One restriction of one list of one listener, since the list has been as it is. */
struct policy_count {
    const char *service;          /* of master.cf; "" is main.cf alone */
    const char *list;             /* parameter, or restriction class */
    struct span name, arg;
    bool is_warn_only, is_class;
    size_t position;              /* from 0 */
    uint64_t evaluated, outcome[OUTCOME_COUNT]; /* [OUTCOME_NONE]: had nothing to say */
};
/* In the order of evaluation. Commands that wait for DNS count once, when they are answered. */
void policy_each_count(const struct policy *p, void (*fn)(void *arg, const struct policy_count *c), void *arg);

#include "policy/answers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/table/dns_filter.h"

#define SPARE_MAX 4     /* a session may live long between two questions: a few hundred bytes */
#define SPARE_NAME 96
#define WAIT_MS 60000 /* policy_answers_wait(): more than the resolver's own limits */

struct question {
    struct question *next;
    struct policy_answers *owner;
    struct dns_answer *answer; /* counted; NULL: not here yet */
    bool is_filtered;
    enum dns_type type;
    size_t name_n;
    char name[];
};

struct memo {
    struct memo *next;
    const void *step;
    size_t n;
    char value[];
};

/* An address that was asked about. */
struct verify_question {
    struct verify_question *next;
    struct policy_answers *owner;
    const struct params *p;    /* borrowed until it is asked */
    int64_t wait_ms;
    bool is_asked;
    struct verify_result result; /* when is_asked and done */
    size_t n;
    char address[];
};

struct policy_answers {
    struct dns *dns;
    const struct dns_filter *filter; /* NULL: none */
    struct verifier *verifier; /* NULL: none */
    struct verify_question *addresses; /* owned */
    struct question *list;     /* owned; a few dozen, of a hostile command a few hundred (EVAL_SERVERS_MAX) */
    struct question *spare;    /* owned; to be used again, each with room for SPARE_NAME bytes of name */
    unsigned spare_count;
    struct memo *memos;        /* owned */
    atomic_uint open;          /* questions under way, and the asker itself */
    void (*done)(void *arg);
    void *arg;
    unsigned slept;            /* pauses that are over */
    int64_t sleep_ms;          /* the one that is wanted */
};

static const struct dns_answer no_resolver = {
    .status = DNS_TEMPFAIL, .qname = "", .final_name = "", .why = "Host not found, try again",
};

struct policy_answers *policy_answers_new(struct dns *dns)
{
    struct policy_answers *a = xcalloc(1, sizeof *a);
    a->dns = dns;
    return a;
}

void policy_answers_clear(struct policy_answers *a)
{
    while (a->list != NULL) {
        struct question *q = a->list;
        a->list = q->next;
        dns_answer_unref(&q->answer);
        if (a->spare_count < SPARE_MAX && q->name_n < SPARE_NAME) {
            q->next = a->spare;
            a->spare = q;
            a->spare_count++;
        } else {
            free(q);
        }
    }
    while (a->addresses != NULL) {
        struct verify_question *q = a->addresses;
        a->addresses = q->next;
        free(q);
    }
    while (a->memos != NULL) {
        struct memo *m = a->memos;
        a->memos = m->next;
        free(m);
    }
    a->slept = 0;
    a->sleep_ms = 0;
}

void policy_answers_free(struct policy_answers **a)
{
    if (*a == NULL)
        return;
    policy_answers_clear(*a);
    while ((*a)->spare != NULL) {
        struct question *q = (*a)->spare;
        (*a)->spare = q->next;
        free(q);
    }
    free(*a);
    *a = NULL;
}

void policy_answers_set_filter(struct policy_answers *a, const struct dns_filter *f)
{
    a->filter = f;
}

/* On the thread that evaluates, not on the dns thread: a table may take its time. */
static const struct dns_answer *filtered(const struct policy_answers *a, struct question *q)
{
    if (q->answer != NULL && a->filter != NULL && !q->is_filtered) {
        struct dns_answer *whole = q->answer;
        q->answer = dns_filter_apply(a->filter, whole);
        q->is_filtered = true;
        dns_answer_unref(&whole);
    }
    return q->answer;
}

/* In memory that an earlier question has left, when there is some. */
static struct question *question_new(struct policy_answers *a, struct span name, enum dns_type type)
{
    struct question *q = a->spare;
    if (q != NULL && name.n < SPARE_NAME) {
        a->spare = q->next;
        a->spare_count--;
    } else {
        q = xmalloc(sizeof *q + (name.n < SPARE_NAME ? SPARE_NAME : name.n + 1));
    }
    *q = (struct question){ .owner = a, .type = type, .name_n = name.n };
    if (name.n > 0)
        memcpy(q->name, name.p, name.n);
    q->name[name.n] = '\0';
    return q;
}

const struct dns_answer *policy_answers_get(struct policy_answers *a, struct span name, enum dns_type type)
{
    if (a == NULL || a->dns == NULL)
        return &no_resolver;
    struct question **end = &a->list;
    for (; *end != NULL; end = &(*end)->next)
        if ((*end)->type == type && span_eq(name, span_of((*end)->name, (*end)->name_n)))
            return filtered(a, *end);
    struct question *q = question_new(a, name, type);
    *end = q;
    q->answer = dns_query_cached(a->dns, name, type); /* what is known need not be waited for */
    if (q->answer != NULL)
        return filtered(a, q);
    return NULL;
}

void policy_answers_set_verifier(struct policy_answers *a, struct verifier *v)
{
    a->verifier = v;
}

enum answers_status policy_answers_verify(struct policy_answers *a, const struct params *p, struct span address, int64_t wait_ms,
                                          const struct verify_result **out)
{
    if (a == NULL || a->verifier == NULL)
        return ANSWERS_NONE;
    struct verify_question *q = a->addresses;
    while (q != NULL && !span_eq(address, span_of(q->address, q->n)))
        q = q->next;
    if (q == NULL) {
        q = xcalloc(1, sizeof *q + address.n + 1);
        *q = (struct verify_question){ .next = a->addresses, .owner = a, .p = p, .wait_ms = wait_ms, .n = address.n };
        memcpy(q->address, address.p, address.n);
        a->addresses = q;
        q->is_asked = verifier_peek(a->verifier, p, address, &q->result);
    }
    *out = &q->result;
    return q->is_asked ? ANSWERS_HERE : ANSWERS_WAIT;
}

static void close_one(struct policy_answers *a)
{
    /* acq_rel: all answers are seen by whom `done` tells */
    if (atomic_fetch_sub_explicit(&a->open, 1, memory_order_acq_rel) == 1)
        a->done(a->arg);
}

static void answered(void *arg, struct dns_answer *answer)
{
    struct question *q = arg;
    q->answer = answer;
    close_one(q->owner);
}

static void verified(void *arg, const struct verify_result *r)
{
    struct verify_question *q = arg;
    q->result = *r;
    close_one(q->owner);
}

static void ask_verifier(struct policy_answers *a)
{
    for (struct verify_question *q = a->addresses; q != NULL; q = q->next) {
        if (q->is_asked)
            continue;
        q->is_asked = true;
        atomic_fetch_add_explicit(&a->open, 1, memory_order_relaxed);
        verifier_ask(a->verifier, q->p, span_of(q->address, q->n), q->wait_ms, verified, q);
    }
}

void policy_answers_ask(struct policy_answers *a, void (*done)(void *arg), void *arg)
{
    a->done = done;
    a->arg = arg;
    atomic_store_explicit(&a->open, 1, memory_order_relaxed);
    for (struct question *q = a->list; q != NULL; q = q->next) {
        if (q->answer != NULL)
            continue;
        atomic_fetch_add_explicit(&a->open, 1, memory_order_relaxed);
        dns_query(a->dns, span_of(q->name, q->name_n), q->type, answered, q);
    }
    ask_verifier(a);
    close_one(a);
}

void policy_answers_wait(struct policy_answers *a)
{
    for (struct verify_question *q = a->addresses; q != NULL; q = q->next) {
        if (!q->is_asked)
            q->result = (struct verify_result){ .status = VERIFY_TODO, .text = "Address verification in progress" };
        q->is_asked = true;
    }
    for (struct question *q = a->list; q != NULL; q = q->next)
        if (q->answer == NULL)
            q->answer = dns_query_wait(a->dns, span_of(q->name, q->name_n), q->type, clock_mono_ms() + WAIT_MS);
}

bool policy_answers_recall(struct policy_answers *a, const void *step, struct span *value)
{
    for (const struct memo *m = a != NULL ? a->memos : NULL; m != NULL; m = m->next) {
        if (m->step != step)
            continue;
        *value = span_of(m->value, m->n);
        return true;
    }
    return false;
}

void policy_answers_remember(struct policy_answers *a, const void *step, struct span value)
{
    if (a == NULL)
        return;
    struct memo *m = xcalloc(1, sizeof *m + value.n + 1);
    m->step = step;
    m->n = value.n;
    if (value.n > 0)
        memcpy(m->value, value.p, value.n);
    m->next = a->memos;
    a->memos = m;
}

bool policy_answers_has_slept(struct policy_answers *a, unsigned n, int64_t ms)
{
    if (a == NULL || n < a->slept)
        return true;
    a->sleep_ms = ms;
    return false;
}

int64_t policy_answers_take_sleep_ms(struct policy_answers *a)
{
    int64_t ms = a->sleep_ms;
    a->sleep_ms = 0;
    a->slept += ms > 0;
    return ms;
}

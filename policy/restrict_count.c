/*
 * Counters of restrictions. A list knows how often it was begun; a restriction, how often each outcome other than "nothing to
 * say" was its own. How often it was evaluated follows: as often as its list was begun, less the times that one before
 * it ended the list. So the common case, nothing to say, costs nothing.
 *
 * An evaluation notes its outcomes and counts them at its end: one that must wait is done again, and counts once.
 * The counters of a list belong to all snapshots in which it is the same, so they go on after a reload.
 */
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "policy/restrict_internal.h"
#include "policy/trace.h"

struct list_counts {
    atomic_uint refs;
    char *service, *list; /* owned */
    char *signature;      /* owned; the list as compiled: what must be the same for the counters to go on */
    size_t n;
    atomic_uint_fast64_t begun;
    atomic_uint_fast64_t (*outcomes)[OUTCOME_COUNT]; /* owned; n of them */
};

/* Names and arguments, a line each. */
static char *signature_of(const struct step *steps, size_t n)
{
    struct buf b = BUF_INIT(0);
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%s%.*s %.*s\n", steps[i].warn_only ? "warn_if_reject " : "", SPAN_ARG(steps[i].name), SPAN_ARG(steps[i].table_name));
    char *s = xstrndup(b.p, b.n);
    buf_free(&b);
    return s;
}

static struct list_counts *counts_new(const char *service, const char *list, char *signature, size_t n)
{
    struct list_counts *c = xcalloc(1, sizeof *c);
    atomic_init(&c->refs, 1);
    c->service = xstrdup(service);
    c->list = xstrdup(list);
    c->signature = signature;
    c->n = n;
    c->outcomes = xcalloc(n + 1, sizeof *c->outcomes);
    return c;
}

static void counts_unref(struct list_counts **cp)
{
    struct list_counts *c = *cp;
    *cp = NULL;
    /* acq_rel: what other holders counted comes before the release of memory */
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(c->service);
    free(c->list);
    free(c->signature);
    free(c->outcomes);
    free(c);
}

static struct list_counts *find_same(const struct policy *p, const struct list_counts *want)
{
    for (size_t i = 0; p != NULL && i < p->list_count; i++) {
        struct list_counts *c = p->lists[i]->counts;
        if (strcmp(c->service, want->service) == 0 && strcmp(c->list, want->list) == 0 && strcmp(c->signature, want->signature) == 0)
            return c;
    }
    return NULL;
}

void restrict_count_begin(struct compiler *c, const struct policy_service *s, const char *list, struct step_list *l)
{
    struct policy *p = c->policy;
    struct list_counts *fresh = counts_new(s->svc != NULL ? s->svc->name : "", list, signature_of(l->steps, l->count), l->count);
    struct list_counts *old = find_same(c->previous, fresh);
    l->counts = fresh;
    if (old != NULL) {
        atomic_fetch_add_explicit(&old->refs, 1, memory_order_relaxed);
        counts_unref(&fresh);
        l->counts = old;
    }
    p->lists = xrealloc(p->lists, (p->list_count + 1) * sizeof *p->lists);
    p->lists[p->list_count++] = l;
}

void restrict_count_free(struct policy *p)
{
    for (size_t i = 0; i < p->list_count; i++)
        counts_unref(&p->lists[i]->counts);
    free(p->lists);
}

const char *restrict_count_list(const struct step_list *l)
{
    return l->counts != NULL ? l->counts->list : "";
}

void eval_count(struct eval *ev, const struct step_list *l, size_t step, enum policy_outcome o)
{
    if (l->counts == NULL || ev->tally_count == TALLY_MAX)
        return;
    ev->tally[ev->tally_count++] = (struct tally){ l->counts, (uint32_t)step, (uint8_t)o };
}

void eval_count_all(const struct eval *ev)
{
    for (unsigned i = 0; i < ev->tally_count; i++) {
        const struct tally *t = &ev->tally[i];
        atomic_uint_fast64_t *cell = t->outcome == OUTCOME_NONE ? &t->counts->begun : &t->counts->outcomes[t->step][t->outcome];
        atomic_fetch_add_explicit(cell, 1, memory_order_relaxed);
    }
}

/* ---- reading ---- */

static void each_step(const struct step_list *l, void (*fn)(void *arg, const struct policy_count *c), void *arg)
{
    const struct list_counts *k = l->counts;
    uint64_t left = atomic_load_explicit(&k->begun, memory_order_relaxed);
    for (size_t i = 0; i < l->count; i++) {
        const struct step *s = &l->steps[i];
        struct policy_count c = { .service = k->service, .list = k->list, .name = s->name, .arg = s->table_name, .position = i,
                                  .is_warn_only = s->warn_only, .is_class = s->what == NULL, .evaluated = left };
        uint64_t said = 0, ended = 0;
        for (size_t o = OUTCOME_NONE + 1; o < OUTCOME_COUNT; o++) {
            c.outcome[o] = atomic_load_explicit(&k->outcomes[i][o], memory_order_relaxed);
            said += c.outcome[o];
            ended += o >= OUTCOME_PERMIT ? c.outcome[o] : 0;
        }
        c.outcome[OUTCOME_NONE] = left > said ? left - said : 0;
        left = left > ended ? left - ended : 0; /* others count while we read */
        fn(arg, &c);
    }
}

void policy_each_count(const struct policy *p, void (*fn)(void *arg, const struct policy_count *c), void *arg)
{
    for (size_t i = 0; i < p->list_count; i++)
        each_step(p->lists[i], fn, arg);
}

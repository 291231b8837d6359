#include "policy/trace.h"

#include "common/base/buf.h"
#include "policy/restrict_internal.h"

#define DNS_RECORDS_SHOWN 8

const char *policy_outcome_word(enum policy_outcome o)
{
    static const char *const words[OUTCOME_COUNT] = {
        [OUTCOME_NONE] = "none", [OUTCOME_PASSED] = "dunno", [OUTCOME_ACTED] = "action", [OUTCOME_POSTPONED] = "postponed",
        [OUTCOME_WARNED] = "warning", [OUTCOME_PERMIT] = "permit", [OUTCOME_DEFER] = "defer", [OUTCOME_REJECT] = "reject",
    };
    return words[o];
}

struct policy_event *policy_trace_add(struct policy_trace *t, enum policy_event_kind kind, struct span name, struct span arg,
                                      struct span value)
{
    struct policy_event *ev = arena_alloc(t->arena, sizeof *ev);
    *ev = (struct policy_event){ .kind = kind, .depth = t->depth, .name = arena_dup_span(t->arena, name),
                                 .arg = arena_dup_span(t->arena, arg), .value = arena_dup_span(t->arena, value) };
    if (t->last != NULL)
        t->last->next = ev;
    else
        t->first = ev;
    t->last = ev;
    return ev;
}

static void looked_up(void *arg, const char *table, struct span key, enum lookup got, struct span value)
{
    struct policy_trace *t = arg;
    policy_trace_add(t, EVENT_LOOKUP, span_cstr(table), key, value)->got = got;
}

void policy_trace_init(struct policy_trace *t, struct arena *a)
{
    *t = (struct policy_trace){ .arena = a, .watch = { .fn = looked_up, .arg = t } };
}

void policy_trace_reset(struct policy_trace *t)
{
    t->first = t->last = NULL;
    t->depth = 0;
}

void policy_trace_watch(struct policy_trace *t, struct arena *a)
{
    arena_set_watch(a, t != NULL ? &t->watch : NULL);
}

/* ---- what restrict_eval.c has to tell ---- */

struct policy_event *trace_step(struct eval *ev, const struct step *s)
{
    struct policy_event *e = policy_trace_add(ev->c->trace, EVENT_STEP, s->name, s->table_name, SPAN_LIT(""));
    e->is_warn_only = ev->warn_only;
    ev->c->trace->depth++;
    return e;
}

void trace_step_end(struct eval *ev, struct policy_event *e, enum policy_outcome o)
{
    e->outcome = o;
    ev->c->trace->depth--;
}

void trace_later(struct eval *ev, const struct pending *which, int code, struct span dsn, struct span text)
{
    char *value = arena_printf(ev->a, "%d %.*s %.*s", code, SPAN_ARG(dsn), SPAN_ARG(text));
    policy_trace_add(ev->c->trace, EVENT_LATER, span_cstr(which == &ev->permit ? "defer_if_permit" : "defer_if_reject"), SPAN_LIT(""),
                     span_cstr(value));
}

static const char *type_word(enum dns_type type)
{
    switch (type) {
    case DNS_A:
        return "A";
    case DNS_NS:
        return "NS";
    case DNS_CNAME:
        return "CNAME";
    case DNS_PTR:
        return "PTR";
    case DNS_MX:
        return "MX";
    case DNS_TXT:
        return "TXT";
    case DNS_AAAA:
        return "AAAA";
    case DNS_SRV:
        return "SRV";
    case DNS_TLSA:
        break;
    }
    return "TLSA";
}

static void put_record(struct buf *b, const struct dns_rr *rr)
{
    char text[IP_TEXT_MAX];
    struct ip_addr ip;
    switch (rr->type) {
    case DNS_A:
    case DNS_AAAA:
        ip = rr->type == DNS_A ? ip_from_v4(rr->a) : ip_from_v6(rr->aaaa);
        buf_puts(b, ip_print(&ip, text));
        break;
    case DNS_MX:
        buf_printf(b, "%u %s", rr->mx.pref, rr->mx.host[0] != '\0' ? rr->mx.host : ".");
        break;
    case DNS_NS:
    case DNS_CNAME:
    case DNS_PTR:
        buf_puts(b, rr->name);
        break;
    case DNS_TXT:
        buf_printf(b, "\"%.*s\"", (int)(rr->txt.n > 200 ? 200 : rr->txt.n), rr->txt.p);
        break;
    case DNS_SRV:
        buf_printf(b, "%u %u %u %s", rr->srv.prio, rr->srv.weight, rr->srv.port, rr->srv.host);
        break;
    case DNS_TLSA:
        buf_printf(b, "%u %u %u ...", rr->tlsa.usage, rr->tlsa.selector, rr->tlsa.matching);
        break;
    }
}

void policy_trace_dns(struct policy_trace *t, struct span name, enum dns_type type, const struct dns_answer *a)
{
    char text[1024];
    struct buf b = { .p = text, .cap = sizeof text, .max = sizeof text - 1 };
    if (a->status != DNS_OK) {
        buf_printf(&b, "%s", a->why);
    } else {
        for (size_t i = 0; i < a->count && i < DNS_RECORDS_SHOWN; i++) {
            buf_puts(&b, i > 0 ? ", " : "");
            put_record(&b, &a->rr[i]);
        }
        if (a->count > DNS_RECORDS_SHOWN)
            buf_printf(&b, ", and %zu more", a->count - DNS_RECORDS_SHOWN);
    }
    struct policy_event *e = policy_trace_add(t, EVENT_DNS, name, span_cstr(type_word(type)), buf_span(&b));
    e->got = a->status == DNS_OK ? LOOKUP_FOUND : a->status == DNS_TEMPFAIL ? LOOKUP_TEMPFAIL : LOOKUP_NONE;
}

/*
 * reject_unverified_sender, reject_unverified_recipient: an address is what a probe to it said. The session waits for the
 * probe as long as (address_verify_poll_count - 1) polls of address_verify_poll_delay would take, but only as long as it must.
 */
#include "common/mail/address.h"
#include "policy/restrict_internal.h"
#include "policy/verify.h"

struct unverified {
    enum subject_kind subject;
    int64_t reject_code, defer_code;
    const char *reason, *tempfail_action;
    const char *dsn;
};

static int64_t patience_ms(const struct params *p)
{
    return (p->address_verify_poll_count - 1) * p->address_verify_poll_delay;
}

static enum answer refuse(struct eval *ev, const struct unverified *u, int code, const char *dsn, const char *why)
{
    if (code / 100 == 2) /* the one place where Postfix takes such a code for "never mind" */
        return ANSWER_DUNNO;
    if (code / 100 == 4 && !span_ieq_cstr(span_cstr(u->tempfail_action), "defer")) {
        eval_later(ev, &ev->permit, u->subject, code, dsn, why);
        return ANSWER_DUNNO;
    }
    return eval_reject_why(ev, u->subject, code, dsn, why);
}

static enum answer judge(struct eval *ev, const struct unverified *u, struct span address)
{
    if (ev->is_waiting)
        return ANSWER_DUNNO; /* what is asked before may refuse: then nobody is probed */
    if (ev->c->trace != NULL) { /* who only wants to know why sends no probes */
        policy_trace_add(ev->c->trace, EVENT_SERVICE, SPAN_LIT("address verification"), SPAN_LIT(""), SPAN_LIT(""))->is_skipped = true;
        return ANSWER_DUNNO;
    }
    const struct verify_result *r;
    switch (policy_answers_verify(ev->c->answers, ev->p->p, address, patience_ms(ev->s->p), &r)) {
    case ANSWERS_WAIT:
        ev->is_waiting = true;
        return ANSWER_REJECT; /* nothing behind it is evaluated yet */
    case ANSWERS_NONE:
        return refuse(ev, u, 450, "4.3.0", "address verification problem");
    case ANSWERS_HERE:
        break;
    }
    if (r->status == VERIFY_OK)
        return ANSWER_DUNNO;
    int code = (int)(r->status == VERIFY_BOUNCE ? u->reject_code : u->defer_code);
    const char *what = *u->reason != '\0' ? u->reason : r->text;
    const char *why = code / 100 == 4 ? arena_printf(ev->a, "unverified address: %.250s", what) : arena_printf(ev->a, "undeliverable address: %s", what);
    return refuse(ev, u, code, u->dsn, why);
}

STEP_FN(step_reject_unverified_sender)
{
    const struct params *v = ev->s->p;
    struct route r;
    struct err e = ERR_INIT;
    (void)s;
    if (ev->c->sender.n == 0)
        return ANSWER_DUNNO;
    if (route_resolve_for(ev->p, ev->s->svc, span_of(NULL, 0), ev->c->sender, ev->a, &r, &e) != LOOKUP_FOUND)
        return eval_tempfail(ev, ev->c->sender, &e);
    struct unverified u = { SUBJECT_SENDER, v->unverified_sender_reject_code, v->unverified_sender_defer_code, v->unverified_sender_reject_reason,
                            v->unverified_sender_tempfail_action, "4.1.7" };
    return judge(ev, &u, r.is_bad_address ? ev->c->sender : r.recipient);
}

STEP_FN(step_reject_unverified_recipient)
{
    const struct params *v = ev->s->p;
    (void)s;
    if (ev->route == NULL || ev->route->is_bad_address)
        return ANSWER_DUNNO;
    struct unverified u = { SUBJECT_RECIPIENT, v->unverified_recipient_reject_code, v->unverified_recipient_defer_code,
                            v->unverified_recipient_reject_reason, v->unverified_recipient_tempfail_action, "4.1.1" };
    return judge(ev, &u, ev->route->recipient);
}

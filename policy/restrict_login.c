/*
 * reject_*sender_login_mismatch: who may use which sender address (smtpd_sender_login_maps)
 *
 * A client that has logged in must own the address it gives; with "known", only addresses that have an owner are
 * protected. A client that has not logged in may use what nobody owns. The null sender belongs to everybody.
 */
#include "policy/restrict_internal.h"

/* Owners of the sender address: the table's value. */
static enum lookup find_owners(struct eval *ev, struct span *owners, struct err *e)
{
    struct route r;
    struct span sender = ev->c->sender;
    if (maps_is_empty(ev->s->sender_login_maps))
        return LOOKUP_NONE;
    if (route_resolve_for(ev->p, ev->s->svc, span_of(NULL, 0), sender, ev->a, &r, e) != LOOKUP_FOUND)
        return LOOKUP_TEMPFAIL;
    return recipient_in_maps(ev->p, ev->s->sender_login_maps, r.is_bad_address ? sender : r.recipient, r.cls == ROUTE_LOCAL, ev->a,
                             owners, e);
}

static bool is_among(struct span owners, struct span user)
{
    struct span name;
    while (span_next_token(&owners, ", \t\r\n", &name))
        if (span_ieq(name, user))
            return true;
    return false;
}

static enum answer lookup_failed(struct eval *ev, const struct err *e)
{
    return eval_tempfail(ev, eval_sender_given(ev), e);
}

static enum answer check_user(struct eval *ev, bool unowned_is_free)
{
    struct span owners = { NULL, 0 }, user = ev->c->sasl_user;
    struct err e = ERR_INIT;
    enum lookup got = find_owners(ev, &owners, &e);
    if (got == LOOKUP_TEMPFAIL)
        return lookup_failed(ev, &e);
    if (got == LOOKUP_NONE ? unowned_is_free : is_among(owners, user))
        return ANSWER_DUNNO;
    return eval_reject(ev, SUBJECT_SENDER, 553, "5.7.1", "<%.*s>: Sender address rejected: not owned by user %.*s",
                       SPAN_ARG(eval_sender_given(ev)), SPAN_ARG(user));
}

static enum answer check_stranger(struct eval *ev)
{
    struct span owners = { NULL, 0 };
    struct err e = ERR_INIT;
    enum lookup got = find_owners(ev, &owners, &e);
    if (got == LOOKUP_TEMPFAIL)
        return lookup_failed(ev, &e);
    if (got == LOOKUP_NONE)
        return ANSWER_DUNNO;
    return eval_reject(ev, SUBJECT_SENDER, 553, "5.7.1", "<%.*s>: Sender address rejected: not logged in", SPAN_ARG(eval_sender_given(ev)));
}

enum { FOR_USERS = 1, FOR_STRANGERS = 2, UNOWNED_IS_FREE = 4 };

static enum answer check(struct eval *ev, const struct step *s, unsigned how)
{
    bool is_user = ev->c->sasl_user.n > 0;
    if (!is_user && !ev->s->p->smtpd_sasl_auth_enable) {
        eval_warn(ev, "restriction `%s' ignored: smtpd_sasl_auth_enable = no, nobody can log in", s->what->name);
        return ANSWER_DUNNO;
    }
    if (ev->c->sender.n == 0 || !(how & (is_user ? FOR_USERS : FOR_STRANGERS)))
        return ANSWER_DUNNO;
    return is_user ? check_user(ev, (how & UNOWNED_IS_FREE) != 0) : check_stranger(ev);
}

STEP_FN(step_reject_login_mismatch) { return check(ev, s, FOR_USERS | FOR_STRANGERS); }
STEP_FN(step_reject_auth_login_mismatch) { return check(ev, s, FOR_USERS); }
STEP_FN(step_reject_unauth_login_mismatch) { return check(ev, s, FOR_STRANGERS); }
STEP_FN(step_reject_known_login_mismatch) { return check(ev, s, FOR_USERS | FOR_STRANGERS | UNOWNED_IS_FREE); }

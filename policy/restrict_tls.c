/* Restrictions about the session's encryption and the client's certificate. Without TLS nobody has a certificate. */
#include "policy/restrict_internal.h"

STEP_FN(step_reject_plaintext)
{
    (void)s;
    if (ev->c->tls != NULL)
        return ANSWER_DUNNO;
    return eval_reject(ev, eval_list_subject(ev), (int)ev->s->p->plaintext_reject_code, "4.7.1", "Session encryption is required");
}

static bool has_cert(const struct eval *ev)
{
    return ev->c->tls != NULL && ev->c->tls->has_cert;
}

STEP_FN(step_permit_all_clientcerts)
{
    (void)s;
    return has_cert(ev) && ev->c->tls->is_trusted ? ANSWER_PERMIT : ANSWER_DUNNO;
}

/* A certificate that relay_clientcerts names needs no CA. */
STEP_FN(step_permit_clientcerts)
{
    (void)s;
    struct err e = ERR_INIT;
    if (!has_cert(ev))
        return ANSWER_DUNNO;
    const struct span keys[] = { ev->c->tls->fingerprint, ev->c->tls->pubkey_fingerprint };
    enum lookup got = LOOKUP_NONE;
    for (size_t i = 0; i < ARRAY_LEN(keys) && got == LOOKUP_NONE; i++)
        if (keys[i].n > 0)
            got = maps_lookup(ev->s->relay_clientcerts, keys[i], false, ev->a, NULL, &e);
    if (got == LOOKUP_TEMPFAIL)
        return eval_tempfail(ev, eval_subject_name(ev, SUBJECT_CLIENT), &e);
    return got == LOOKUP_FOUND ? ANSWER_PERMIT : ANSWER_DUNNO;
}

STEP_FN(step_check_ccert_access)
{
    struct err e = ERR_INIT;
    struct span value = { NULL, 0 };
    enum lookup got = LOOKUP_NONE;
    if (!ev->s->p->smtpd_tls_ask_ccert && !has_cert(ev))
        eval_warn(ev, "%s is requested, but \"smtpd_tls_ask_ccert = no\"", s->what->name);
    if (!has_cert(ev))
        return ANSWER_DUNNO;
    const struct span keys[] = { [CERT_KEY_FINGERPRINT] = ev->c->tls->fingerprint, [CERT_KEY_PUBKEY] = ev->c->tls->pubkey_fingerprint };
    for (size_t i = 0; i < s->cert_key_count && got == LOOKUP_NONE; i++)
        if (keys[s->cert_keys[i]].n > 0)
            got = maps_lookup(s->table, keys[s->cert_keys[i]], false, ev->a, &value, &e);
    return eval_access_answer(ev, s, SUBJECT_CERT, got, value, &e);
}

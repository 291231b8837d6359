/*
 * reject_rbl_client, reject_rhsbl_*, permit_dnswl_client, permit_rhswl_client, reject_maps_rbl.
 *
 * A list that cannot be asked lists nobody: a dead DNS list must not stop the mail. For lists of friends that is a
 * doubt, which turns a later rejection into a deferral.
 */
#include "common/base/ascii.h"
#include "common/conf/conf.h"
#include "common/conf/expand.h"
#include "common/mail/address.h"
#include "common/mail/smtpreply.h"
#include "policy/restrict_internal.h"

#define ASK_DEPTH 20   /* of restriction classes */
#define REASON_MAX 500 /* bytes of a list's own text that are shown */

enum listed { LISTED_NO, LISTED_YES, LISTED_UNKNOWN, LISTED_WAIT };

static enum listed is_listed(struct eval *ev, const struct dnsbl *d, struct span name)
{
    const struct dns_answer *a = eval_dns(ev, name, DNS_A);
    if (a == NULL)
        return LISTED_WAIT;
    if (a->status == DNS_TEMPFAIL || a->status == DNS_INVALID) {
        if (!ev->is_waiting)
            log_warn(ev->p->log, "%.*s: DNS list lookup failed: %s", SPAN_ARG(name), a->why);
        return LISTED_UNKNOWN;
    }
    return dnsbl_is_listed(d, a) ? LISTED_YES : LISTED_NO;
}

/* ---- the reply ---- */

struct reply_macros {
    struct eval *ev;
    const struct dnsbl *list;
    enum subject_kind subject;
    struct span what, reason;
};

/* Values stand for themselves: a '$' in them is no macro. Whatever smtpd_expansion_filter allows, they stay on one line. */
static const char *literally(const struct policy_service *s, struct arena *a, struct span v)
{
    char *out = arena_alloc(a, 2 * v.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < v.n; i++) {
        unsigned char c = (unsigned char)v.p[i];
        out[n++] = c == '\r' || c == '\n' || c == '\0' || !policy_may_expand(s, v.p[i]) ? '_' : v.p[i];
        if (c == '$')
            out[n++] = '$';
    }
    out[n] = '\0';
    return out;
}

static struct span part(struct span address, bool domain)
{
    struct span l, d;
    if (!addr_split(address, &l, &d))
        return domain ? span_of("", 0) : address;
    return domain ? d : l;
}

static const char *macro(void *arg, struct span name)
{
    const struct reply_macros *m = arg;
    const struct policy_client *c = m->ev->c;
    struct span namaddr = span_cstr(arena_printf(m->ev->a, "%.*s[%.*s]", SPAN_ARG(c->name), SPAN_ARG(c->addr_text)));
    const struct {
        const char *name;
        struct span value;
    } rows[] = {
        { "client", namaddr }, { "client_address", c->addr_text }, { "client_name", c->name },
        { "reverse_client_name", c->reverse_name }, { "helo_name", c->helo }, { "sender", eval_sender_given(m->ev) },
        { "sender_name", part(c->sender, false) }, { "sender_domain", part(c->sender, true) },
        { "recipient", c->recipient }, { "recipient_name", part(c->recipient, false) },
        { "recipient_domain", part(c->recipient, true) }, { "rbl_class", span_cstr(eval_subject_class(m->subject)) },
        { "rbl_code", span_cstr(arena_printf(m->ev->a, "%d", (int)m->ev->s->p->maps_rbl_reject_code)) },
        { "rbl_domain", m->list->domain }, { "rbl_reason", m->reason }, { "rbl_txt", m->reason }, { "rbl_what", m->what },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (span_eq(name, span_cstr(rows[i].name)))
            return rows[i].value.n > 0 ? literally(m->ev->s, m->ev->a, rows[i].value) : NULL;
    return conf_text(m->ev->p->conf, m->ev->s->svc, name);
}

/* rbl_reply_maps by the list's domain, or default_rbl_reply. */
static enum lookup template_of(struct eval *ev, const struct dnsbl *d, struct span *out, struct err *e)
{
    enum lookup got = maps_lookup(ev->s->rbl_reply_maps, d->domain, false, ev->a, out, e);
    if (got == LOOKUP_NONE)
        *out = span_cstr(ev->s->p->default_rbl_reply);
    return got;
}

/* "554 5.7.1 text" or "554 text" */
static enum answer reject_with_template(struct eval *ev, enum subject_kind k, struct span text)
{
    if (text.n < 4 || (text.p[0] != '4' && text.p[0] != '5') || !ascii_is_digit(text.p[1]) || !ascii_is_digit(text.p[2]) ||
        text.p[3] != ' ') {
        log_warn(ev->p->log, "default_rbl_reply or rbl_reply_maps: \"%.*s\" does not begin with a 4xx or 5xx code",
                 (int)(text.n > 100 ? 100 : text.n), text.p);
        return eval_reject(ev, k, 450, "4.7.1", "Service unavailable");
    }
    int code = (text.p[0] - '0') * 100 + (text.p[1] - '0') * 10 + (text.p[2] - '0');
    text = span_trim(span_from(text, 4));
    size_t n = dsn_code_length(text);
    const char *dsn = n > 0 ? arena_strndup(ev->a, text.p, n) : "4.7.1";
    text = span_trim(span_from(text, n));
    return eval_reject(ev, k, code, dsn, "%.*s", SPAN_ARG(text));
}

static enum answer reject_listed(struct eval *ev, enum subject_kind k, const struct dnsbl *d, struct span name, struct span what)
{
    struct reply_macros m = { .ev = ev, .list = d, .subject = k, .what = what };
    struct span template;
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT(LOG_TEXT_MAX);
    const struct dns_answer *txt = eval_dns(ev, name, DNS_TXT);
    if (txt == NULL)
        return ANSWER_DUNNO;
    if (txt->status == DNS_OK && txt->count > 0)
        m.reason = span_of(txt->rr[0].txt.p, txt->rr[0].txt.n > REASON_MAX ? REASON_MAX : txt->rr[0].txt.n);
    enum answer got;
    if (template_of(ev, d, &template, &e) == LOOKUP_TEMPFAIL)
        got = eval_table_error(ev, k, &e);
    else if (!expand_text(template, macro, &m, &out, &e))
        got = eval_config_error(ev, "default_rbl_reply or rbl_reply_maps: %s", e.text);
    else
        got = reject_with_template(ev, k, arena_dup_span(ev->a, buf_span(&out)));
    buf_free(&out);
    return got;
}

/* ---- who is looked up ---- */

/* The name to ask the list for; false: there is nothing to ask. */
static bool name_of(struct eval *ev, const struct dnsbl *d, enum subject_kind k, struct span *what, struct span *name)
{
    struct span local, domain;
    *what = eval_subject_name(ev, k);
    if (k == SUBJECT_SENDER || k == SUBJECT_RECIPIENT) {
        if (!addr_split(*what, &local, &domain))
            return false;
    } else {
        domain = k == SUBJECT_CLIENT ? ev->c->name : *what;
        *what = domain;
    }
    struct ip_addr ip;
    if (domain.n == 0 || domain.p[0] == '[' || ip_parse(domain, &ip) || span_ieq_cstr(domain, "unknown"))
        return false;
    *name = dnsbl_name_of_host(d, domain, ev->a);
    return true;
}

static enum answer reject_addr(struct eval *ev, const struct dnsbl *d)
{
    struct span name = dnsbl_name_of_addr(d, &ev->c->addr, ev->a);
    if (is_listed(ev, d, name) != LISTED_YES)
        return ANSWER_DUNNO;
    return reject_listed(ev, SUBJECT_CLIENT, d, name, ev->c->addr_text);
}

static enum answer reject_name(struct eval *ev, const struct step *s, enum subject_kind k)
{
    struct span what, name;
    if (!name_of(ev, s->dnsbl, k, &what, &name) || is_listed(ev, s->dnsbl, name) != LISTED_YES)
        return ANSWER_DUNNO;
    return reject_listed(ev, k, s->dnsbl, name, what);
}

/* A friend's permission does not make an open relay of us. */
static enum answer permit_friend(struct eval *ev, const struct dnsbl *d, struct span name, struct span what)
{
    switch (is_listed(ev, d, name)) {
    case LISTED_YES:
        return ev->route == NULL || eval_auth_destination(ev) == ANSWER_PERMIT ? ANSWER_PERMIT : ANSWER_DUNNO;
    case LISTED_UNKNOWN:
        eval_later_for(ev, &ev->reject, SUBJECT_CLIENT, what, 450, "4.7.1", "Service unavailable");
        break;
    case LISTED_NO:
    case LISTED_WAIT:
        break;
    }
    return ANSWER_DUNNO;
}

STEP_FN(step_reject_rbl_client) { return reject_addr(ev, s->dnsbl); }
STEP_FN(step_reject_rhsbl_client) { return reject_name(ev, s, SUBJECT_CLIENT); }
STEP_FN(step_reject_rhsbl_reverse_client) { return reject_name(ev, s, SUBJECT_REVERSE_CLIENT); }
STEP_FN(step_reject_rhsbl_helo) { return reject_name(ev, s, SUBJECT_HELO); }
STEP_FN(step_reject_rhsbl_sender) { return reject_name(ev, s, SUBJECT_SENDER); }
STEP_FN(step_reject_rhsbl_recipient) { return ev->stage == STAGE_ETRN ? ANSWER_DUNNO : reject_name(ev, s, SUBJECT_RECIPIENT); }

STEP_FN(step_permit_dnswl_client)
{
    return permit_friend(ev, s->dnsbl, dnsbl_name_of_addr(s->dnsbl, &ev->c->addr, ev->a), ev->c->addr_text);
}

STEP_FN(step_permit_rhswl_client)
{
    struct span what, name;
    return name_of(ev, s->dnsbl, SUBJECT_CLIENT, &what, &name) ? permit_friend(ev, s->dnsbl, name, what) : ANSWER_DUNNO;
}

/* The lists of maps_rbl_domains. */
STEP_FN(step_reject_maps_rbl)
{
    struct span rest = span_cstr(ev->s->p->maps_rbl_domains), item;
    bool braced;
    enum answer got = ANSWER_DUNNO;
    (void)s;
    while (got == ANSWER_DUNNO && conf_list_next(&rest, &item, &braced)) {
        struct dnsbl d;
        const char *why;
        if (!dnsbl_parse(item, ev->a, &d, &why))
            return eval_config_error(ev, "maps_rbl_domains: \"%.*s\": %s", SPAN_ARG(item), why);
        got = reject_addr(ev, &d);
    }
    return got;
}

/* ---- asked ahead ---- */

static void nobody_listens(void *arg, struct dns_answer *a)
{
    (void)arg;
    dns_answer_unref(&a); /* it is in the cache now */
}

static void ask_steps(const struct step_list *l, const struct policy_client *c, struct arena *a, struct dns *dns, unsigned depth)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct step *s = &l->steps[i];
        if (s->what == NULL && depth < ASK_DEPTH)
            ask_steps(s->sub, c, a, dns, depth + 1);
        else if (s->what != NULL && (s->what->run == step_reject_rbl_client || s->what->run == step_permit_dnswl_client))
            dns_query(dns, dnsbl_name_of_addr(s->dnsbl, &c->addr, a), DNS_A, nobody_listens, NULL);
    }
}

/* Our own clients are none of a list's business. */
void policy_ask_ahead(const struct policy *p, const struct conf_service *listener, const struct policy_client *c, struct dns *dns)
{
    const struct policy_service *s = policy_service(p, listener);
    struct err e = ERR_INIT;
    if (dns == NULL || !s->has_client_dnsbl || match_list_host(s->mynetworks, c->name, &c->addr, c->addr_text, &e) != LOOKUP_NONE)
        return;
    struct arena *a = arena_new(0);
    for (int i = 0; i < LIST_COUNT; i++)
        ask_steps(&s->lists[i], c, a, dns, 0);
    arena_free(&a);
}

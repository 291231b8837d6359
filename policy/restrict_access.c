/*
 * Access tables: the keys that are tried, and what the answer means
 *
 * Hosts: the name and its parent domains; addresses: whole, then without its last parts; mail addresses: user+ext@domain,
 * user@domain, the domain and its parents, user+ext@, user@.
 */
#include "common/base/ascii.h"
#include "common/base/num.h"
#include "common/mail/address.h"
#include "common/mail/smtpreply.h"
#include "policy/restrict_internal.h"

/* ---- keys ---- */

static unsigned parent_forms(const struct eval *ev)
{
    return ev->s->access_parents ? MAPS_PARENT : MAPS_DOT_PARENT;
}

enum lookup eval_access_by_host(struct eval *ev, const struct maps *m, struct span name, struct span *value, struct err *e)
{
    return maps_lookup_domain(m, name, parent_forms(ev), false, ev->a, value, e);
}

enum lookup eval_access_by_addr(struct eval *ev, const struct maps *m, struct span addr, struct span *value, struct err *e)
{
    char sep = span_find(addr, ':') >= 0 ? ':' : '.';
    enum lookup got = maps_lookup(m, addr, false, ev->a, value, e);
    while (got == LOOKUP_NONE) {
        ptrdiff_t at = span_rfind(addr, sep);
        if (at <= 0)
            break;
        addr.n = (size_t)at;
        while (addr.n > 0 && addr.p[addr.n - 1] == sep) /* "::" */
            addr.n--;
        got = maps_lookup(m, addr, true, ev->a, value, e);
    }
    return got;
}

static enum lookup by_mail_addr(struct eval *ev, const struct maps *m, struct span addr, struct span *value,
                                struct err *e)
{
    struct maps_addr x = maps_addr_of(addr_quoted(ev->a, addr), ev->p->p->recipient_delimiter, ev->p->p->owner_request_special);
    enum lookup got = maps_lookup_address(m, &x, MAPS_DOMAIN | MAPS_USER_AT | parent_forms(ev), ev->a, value, NULL, e);
    if (got == LOOKUP_NONE && addr.n > 0 && addr.p[0] == '@') /* nobody, user@ without quotes */
        got = maps_lookup(m, SPAN_LIT("@"), true, ev->a, value, e);
    return got;
}

/* ---- results ---- */

struct result {
    struct eval *ev;
    enum subject_kind subject;
    const char *table;     /* restriction's name, for messages */
    struct span source;    /* the table or server itself, for messages */
    struct span word, rest;
};

static bool all_digits(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_is_digit(s.p[i]))
            return false;
    }
    return s.n > 0;
}

/* Text of a result: an enhanced status may stand in front. */
static enum answer reject_text(const struct result *r, int code, const char *dsn, struct span text, struct pending *later)
{
    struct eval *ev = r->ev;
    size_t n = dsn_code_length(text);
    if (n > 0) {
        dsn = arena_strndup(ev->a, text.p, n);
        text = span_trim(span_from(text, n));
    }
    if (text.n == 0)
        text = later != NULL ? SPAN_LIT("Service unavailable") : SPAN_LIT("Access denied");
    const char *why = arena_strndup(ev->a, text.p, text.n);
    if (later == NULL)
        return eval_reject_why(ev, r->subject, code, dsn, why);
    eval_later(ev, later, r->subject, code, dsn, why);
    return ANSWER_DUNNO;
}

static enum answer permit(const struct result *r)
{
    if (r->ev->s->permit_log != NULL)
        eval_log_permit(r->ev, r->word, r->subject, arena_printf(r->ev->a, "from %.*s", SPAN_ARG(r->source)));
    return ANSWER_PERMIT;
}

static bool is_reply_code(struct span word)
{
    return word.n == 3 && (word.p[0] == '4' || word.p[0] == '5') && all_digits(word);
}

/* "450 text"; a number with nothing behind it is OK. */
static enum answer numeric_result(const struct result *r)
{
    int64_t code = 0;
    if (r->rest.n == 0 || !num_parse(r->word, 400, 599, &code))
        return permit(r);
    return reject_text(r, (int)code, code < 500 ? "4.7.1" : "5.7.1", r->rest, NULL);
}

static enum answer note_result(const struct result *r, const char *what)
{
    eval_note(r->ev, what, 0, span_of(NULL, 0), arena_dup_span(r->ev->a, r->rest));
    return ANSWER_DUNNO;
}

static bool is_word(const struct result *r, const char *word)
{
    return span_ieq_cstr(r->word, word);
}

/* ---- actions on the message ---- */

struct action_row {
    const char *word;
    enum policy_effect effect;
    enum answer answer;
    const char *log; /* the word in the log */
};

static const struct action_row actions[] = {
    { "HOLD", EFFECT_HOLD, ANSWER_DUNNO, "hold" },
    { "DISCARD", EFFECT_DISCARD, ANSWER_PERMIT, "discard" },
    { "REDIRECT", EFFECT_REDIRECT, ANSWER_DUNNO, "redirect" },
    { "BCC", EFFECT_BCC, ANSWER_DUNNO, "bcc" },
    { "PREPEND", EFFECT_PREPEND, ANSWER_DUNNO, "prepend" },
    { "FILTER", EFFECT_FILTER, ANSWER_DUNNO, "filter" },
};

/* "Name: text", of printable characters. */
static bool is_header_field(struct span text)
{
    ptrdiff_t colon = span_find(text, ':');
    for (ptrdiff_t i = 0; i < colon; i++)
        if (text.p[i] <= 32 || text.p[i] == 127 || ascii_is_8bit(text.p[i]))
            return false;
    return colon > 0;
}

/* False: it makes no sense here, which the log says. */
static bool is_action_possible(const struct result *r, const struct action_row *a)
{
    struct eval *ev = r->ev;
    struct span local, domain;
    bool takes_address = a->effect == EFFECT_REDIRECT || a->effect == EFFECT_BCC;
    if (ev->stage == STAGE_CONNECT || ev->stage == STAGE_HELO || ev->stage == STAGE_ETRN || ev->stage == STAGE_VRFY) {
        if (ev->stage != STAGE_VRFY)
            eval_warn(ev, "%s: action %s is ignored: there is no message yet; with smtpd_delay_reject = yes there is", r->table, a->word);
        return false;
    }
    if (takes_address && !addr_split(r->rest, &local, &domain))
        eval_warn(ev, "%s: action %s is ignored: \"%.*s\" is no address user@domain", r->table, a->word, SPAN_ARG(r->rest));
    else if (a->effect == EFFECT_PREPEND && !is_header_field(r->rest))
        eval_warn(ev, "%s: action %s is ignored: \"%.*s\" is no header field", r->table, a->word, SPAN_ARG(r->rest));
    else if (a->effect == EFFECT_FILTER && span_find(r->rest, ':') < 0)
        eval_warn(ev, "%s: action %s is ignored: \"%.*s\" is no transport:destination", r->table, a->word, SPAN_ARG(r->rest));
    else if (a->effect == EFFECT_PREPEND && ev->stage == STAGE_END_OF_DATA)
        eval_warn(ev, "%s: action %s is ignored: the header is written already", r->table, a->word);
    else
        return true;
    return false;
}

static enum answer act(const struct result *r, const struct action_row *a)
{
    struct eval *ev = r->ev;
    struct span name = eval_subject_name(ev, r->subject), text = r->rest;
    bool takes_text = a->effect == EFFECT_HOLD || a->effect == EFFECT_DISCARD;
    if (!is_action_possible(r, a))
        return ANSWER_DUNNO;
    if (!takes_text)
        text = span_cstr(arena_printf(ev->a, "triggers %s %.*s", a->word, SPAN_ARG(r->rest)));
    else if (text.n == 0)
        text = span_cstr(arena_printf(ev->a, "triggers %s action", a->word));
    char *line = arena_printf(ev->a, "<%.*s>: %s %.*s", SPAN_ARG(name), eval_subject_class(r->subject), SPAN_ARG(text));
    struct policy_note *n = eval_note(ev, a->log, 0, span_of(NULL, 0), span_cstr(line));
    n->effect = a->effect;
    n->is_silent = a->effect == EFFECT_PREPEND; /* as in Postfix */
    n->value = arena_dup_span(ev->a, r->rest);
    ev->is_discarded = ev->is_discarded || a->effect == EFFECT_DISCARD;
    if (a->effect == EFFECT_DISCARD && ev->s->permit_log != NULL)
        eval_log_permit(ev, r->word, r->subject, arena_printf(ev->a, "from %.*s", SPAN_ARG(r->source)));
    return a->answer;
}

static const struct action_row *find_action(const struct result *r)
{
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (is_word(r, actions[i].word))
            return &actions[i];
    return NULL;
}

static enum answer list_result(const struct result *r, struct span text)
{
    struct eval *ev = r->ev;
    struct step_list list;
    struct err e = ERR_INIT;
    if (!restrict_compile_result(ev->p, ev->s, text, ev->a, &list, &e))
        return eval_config_error(ev, "%s: answer \"%.*s\": %s", r->table, (int)(text.n > 100 ? 100 : text.n), text.p, e.text);
    bool had = ev->has_subject;
    enum subject_kind outer = ev->subject;
    ev->has_subject = true;
    ev->subject = r->subject;
    enum answer got = eval_list(ev, &list);
    ev->has_subject = had;
    ev->subject = outer;
    return got;
}

static enum answer apply(struct result *r, struct span text)
{
    struct eval *ev = r->ev;
    const struct params *v = ev->s->p;
    struct span rest = text;
    if (!span_next_token(&rest, " \t", &r->word))
        r->word = text;
    r->rest = span_trim(rest);
    if (r->rest.n == 0 ? all_digits(r->word) : is_reply_code(r->word))
        return numeric_result(r);
    if (is_word(r, "OK") || is_word(r, "RELAY"))
        return permit(r);
    if (is_word(r, "DUNNO"))
        return ANSWER_DUNNO;
    if (is_word(r, "REJECT"))
        return reject_text(r, (int)v->access_map_reject_code, "5.7.1", r->rest, NULL);
    if (is_word(r, "DEFER"))
        return reject_text(r, (int)v->access_map_defer_code, "4.7.1", r->rest, NULL);
    if (is_word(r, "DEFER_IF_PERMIT"))
        return reject_text(r, (int)v->access_map_defer_code, "4.7.1", r->rest, &ev->permit);
    if (is_word(r, "DEFER_IF_REJECT"))
        return reject_text(r, (int)v->access_map_defer_code, "4.7.1", r->rest, &ev->reject);
    if (is_word(r, "INFO"))
        return note_result(r, "info");
    if (is_word(r, "WARN"))
        return note_result(r, "warn");
    const struct action_row *a = find_action(r);
    if (a != NULL)
        return act(r, a);
    return list_result(r, text);
}

enum answer eval_access_answer(struct eval *ev, const struct step *s, enum subject_kind k, enum lookup got, struct span value,
                               const struct err *e)
{
    struct result r = { .ev = ev, .subject = k, .table = s->what->name, .source = s->table_name };
    if (got == LOOKUP_TEMPFAIL)
        return eval_table_error(ev, k, e);
    if (got != LOOKUP_FOUND)
        return ANSWER_DUNNO;
    eval_said(ev, OUTCOME_PASSED);
    return apply(&r, span_trim(value));
}

enum answer eval_forbid_permit(struct eval *ev, const struct step *s)
{
    if (ev->is_discarded)
        return ANSWER_PERMIT;
    return eval_config_error(ev, "%s: the table's answer permits, which the owner of a name could arrange for himself; "
                             "use DUNNO to make an exception", s->what->name);
}

/* ---- the restrictions ---- */

/* Name first, then address; the first table key that answers decides. */
static enum answer check_host(struct eval *ev, const struct step *s, enum subject_kind k, struct span name)
{
    struct err e = ERR_INIT;
    struct span value = { NULL, 0 };
    enum lookup got = name.n > 0 ? eval_access_by_host(ev, s->table, name, &value, &e) : LOOKUP_NONE;
    if (got == LOOKUP_NONE && ev->c->addr_text.n > 0)
        got = eval_access_by_addr(ev, s->table, ev->c->addr_text, &value, &e);
    return eval_access_answer(ev, s, k, got, value, &e);
}

STEP_FN(step_check_client_access)
{
    return check_host(ev, s, SUBJECT_CLIENT, ev->c->name);
}

STEP_FN(step_check_reverse_access)
{
    enum answer got = check_host(ev, s, SUBJECT_REVERSE_CLIENT, ev->c->reverse_name); /* unverified */
    return got == ANSWER_PERMIT ? eval_forbid_permit(ev, s) : got;
}

STEP_FN(step_check_sasl_access)
{
    struct err e = ERR_INIT;
    struct span value = { NULL, 0 };
    if (ev->c->sasl_user.n == 0)
        return ANSWER_DUNNO;
    return eval_access_answer(ev, s, SUBJECT_SASL_USER, maps_lookup(s->table, ev->c->sasl_user, false, ev->a, &value, &e), value, &e);
}

STEP_FN(step_check_helo_access)
{
    struct err e = ERR_INIT;
    struct span value = { NULL, 0 };
    if (ev->c->helo.n == 0)
        return ANSWER_DUNNO;
    return eval_access_answer(ev, s, SUBJECT_HELO, eval_access_by_host(ev, s->table, ev->c->helo, &value, &e), value, &e);
}

/* "user%domain@ours" is asked for as user@domain, like a recipient. */
static enum lookup by_sender(struct eval *ev, const struct maps *m, struct span *value, struct err *e)
{
    struct span sender = ev->c->sender;
    struct resolved to;
    if (sender.n == 0)
        return maps_lookup(m, span_cstr(ev->s->p->smtpd_null_access_lookup_key), false, ev->a, value, e);
    if (span_find(sender, '%') < 0 && span_find(sender, '!') < 0 && span_find(sender, '@') == span_rfind(sender, '@'))
        return by_mail_addr(ev, m, sender, value, e);
    enum lookup got = address_resolve(ev->p, sender, ev->a, &to, e);
    return got == LOOKUP_FOUND ? by_mail_addr(ev, m, to.is_bad ? sender : to.address, value, e) : got;
}

static bool is_before_mail(const struct eval *ev)
{
    return ev->c->sender.p == NULL || ev->stage == STAGE_CONNECT || ev->stage == STAGE_HELO || ev->stage == STAGE_ETRN;
}

STEP_FN(step_check_sender_access)
{
    struct err e = ERR_INIT;
    struct span value = { NULL, 0 };
    if (is_before_mail(ev))
        return ANSWER_DUNNO;
    enum lookup got = by_sender(ev, s->table, &value, &e);
    return eval_access_answer(ev, s, SUBJECT_SENDER, got, value, &e);
}

STEP_FN(step_check_recipient_access)
{
    struct err e = ERR_INIT;
    struct span value = { NULL, 0 };
    if (ev->c->recipient.n == 0 || ev->stage == STAGE_ETRN)
        return ANSWER_DUNNO;
    struct span addr = ev->route != NULL ? ev->route->recipient : ev->c->recipient;
    enum answer got = eval_access_answer(ev, s, SUBJECT_RECIPIENT, by_mail_addr(ev, s->table, addr, &value, &e), value, &e);
    /* where an address with a route inside really goes is not known: a table's OK is no permission for that */
    if (got == ANSWER_PERMIT && ev->route != NULL && ev->route->is_routed && !ev->s->p->allow_untrusted_routing)
        return ANSWER_DUNNO;
    return got;
}

STEP_FN(step_check_etrn_access)
{
    struct err e = ERR_INIT;
    struct span value = { NULL, 0 };
    if (ev->stage != STAGE_ETRN)
        return ANSWER_DUNNO;
    return eval_access_answer(ev, s, SUBJECT_ETRN, eval_access_by_host(ev, s->table, ev->c->recipient, &value, &e), value, &e);
}

/*
 * policy_check: the verdict of a stage
 *
 * With smtpd_delay_reject (the default) the client, HELO and sender lists are evaluated at RCPT TO together with the relay
 * and recipient lists; else each at its own stage, and what defer_if_permit said there is carried to RCPT TO in struct
 * policy_carry. A permit ends its own list only. After the last list come, in this order, what
 * defer_if_permit asked for, and the check that the recipient exists.
 */
#include <stdarg.h>

#include "policy/restrict_internal.h"
#include "policy/verify.h"

#define DEPTH_MAX 20

/* ---- words ---- */

enum subject_kind eval_list_subject(const struct eval *ev)
{
    if (ev->has_subject)
        return ev->subject;
    switch (ev->list) {
    case LIST_CLIENT:
        return SUBJECT_CLIENT;
    case LIST_HELO:
        return SUBJECT_HELO;
    case LIST_SENDER:
        return SUBJECT_SENDER;
    case LIST_RELAY:
    case LIST_RECIPIENT:
        return SUBJECT_RECIPIENT;
    case LIST_DATA:
        return SUBJECT_DATA;
    case LIST_END_OF_DATA:
        return SUBJECT_END_OF_DATA;
    case LIST_ETRN:
    case LIST_COUNT:
        break;
    }
    return SUBJECT_ETRN;
}

const char *eval_subject_class(enum subject_kind k)
{
    static const char *const words[] = {
        [SUBJECT_CLIENT] = "Client host", [SUBJECT_REVERSE_CLIENT] = "Unverified Client host",
        [SUBJECT_SASL_USER] = "SASL login name", [SUBJECT_CERT] = "Client certificate",
        [SUBJECT_HELO] = "Helo command", [SUBJECT_SENDER] = "Sender address",
        [SUBJECT_RECIPIENT] = "Recipient address", [SUBJECT_DATA] = "Data command",
        [SUBJECT_END_OF_DATA] = "End-of-data", [SUBJECT_ETRN] = "Etrn command",
    };
    return words[k];
}

struct span eval_subject_name(struct eval *ev, enum subject_kind k)
{
    const struct policy_client *c = ev->c;
    switch (k) {
    case SUBJECT_CLIENT:
        if (ev->s->p->smtpd_client_port_logging)
            return span_cstr(arena_printf(ev->a, "%.*s[%.*s]:%.*s", SPAN_ARG(c->name), SPAN_ARG(c->addr_text),
                                          SPAN_ARG(c->port.n > 0 ? c->port : SPAN_LIT("unknown"))));
        return span_cstr(arena_printf(ev->a, "%.*s[%.*s]", SPAN_ARG(c->name), SPAN_ARG(c->addr_text)));
    case SUBJECT_REVERSE_CLIENT:
        return c->reverse_name;
    case SUBJECT_SASL_USER:
        return c->sasl_user;
    case SUBJECT_CERT:
        return c->tls != NULL ? c->tls->cert_name : SPAN_LIT("");
    case SUBJECT_HELO:
        return c->helo;
    case SUBJECT_SENDER:
        return eval_sender_given(ev);
    case SUBJECT_RECIPIENT:
        return c->recipient;
    case SUBJECT_DATA:
        return SPAN_LIT("DATA");
    case SUBJECT_END_OF_DATA:
        return SPAN_LIT("END-OF-MESSAGE");
    case SUBJECT_ETRN:
        break;
    }
    return c->recipient;
}

/* x.1.N is about an address: which one it may be depends on whose address the reply is about. */
struct span eval_fix_dsn(struct arena *a, enum subject_kind k, int code, struct span dsn)
{
    static const struct {
        const char *tail, *at_sender, *at_recipient;
    } rows[] = {
        { ".1.0", ".1.0", ".1.0" }, { ".1.1", ".1.7", ".1.1" }, { ".1.2", ".1.8", ".1.2" }, { ".1.3", ".1.7", ".1.3" },
        { ".1.4", ".1.7", ".1.4" }, { ".1.5", ".1.0", ".1.5" }, { ".1.6", ".1.7", ".1.6" }, { ".1.7", ".1.7", ".1.3" },
        { ".1.8", ".1.8", ".1.2" },
    };
    if (dsn.n < 5)
        return dsn;
    struct span tail = span_from(dsn, 1);
    const char *fixed = NULL;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!span_eq(tail, span_cstr(rows[i].tail)))
            continue;
        fixed = k == SUBJECT_SENDER ? rows[i].at_sender : k == SUBJECT_RECIPIENT ? rows[i].at_recipient : ".0.0";
    }
    int first = code / 100;
    if (fixed == NULL && dsn.p[0] - '0' == first)
        return dsn;
    struct span rest = fixed != NULL ? span_cstr(fixed) : tail;
    return span_cstr(arena_printf(a, "%d%.*s", first, SPAN_ARG(rest)));
}

/* ---- answers ---- */

struct policy_note *eval_note(struct eval *ev, const char *what, int code, struct span dsn, struct span text)
{
    struct policy_note *n = arena_alloc(ev->a, sizeof *n);
    *n = (struct policy_note){ .what = what, .code = code, .dsn = dsn, .text = text };
    struct policy_note **end = &ev->out->notes;
    while (*end != NULL)
        end = &(*end)->next;
    *end = n;
    if (what == NULL || strcmp(what, "permit") != 0) /* that is its verdict */
        eval_said(ev, what != NULL && strcmp(what, "reject_warning") == 0 ? OUTCOME_WARNED : OUTCOME_ACTED);
    if (ev->c->trace != NULL)
        policy_trace_add(ev->c->trace, EVENT_NOTE, span_cstr(what != NULL ? what : "action"), SPAN_LIT(""), text);
    return n;
}

static enum answer reject_with(struct eval *ev, int code, struct span dsn, struct span text)
{
    if (ev->reject.active && code >= 500) { /* defer_if_reject: an earlier doubt turns the rejection into a deferral */
        ev->reject.active = false;
        if (ev->c->trace != NULL)
            policy_trace_add(ev->c->trace, EVENT_REMARK, SPAN_LIT(""), SPAN_LIT(""), SPAN_LIT("defer_if_reject takes effect"));
        return reject_with(ev, ev->reject.code, ev->reject.dsn, ev->reject.text);
    }
    ev->out->code = code;
    ev->out->dsn = dsn;
    ev->out->text = text;
    ev->disconnect = code == 421 || code == 521;
    return ANSWER_REJECT;
}

enum answer eval_reject(struct eval *ev, enum subject_kind k, int code, const char *dsn, const char *fmt, ...)
{
    char text[LOG_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct span t = arena_dup_span(ev->a, span_cstr(text));
    struct span d = eval_fix_dsn(ev->a, k, code, arena_dup_span(ev->a, span_cstr(dsn)));
    if (ev->warn_only) {
        eval_note(ev, "reject_warning", code, d, t);
        return ANSWER_DUNNO;
    }
    return reject_with(ev, code, d, t);
}

enum answer eval_reject_why(struct eval *ev, enum subject_kind k, int code, const char *dsn, const char *why)
{
    struct span name = eval_subject_name(ev, k);
    return eval_reject(ev, k, code, dsn, "<%.*s>: %s rejected: %s", SPAN_ARG(name), eval_subject_class(k), why);
}

/* An evaluation that will be done anew says nothing yet. */
static void warn(struct eval *ev, const char *text)
{
    if (!ev->is_waiting)
        log_warn(ev->p->log, "%s", text);
}

static void warn_unless_logged(struct eval *ev, const struct err *e)
{
    if (!e->is_logged)
        warn(ev, e->text);
}

void eval_warn(struct eval *ev, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    warn(ev, text);
}

enum answer eval_tempfail(struct eval *ev, struct span name, const struct err *e)
{
    warn_unless_logged(ev, e);
    char *text = arena_printf(ev->a, "<%.*s>: Temporary lookup failure", SPAN_ARG(name));
    ev->reject.active = false;
    return reject_with(ev, 451, SPAN_LIT("4.3.0"), span_cstr(text));
}

enum answer eval_table_error(struct eval *ev, enum subject_kind k, const struct err *e)
{
    warn_unless_logged(ev, e);
    struct span name = eval_subject_name(ev, k);
    char *text = arena_printf(ev->a, "<%.*s>: %s rejected: Server configuration error", SPAN_ARG(name), eval_subject_class(k));
    ev->reject.active = false;
    return reject_with(ev, 451, SPAN_LIT("4.3.5"), span_cstr(text));
}

enum answer eval_config_error(struct eval *ev, const char *fmt, ...)
{
    char why[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    warn(ev, why);
    ev->reject.active = false;
    return reject_with(ev, 451, SPAN_LIT("4.3.5"), SPAN_LIT("Server configuration error"));
}

void eval_later_for(struct eval *ev, struct pending *which, enum subject_kind k, struct span name, int code, const char *dsn, const char *why)
{
    if (which->active)
        return;
    char *text = arena_printf(ev->a, "<%.*s>: %s rejected: %s", SPAN_ARG(name), eval_subject_class(k), why);
    struct span d = eval_fix_dsn(ev->a, k, code, arena_dup_span(ev->a, span_cstr(dsn)));
    if (ev->warn_only) {
        eval_note(ev, "reject_warning", code, d, span_cstr(text));
        return;
    }
    *which = (struct pending){ .active = true, .code = code, .dsn = d, .text = span_cstr(text) };
    eval_said(ev, OUTCOME_POSTPONED);
    if (ev->c->trace != NULL)
        trace_later(ev, which, code, d, span_cstr(text));
}

void eval_later(struct eval *ev, struct pending *which, enum subject_kind k, int code, const char *dsn, const char *why)
{
    if (!which->active)
        eval_later_for(ev, which, k, eval_subject_name(ev, k), code, dsn, why);
}

enum answer eval_doubt(struct eval *ev, const char *action, enum subject_kind k, const char *dsn, const char *why)
{
    if (span_ieq_cstr(span_cstr(action), "defer"))
        return eval_reject_why(ev, k, 450, dsn, why);
    eval_later(ev, &ev->permit, k, 450, dsn, why);
    return ANSWER_DUNNO;
}

/* ---- lists ---- */

void eval_log_permit(struct eval *ev, struct span action, enum subject_kind k, const char *from)
{
    struct err e = ERR_INIT;
    if (ev->is_waiting || ev->permit.active || ev->s->permit_log == NULL || /* postponed: it permits nothing */
        match_list_name(ev->s->permit_log, action, &e) != LOOKUP_FOUND)
        return;
    struct span name = eval_subject_name(ev, k);
    char *text = arena_printf(ev->a, "action=%.*s for %s=%.*s %s", SPAN_ARG(action), eval_subject_class(k), SPAN_ARG(name), from);
    eval_note(ev, "permit", 0, span_of(NULL, 0), span_cstr(text));
}

/* What a permission is about; that of a table is logged with the table's answer. */
static enum subject_kind permit_subject(const struct eval *ev, const struct restriction *what)
{
    if (what->run == step_permit)
        return eval_list_subject(ev);
    if (what->run == step_permit_auth_destination || what->run == step_permit_mx_backup)
        return SUBJECT_RECIPIENT;
    return what->run == step_permit_naked_ip ? SUBJECT_HELO : SUBJECT_CLIENT;
}

static enum answer eval_step(struct eval *ev, const struct step *s)
{
    if (s->what == NULL)
        return eval_list(ev, s->sub);
    enum answer got = s->what->run(ev, s);
    if (got == ANSWER_PERMIT && ev->s->permit_log != NULL && s->table == NULL && s->server == NULL)
        eval_log_permit(ev, span_cstr(s->what->name), permit_subject(ev, s->what), "");
    return got;
}

static enum policy_outcome outcome_of(const struct eval *ev, enum answer got)
{
    if (got == ANSWER_PERMIT)
        return OUTCOME_PERMIT;
    if (got == ANSWER_REJECT)
        return ev->out->code / 100 == 4 ? OUTCOME_DEFER : OUTCOME_REJECT;
    return ev->said;
}

static enum answer eval_step_seen(struct eval *ev, const struct step *s)
{
    struct policy_event *e = trace_step(ev, s);
    enum answer got = eval_step(ev, s);
    trace_step_end(ev, e, outcome_of(ev, got));
    return got;
}

enum answer eval_list(struct eval *ev, const struct step_list *l)
{
    if (ev->depth >= DEPTH_MAX)
        return eval_config_error(ev, "restriction classes are nested too deeply");
    enum answer got = ANSWER_DUNNO;
    bool outer_warn = ev->warn_only;
    enum policy_outcome outer_said = ev->said, said = OUTCOME_NONE;
    ev->depth++;
    if (l->count > 0)
        eval_count(ev, l, 0, OUTCOME_NONE);
    for (size_t i = 0; i < l->count && got == ANSWER_DUNNO && !ev->is_discarded; i++) {
        ev->warn_only = outer_warn || l->steps[i].warn_only;
        ev->said = OUTCOME_NONE;
        got = ev->c->trace == NULL ? eval_step(ev, &l->steps[i]) : eval_step_seen(ev, &l->steps[i]);
        enum policy_outcome o = outcome_of(ev, got);
        if (o != OUTCOME_NONE)
            eval_count(ev, l, i, o);
        said = ev->said > said ? ev->said : said;
        if (ev->permit.active && ev->reject.active)
            break; /* whatever comes, it will be a deferral */
    }
    ev->depth--;
    ev->warn_only = outer_warn;
    ev->said = outer_said > said ? outer_said : said;
    return got;
}

/* defer_if_reject counts for its own stage; the relay and recipient lists are one. */
static bool run_list(struct eval *ev, enum restriction_list id)
{
    bool was_rcpt = ev->list == LIST_RELAY || ev->list == LIST_RECIPIENT;
    if (ev->is_discarded)
        return true;
    if (!was_rcpt || (id != LIST_RELAY && id != LIST_RECIPIENT))
        ev->reject.active = false;
    ev->list = id;
    if (ev->c->trace != NULL && ev->s->lists[id].count > 0)
        policy_trace_add(ev->c->trace, EVENT_LIST, span_cstr(restrict_count_list(&ev->s->lists[id])), SPAN_LIT(""), SPAN_LIT(""));
    return eval_list(ev, &ev->s->lists[id]) != ANSWER_REJECT;
}

static void keep(struct policy_later *to, const struct pending *from)
{
    to->active = from->active;
    to->code = from->code;
    snprintf(to->dsn, sizeof to->dsn, "%.*s", SPAN_ARG(from->dsn));
    snprintf(to->text, sizeof to->text, "%.*s", SPAN_ARG(from->text));
}

static void recall(struct pending *to, const struct policy_later *from)
{
    if (from->active && !to->active)
        *to = (struct pending){ true, from->code, span_cstr(from->dsn), span_cstr(from->text) };
}

/* A stage of its own, without smtpd_delay_reject: what is postponed waits for RCPT TO. */
static bool run_early(struct eval *ev, enum restriction_list id)
{
    size_t at = (size_t)id;
    struct policy_carry *carry = ev->c->carry;
    if (ev->s->p->smtpd_delay_reject)
        return true;
    bool ok = run_list(ev, id);
    if (carry != NULL)
        keep(&carry->permit[at], &ev->permit);
    return ok;
}

/* A check that a parameter adds to the end of a list. */
static bool run_check(struct eval *ev, const char *parameter, step_fn *run)
{
    if (ev->c->trace != NULL)
        policy_trace_add(ev->c->trace, EVENT_REMARK, SPAN_LIT(""), SPAN_LIT(""), span_cstr(arena_printf(ev->a, "%s = yes", parameter)));
    return run(ev, NULL) != ANSWER_REJECT;
}

static bool run_mail(struct eval *ev)
{
    const struct params *v = ev->s->p;
    if (!run_list(ev, LIST_SENDER))
        return false;
    if (v->smtpd_reject_unlisted_sender && !ev->sender_checked && ev->c->sender.n > 0)
        return run_check(ev, "smtpd_reject_unlisted_sender", step_reject_unlisted_sender);
    return true;
}

static bool run_mail_early(struct eval *ev)
{
    struct policy_carry *carry = ev->c->carry;
    if (ev->s->p->smtpd_delay_reject)
        return true;
    bool ok = run_mail(ev);
    if (carry != NULL)
        keep(&carry->permit[LIST_SENDER], &ev->permit);
    return ok;
}

static bool run_before_recipient(struct eval *ev)
{
    if (ev->s->p->smtpd_delay_reject)
        return run_list(ev, LIST_CLIENT) && (ev->c->helo.n == 0 || run_list(ev, LIST_HELO)) && run_mail(ev);
    for (size_t i = 0; ev->c->carry != NULL && i < ARRAY_LEN(ev->c->carry->permit); i++)
        recall(&ev->permit, &ev->c->carry->permit[i]);
    return true;
}

/* The route, when the caller brought none. False with *e when a table failed. */
static bool resolve_recipient(struct eval *ev, struct err *e)
{
    if (ev->route != NULL)
        return true;
    struct route *r = arena_alloc(ev->a, sizeof *r);
    if (route_resolve_for(ev->p, ev->s->svc, ev->c->sender, ev->c->recipient, ev->a, r, e) != LOOKUP_FOUND)
        return false;
    ev->route = r;
    return true;
}

/* A client, HELO or sender that is refused is refused whether the recipient's domain can be looked up or not. */
static bool run_address(struct eval *ev)
{
    bool relay_first = ev->s->p->smtpd_relay_before_recipient_restrictions;
    struct err e = ERR_INIT;
    bool resolved = resolve_recipient(ev, &e);
    if (ev->c->recipient.n == 0 || (resolved && ev->route->is_bad_address))
        return reject_with(ev, 501, SPAN_LIT("5.1.3"), SPAN_LIT("Bad recipient address syntax")) != ANSWER_REJECT;
    if (!run_before_recipient(ev))
        return false;
    if (!resolved)
        return eval_tempfail(ev, ev->c->recipient, &e) != ANSWER_REJECT;
    return run_list(ev, relay_first ? LIST_RELAY : LIST_RECIPIENT) && run_list(ev, relay_first ? LIST_RECIPIENT : LIST_RELAY);
}

/* Nothing rejected: what defer_if_permit said counts now. */
static bool take_postponed(struct eval *ev)
{
    if (ev->c->trace != NULL)
        policy_trace_add(ev->c->trace, EVENT_REMARK, SPAN_LIT(""), SPAN_LIT(""), SPAN_LIT("nothing rejects: defer_if_permit takes effect"));
    ev->reject.active = false; /* it has no rejection to turn */
    return reject_with(ev, ev->permit.code, ev->permit.dsn, ev->permit.text) != ANSWER_REJECT;
}

/* Mail for the sender of our own probes comes from servers that verify it while we verify theirs: refusing it helps nobody. */
static bool is_own_probe(const struct eval *ev)
{
    return ev->c->recipient.n > 0 && verify_is_sender(ev->p->p, ev->c->recipient);
}

static bool run_rcpt(struct eval *ev)
{
    if (is_own_probe(ev))
        return true;
    if (!run_address(ev))
        return false;
    ev->list = LIST_RECIPIENT;
    if (ev->permit.active)
        return take_postponed(ev);
    if (ev->is_discarded)
        return true;
    bool looks = ev->s->p->smtpd_reject_unlisted_recipient &&
                 !policy_list_has(ev->s->p->receive_override_options, "no_unknown_recipient_checks");
    if (looks && !ev->recipient_checked)
        return run_check(ev, "smtpd_reject_unlisted_recipient", step_reject_unlisted_recipient);
    return true;
}

/* VRFY tells nothing that RCPT TO would not. */
static bool run_vrfy(struct eval *ev)
{
    return run_address(ev) && step_reject_unlisted_recipient(ev, NULL) != ANSWER_REJECT;
}

/* DATA, END-OF-DATA, ETRN: one list, and what it postponed. */
static bool run_single(struct eval *ev, enum restriction_list id)
{
    struct err e = ERR_INIT;
    bool has_rcpt = (id == LIST_DATA || id == LIST_END_OF_DATA) && ev->c->recipient.n > 0; /* the only one */
    if (has_rcpt && ev->s->lists[id].count > 0 && !resolve_recipient(ev, &e))
        return eval_tempfail(ev, ev->c->recipient, &e) != ANSWER_REJECT;
    if (!run_list(ev, id))
        return false;
    if (ev->permit.active)
        return take_postponed(ev);
    return true;
}

/* The recipient of a message that has only one is known here too. */
static bool run_content(struct eval *ev, enum restriction_list id)
{
    struct err e = ERR_INIT;
    if (ev->s->lists[id].count > 0 && ev->c->recipient.n > 0 && !resolve_recipient(ev, &e)) {
        ev->list = id;
        return eval_tempfail(ev, ev->c->recipient, &e) != ANSWER_REJECT;
    }
    return run_single(ev, id);
}

static bool run_stage(struct eval *ev)
{
    switch (ev->stage) {
    case STAGE_CONNECT:
        return run_early(ev, LIST_CLIENT);
    case STAGE_HELO:
        return run_early(ev, LIST_HELO);
    case STAGE_MAIL:
        return run_mail_early(ev);
    case STAGE_RCPT:
        return run_rcpt(ev);
    case STAGE_VRFY:
        return run_vrfy(ev);
    case STAGE_DATA:
        return run_content(ev, LIST_DATA);
    case STAGE_END_OF_DATA:
        return run_content(ev, LIST_END_OF_DATA);
    case STAGE_ETRN:
        return (!ev->s->p->smtpd_delay_reject || (run_list(ev, LIST_CLIENT) && run_list(ev, LIST_HELO)))
               && run_single(ev, LIST_ETRN);
    }
    return false;
}

enum verdict policy_check(const struct policy *p, const struct conf_service *listener, enum policy_stage stage,
                          const struct policy_client *c, struct arena *a, struct verdict_reply *out)
{
    *out = (struct verdict_reply){ .code = 0 };
    struct eval ev = { .p = p, .s = policy_service(p, listener), .c = c, .a = a, .out = out, .stage = stage,
                       .route = c->route };
    if (c->trace != NULL)
        policy_trace_watch(c->trace, a);
    if (ev.s->dns_filter != NULL && c->answers != NULL)
        policy_answers_set_filter(c->answers, ev.s->dns_filter);
    bool ok = run_stage(&ev);
    if (c->trace != NULL)
        policy_trace_watch(NULL, a);
    if (ev.is_waiting)
        return VERDICT_WAIT;
    eval_count_all(&ev);
    if (ok)
        return VERDICT_OK;
    if (ev.disconnect)
        return VERDICT_DISCONNECT;
    return out->code / 100 == 4 ? VERDICT_DEFER : VERDICT_REJECT;
}

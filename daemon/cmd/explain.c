/* The stages of a session, one after the other, until one is refused. */
#include "daemon/cmd/explain.h"

#include <string.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/conf/params.h"
#include "common/dns/dns.h"
#include "common/mail/address.h"
#include "daemon/control/queue_json.h"
#include "policy/answers.h"
#include "policy/trace.h"

#define DNS_WAIT_MS 30000
#define EVALUATIONS_MAX 1000 /* each waits for something new */

json_t *explain_text(struct span s)
{
    return queue_json_text(s.n > 0 ? s : span_of("", 0));
}

void explain_note(struct explain *x, const char *fmt, ...)
{
    char text[500];
    va_list ap;
    size_t i;
    json_t *have;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_array_foreach(x->notes, i, have)
        if (strcmp(json_string_value(have), text) == 0)
            return;
    json_array_append_new(x->notes, explain_text(span_cstr(text)));
}

/* ---- events ---- */

static const char *lookup_word(enum lookup got)
{
    switch (got) {
    case LOOKUP_FOUND:
        return "found";
    case LOOKUP_NONE:
        return "none";
    case LOOKUP_TEMPFAIL:
        break;
    }
    return "error";
}

static json_t *event_json(const struct policy_event *e)
{
    static const char *const kinds[] = {
        [EVENT_LIST] = "list", [EVENT_STEP] = "restriction", [EVENT_LOOKUP] = "lookup", [EVENT_DNS] = "dns", [EVENT_NOTE] = "note",
        [EVENT_LATER] = "postponed", [EVENT_SERVICE] = "service", [EVENT_REMARK] = "remark",
    };
    json_t *j = json_pack("{s:s, s:i}", "kind", kinds[e->kind], "depth", (int)e->depth);
    if (e->kind != EVENT_REMARK)
        json_object_set_new(j, "name", explain_text(e->name));
    switch (e->kind) {
    case EVENT_STEP:
        if (e->arg.n > 0)
            json_object_set_new(j, "argument", explain_text(e->arg));
        if (e->is_warn_only)
            json_object_set_new(j, "warn_if_reject", json_true());
        json_object_set_new(j, "outcome", json_string(policy_outcome_word(e->outcome)));
        return j;
    case EVENT_LOOKUP:
    case EVENT_DNS:
        json_object_set_new(j, e->kind == EVENT_DNS ? "type" : "key", explain_text(e->arg));
        json_object_set_new(j, "got", json_string(lookup_word(e->got)));
        break;
    case EVENT_SERVICE:
        json_object_set_new(j, "asked", json_boolean(!e->is_skipped));
        break;
    case EVENT_LIST:
    case EVENT_NOTE:
    case EVENT_LATER:
    case EVENT_REMARK:
        break;
    }
    if (e->value.n > 0)
        json_object_set_new(j, "value", explain_text(e->value));
    return j;
}

json_t *explain_events(const struct policy_trace *t)
{
    json_t *j = json_array();
    for (const struct policy_event *e = t->first; e != NULL; e = e->next)
        json_array_append_new(j, event_json(e));
    return j;
}

/* ---- the client ---- */

static struct dns_answer *ask(struct explain *x, struct span name, enum dns_type type)
{
    return dns_query_wait(x->dns, name, type, clock_mono_ms() + DNS_WAIT_MS);
}

static bool leads_back(struct explain *x, const char *name, const struct ip_addr *want, bool *is_tempfail)
{
    bool found = false;
    struct dns_answer *a = ask(x, span_cstr(name), want->family == IP_V4 ? DNS_A : DNS_AAAA);
    for (size_t i = 0; a->status == DNS_OK && i < a->count; i++) {
        struct ip_addr got = want->family == IP_V4 ? ip_from_v4(a->rr[i].a) : ip_from_v6(a->rr[i].aaaa);
        found = found || ip_eq(&got, want);
    }
    *is_tempfail = a->status == DNS_TEMPFAIL;
    dns_answer_unref(&a);
    return found;
}

static bool is_host_name(const char *name)
{
    struct ip_addr ip;
    return addr_domain_is_valid(span_cstr(name), false, false) && !ip_parse(span_cstr(name), &ip);
}

/* As the server does when somebody connects: the name of the address, and whether it leads back there. */
static void find_names(struct explain *x, struct policy_client *c)
{
    struct sockaddr_storage ss;
    struct ip_addr loop4, loop6;
    char reverse[128];
    c->name = c->reverse_name = SPAN_LIT("unknown");
    if (ip_parse(SPAN_LIT("127.0.0.1"), &loop4) && ip_parse(SPAN_LIT("::1"), &loop6) &&
        (ip_eq(&loop4, &c->addr) || ip_eq(&loop6, &c->addr))) {
        c->name = c->reverse_name = SPAN_LIT("localhost");
        return;
    }
    if (x->dns == NULL || ip_to_sockaddr(&c->addr, 0, &ss) == 0)
        return;
    dns_reverse_name(&ss, reverse, sizeof reverse);
    struct dns_answer *a = ask(x, span_cstr(reverse), DNS_PTR);
    c->is_name_tempfail = c->is_reverse_tempfail = a->status == DNS_TEMPFAIL;
    if (a->status == DNS_OK && a->count > 0 && is_host_name(a->rr[0].name)) {
        c->reverse_name = span_cstr(arena_strdup(x->arena, a->rr[0].name));
        if (leads_back(x, a->rr[0].name, &c->addr, &c->is_name_tempfail))
            c->name = c->reverse_name;
    }
    dns_answer_unref(&a);
}

static bool describe_client(struct explain *x, struct policy_client *c, struct policy_tls *tls, struct err *e)
{
    const struct explain_question *q = x->q;
    const struct params *p = x->listener->p;
    struct span addr = span_cstr(q->client);
    if (!ip_parse_any(addr, &c->addr)) {
        err_set(e, "\"%s\" is no address", q->client);
        return false;
    }
    char text[IP_TEXT_MAX];
    c->addr_text = span_cstr(arena_strdup(x->arena, ip_print(&c->addr, text)));
    if (q->name == NULL && p->smtpd_peername_lookup)
        find_names(x, c);
    else
        c->name = c->reverse_name = span_cstr(q->name != NULL ? q->name : "unknown");
    if (q->reverse != NULL)
        c->reverse_name = span_cstr(q->reverse);
    c->sasl_user = span_cstr(q->sasl_user != NULL ? q->sasl_user : "");
    c->sasl_method = span_cstr(q->sasl_user == NULL ? "" : q->sasl_method != NULL ? q->sasl_method : "PLAIN");
    c->size_bytes = q->size_bytes;
    c->is_esmtp = q->is_esmtp;
    c->port = c->helo = c->sender = c->recipient = c->queue_id = c->instance = span_of("", 0);
    if (q->is_tls) {
        *tls = (struct policy_tls){ .protocol = SPAN_LIT("TLSv1.3"), .cipher = SPAN_LIT("TLS_AES_256_GCM_SHA384"), .keysize = 256 };
        c->tls = tls;
    }
    json_object_set_new(x->out, "client", json_pack("{s:o, s:o, s:o, s:o, s:o, s:b}", "address", explain_text(c->addr_text), "name",
        explain_text(c->name), "reverse_name", explain_text(c->reverse_name), "helo", explain_text(span_cstr(q->helo ? q->helo : "")),
        "sasl_username", explain_text(c->sasl_user), "tls", (int)q->is_tls));
    return true;
}

/* ---- the stages ---- */

static const char *verdict_word(enum verdict v)
{
    switch (v) {
    case VERDICT_OK:
        return "ok";
    case VERDICT_REJECT:
        return "reject";
    case VERDICT_DEFER:
        return "defer";
    case VERDICT_DISCONNECT:
        return "disconnect";
    case VERDICT_WAIT:
        break;
    }
    return "unknown";
}

/* As the session says it: smtpd_soft_bounce and the class of the enhanced status. */
static char *reply_text(struct explain *x, const struct verdict_reply *r)
{
    bool soft = x->listener->p->soft_bounce && r->code >= 500;
    char *dsn = arena_strndup(x->arena, r->dsn.p, r->dsn.n);
    int code = soft ? r->code - 100 : r->code;
    if (soft && r->dsn.n > 0)
        dsn[0] = '4';
    return arena_printf(x->arena, "%d %s%s%.*s", code, dsn, r->dsn.n > 0 ? " " : "", SPAN_ARG(r->text));
}

static void wait_for(struct explain *x, struct policy_answers *answers)
{
    int64_t pause = policy_answers_take_sleep_ms(answers);
    if (pause > 0)
        explain_note(x, "the session pauses for %lld ms (sleep)", (long long)pause);
    policy_answers_wait(answers);
}

static bool is_wanted(const struct explain *x, const struct policy_note *n)
{
    for (const struct policy_note *a = x->actions; a != NULL; a = a->next)
        if (a->effect == n->effect && span_eq(a->value, n->value))
            return true;
    return n->effect == EFFECT_NONE;
}

/* Each action once, as the session keeps them. */
static void take_actions(struct explain *x, const struct policy_note *n)
{
    for (; n != NULL; n = n->next) {
        struct policy_note **end = &x->actions, *copy;
        if (is_wanted(x, n))
            continue;
        copy = arena_alloc(x->arena, sizeof *copy);
        *copy = *n;
        copy->next = NULL;
        while (*end != NULL)
            end = &(*end)->next;
        *end = copy;
    }
}

/* True: the session goes on. */
static bool stage(struct explain *x, struct policy_client *c, enum policy_stage at, const char *command)
{
    struct policy_answers *answers = policy_answers_new(x->dns);
    struct policy_trace trace;
    struct verdict_reply reply;
    enum verdict v = VERDICT_WAIT;
    policy_trace_init(&trace, x->arena);
    trace.asks_services = x->q->asks_services;
    c->answers = answers;
    c->trace = &trace;
    for (int i = 0; i < EVALUATIONS_MAX && v == VERDICT_WAIT; i++) {
        policy_trace_reset(&trace);
        v = policy_check(x->policy, x->listener, at, c, x->arena, &reply);
        if (v == VERDICT_WAIT)
            wait_for(x, answers);
    }
    json_t *j = json_pack("{s:s, s:o, s:s}", "command", command, "events", explain_events(&trace), "verdict", verdict_word(v));
    if (v == VERDICT_OK)
        take_actions(x, reply.notes);
    else if (v != VERDICT_WAIT)
        json_object_set_new(j, "reply", explain_text(span_cstr(reply_text(x, &reply))));
    for (const struct policy_event *e = trace.first; e != NULL; e = e->next)
        if (e->kind == EVENT_SERVICE && e->is_skipped)
            explain_note(x, "%.*s was not asked: what it would say is not known%s", SPAN_ARG(e->name),
                         x->q->asks_services ? "" : " (--ask-services; posthousectl verify)");
    json_array_append_new(x->stages, j);
    c->trace = NULL;
    c->answers = NULL;
    policy_answers_free(&answers);
    return v == VERDICT_OK;
}

/* Sets the recipient as texts have it, and its route. */
static bool resolve(struct explain *x, struct policy_client *c, struct span rcpt, struct route *r)
{
    struct err e = ERR_INIT;
    c->route = NULL;
    c->recipient = rcpt;
    if (route_resolve_for(x->policy, x->listener, c->sender, rcpt, x->arena, r, &e) == LOOKUP_FOUND)
        c->route = r;
    else
        explain_note(x, "the address class of <%.*s> is not known: %s", SPAN_ARG(c->recipient), e.text);
    return c->route != NULL;
}

/* True: the message is taken as far as was asked. */
static bool recipients(struct explain *x, struct policy_client *c)
{
    const struct explain_question *q = x->q;
    x->accepted = arena_alloc(x->arena, (q->rcpt_count + 1) * sizeof *x->accepted);
    for (size_t i = 0; i < q->rcpt_count; i++) {
        struct route r;
        c->state_word = "RCPT";
        (void)resolve(x, c, span_cstr(q->rcpt[i]), &r);
        if (!stage(x, c, STAGE_RCPT, arena_printf(x->arena, "RCPT TO:<%s>", q->rcpt[i])))
            continue;
        x->accepted[x->accepted_count++] = span_cstr(q->rcpt[i]);
        c->rcpt_count = (unsigned)x->accepted_count;
    }
    if (!q->is_data || x->accepted_count == 0)
        return x->accepted_count > 0;
    struct route r;
    c->recipient = span_of("", 0);
    c->route = NULL;
    if (x->accepted_count == 1 && q->rcpt_count == 1)
        (void)resolve(x, c, span_cstr(q->rcpt[0]), &r);
    c->state_word = "DATA";
    if (!stage(x, c, STAGE_DATA, "DATA"))
        return false;
    c->state_word = "END-OF-MESSAGE";
    return stage(x, c, STAGE_END_OF_DATA, "end of data");
}

static void session(struct explain *x, struct policy_client *c)
{
    const struct explain_question *q = x->q;
    c->state_word = "CONNECT";
    if (!stage(x, c, STAGE_CONNECT, "connect"))
        return;
    if (q->helo != NULL) {
        c->helo = span_cstr(q->helo);
        c->state_word = "EHLO";
        if (!stage(x, c, STAGE_HELO, arena_printf(x->arena, "EHLO %s", q->helo)))
            return;
    }
    if (q->etrn != NULL) {
        c->recipient = span_cstr(q->etrn);
        c->state_word = "ETRN";
        (void)stage(x, c, STAGE_ETRN, arena_printf(x->arena, "ETRN %s", q->etrn));
        return;
    }
    c->sender = span_cstr(q->sender != NULL ? q->sender : "");
    c->state_word = "MAIL";
    if (!stage(x, c, STAGE_MAIL, arena_printf(x->arena, "MAIL FROM:<%s>", q->sender != NULL ? q->sender : "")))
        return;
    if (recipients(x, c))
        explain_message(x);
    if (q->rcpt_count == 0 && x->listener->p->smtpd_delay_reject)
        explain_note(x, "smtpd_delay_reject = yes: the lists are evaluated at RCPT TO; give a recipient with --to");
}

/* ---- all of it ---- */

static const struct conf_service *find_listener(const struct conf *c, const char *name)
{
    for (size_t i = 0; i < conf_service_count(c); i++) {
        const struct conf_service *s = conf_service(c, i);
        if (s->role == SVC_LISTENER && (name == NULL || strcmp(name, s->name) == 0 || strcmp(name, s->port) == 0))
            return s;
    }
    return NULL;
}

json_t *explain_run(struct conf *conf, struct policy *policy, struct dns *dns, const struct explain_question *q, struct err *e)
{
    struct policy_carry carry = { 0 };
    struct policy_tls tls;
    struct policy_client c = { .carry = &carry };
    struct explain x = { .q = q, .conf = conf, .policy = policy, .dns = dns, .listener = find_listener(conf, q->listener) };
    if (x.listener == NULL) {
        err_set(e, "there is no listener%s%s in master.cf", q->listener != NULL ? " " : "", q->listener != NULL ? q->listener : "");
        return NULL;
    }
    x.arena = arena_new(0);
    x.out = json_object();
    x.stages = json_array();
    x.routes = json_array();
    x.notes = json_array();
    json_object_set_new(x.out, "listener", json_string(x.listener->name));
    bool ok = describe_client(&x, &c, &tls, e);
    if (ok)
        session(&x, &c);
    json_object_set_new(x.out, "stages", x.stages);
    json_object_set_new(x.out, "routes", x.routes);
    json_object_set_new(x.out, "notes", x.notes);
    arena_free(&x.arena);
    if (!ok) {
        json_decref(x.out);
        x.out = NULL;
    }
    return x.out;
}

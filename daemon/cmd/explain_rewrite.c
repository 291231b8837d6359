/*
 * What a message's addresses become, in the order in which the server does it (daemon/smtpd/mapping.c, actions.c): each step
 * with the parameter, and the table and key where it came from one; then who else gets the message.
 */
#include "daemon/cmd/explain.h"

#include <string.h>

#include "common/conf/params.h"
#include "policy/rewrite/rewrite.h"
#include "policy/trace.h"

/* The steps of one address. */
struct steps {
    struct explain *x;
    struct policy_trace looked; /* the look-ups */
    json_t *list;
};

/* ---- one step ---- */

/* The look-up that gave a result: the last that found something, but not the owner of a list, which is asked behind it. */
static const struct policy_event *found_by(const struct steps *s)
{
    const struct policy_event *last = NULL, *owner = NULL;
    for (const struct policy_event *e = s->looked.first; e != NULL; e = e->next) {
        if (e->kind != EVENT_LOOKUP || e->got != LOOKUP_FOUND)
            continue;
        if (span_istarts_with(e->arg, SPAN_LIT("owner-")))
            owner = e;
        else
            last = e;
    }
    return last != NULL ? last : owner;
}

/* One look-up may have several results, and others come between them. */
static const json_t *same_lookup(const struct steps *s, const char *parameter, struct span from)
{
    size_t i;
    json_t *j, *text = explain_text(from);
    const json_t *same = NULL;
    json_array_foreach(s->list, i, j)
        if (strcmp(json_string_value(json_object_get(j, "step")), parameter) == 0 && json_equal(json_object_get(j, "from"), text))
            same = j;
    json_decref(text);
    return same;
}

/* "user+ext@domain" found as "user@domain": what became of "+ext". */
static void note_extension(struct steps *s, struct span from, struct span key, struct span to, json_t *j)
{
    const struct params *p = conf_global(s->x->conf);
    struct maps_addr a = maps_addr_of(from, p->recipient_delimiter, p->owner_request_special);
    struct maps_addr b = maps_addr_of(to, p->recipient_delimiter, p->owner_request_special);
    struct span ext = span_from(a.local, a.base_n), local = maps_addr_of(key, p->recipient_delimiter, p->owner_request_special).local;
    if (ext.n == 0 || span_ieq(local, a.local))
        return;
    json_object_set_new(j, "extension", explain_text(ext));
    json_object_set_new(j, "extension_kept", json_boolean(b.local.n >= ext.n && span_eq(span_from(b.local, b.local.n - ext.n), ext)));
}

static bool is_by_table(const char *parameter)
{
    size_t n = strlen(parameter);
    return n > 5 && strcmp(parameter + n - 5, "_maps") == 0;
}

static void take_step(void *arg, const char *parameter, struct span from, struct span to)
{
    struct steps *s = arg;
    json_t *j = json_pack("{s:s, s:o, s:o}", "step", parameter, "from", explain_text(from), "to", explain_text(to));
    const json_t *same = same_lookup(s, parameter, from);
    const struct policy_event *e = found_by(s);
    if (is_by_table(parameter) && same != NULL) {
        json_object_set(j, "table", json_object_get(same, "table"));
        json_object_set(j, "key", json_object_get(same, "key"));
    } else if (is_by_table(parameter) && e != NULL) {
        json_object_set_new(j, "table", explain_text(e->name));
        json_object_set_new(j, "key", explain_text(e->arg));
    }
    const char *key = json_string_value(json_object_get(j, "key"));
    if (key != NULL)
        note_extension(s, from, span_cstr(key), to, j);
    json_array_append_new(s->list, j);
}

static void begin(struct steps *s, struct explain *x)
{
    s->x = x;
    s->list = json_array();
    policy_trace_init(&s->looked, x->arena);
    policy_trace_watch(&s->looked, x->arena);
}

/* The object gets the steps and the look-ups, and is done. */
static void end(struct steps *s, json_t *j)
{
    policy_trace_watch(NULL, s->x->arena);
    json_object_set_new(j, "rewriting", s->list);
    json_object_set_new(j, "lookups", explain_events(&s->looked));
}

/* ---- the message ---- */

struct message {
    struct explain *x;
    bool has_maps;               /* else no_address_mappings */
    struct span filter;
    struct span *copies;         /* addresses that were copied to; in the arena */
    size_t copy_count, copy_cap;
};

static bool maps_addresses(const struct params *p)
{
    struct span rest = span_cstr(p->receive_override_options), word;
    while (span_next_token(&rest, ", \t\r\n", &word))
        if (span_eq(word, SPAN_LIT("no_address_mappings")))
            return false;
    return true;
}

static void cannot(struct explain *x, struct span address, const struct err *e)
{
    explain_note(x, "<%.*s> cannot be rewritten, mail is answered 451 at its end: %s", SPAN_ARG(address), e->text);
}

static void sender(struct message *m)
{
    struct steps s;
    struct explain *x = m->x;
    struct err e = ERR_INIT;
    struct span from = span_cstr(x->q->sender != NULL ? x->q->sender : "");
    const struct rewrite_trace t = { take_step, &s };
    json_t *j = json_pack("{s:o}", "address", explain_text(from));
    x->sender = from;
    begin(&s, x);
    if (rewrite_envelope(x->policy, REWRITE_ENV_SENDER, m->has_maps, from, x->arena, &x->sender, &t, &e) == LOOKUP_TEMPFAIL)
        cannot(x, from, &e);
    end(&s, j);
    json_object_set_new(j, "result", explain_text(x->sender));
    json_object_set_new(x->out, "sender", j);
}

static void copy_to(struct message *m, struct span address, const char *why, json_t *before);

/* A blind copy that a recipient or sender, or everything, causes. */
static void blind_copy(struct message *m, enum rewrite_bcc which, struct span address, const char *why)
{
    struct steps s;
    struct span to;
    struct err e = ERR_INIT;
    const struct rewrite_trace t = { take_step, &s };
    begin(&s, m->x);
    enum lookup got = rewrite_bcc(m->x->policy, which, address, true, m->x->arena, &to, &t, &e);
    policy_trace_watch(NULL, m->x->arena);
    if (got == LOOKUP_TEMPFAIL)
        cannot(m->x, address, &e);
    if (got == LOOKUP_FOUND)
        copy_to(m, to, why, s.list);
    json_decref(s.list);
}

/* FOUND: *addr is the rewritten address, *to who gets its mail. */
static enum lookup rewrite(struct message *m, struct span *addr, struct route_targets *to, const struct rewrite_trace *t, struct err *e)
{
    struct explain *x = m->x;
    if (m->has_maps)
        return rewrite_envelope(x->policy, REWRITE_ENV_RCPT, true, *addr, x->arena, addr, t, e) == LOOKUP_FOUND ?
                   route_expand_to(x->policy, *addr, x->arena, to, t, e) : LOOKUP_TEMPFAIL;
    to->list = arena_alloc(x->arena, sizeof *to->list);
    to->list[0] = (struct route_target){ .addr = *addr };
    to->count = 1;
    return LOOKUP_FOUND;
}

/* why NULL: the client named it. before: steps that led to it. */
static void recipient(struct message *m, struct span address, const char *why, json_t *before)
{
    struct steps s;
    struct err e = ERR_INIT;
    struct span addr = address;
    struct route_targets to = { 0 };
    const struct rewrite_trace t = { take_step, &s };
    json_t *j = json_pack("{s:o}", "recipient", explain_text(address)), *list = json_array();
    if (why != NULL)
        json_object_set_new(j, "because", json_string(why));
    begin(&s, m->x);
    json_array_extend(s.list, before);
    enum lookup got = rewrite(m, &addr, &to, &t, &e);
    if (got == LOOKUP_TEMPFAIL)
        cannot(m->x, address, &e);
    for (size_t i = 0; i < to.count && got == LOOKUP_FOUND; i++)
        explain_destination(m->x, &to.list[i], m->filter, list);
    end(&s, j);
    json_object_set_new(j, "destinations", list);
    json_array_append_new(m->x->routes, j);
    if (m->has_maps && why == NULL)
        blind_copy(m, REWRITE_BCC_RCPT, addr, "recipient_bcc_maps");
}

static void copy_to(struct message *m, struct span address, const char *why, json_t *before)
{
    for (size_t i = 0; i < m->copy_count; i++)
        if (span_ieq(m->copies[i], address))
            return;
    if (m->copy_count == m->copy_cap) {
        m->copy_cap = m->copy_cap > 0 ? 2 * m->copy_cap : 8;
        struct span *more = arena_alloc(m->x->arena, m->copy_cap * sizeof *more);
        if (m->copy_count > 0)
            memcpy(more, m->copies, m->copy_count * sizeof *more);
        m->copies = more;
    }
    m->copies[m->copy_count++] = address;
    recipient(m, address, why, before);
}

/* Where several restrictions say it, the last one holds. */
static struct span last_action(const struct explain *x, enum policy_effect effect)
{
    struct span value = { NULL, 0 };
    for (const struct policy_note *n = x->actions; n != NULL; n = n->next)
        if (n->effect == effect)
            value = n->value;
    return value;
}

static bool has_action(const struct explain *x, enum policy_effect effect)
{
    for (const struct policy_note *n = x->actions; n != NULL; n = n->next)
        if (n->effect == effect)
            return true;
    return false;
}

static void all_recipients(struct message *m)
{
    struct explain *x = m->x;
    for (size_t i = 0; i < x->accepted_count; i++)
        recipient(m, x->accepted[i], NULL, NULL);
    for (const struct policy_note *n = x->actions; n != NULL; n = n->next)
        if (n->effect == EFFECT_BCC)
            copy_to(m, n->value, "BCC", NULL);
    if (!m->has_maps)
        return;
    blind_copy(m, REWRITE_BCC_SENDER, x->sender, "sender_bcc_maps");
    blind_copy(m, REWRITE_BCC_ALWAYS, x->sender, "always_bcc");
}

void explain_message(struct explain *x)
{
    const struct params *p = x->listener->p;
    struct message m = { .x = x, .has_maps = maps_addresses(p), .filter = last_action(x, EFFECT_FILTER) };
    struct span redirect = last_action(x, EFFECT_REDIRECT);
    sender(&m);
    if (!m.has_maps)
        explain_note(x, "receive_override_options has no_address_mappings: addresses stay as they are");
    if (has_action(x, EFFECT_HOLD))
        explain_note(x, "the message is put on hold (HOLD)");
    if (has_action(x, EFFECT_DISCARD)) {
        explain_note(x, "the message is accepted and thrown away (DISCARD)");
        return;
    }
    if (redirect.n > 0) { /* instead of everybody, and without a filter */
        m.filter = span_of(NULL, 0);
        recipient(&m, redirect, "REDIRECT", NULL);
        return;
    }
    if (m.filter.n == 0)
        m.filter = span_cstr(p->content_filter);
    all_recipients(&m);
}

/*
 * Restriction lists become arrays of steps: names resolved, tables opened, classes linked. What cannot be resolved is a
 * finding, and where the configuration may still be used it becomes a step that answers 451 4.3.5.
 *
 * Relay control: each listener's relay and recipient lists together must hold a restriction that nothing unauthorised
 * gets past, in a place that can be reached: not behind an unconditional permit, and not under warn_if_reject.
 */
#include "common/base/mem.h"
#include "common/conf/param_value.h"
#include "policy/restrict_internal.h"
#include "policy/service.h"

#define CLASS_DEPTH_MAX  20

struct list_row {
    enum restriction_list id;
    const char *parameter;
    const char *default_access; /* what a bare type:table means */
};

static const struct list_row list_rows[] = {
    { LIST_CLIENT, "smtpd_client_restrictions", "check_client_access" },
    { LIST_HELO, "smtpd_helo_restrictions", "check_helo_access" },
    { LIST_SENDER, "smtpd_sender_restrictions", "check_sender_access" },
    { LIST_RELAY, "smtpd_relay_restrictions", "check_recipient_access" },
    { LIST_RECIPIENT, "smtpd_recipient_restrictions", "check_recipient_access" },
    { LIST_DATA, "smtpd_data_restrictions", NULL },
    { LIST_END_OF_DATA, "smtpd_end_of_data_restrictions", NULL },
    { LIST_ETRN, "smtpd_etrn_restrictions", "check_etrn_access" },
};

/* One list while it is compiled. */
struct making {
    struct compiler *c;           /* NULL at run time */
    const struct policy_service *s;
    struct arena *a;
    const char *default_access;
    struct step *steps;           /* owned until copied */
    size_t count;
    bool warn_next;
    struct err *e;                /* run time: the first problem */
    unsigned depth;
};

static bool compile_text(struct making *m, struct span text);

/* At load a finding; at run time the first one is told to the caller. Returns false at run time: the list is void. */
static bool complain(struct making *m, enum conf_severity severity, const char *fmt, ...) PRINTF_FMT(3, 4);
static bool complain(struct making *m, enum conf_severity severity, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (m->c == NULL) {
        err_set(m->e, "%s", text);
        return false;
    }
    compile_finding(m->c, severity, "%s", text);
    return true;
}

static struct step *add_step(struct making *m, const struct restriction *what, struct span name)
{
    m->steps = xrealloc(m->steps, (m->count + 1) * sizeof *m->steps);
    struct step *s = &m->steps[m->count++];
    *s = (struct step){ .what = what, .name = arena_dup_span(m->a, name), .warn_only = m->warn_next };
    m->warn_next = false;
    return s;
}

static struct restriction_class *find_class(const struct making *m, struct span name)
{
    for (size_t i = 0; i < m->s->class_count; i++) {
        if (span_ieq(m->s->classes[i].name, name))
            return &m->s->classes[i];
    }
    return NULL;
}

static bool is_table_spec(struct span item)
{
    ptrdiff_t colon = span_find(item, ':');
    return colon > 0 && colon + 1 < (ptrdiff_t)item.n;
}

static void finish(struct making *m, struct step_list *out)
{
    struct step *copy = arena_alloc(m->a, (m->count + 1) * sizeof *copy);
    if (m->count)
        memcpy(copy, m->steps, m->count * sizeof *copy);
    free(m->steps);
    m->steps = NULL;
    *out = (struct step_list){ .steps = copy, .count = m->count };
}

static bool compile_class(struct making *m, struct restriction_class *k)
{
    if (k->is_compiled)
        return true;
    if (k->is_compiling)
        return complain(m, CONF_ERROR, "restriction class \"%.*s\" contains itself", SPAN_ARG(k->name));
    if (m->c == NULL)
        return complain(m, CONF_ERROR, "restriction class \"%.*s\" is not compiled", SPAN_ARG(k->name));
    k->is_compiling = true;
    const char *text = conf_text(m->c->policy->conf, m->s->svc, k->name);
    struct making inner = { .c = m->c, .s = m->s, .a = m->a, .default_access = m->default_access, .depth = m->depth + 1 };
    if (text == NULL)
        (void)complain(m, CONF_ERROR, "restriction class \"%.*s\" is not defined: expected %.*s = list of restrictions",
                       SPAN_ARG(k->name), SPAN_ARG(k->name));
    else
        (void)compile_text(&inner, span_cstr(text));
    finish(&inner, &k->list);
    restrict_count_begin(m->c, m->s, arena_strndup(m->a, k->name.p, k->name.n), &k->list);
    k->is_compiling = false;
    k->is_compiled = true;
    return true;
}

static bool compile_table_step(struct making *m, const struct restriction *what, struct span name, struct span spec)
{
    if (m->c == NULL)
        return complain(m, CONF_ERROR, "%s in a table's answer: tables can be named in main.cf only; use a restriction class", what->name);
    struct step *s = add_step(m, what, name);
    const char *parameter = m->c->parameter;
    char *one = arena_printf(m->a, "{%.*s}", SPAN_ARG(spec)); /* one item, whatever is in it */
    s->table = compile_maps(m->c, parameter, span_of(one, strlen(one)));
    s->table_name = arena_dup_span(m->a, spec);
    return true;
}

/* "search_order = cert_fingerprint, pubkey_fingerprint" */
static bool take_search_order(struct step *s, struct span text, const char **why)
{
    static const char *const words[] = { [CERT_KEY_FINGERPRINT] = "cert_fingerprint", [CERT_KEY_PUBKEY] = "pubkey_fingerprint" };
    struct span word;
    ptrdiff_t eq = span_find(text, '=');
    *why = "expected { search_order = cert_fingerprint, pubkey_fingerprint } behind the table";
    if (eq < 0 || !span_ieq_cstr(span_trim(span_of(text.p, (size_t)eq)), "search_order"))
        return false;
    s->cert_key_count = 0;
    for (struct span rest = span_from(text, (size_t)eq + 1); span_next_token(&rest, ", \t\r\n", &word);) {
        uint8_t key = 0;
        while (key < ARRAY_LEN(words) && !span_ieq_cstr(word, words[key]))
            key++;
        if (key == ARRAY_LEN(words) || s->cert_key_count == CERT_KEYS_MAX)
            return false;
        s->cert_keys[s->cert_key_count++] = key;
    }
    return s->cert_key_count > 0;
}

/* "type:table", or "{ type:table, { search_order = ... } }" without its outer braces */
static bool compile_cert_table(struct making *m, const struct restriction *what, struct span name, struct span arg, bool is_braced)
{
    struct span spec = arg, order = { NULL, 0 };
    const char *why;
    bool braced;
    if (is_braced && !conf_list_next(&arg, &spec, &braced))
        return complain(m, CONF_ERROR, "\"%s\" needs a type:table behind it", what->name);
    if (!compile_table_step(m, what, name, spec))
        return false;
    struct step *s = &m->steps[m->count - 1];
    s->cert_keys[0] = CERT_KEY_FINGERPRINT;
    s->cert_keys[1] = CERT_KEY_PUBKEY;
    s->cert_key_count = 2;
    if (is_braced && conf_list_next(&arg, &order, &braced) && !take_search_order(s, order, &why))
        return complain(m, CONF_ERROR, "%s \"%.*s\": %s", what->name, SPAN_ARG(order), why);
    return true;
}

static bool compile_argument(struct making *m, const struct restriction *what, struct span name, struct span arg)
{
    const char *why = NULL;
    struct dnsbl *list = arena_alloc(m->a, sizeof *list);
    int64_t ms = 0;
    if (what->arg == ARG_DNSBL && !dnsbl_parse(arg, m->a, list, &why))
        return complain(m, CONF_ERROR, "%s \"%.*s\": %s", what->name, SPAN_ARG(arg), why);
    if (what->arg == ARG_TIME && !param_parse_time(arg, 's', &ms))
        return complain(m, CONF_ERROR, "%s \"%.*s\": expected a time such as 1 or 5s", what->name, SPAN_ARG(arg));
    struct step *s = add_step(m, what, name);
    s->dnsbl = list;
    s->table_name = arena_dup_span(m->a, arg);
    s->ms = ms;
    return true;
}

static bool compile_server(struct making *m, const struct restriction *what, struct span name, struct span arg)
{
    if (m->c == NULL)
        return complain(m, CONF_ERROR, "%s in a table's answer: servers can be named in main.cf only; use a restriction class", what->name);
    const struct params *v = m->s->p;
    struct policy *p = m->c->policy;
    struct err e = ERR_INIT;
    struct policy_server_options o = {
        .timeout = v->smtpd_policy_service_timeout, .max_idle = v->smtpd_policy_service_max_idle,
        .max_ttl = v->smtpd_policy_service_max_ttl, .retry_delay = v->smtpd_policy_service_retry_delay,
        .request_limit = v->smtpd_policy_service_request_limit, .try_limit = v->smtpd_policy_service_try_limit,
        .default_action = span_cstr(v->smtpd_policy_service_default_action),
        .policy_context = span_cstr(v->smtpd_policy_service_policy_context),
    };
    struct policy_server *server = policy_server_open(arg, p->p->queue_directory, &o, m->a, &e);
    if (server == NULL)
        return complain(m, CONF_ERROR, "%s: %s", what->name, e.text);
    for (size_t i = 0; i < p->server_count; i++) {
        if (!policy_server_same(p->servers[i], server))
            continue;
        policy_server_close(&server);
        server = p->servers[i];
        break;
    }
    struct step *s = add_step(m, what, name);
    s->table_name = arena_dup_span(m->a, arg);
    s->server = server;
    for (size_t i = 0; i < p->server_count; i++)
        if (p->servers[i] == server)
            return true;
    p->servers = xrealloc(p->servers, (p->server_count + 1) * sizeof(struct policy_server *));
    p->servers[p->server_count++] = server;
    return true;
}

static bool compile_known(struct making *m, const struct restriction *what, struct span name, struct span *rest)
{
    struct span arg = { NULL, 0 };
    bool braced;
    if (what->flags & RF_PREFIX) {
        m->warn_next = true;
        return true;
    }
    if (what->arg != ARG_NONE && !conf_list_next(rest, &arg, &braced))
        return complain(m, CONF_ERROR, "\"%s\" needs %s behind it", what->name,
                        what->arg == ARG_TABLE ? "a type:table" : "an argument");
    if (what->arg == ARG_DNSBL || what->arg == ARG_TIME)
        return compile_argument(m, what, name, arg);
    if (what->arg == ARG_SERVICE)
        return compile_server(m, what, name, arg);
    if (what->arg == ARG_TABLE)
        return compile_table_step(m, what, name, arg);
    if (what->arg == ARG_CERT_TABLE)
        return compile_cert_table(m, what, name, arg, braced);
    add_step(m, what, name);
    if ((what->flags & RF_OLD) && m->c != NULL)
        (void)complain(m, CONF_WARNING, "\"%s\" lets in whoever claims an address; use permit_mynetworks or permit_sasl_authenticated", what->name);
    return true;
}

static bool compile_item(struct making *m, struct span item, struct span *rest)
{
    const struct restriction *what = restriction_find(item);
    if (what != NULL)
        return compile_known(m, what, item, rest);
    struct restriction_class *k = find_class(m, item);
    if (k != NULL) {
        if (m->depth >= CLASS_DEPTH_MAX)
            return complain(m, CONF_ERROR, "restriction classes are nested too deeply");
        if (!compile_class(m, k))
            return false;
        add_step(m, NULL, item)->sub = &k->list;
        return true;
    }
    if (is_table_spec(item) && m->default_access != NULL)
        return compile_table_step(m, restriction_find(span_cstr(m->default_access)), item, item);
    return complain(m, CONF_ERROR, "unknown restriction \"%.*s\"", SPAN_ARG(item));
}

static bool compile_text(struct making *m, struct span text)
{
    struct span item;
    bool braced, ok = true;
    while (ok && conf_list_next(&text, &item, &braced))
        ok = compile_item(m, item, &text);
    if (ok && m->warn_next)
        ok = complain(m, CONF_WARNING, "\"warn_if_reject\" needs a restriction behind it");
    return ok;
}

bool restrict_compile_result(const struct policy *p, const struct policy_service *s, struct span text, struct arena *a,
                             struct step_list *out, struct err *e)
{
    struct making m = { .s = s, .a = a, .e = e };
    (void)p;
    bool ok = compile_text(&m, text);
    finish(&m, out);
    return ok;
}

/* ---- relay control ---- */

/* 1: a guard is reached; -1: the list ends before one; 0: neither. */
static int guard_in(const struct step_list *l, unsigned depth)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct step *s = &l->steps[i];
        if (s->what == NULL) {
            int inner = depth < CLASS_DEPTH_MAX ? guard_in(s->sub, depth + 1) : 0;
            if (inner != 0 && !s->warn_only)
                return inner;
            continue;
        }
        if ((s->what->flags & RF_GUARDS_RELAY) && !s->warn_only)
            return 1;
        if ((s->what->flags & RF_ENDS_LIST) && !s->warn_only)
            return -1;
    }
    return 0;
}

static bool any_step(const struct step_list *l, unsigned depth, bool (*fits)(const struct step *s))
{
    for (size_t i = 0; i < l->count; i++) {
        const struct step *s = &l->steps[i];
        if (s->what == NULL ? depth < CLASS_DEPTH_MAX && any_step(s->sub, depth + 1, fits) : fits(s))
            return true;
    }
    return false;
}

static bool asks_client_dnsbl(const struct step *s)
{
    return s->what->run == step_reject_rbl_client || s->what->run == step_permit_dnswl_client;
}

static bool asks_server(const struct step *s) { return s->server != NULL; }

static void require_relay_control(struct compiler *c, const struct policy_service *s)
{
    if (guard_in(&s->lists[LIST_RELAY], 0) > 0 || guard_in(&s->lists[LIST_RECIPIENT], 0) > 0)
        return;
    c->parameter = "smtpd_relay_restrictions";
    compile_finding(c, CONF_ERROR, "neither smtpd_relay_restrictions nor smtpd_recipient_restrictions%s%s has a working "
                    "reject_unauth_destination, defer_unauth_destination, reject, defer or defer_if_permit: this would be an open relay",
                    s->svc != NULL ? " of service " : "", s->svc != NULL ? s->svc->name : "");
}

/* ---- a service ---- */

static void declare_classes(struct compiler *c, struct policy_service *s)
{
    struct arena *a = c->policy->arena;
    struct span rest = span_cstr(s->p->smtpd_restriction_classes), item, count_rest = rest;
    bool braced;
    size_t n = 0;
    while (conf_list_next(&count_rest, &item, &braced))
        n++;
    s->classes = arena_alloc(a, (n + 1) * sizeof *s->classes);
    while (conf_list_next(&rest, &item, &braced))
        s->classes[s->class_count++] = (struct restriction_class){ .name = arena_dup_span(a, item) };
}

void restrict_compile_service(struct compiler *c, struct policy_service *s)
{
    declare_classes(c, s);
    for (size_t i = 0; i < s->class_count; i++) {
        char *name = arena_strndup(c->policy->arena, s->classes[i].name.p, s->classes[i].name.n);
        c->parameter = name;
        struct making m = { .c = c, .s = s, .a = c->policy->arena, .default_access = "check_recipient_access" };
        (void)compile_class(&m, &s->classes[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(list_rows); i++) {
        const struct list_row *row = &list_rows[i];
        c->parameter = row->parameter;
        const char *text = conf_text(c->policy->conf, s->svc, span_cstr(row->parameter));
        struct making m = { .c = c, .s = s, .a = c->policy->arena, .default_access = row->default_access };
        (void)compile_text(&m, span_cstr(text ? text : ""));
        finish(&m, &s->lists[row->id]);
        restrict_count_begin(c, s, row->parameter, &s->lists[row->id]);
        s->has_client_dnsbl = s->has_client_dnsbl || any_step(&s->lists[row->id], 0, asks_client_dnsbl);
        s->has_servers = s->has_servers || any_step(&s->lists[row->id], 0, asks_server);
    }
    if (s->svc != NULL || conf_service_count(c->policy->conf) == 0)
        require_relay_control(c, s);
}

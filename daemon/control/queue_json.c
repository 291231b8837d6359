/*
 * Members stand in the order of postqueue -j; jansson keeps the order of insertion. Addresses are in external form (local
 * part quoted where needed), the null sender is shown as MAILER-DAEMON, both as Postfix shows them.
 */
#include "daemon/control/queue_json.h"

#include "common/base/buf.h"
#include "common/mail/address.h"

json_t *queue_json_text(struct span s)
{
    json_t *j = s.n > 0 ? json_stringn(s.p, s.n) : json_string("");
    if (j != NULL)
        return j;
    struct buf b = BUF_INIT(0);
    for (size_t i = 0; i < s.n; i++)
        buf_putc(&b, (s.p[i] & 0x80) != 0 ? '?' : s.p[i]);
    j = json_stringn(b.p, b.n);
    buf_free(&b);
    return j;
}

static json_t *address_text(struct span internal)
{
    struct buf b = BUF_INIT(0);
    addr_quote(&b, internal);
    json_t *j = queue_json_text(buf_span(&b));
    buf_free(&b);
    return j;
}

static const char *queue_name(enum sched_where w)
{
    switch (w) {
    case SCHED_ACTIVE:
        return "active";
    case SCHED_DEFERRED:
        return "deferred";
    case SCHED_HOLD:
        return "hold";
    case SCHED_INCOMING:
        return "incoming";
    }
    return "deferred";
}

static const char *state_name(uint8_t state)
{
    switch ((enum rcpt_state)state) {
    case RCPT_TODO:
        return "waiting";
    case RCPT_BUSY:
        return "in delivery";
    case RCPT_DONE:
        return "done";
    }
    return "waiting";
}

static void add_text(json_t *o, const char *name, struct span s)
{
    if (s.n > 0)
        json_object_set_new(o, name, queue_json_text(s));
}

static json_t *notify_words(unsigned notify)
{
    static const struct { unsigned bit; const char *word; } words[] = {
        { NOTIFY_NEVER, "never" }, { NOTIFY_SUCCESS, "success" }, { NOTIFY_FAILURE, "failure" }, { NOTIFY_DELAY, "delay" },
    };
    json_t *a = json_array();
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (notify & words[i].bit)
            json_array_append_new(a, json_string(words[i].word));
    }
    return a;
}

static void add_progress(json_t *o, const struct msg_rcpt *r)
{
    json_object_set_new(o, "state", json_string(state_name(r->state)));
    json_object_set_new(o, "attempts", json_integer(r->attempts));
    if (r->state == RCPT_TODO)
        json_object_set_new(o, "next_due", json_integer((json_int_t)(r->due_us / 1000000)));
    add_text(o, "last_dsn", r->last_dsn);
    add_text(o, "last_host", r->last_mta);
    add_text(o, "transport", r->route.transport);
    add_text(o, "nexthop", r->route.nexthop);
    add_text(o, "orcpt", r->orcpt);
    if (r->notify != 0)
        json_object_set_new(o, "notify", notify_words(r->notify));
}

static json_t *recipient(const struct msg_rcpt *r, bool detail)
{
    json_t *o = json_object();
    json_object_set_new(o, "orig_address", span_eq(r->orig, r->addr) ? json_string("") : address_text(r->orig));
    json_object_set_new(o, "address", address_text(r->addr));
    if (r->last_reason.n > 0 && (r->state != RCPT_DONE || detail))
        json_object_set_new(o, "delay_reason", queue_json_text(r->last_reason));
    if (detail)
        add_progress(o, r);
    return o;
}

static json_t *flag_words(uint32_t flags)
{
    static const struct { uint32_t bit; const char *word; } words[] = {
        { ENV_SMTPUTF8, "smtputf8" }, { ENV_8BITMIME, "8bitmime" }, { ENV_BOUNCE, "bounce" },
        { ENV_LOCAL_SUBMIT, "local" }, { ENV_AUTHENTICATED, "authenticated" },
    };
    json_t *a = json_array();
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (flags & words[i].bit)
            json_array_append_new(a, json_string(words[i].word));
    }
    return a;
}

static void add_envelope(json_t *o, const struct envelope *e)
{
    add_text(o, "message_id", e->message_id);
    add_text(o, "client_name", e->client_name);
    add_text(o, "client_address", e->client_addr);
    add_text(o, "client_port", e->client_port);
    add_text(o, "helo", e->helo);
    add_text(o, "protocol", e->proto);
    add_text(o, "sasl_username", e->sasl_user);
    add_text(o, "sasl_method", e->sasl_method);
    add_text(o, "envelope_id", e->envid);
    add_text(o, "content_filter", e->filter);
    if (e->ret != DSN_RET_UNSET)
        json_object_set_new(o, "return", json_string(e->ret == DSN_RET_FULL ? "full" : "headers"));
    json_object_set_new(o, "flags", flag_words(e->flags));
}

json_t *queue_json(const struct msg *m, enum sched_where where, bool long_ids, bool detail)
{
    const struct envelope *e = &m->env;
    char id[QID_TEXT_MAX];
    json_t *o = json_object();
    size_t n = qid_format(e->id, long_ids, id);
    json_object_set_new(o, "queue_name", json_string(queue_name(where)));
    json_object_set_new(o, "queue_id", json_stringn(id, n));
    json_object_set_new(o, "arrival_time", json_integer((json_int_t)(e->arrival_us / 1000000)));
    json_object_set_new(o, "message_size", json_integer((json_int_t)e->content_bytes));
    json_object_set_new(o, "forced_expire", json_boolean(e->flags & ENV_FORCED_EXPIRE));
    json_object_set_new(o, "sender", e->sender.n > 0 ? address_text(e->sender) : json_string("MAILER-DAEMON"));
    json_t *list = json_array();
    for (uint32_t i = 0; i < e->rcpt_count; i++) {
        if (detail || e->rcpts[i].state != RCPT_DONE)
            json_array_append_new(list, recipient(&e->rcpts[i], detail));
    }
    json_object_set_new(o, "recipients", list);
    if (detail)
        add_envelope(o, e);
    return o;
}

void queue_json_add_waits(json_t *o, const struct msg *m, const struct sched_wait *w)
{
    json_t *list = json_object_get(o, "recipients");
    for (uint32_t i = 0; i < m->env.rcpt_count; i++) {
        json_t *r = json_array_get(list, i);
        json_object_set_new(r, "wait", json_string(w[i].why));
        json_object_set_new(r, "wait_reason", queue_json_text(span_cstr(w[i].text)));
        if (w[i].until_us != 0)
            json_object_set_new(r, "wait_until", json_integer((json_int_t)(w[i].until_us / 1000000)));
    }
}

void queue_json_add_history(json_t *o, const struct msg *m, struct query *q)
{
    static const char sql[] = "SELECT rcpt, attempt, at_us, dsn, mta, reason FROM attempts WHERE message = ?1 ORDER BY rcpt, attempt";
    sqlite3_stmt *st;
    struct err e = ERR_INIT;
    json_t *list = json_object_get(o, "recipients");
    if (query_prepare(q, SPAN_LIT(sql), &st, &e) != QUERY_OK)
        return;
    sqlite3_bind_int64(st, 1, (int64_t)m->env.id);
    while (query_step(q, st, &e) == QUERY_ROW) {
        json_t *r = json_array_get(list, (size_t)sqlite3_column_int64(st, 0)), *a = json_object();
        if (r == NULL) {
            json_decref(a);
            continue;
        }
        json_object_set_new(a, "attempt", json_integer(sqlite3_column_int64(st, 1)));
        json_object_set_new(a, "time", json_integer(sqlite3_column_int64(st, 2) / 1000000));
        add_text(a, "dsn", query_column(st, 3));
        add_text(a, "host", query_column(st, 4));
        add_text(a, "reply", query_column(st, 5));
        if (json_object_get(r, "history") == NULL)
            json_object_set_new(r, "history", json_array());
        json_array_append_new(json_object_get(r, "history"), a);
    }
    sqlite3_finalize(st);
}

json_t *queue_deleted_json(sqlite3_stmt *st, bool long_ids, int64_t keep_s)
{
    char id[QID_TEXT_MAX];
    int64_t deleted_s = sqlite3_column_int64(st, 1) / 1000000;
    json_t *o = json_object(), *list;
    struct span sender = query_column(st, 4), rcpts = query_column(st, 5);
    qid_format((uint64_t)sqlite3_column_int64(st, 0), long_ids, id);
    json_object_set_new(o, "queue_id", json_string(id));
    json_object_set_new(o, "deleted_time", json_integer((json_int_t)deleted_s));
    json_object_set_new(o, "until_time", json_integer((json_int_t)(deleted_s + keep_s)));
    json_object_set_new(o, "arrival_time", json_integer(sqlite3_column_int64(st, 2) / 1000000));
    json_object_set_new(o, "message_size", json_integer(sqlite3_column_int64(st, 3)));
    json_object_set_new(o, "sender", sender.n > 0 ? address_text(sender) : json_string("MAILER-DAEMON"));
    list = json_loadb(rcpts.p, rcpts.n, 0, NULL);
    json_object_set_new(o, "recipients", list != NULL ? list : json_array());
    return o;
}

static bool add_value(struct selection *s, const char *name, const json_t *v, struct err *e)
{
    const char *text = json_string_value(v);
    if (text == NULL) {
        err_set(e, "%s: the value is not a text", name);
        return false;
    }
    struct span value = span_of(text, json_string_length(v));
    if (strcmp(name, "sender") != 0 && strcmp(name, "recipient") != 0)
        return selection_add(s, name, value, e);
    struct arena *a = arena_new(0); /* rows have the form without quotes, listings show the one with them */
    if (value.n > 2 && value.p[0] == '<' && value.p[value.n - 1] == '>')
        value = span_of(value.p + 1, value.n - 2);
    bool ok = selection_add(s, name, addr_unquoted(a, value), e);
    arena_free(&a);
    return ok;
}

bool queue_json_selection(struct selection *s, json_t *select, struct err *e)
{
    const char *name;
    json_t *v, *item;
    size_t i;
    json_object_foreach(select, name, v) {
        if (!json_is_array(v)) {
            if (!add_value(s, name, v, e))
                return false;
            continue;
        }
        json_array_foreach(v, i, item) {
            if (!add_value(s, name, item, e))
                return false;
        }
    }
    return true;
}

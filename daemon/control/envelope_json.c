/* Texts that are not UTF-8 become {"hex": ".."}; everything else is what it says. */
#include "daemon/control/envelope_json.h"

#include "common/base/buf.h"
#include "common/base/num.h"

#define TEXT_MAX 2048

static const struct { uint32_t bit; const char *word; } flag_words[] = {
    { ENV_SMTPUTF8, "smtputf8" },     { ENV_8BITMIME, "8bitmime" }, { ENV_BOUNCE, "bounce" },
    { ENV_LOCAL_SUBMIT, "local" },    { ENV_HOLD, "hold" },         { ENV_AUTHENTICATED, "authenticated" },
    { ENV_NO_DELAY_WARNING, "delay-warned" },
};
static const struct { uint32_t bit; const char *word; } notify_words[] = {
    { NOTIFY_NEVER, "never" }, { NOTIFY_SUCCESS, "success" }, { NOTIFY_FAILURE, "failure" }, { NOTIFY_DELAY, "delay" },
};
static const char *const ret_words[] = { [DSN_RET_UNSET] = "", [DSN_RET_FULL] = "full", [DSN_RET_HDRS] = "headers" };

/* ---- encoding ---- */

static json_t *text(struct span s)
{
    static const char digits[] = "0123456789abcdef";
    json_t *j = s.n > 0 ? json_stringn(s.p, s.n) : json_string("");
    if (j != NULL)
        return j;
    struct buf b = BUF_INIT(0);
    for (size_t i = 0; i < s.n; i++) {
        buf_putc(&b, digits[(unsigned char)s.p[i] >> 4]);
        buf_putc(&b, digits[(unsigned char)s.p[i] & 15]);
    }
    j = json_pack("{s:s}", "hex", buf_cstr(&b));
    buf_free(&b);
    return j;
}

/* Members that are empty are left out, but for the addresses. */
static void put(json_t *o, const char *name, struct span s)
{
    if (s.n > 0)
        json_object_set_new(o, name, text(s));
}

static json_t *rcpt_json(const struct msg_rcpt *r)
{
    json_t *o = json_object();
    json_object_set_new(o, "address", text(r->addr));
    put(o, "original", r->orig);
    put(o, "orcpt", r->orcpt);
    json_t *notify = json_array();
    for (size_t i = 0; i < ARRAY_LEN(notify_words); i++)
        if (r->notify & notify_words[i].bit)
            json_array_append_new(notify, json_string(notify_words[i].word));
    if (json_array_size(notify) > 0)
        json_object_set(o, "notify", notify);
    json_decref(notify);
    return o;
}

struct member { const char *name; struct span *at; };
#define ENVELOPE_TEXTS 11

static void members_of(struct envelope *e, struct member out[ENVELOPE_TEXTS])
{
    const struct member v[ENVELOPE_TEXTS] = {
        { "envid", &e->envid }, { "message_id", &e->message_id }, { "client_name", &e->client_name },
        { "client_address", &e->client_addr }, { "client_port", &e->client_port }, { "helo", &e->helo }, { "protocol", &e->proto },
        { "sasl_username", &e->sasl_user }, { "sasl_method", &e->sasl_method },
        { "content_filter", &e->filter }, { "sender", &e->sender },
    };
    memcpy(out, v, sizeof v);
}

json_t *envelope_encode(const struct msg *m, bool on_hold, bool long_ids)
{
    struct envelope e = m->env;
    struct member members[ENVELOPE_TEXTS];
    char id[QID_TEXT_MAX];
    uint32_t flags = on_hold ? e.flags | ENV_HOLD : e.flags & ~(uint32_t)ENV_HOLD;
    qid_format(e.id, long_ids, id);
    json_t *o = json_pack("{s:i, s:s, s:I}", "posthouse_envelope", ENVELOPE_VERSION, "queue_id", id, "arrival_us", (json_int_t)e.arrival_us);
    json_object_set_new(o, "sender", text(e.sender));
    members_of(&e, members);
    for (size_t i = 0; i + 1 < ENVELOPE_TEXTS; i++)
        put(o, members[i].name, *members[i].at);
    if (e.ret != DSN_RET_UNSET)
        json_object_set_new(o, "return", json_string(ret_words[e.ret]));
    json_t *words = json_array(), *rcpts = json_array();
    for (size_t i = 0; i < ARRAY_LEN(flag_words); i++)
        if (flags & flag_words[i].bit)
            json_array_append_new(words, json_string(flag_words[i].word));
    json_object_set_new(o, "flags", words);
    for (uint32_t i = 0; i < e.rcpt_count; i++)
        if (e.rcpts[i].state != RCPT_DONE)
            json_array_append_new(rcpts, rcpt_json(&e.rcpts[i]));
    json_object_set_new(o, "recipients", rcpts);
    return o;
}

/* ---- decoding ---- */

static bool unhex(const char *hex, struct buf *b)
{
    for (; hex[0] != '\0'; hex += 2) {
        uint64_t v;
        if (hex[1] == '\0' || !num_parse_hex(span_of(hex, 2), &v))
            return false;
        buf_putc(b, (char)v);
    }
    return true;
}

/* Absent is empty. No control characters: they would end lines of SMTP. */
static bool get(const json_t *o, const char *name, struct arena *a, struct span *out, struct err *e)
{
    const json_t *j = json_object_get(o, name);
    struct buf b = BUF_INIT(TEXT_MAX);
    bool ok = j == NULL;
    if (json_is_string(j)) {
        buf_add(&b, json_string_value(j), json_string_length(j));
        ok = true;
    } else if (json_is_string(json_object_get(j, "hex"))) {
        ok = unhex(json_string_value(json_object_get(j, "hex")), &b);
    }
    for (size_t i = 0; ok && i < b.n; i++)
        ok = (unsigned char)b.p[i] >= 32 && b.p[i] != 127;
    ok = ok && buf_ok(&b);
    if (ok)
        *out = arena_dup_span(a, buf_span(&b));
    else
        err_set(e, "its envelope has a \"%s\" that is no text, too long, or has control characters", name);
    buf_free(&b);
    return ok;
}

static bool get_word(const char *word, const char *what, uint32_t *out, struct err *e)
{
    for (size_t i = 0; word != NULL && what[0] == 'f' && i < ARRAY_LEN(flag_words); i++)
        if (strcmp(word, flag_words[i].word) == 0) {
            *out |= flag_words[i].bit;
            return true;
        }
    for (size_t i = 0; word != NULL && what[0] == 'n' && i < ARRAY_LEN(notify_words); i++)
        if (strcmp(word, notify_words[i].word) == 0) {
            *out |= notify_words[i].bit;
            return true;
        }
    err_set(e, "its envelope has an unknown word \"%.40s\" in \"%s\"", word != NULL ? word : "?", what);
    return false;
}

static bool get_words(const json_t *o, const char *what, uint32_t *out, struct err *e)
{
    const json_t *list = json_object_get(o, what), *j;
    size_t i;
    *out = 0;
    json_array_foreach(list, i, j)
        if (!get_word(json_string_value(j), what, out, e))
            return false;
    return true;
}

static bool get_rcpt(const json_t *j, struct msg *m, struct err *e)
{
    struct msg_rcpt r = { .state = RCPT_TODO };
    uint32_t notify;
    if (!get(j, "address", m->arena, &r.addr, e) || !get(j, "original", m->arena, &r.orig, e) || !get(j, "orcpt", m->arena, &r.orcpt, e) ||
        !get_words(j, "notify", &notify, e))
        return false;
    if (r.addr.n == 0 || ((notify & NOTIFY_NEVER) && notify != NOTIFY_NEVER)) {
        err_set(e, "its envelope has a recipient without an address, or with \"never\" beside other words");
        return false;
    }
    r.notify = (uint8_t)notify;
    if (r.orig.n == 0)
        r.orig = r.addr;
    *msg_add_rcpt(m) = r;
    return true;
}

static bool get_rcpts(const json_t *o, struct msg *m, struct err *e)
{
    const json_t *list = json_object_get(o, "recipients"), *j;
    size_t i;
    if (json_array_size(list) == 0 || json_array_size(list) > ENVELOPE_RCPTS_MAX) {
        err_set(e, "its envelope has no recipients, or more than %d", ENVELOPE_RCPTS_MAX);
        return false;
    }
    json_array_foreach(list, i, j)
        if (!get_rcpt(j, m, e))
            return false;
    return true;
}

bool envelope_decode(const json_t *j, struct msg *m, struct err *e)
{
    struct member members[ENVELOPE_TEXTS];
    if (json_integer_value(json_object_get(j, "posthouse_envelope")) != ENVELOPE_VERSION) {
        err_set(e, "its envelope is not of version %d", ENVELOPE_VERSION);
        return false;
    }
    if (!json_is_string(json_object_get(j, "sender")) && !json_is_object(json_object_get(j, "sender"))) {
        err_set(e, "its envelope has no sender");
        return false;
    }
    m->env.arrival_us = json_integer_value(json_object_get(j, "arrival_us"));
    if (m->env.arrival_us <= 0) {
        err_set(e, "its envelope has no time of arrival");
        return false;
    }
    members_of(&m->env, members);
    for (size_t i = 0; i < ENVELOPE_TEXTS; i++)
        if (!get(j, members[i].name, m->arena, members[i].at, e))
            return false;
    const char *ret = json_string_value(json_object_get(j, "return"));
    for (size_t i = 0; ret != NULL && i < ARRAY_LEN(ret_words); i++)
        if (strcmp(ret, ret_words[i]) == 0)
            m->env.ret = (enum dsn_ret)i;
    return get_words(j, "flags", &m->env.flags, e) && get_rcpts(j, m, e);
}

/*
 * {"posthouse_submission": 1, "sender": "a@b", "full_name": "A B", "recipients": ["c@d"], "notify": 6, "return": "full",
 *  "envelope_id": "x", "body": "8bitmime", "smtputf8": true, "time": 1700000000000000, "content_bytes": 123}
 * Everything but version, sender, recipients and content_bytes may be missing.
 */
#include "daemon/control/submission.h"

#include "common/base/ascii.h"
#include "common/mail/address.h"

#define ENVID_MAX 100

json_t *submission_encode(const struct submission *s)
{
    json_t *o = json_object(), *list = json_array();
    json_object_set_new(o, "posthouse_submission", json_integer(SUBMISSION_VERSION));
    json_object_set_new(o, "sender", json_stringn(s->sender.n ? s->sender.p : "", s->sender.n));
    if (s->full_name.n > 0)
        json_object_set_new(o, "full_name", json_stringn(s->full_name.p, s->full_name.n));
    for (size_t i = 0; i < s->rcpt_count; i++)
        json_array_append_new(list, json_stringn(s->rcpts[i].p, s->rcpts[i].n));
    json_object_set_new(o, "recipients", list);
    if (s->notify != 0)
        json_object_set_new(o, "notify", json_integer(s->notify));
    if (s->ret != DSN_RET_UNSET)
        json_object_set_new(o, "return", json_string(s->ret == DSN_RET_FULL ? "full" : "headers"));
    if (s->envid.n > 0)
        json_object_set_new(o, "envelope_id", json_stringn(s->envid.p, s->envid.n));
    if (s->is_8bitmime)
        json_object_set_new(o, "body", json_string("8bitmime"));
    if (s->is_smtputf8)
        json_object_set_new(o, "smtputf8", json_true());
    json_object_set_new(o, "time", json_integer((json_int_t)s->time_us));
    json_object_set_new(o, "content_bytes", json_integer((json_int_t)s->content_bytes));
    return o;
}

static struct span text_of(const json_t *o, const char *name, struct arena *a)
{
    const json_t *j = json_object_get(o, name);
    if (!json_is_string(j))
        return span_of(NULL, 0);
    return arena_dup_span(a, span_of(json_string_value(j), json_string_length(j)));
}

/* An address in internal form: no control characters, not endless; its domain, when it has one, can exist. */
static bool address_is_sane(struct span s)
{
    struct span local, domain;
    if (s.n > ADDR_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] < 32 || s.p[i] == 127)
            return false;
    }
    if (!addr_split(s, &local, &domain))
        return true;
    return local.n > 0 && (addr_domain_is_valid(domain, true, true) || addr_literal_is_valid(domain));
}

/* RFC 3461 4.4: at most 100 characters; what they stand for is printable. */
static bool envid_is_sane(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_is_print(s.p[i]))
            return false;
    }
    return s.n <= ENVID_MAX;
}

static bool decode_rcpts(const json_t *j, struct arena *a, struct submission *out, struct err *e)
{
    const json_t *list = json_object_get(j, "recipients");
    size_t i;
    json_t *item;
    if (json_array_size(list) == 0) {
        err_set(e, "no recipients");
        return false;
    }
    out->rcpts = arena_alloc(a, json_array_size(list) * sizeof *out->rcpts);
    json_array_foreach(list, i, item) {
        struct span s = json_is_string(item) ? span_of(json_string_value(item), json_string_length(item)) : span_of(NULL, 0);
        if (s.n == 0 || !address_is_sane(s)) {
            err_set(e, "recipient \"%.*s\" is not an address", SPAN_ARG(s));
            return false;
        }
        out->rcpts[i] = arena_dup_span(a, s);
    }
    out->rcpt_count = json_array_size(list);
    return true;
}

bool submission_decode(const json_t *j, struct arena *a, struct submission *out, struct err *e)
{
    struct submission s = { .ret = DSN_RET_UNSET };
    const json_t *version = json_object_get(j, "posthouse_submission");
    const json_t *bytes = json_object_get(j, "content_bytes");
    const char *ret = json_string_value(json_object_get(j, "return"));
    const char *body = json_string_value(json_object_get(j, "body"));
    if (!json_is_integer(version) || json_integer_value(version) != SUBMISSION_VERSION) {
        err_set(e, "not a submission of version %d", SUBMISSION_VERSION);
        return false;
    }
    if (!json_is_string(json_object_get(j, "sender")) || !json_is_integer(bytes) || json_integer_value(bytes) < 0) {
        err_set(e, "sender or content_bytes is missing");
        return false;
    }
    s.sender = text_of(j, "sender", a);
    if (!address_is_sane(s.sender)) {
        err_set(e, "sender \"%.*s\" is not an address", SPAN_ARG(s.sender));
        return false;
    }
    if (!decode_rcpts(j, a, &s, e))
        return false;
    s.full_name = text_of(j, "full_name", a);
    s.envid = text_of(j, "envelope_id", a);
    if (!envid_is_sane(s.envid)) {
        err_set(e, "envelope_id is not 1 to %d printable ASCII characters", ENVID_MAX);
        return false;
    }
    s.notify = (uint8_t)(json_integer_value(json_object_get(j, "notify")) & 15);
    if (ret != NULL)
        s.ret = strcmp(ret, "full") == 0 ? DSN_RET_FULL : DSN_RET_HDRS;
    s.is_8bitmime = body != NULL && strcmp(body, "8bitmime") == 0;
    s.is_smtputf8 = json_is_true(json_object_get(j, "smtputf8"));
    s.time_us = json_integer_value(json_object_get(j, "time"));
    s.content_bytes = (uint64_t)json_integer_value(bytes);
    *out = s;
    return true;
}

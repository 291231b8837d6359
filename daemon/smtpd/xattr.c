/* One row per attribute: its name and the function that checks its value. Texts of errors are Postfix's. */
#include "common/base/ascii.h"
#include "common/base/num.h"
#include "common/mail/address.h"
#include "common/mail/xtext.h"
#include "daemon/smtpd/xattr.h"

struct parse {
    const struct xattr_rules *rules;
    struct arena *a;
    struct xattrs *x;
};

/* Not called for "[UNAVAILABLE]". */
typedef bool check_fn(struct parse *p, enum xattr_id id, struct span v);

static bool is_unavailable(struct span v)
{
    return span_ieq_cstr(v, "[UNAVAILABLE]");
}

static bool is_host_name(struct span v)
{
    struct ip_addr ip;
    return addr_domain_is_valid(v, false, false) && !ip_parse(v, &ip);
}

static bool take(struct parse *p, enum xattr_id id, struct span v)
{
    p->x->text[id] = v;
    return true;
}

/* What would break a header or a log line out of its brackets. */
static bool take_neutered(struct parse *p, enum xattr_id id, struct span v)
{
    char *t = arena_strndup(p->a, v.p, v.n);
    for (size_t i = 0; i < v.n; i++)
        if (strchr(" <>()\\\";@", t[i]) != NULL)
            t[i] = '?';
    return take(p, id, span_of(t, v.n));
}

static bool check_client_name(struct parse *p, enum xattr_id id, struct span v)
{
    if (span_ieq_cstr(v, "[TEMPUNAVAIL]")) {
        p->x->tempunavail |= 1u << id;
        return true;
    }
    return is_host_name(v) && take(p, id, v);
}

static bool check_name(struct parse *p, enum xattr_id id, struct span v)
{
    return p->rules->verb == XATTR_XCLIENT ? check_client_name(p, id, v) : is_host_name(v) && take_neutered(p, id, v);
}

/* RFC 5321 4.1.3 without the brackets: IPv6 with its tag, IPv4 without one. */
static bool check_addr(struct parse *p, enum xattr_id id, struct span v)
{
    char text[IP_TEXT_MAX];
    struct ip_addr ip;
    bool is_v6 = span_istarts_with(v, SPAN_LIT("IPV6:"));
    v = is_v6 ? span_from(v, 5) : v;
    if (!ip_parse(v, &ip) || (span_find(v, ':') >= 0) != is_v6 || ip.scope != 0)
        return false;
    if (!(ip.family == IP_V4 ? p->rules->has_v4 : p->rules->has_v6))
        return false;
    p->x->addr[id == XATTR_DESTADDR] = ip;
    return take(p, id, span_cstr(arena_strdup(p->a, ip_print(&ip, text))));
}

static bool check_port(struct parse *p, enum xattr_id id, struct span v)
{
    int64_t n = 0;
    if (v.n > 5 || !num_parse(v, 0, 99999, &n) || !ascii_is_digit(v.p[0]))
        return false;
    p->x->port[id == XATTR_DESTPORT] = n <= UINT16_MAX ? (uint16_t)n : 0;
    return take(p, id, v);
}

static bool check_proto(struct parse *p, enum xattr_id id, struct span v)
{
    if (p->rules->verb == XATTR_XFORWARD)
        return v.n <= XATTR_PROTO_MAX && take_neutered(p, id, v);
    if (span_ieq_cstr(v, "SMTP"))
        return take(p, id, SPAN_LIT("SMTP"));
    return span_ieq_cstr(v, "ESMTP") && take(p, id, SPAN_LIT("ESMTP"));
}

static bool check_source(struct parse *p, enum xattr_id id, struct span v)
{
    if (span_ieq_cstr(v, "LOCAL"))
        return take(p, id, SPAN_LIT("LOCAL"));
    return span_ieq_cstr(v, "REMOTE") && take(p, id, SPAN_LIT("REMOTE"));
}

enum { FOR_XCLIENT = 1 << XATTR_XCLIENT, FOR_XFORWARD = 1 << XATTR_XFORWARD };
static const struct attribute {
    const char *name;
    unsigned verbs;
    check_fn *check;
} attributes[XATTR_COUNT] = {
    [XATTR_NAME] = { "NAME", FOR_XCLIENT | FOR_XFORWARD, check_name },
    [XATTR_ADDR] = { "ADDR", FOR_XCLIENT | FOR_XFORWARD, check_addr },
    [XATTR_PORT] = { "PORT", FOR_XCLIENT | FOR_XFORWARD, check_port },
    [XATTR_PROTO] = { "PROTO", FOR_XCLIENT | FOR_XFORWARD, check_proto },
    [XATTR_HELO] = { "HELO", FOR_XCLIENT | FOR_XFORWARD, take_neutered },
    [XATTR_REVERSE_NAME] = { "REVERSE_NAME", FOR_XCLIENT, check_client_name },
    [XATTR_LOGIN] = { "LOGIN", FOR_XCLIENT, take },
    [XATTR_DESTADDR] = { "DESTADDR", FOR_XCLIENT, check_addr },
    [XATTR_DESTPORT] = { "DESTPORT", FOR_XCLIENT, check_port },
    [XATTR_IDENT] = { "IDENT", FOR_XFORWARD, take_neutered },
    [XATTR_SOURCE] = { "SOURCE", FOR_XFORWARD, check_source },
};

static const char *verb_name(const struct parse *p)
{
    return p->rules->verb == XATTR_XCLIENT ? "XCLIENT" : "XFORWARD";
}

static bool find(const struct parse *p, struct span name, enum xattr_id *id)
{
    for (int i = 0; i < XATTR_COUNT; i++)
        if ((attributes[i].verbs & 1u << p->rules->verb) != 0 && span_ieq_cstr(name, attributes[i].name)) {
            *id = (enum xattr_id)i;
            return true;
        }
    return false;
}

static struct span printable(struct arena *a, struct span s)
{
    char *t = arena_strndup(a, s.p, s.n);
    for (size_t i = 0; i < s.n; i++)
        if (!ascii_is_print(t[i]))
            t[i] = '?';
    return span_of(t, s.n);
}

/* Peers that know no xtext send what they have: what cannot be decoded is taken as it is. */
static struct span decode(struct parse *p, struct span coded)
{
    struct span plain = coded;
    if (memchr(coded.p, '+', coded.n) != NULL && !xtext_decode(coded, false, p->a, &plain))
        plain = coded;
    return printable(p->a, plain);
}

/* False with the error's text. */
static bool take_item(struct parse *p, struct span item, const char **why)
{
    ptrdiff_t eq = span_find(item, '=');
    enum xattr_id id = XATTR_NAME;
    if (eq < 0 || (size_t)eq + 1 == item.n) {
        *why = "Error: attribute=value expected";
        return false;
    }
    struct span name = span_of(item.p, (size_t)eq), value = span_from(item, (size_t)eq + 1);
    if (value.n > XATTR_VALUE_MAX) {
        *why = "Error: attribute value too long";
        return false;
    }
    value = decode(p, value);
    if (!find(p, name, &id)) {
        *why = arena_printf(p->a, "Bad %s attribute name: %.*s", verb_name(p), SPAN_ARG(printable(p->a, name)));
        return false;
    }
    p->x->given |= 1u << id;
    p->x->text[id] = SPAN_LIT("");
    p->x->tempunavail &= ~(1u << id);
    if (id == XATTR_ADDR || id == XATTR_DESTADDR)
        p->x->addr[id == XATTR_DESTADDR] = (struct ip_addr){ 0 };
    if (id == XATTR_PORT || id == XATTR_DESTPORT)
        p->x->port[id == XATTR_DESTPORT] = 0;
    bool is_value_of = p->rules->verb == XATTR_XCLIENT && id == XATTR_PROTO; /* one of two words, always */
    if ((is_unavailable(value) && !is_value_of) || attributes[id].check(p, id, value))
        return true;
    *why = arena_printf(p->a, "Bad %s syntax: %.*s", attributes[id].name, SPAN_ARG(value));
    return false;
}

bool xattr_parse(const struct xattr_rules *rules, struct span args, struct arena *a, struct xattrs *out, struct span *why)
{
    struct parse p = { .rules = rules, .a = a, .x = out };
    const char *text = NULL;
    struct span item;
    *out = (struct xattrs){ 0 };
    while (text == NULL && span_next_token(&args, " \t", &item))
        (void)take_item(&p, item, &text);
    if (text == NULL && out->given == 0)
        text = arena_printf(a, "Syntax: %s attribute=value...", verb_name(&p));
    *why = span_cstr(text ? text : "");
    return text == NULL;
}

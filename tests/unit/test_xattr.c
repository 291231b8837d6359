/* Attribute lists of XCLIENT and XFORWARD. Texts of errors as Postfix 3.7 gives them behind "501 5.5.4 ". */
#include "tests/unit/unit.h"
#include <string.h>
#include "daemon/smtpd/xattr.h"

struct list {
    const char *name, *args;
    const char *why;        /* NULL: right */
    enum xattr_id id;       /* then this attribute ... */
    const char *value;      /* ... has this value */
};

static const struct list xclient[] = {
    { "name", "NAME=spike.example", NULL, XATTR_NAME, "spike.example" },
    { "case", "name=Spike.Example ADDR=192.0.2.1", NULL, XATTR_NAME, "Spike.Example" },
    { "the last one counts", "ADDR=192.0.2.1 ADDR=192.0.2.2", NULL, XATTR_ADDR, "192.0.2.2" },
    { "taken back", "ADDR=192.0.2.1 ADDR=[unavailable]", NULL, XATTR_ADDR, "" },
    { "not known for now", "NAME=[TEMPUNAVAIL]", NULL, XATTR_NAME, "" },
    { "xtext", "HELO=a+20b+3D", NULL, XATTR_HELO, "a?b=" },
    { "bad xtext is taken as it is", "HELO=a+2Zb", NULL, XATTR_HELO, "a+2Zb" },
    { "an equal sign", "HELO=a=b", NULL, XATTR_HELO, "a=b" },
    { "special characters", "HELO=a<b>(c)\"d@;e", NULL, XATTR_HELO, "a?b??c??d??e" },
    { "encoded control characters", "LOGIN=a+0Ab", NULL, XATTR_LOGIN, "a?b" },
    { "underscore", "NAME=a_b.example", NULL, XATTR_NAME, "a_b.example" },
    { "IPv6", "ADDR=ipv6:2001:DB8::1", NULL, XATTR_ADDR, "2001:db8::1" },
    { "mapped", "ADDR=IPV6:::ffff:192.0.2.1", NULL, XATTR_ADDR, "192.0.2.1" },
    { "no port", "PORT=99999", NULL, XATTR_PORT, "99999" },
    { "protocol", "PROTO=esmtp", NULL, XATTR_PROTO, "ESMTP" },
    { "server", "DESTADDR=192.0.2.9 DESTPORT=26", NULL, XATTR_DESTADDR, "192.0.2.9" },
    { "tabs", "NAME=a.example\tADDR=192.0.2.1", NULL, XATTR_ADDR, "192.0.2.1" },
    { "nothing", "", "Syntax: XCLIENT attribute=value...", 0, NULL },
    { "no value", "NAME=", "Error: attribute=value expected", 0, NULL },
    { "no equal sign", "NAME", "Error: attribute=value expected", 0, NULL },
    { "unknown", "NAME=a.example FOO=bar", "Bad XCLIENT attribute name: FOO", 0, NULL },
    { "of the other verb", "IDENT=x", "Bad XCLIENT attribute name: IDENT", 0, NULL },
    { "bad name", "NAME=a..b", "Bad NAME syntax: a..b", 0, NULL },
    { "address as name", "NAME=1.2.3.4", "Bad NAME syntax: 1.2.3.4", 0, NULL },
    { "number as name", "NAME=123", "Bad NAME syntax: 123", 0, NULL },
    { "decoded name", "NAME=a+3db.example", "Bad NAME syntax: a=b.example", 0, NULL },
    { "bad reverse name", "REVERSE_NAME=x..y", "Bad REVERSE_NAME syntax: x..y", 0, NULL },
    { "IPv6 without tag", "ADDR=::1", "Bad ADDR syntax: ::1", 0, NULL },
    { "IPv4 with tag", "ADDR=IPV6:192.0.2.1", "Bad ADDR syntax: IPV6:192.0.2.1", 0, NULL },
    { "brackets", "ADDR=[192.0.2.1]", "Bad ADDR syntax: [192.0.2.1]", 0, NULL },
    { "zone", "ADDR=IPV6:fe80::1%lo", "Bad ADDR syntax: IPV6:fe80::1%lo", 0, NULL },
    { "port", "PORT=123456", "Bad PORT syntax: 123456", 0, NULL },
    { "port sign", "PORT=-1", "Bad PORT syntax: -1", 0, NULL },
    { "protocol of another kind", "PROTO=LMTP", "Bad PROTO syntax: LMTP", 0, NULL },
    { "protocol not available", "PROTO=[UNAVAILABLE]", "Bad PROTO syntax: [UNAVAILABLE]", 0, NULL },
};

static const struct list xforward[] = {
    { "name", "NAME=spike.example", NULL, XATTR_NAME, "spike.example" },
    { "not available", "NAME=[UNAVAILABLE]", NULL, XATTR_NAME, "" },
    { "identifier", "IDENT=<abc>", NULL, XATTR_IDENT, "?abc?" },
    { "source", "SOURCE=local", NULL, XATTR_SOURCE, "LOCAL" },
    { "protocol", "PROTO=foo", NULL, XATTR_PROTO, "foo" },
    { "protocol not available", "PROTO=[UNAVAILABLE]", NULL, XATTR_PROTO, "" },
    { "not known for now", "NAME=[TEMPUNAVAIL]", "Bad NAME syntax: [TEMPUNAVAIL]", 0, NULL },
    { "bad source", "SOURCE=foo", "Bad SOURCE syntax: foo", 0, NULL },
    { "of the other verb", "LOGIN=x", "Bad XFORWARD attribute name: LOGIN", 0, NULL },
    { "long protocol", "PROTO=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      "Bad PROTO syntax: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0, NULL },
};

static void check(const struct list *t, enum xattr_verb verb)
{
    const struct xattr_rules rules = { .verb = verb, .has_v4 = true, .has_v6 = true };
    struct arena *a = arena_new(0);
    struct xattrs x;
    struct span why;
    bool ok = xattr_parse(&rules, span_cstr(t->args), a, &x, &why);
    if (ok != (t->why == NULL) || (!ok && !span_eq(why, span_cstr(t->why))))
        fail_msg("%s: \"%.*s\"", t->name, SPAN_ARG(why));
    if (ok && (!xattr_has(&x, t->id) || !span_eq(x.text[t->id], span_cstr(t->value))))
        fail_msg("%s: value \"%.*s\"", t->name, SPAN_ARG(x.text[t->id]));
    arena_free(&a);
}

static void test_lists(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(xclient); i++)
        check(&xclient[i], XATTR_XCLIENT);
    for (size_t i = 0; i < ARRAY_LEN(xforward); i++)
        check(&xforward[i], XATTR_XFORWARD);
}

static void test_length(void **state)
{
    (void)state;
    const struct xattr_rules rules = { .verb = XATTR_XCLIENT, .has_v4 = true };
    struct arena *a = arena_new(0);
    struct xattrs x;
    struct span why;
    char *args = arena_printf(a, "HELO=%0255d", 0);
    assert_true(xattr_parse(&rules, span_cstr(args), a, &x, &why));
    args = arena_printf(a, "HELO=%0256d", 0);
    assert_false(xattr_parse(&rules, span_cstr(args), a, &x, &why));
    assert_true(span_eq(why, SPAN_LIT("Error: attribute value too long")));
    assert_false(xattr_parse(&rules, SPAN_LIT("ADDR=IPV6:::1"), a, &x, &why)); /* inet_protocols = ipv4 */
    arena_free(&a);
}

static void test_values(void **state)
{
    (void)state;
    const struct xattr_rules rules = { .verb = XATTR_XCLIENT, .has_v4 = true };
    struct arena *a = arena_new(0);
    struct xattrs x;
    struct span why;
    char text[IP_TEXT_MAX];
    assert_true(xattr_parse(&rules, SPAN_LIT("ADDR=192.0.2.1 PORT=65536 DESTADDR=192.0.2.2 DESTPORT=26 REVERSE_NAME=[tempunavail]"), a, &x, &why));
    assert_string_equal(ip_print(&x.addr[0], text), "192.0.2.1");
    assert_string_equal(ip_print(&x.addr[1], text), "192.0.2.2");
    assert_true(x.port[0] == 0 && x.port[1] == 26);
    assert_true(x.tempunavail == 1u << XATTR_REVERSE_NAME);
    assert_true(xattr_parse(&rules, SPAN_LIT("NAME=[TEMPUNAVAIL] NAME=a.example"), a, &x, &why));
    assert_true(x.tempunavail == 0);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

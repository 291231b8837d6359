/* Address rewriting; what is expected here is what Postfix 3.7 makes of the same configuration and addresses. */
#include "tests/unit/unit.h"
#include <string.h>
#include "common/base/buf.h"
#include "policy/rewrite/rewrite_internal.h"
#include "tests/unit/policy_fixture.h"

static const char site[] = "mydestination = example.com\nmyorigin = o.example\nmydomain = m.example\nrecipient_delimiter = +\n";

struct kase {
    const char *name, *conf;
    enum rewrite_class cls;
    const char *in, *want; /* "!": temporary failure */
};

static const struct kase cases[] = {
    { "nothing configured", "", REWRITE_ENV_RCPT, "a@b.example", "a@b.example" },
    { "completed", "", REWRITE_ENV_SENDER, "joe", "joe@o.example" },
    { "not completed", "append_at_myorigin = no\n", REWRITE_ENV_SENDER, "joe", "joe" },
    { "domain completed", "append_dot_mydomain = yes\n", REWRITE_ENV_SENDER, "joe@h", "joe@h.m.example" },
    { "domain as it is", "append_dot_mydomain = no\n", REWRITE_ENV_SENDER, "joe@h", "joe@h" },
    { "null sender", "canonical_maps = static:x@y\n", REWRITE_ENV_SENDER, "", "" },
    { "null recipient", "", REWRITE_ENV_RCPT, "", "MAILER-DAEMON@o.example" },
    { "bang path", "", REWRITE_ENV_RCPT, "h.example!joe", "joe@h.example" },
    { "bang path as it is", "swap_bangpath = no\n", REWRITE_ENV_RCPT, "h.example!joe", "h.example!joe@o.example" },
    { "percent", "", REWRITE_ENV_RCPT, "joe%h.example", "joe@h.example" },
    { "percent as it is", "allow_percent_hack = no\n", REWRITE_ENV_RCPT, "joe%h.example", "joe%h.example@o.example" },
    { "canonical", "canonical_maps = inline:{a@x=b@y}\n", REWRITE_ENV_SENDER, "A@X", "b@y" },
    { "canonical again", "canonical_maps = inline:{a@x=b@y,b@y=c@z}\n", REWRITE_ENV_SENDER, "a@x", "c@z" },
    { "result completed", "canonical_maps = inline:{a@x=b}\n", REWRITE_ENV_RCPT, "a@x", "b@o.example" },
    { "extension", "canonical_maps = inline:{a@x=b@y}\n", REWRITE_ENV_RCPT, "a+e@x", "b+e@y" },
    { "extension not passed on", "canonical_maps = inline:{a@x=b@y}\npropagate_unmatched_extensions = virtual\n", REWRITE_ENV_RCPT, "a+e@x", "b@y" },
    { "extension of a whole domain", "canonical_maps = inline:{@x=@y}\n", REWRITE_ENV_RCPT, "a+e@x", "a+e@y" },
    { "user of our domain", "canonical_maps = inline:{joe=Joe.User@example.com}\n", REWRITE_ENV_SENDER, "joe@example.com", "Joe.User@example.com" },
    { "user of another domain", "canonical_maps = inline:{joe=Joe.User@example.com}\n", REWRITE_ENV_SENDER, "joe@h.example", "joe@h.example" },
    { "only the first", "canonical_maps = inline:{{a@x=b@y, c@z}}\n", REWRITE_ENV_SENDER, "a@x", "b@y" },
    { "quoted key", "canonical_maps = inline:{{\"a b\"@x=b@y}}\n", REWRITE_ENV_SENDER, "a b@x", "b@y" },
    { "key without its quotes", "canonical_maps = inline:{{a b@x=b@y}}\n", REWRITE_ENV_SENDER, "a b@x", "b@y" },
    { "quoted result", "canonical_maps = inline:{{b@x=\"a b\"@y}}\n", REWRITE_ENV_SENDER, "b@x", "a b@y" },
    { "a circle", "canonical_maps = inline:{a@x=b@x,b@x=a@x}\n", REWRITE_ENV_SENDER, "a@x", "a@x" },
    { "own table first", "sender_canonical_maps = inline:{a@x=b@x}\ncanonical_maps = inline:{a@x=no@x,b@x=c@x}\n", REWRITE_ENV_SENDER, "a@x", "c@x" },
    { "senders' table", "sender_canonical_maps = inline:{a@x=b@x}\n", REWRITE_ENV_RCPT, "a@x", "a@x" },
    { "recipients' table", "recipient_canonical_maps = inline:{a@x=b@x}\n", REWRITE_ENV_RCPT, "a@x", "b@x" },
    { "recipients' table for senders", "recipient_canonical_maps = inline:{a@x=b@x}\n", REWRITE_HDR_SENDER, "a@x", "a@x" },
    { "class left out", "canonical_maps = static:b@x\ncanonical_classes = header_sender\n", REWRITE_ENV_SENDER, "a@x", "a@x" },
    { "class named", "canonical_maps = inline:{a@x=b@x}\ncanonical_classes = envelope_recipient\n", REWRITE_ENV_RCPT, "a@x", "b@x" },
    { "sender class left out", "sender_canonical_maps = inline:{a@x=b@x}\nsender_canonical_classes = header_sender\n", REWRITE_ENV_SENDER, "a@x", "a@x" },
    { "recipient class left out", "recipient_canonical_maps = inline:{a@x=b@x}\nrecipient_canonical_classes = header_recipient\n", REWRITE_ENV_RCPT, "a@x", "a@x" },
    { "table fails", "canonical_maps = fail:x\n", REWRITE_ENV_RCPT, "a@x", "!" },
    { "masquerade", "masquerade_domains = example.org\n", REWRITE_ENV_SENDER, "a@h.Example.ORG", "a@example.org" },
    { "masquerade itself", "masquerade_domains = example.org\n", REWRITE_ENV_SENDER, "a@Example.org", "a@Example.org" },
    { "masquerade not recipients", "masquerade_domains = example.org\n", REWRITE_ENV_RCPT, "a@h.example.org", "a@h.example.org" },
    { "masquerade recipients", "masquerade_domains = example.org\nmasquerade_classes = envelope_recipient\n", REWRITE_ENV_RCPT, "a@h.example.org", "a@example.org" },
    { "masquerade an order", "masquerade_domains = !foo.example.org example.org\n", REWRITE_ENV_SENDER, "a@h.foo.example.org", "a@h.foo.example.org" },
    { "masquerade the order turned", "masquerade_domains = example.org !foo.example.org\n", REWRITE_ENV_SENDER, "a@h.foo.example.org", "a@example.org" },
    { "masquerade a similar name", "masquerade_domains = example.org\n", REWRITE_ENV_SENDER, "a@hexample.org", "a@hexample.org" },
    { "masquerade exception", "masquerade_domains = example.org\nmasquerade_exceptions = root\n", REWRITE_ENV_SENDER, "Root@h.example.org", "Root@h.example.org" },
    { "masquerade other", "masquerade_domains = example.org\nmasquerade_exceptions = root\n", REWRITE_ENV_SENDER, "joe@h.example.org", "joe@example.org" },
    { "masquerade behind canonical", "masquerade_domains = example.org\ncanonical_maps = inline:{a@x=b@h.example.org}\n", REWRITE_ENV_SENDER, "a@x", "b@example.org" },
    { "exception table fails", "masquerade_domains = example.org\nmasquerade_exceptions = fail:x\n", REWRITE_ENV_SENDER, "a@h.example.org", "!" },
};

static void test_envelope(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct kase *k = &cases[i];
        char text[2048];
        struct span out = { NULL, 0 };
        struct err e = ERR_INIT;
        snprintf(text, sizeof text, "%s%s", site, k->conf);
        struct fixture *f = fixture_new(text);
        if (f->policy == NULL)
            fail_msg("%s: configuration refused", k->name);
        enum lookup got = rewrite_envelope(f->policy, k->cls, true, span_cstr(k->in), f->arena, &out, NULL, &e);
        if (got == LOOKUP_TEMPFAIL)
            out = SPAN_LIT("!");
        if (!span_eq(out, span_cstr(k->want)))
            fail_msg("%s: \"%.*s\", expected \"%s\"", k->name, SPAN_ARG(out), k->want);
        fixture_free(&f);
    }
}

static void note_step(void *arg, const char *parameter, struct span from, struct span to)
{
    struct buf *b = arg;
    buf_printf(b, "%s %.*s %.*s\n", parameter, SPAN_ARG(from), SPAN_ARG(to));
}

static void test_steps_are_told(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("myorigin = o.example\nsender_canonical_maps = inline:{joe@o.example=j@h.example.org}\n"
                                    "canonical_maps = inline:{other@x=y@z}\nmasquerade_domains = example.org\n");
    struct buf b = BUF_INIT(0);
    struct rewrite_trace t = { note_step, &b };
    struct span out;
    struct err e = ERR_INIT;
    assert_int_equal(rewrite_envelope(f->policy, REWRITE_ENV_SENDER, true, SPAN_LIT("joe"), f->arena, &out, &t, &e), LOOKUP_FOUND);
    assert_string_equal(buf_cstr(&b), "append_at_myorigin joe joe@o.example\nsender_canonical_maps joe@o.example j@h.example.org\n"
                                      "masquerade_domains j@h.example.org j@example.org\n");
    buf_reset(&b);
    assert_int_equal(rewrite_envelope(f->policy, REWRITE_ENV_SENDER, false, SPAN_LIT("joe"), f->arena, &out, &t, &e), LOOKUP_FOUND);
    assert_string_equal(buf_cstr(&b), "append_at_myorigin joe joe@o.example\n");
    buf_reset(&b);
    assert_int_equal(rewrite_envelope(f->policy, REWRITE_ENV_RCPT, false, SPAN_LIT("h.example!joe"), f->arena, &out, &t, &e), LOOKUP_FOUND);
    assert_int_equal(rewrite_envelope(f->policy, REWRITE_ENV_RCPT, false, SPAN_LIT("joe%h"), f->arena, &out, &t, &e), LOOKUP_FOUND);
    assert_int_equal(rewrite_envelope(f->policy, REWRITE_ENV_RCPT, false, SPAN_LIT("joe@h.example."), f->arena, &out, &t, &e), LOOKUP_FOUND);
    assert_string_equal(buf_cstr(&b), "swap_bangpath h.example!joe joe@h.example\nallow_percent_hack joe%h joe@h\n"
                                      "final dot joe@h.example. joe@h.example\n");
    buf_free(&b);
    fixture_free(&f);
}

static void test_bcc(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("recipient_delimiter = +\nmyorigin = o.example\nalways_bcc = arch\n"
                                    "sender_bcc_maps = inline:{a@x=s@y}\nrecipient_bcc_maps = inline:{@x=r@y,bad@z=<>}\n"
                                    "recipient_canonical_maps = inline:{r@y=rr@y}\n");
    struct span out;
    struct err e = ERR_INIT;
    assert_true(rewrite_has_bcc(f->policy));
    assert_int_equal(rewrite_bcc(f->policy, REWRITE_BCC_ALWAYS, SPAN_LIT(""), true, f->arena, &out, NULL, &e), LOOKUP_FOUND);
    assert_true(span_eq(out, SPAN_LIT("arch@o.example")));
    assert_int_equal(rewrite_bcc(f->policy, REWRITE_BCC_SENDER, SPAN_LIT("a+e@x"), true, f->arena, &out, NULL, &e), LOOKUP_FOUND);
    assert_true(span_eq(out, SPAN_LIT("s@y")));
    assert_int_equal(rewrite_bcc(f->policy, REWRITE_BCC_SENDER, SPAN_LIT(""), true, f->arena, &out, NULL, &e), LOOKUP_NONE);
    assert_int_equal(rewrite_bcc(f->policy, REWRITE_BCC_SENDER, SPAN_LIT("b@x"), true, f->arena, &out, NULL, &e), LOOKUP_NONE);
    assert_int_equal(rewrite_bcc(f->policy, REWRITE_BCC_RCPT, SPAN_LIT("b@x"), true, f->arena, &out, NULL, &e), LOOKUP_FOUND);
    assert_true(span_eq(out, SPAN_LIT("rr@y")));
    assert_int_equal(rewrite_bcc(f->policy, REWRITE_BCC_RCPT, SPAN_LIT("bad@z"), true, f->arena, &out, NULL, &e), LOOKUP_NONE);
    fixture_free(&f);
    f = fixture_new("");
    assert_false(rewrite_has_bcc(f->policy));
    fixture_free(&f);
}

struct header_kase {
    const char *name, *conf;
    enum rewrite_origin origin;
    const char *in, *want; /* NULL: stays as it is; "!": temporary failure */
};

static const struct header_kase headers[] = {
#include "tests/unit/rewrite_headers.inc"
};

static void test_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        const struct header_kase *k = &headers[i];
        char text[2048];
        struct span out = { NULL, 0 };
        struct err e = ERR_INIT;
        snprintf(text, sizeof text, "%s%s", site, k->conf);
        struct fixture *f = fixture_new(text);
        struct span in = span_cstr(k->in);
        enum lookup got = rewrite_header(f->policy, k->origin, true, in, strcspn(k->in, ": "), f->arena, &out, NULL, &e);
        if (got == LOOKUP_TEMPFAIL)
            out = SPAN_LIT("!");
        else if (got == LOOKUP_NONE)
            out = in;
        struct span want = k->want != NULL ? span_cstr(k->want) : in;
        if (!span_eq(out, want) || (k->want == NULL && got != LOOKUP_NONE))
            fail_msg("%s: \"%.*s\", expected \"%.*s\"", k->name, SPAN_ARG(out), SPAN_ARG(want));
        fixture_free(&f);
    }
}

/* What is seen at a glance; anything doubtful must be "no". */
static void test_plain_lists(void **state)
{
    (void)state;
    static const char *const yes[] = { " a@b.c", "a.b-c_d+e=f@x-1.example.org", " Joe User <joe@x.example>", "<a@b.c>",
                                       "a@b.c,\n\tJoe <d@e.f> , g@h.i", NULL };
    static const char *const no[] = { "", " ", "joe", "joe@host", "a@b.c.", "a@.b.c", "a@b..c", ".a@b.c", "a.@b.c", "a..b@c.d", "a%b@c.d",
                                      "h!a@c.d", "@a.b:c@d.e", "\"a b\"@c.d", "a@[1.2.3.4]", "a@b.c (x)", "J. User <a@b.c>",
                                      "\"J\" <a@b.c>", "<>", "<a@b.c", "a@b.c>", "a@b.c,", ",a@b.c", "a@b.c d@e.f", "g: a@b.c;",
                                      "x <a@b.c> y", "<a@b.c> <d@e.f>", "a @b.c", "a@b.c\td", "\xc3\xa4@b.c", "a@b@c.d", NULL };
    for (size_t i = 0; yes[i] != NULL; i++)
        if (!rewrite_list_is_plain(span_cstr(yes[i])))
            fail_msg("not plain: \"%s\"", yes[i]);
    for (size_t i = 0; no[i] != NULL; i++)
        if (rewrite_list_is_plain(span_cstr(no[i])))
            fail_msg("plain: \"%s\"", no[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelope),
        cmocka_unit_test(test_steps_are_told),
        cmocka_unit_test(test_bcc),
        cmocka_unit_test(test_plain_lists),
        cmocka_unit_test(test_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

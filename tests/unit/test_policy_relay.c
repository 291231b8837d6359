/*
 * Never an open relay: addresses that try to get mail through to somebody else's domain, from a client that may not.
 * Expected answers were compared with a real Postfix 3.7 where there was doubt.
 */
#include "tests/unit/unit.h"
#include "common/mail/address.h"
#include "tests/unit/policy_fixture.h"

static const char site[] =
    "mydestination = hub.example.com, example.com, localhost\n"
    "relay_domains = relay.example\n"
    "virtual_alias_domains = alias.example\n"
    "virtual_alias_maps = inline:{ joe@alias.example=joe@example.com }\n"
    "virtual_mailbox_domains = box.example\n"
    "virtual_mailbox_maps = static:yes\n"
    "smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination\n";

struct attempt {
    const char *recipient; /* as written behind RCPT TO: */
    const char *answer;    /* beginning of the reply */
};

/* The path is parsed as the SMTP server does it; what is no address gets 501 there. */
static const char *answer_to(struct fixture *f, const char *path)
{
    struct addr to;
    if (addr_parse(span_cstr(path), ADDR_UTF8, f->arena, &to) != ADDR_OK)
        return "501";
    struct rcpt_case c = { .recipient = arena_strndup(f->arena, to.text.p ? to.text.p : "", to.text.n) };
    return fixture_check(f, &c);
}

static int run(const char *extra, const struct attempt *list, size_t n)
{
    char text[2048];
    int wrong = 0;
    snprintf(text, sizeof text, "%s%s", site, extra);
    struct fixture *f = fixture_new(text);
    for (size_t i = 0; i < n; i++) {
        const char *got = answer_to(f, list[i].recipient);
        if (strncmp(got, list[i].answer, strlen(list[i].answer)) == 0)
            continue;
        print_error("%s: got \"%s\", expected \"%s...\"\n", list[i].recipient, got, list[i].answer);
        wrong++;
    }
    fixture_free(&f);
    return wrong;
}

static const struct attempt usual[] = {
    { "<joe@example.com>", "250" },
    { "<JOE@EXAMPLE.COM>", "250" },
    { "<joe@example.com.>", "250" },
    { "<joe@example.com..>", "501" },
    { "<joe@elsewhere.example>", "554 5.7.1 " },
    { "<joe@elsewhere.example.>", "554 5.7.1 " },
    { "<joe@ELSEWHERE.example>", "554 5.7.1 " },
    { "<joe@relay.example>", "250" },
    { "<joe@sub.relay.example>", "250" },
    { "<joe@relay.example.>", "250" },
    { "<joe@xrelay.example>", "554 5.7.1 " },
    { "<joe@alias.example>", "250" },
    { "<nobody@alias.example>", "550 5.1.1 " },
    { "<joe@box.example>", "250" },
    { "<joe@sub.box.example>", "554 5.7.1 " },
    { "<joe@sub.example.com>", "554 5.7.1 " },
    { "<joe%elsewhere.example@example.com>", "554 5.7.1 " },
    { "<joe%elsewhere.example@relay.example>", "554 5.7.1 " },
    { "<joe%elsewhere.example@box.example>", "554 5.7.1 " },
    { "<joe%elsewhere.example@alias.example>", "554 5.7.1 " },
    { "<joe%elsewhere.example>", "554 5.7.1 " },
    { "<joe%example.com>", "250" },
    { "<joe%example.com@example.com>", "250" },
    { "<joe%relay.example@example.com>", "250" },
    { "<joe%example.com@elsewhere.example>", "554 5.7.1 " },
    { "<elsewhere.example!joe>", "554 5.7.1 " },
    { "<elsewhere.example!joe@example.com>", "554 5.7.1 " },
    { "<elsewhere.example!joe@relay.example>", "554 5.7.1 " },
    { "<elsewhere.example!joe@box.example>", "554 5.7.1 " },
    { "<example.com!joe>", "250" },
    { "<example.com!elsewhere.example!joe>", "554 5.7.1 " },
    { "<elsewhere.example!joe%example.com>", "554 5.7.1 " },
    { "<joe%elsewhere.example%example.com@example.com>", "554 5.7.1 " },
    { "<joe%elsewhere.example%example.com>", "554 5.7.1 " },
    { "<joe@elsewhere.example@example.com>", "554 5.7.1 <joe@elsewhere.example@example.com>: Relay access denied" },
    { "<joe@elsewhere.example@relay.example>", "554 5.7.1 <joe@elsewhere.example@relay.example>: Relay access denied" },
    { "<joe@elsewhere.example@box.example>", "554 5.7.1 <joe@elsewhere.example@box.example>: Relay access denied" },
    { "<joe@elsewhere.example@alias.example>", "554 5.7.1 <joe@elsewhere.example@alias.example>: Relay access denied" },
    { "<joe@example.com@elsewhere.example>", "554 5.7.1 <joe@example.com@elsewhere.example>: Relay access denied" },
    { "<joe@example.com@example.com>", "250" },
    { "<\"joe@elsewhere.example\"@example.com>", "554 5.7.1 " },
    { "<\"joe@elsewhere.example\"@relay.example>", "554 5.7.1 " },
    { "<\"joe@elsewhere.example\"@box.example>", "554 5.7.1 " },
    { "<\"joe@elsewhere.example\">", "554 5.7.1 " },
    { "<\"joe%elsewhere.example\"@example.com>", "554 5.7.1 " },
    { "<\"joe%elsewhere.example\">", "554 5.7.1 " },
    { "<\"elsewhere.example!joe\"@example.com>", "554 5.7.1 " },
    { "<\"elsewhere.example!joe\">", "554 5.7.1 " },
    { "<\"joe@elsewhere.example\"@[127.0.0.1]>", "554 5.7.1 " },
    { "<\"joe\"@example.com>", "250" },
    { "<\"joe joe\"@example.com>", "250" },
    { "<\"joe\\@elsewhere.example\"@example.com>", "554 5.7.1 " },
    { "<joe\\@elsewhere.example@example.com>", "554 5.7.1 " },
    { "<\"\\\"joe@elsewhere.example\\\"\"@example.com>", "554 5.7.1 " },
    { "<\"\"@example.com>", "250" },
    { "<@elsewhere.example:joe@example.com>", "250" },
    { "<@example.com:joe@elsewhere.example>", "554 5.7.1 " },
    { "<@example.com,@relay.example:joe@elsewhere.example>", "554 5.7.1 " },
    { "<@elsewhere.example:joe@example.com@elsewhere.example>", "554 5.7.1 <joe@example.com@elsewhere.example>: Relay access denied" },
    { "<@example.com:joe%elsewhere.example>", "554 5.7.1 " },
    { "<joe@[127.0.0.1]>", "250" },
    { "<joe@[127.0.0.2]>", "554 5.7.1 " },
    { "<joe@[203.0.113.5]>", "250" },
    { "<joe@[203.0.113.6]>", "554 5.7.1 " },
    { "<joe@[IPv6:::1]>", "250" },
    { "<joe@[IPv6:2001:db8::1]>", "554 5.7.1 " },
    { "<joe@[::1]>", "501" },
    { "<joe@[127.0.0.1>", "501" },
    { "<joe@127.0.0.1>", "501" },
    { "<joe@[IPv6:::ffff:127.0.0.1]>", "250" },
    { "<joe%elsewhere.example@[127.0.0.1]>", "554 5.7.1 " },
    { "<joe@[example.com]>", "501" },
    { "<joe@>", "501" },
    { "<@example.com>", "250" },
    { "<@>", "501" },
    { "<>", "501" },
    { "<joe>", "250" },
    { "<postmaster>", "250" },
    { "<Postmaster>", "250" },
    { "<postmaster@>", "501" },
    { "<postmaster@elsewhere.example>", "554 5.7.1 " },
    { "<postmaster@[127.0.0.1]>", "250" },
    { "<joe@localhost>", "250" },
    { "<joe%localhost@elsewhere.example>", "554 5.7.1 " },
    { "<joe%elsewhere.example@localhost>", "554 5.7.1 " },
    { "<joe%elsewhere.example@localhost@localhost>", "554 5.7.1 <joe%elsewhere.example@localhost@localhost>: Relay access denied" },
    { "<joe@.example.com>", "501" },
    { "<joe@example..com>", "501" },
    { "<joe@-example.com>", "501" },
    { "<joe@exam_ple.com>", "554 5.7.1 " },
    { "<joe@example.com%elsewhere.example>", "501" },
    { "<joe@elsewhere.example%example.com>", "501" },
    { "<joe!elsewhere.example@example.com>", "554 5.7.1 " },
    { "<!joe@example.com>", "501" },
    { "<joe!@example.com>", "554 5.7.1 " },
    { "<%@example.com>", "501" },
    { "<joe%@example.com>", "501" },
    { "<%elsewhere.example@example.com>", "554 5.7.1 " },
    { "<joe%elsewhere.example@>", "501" },
    { "<joe%%elsewhere.example@example.com>", "554 5.7.1 " },
    { "<a!b!c@example.com>", "554 5.7.1 " },
    { "<a%b%c@example.com>", "554 5.7.1 " },
    { "<joe:elsewhere.example@example.com>", "250" },
    { "<joe(@elsewhere.example)@example.com>", "250" },
    { "<joe@example.com(@elsewhere.example)>", "250" },
    { "<joe @example.com>", "250" },
    { "<joe@ example.com>", "250" },
    { "<joe;joe@elsewhere.example>", "501" },
    { "<joe,joe@elsewhere.example>", "501" },
    { "<joe+ext@example.com>", "250" },
    { "<joe@12345>", "501" },
    { "<joe@1.2.3.4>", "501" },
};

/* Internal forms, as they come from a queue file, a client's XFORWARD or a laxer parser. */
static const struct attempt internal[] = {
    { "joe@elsewhere.example@example.com", "554 5.7.1 " },
    { "joe@elsewhere.example@relay.example", "554 5.7.1 " },
    { "joe@elsewhere.example@box.example", "554 5.7.1 " },
    { "joe@elsewhere.example@alias.example", "554 5.7.1 " },
    { "joe@example.com@elsewhere.example", "554 5.7.1 " },
    { "joe@example.com@example.com", "250" },
    { "joe%elsewhere.example@localhost@localhost", "554 5.7.1 " },
    { "joe%elsewhere.example@", "554 5.7.1 " },
    { "\"joe@elsewhere.example\"@example.com", "554 5.7.1 " },
    { "joe\\@elsewhere.example@example.com", "554 5.7.1 " },
    { "@elsewhere.example:joe@example.com", "501 5.1.3 " },
    { "joe@elsewhere.example,joe@example.com", "501 5.1.3 " },
    { "joe@elsewhere.example joe@example.com", "501 5.1.3 " },
    { "<joe@elsewhere.example>@example.com", "501 5.1.3 " },
    { "joe@example.com\n@elsewhere.example", "554 5.7.1 " },
    { "joe@[127.0.0.1", "501 5.1.3 " },
    { "@", "501 5.1.3 " },
    { "", "501 5.1.3 " },
    { "joe@", "501 5.1.3 " },
    { "@@@@example.com", "501 5.1.3 " },
    { "postmaster@", "501 5.1.3 " },
    { "example.com", "250" },
    { "joe@example.com@", "250" },
};

static const struct attempt no_percent[] = {
    { "joe%elsewhere.example@example.com", "554 5.7.1 " },
    { "joe%elsewhere.example@relay.example", "554 5.7.1 " },
    { "joe%elsewhere.example@[127.0.0.1]", "554 5.7.1 " },
    { "joe%example.com@example.com", "554 5.7.1 " },
    { "joe%elsewhere.example", "554 5.7.1 " },
    { "elsewhere.example!joe@example.com", "554 5.7.1 " },
};

static const struct attempt no_bang[] = {
    { "elsewhere.example!joe@example.com", "554 5.7.1 " },
    { "example.com!joe", "554 5.7.1 " },
    { "!joe@example.com", "554 5.7.1 " },
    { "joe%elsewhere.example@example.com", "554 5.7.1 " },
};

static const struct attempt not_opened[] = { /* resolve_dequoted_address = no */
    { "joe@elsewhere.example@example.com", "554 5.7.1 " },
    { "joe@example.com@example.com", "554 5.7.1 " },
    { "joe joe@example.com", "250" },
};

static const struct attempt null_domain[] = { /* resolve_null_domain = yes */
    { "joe@", "250" },
    { "postmaster@", "250" },
    { "joe%@example.com", "250" },
    { "joe%elsewhere.example@", "554 5.7.1 " },
    { "joe@elsewhere.example", "554 5.7.1 " },
};

static const struct attempt trusted_routes[] = { /* allow_untrusted_routing = yes */
    { "joe%elsewhere.example@relay.example", "250" },
    { "joe%elsewhere.example@box.example", "250" },
    { "joe%elsewhere.example@alias.example", "550 5.1.1 " },
    { "joe%elsewhere.example@example.com", "554 5.7.1 " },
    { "joe@elsewhere.example@relay.example", "250" },
    { "joe%relay.example@elsewhere.example", "554 5.7.1 " },
};

static const struct attempt dot_mydomain[] = { /* append_dot_mydomain = yes */
    { "joe@localhost", "554 5.7.1 " },
    { "joe@hub", "250" },
    { "joe@hub.example.com", "250" },
    { "joe%elsewhere@hub", "554 5.7.1 " },
};

static int run_internal(const char *extra, const struct attempt *list, size_t n)
{
    char text[2048];
    int wrong = 0;
    snprintf(text, sizeof text, "%s%s", site, extra);
    struct fixture *f = fixture_new(text);
    for (size_t i = 0; i < n; i++) {
        const char *got = fixture_rcpt(f, list[i].recipient);
        if (strncmp(got, list[i].answer, strlen(list[i].answer)) == 0)
            continue;
        print_error("\"%s\": got \"%s\", expected \"%s...\"\n", list[i].recipient, got, list[i].answer);
        wrong++;
    }
    fixture_free(&f);
    return wrong;
}

static void test_internal_forms(void **state)
{
    (void)state;
    assert_int_equal(run_internal("", internal, ARRAY_LEN(internal)), 0);
}

static void test_settings(void **state)
{
    (void)state;
    int wrong = run_internal("allow_percent_hack = no\n", no_percent, ARRAY_LEN(no_percent));
    wrong += run_internal("swap_bangpath = no\n", no_bang, ARRAY_LEN(no_bang));
    wrong += run_internal("resolve_dequoted_address = no\n", not_opened, ARRAY_LEN(not_opened));
    wrong += run_internal("resolve_null_domain = yes\n", null_domain, ARRAY_LEN(null_domain));
    wrong += run_internal("allow_untrusted_routing = yes\n", trusted_routes, ARRAY_LEN(trusted_routes));
    wrong += run_internal("append_dot_mydomain = yes\n", dot_mydomain, ARRAY_LEN(dot_mydomain));
    assert_int_equal(wrong, 0);
}

/* Who may: our networks, an authenticated client, nobody else; whatever the client calls itself. */
static void test_who_may_relay(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(site);
    static const struct {
        const char *name;
        struct rcpt_case c;
        const char *want;
    } rows[] = {
        { "stranger", { .recipient = "a@b.example" }, "554 5.7.1 <a@b.example>: Relay access denied" },
        { "network", { .recipient = "a@b.example", .client = "198.51.100.77" }, "250" },
        { "beside the network", { .recipient = "a@b.example", .client = "198.51.101.1" }, "554" },
        { "loopback", { .recipient = "a@b.example", .client = "127.0.0.9" }, "250" },
        { "loopback 6", { .recipient = "a@b.example", .client = "::1" }, "250" },
        { "mapped loopback", { .recipient = "a@b.example", .client = "::ffff:127.0.0.1" }, "250" },
        { "other 6", { .recipient = "a@b.example", .client = "2001:db8::1" }, "554" },
        { "name like ours", { .recipient = "a@b.example", .client_name = "hub.example.com" }, "554" },
        { "helo like ours", { .recipient = "a@b.example", .helo = "hub.example.com" }, "554" },
        { "sender like ours", { .recipient = "a@b.example", .sender = "joe@example.com" }, "554" },
        { "null sender", { .recipient = "a@b.example", .sender = "" }, "554" },
        { "authenticated", { .recipient = "a@b.example", .sasl_user = "joe" }, "250" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *got = fixture_check(f, &rows[i].c);
        if (strncmp(got, rows[i].want, strlen(rows[i].want)) != 0)
            fail_msg("%s: got \"%s\", expected \"%s\"", rows[i].name, got, rows[i].want);
    }
    fixture_free(&f);
}

/* The default is to defer; an unlisted domain of ours in a table that fails is a deferral, never acceptance. */
static void test_doubt_never_permits(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("relay_domains = relay.example\n");
    assert_string_equal(fixture_rcpt(f, "a@b.example"), "454 4.7.1 <a@b.example>: Relay access denied");
    fixture_free(&f);
    f = fixture_new("relay_domains = fail:x\n");
    assert_string_equal(fixture_rcpt(f, "a@b.example"), "451 4.3.0 <a@b.example>: Temporary lookup failure");
    fixture_free(&f);
    f = fixture_new("mynetworks = fail:x\n");
    assert_true(strncmp(fixture_rcpt(f, "a@b.example"), "451 4.3.0 ", 10) == 0);
    fixture_free(&f);
    f = fixture_new("smtpd_recipient_restrictions = reject_unverified_sender, permit\n");
    assert_string_equal(fixture_rcpt(f, "a@hub.example.com"),
                        "450 4.3.0 <someone@elsewhere.example>: Sender address rejected: address verification problem");
    fixture_free(&f);
}

/* A table's OK is no permission for an address with a route inside. */
static void test_table_ok_and_routes(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("relay_domains = relay.example\nsmtpd_relay_restrictions =\n"
        "smtpd_recipient_restrictions = check_recipient_access inline:{relay.example=OK, b.example=OK}, reject\n");
    assert_string_equal(fixture_rcpt(f, "a@relay.example"), "250");
    assert_string_equal(fixture_rcpt(f, "a@b.example"), "250");
    assert_true(strncmp(fixture_rcpt(f, "a%c.example@relay.example"), "554 5.7.1 ", 10) == 0);
    assert_true(strncmp(fixture_rcpt(f, "a@c.example@b.example"), "554 5.7.1 ", 10) == 0);
    fixture_free(&f);
}

static const char one_listener[] = "smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp\n";

/* Configurations that would be an open relay do not start. */
static void test_refused_configurations(void **state)
{
    (void)state;
    static const char *const open[] = {
        "smtpd_relay_restrictions =\n",
        "smtpd_relay_restrictions = permit_mynetworks\n",
        "smtpd_relay_restrictions = permit\n",
        "smtpd_relay_restrictions = permit, reject_unauth_destination\n",
        "smtpd_relay_restrictions = warn_if_reject reject_unauth_destination\n",
        "smtpd_relay_restrictions = check_recipient_access static:reject\n",
        "smtpd_relay_restrictions = all\nsmtpd_restriction_classes = all\nall = permit, reject\n",
    };
    static const char *const closed[] = {
        "smtpd_relay_restrictions = defer_unauth_destination\n",
        "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks, reject\n",
        "smtpd_relay_restrictions = guard\nsmtpd_restriction_classes = guard\nguard = permit_mynetworks, reject_unauth_destination\n",
        "smtpd_relay_restrictions = permit_mynetworks, defer_if_permit\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(open); i++) {
        struct fixture *f = fixture_new_master(open[i], one_listener);
        if (f->policy != NULL || (fixture_finding(f, "open relay") == NULL && fixture_finding(f, "relay mail for anyone") == NULL))
            fail_msg("accepted: %s", open[i]);
        fixture_free(&f);
    }
    for (size_t i = 0; i < ARRAY_LEN(closed); i++) {
        struct fixture *f = fixture_new_master(closed[i], one_listener);
        if (f->policy == NULL)
            fail_msg("refused: %s", closed[i]);
        fixture_free(&f);
    }
}

static void test_usual_settings(void **state)
{
    (void)state;
    assert_int_equal(run("", usual, ARRAY_LEN(usual)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usual_settings),
        cmocka_unit_test(test_internal_forms),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_who_may_relay),
        cmocka_unit_test(test_doubt_never_permits),
        cmocka_unit_test(test_table_ok_and_routes),
        cmocka_unit_test(test_refused_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

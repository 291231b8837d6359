/*
 * Never an open relay: addresses that try to get mail through to somebody else's domain, from a client that may not.
 * Expected answers were compared with a real Postfix 3.7 where there was doubt.
 */
#include "tests/unit/unit.h"
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
    const char *recipient; /* internal form: what stands between < and >, without quotes */
    const char *answer;    /* beginning of the reply */
};

static void assert_answer(const char *what, const char *got, const char *want)
{
    if (strncmp(got, want, strlen(want)) != 0)
        fail_msg("%s: got \"%s\", expected \"%s...\"", what, got, want);
}

static void run(const char *extra, const struct attempt *list, size_t n)
{
    char text[2048];
    snprintf(text, sizeof text, "%s%s", site, extra);
    struct fixture *f = fixture_new(text);
    for (size_t i = 0; i < n; i++)
        assert_answer(list[i].recipient, fixture_rcpt(f, list[i].recipient), list[i].answer);
    fixture_free(&f);
}

static const struct attempt plain[] = {
    { "joe@example.com", "250" },
    { "joe@elsewhere.example", "554 5.7.1 <joe@elsewhere.example>: Relay access denied" },
};

static void test_plain(void **state)
{
    (void)state;
    run("", plain, ARRAY_LEN(plain));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

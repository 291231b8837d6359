/* reason_class and rates: what "queue stats" counts by. */
#include "tests/unit/unit.h"

#include "common/base/attrs.h"

#include "queue/rates.h"
#include "queue/reason_class.h"

static void expect_class(const char *reason, const char *want)
{
    struct buf b = BUF_INIT(0);
    reason_class(&b, span_cstr(reason));
    assert_string_equal(buf_cstr(&b), want);
    buf_free(&b);
}

static void test_class(void **state UNUSED)
{
    expect_class("", "");
    expect_class("connect to mx1.example.com[192.0.2.1]:25: Connection timed out", "connect to ...: Connection timed out");
    expect_class("connect to mx2.example.net[2001:db8::1]:25: Connection timed out", "connect to ...: Connection timed out");
    expect_class("delivery temporarily suspended: connect to mx1.example.com[192.0.2.1]:25: Connection refused",
                 "connect to ...: Connection refused");
    expect_class("host mx.example.com[192.0.2.1] said: 450 4.2.1 <u@example.com>: Recipient address rejected: Greylisted, see "
                 "http://postgrey.example/help (in reply to RCPT TO command)",
                 "host ... said: 450 4.2.1 ...: Recipient address rejected: Greylisted, see ... (in reply to RCPT TO c");
    expect_class("host mx.example.com[192.0.2.1] refused to talk to me: 421 4.7.0 try later", "host ... refused to talk to me: 421 4.7.0 try later");
    expect_class("lost connection with a.example[10.0.0.1] while sending RCPT TO", "lost connection with ... while sending RCPT TO");
    expect_class("Host or domain name not found. Name service error for name=x.example type=MX: Host not found, try again",
                 "Host or domain name not found. Name service error for ... type=MX: Host not found, try again");
    expect_class("queue file 3F2A91B00C12 is busy (code 12345)", "queue file ... is busy (code ...)");
    expect_class("a b@c d@e f@g h", "a ... h");
    char many[2000];
    memset(many, 'x', sizeof many - 1);
    many[sizeof many - 1] = '\0';
    struct buf b = BUF_INIT(0);
    reason_class(&b, span_cstr(many));
    assert_int_equal(b.n, REASON_CLASS_MAX);
    buf_free(&b);
}

static void test_reply_code(void **state UNUSED)
{
    static const struct { const char *reason; int want; } cases[] = {
        { "", 0 },
        { "host mx.example.com[192.0.2.1] said: 450 4.2.1 <u@example.com>: said: 451 elsewhere (in reply to RCPT TO command)", 450 },
        { "host mx.example.com[192.0.2.1] said: 554-5.7.1 no (in reply to MAIL FROM command)", 554 },
        { "host mx.example.com[192.0.2.1] said: 552", 552 },
        { "host mx.example.com[192.0.2.1] said: 1234 5", 0 },
        { "host mx.example.com[192.0.2.1] refused to talk to me: 421 4.7.0 try later", 421 },
        { "delivery temporarily suspended: host mx.example.com[192.0.2.1] refused to talk to me: 421 4.7.0 try later", 421 },
        { "connect to mx.example.com[192.0.2.1]:25: Connection timed out", 0 },
        { "lost connection with host 451 said: 451 ", 0 },
        { "451-try later", 451 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (reason_reply_code(span_cstr(cases[i].reason)) != cases[i].want)
            fail_msg("\"%s\": %d", cases[i].reason, reason_reply_code(span_cstr(cases[i].reason)));
}

static void test_rates(void **state UNUSED)
{
    struct rates r = { 0 };
    uint64_t v[RATE_COUNT];
    assert_int_equal(rates_over(&r, 60000, 5, v), 0);
    assert_int_equal(rates_sample(&r, 1000), 6000);
    rates_count(&r, RATE_SENT, 7);
    assert_int_equal(rates_sample(&r, 2000), 6000); /* too early for another */
    assert_int_equal(rates_over(&r, 60000, 3000, v), 2000);
    assert_int_equal(v[RATE_SENT], 7);
    assert_int_equal(v[RATE_ACCEPTED], 0);
    /* one a second for half an hour: each window sees its own time, and the ring goes round */
    int64_t now = 10000;
    for (int i = 0; i < 1800; i++, now += 1000) {
        rates_count(&r, RATE_ACCEPTED, 1);
        rates_sample(&r, now);
    }
    int64_t over = rates_over(&r, 60000, now, v);
    assert_in_range(over, 60000, 66000);
    assert_in_range(v[RATE_ACCEPTED], over / 1000 - 1, over / 1000 + 1);
    over = rates_over(&r, 900000, now, v);
    assert_in_range(over, 900000, 906000);
    assert_in_range(v[RATE_ACCEPTED], over / 1000 - 1, over / 1000 + 1);
    assert_int_equal(v[RATE_SENT], 0);
    for (unsigned k = 0; k < RATE_COUNT; k++)
        assert_true(rate_name((enum rate)k)[0] != '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_class), cmocka_unit_test(test_reply_code), cmocka_unit_test(test_rates) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

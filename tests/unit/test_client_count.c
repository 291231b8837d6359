/* Connections and rates by client: what is counted, what is forgotten, and a full table. */
#include "tests/unit/unit.h"
#include <string.h>

#include "common/base/clock.h"
#include "daemon/smtpd/client_count.h"

#define SERVICE 7u

static struct ip_addr address(unsigned i)
{
    struct ip_addr a = { .family = IP_V4 };
    uint8_t b[4] = { 10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i };
    memcpy(a.b, b, sizeof b);
    return a;
}

static struct count_who who(const struct ip_addr *a, uint32_t service)
{
    return count_client(service, "test", a, 32, 128);
}

static struct count_who client(unsigned i)
{
    struct ip_addr a = address(i);
    return who(&a, SERVICE);
}

static void connections_and_rates(void **state)
{
    (void)state;
    struct client_counts *c = client_counts_new(CLIENT_COUNT_MAX);
    struct count_who a = client(1), b = client(2), six, other;
    struct ip_addr addr = address(1);
    other = who(&addr, SERVICE + 1);
    assert_true(ip_parse(SPAN_LIT("2001:db8::1"), &addr));
    six = who(&addr, SERVICE);
    for (unsigned i = 1; i <= 3; i++) {
        struct client_count_now n = client_connect(c, &a);
        assert_true(n.is_counted && n.connections == i && n.unnamed == i && n.rate == i);
    }
    assert_int_equal(client_connect(c, &other).connections, 1); /* another service */
    assert_int_equal(client_connect(c, &b).connections, 1);
    assert_int_equal(client_connect(c, &six).connections, 1);
    addr.b[15]++;
    six = who(&addr, SERVICE);
    assert_int_equal(client_connect(c, &six).connections, 1);
    client_is_named(c, &a, false);
    client_disconnect(c, &a, true);
    struct client_count_now n = client_connect(c, &a);
    assert_true(n.connections == 3 && n.unnamed == 3 && n.rate == 4);
    assert_int_equal(client_count_event(c, &a, CLIENT_RCPT), 1);
    assert_int_equal(client_count_event(c, &a, CLIENT_RCPT), 2);
    assert_int_equal(client_count_event(c, &a, CLIENT_MESSAGE), 1);
    clock_advance_for_test(60001, 0);
    assert_int_equal(client_count_event(c, &a, CLIENT_RCPT), 1);
    client_counts_free(&c);
}

static void what_is_remembered(void **state)
{
    (void)state;
    struct client_counts *c = client_counts_new(CLIENT_COUNT_MAX);
    struct count_who a = client(1);
    client_connect(c, &a);
    client_disconnect(c, &a, true);
    assert_int_equal(client_connect(c, &a).rate, 2);
    client_disconnect(c, &a, false);
    assert_int_equal(client_connect(c, &a).rate, 3); /* few are kept for the status lines */
    client_disconnect(c, &a, false);
    for (unsigned i = 0; i <= 2 * CLIENT_COUNT_KEEP; i++) {
        a = client(i);
        client_connect(c, &a);
        client_disconnect(c, &a, false);
    }
    assert_true(client_counts_entries(c) <= CLIENT_COUNT_KEEP + 1); /* a flood from everywhere leaves little behind */
    client_counts_free(&c);
}

/* Who found the table full is not counted, and takes nothing from a later connection of the same client that is. */
static void full_table(void **state)
{
    (void)state;
    struct client_counts *c = client_counts_new(8);
    struct count_who late = client(99);
    for (unsigned i = 0; i < 8; i++) {
        struct count_who a = client(i);
        assert_true(client_connect(c, &a).is_counted);
    }
    struct client_count_now n = client_connect(c, &late);
    assert_true(!n.is_counted && n.connections == 0 && n.rate == 0);
    assert_int_equal(client_count_event(c, &late, CLIENT_MESSAGE), 0);
    assert_int_equal(client_counts_entries(c), 8);
    struct count_who a = client(3);
    client_disconnect(c, &a, false);
    n = client_connect(c, &late);
    assert_true(n.is_counted && n.connections == 1);
    client_counts_free(&c);
}

/* Rates of clients that are gone make room: else whoever has many addresses could switch the limits off for a minute. */
static void rates_make_room(void **state)
{
    (void)state;
    struct client_counts *c = client_counts_new(100000);
    for (unsigned i = 0; i < 100000; i++) {
        struct count_who a = client(i);
        client_connect(c, &a);
        client_disconnect(c, &a, true);
    }
    assert_int_equal(client_counts_entries(c), 100000);
    for (unsigned i = 200000; i < 210000; i++) {
        struct count_who a = client(i);
        assert_true(client_connect(c, &a).is_counted);
    }
    assert_int_equal(client_counts_entries(c), 100000);
    client_counts_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_and_rates),
        cmocka_unit_test(what_is_remembered),
        cmocka_unit_test(full_table),
        cmocka_unit_test(rates_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

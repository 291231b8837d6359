/* common/net: addresses, networks, destinations, ports, listening sockets. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/io.h"
#include "common/net/dest.h"
#include "common/net/dial.h"
#include "common/net/ipaddr.h"
#include "common/net/listen.h"

typedef bool parse_fn(struct span, struct ip_addr *);

static void addresses_parse_and_print(void **state)
{
    (void)state;
    static const struct {
        const char *name, *in, *want; /* NULL: refused */
        parse_fn *fn;
    } cases[] = {
        { "v4", "192.0.2.1", "192.0.2.1", ip_parse },
        { "v6 is shortened", "2001:DB8:0:0:0:0:0:1", "2001:db8::1", ip_parse },
        { "mapped is v4", "::ffff:192.0.2.1", "192.0.2.1", ip_parse },
        { "mapped in hex is v4", "::ffff:c000:0201", "192.0.2.1", ip_parse },
        { "three parts", "192.0.2", NULL, ip_parse },
        { "leading zeros", "192.0.02.1", NULL, ip_parse },
        { "too large", "192.0.2.256", NULL, ip_parse },
        { "trailing", "192.0.2.1x", NULL, ip_parse },
        { "empty", "", NULL, ip_parse },
        { "brackets are not plain", "[192.0.2.1]", NULL, ip_parse },
        { "zone on v4", "192.0.2.1%1", NULL, ip_parse },
        { "unknown zone", "fe80::1%nosuchif0", NULL, ip_parse },
        { "zone lo", "fe80::1%lo", "fe80::1%lo", ip_parse },
        { "any bracketed", "[192.0.2.1]", "192.0.2.1", ip_parse_any },
        { "any prefix", "IPv6:2001:db8::1", "2001:db8::1", ip_parse_any },
        { "any prefix in brackets", "[ipv6:2001:db8::1]", "2001:db8::1", ip_parse_any },
        { "any v6 in brackets", "[::1]", "::1", ip_parse_any },
        { "prefix with v4", "[IPv6:192.0.2.1]", NULL, ip_parse_any },
        { "literal v4", "[192.0.2.1]", "192.0.2.1", ip_parse_literal },
        { "literal v6", "[IPv6:::1]", "::1", ip_parse_literal },
        { "literal without tag", "[::1]", NULL, ip_parse_literal },
        { "literal without brackets", "192.0.2.1", NULL, ip_parse_literal },
        { "literal open", "[192.0.2.1", NULL, ip_parse_literal },
        { "literal empty", "[]", NULL, ip_parse_literal },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ip_addr a;
        char text[IP_TEXT_MAX] = "refused";
        bool ok = cases[i].fn(span_cstr(cases[i].in), &a);
        if (ok)
            ip_print(&a, text);
        if (ok != (cases[i].want != NULL) || (ok && strcmp(text, cases[i].want) != 0))
            fail_msg("%s: %s", cases[i].name, text);
    }
    struct ip_addr a;
    char text[IP_TEXT_MAX];
    assert_true(ip_parse(span_cstr("2001:db8::1"), &a));
    assert_string_equal(ip_print_literal(&a, text), "[IPv6:2001:db8::1]");
    assert_false(ip_parse(span_of("1.2.3.4\0", 8), &a));
}

static void sockaddr_round_trip(void **state)
{
    (void)state;
    static const char *const texts[] = { "192.0.2.7", "2001:db8::7", "fe80::7%lo" };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct ip_addr a, b;
        struct sockaddr_storage ss;
        uint16_t port = 0;
        assert_true(ip_parse(span_cstr(texts[i]), &a));
        assert_true(ip_to_sockaddr(&a, 2525, &ss) > 0);
        assert_true(ip_from_sockaddr((struct sockaddr *)&ss, &b, &port));
        assert_true(ip_eq(&a, &b));
        assert_int_equal(port, 2525);
    }
}

static void networks_match(void **state)
{
    (void)state;
    static const struct {
        const char *net, *addr, *print; /* print NULL: the network is refused */
        bool match;
    } cases[] = {
        { "192.0.2.0/24", "192.0.2.255", "192.0.2.0/24", true },
        { "192.0.2.0/24", "192.0.3.0", "192.0.2.0/24", false },
        { "192.0.2.128/25", "192.0.2.127", "192.0.2.128/25", false },
        { "0.0.0.0/0", "203.0.113.9", "0.0.0.0/0", true },
        { "0.0.0.0/0", "::1", "0.0.0.0/0", false },
        { "192.0.2.5", "192.0.2.5", "192.0.2.5/32", true },
        { "192.0.2.5", "192.0.2.4", "192.0.2.5/32", false },
        { "[2001:db8::]/32", "2001:db8:1::9", "[2001:db8::]/32", true },
        { "2001:db8::/33", "2001:db8:8000::", "[2001:db8::]/33", false },
        { "[2001:db8::/32]", "2001:db9::", "[2001:db8::]/32", false },
        { "[::1]", "::1", "[::1]/128", true },
        { "::/0", "2001:db8::", "[::]/0", true },
        { "[::ffff:127.0.0.0]/104", "127.200.0.1", "127.0.0.0/8", true }, /* Debian's stock mynetworks */
        { "[::ffff:127.0.0.0]/104", "128.0.0.1", "127.0.0.0/8", false },
        { "::ffff:192.0.2.0/120", "192.0.2.9", "192.0.2.0/24", true },
        { "[::ffff:0.0.0.0]/95", "192.0.2.1", NULL, false },
        { "192.0.2.1/24", "192.0.2.1", NULL, false },
        { "192.0.2.0/33", "192.0.2.1", NULL, false },
        { "192.0.2.0/", "192.0.2.1", NULL, false },
        { "[::1/128", "::1", NULL, false },
        { "hosts", "::1", NULL, false },
        { "", "::1", NULL, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ip_net n;
        struct ip_addr a;
        struct err e = ERR_INIT;
        char text[IP_TEXT_MAX];
        bool ok = ip_net_parse(span_cstr(cases[i].net), &n, &e);
        if (ok != (cases[i].print != NULL))
            fail_msg("%s: ok=%d %s", cases[i].net, ok, e.text);
        if (!ok)
            continue;
        assert_true(ip_parse(span_cstr(cases[i].addr), &a));
        if (strcmp(ip_net_print(&n, text), cases[i].print) != 0 || ip_net_contains(&n, &a) != cases[i].match)
            fail_msg("%s with %s: %s", cases[i].net, cases[i].addr, text);
    }
}

static void local_addresses_hold_loopback(void **state)
{
    (void)state;
    struct ip_local *l;
    size_t n;
    struct err e;
    bool seen = false;
    assert_true(ip_local_list(&l, &n, &e));
    for (size_t i = 0; i < n; i++) {
        char text[IP_TEXT_MAX];
        if (strcmp(ip_print(&l[i].addr, text), "127.0.0.1") == 0)
            seen = l[i].loopback && l[i].bits == 8;
    }
    free(l);
    assert_true(seen);
}

static void destinations_parse(void **state)
{
    (void)state;
    static const struct {
        const char *in, *host, *service, *path; /* host and path NULL: refused */
        bool no_mx, inet, ip;
    } cases[] = {
        { "example.com", "example.com", "", NULL, false, false, false },
        { "example.com:2525", "example.com", "2525", NULL, false, false, false },
        { "[mail.example.com]", "mail.example.com", "", NULL, true, false, false },
        { "[mail.example.com]:submission", "mail.example.com", "submission", NULL, true, false, false },
        { "[192.0.2.1]", "192.0.2.1", "", NULL, true, false, true },
        { "[192.0.2.1]:25", "192.0.2.1", "25", NULL, true, false, true },
        { "[ipv6:2001:db8::1]:25", "ipv6:2001:db8::1", "25", NULL, true, false, true },
        { "[2001:db8::1]", "2001:db8::1", "", NULL, true, false, true },
        { "unix:private/lmtp", NULL, "", "private/lmtp", false, false, false },
        { "unix:/run/dovecot/lmtp", NULL, "", "/run/dovecot/lmtp", false, false, false },
        { "inet:localhost:24", "localhost", "24", NULL, false, true, false },
        { "inet:[127.0.0.1]:24", "127.0.0.1", "24", NULL, true, true, true },
        { " example.com ", "example.com", "", NULL, false, false, false },
        { "", NULL, NULL, NULL, false, false, false },
        { "unix:", NULL, NULL, NULL, false, false, false },
        { "[]", NULL, NULL, NULL, false, false, false },
        { "[host", NULL, NULL, NULL, false, false, false },
        { "[host]x", NULL, NULL, NULL, false, false, false },
        { "[host]:", NULL, NULL, NULL, false, false, false },
        { "host:", NULL, NULL, NULL, false, false, false },
        { ":25", NULL, NULL, NULL, false, false, false },
        { "a:b:c", NULL, NULL, NULL, false, false, false },
        { "a b", NULL, NULL, NULL, false, false, false },
        { "[1.2.3.999]", NULL, NULL, NULL, false, false, false },
        { "[ipv6:zz]", NULL, NULL, NULL, false, false, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dest d;
        struct err e = ERR_INIT;
        bool want = cases[i].host || cases[i].path;
        bool ok = dest_parse(span_cstr(cases[i].in), &d, &e);
        if (ok != want)
            fail_msg("\"%s\": ok=%d %s", cases[i].in, ok, e.text);
        if (!ok)
            continue;
        if (!span_eq(d.host, span_cstr(cases[i].host)) || !span_eq(d.service, span_cstr(cases[i].service)) ||
            !span_eq(d.path, span_cstr(cases[i].path)) || d.is_unix != (cases[i].path != NULL) ||
            d.no_mx != cases[i].no_mx || d.has_inet_prefix != cases[i].inet || (d.ip.family != IP_NONE) != cases[i].ip)
            fail_msg("\"%s\": host=%.*s service=%.*s", cases[i].in, SPAN_ARG(d.host), SPAN_ARG(d.service));
    }
}

static void service_names_become_ports(void **state)
{
    (void)state;
    static const struct { const char *service; int want; } cases[] = {
        { "25", 25 }, { "smtps", 465 }, { "submissions", 465 }, { "submission", 587 }, { "LMTP", 24 },
        { "65535", 65535 }, { "65536", -1 }, { "no-such-service-name", -1 }, { "", -1 }, { "-1", -1 },
    };
    struct span known = SPAN_LIT("lmtp=24, smtp=25, smtps=submissions=465, submission=587");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint16_t port = 0;
        struct err e = ERR_INIT;
        bool ok = dest_port(span_cstr(cases[i].service), known, &port, &e);
        if (ok != (cases[i].want >= 0) || (ok && port != cases[i].want))
            fail_msg("%s: ok=%d port=%u", cases[i].service, ok, port);
    }
}

static void listen_reports_a_port_in_use(void **state)
{
    (void)state;
    struct listen_set a, b;
    struct err e = ERR_INIT;
    char port[48];
    assert_true(listen_list(SPAN_LIT("127.0.0.1"), 0, true, true, 16, &a, &e));
    assert_int_equal(a.count, 1);
    assert_true(a.l[0].port != 0);
    assert_false(listen_list(SPAN_LIT("127.0.0.1"), a.l[0].port, true, true, 16, &b, &e));
    assert_int_equal(e.sys, EADDRINUSE);
    assert_true(snprintf(port, sizeof port, "cannot listen on 127.0.0.1 port %u: bind: ", a.l[0].port) > 0);
    assert_non_null(strstr(e.text, port));
    assert_true((fcntl(a.l[0].fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(a.l[0].fd, F_GETFD) & FD_CLOEXEC) != 0);
    struct ip_addr lo = a.l[0].addr;
    int fd = dial_tcp(&lo, a.l[0].port, &lo, clock_mono_ms() + 5000, &e);
    assert_true(fd >= 0);
    int one = 0, accepted = accept(a.l[0].fd, NULL, NULL);
    socklen_t size = sizeof one;
    assert_int_equal(getsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, &size), 0);
    assert_int_not_equal(one, 0);
    io_close(&accepted);
    io_close(&fd);
    uint16_t was = a.l[0].port;
    listen_set_close(&a);
    assert_int_equal(dial_tcp(&lo, was, NULL, clock_mono_ms() + 5000, &e), -1);
    assert_int_equal(e.sys, ECONNREFUSED);
    assert_string_equal(e.text, "Connection refused");
    assert_int_equal(dial_tcp(&lo, was, NULL, clock_mono_ms() - 1, &e), -1);
    assert_string_equal(e.text, "Connection timed out");
}

static void listen_list_forms(void **state)
{
    (void)state;
    struct listen_set s;
    struct err e = ERR_INIT;
    assert_true(listen_list(SPAN_LIT("127.0.0.1, [127.0.0.1] loopback-only"), 0, true, false, 4, &s, &e));
    assert_int_equal(s.count, 1);
    listen_set_close(&s);
    assert_true(listen_list(SPAN_LIT("127.0.0.1 127.0.0.2"), 0, true, true, 4, &s, &e));
    assert_int_equal(s.count, 2);
    assert_int_equal(s.l[0].port, s.l[1].port);
    listen_set_close(&s);
    assert_false(listen_list(SPAN_LIT("[::1]"), 0, true, false, 4, &s, &e));
    assert_false(listen_list(SPAN_LIT("127.0.0.1 192.0.2.77"), 0, true, true, 4, &s, &e));
    assert_int_equal(e.sys, EADDRNOTAVAIL);
    assert_int_equal(s.count, 0);
    assert_false(listen_list(SPAN_LIT(" , "), 0, true, true, 4, &s, &e));
}

static void unix_listener_replaces_only_a_dead_socket(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_net.XXXXXX", path[64];
    struct err e = ERR_INIT;
    struct stat st;
    assert_non_null(mkdtemp(dir));
    assert_true(snprintf(path, sizeof path, "%s/s", dir) > 0);
    int fd = listen_unix(path, 0600, 4, &e);
    assert_true(fd >= 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(listen_unix(path, 0600, 4, &e), -1);
    assert_int_equal(e.sys, EADDRINUSE);
    int c = dial_unix(span_cstr(path), clock_mono_ms() + 5000, &e);
    assert_true(c >= 0);
    io_close(&c);
    io_close(&fd);
    fd = listen_unix(path, 0666, 4, &e); /* the old file is stale now */
    assert_true(fd >= 0);
    io_close(&fd);
    assert_int_equal(unlink(path), 0);
    int plain = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(plain >= 0);
    io_close(&plain);
    assert_int_equal(listen_unix(path, 0600, 4, &e), -1);
    assert_non_null(strstr(e.text, "not a socket"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(dial_unix(span_cstr(path), CLOCK_NEVER, &e), -1);
    assert_int_equal(e.sys, ENOENT);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_parse_and_print),
        cmocka_unit_test(sockaddr_round_trip),
        cmocka_unit_test(networks_match),
        cmocka_unit_test(local_addresses_hold_loopback),
        cmocka_unit_test(destinations_parse),
        cmocka_unit_test(service_names_become_ports),
        cmocka_unit_test(listen_reports_a_port_in_use),
        cmocka_unit_test(listen_list_forms),
        cmocka_unit_test(unix_listener_replaces_only_a_dead_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

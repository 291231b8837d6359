/*
 * Addresses and destinations as text, a hosts file, resolv.conf. The first byte picks which. Addresses that are accepted
 * print and parse to the same again; a file of any bytes gives only what a lookup can use.
 */
#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "common/base/io.h"
#include "common/base/mem.h"
#include "common/dns/dns_internal.h"
#include "common/net/dest.h"
#include "common/net/ipaddr.h"
#include "daemon/smtpd/smtpd_internal.h"

static void check_addresses(struct span text)
{
    char out[IP_TEXT_MAX];
    struct ip_addr a, b;
    struct ip_net net, again;
    if (ip_parse(text, &a))
        CHECK(ip_parse(span_cstr(ip_print(&a, out)), &b) && ip_eq(&a, &b));
    if (ip_parse_any(text, &a) && a.scope == 0)
        CHECK(ip_parse_literal(span_cstr(ip_print_literal(&a, out)), &b) && ip_eq(&a, &b));
    if (ip_parse_literal(text, &a))
        CHECK(ip_parse_any(text, &b) && ip_eq(&a, &b));
    if (ip_net_parse(text, &net, NULL)) {
        CHECK(ip_net_contains(&net, &net.addr));
        CHECK(ip_net_parse(span_cstr(ip_net_print(&net, out)), &again, NULL) && ip_eq(&net.addr, &again.addr) &&
              net.bits == again.bits);
    }
}

static bool is_inside(struct span part, struct span all)
{
    return part.n == 0 || (part.p >= all.p && part.p + part.n <= all.p + all.n);
}

static void check_dest(struct span text)
{
    struct dest d;
    struct err e = ERR_INIT;
    uint16_t port = 0;
    if (!dest_parse(text, &d, &e)) {
        CHECK(e.text[0] != '\0');
        return;
    }
    CHECK(is_inside(d.path, text) && is_inside(d.host, text) && is_inside(d.service, text));
    CHECK(d.is_unix ? d.path.n > 0 : d.host.n > 0);
    if (!d.is_unix && d.service.n < 32 && dest_port(d.service, SPAN_LIT("smtp"), &port, &e))
        CHECK(port != 0 || span_find(d.service, '0') >= 0);
}

/* The text as a file that can be opened by name. */
static int file_of(struct span text, char path[32])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && io_write_all(fd, text.p, text.n));
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

static void check_hosts(struct span text)
{
    char path[32];
    int fd = file_of(text, path);
    struct hosts_file *h = hosts_file_load(path);
    struct span line, word;
    while (span_next_token(&text, "\n", &line)) {
        struct ip_addr a;
        ptrdiff_t hash = span_find(line, '#');
        line.n = hash >= 0 ? (size_t)hash : line.n;
        if (!span_next_token(&line, " \t\r", &word) || !ip_parse(word, &a))
            continue;
        const char *name = hosts_file_name(h, &a);
        CHECK(name == NULL || (addr_domain_is_valid(span_cstr(name), false, false) && !ip_looks_like(span_cstr(name))));
    }
    hosts_file_free(&h);
    close(fd);
}

static void check_resolv_conf(struct span text)
{
    char path[32];
    int fd = file_of(text, path);
    struct err e = ERR_INIT;
    struct dns_options o = { .resolvers = NULL };
    struct dns_servers *s = dns_servers_new(&o, path, &e);
    CHECK(s != NULL && s->count >= 1 && s->count <= DNS_SERVERS_MAX);
    CHECK(s->timeout_ms > 0 && s->timeout_ms <= 60000 && s->tries > 0 && s->tries <= 100);
    for (size_t i = 0; i < s->count; i++)
        CHECK(s->s[i].ip.family != IP_NONE && s->s[i].port > 0);
    dns_servers_unref(&s);
    close(fd);
    char *list = xstrndup(text.p, text.n);
    o.resolvers = list;
    s = list[0] != '\0' ? dns_servers_new(&o, "/nonexistent", &e) : NULL;
    CHECK(s != NULL || list[0] == '\0' || e.text[0] != '\0');
    dns_servers_unref(&s);
    free(list);
}

static void check_name(struct span text)
{
    struct dns_question q;
    char name[DNS_NAME_TEXT_MAX];
    if (!dns_question_init(&q, text, DNS_A))
        return;
    CHECK(strlen(q.name) == q.name_n && q.wire_n <= sizeof q.wire);
    CHECK(q.name_n == 0 || (dns_name_from_wire(q.wire, q.wire_n, name) && strcmp(name, q.name) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1 || n > 8192)
        return 0;
    struct span text = span_of((const char *)data + 1, n - 1);
    switch (data[0]) {
    case 'h':
        check_hosts(text);
        break;
    case 'r':
        check_resolv_conf(text);
        break;
    case 'd':
        check_dest(text);
        break;
    default:
        check_addresses(text);
        check_dest(text);
        check_name(text);
    }
    return 0;
}

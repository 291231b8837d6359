/* daemon/smtp/hosts: the candidates for a destination, against a name server of our own. */
#include "tests/unit/unit.h"

#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <time.h>

#include "common/base/buf.h"
#include "common/conf/conf.h"
#include "common/conf/params.h"
#include "daemon/smtp/hosts.h"
#include "tests/unit/dns_responder.h"

static const char *const zone[] = {
    /* three preferences, two hosts of equal preference */
    "d.test. 60 IN MX 20 b1.test.", "d.test. 60 IN MX 10 a.test.", "d.test. 60 IN MX 20 b2.test.",
    "d.test. 60 IN MX 30 c.test.",
    "a.test. 60 IN A 192.0.2.1", "a.test. 60 IN AAAA 2001:db8::1",
    "b1.test. 60 IN A 192.0.2.2", "b2.test. 60 IN A 192.0.2.3", "c.test. 60 IN A 192.0.2.4",
    "nomx.test. 60 IN A 192.0.2.10", "nomx.test. 60 IN AAAA 2001:db8::10",
    "onlytxt.test. 60 IN TXT \"x\"",
    "null.test. 60 IN MX 0 .",
    "halfnull.test. 60 IN MX 0 .", "halfnull.test. 60 IN MX 10 a.test.",
    "alias.test. 60 IN CNAME d.test.",
    "mxcname.test. 60 IN MX 10 cn.test.", "cn.test. 60 IN CNAME nomx.test.",
    "!servfail broken.test.",
    "lost.test. 60 IN MX 10 no-such-host.test.", "lost.test. 60 IN MX 20 onlytxt.test.",
    "mixed.test. 60 IN MX 10 no-such-host.test.", "mixed.test. 60 IN MX 20 broken.test.",
    "mixed2.test. 60 IN MX 10 broken.test.", "mixed2.test. 60 IN MX 20 no-such-host.test.",
    "second.test. 60 IN MX 10 broken.test.", "second.test. 60 IN MX 20 c.test.",
    "badmx.test. 60 IN MX 10 192.0.2.1.",
    /* loops: own address 192.0.2.77, own name hub.test */
    "hub.test. 60 IN A 192.0.2.66", "own.test. 60 IN A 192.0.2.77", "nat.test. 60 IN A 192.0.2.88",
    "loop.test. 60 IN MX 10 own.test.", "loop.test. 60 IN MX 20 c.test.",
    "backup.test. 60 IN MX 10 a.test.", "backup.test. 60 IN MX 20 own.test.", "backup.test. 60 IN MX 20 b1.test.",
    "backup.test. 60 IN MX 30 c.test.",
    "byname.test. 60 IN MX 10 a.test.", "byname.test. 60 IN MX 20 hub.test.",
    "bynat.test. 60 IN MX 10 nat.test.",
    "better.test. 60 IN MX 10 broken.test.", "better.test. 60 IN MX 20 own.test.",
    "lo.test. 60 IN MX 10 localaddr.test.", "localaddr.test. 60 IN A 127.0.0.1",
    /* many addresses */
    "many.test. 60 IN MX 10 many6.test.", "many.test. 60 IN MX 20 many4.test.",
    "many6.test. 60 IN AAAA 2001:db8::61", "many6.test. 60 IN AAAA 2001:db8::62", "many6.test. 60 IN AAAA 2001:db8::63",
    "many6.test. 60 IN AAAA 2001:db8::64", "many6.test. 60 IN AAAA 2001:db8::65", "many6.test. 60 IN AAAA 2001:db8::66",
    "many4.test. 60 IN A 192.0.2.41", "many4.test. 60 IN A 192.0.2.42", "many4.test. 60 IN A 192.0.2.43",
    /* SRV */
    "_submission._tcp.d.test. 60 IN SRV 10 0 5870 c.test.", "_submission._tcp.d.test. 60 IN SRV 5 0 5871 a.test.",
    "_submission._tcp.null.test. 60 IN SRV 0 0 0 .",
    "!servfail _submission._tcp.nomx.test.",
    "xn--bcher-kva.test. 60 IN A 192.0.2.99",
    /* short names */
    "host.sub.test. 60 IN A 192.0.2.51", "deep.x.test. 60 IN A 192.0.2.52",
    NULL,
};

static int setup(void **state) { return responder_setup(state, zone); }

/* The plain case: IPv4, DNS, no randomness. set_usual() adds MX lookup, loop check and port 25. */
#define OPTIONS(...) { .v4 = true, .use_dns = true, \
                       .inet_interfaces = "192.0.2.77", .proxy_interfaces = "192.0.2.88", \
                       .myhostname = "hub.test", __VA_ARGS__ }

struct hcase {
    const char *name, *dest;
    struct hosts_options o;
    enum hosts_status status;
    const char *list;          /* "name[addr]:port ..." in order; NULL when there is none */
    const char *dsn, *text;
    bool found_self, from_mx;
    bool lmtp, no_loop_check;
};

static void show(const struct hosts *h, struct buf *b)
{
    char text[IP_TEXT_MAX];
    for (size_t i = 0; i < h->count; i++)
        buf_printf(b, "%s%s[%s]:%u", i ? " " : "", h->addr[i].name, ip_print(&h->addr[i].addr, text), h->addr[i].port);
}

static struct hosts_options set_usual(struct hosts_options o, bool use_mx, bool loop_check)
{
    o.use_mx = use_mx;
    o.loop_check = loop_check;
    o.port = o.port ? o.port : 25;
    return o;
}

static void find(struct responder_state *f, const char *dest, const struct hosts_options *o, struct hosts *h)
{
    struct dest d;
    struct err e = ERR_INIT;
    if (!dest_parse(span_cstr(dest), &d, &e))
        fail_msg("%s", e.text);
    hosts_find(f->d, &d, o, h);
}

#define NOT_FOUND(name, type, why) \
    "Host or domain name not found. Name service error for name=" name " type=" type ": " why
#define TRY_LATER "Host not found, try again"

static const struct hcase cases[] = {
    { "by preference", "d.test", OPTIONS(.address_limit = 0),
      .list = "a.test[192.0.2.1]:25 b1.test[192.0.2.2]:25 b2.test[192.0.2.3]:25 c.test[192.0.2.4]:25", .from_mx = true },
    { "limit", "d.test", OPTIONS(.address_limit = 2), .list = "a.test[192.0.2.1]:25 b1.test[192.0.2.2]:25",
      .from_mx = true },
    { "other port", "d.test:2525", OPTIONS(.port = 2525, .address_limit = 1), .list = "a.test[192.0.2.1]:2525",
      .from_mx = true },
    { "both families", "d.test", OPTIONS(.v6 = true, .address_limit = 3),
      .list = "a.test[192.0.2.1]:25 a.test[2001:db8::1]:25 b1.test[192.0.2.2]:25", .from_mx = true },
    { "IPv6 preferred", "d.test", OPTIONS(.v6 = true, .preference = HOSTS_PREFER_V6, .address_limit = 2),
      .list = "a.test[2001:db8::1]:25 a.test[192.0.2.1]:25", .from_mx = true },
    { "IPv6 only", "nomx.test", { .use_mx = true, .port = 25, .v6 = true, .use_dns = true },
      .list = "nomx.test[2001:db8::10]:25" },
    { "no MX: the domain itself", "nomx.test", OPTIONS(.balance = false), .list = "nomx.test[192.0.2.10]:25" },
    { "brackets: no MX", "[d.test]", OPTIONS(.balance = false), .status = HOSTS_BOUNCE, .dsn = "5.4.4",
      .text = NOT_FOUND("d.test", "A", "Host found but no data record of requested type") },
    { "brackets", "[a.test]", OPTIONS(.balance = false), .list = "a.test[192.0.2.1]:25" },
    { "lmtp: no MX", "a.test", OPTIONS(.balance = false), .lmtp = true, .list = "a.test[192.0.2.1]:25" },
    { "literal", "[192.0.2.200]", OPTIONS(.balance = false), .list = "192.0.2.200[192.0.2.200]:25" },
    { "literal of ourselves is allowed", "[192.0.2.77]", OPTIONS(.balance = false), .list = "192.0.2.77[192.0.2.77]:25" },
    { "literal of the wrong family", "[ipv6:2001:db8::1]", OPTIONS(.balance = false), .status = HOSTS_BOUNCE, .dsn = "5.4.4",
      .text = "unable to reach [2001:db8::1]: inet_protocols excludes IPv6" },
    { "alias of a domain", "alias.test", OPTIONS(.address_limit = 1), .list = "a.test[192.0.2.1]:25", .from_mx = true },
    { "MX that is an alias", "mxcname.test", OPTIONS(.balance = false), .list = "cn.test[192.0.2.10]:25", .from_mx = true },
    { "the alias's target as name", "mxcname.test", OPTIONS(.cname_overrides_name = true),
      .list = "nomx.test[192.0.2.10]:25", .from_mx = true },
    { "international name", "b\xc3\xbc" "cher.test", OPTIONS(.balance = false), .list = "xn--bcher-kva.test[192.0.2.99]:25" },
    { "localhost", "[localhost]", OPTIONS(.balance = false), .lmtp = true, .list = "localhost[127.0.0.1]:25" },

    /* LOCALDOMAIN is "sub.test test" */
    { "short name", "[host]", OPTIONS(.balance = false), .status = HOSTS_BOUNCE, .dsn = "5.4.4",
      .text = NOT_FOUND("host", "A", "Host not found") },
    { "own domain appended", "[host]", OPTIONS(.append_domain = true), .list = "host[192.0.2.51]:25" },
    { "no other domain is tried", "[a]", OPTIONS(.append_domain = true), .status = HOSTS_BOUNCE, .dsn = "5.4.4",
      .text = NOT_FOUND("a", "A", "Host not found") },
    { "nothing is appended to a dot", "[deep.x]", OPTIONS(.append_domain = true), .status = HOSTS_BOUNCE, .dsn = "5.4.4",
      .text = NOT_FOUND("deep.x", "A", "Host not found") },
    { "search list", "[a]", OPTIONS(.search_domains = true), .list = "a[192.0.2.1]:25" },
    { "search list behind a dot", "[deep.x]", OPTIONS(.search_domains = true), .list = "deep.x[192.0.2.52]:25" },

    { "null MX", "null.test", OPTIONS(.balance = false), .status = HOSTS_BOUNCE, .dsn = "5.1.10",
      .text = "Domain null.test does not accept mail (nullMX)" },
    { "null MX beside another", "halfnull.test", OPTIONS(.balance = false), .list = "a.test[192.0.2.1]:25", .from_mx = true },
    { "no such domain", "nothing.test", OPTIONS(.balance = false), .status = HOSTS_BOUNCE, .dsn = "5.4.4",
      .text = NOT_FOUND("nothing.test", "MX", "Host not found") },
    { "no such host", "[nothing.test]", OPTIONS(.balance = false), .status = HOSTS_BOUNCE, .dsn = "5.4.4",
      .text = NOT_FOUND("nothing.test", "A", "Host not found") },
    { "neither MX nor address", "onlytxt.test", OPTIONS(.balance = false), .status = HOSTS_BOUNCE, .dsn = "5.4.4",
      .text = NOT_FOUND("onlytxt.test", "A", "Host found but no data record of requested type") },
    { "SERVFAIL", "broken.test", OPTIONS(.balance = false), .status = HOSTS_DEFER, .dsn = "4.4.3",
      .text = NOT_FOUND("broken.test", "MX", TRY_LATER) },
    { "SERVFAIL of a host", "[broken.test]", OPTIONS(.balance = false), .status = HOSTS_DEFER, .dsn = "4.4.3",
      .text = NOT_FOUND("broken.test", "A", TRY_LATER) },
    { "not a name", "a..b", OPTIONS(.balance = false), .status = HOSTS_BOUNCE, .dsn = "5.4.4",
      .text = NOT_FOUND("a..b", "MX", "Invalid host or domain name") },
    { "MX is an address", "badmx.test", OPTIONS(.balance = false), .status = HOSTS_BOUNCE, .dsn = "5.4.4",
      .text = NOT_FOUND("badmx.test", "MX", "Malformed or unexpected name server reply") },
    { "no MX host has an address", "lost.test", OPTIONS(.balance = false), .status = HOSTS_BOUNCE, .dsn = "5.4.4",
      .text = NOT_FOUND("onlytxt.test", "A", "Host found but no data record of requested type"), .from_mx = true },
    { "the same, deferred", "lost.test", OPTIONS(.defer_if_no_mx_address = true), .status = HOSTS_DEFER, .dsn = "4.4.4",
      .text = NOT_FOUND("onlytxt.test", "A", "Host found but no data record of requested type"), .from_mx = true },
    { "a temporary failure outweighs", "mixed.test", OPTIONS(.balance = false), .status = HOSTS_DEFER, .dsn = "4.4.3",
      .text = NOT_FOUND("broken.test", "A", TRY_LATER), .from_mx = true },
    { "whichever comes first", "mixed2.test", OPTIONS(.balance = false), .status = HOSTS_DEFER, .dsn = "4.4.3",
      .text = NOT_FOUND("broken.test", "A", TRY_LATER), .from_mx = true },
    { "one MX that cannot be found is passed over", "second.test", OPTIONS(.balance = false), .list = "c.test[192.0.2.4]:25",
      .from_mx = true },
    { "ignore_mx_lookup_error goes on to the address", "broken.test", OPTIONS(.ignore_mx_lookup_error = true),
      .status = HOSTS_DEFER, .dsn = "4.4.3", .text = NOT_FOUND("broken.test", "A", TRY_LATER) },

    { "best MX is us, by address", "loop.test", OPTIONS(.balance = false), .status = HOSTS_SELF, .dsn = "5.4.6",
      .text = "mail for loop.test loops back to myself", .found_self = true, .from_mx = true },
    { "best MX is us, by proxy address", "bynat.test", OPTIONS(.balance = false), .status = HOSTS_SELF, .dsn = "5.4.6",
      .text = "mail for bynat.test loops back to myself", .found_self = true, .from_mx = true },
    { "not checked on other ports", "loop.test", OPTIONS(.address_limit = 1), .no_loop_check = true,
      .list = "own.test[192.0.2.77]:25", .from_mx = true },
    { "backup: equal and worse are dropped", "backup.test", OPTIONS(.balance = false), .list = "a.test[192.0.2.1]:25",
      .found_self = true, .from_mx = true },
    { "backup by name", "byname.test", OPTIONS(.balance = false), .list = "a.test[192.0.2.1]:25", .found_self = true,
      .from_mx = true },
    { "backup of a primary that cannot be found", "better.test", OPTIONS(.balance = false), .status = HOSTS_DEFER,
      .dsn = "4.4.4", .text = "unable to find primary relay for better.test", .found_self = true, .from_mx = true },
    { "all interfaces", "lo.test", { .use_mx = true, .port = 25, .v4 = true, .use_dns = true, .loop_check = true,
      .inet_interfaces = "all" }, .status = HOSTS_SELF, .dsn = "5.4.6",
      .text = "mail for lo.test loops back to myself", .found_self = true, .from_mx = true },
    { "loopback only", "lo.test", { .use_mx = true, .port = 25, .v4 = true, .use_dns = true, .loop_check = true,
      .inet_interfaces = "loopback-only" }, .status = HOSTS_SELF, .dsn = "5.4.6",
      .text = "mail for lo.test loops back to myself", .found_self = true, .from_mx = true },

    { "without balance the first family takes all", "many.test", OPTIONS(.v6 = true, .address_limit = 5),
      .list = "many6.test[2001:db8::61]:25 many6.test[2001:db8::62]:25 many6.test[2001:db8::63]:25 "
              "many6.test[2001:db8::64]:25 many6.test[2001:db8::65]:25", .from_mx = true },
    { "balance", "many.test", OPTIONS(.v6 = true, .address_limit = 5, .balance = true),
      .list = "many6.test[2001:db8::61]:25 many6.test[2001:db8::62]:25 many6.test[2001:db8::63]:25 "
              "many4.test[192.0.2.41]:25 many4.test[192.0.2.42]:25", .from_mx = true },
    { "balance gives unused places away", "many.test", OPTIONS(.v6 = true, .address_limit = 8, .balance = true),
      .list = "many6.test[2001:db8::61]:25 many6.test[2001:db8::62]:25 many6.test[2001:db8::63]:25 "
              "many6.test[2001:db8::64]:25 many6.test[2001:db8::65]:25 many4.test[192.0.2.41]:25 "
              "many4.test[192.0.2.42]:25 many4.test[192.0.2.43]:25", .from_mx = true },

    { "SRV by priority, with its ports", "d.test:submission", OPTIONS(.use_srv = "submission", .port = 587),
      .list = "a.test[192.0.2.1]:5871 c.test[192.0.2.4]:5870", .from_mx = true },
    { "SRV only for listed services", "d.test:submission", OPTIONS(.use_srv = "submissions", .port = 587, .address_limit = 1),
      .list = "a.test[192.0.2.1]:587", .from_mx = true },
    { "SRV not for numbers", "d.test:587", OPTIONS(.use_srv = "submission, 587", .port = 587, .address_limit = 1),
      .list = "a.test[192.0.2.1]:587", .from_mx = true },
    { "SRV not in brackets", "[a.test]:submission", OPTIONS(.use_srv = "submission", .port = 587),
      .list = "a.test[192.0.2.1]:587" },
    { "SRV missing", "loop.test:submission", OPTIONS(.use_srv = "submission", .port = 587), .status = HOSTS_BOUNCE,
      .dsn = "5.4.4", .text = NOT_FOUND("_submission._tcp.loop.test", "SRV", "Host not found") },
    { "SRV missing, fallback", "second.test:submission",
      OPTIONS(.use_srv = "submission", .port = 587, .allow_srv_lookup_fallback = true),
      .list = "c.test[192.0.2.4]:587", .from_mx = true },
    { "SRV error", "nomx.test:submission", OPTIONS(.use_srv = "submission", .port = 587), .status = HOSTS_DEFER,
      .dsn = "4.4.3", .text = NOT_FOUND("_submission._tcp.nomx.test", "SRV", TRY_LATER) },
    { "SRV error ignored", "nomx.test:submission",
      OPTIONS(.use_srv = "submission", .port = 587, .ignore_srv_lookup_error = true),
      .list = "nomx.test[192.0.2.10]:587" },
    { "null SRV", "null.test:submission", OPTIONS(.use_srv = "submission", .port = 587), .status = HOSTS_BOUNCE,
      .dsn = "5.4.4", .text = "Domain null.test does not offer the service submission (null SRV)" },

    { "native", "[127.0.0.9]", { .port = 25, .v4 = true, .disable_dns = true }, .list = "127.0.0.9[127.0.0.9]:25" },
};

static void candidates(void **state)
{
    struct responder_state *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct hcase *c = &cases[i];
        struct hosts h;
        struct buf b = BUF_INIT(8192);
        struct hosts_options o = set_usual(c->o, !c->lmtp, !c->no_loop_check);
        find(f, c->dest, &o, &h);
        show(&h, &b);
        if (h.status != c->status || strcmp(buf_cstr(&b), c->list ? c->list : "") != 0 ||
            strcmp(h.dsn, c->dsn ? c->dsn : "") != 0 || strcmp(h.text, c->text ? c->text : "") != 0 ||
            h.found_self != c->found_self || h.from_mx != c->from_mx)
            fail_msg("%s: status %d, list %s, %s \"%s\", self %d, mx %d", c->name, h.status, buf_cstr(&b), h.dsn, h.text,
                     h.found_self, h.from_mx);
        hosts_free(&h);
        buf_free(&b);
    }
}

/* getaddrinfo() answers addresses and, from /etc/hosts, names; no name server is asked. */
static void native_lookup_asks_no_name_server(void **state)
{
    struct responder_state *f = *state;
    struct hosts h;
    static const struct hosts_options o = { .use_mx = true, .port = 25, .v4 = true, .use_dns = true, .disable_dns = true };
    find(f, "127.0.0.9", &o, &h); /* not in brackets, so it is a name here */
    assert_int_equal(h.status, HOSTS_OK);
    hosts_free(&h);
    find(f, "no-such-host.invalid", &o, &h);
    assert_true(h.status == HOSTS_BOUNCE || h.status == HOSTS_DEFER);
    assert_non_null(strstr(h.text, "unable to look up host no-such-host.invalid: "));
    hosts_free(&h);
    assert_int_equal(responder_questions(f->r), 0);
}

/* The C library's, but for one name: that it does not exist, and why. */
static int starved_errno;

int getaddrinfo(const char *restrict name, const char *restrict service, const struct addrinfo *restrict hints, struct addrinfo **restrict out)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (strcmp(name, "starved.invalid") != 0) {
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
        return real(name, service, hints, out);
    }
    errno = starved_errno;
    return EAI_NONAME;
}

/* "No such name" is no answer when the library had no memory to look: mail waits. */
static void a_look_up_without_memory_is_not_final(void **state)
{
    static const struct { int error; enum hosts_status status; const char *text; } rows[] = {
        { 0, HOSTS_BOUNCE, "Name or service not known" }, { ENOENT, HOSTS_BOUNCE, "Name or service not known" },
        { ENOMEM, HOSTS_DEFER, "out of memory" },
    };
    static const struct hosts_options o = { .port = 25, .v4 = true, .disable_dns = true };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct hosts h;
        starved_errno = rows[i].error;
        find(*state, "starved.invalid", &o, &h);
        if (h.status != rows[i].status || strstr(h.text, rows[i].text) == NULL)
            fail_msg("errno %d: status %d, %s", rows[i].error, h.status, h.text);
        hosts_free(&h);
    }
}

/* Equals change places with the seed, others never do. */
static void equals_are_tried_in_random_order(void **state)
{
    struct responder_state *f = *state;
    int first[2] = { 0, 0 };
    struct hosts_options plain = OPTIONS(.randomize = true);
    struct hosts_options o = set_usual(plain, true, true);
    for (uint64_t seed = 1; seed <= 64; seed++) {
        struct hosts h;
        o.seed = seed;
        find(f, "d.test", &o, &h);
        assert_int_equal(h.count, 4);
        assert_string_equal(h.addr[0].name, "a.test");
        assert_true(h.addr[0].is_best && !h.addr[1].is_best);
        assert_string_equal(h.addr[3].name, "c.test");
        first[strcmp(h.addr[1].name, "b2.test") == 0]++;
        hosts_free(&h);
    }
    if (first[0] < 16 || first[1] < 16)
        fail_msg("b1 first %d times, b2 %d times of 64", first[0], first[1]);
}

static void srv_weights_share_the_load(void **state)
{
    static const char *const rows[] = {
        "_smtp._tcp.w.test. 60 IN SRV 1 75 25 a.test.", "_smtp._tcp.w.test. 60 IN SRV 1 25 25 b.test.",
        "_smtp._tcp.w.test. 60 IN SRV 1 0 25 z.test.",
        "a.test. 60 IN A 192.0.2.1", "b.test. 60 IN A 192.0.2.2", "z.test. 60 IN A 192.0.2.3", NULL,
    };
    (void)state;
    struct responder *r = responder_start(rows, NULL);
    struct responder_state f = { r, responder_dns(r) };
    int first[3] = { 0 };
    struct hosts_options plain = OPTIONS(.use_srv = "smtp");
    struct hosts_options o = set_usual(plain, true, true);
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct hosts h;
        o.seed = seed;
        find(&f, "w.test:smtp", &o, &h);
        assert_int_equal(h.count, 3);
        first[h.addr[0].addr.b[3] - 1]++;
        hosts_free(&h);
    }
    if (first[0] < 250 || first[0] > 350 || first[1] < 50 || first[1] > 150 || first[2] > 25)
        fail_msg("75: %d, 25: %d, 0: %d of 400", first[0], first[1], first[2]);
    dns_stop(&f.d);
    responder_stop(&f.r);
}

static void all_names_are_asked_at_once(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "p.test. 60 IN MX 1 a.test.", "p.test. 60 IN MX 2 b.test.", "p.test. 60 IN MX 3 c.test.",
        "a.test. 60 IN A 192.0.2.1", "!drop1 a.test.", "b.test. 60 IN A 192.0.2.2", "!drop1 b.test.",
        "c.test. 60 IN A 192.0.2.3", "!drop1 c.test.", NULL,
    };
    struct responder *r = responder_start(rows, NULL);
    struct responder_state f = { r, responder_dns(r) }; /* 200 ms a try */
    struct hosts_options plain = OPTIONS(.balance = false);
    struct hosts_options o = set_usual(plain, true, true);
    struct hosts h;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    find(&f, "p.test", &o, &h);
    clock_gettime(CLOCK_MONOTONIC, &b);
    double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
    assert_int_equal(h.count, 3);
    hosts_free(&h);
    if (ms < 190 || ms > 590) /* one after the other it is 600 */
        fail_msg("%.0f ms", ms);
    dns_stop(&f.d);
    responder_stop(&f.r);
}

static void options_follow_the_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *main_cf, *dest;
        bool lmtp;
        struct hosts_options want;
    } rows[] = {
        { "", "d.test", false, { .use_mx = true, .port = 25, .loop_check = true, .v4 = true, .v6 = true, .use_dns = true,
          .balance = true, .randomize = true, .address_limit = 5 } },
        { "", "[d.test]:submission", false, { .use_mx = false, .port = 587, .v4 = true, .v6 = true, .use_dns = true,
          .balance = true, .randomize = true, .address_limit = 5 } },
        { "", "d.test", true, { .use_mx = false, .port = 24, .v4 = true, .v6 = true, .use_dns = true,
          .balance = true, .randomize = true, .address_limit = 5 } },
        { "inet_protocols = ipv4\n" "smtp_host_lookup = dns, native\n" "smtp_address_preference = ipv4\n"
          "smtp_randomize_addresses = no\n" "smtp_balance_inet_protocols = no\n" "smtp_mx_address_limit = 0\n"
          "ignore_mx_lookup_error = yes\n" "smtp_defer_if_no_mx_address_found = yes\nuse_srv_lookup = submission\n"
          "allow_srv_lookup_fallback = yes\nignore_srv_lookup_error = yes\n" "smtp_cname_overrides_servername = yes\n"
          "disable_dns_lookups = yes\n", "d.test:26", false,
          { .use_mx = true, .port = 26, .v4 = true, .use_dns = true, .use_native = true, .preference = HOSTS_PREFER_V4,
            .ignore_mx_lookup_error = true, .defer_if_no_mx_address = true, .ignore_srv_lookup_error = true,
            .allow_srv_lookup_fallback = true, .cname_overrides_name = true, .disable_dns = true } },
        { "inet_protocols = ipv4\n" "lmtp_host_lookup = dns, native\n" "lmtp_address_preference = ipv4\n"
          "lmtp_randomize_addresses = no\n" "lmtp_balance_inet_protocols = no\n" "lmtp_mx_address_limit = 0\n"
          "lmtp_defer_if_no_mx_address_found = yes\n" "lmtp_cname_overrides_servername = yes\n" "lmtp_dns_support_level = disabled\n", "d.test:26", true,
          { .port = 26, .v4 = true, .use_dns = true, .use_native = true, .preference = HOSTS_PREFER_V4,
            .defer_if_no_mx_address = true, .cname_overrides_name = true, .disable_dns = true } },
        { "inet_protocols = ipv6\n" "smtp_dns_support_level = disabled\n" "smtp_address_preference = ipv6\n", "d.test", false,
          { .use_mx = true, .port = 25, .loop_check = true, .v6 = true, .use_dns = true, .disable_dns = true,
            .preference = HOSTS_PREFER_V6, .balance = true, .randomize = true, .address_limit = 5 } },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct conf_report report = { 0 };
        struct conf *c = conf_load(&(struct conf_options){ .dir = "/nonexistent", .main_cf_text = rows[i].main_cf,
            .master_cf_text = "smtp unix - - n - - smtp\nlmtp unix - - n - - lmtp\n" }, &report);
        if (!c)
            fail_msg("%s", report.count ? report.items[0].text : "conf_load");
        conf_report_free(&report);
        const struct conf_service *svc = conf_transport(c, span_cstr(rows[i].lmtp ? "lmtp" : "smtp"));
        struct hosts_options o, w = rows[i].want;
        struct dest d;
        struct err e = ERR_INIT;
        assert_true(dest_parse(span_cstr(rows[i].dest), &d, &e));
        if (!hosts_options_init(&o, svc->p, svc->client, rows[i].lmtp, &d, &e))
            fail_msg("row %zu: %s", i, e.text);
        assert_ptr_equal(o.inet_interfaces, svc->p->inet_interfaces);
        if (o.use_mx != w.use_mx || o.port != w.port || o.loop_check != w.loop_check || o.v4 != w.v4 || o.v6 != w.v6 ||
            o.use_dns != w.use_dns || o.use_native != w.use_native || o.preference != w.preference ||
            o.balance != w.balance || o.randomize != w.randomize || o.address_limit != w.address_limit ||
            o.ignore_mx_lookup_error != w.ignore_mx_lookup_error || o.disable_dns != w.disable_dns ||
            o.defer_if_no_mx_address != w.defer_if_no_mx_address ||
            o.ignore_srv_lookup_error != w.ignore_srv_lookup_error ||
            o.allow_srv_lookup_fallback != w.allow_srv_lookup_fallback ||
            o.cname_overrides_name != w.cname_overrides_name)
            fail_msg("row %zu: an option differs (port %u, v4 %d, v6 %d)", i, o.port, o.v4, o.v6);
        conf_unref(&c);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, responder_teardown)
    const struct CMUnitTest tests[] = {
        T(candidates),
        T(native_lookup_asks_no_name_server), T(a_look_up_without_memory_is_not_final),
        T(equals_are_tried_in_random_order),
        cmocka_unit_test(srv_weights_share_the_load),
        cmocka_unit_test(all_names_are_asked_at_once),
        cmocka_unit_test(options_follow_the_parameters),
    };
    setenv("LOCALDOMAIN", "sub.test test", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

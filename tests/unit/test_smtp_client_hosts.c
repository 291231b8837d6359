/* The client among several hosts and jobs: MX order, limits, next hops, fallback, kept and parked connections. */
#include "tests/unit/unit.h"

#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/dns/dns.h"
#include "daemon/smtp/conn_cache.h"
#include "tests/unit/client_fake.h"
#include "tests/unit/dns_responder.h"

#define PIPE "S 220 mx.example ESMTP\nC EHLO client.example\nS 250-mx.example\nS 250 PIPELINING\n"
#define ENVELOPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\n"
#define ACCEPT "S 250 Ok\nS 250 Ok\nS 354 go\nD\nS 250 done\n"
#define QUIT "C QUIT\nS 221 bye\n"

static const struct fake_mail mail = { .sender = "a@s.example", .rcpts = "r0@d.example", .content = "x: y\r\n\r\n" };

struct rig {
    struct sched *s;
    struct conf *c;
    struct log_src log;
    struct deliver_env env;
};

static void rig_open(struct rig *g, const char *conf)
{
    g->s = fake_sched_new();
    g->c = fake_conf(conf, "");
    assert_non_null(g->c);
    g->log = (struct log_src){ .name = "posthouse" };
    g->env = (struct deliver_env){ .sched = g->s, .log = &g->log, .conn_cache = conn_cache_new() };
}

static void rig_close(struct rig *g)
{
    conn_cache_free(&g->env.conn_cache);
    conf_unref(&g->c);
    fake_sched_free(&g->s);
}

static void run(struct rig *g)
{
    struct job *j;
    while ((j = sched_next(g->s, NULL)) != NULL)
        deliver_smtp(&g->env, j);
    assert_int_equal(g->s->unreported, 0);
}

static void peers_are_content(const char *what, struct peer *p)
{
    const char *problem = peer_finish(p);
    if (*problem)
        fail_msg("%s: %s", what, problem);
}

static void want(struct rig *g, uint64_t id, enum outcome outcome, const char *reason)
{
    const struct fake_report *r = fake_report_of(g->s, id, 0);
    assert_non_null(r);
    if (r->outcome != outcome || strncmp(r->reason, reason, strlen(reason)) != 0)
        fail_msg("message %u: %d (%s), wanted %d (%s)", (unsigned)id, r->outcome, r->reason, outcome, reason);
}

static void next_next_hop_after_a_soft_failure(void **state)
{
    (void)state;
    static const struct { const char *name, *first; } cases[] = {
        { "greeting", "S 450 later\nC QUIT\n" },
        { "5xx greeting", "S 554 never\nC QUIT\n" },
        { "recipient", PIPE ENVELOPE "S 250 Ok\nS 450 later\nS 503 no\n" QUIT },
        { "mail", PIPE ENVELOPE "S 450 later\nS 503 no\nS 503 no\n" QUIT },
        { "lost", PIPE ENVELOPE "X\n" },
        { "content", PIPE ENVELOPE "S 250 Ok\nS 250 Ok\nS 354 go\nD\nS 450 later\n" QUIT },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig g;
        rig_open(&g, "");
        struct peer *a = peer_start(cases[i].first), *b = peer_start(PIPE ENVELOPE ACCEPT QUIT);
        char nexthop[100];
        snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u, [127.0.0.1]:%u", peer_port(a), peer_port(b));
        fake_add_job(g.s, g.c, "smtp", nexthop, 1, &mail);
        run(&g);
        peers_are_content(cases[i].name, a);
        peers_are_content(cases[i].name, b);
        want(&g, 1, OUTCOME_SENT, "250 done");
        assert_int_equal(g.s->verdicts[0], SITE_OK);
        peer_free(&a);
        peer_free(&b);
        rig_close(&g);
    }
}

static void a_refusal_ends_the_search(void **state)
{
    (void)state;
    struct rig g;
    rig_open(&g, "");
    struct peer *a = peer_start(PIPE ENVELOPE "S 250 Ok\nS 550 no\nS 503 no\n" QUIT);
    char nexthop[100];
    snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u, [127.0.0.1]:1", peer_port(a));
    fake_add_job(g.s, g.c, "smtp", nexthop, 1, &mail);
    run(&g);
    peers_are_content("refusal", a);
    want(&g, 1, OUTCOME_BOUNCED, "host 127.0.0.1[127.0.0.1] said: 550 no (in reply to RCPT TO command)");
    peer_free(&a);
    rig_close(&g);
}

static void fallback_relay_is_last(void **state)
{
    (void)state;
    struct rig g;
    struct peer *b = peer_start(PIPE ENVELOPE ACCEPT QUIT);
    char *conf = xasprintf("smtp_fallback_relay = [127.0.0.1]:%u\n", peer_port(b));
    rig_open(&g, conf);
    fake_add_job(g.s, g.c, "smtp", "[127.0.0.1]:1", 1, &mail);
    run(&g);
    peers_are_content("fallback", b);
    want(&g, 1, OUTCOME_SENT, "250 done");
    peer_free(&b);
    rig_close(&g);
    free(conf);
}

static void nobody_listens(void **state)
{
    (void)state;
    struct rig g;
    rig_open(&g, "queue_directory = /nonexistent/spool\n");
    fake_add_job(g.s, g.c, "smtp", "[127.0.0.1]:1", 1, &mail);
    fake_add_job(g.s, g.c, "lmtp", "unix:private/none", 2, &mail);
    run(&g);
    want(&g, 1, OUTCOME_DEFERRED, "connect to 127.0.0.1[127.0.0.1]:1: Connection refused");
    want(&g, 2, OUTCOME_DEFERRED, "connect to client.example[private/none]: No such file or directory");
    assert_string_equal(fake_report_of(g.s, 1, 0)->dsn, "4.4.1");
    assert_string_equal(fake_report_of(g.s, 1, 0)->relay, "none");
    assert_int_equal(g.s->verdicts[0], SITE_UNAVAILABLE);
    rig_close(&g);
}

static void lmtp_over_a_unix_socket(void **state)
{
    (void)state;
    struct rig g;
    char path[100], nexthop[120];
    snprintf(path, sizeof path, "/tmp/posthouse-lmtp-%ld", (long)getpid());
    snprintf(nexthop, sizeof nexthop, "unix:%s", path);
    rig_open(&g, "");
    struct peer *p = peer_start_unix("S 220 x LMTP\nC LHLO client.example\nS 250-x\nS 250-PIPELINING\nS 250 CHUNKING\n"
                                     "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC BDAT 8 LAST\nB *\nS 250 Ok\nS 250 Ok\nS 250 2.0.0 stored\n" QUIT, path);
    fake_add_job(g.s, g.c, "lmtp", nexthop, 1, &mail);
    run(&g);
    peers_are_content("unix", p);
    want(&g, 1, OUTCOME_SENT, "250 2.0.0 stored");
    char relay[150];
    snprintf(relay, sizeof relay, "client.example[%s]", path);
    assert_string_equal(fake_report_of(g.s, 1, 0)->relay, relay);
    peer_free(&p);
    unlink(path);
    rig_close(&g);
}

/* ---- kept connections ---- */

static void one_connection_for_many_jobs(void **state)
{
    (void)state;
    struct rig g;
    rig_open(&g, "");
    struct peer *p = peer_start(PIPE ENVELOPE ACCEPT ENVELOPE "S 250 Ok\nS 550 no\nS 503 no\n" "C RSET\n" ENVELOPE "S 250 Ok\n" ACCEPT QUIT);
    char nexthop[60];
    snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u", peer_port(p));
    for (unsigned i = 1; i <= 3; i++)
        fake_add_job(g.s, g.c, "smtp", nexthop, i, &mail);
    run(&g);
    peers_are_content("many jobs", p);
    want(&g, 1, OUTCOME_SENT, "250 done");
    want(&g, 2, OUTCOME_BOUNCED, "host");
    want(&g, 3, OUTCOME_SENT, "250 done");
    assert_int_equal(fake_report_of(g.s, 1, 0)->conn_use, 1);
    assert_int_equal(fake_report_of(g.s, 3, 0)->conn_use, 3);
    assert_int_equal(peer_connections(p), 1);
    peer_free(&p);
    rig_close(&g);
}

static void reuse_count_limit(void **state)
{
    (void)state;
    struct rig g;
    rig_open(&g, "smtp_connection_reuse_count_limit = 2\n" "smtp_connection_cache_on_demand = no\n");
    struct peer *p = peer_start(PIPE ENVELOPE ACCEPT ENVELOPE ACCEPT QUIT "---\n" PIPE ENVELOPE ACCEPT QUIT);
    char nexthop[60];
    snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u", peer_port(p));
    for (unsigned i = 1; i <= 3; i++)
        fake_add_job(g.s, g.c, "smtp", nexthop, i, &mail);
    run(&g);
    peers_are_content("count limit", p);
    assert_int_equal(peer_connections(p), 2);
    peer_free(&p);
    rig_close(&g);
}

static void dying_connection_is_not_a_failure(void **state)
{
    (void)state;
    static const struct { const char *name, *end; } cases[] = {
        { "closed", "X\n" }, { "closed when used again", ENVELOPE "X\n" }, { "421 when used again", ENVELOPE "S 421 too long\nX\n" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig g;
        rig_open(&g, "");
        char *script = xasprintf(PIPE ENVELOPE ACCEPT "%s---\n" PIPE ENVELOPE ACCEPT QUIT, cases[i].end);
        struct peer *p = peer_start(script);
        char nexthop[60];
        snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u", peer_port(p));
        fake_add_job(g.s, g.c, "smtp", nexthop, 1, &mail);
        fake_add_job(g.s, g.c, "smtp", nexthop, 2, &mail);
        run(&g);
        peers_are_content(cases[i].name, p);
        want(&g, 1, OUTCOME_SENT, "250 done");
        want(&g, 2, OUTCOME_SENT, "250 done");
        peer_free(&p);
        free(script);
        rig_close(&g);
    }
}

static void reused_connection_refusing_for_now(void **state)
{
    (void)state;
    struct rig g;
    rig_open(&g, "");
    struct peer *p = peer_start(PIPE ENVELOPE ACCEPT ENVELOPE "S 250 Ok\nS 451 later\nS 503 no\n" QUIT);
    char nexthop[60];
    snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u", peer_port(p));
    fake_add_job(g.s, g.c, "smtp", nexthop, 1, &mail);
    fake_add_job(g.s, g.c, "smtp", nexthop, 2, &mail);
    run(&g);
    peers_are_content("soft refusal", p);
    want(&g, 2, OUTCOME_DEFERRED, "host 127.0.0.1[127.0.0.1] said: 451 later (in reply to RCPT TO command)");
    assert_int_equal(peer_connections(p), 1); /* the same host is not asked again */
    peer_free(&p);
    rig_close(&g);
}

static void parked_by_demand_and_found_again(void **state)
{
    (void)state;
    struct rig g;
    rig_open(&g, "");
    struct peer *p = peer_start(PIPE ENVELOPE ACCEPT QUIT "---\n" PIPE ENVELOPE ACCEPT ENVELOPE ACCEPT QUIT);
    char nexthop[60];
    snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u", peer_port(p));
    for (unsigned i = 1; i <= 3; i++) {
        fake_add_job(g.s, g.c, "smtp", nexthop, i, &mail);
        run(&g);
        assert_int_equal(conn_cache_count(g.env.conn_cache), i == 1 ? 0 : 1);
    }
    conn_cache_sweep(g.env.conn_cache, clock_mono_ms() + 1900);
    assert_int_equal(conn_cache_count(g.env.conn_cache), 1);
    conn_cache_sweep(g.env.conn_cache, clock_mono_ms() + 2100);
    assert_int_equal(conn_cache_count(g.env.conn_cache), 0);
    peers_are_content("parked", p);
    assert_int_equal(fake_report_of(g.s, 3, 0)->conn_use, 2);
    peer_free(&p);
    rig_close(&g);
}

static void parked_always_or_never(void **state)
{
    (void)state;
    struct rig g;
    struct peer *p = peer_start(PIPE ENVELOPE ACCEPT QUIT);
    char *conf = xasprintf("smtp_connection_cache_on_demand = no\n" "smtp_connection_cache_destinations = x.example, [127.0.0.1]:%u\n", peer_port(p));
    char nexthop[60];
    snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u", peer_port(p));
    rig_open(&g, conf);
    fake_add_job(g.s, g.c, "smtp", nexthop, 1, &mail);
    run(&g);
    assert_int_equal(conn_cache_count(g.env.conn_cache), 1);
    rig_close(&g);
    peers_are_content("always", p);
    peer_free(&p);
    free(conf);
}

/* The same limits by LMTP's names. */
static void lmtp_mirrors(void **state)
{
    (void)state;
#define LPIPE "S 220 x LMTP\nC LHLO client.example\nS 250-x\nS 250 PIPELINING\n"
    static const struct {
        const char *name, *conf, *script;
        unsigned jobs, connections, parked;
    } cases[] = {
        { "count", "lmtp_connection_reuse_count_limit = 2\n" "lmtp_connection_cache_on_demand = no\n",
          LPIPE ENVELOPE ACCEPT ENVELOPE ACCEPT QUIT "---\n" LPIPE ENVELOPE ACCEPT QUIT, 3, 2, 0 },
        { "age", "lmtp_connection_reuse_time_limit = 0s\n",
          LPIPE ENVELOPE ACCEPT QUIT "---\n" LPIPE ENVELOPE ACCEPT QUIT, 2, 2, 0 },
        { "cache off", "lmtp_cache_connection = no\n" "lmtp_connection_cache_destinations = $nexthop\n", LPIPE ENVELOPE ACCEPT QUIT, 1, 1, 0 },
        { "always", "lmtp_connection_cache_destinations = $nexthop\n" "lmtp_connection_cache_time_limit = 9s\n",
          LPIPE ENVELOPE ACCEPT QUIT, 1, 1, 1 },
        { "no waiting for QUIT", "lmtp_skip_quit_response = yes\n" "lmtp_quit_timeout = 5s\n", LPIPE ENVELOPE ACCEPT "C QUIT\nE\n", 1, 1, 0 },
        { "QUIT waits no longer than its limit", "lmtp_skip_quit_response = no\n" "lmtp_quit_timeout = 1s\n",
          LPIPE ENVELOPE ACCEPT "C QUIT\nE\n", 1, 1, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig g;
        struct peer *p = peer_start(cases[i].script);
        char nexthop[60];
        snprintf(nexthop, sizeof nexthop, "inet:[127.0.0.1]:%u", peer_port(p));
        char *conf = xasprintf("nexthop = %s\n%s", nexthop, cases[i].conf);
        rig_open(&g, conf);
        for (unsigned k = 1; k <= cases[i].jobs; k++)
            fake_add_job(g.s, g.c, "lmtp", nexthop, k, &mail);
        int64_t before = clock_mono_ms();
        run(&g);
        if (clock_mono_ms() - before > 3000)
            fail_msg("%s: took too long", cases[i].name);
        unsigned parked = conn_cache_count(g.env.conn_cache);
        if (parked != cases[i].parked)
            fail_msg("%s: %u parked", cases[i].name, parked);
        rig_close(&g);
        peers_are_content(cases[i].name, p);
        if (peer_connections(p) != cases[i].connections)
            fail_msg("%s: %u connections", cases[i].name, peer_connections(p));
        peer_free(&p);
        free(conf);
    }
}

static void quit_is_waited_for_when_asked(void **state)
{
    (void)state;
    static const struct { const char *conf; int64_t at_least_ms; } cases[] = {
        { "smtp_skip_quit_response = no\n" "smtp_quit_timeout = 1s\n", 900 },
        { "smtp_skip_quit_response = yes\n" "smtp_quit_timeout = 5s\n", 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig g;
        struct peer *p = peer_start(PIPE ENVELOPE ACCEPT "C QUIT\nE\n");
        char nexthop[60];
        snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u", peer_port(p));
        rig_open(&g, cases[i].conf);
        fake_add_job(g.s, g.c, "smtp", nexthop, 1, &mail);
        int64_t before = clock_mono_ms();
        run(&g);
        int64_t took = clock_mono_ms() - before;
        if (took < cases[i].at_least_ms || took > cases[i].at_least_ms + 2000)
            fail_msg("%s: took %d ms", cases[i].conf, (int)took);
        peers_are_content("quit", p);
        peer_free(&p);
        rig_close(&g);
    }
}

/* smtp_mx_session_limit and its mirror count sessions, not refused connections. */
static void session_limit(void **state)
{
    (void)state;
    static const char *const rows[] = { "h.example. 300 IN A 127.0.0.1", "h.example. 300 IN A 127.0.0.2", NULL };
    static const struct { const char *transport, *conf, *hello; } cases[] = {
        { "smtp", "smtp_mx_session_limit = 1\n" "smtp_helo_timeout = 1s\n", "S 220 x\nC EHLO client.example\nS 250 x\n" },
        { "lmtp", "lmtp_mx_session_limit = 1\n" "lmtp_lhlo_timeout = 1s\n", "S 220 x\nC LHLO client.example\nS 250 x\n" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint16_t dns_port;
        struct responder *r = responder_start(rows, &dns_port);
        struct rig g;
        char *conf = xasprintf("inet_protocols = ipv4\n" "smtp_randomize_addresses = no\n" "lmtp_randomize_addresses = no\n%s", cases[i].conf);
        char *script = xasprintf("%sC MAIL FROM:<a@s.example>\nS 450 later\n" QUIT, cases[i].hello);
        struct peer *p = peer_start_at(script, 0x7f000001, 0);
        struct peer *silent = peer_start_at("", 0x7f000002, peer_port(p));
        char nexthop[60];
        snprintf(nexthop, sizeof nexthop, "%s[h.example]:%u", i ? "inet:" : "", peer_port(p));
        rig_open(&g, conf);
        g.env.dns = responder_dns(r);
        fake_add_job(g.s, g.c, cases[i].transport, nexthop, 1, &mail);
        run(&g);
        peers_are_content(cases[i].transport, p);
        want(&g, 1, OUTCOME_DEFERRED, "host h.example[127.0.0.1] said: 450 later");
        dns_stop(&g.env.dns);
        responder_stop(&r);
        peer_free(&p);
        peer_free(&silent);
        rig_close(&g);
        free(conf);
        free(script);
    }
}

/* ---- names ---- */

static void mx_hosts_in_order(void **state)
{
    (void)state;
    struct peer *p = peer_start(PIPE ENVELOPE ACCEPT QUIT);
    uint16_t dns_port;
    static const char *const rows[] = {
        "d.example. 300 IN MX 10 mx1.example.", "d.example. 300 IN MX 20 mx2.example.", "mx1.example. 300 IN A 127.0.0.3",
        "mx2.example. 300 IN A 127.0.0.1", "null.example. 300 IN MX 0 .", "!servfail bad.example.", NULL,
    };
    struct responder *r = responder_start(rows, &dns_port);
    struct rig g;
    rig_open(&g, "inet_protocols = ipv4\n");
    g.env.dns = responder_dns(r);
    char nexthop[60];
    snprintf(nexthop, sizeof nexthop, "d.example:%u", peer_port(p));
    fake_add_job(g.s, g.c, "smtp", nexthop, 1, &mail);
    fake_add_job(g.s, g.c, "smtp", "none.example", 2, &mail);
    fake_add_job(g.s, g.c, "smtp", "bad.example", 3, &mail);
    fake_add_job(g.s, g.c, "smtp", "null.example", 4, &mail);
    run(&g);
    peers_are_content("mx", p);
    want(&g, 1, OUTCOME_SENT, "250 done");
    char relay[60];
    snprintf(relay, sizeof relay, "mx2.example[127.0.0.1]:%u", peer_port(p));
    assert_string_equal(fake_report_of(g.s, 1, 0)->relay, relay);
    want(&g, 2, OUTCOME_BOUNCED, "Host or domain name not found. Name service error for name=none.example");
    assert_string_equal(fake_report_of(g.s, 2, 0)->dsn, "5.4.4");
    want(&g, 3, OUTCOME_DEFERRED, "Host or domain name not found. Name service error for name=bad.example");
    assert_string_equal(fake_report_of(g.s, 3, 0)->dsn, "4.4.3");
    want(&g, 4, OUTCOME_BOUNCED, "");
    assert_string_equal(fake_report_of(g.s, 4, 0)->dsn, "5.1.10");
    dns_stop(&g.env.dns);
    responder_stop(&r);
    peer_free(&p);
    rig_close(&g);
}

/* A host that bears our name is we ourselves, by another way than the address. Looked at on SMTP's own port only. */
static void loop_by_name(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "one.example. 300 IN MX 10 mx1.example.", "mx1.example. 300 IN A 127.0.0.1", "mx0.example. 300 IN A 127.0.0.3",
        "two.example. 300 IN MX 5 mx0.example.", "two.example. 300 IN MX 10 mx1.example.", NULL,
    };
    static const struct {
        const char *script, *nexthop;
        enum outcome outcome;
        const char *dsn;
    } cases[] = {
        { "S 220 mx ESMTP\nC EHLO client.example\nS 250-Client.Example hello\nS 250 SIZE\nC QUIT\nS 221 bye\n", "one.example",
          OUTCOME_BOUNCED, "5.4.6" },
        { "S 220 mx ESMTP\nC EHLO client.example\nS 250 client.example\nC QUIT\nS 221 bye\n", "two.example", OUTCOME_DEFERRED, "4.4.6" },
        { "S 220 mx ESMTP\nC EHLO client.example\nS 500 what\nC HELO client.example\nS 250 client.example\nC QUIT\nS 221 bye\n",
          "one.example", OUTCOME_BOUNCED, "5.4.6" },
        { PIPE ENVELOPE ACCEPT QUIT, "one.example", OUTCOME_SENT, "2.0.0" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer *p = peer_start(cases[i].script);
        uint16_t dns_port;
        struct responder *r = responder_start(rows, &dns_port);
        struct rig g;
        char conf[100];
        snprintf(conf, sizeof conf, "inet_protocols = ipv4\ninet_interfaces = 127.0.0.9\nknown_tcp_ports = smtp=%u\n", peer_port(p));
        rig_open(&g, conf);
        g.env.dns = responder_dns(r);
        fake_add_job(g.s, g.c, "smtp", cases[i].nexthop, 1, &mail);
        run(&g);
        peers_are_content(cases[i].dsn, p);
        char loops[80];
        snprintf(loops, sizeof loops, "mail for %s loops back to myself", cases[i].nexthop);
        want(&g, 1, cases[i].outcome, cases[i].outcome == OUTCOME_SENT ? "250 done" : loops);
        assert_string_equal(fake_report_of(g.s, 1, 0)->dsn, cases[i].dsn);
        dns_stop(&g.env.dns);
        responder_stop(&r);
        peer_free(&p);
        rig_close(&g);
    }
}

/* flags= of a transport: headers in front for a single recipient, and mail that was here before is returned. */
static void headers_by_flags(void **state)
{
    (void)state;
    static const struct {
        const char *services, *script, *content, *wire;
        enum outcome outcome;
        bool is_final;
    } cases[] = {
        { "dor unix - - n - - smtp flags=DOR\n", PIPE ENVELOPE ACCEPT QUIT, "x: y\r\n\r\n",
          "Return-Path: <a@s.example>\r\nX-Original-To: r0@d.example\r\nDelivered-To: r0@d.example\r\nx: y\r\n\r\n", OUTCOME_SENT, false },
        { "dor unix - - n - - smtp flags=X\n", PIPE ENVELOPE ACCEPT QUIT, "x: y\r\n\r\n", "x: y\r\n\r\n", OUTCOME_SENT, true },
        { "dor unix - - n - - smtp flags=OR\n", PIPE ENVELOPE ACCEPT QUIT, "Delivered-To: r0@d.example\r\n\r\n",
          "Return-Path: <a@s.example>\r\nX-Original-To: r0@d.example\r\nDelivered-To: r0@d.example\r\n\r\n", OUTCOME_SENT, false },
        { "dor unix - - n - - smtp flags=D\n", NULL, "Delivered-To: R0@d.example\r\n\r\n", "", OUTCOME_BOUNCED, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer *p = cases[i].script ? peer_start(cases[i].script) : NULL;
        struct rig g;
        rig_open(&g, "");
        conf_unref(&g.c);
        g.c = fake_conf("", cases[i].services);
        assert_non_null(g.c);
        char nexthop[60];
        snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u", p ? peer_port(p) : 9);
        struct fake_mail m = mail;
        m.content = cases[i].content;
        fake_add_job(g.s, g.c, "dor", nexthop, 1, &m);
        run(&g);
        want(&g, 1, cases[i].outcome, p ? "250 done" : "mail forwarding loop for r0@d.example");
        assert_int_equal(fake_report_of(g.s, 1, 0)->is_final_delivery, cases[i].is_final);
        if (p) {
            peers_are_content(cases[i].services, p);
            if (!span_eq(peer_content(p), span_cstr(cases[i].wire)))
                fail_msg("%s: \"%.*s\"", cases[i].services, SPAN_ARG(peer_content(p)));
            peer_free(&p);
        }
        rig_close(&g);
    }
}

static void relayhost_mistakes_defer(void **state)
{
    (void)state;
    uint16_t dns_port;
    static const char *const rows[] = { "x.example. 300 IN A 127.0.0.1", NULL };
    struct responder *r = responder_start(rows, &dns_port);
    struct rig g;
    rig_open(&g, "relayhost = none.example\n");
    g.env.dns = responder_dns(r);
    fake_add_job(g.s, g.c, "smtp", "none.example", 1, &mail);
    run(&g);
    want(&g, 1, OUTCOME_DEFERRED, "Host or domain name not found");
    dns_stop(&g.env.dns);
    responder_stop(&r);
    rig_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_next_hop_after_a_soft_failure),
        cmocka_unit_test(a_refusal_ends_the_search),
        cmocka_unit_test(fallback_relay_is_last),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(lmtp_over_a_unix_socket),
        cmocka_unit_test(one_connection_for_many_jobs),
        cmocka_unit_test(reuse_count_limit),
        cmocka_unit_test(dying_connection_is_not_a_failure),
        cmocka_unit_test(reused_connection_refusing_for_now),
        cmocka_unit_test(parked_by_demand_and_found_again),
        cmocka_unit_test(parked_always_or_never),
        cmocka_unit_test(lmtp_mirrors),
        cmocka_unit_test(session_limit),
        cmocka_unit_test(quit_is_waited_for_when_asked),
        cmocka_unit_test(mx_hosts_in_order),
        cmocka_unit_test(relayhost_mistakes_defer),
        cmocka_unit_test(loop_by_name),
        cmocka_unit_test(headers_by_flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Restrictions that ask DNS: unknown domains, DNS lists, access tables for servers, permit_mx_backup, and the waiting itself. */
#include "tests/unit/unit.h"

#include "common/base/mem.h"
#include "tests/unit/dns_responder.h"
#include "tests/unit/policy_fixture.h"

static const char *const zone[] = {
    "ok.test. 60 IN MX 10 mx.ok.test.", "mx.ok.test. 60 IN A 192.0.2.25", "addr.test. 60 IN A 192.0.2.26",
    "six.test. 60 IN AAAA 2001:db8::26", "null.test. 60 IN MX 0 .", "txt.test. 60 IN TXT \"x\"",
    "!servfail ill.test.", "!servfail mx.illmx.test.", "illmx.test. 60 IN MX 10 mx.illmx.test.",
    /* DNS lists */
    "9.2.0.192.bl.test. 60 IN A 127.0.0.2", "9.2.0.192.bl.test. 60 IN TXT \"see $client_name http://bl.test/?192.0.2.9\"",
    "9.2.0.192.four.test. 60 IN A 127.0.1.4", "9.2.0.192.four.test. 60 IN A 127.0.1.20", "!servfail 9.2.0.192.illbl.test.",
    "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test. 60 IN A 127.0.0.3",
    "elsewhere.example.rhs.test. 60 IN A 127.0.0.2", "client.example.net.rhs.test. 60 IN A 127.0.0.2",
    "a.client.test.rhs.test. 60 IN A 127.0.0.2", "9.2.0.192.wl.test. 60 IN A 127.0.0.2", "example.com.rhs.test. 60 IN A 127.0.0.2",
    /* servers */
    "elsewhere.example. 60 IN MX 10 evil.mx.test.", "evil.mx.test. 60 IN A 203.0.113.66",
    "sub.elsewhere.example. 60 IN A 203.0.113.70", "elsewhere.example. 60 IN NS ns.evil.test.", "ns.evil.test. 60 IN A 203.0.113.67",
    "client.example.net. 60 IN A 203.0.113.68",
    /* backup */
    "backup.test. 60 IN MX 10 best.test.", "backup.test. 60 IN MX 20 hub.example.com.", "best.test. 60 IN A 198.51.100.7",
    "addrback.test. 60 IN MX 10 best.test.", "addrback.test. 60 IN MX 20 alias.test.", "alias.test. 60 IN A 203.0.113.5",
    "foreign.test. 60 IN MX 10 best.test.",
    NULL,
};

static const char site[] =
    "mydestination = hub.example.com, example.com, localhost\n"
    "inet_interfaces = 203.0.113.5\n"
    "smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n";

struct kase {
    const char *name, *conf;
    struct rcpt_case c;
    const char *want;
};
#define CLIENT(x) "smtpd_client_restrictions = " x "\n"
#define HELO(x)   "smtpd_helo_restrictions = " x "\n"
#define SENDER(x) "smtpd_sender_restrictions = " x "\n"
#define RCPT(x)   "smtpd_recipient_restrictions = " x "\n"
#define RELAY(x)  "smtpd_relay_restrictions = " x ", reject_unauth_destination\n"

static const struct kase cases[] = {
    /* domains */
    { "MX", SENDER("reject_unknown_sender_domain"), { .sender = "a@ok.test" }, "250" },
    { "address", SENDER("reject_unknown_sender_domain"), { .sender = "a@addr.test" }, "250" },
    { "IPv6 address", SENDER("reject_unknown_address"), { .sender = "a@six.test" }, "250" },
    { "our own domain", SENDER("reject_unknown_sender_domain"), { .sender = "a@example.com" }, "250" },
    { "literal", SENDER("reject_unknown_sender_domain"), { .sender = "a@[192.0.2.1]" }, "250" },
    { "null sender", SENDER("reject_unknown_sender_domain"), { .sender = "" }, "250" },
    { "no such domain", SENDER("reject_unknown_sender_domain"), { .sender = "a@none.test" }, "450 4.1.8 <a@none.test>: Sender address rejected: Domain not found" },
    { "neither MX nor address", SENDER("reject_unknown_sender_domain"), { .sender = "a@txt.test" }, "450 4.1.8 <a@txt.test>: Sender address rejected: Domain not found" },
    { "unknown_address_reject_code", "unknown_address_reject_code = 550\n" SENDER("reject_unknown_sender_domain"), { .sender = "a@none.test" }, "550 5.1.8 " },
    { "null MX of a sender", SENDER("reject_unknown_sender_domain"), { .sender = "a@null.test" }, "550 5.7.27 <a@null.test>: Sender address rejected: Domain null.test does not accept mail (nullMX)" },
    { "null MX of a recipient", "relay_domains = null.test\n" RCPT("reject_unknown_recipient_domain"), { .recipient = "a@null.test" }, "556 5.1.10 <a@null.test>: Recipient address rejected: Domain null.test does not accept mail (nullMX)" },
    { "unknown recipient domain", "relay_domains = none.test\n" RCPT("reject_unknown_recipient_domain"), { .recipient = "a@none.test" }, "450 4.1.2 <a@none.test>: Recipient address rejected: Domain not found" },
    { "no answer", SENDER("reject_unknown_sender_domain"), { .sender = "a@ill.test" }, "450 4.1.8 <a@ill.test>: Sender address rejected: Domain not found" },
    { "no answer, and refused", SENDER("reject_unknown_sender_domain"), { .sender = "a@ill.test", .recipient = "a@b.example" }, "554 5.7.1 <a@b.example>: Relay access denied" },
    { "unknown_address_tempfail_action", "unknown_address_tempfail_action = defer\n" SENDER("reject_unknown_sender_domain"), { .sender = "a@ill.test", .recipient = "a@b.example" }, "450 4.1.8 <a@ill.test>: " },
    { "reject_tempfail_action", "reject_tempfail_action = defer\n" SENDER("reject_unknown_sender_domain"), { .sender = "a@ill.test", .recipient = "a@b.example" }, "450 4.1.8 <a@ill.test>: " },
    { "HELO name", HELO("reject_unknown_helo_hostname"), { .helo = "addr.test" }, "250" },
    { "HELO with MX", HELO("reject_unknown_helo_hostname"), { .helo = "ok.test" }, "250" },
    { "HELO unknown", HELO("reject_unknown_helo_hostname"), { .helo = "none.test" }, "450 4.7.1 <none.test>: Helo command rejected: Host not found" },
    { "unknown_hostname_reject_code", "unknown_hostname_reject_code = 554\n" HELO("reject_unknown_hostname"), { .helo = "none.test" }, "554 5.7.1 <none.test>: Helo command rejected: Host not found" },
    { "HELO no answer", "unknown_helo_hostname_tempfail_action = defer\n" HELO("reject_unknown_helo_hostname"), { .helo = "ill.test", .recipient = "a@b.example" }, "450 4.7.1 <ill.test>: Helo command rejected: Host not found" },
    { "HELO bad literal", HELO("reject_unknown_helo_hostname"), { .helo = "[1.2.3]" }, "501 5.5.2 " },
    /* DNS lists */
    { "listed", CLIENT("reject_rbl_client bl.test"), { 0 }, "554 5.7.1 Service unavailable; Client host [192.0.2.9] blocked using bl.test; see $client_name http://bl.test/?192.0.2.9" },
    { "not listed", CLIENT("reject_rbl_client bl.test"), { .client = "192.0.2.10" }, "250" },
    { "listed IPv6", CLIENT("reject_rbl_client bl.test"), { .client = "2001:db8::7" }, "554 5.7.1 Service unavailable; Client host [2001:db8::7] blocked using bl.test" },
    { "filter", CLIENT("reject_rbl_client bl.test=127.0.0.2"), { 0 }, "554 5.7.1 Service unavailable; Client host [192.0.2.9] blocked using bl.test; " },
    { "filter, other", CLIENT("reject_rbl_client bl.test=127.0.0.3"), { 0 }, "250" },
    { "filter, ranges", CLIENT("reject_rbl_client four.test=127.0.[0..1].[2;10..20]"), { 0 }, "554 5.7.1 " },
    { "filter, ranges, other", CLIENT("reject_rbl_client four.test=127.0.[0;2].[2;10..20]"), { 0 }, "250" },
    { "list that is down", CLIENT("reject_rbl_client illbl.test"), { 0 }, "250" },
    { "maps_rbl_reject_code", "maps_rbl_reject_code = 451\n" CLIENT("reject_rbl_client bl.test"), { 0 }, "451 4.7.1 Service unavailable; " },
    { "default_rbl_reply", "default_rbl_reply = 550 5.9.9 $rbl_class|$rbl_what|$client|$helo_name|$sender_domain|$rbl_domain${rbl_txt?|yes}\n" CLIENT("reject_rbl_client bl.test"), { 0 }, "550 5.9.9 Client host|192.0.2.9|unknown[192.0.2.9]|client.example.net|elsewhere.example|bl.test|yes" },
    { "rbl_reply_maps", "rbl_reply_maps = inline:{{bl.test = 553 go away, $$client_address}}\n" CLIENT("reject_rbl_client bl.test=127.0.0.2"), { 0 }, "553 5.7.1 go away, 192.0.2.9" },
    { "a reply without a code", "default_rbl_reply = go away\n" CLIENT("reject_rbl_client bl.test"), { 0 }, "450 4.7.1 Service unavailable" },
    { "maps_rbl_domains", "maps_rbl_domains = none.test bl.test\n" CLIENT("reject_maps_rbl"), { 0 }, "554 5.7.1 Service unavailable; Client host [192.0.2.9] blocked using bl.test; " },
    { "warn_if_reject", CLIENT("warn_if_reject reject_rbl_client bl.test"), { 0 }, "250" },
    { "sender's domain", SENDER("reject_rhsbl_sender rhs.test"), { 0 }, "554 5.7.1 Service unavailable; Sender address [someone@elsewhere.example] blocked using rhs.test" },
    { "null sender's domain", SENDER("reject_rhsbl_sender rhs.test"), { .sender = "" }, "250" },
    { "recipient's domain", RCPT("reject_rhsbl_recipient rhs.test"), { .recipient = "joe@example.com" }, "554 5.7.1 Service unavailable; Recipient address [joe@example.com] blocked using rhs.test" },
    { "HELO's domain", HELO("reject_rhsbl_helo rhs.test"), { 0 }, "554 5.7.1 Service unavailable; Helo command [client.example.net] blocked using rhs.test" },
    { "client's domain", CLIENT("reject_rhsbl_client rhs.test"), { .client_name = "a.client.test" }, "554 5.7.1 Service unavailable; Client host [a.client.test] blocked using rhs.test" },
    { "client without a name", CLIENT("reject_rhsbl_client rhs.test"), { 0 }, "250" },
    { "client's unverified domain", CLIENT("reject_rhsbl_reverse_client rhs.test"), { .client_name = "a.client.test" }, "554 5.7.1 Service unavailable; Unverified Client host [a.client.test] blocked using rhs.test" },
    { "friend", CLIENT("permit_dnswl_client wl.test, reject"), { 0 }, "250" },
    { "friend is no relay", RELAY("permit_dnswl_client wl.test"), { .recipient = "a@b.example" }, "554 5.7.1 <a@b.example>: Relay access denied" },
    { "no friend", CLIENT("permit_dnswl_client wl.test, reject"), { .client = "192.0.2.10" }, "554 5.7.1 " },
    { "friends' list is down", CLIENT("permit_dnswl_client illbl.test, reject"), { 0 }, "450 4.7.1 <192.0.2.9>: Client host rejected: Service unavailable" },
    { "friend by name", CLIENT("permit_rhswl_client rhs.test, reject"), { .client_name = "a.client.test" }, "250" },
    /* servers */
    { "MX by name", SENDER("check_sender_mx_access inline:{evil.mx.test=REJECT}"), { 0 }, "554 5.7.1 <someone@elsewhere.example>: Sender address rejected: Access denied" },
    { "MX by parent of its name", SENDER("check_sender_mx_access inline:{mx.test=REJECT}"), { 0 }, "554 5.7.1 " },
    { "MX by address", SENDER("check_sender_mx_access inline:{{203.0.113.66=550 bad server}}"), { 0 }, "550 5.7.1 <someone@elsewhere.example>: Sender address rejected: bad server" },
    { "no MX: the address", SENDER("check_sender_mx_access inline:{203.0.113.70=REJECT}"), { .sender = "a@sub.elsewhere.example" }, "554 5.7.1 " },
    { "NS by address", SENDER("check_sender_ns_access inline:{203.0.113.67=REJECT}"), { 0 }, "554 5.7.1 " },
    { "NS of the parent", SENDER("check_sender_ns_access inline:{ns.evil.test=REJECT}"), { .sender = "a@sub.elsewhere.example" }, "554 5.7.1 " },
    { "address", HELO("check_helo_a_access inline:{203.0.113.68=REJECT}"), { 0 }, "554 5.7.1 <client.example.net>: Helo command rejected: Access denied" },
    { "address literal", SENDER("check_sender_mx_access inline:{192.0.2.77=REJECT}"), { .sender = "a@[192.0.2.77]" }, "554 5.7.1 " },
    { "client", CLIENT("check_client_a_access inline:{192.0.2.26=REJECT}"), { .client_name = "addr.test" }, "554 5.7.1 <addr.test[192.0.2.9]>: Client host rejected: Access denied" },
    { "client's unverified name", CLIENT("check_reverse_client_hostname_mx_access inline:{mx.ok.test=REJECT}"), { .client_name = "ok.test" }, "554 5.7.1 <ok.test>: Unverified Client host rejected: Access denied" },
    { "recipient", RCPT("check_recipient_mx_access inline:{mx.ok.test=REJECT}") "relay_domains = ok.test\n", { .recipient = "x@ok.test" }, "554 5.7.1 <x@ok.test>: Recipient address rejected: Access denied" },
    { "OK is not for strangers", SENDER("check_sender_mx_access inline:{evil.mx.test=OK}"), { 0 }, "451 4.3.5 Server configuration error" },
    { "DUNNO ends the search", SENDER("check_sender_mx_access inline:{evil.mx.test=DUNNO, 203.0.113.66=REJECT}"), { 0 }, "250" },
    { "servers unknown", SENDER("check_sender_mx_access static:REJECT"), { .sender = "a@ill.test" }, "250" },
    { "no servers", SENDER("check_sender_mx_access static:REJECT"), { .sender = "a@null.test" }, "250" },
    /* backup */
    { "we are an MX", RELAY("permit_mx_backup"), { .recipient = "a@backup.test" }, "250" },
    { "we are an MX by address", RELAY("permit_mx_backup"), { .recipient = "a@addrback.test" }, "250" },
    { "we are no MX", RELAY("permit_mx_backup"), { .recipient = "a@foreign.test" }, "554 5.7.1 <a@foreign.test>: Relay access denied" },
    { "we are no MX of nothing", RELAY("permit_mx_backup"), { .recipient = "a@none.test" }, "554 5.7.1 " },
    { "MX not known", RELAY("permit_mx_backup"), { .recipient = "a@ill.test" }, "450 4.4.4 <a@ill.test>: Recipient address rejected: Unable to look up mail exchanger information" },
    { "permit_mx_backup_networks", "permit_mx_backup_networks = 198.51.100.0/24\n" RELAY("permit_mx_backup"), { .recipient = "a@backup.test" }, "250" },
    { "other permit_mx_backup_networks", "permit_mx_backup_networks = 198.51.101.0/24\n" RELAY("permit_mx_backup"), { .recipient = "a@backup.test" }, "554 5.7.1 " },
};

static int setup(void **state) { return responder_setup(state, zone); }

static void answers(void **state)
{
    struct responder_state *r = *state;
    unsigned failures = 0;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct kase *k = &cases[i];
        char *text = xasprintf("%s%s", site, k->conf);
        struct fixture *f = fixture_new(text);
        free(text);
        if (f->policy == NULL)
            fail_msg("%s: not accepted: %s", k->name, f->report.count ? f->report.items[0].text : "");
        f->dns = r->d;
        struct rcpt_case c = k->c;
        if (c.recipient == NULL)
            c.recipient = "joe@example.com";
        const char *got = fixture_check(f, &c);
        if (strncmp(got, k->want, strlen(k->want)) != 0) {
            print_error("%s: wanted \"%s\", got \"%s\"\n", k->name, k->want, got);
            failures++;
        }
        fixture_free(&f);
    }
    assert_int_equal(failures, 0);
}

/* What several lists need is asked in one round. */
static void questions_are_asked_together(void **state)
{
    struct responder_state *r = *state;
    char *text = xasprintf("%s" CLIENT("reject_rbl_client one.test, reject_rbl_client two.test, reject_rbl_client three.test")
                           SENDER("reject_unknown_sender_domain, reject_rhsbl_sender rhs2.test"), site);
    struct fixture *f = fixture_new(text);
    free(text);
    f->dns = r->d;
    assert_string_equal(fixture_check(f, &(struct rcpt_case){ .recipient = "joe@example.com", .sender = "a@ok.test" }), "250");
    assert_int_equal(f->waits, 1);
    fixture_free(&f);
}

/* A stranger's domain with more servers than anybody has. */
static void many_servers_are_not_all_asked(void **state)
{
    static const char *const confs[] = { SENDER("check_sender_mx_access inline:{192.0.2.200=REJECT}"),
                                         RELAY("permit_mx_backup") };
    enum { N = 120 };
    const char *rows[N + 1] = { NULL };
    for (int i = 0; i < N; i++)
        rows[i] = xasprintf("many.test. 60 IN MX 10 h%d.many.test.", i);
    assert_int_equal(responder_setup(state, rows), 0);
    struct responder_state *r = *state;
    for (size_t i = 0; i < ARRAY_LEN(confs); i++) {
        char *text = xasprintf("%s%s", site, confs[i]);
        struct fixture *f = fixture_new(text);
        free(text);
        f->dns = r->d;
        const char *got = fixture_check(f, &(struct rcpt_case){ .sender = "a@many.test", .recipient = i == 0 ? "joe@example.com" : "a@many.test" });
        assert_int_equal(strncmp(got, i == 0 ? "250" : "554", 3), 0);
        fixture_free(&f);
    }
    unsigned asked = responder_questions(r->r);
    assert_true(asked >= 100 && asked < 110);
    responder_teardown(state);
    for (int i = 0; i < N; i++)
        free((char *)(uintptr_t)rows[i]);
}

static void a_pause_is_taken_once_and_in_its_place(void **state)
{
    (void)state;
    char *text = xasprintf("%s" CLIENT("check_client_access inline:{192.0.2.1=REJECT}, sleep 3") SENDER("sleep 2s"), site);
    struct fixture *f = fixture_new(text);
    free(text);
    assert_string_equal(fixture_check(f, &(struct rcpt_case){ .recipient = "joe@example.com" }), "250");
    assert_int_equal(f->slept_ms, 5000);
    fixture_check(f, &(struct rcpt_case){ .client = "192.0.2.1", .recipient = "joe@example.com" });
    assert_int_equal(f->slept_ms, 0);
    fixture_free(&f);
}

static void bad_arguments_are_refused_at_load(void **state)
{
    (void)state;
    static const struct {
        const char *conf, *finding;
    } bad[] = {
        { CLIENT("reject_rbl_client"), "\"reject_rbl_client\" needs an argument behind it" },
        { CLIENT("reject_rbl_client bl.test=127.0.0"), "expected an address pattern" },
        { CLIENT("reject_rbl_client bl.test=127.0.0.256"), "expected an address pattern" },
        { CLIENT("reject_rbl_client bl.test=127.0.0.[5..2]"), "expected an address pattern" },
        { CLIENT("reject_rbl_client bl.test=127.0.0.[2"), "expected an address pattern" },
        { CLIENT("reject_rbl_client bl..test"), "expected the domain of a DNS list" },
        { CLIENT("sleep long"), "expected a time" },
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char *text = xasprintf("%s%s", site, bad[i].conf);
        struct fixture *f = fixture_new_master(text, "smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp\n");
        free(text);
        if (f->policy != NULL || fixture_finding(f, bad[i].finding) == NULL)
            fail_msg("%s: accepted, or without \"%s\"", bad[i].conf, bad[i].finding);
        fixture_free(&f);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers, setup, responder_teardown),
        cmocka_unit_test_setup_teardown(questions_are_asked_together, setup, responder_teardown),
        cmocka_unit_test(many_servers_are_not_all_asked),
        cmocka_unit_test(a_pause_is_taken_once_and_in_its_place),
        cmocka_unit_test(bad_arguments_are_refused_at_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

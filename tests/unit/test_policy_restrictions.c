/*
 * The access language: one restriction in one list, and what the server answers. Replies were compared with Postfix 3.7.
 */
#include "tests/unit/unit.h"
#include "tests/unit/policy_fixture.h"

static const char site[] =
    "mydestination = hub.example.com, example.com, localhost\n"
    "relay_domains = relay.example err.example retry.example err2.example\n"
    "virtual_alias_domains = alias.example\n"
    "virtual_alias_maps = inline:{ joe@alias.example=joe@example.com }\n"
    "virtual_mailbox_domains = box.example\n"
    "virtual_mailbox_maps = static:yes\n"
    "transport_maps = inline:{ {err.example=error:5.1.2 Gone fishing}, {retry.example=retry:4.9.9 later}, {err2.example=error:nope} }\n"
    "smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n";

struct kase {
    const char *name, *conf;
    struct rcpt_case c;
    const char *want;
    const char *notes;
};
#define SENDER_ACCESS(x) "smtpd_sender_restrictions = check_sender_access " x "\n"
#define RCPT_ACCESS(x)   "smtpd_recipient_restrictions = check_recipient_access " x "\n"
#define CLIENT(x)        "smtpd_client_restrictions = " x "\n"
#define HELO(x)          "smtpd_helo_restrictions = " x "\n"
#define SENDER(x)        "smtpd_sender_restrictions = " x "\n"
#define RCPT(x)          "smtpd_recipient_restrictions = " x "\n"

/* Owners of sender addresses. */
#define LOGIN(x) "smtpd_sasl_auth_enable = yes\nsmtpd_sender_login_maps = inline:{ joe@own.example=joe, {two@own.example=ann, JOE}, joe=local, @all.example=ann }\n" SENDER(x)

static const struct policy_tls encrypted = { .protocol = { "TLSv1.3", 7 } };
static const struct policy_tls stranger_cert = { .has_cert = true, .cert_name = { "mx.test", 7 }, .fingerprint = { "AA:BB", 5 }, .pubkey_fingerprint = { "CC:DD", 5 } };
static const struct policy_tls trusted_cert = { .has_cert = true, .is_trusted = true, .cert_name = { "mx.test", 7 }, .fingerprint = { "AA:BB", 5 } };

static const struct kase cases[] = {
    { "login: owner", LOGIN("reject_sender_login_mismatch"), { .sasl_user = "joe", .sender = "joe@own.example" }, "250", NULL },
    { "login: one of the owners", LOGIN("reject_sender_login_mismatch"), { .sasl_user = "joe", .sender = "two@own.example" }, "250", NULL },
    { "login: nobody's", LOGIN("reject_sender_login_mismatch"), { .sasl_user = "joe", .sender = "no@own.example" }, "553 5.7.1 <no@own.example>: Sender address rejected: not owned by user joe", NULL },
    { "login: somebody else's domain", LOGIN("reject_authenticated_sender_login_mismatch"), { .sasl_user = "joe", .sender = "x@all.example" }, "553 5.7.1 <x@all.example>: Sender address rejected: not owned by user joe", NULL },
    { "login: local part of ours", LOGIN("reject_sender_login_mismatch"), { .sasl_user = "joe", .sender = "joe@example.com" }, "553 5.7.1 ", NULL },
    { "login: local part of ours, owner", LOGIN("reject_sender_login_mismatch"), { .sasl_user = "local", .sender = "joe@example.com" }, "250", NULL },
    { "login: local part elsewhere", LOGIN("reject_unauthenticated_sender_login_mismatch"), { .sender = "joe@b.example" }, "250", NULL },
    { "login: null sender", LOGIN("reject_sender_login_mismatch"), { .sasl_user = "joe", .sender = "" }, "250", NULL },
    { "login: no tables, user", "smtpd_sasl_auth_enable = yes\n" SENDER("reject_sender_login_mismatch"), { .sasl_user = "joe" }, "553 5.7.1 <someone@elsewhere.example>: Sender address rejected: not owned by user joe", NULL },
    { "login: known, user, nobody's", LOGIN("reject_known_sender_login_mismatch"), { .sasl_user = "joe", .sender = "no@own.example" }, "250", NULL },
    { "login: known, user, other's", LOGIN("reject_known_sender_login_mismatch"), { .sasl_user = "joe", .sender = "x@all.example" }, "553 5.7.1 ", NULL },
    { "login: known, stranger", LOGIN("reject_known_sender_login_mismatch"), { .sender = "x@all.example" }, "553 5.7.1 <x@all.example>: Sender address rejected: not logged in", NULL },
    { "login: stranger", LOGIN("reject_sender_login_mismatch"), { .sender = "joe@own.example" }, "553 5.7.1 <joe@own.example>: Sender address rejected: not logged in", NULL },
    { "login: stranger, for users only", LOGIN("reject_authenticated_sender_login_mismatch"), { .sender = "joe@own.example" }, "250", NULL },
    { "login: user, for strangers only", LOGIN("reject_unauthenticated_sender_login_mismatch"), { .sasl_user = "joe", .sender = "x@all.example" }, "250", NULL },
    { "login: nobody can log in", "smtpd_sender_login_maps = static:x\n" SENDER("reject_sender_login_mismatch"), { 0 }, "250", NULL },
    { "login: table fails", "smtpd_sasl_auth_enable = yes\nsmtpd_sender_login_maps = fail:x\n" SENDER("reject_sender_login_mismatch"), { 0 }, "451 4.3.0 <someone@elsewhere.example>: Temporary lookup failure", NULL },
    { "login: in the recipient list", "smtpd_sasl_auth_enable = yes\nsmtpd_sender_login_maps = static:x\n" RCPT("reject_sender_login_mismatch"), { 0 }, "553 5.7.1 <someone@elsewhere.example>: Sender address rejected: not logged in", NULL },
    { "plaintext, encrypted", RCPT("reject_plaintext_session"), { .tls = &encrypted }, "250", NULL },
    { "certificates: encrypted without", RCPT("permit_tls_all_clientcerts, permit_tls_clientcerts, reject"), { .tls = &encrypted }, "554 5.7.1 ", NULL },
    { "certificates: trusted", RCPT("permit_tls_all_clientcerts, reject"), { .tls = &trusted_cert }, "250", NULL },
    { "certificates: not trusted", RCPT("permit_tls_all_clientcerts, reject"), { .tls = &stranger_cert }, "554 5.7.1 ", NULL },
    { "certificates: listed", "relay_clientcerts = inline:{AA:BB=x}\n" RCPT("permit_tls_clientcerts, reject"), { .tls = &stranger_cert }, "250", NULL },
    { "certificates: key listed", "relay_clientcerts = inline:{CC:DD=x}\n" RCPT("permit_tls_clientcerts, reject"), { .tls = &stranger_cert }, "250", NULL },
    { "certificates: not listed", "relay_clientcerts = inline:{EE=x}\n" RCPT("permit_tls_clientcerts, reject"), { .tls = &stranger_cert }, "554 5.7.1 ", NULL },
    { "certificates: list fails", "relay_clientcerts = fail:x\n" RCPT("permit_tls_clientcerts, reject"), { .tls = &stranger_cert }, "451 4.3.0 <unknown[192.0.2.9]>: Temporary lookup failure", NULL },
    { "certificate table", CLIENT("check_ccert_access inline:{{AA:BB=REJECT go}}"), { .tls = &stranger_cert }, "554 5.7.1 <mx.test>: Client certificate rejected: go", NULL },
    { "certificate table: key", CLIENT("check_ccert_access inline:{{CC:DD=REJECT go}}"), { .tls = &stranger_cert }, "554 5.7.1 ", NULL },
    { "certificate table: order", CLIENT("check_ccert_access { inline:{{CC:DD=550 k}, {AA:BB=551 c}}, { search_order = pubkey_fingerprint, cert_fingerprint } }"), { .tls = &stranger_cert }, "550 5.7.1 <mx.test>: Client certificate rejected: k", NULL },
    { "certificate table: order leaves one out", CLIENT("check_ccert_access { inline:{{AA:BB=551 c}}, { search_order = pubkey_fingerprint } }"), { .tls = &stranger_cert }, "250", NULL },
    { "certificate table: none", CLIENT("check_ccert_access static:REJECT"), { .tls = &encrypted }, "250", NULL },
    { "multi-recipient bounce, first", RCPT("reject_multi_recipient_bounce"), { .sender = "" }, "250", NULL },
    { "multi-recipient bounce", RCPT("reject_multi_recipient_bounce"), { .sender = "", .rcpt_count = 1 }, "550 5.5.3 <joe@example.com>: Recipient address rejected: Multi-recipient bounce", NULL },
    { "multi-recipient bounce, code", "multi_recipient_bounce_reject_code = 551\n" RCPT("reject_multi_recipient_bounce"), { .sender = "", .rcpt_count = 1 }, "551 5.5.3 ", NULL },
    { "multi-recipient bounce, no bounce", RCPT("reject_multi_recipient_bounce"), { .rcpt_count = 5 }, "250", NULL },
    { "multi-recipient bounce, data", "smtpd_data_restrictions = reject_multi_recipient_bounce\n", { .sender = "", .rcpt_count = 2, .stage = STAGE_DATA }, "550 5.5.3 <DATA>: Data command rejected: Multi-recipient bounce", NULL },
    { "multi-recipient bounce, data for one", "smtpd_data_restrictions = reject_multi_recipient_bounce\n", { .sender = "", .rcpt_count = 1, .stage = STAGE_DATA }, "250", NULL },
    { "naked address", CLIENT("permit_naked_ip_address, reject"), { .helo = "1.2.3.4" }, "250", NULL },
    { "naked address, bad", CLIENT("permit_naked_ip_address, reject"), { .helo = "1.2.3" }, "501 5.5.2 <1.2.3>: Helo command rejected: invalid ip address", NULL },
    { "naked address, a name", CLIENT("permit_naked_ip_address, reject"), { 0 }, "554 5.7.1 <unknown[", NULL },
    { "forward name", CLIENT("reject_unknown_forward_client_hostname"), { .reverse_name = "a.example" }, "450 4.7.25 Client host rejected: cannot verify your hostname, [192.0.2.9]", NULL },
    { "forward name, no name at all", CLIENT("reject_unknown_forward_client_hostname"), { 0 }, "250", NULL },
    { "permit is logged", "smtpd_log_access_permit_actions = static:all\n" CLIENT("permit_inet_interfaces") HELO("check_helo_access static:OK") SENDER("permit") RCPT("permit_auth_destination"), { .client = "203.0.113.5" }, "250",
      "permit: action=permit_inet_interfaces for Client host=unknown[203.0.113.5] \npermit: action=OK for Helo command=client.example.net from static:OK\n"
      "permit: action=permit for Sender address=someone@elsewhere.example \npermit: action=permit_auth_destination for Recipient address=joe@example.com \n" },
    { "permit is logged, one of them", "smtpd_log_access_permit_actions = permit\n" HELO("check_helo_access static:OK") SENDER("permit"), { 0 }, "250", "permit: action=permit for Sender address=someone@elsewhere.example \n" },
    { "nothing", "", { 0 }, "250", NULL },
    { "client", CLIENT("reject"), { 0 }, "554 5.7.1 <unknown[192.0.2.9]>: Client host rejected: Access denied", NULL },
    { "helo", HELO("reject"), { 0 }, "554 5.7.1 <client.example.net>: Helo command rejected: Access denied", NULL },
    { "sender", SENDER("reject"), { 0 }, "554 5.7.1 <someone@elsewhere.example>: Sender address rejected: Access denied", NULL },
    { "rcpt defer", RCPT("defer"), { 0 }, "450 4.3.2 <joe@example.com>: Recipient address rejected: Try again later", NULL },
    { "permit ends its own list only", CLIENT("permit, reject") SENDER("reject"), { 0 }, "554 5.7.1 <someone@", NULL },
    { "reject_code", "reject_code = 550\n" RCPT("reject"), { 0 }, "550 5.7.1 ", NULL },
    { "upper case", RCPT("REJECT"), { 0 }, "554 5.7.1 ", NULL },
    { "defer_if_permit", CLIENT("defer_if_permit"), { 0 }, "450 4.7.0 <unknown[192.0.2.9]>: Client host rejected: defer_if_permit requested", NULL },
    { "defer_if_permit loses to a rejection", CLIENT("defer_if_permit"), { .recipient = "a@b.example" }, "554 5.7.1 <a@b.example>: Relay access denied", NULL },
    { "defer_if_permit before unknown user", CLIENT("defer_if_permit") "virtual_mailbox_maps = inline:{a=b}\n", { .recipient = "x@box.example" }, "450 4.7.0 ", NULL },
    { "both at once: the first one counts", CLIENT("defer_if_permit") RCPT("defer_if_reject, reject"), { 0 }, "450 4.7.0 <unknown[192.0.2.9]>: Client host rejected: defer_if_permit requested", NULL },
    { "table: digits alone are OK", RCPT_ACCESS("static:450, reject"), { 0 }, "250", NULL },
    { "fqdn helo, bad literal", HELO("reject_non_fqdn_helo_hostname"), { .helo = "[::1]" }, "501 5.5.2 <[::1]>: Helo command rejected: invalid ip address", NULL },
    { "naked address of IPv6", CLIENT("permit_naked_ip_address, reject"), { .helo = "1::2" }, "501 5.5.2 ", NULL },
    { "fqdn sender, completed since", SENDER("reject_non_fqdn_sender"), { .sender = "foo@hub.example.com", .sender_given = "foo" }, "504 5.5.2 <foo>: ", NULL },
    { "completed sender in a table", SENDER_ACCESS("inline:{hub.example.com=REJECT}"), { .sender = "foo@hub.example.com", .sender_given = "foo" }, "554 5.7.1 <foo>: Sender address rejected: Access denied", NULL },
    { "warn_if_reject before nothing", CLIENT("warn_if_reject"), { 0 }, "250", NULL },
    { "defer_if_reject", CLIENT("defer_if_reject, reject"), { 0 }, "450 4.7.0 <unknown[192.0.2.9]>: Client host rejected: defer_if_reject requested", NULL },
    { "defer_if_reject is for its stage", CLIENT("defer_if_reject"), { .recipient = "a@b.example" }, "554 5.7.1 ", NULL },
    { "warn_if_reject", CLIENT("warn_if_reject reject, permit"), { 0 }, "250", "reject_warning: <unknown[192.0.2.9]>: Client host rejected: Access denied\n" },
    { "warn_if_reject is for one", CLIENT("warn_if_reject reject, defer"), { 0 }, "450 4.3.2 ", "reject_warning: <unknown[192.0.2.9]>: Client host rejected: Access denied\n" },
    { "fqdn helo", HELO("reject_non_fqdn_helo_hostname"), { .helo = "foo" }, "504 5.5.2 <foo>: Helo command rejected: need fully-qualified hostname", NULL },
    { "fqdn helo address", HELO("reject_non_fqdn_hostname"), { .helo = "1.2.3.4" }, "504 5.5.2 <1.2.3.4>: ", NULL },
    { "fqdn helo literal", HELO("reject_non_fqdn_helo_hostname"), { .helo = "[1.2.3.4]" }, "250", NULL },
    { "invalid helo", HELO("reject_invalid_helo_hostname"), { .helo = "foo..bar" }, "501 5.5.2 <foo..bar>: Helo command rejected: Invalid name", NULL },
    { "invalid helo address", HELO("reject_invalid_hostname"), { .helo = "1.2.3.4" }, "250", NULL },
    { "invalid helo literal", HELO("reject_invalid_helo_hostname"), { .helo = "[1.2.3]" }, "501 5.5.2 <[1.2.3]>: Helo command rejected: invalid ip address", NULL },
    { "fqdn sender", SENDER("reject_non_fqdn_sender"), { .sender = "foo" }, "504 5.5.2 <foo>: Sender address rejected: need fully-qualified address", NULL },
    { "fqdn sender, no dot", SENDER("reject_non_fqdn_sender"), { .sender = "foo@bar" }, "504 5.5.2 <foo@bar>: ", NULL },
    { "fqdn sender, null", SENDER("reject_non_fqdn_sender"), { .sender = "" }, "250", NULL },
    { "fqdn recipient", RCPT("reject_non_fqdn_recipient"), { .recipient = "foo@localhost" }, "504 5.5.2 <foo@localhost>: Recipient address rejected: need fully-qualified address", NULL },
    { "fqdn recipient, postmaster", RCPT("reject_non_fqdn_recipient"), { .recipient = "postmaster" }, "250", NULL },
    { "fqdn recipient, bare", RCPT("reject_non_fqdn_recipient"), { .recipient = "joe" }, "504 5.5.2 <joe>: ", NULL },
    { "client table: network prefix", CLIENT("check_client_access inline:{192.0.2=REJECT}"), { 0 }, "554 5.7.1 <unknown[192.0.2.9]>: Client host rejected: Access denied", NULL },
    { "client table: IPv6 prefix", CLIENT("check_client_access inline:{2001:db8=REJECT}"), { .client = "2001:db8::7" }, "554 5.7.1 ", NULL },
    { "client table: parent domain of a name", CLIENT("check_client_access inline:{example.net=REJECT}"), { .client_name = "a.b.example.net" }, "554 5.7.1 ", NULL },
    { "client table: status", CLIENT("check_client_access inline:{{192.0.2.9=550 5.1.1 no}}"), { 0 }, "550 5.0.0 <unknown[192.0.2.9]>: Client host rejected: no", NULL },
    { "default table form", CLIENT("inline:{192.0.2=REJECT}"), { 0 }, "554 5.7.1 <unknown[192.0.2.9]>: ", NULL },
    { "helo table", HELO("check_helo_access inline:{{example.net=REJECT go}}"), { 0 }, "554 5.7.1 <client.example.net>: Helo command rejected: go", NULL },
    { "sender table: domain", SENDER_ACCESS("inline:{elsewhere.example=REJECT}"), { 0 }, "554 5.7.1 <someone@elsewhere.example>: Sender address rejected: Access denied", NULL },
    { "sender table: user@", SENDER_ACCESS("inline:{someone@=REJECT}"), { 0 }, "554 5.7.1 ", NULL },
    { "sender table: DEFER", SENDER_ACCESS("static:DEFER"), { 0 }, "450 4.7.1 <someone@elsewhere.example>: Sender address rejected: Access denied", NULL },
    { "sender table: DEFER_IF_PERMIT", SENDER_ACCESS("static:DEFER_IF_PERMIT"), { 0 }, "450 4.7.1 <someone@elsewhere.example>: Sender address rejected: Service unavailable", NULL },
    { "sender table: DEFER_IF_PERMIT text", SENDER_ACCESS("static:{DEFER_IF_PERMIT 4.7.9 x y}"), { 0 }, "450 4.7.9 <someone@elsewhere.example>: Sender address rejected: x y", NULL },
    { "sender table: null key", SENDER_ACCESS("inline:{{<>=REJECT null}}"), { .sender = "" }, "554 5.7.1 <>: Sender address rejected: null", NULL },
    { "sender 4.1.1", SENDER_ACCESS("static:{450 4.1.1 no}"), { 0 }, "450 4.1.7 ", NULL },
    { "sender 5.1.2", SENDER_ACCESS("static:{550 5.1.2 no}"), { 0 }, "550 5.1.8 ", NULL },
    { "sender 5.1.5", SENDER_ACCESS("static:{550 5.1.5 no}"), { 0 }, "550 5.1.0 ", NULL },
    { "recipient 5.1.7", RCPT_ACCESS("static:{550 5.1.7 no}"), { 0 }, "550 5.1.3 ", NULL },
    { "recipient 5.1.8", RCPT_ACCESS("static:{550 5.1.8 no}"), { 0 }, "550 5.1.2 ", NULL },
    { "recipient class follows code", RCPT_ACCESS("static:{450 5.2.1 no}"), { 0 }, "450 4.2.1 <joe@example.com>: Recipient address rejected: no", NULL },
    { "helo 5.1.2", HELO("check_helo_access static:{550 5.1.2 no}"), { 0 }, "550 5.0.0 ", NULL },
    { "recipient table", RCPT_ACCESS("inline:{{example.com=554 no way}}"), { 0 }, "554 5.7.1 <joe@example.com>: Recipient address rejected: no way", NULL },
    { "recipient table: extension", "recipient_delimiter = +\n" RCPT_ACCESS("inline:{joe@example.com=REJECT}"), { .recipient = "joe+x@example.com" }, "554 5.7.1 ", NULL },
    { "table: OK", RCPT_ACCESS("static:OK, reject"), { 0 }, "250", NULL },
    { "table: digits", RCPT_ACCESS("static:1234567, reject"), { 0 }, "250", NULL },
    { "table: DUNNO", RCPT_ACCESS("static:dunno, reject"), { 0 }, "554 5.7.1 ", NULL },
    { "table: WARN", RCPT_ACCESS("static:{WARN watch it}"), { 0 }, "250", "warn: watch it\n" },
    { "table: disconnect", RCPT_ACCESS("static:{521 bye}"), { 0 }, "521 5.7.1 <joe@example.com>: Recipient address rejected: bye", NULL },
    { "table: nonsense", RCPT_ACCESS("static:bogus"), { 0 }, "451 4.3.5 Server configuration error", NULL },
    { "table: fails", RCPT_ACCESS("fail:x"), { 0 }, "451 4.3.5 <joe@example.com>: Recipient address rejected: Server configuration error", NULL },
    { "table: a list", SENDER_ACCESS("static:{permit_mynetworks reject}"), { 0 }, "554 5.7.1 <someone@", NULL },
    { "table: a class", "smtpd_restriction_classes = foo\nfoo = permit_mynetworks, defer\n" SENDER_ACCESS("static:foo"), { 0 }, "450 4.3.2 <someone@", NULL },
    { "a class", "smtpd_restriction_classes = foo\nfoo = reject\n" SENDER("foo"), { 0 }, "554 5.7.1 <someone@elsewhere.example>: Sender address rejected: Access denied", NULL },
    { "sasl table, no login", SENDER("check_sasl_access static:reject"), { 0 }, "250", NULL },
    { "sasl table", SENDER("check_sasl_access inline:{joe=REJECT}"), { .sasl_user = "joe" }, "554 5.7.1 <joe>: SASL login name rejected: Access denied", NULL },
    { "plaintext", RCPT("reject_plaintext_session"), { 0 }, "450 4.7.1 Session encryption is required", NULL },
    { "unknown client", CLIENT("reject_unknown_client"), { 0 }, "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.9]", NULL },
    { "unknown reverse name", CLIENT("reject_unknown_reverse_client_hostname"), { 0 }, "450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.9]", NULL },
    { "known client", CLIENT("reject_unknown_client_hostname"), { .client_name = "a.example" }, "250", NULL },
    { "permit_inet_interfaces", RCPT("permit_inet_interfaces, reject"), { .client = "203.0.113.5" }, "250", NULL },
    { "client certificates", RCPT("permit_tls_all_clientcerts, permit_tls_clientcerts, reject"), { 0 }, "554 5.7.1 ", NULL },
    { "unlisted mailbox", "virtual_mailbox_maps = inline:{a=b}\n", { .recipient = "x@box.example" }, "550 5.1.1 <x@box.example>: Recipient address rejected: User unknown in virtual mailbox table", NULL },
    { "unlisted relay", "relay_recipient_maps = inline:{a=b}\n", { .recipient = "x@relay.example" }, "550 5.1.1 <x@relay.example>: Recipient address rejected: User unknown in relay recipient table", NULL },
    { "unlisted alias", "", { .recipient = "x@alias.example" }, "550 5.1.1 <x@alias.example>: Recipient address rejected: User unknown in virtual alias table", NULL },
    { "unlisted local", "local_recipient_maps = inline:{joe=b}\n", { .recipient = "x@example.com" }, "550 5.1.1 <x@example.com>: Recipient address rejected: User unknown in local recipient table", NULL },
    { "listed local", "local_recipient_maps = inline:{joe=b}\n", { .recipient = "Joe@Example.com" }, "250", NULL },
    { "unlisted postmaster", "local_recipient_maps = inline:{joe=b}\n", { .recipient = "postmaster@example.com" }, "250", NULL },
    { "unlisted code", "unknown_local_recipient_reject_code = 450\nlocal_recipient_maps = inline:{joe=b}\n", { .recipient = "x@example.com" }, "450 4.1.1 ", NULL },
    { "unlisted, table not shown", "show_user_unknown_table_name = no\nlocal_recipient_maps = inline:{joe=b}\n", { .recipient = "x@example.com" }, "550 5.1.1 <x@example.com>: Recipient address rejected: User unknown", NULL },
    { "unlisted, table fails", "local_recipient_maps = fail:x\n", { .recipient = "x@example.com" }, "451 4.3.0 <x@example.com>: Temporary lookup failure", NULL },
    { "unlisted switched off", "smtpd_reject_unlisted_recipient = no\nlocal_recipient_maps = inline:{joe=b}\n", { .recipient = "x@example.com" }, "250", NULL },
    { "unlisted asked for", "smtpd_reject_unlisted_recipient = no\nlocal_recipient_maps = inline:{joe=b}\n" RCPT("reject_unlisted_recipient"), { .recipient = "x@example.com" }, "550 5.1.1 ", NULL },
    { "unlisted for our own clients too", "local_recipient_maps = inline:{joe=b}\n", { .client = "127.0.0.1", .recipient = "x@example.com" }, "550 5.1.1 ", NULL },
    { "unlisted sender", "smtpd_reject_unlisted_sender = yes\nvirtual_mailbox_maps = inline:{a=b}\n", { .sender = "x@box.example" }, "550 5.1.0 <x@box.example>: Sender address rejected: User unknown in virtual mailbox table", NULL },
    { "unlisted sender, alias", "smtpd_reject_unlisted_sender = yes\n", { .sender = "x@alias.example" }, "550 5.1.7 <x@alias.example>: Sender address rejected: User unknown in virtual alias table", NULL },
    { "transport error", "", { .recipient = "x@err.example" }, "550 5.1.2 <x@err.example>: Recipient address rejected: Gone fishing", NULL },
    { "transport error without status", "", { .recipient = "x@err2.example" }, "550 5.1.1 <x@err2.example>: Recipient address rejected: nope", NULL },
    { "transport retry", "", { .recipient = "x@retry.example" }, "450 4.9.9 <x@retry.example>: Recipient address rejected: later", NULL },
    { "client before a failing class table", "virtual_alias_domains = fail:x\n" CLIENT("reject"), { .recipient = "x@b.example" }, "554 5.7.1 <unknown[", NULL },
    { "failing class table", "virtual_alias_domains = fail:x\n", { .recipient = "x@b.example" }, "451 4.3.0 <x@b.example>: Temporary lookup failure", NULL },
    { "recipient list first", "smtpd_relay_before_recipient_restrictions = no\n" RCPT("reject"), { .recipient = "a@b.example" }, "554 5.7.1 <a@b.example>: Recipient address rejected: Access denied", NULL },
    { "data", "smtpd_data_restrictions = reject\n", { .stage = STAGE_DATA }, "554 5.7.1 <DATA>: Data command rejected: Access denied", NULL },
    { "end of data", "smtpd_end_of_data_restrictions = reject\n", { .stage = STAGE_END_OF_DATA }, "554 5.7.1 <END-OF-MESSAGE>: End-of-data rejected: Access denied", NULL },
    { "etrn", "smtpd_etrn_restrictions = reject\n", { .stage = STAGE_ETRN, .recipient = "a.example" }, "554 5.7.1 <a.example>: Etrn command rejected: Access denied", NULL },
    { "delayed client", CLIENT("reject"), { .stage = STAGE_MAIL }, "250", NULL },
    { "sender at its own stage", "smtpd_delay_reject = no\n" SENDER("reject"), { .stage = STAGE_MAIL }, "554 5.7.1 <someone@", NULL },
    { "helo at its own stage", "smtpd_delay_reject = no\n" HELO("reject"), { .stage = STAGE_HELO }, "554 5.7.1 <client.example.net>: ", NULL },
    { "not again at RCPT", "smtpd_delay_reject = no\n" SENDER("reject"), { .recipient = "joe@example.com" }, "250", NULL },
    /* reply codes of one's own */
    { "code of REJECT", "access_map_reject_code = 571\n" SENDER_ACCESS("static:REJECT"), { 0 }, "571 5.7.1 ", NULL },
    { "code of DEFER", "access_map_defer_code = 471\n" SENDER_ACCESS("static:DEFER"), { 0 }, "471 4.7.1 ", NULL },
    { "code of defer", "defer_code = 472\n" RCPT("defer"), { 0 }, "472 4.3.2 ", NULL },
    { "code of an invalid helo", "invalid_hostname_reject_code = 573\n" HELO("reject_invalid_helo_hostname"), { .helo = "foo..bar" }, "573 5.5.2 ", NULL },
    { "code of a bare sender", "non_fqdn_reject_code = 574\n" SENDER("reject_non_fqdn_sender"), { .sender = "foo" }, "574 5.5.2 ", NULL },
    { "code of plain text", "plaintext_reject_code = 575\n" RCPT("reject_plaintext_session"), { 0 }, "575 5.7.1 ", NULL },
    { "code of a nameless client", "unknown_client_reject_code = 576\n" CLIENT("reject_unknown_client_hostname"), { 0 }, "576 5.7.25 ", NULL },
    { "code of relaying refused", "relay_domains_reject_code = 577\n", { .recipient = "a@b.example" }, "577 5.7.1 ", NULL },
    { "key of the null sender", "smtpd_null_access_lookup_key = nobody\n" SENDER_ACCESS("inline:{{<>=REJECT a},{nobody=REJECT b}}"), { .sender = "" }, "554 5.7.1 <>: Sender address rejected: b", NULL },
    { "recipients not checked here", "receive_override_options = no_unknown_recipient_checks\nlocal_recipient_maps = inline:{joe=b}\n", { .recipient = "x@example.com" }, "250", NULL },
    { "VRFY of somebody else's", "", { .stage = STAGE_VRFY, .recipient = "a@b.example" }, "554 5.7.1 ", NULL },
    { "VRFY", "", { .stage = STAGE_VRFY, .recipient = "joe@example.com" }, "250", NULL },
};

static void run_case(const struct kase *k)
{
    char text[4096];
    snprintf(text, sizeof text, "%s%s", site, k->conf);
    struct fixture *f = fixture_new(text);
    struct rcpt_case c = k->c;
    if (c.recipient == NULL && c.stage == STAGE_CONNECT)
        c.recipient = "joe@example.com";
    const char *got = fixture_check(f, &c);
    const char *notes = fixture_notes(f);
    bool is_prefix = strncmp(got, k->want, strlen(k->want)) == 0;
    size_t n = strlen(k->want);
    bool may_go_on = k->want[n - 1] == ' ' || k->want[n - 1] == '@' || k->want[n - 1] == '[';
    if (!is_prefix || (!may_go_on && strlen(got) != n))
        fail_msg("%s: got \"%s\", expected \"%s\"", k->name, got, k->want);
    if (strcmp(notes, k->notes ? k->notes : "") != 0)
        fail_msg("%s: notes \"%s\"", k->name, notes);
    fixture_free(&f);
}

static void test_restrictions(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        run_case(&cases[i]);
}

/* Without smtpd_delay_reject a defer_if_permit of MAIL FROM is answered at RCPT TO. */
static void test_postponed_to_rcpt(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("smtpd_delay_reject = no\nsmtpd_sender_restrictions = defer_if_permit\n"
                                    "smtpd_helo_restrictions = reject_invalid_helo_hostname\n");
    struct policy_carry carry = { 0 };
    struct rcpt_case mail = { .stage = STAGE_MAIL, .carry = &carry };
    struct rcpt_case rcpt = { .recipient = "joe@hub.example.com", .carry = &carry };
    assert_string_equal(fixture_check(f, &mail), "250");
    assert_string_equal(fixture_check(f, &rcpt),
                        "450 4.7.0 <someone@elsewhere.example>: Sender address rejected: defer_if_permit requested");
    fixture_free(&f);
}

/* -o values of one listener do not touch the other. */
static void test_listeners_differ(void **state)
{
    (void)state;
    struct fixture *f = fixture_new_master("",
        "smtp inet n - n - - smtpd\n"
        "submission inet n - n - - smtpd\n"
        "  -o { smtpd_client_restrictions = permit_sasl_authenticated, reject } -o mynetworks=\n"
        "  -o local_recipient_maps=inline:{only=x}\n");
    assert_non_null(f->policy);
    struct rcpt_case c = { .recipient = "joe@hub.example.com", .listener = conf_service(f->conf, 1) };
    assert_true(strncmp(fixture_check(f, &c), "554 5.7.1 <unknown", 18) == 0);
    c.sasl_user = "joe";
    assert_true(strncmp(fixture_check(f, &c), "550 5.1.1 ", 10) == 0);
    c.listener = conf_service(f->conf, 0);
    assert_string_equal(fixture_check(f, &c), "250");
    fixture_free(&f);
}

static void test_findings(void **state)
{
    (void)state;
    static const struct {
        const char *conf, *text;
        enum conf_severity severity;
    } rows[] = {
        { "smtpd_client_restrictions = permit_naked_ip_address\n", "\"permit_naked_ip_address\" lets in whoever claims an address", CONF_WARNING },
        { "smtpd_client_restrictions = check_ccert_access { static:x, { search_order = subject } }\n", "expected { search_order", CONF_ERROR },
        { "smtpd_client_restrictions = check_ccert_access { static:x, { order = cert_fingerprint } }\n", "expected { search_order", CONF_ERROR },
        { "smtpd_client_restrictions = check_ccert_access {}\n", "needs a type:table", CONF_ERROR },
        { "smtpd_client_restrictions = permit_mynetwork\n", "permit_mynetwork", CONF_ERROR },
        { "smtpd_client_restrictions = check_client_access\n", "check_client_access", CONF_ERROR },
        { "smtpd_client_restrictions = check_client_access hash:/nonexistent\n", "No such file", CONF_WARNING },
        { "smtpd_client_restrictions = check_client_access hsah:/etc/x\n", "unknown table type", CONF_ERROR },
        { "mynetworks = 10.0.0.1/8\n", "10.0.0.1/8", CONF_ERROR },
        { "smtpd_restriction_classes = a b\na = b\nb = a\n", "contains itself", CONF_ERROR },
        { "default_transport = nosuch:\n", "default_transport", CONF_WARNING },
        { "mydestination = example.com\n", "mailbox_transport", CONF_WARNING },
        { "mydestination = /nonexistent/domains\n", "/nonexistent/domains", CONF_WARNING },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fixture *f = fixture_new_master(rows[i].conf, "smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp\nlocal unix - n n - - local\n");
        const struct conf_finding *found = fixture_finding(f, rows[i].text);
        if (found == NULL || found->severity != rows[i].severity || (f->policy == NULL) != (rows[i].severity == CONF_ERROR))
            fail_msg("%s: finding %s", rows[i].conf, found ? found->text : "none");
        fixture_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restrictions),
        cmocka_unit_test(test_postponed_to_rcpt),
        cmocka_unit_test(test_listeners_differ),
        cmocka_unit_test(test_findings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

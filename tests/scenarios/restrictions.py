#!/usr/bin/env python3
"""Restrictions over the whole daemon: recorded dialogues, logins and certificates, filtered DNS answers, what is logged.

restrictions.json holds dialogues with Postfix 3.7 under the same main.cf: each command with the reply it got.
"""
import json
import os
import pathlib
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from dnsstub import DnsStub
from hub import Hub
from sink import Sink

RECORDED = json.loads((pathlib.Path(__file__).parent / "restrictions.json").read_text())
MAIL = b"Subject: s\r\n\r\nhi\r\n"
RCPT = "RCPT TO:<user@example.com>"


def say(c, command):
    if command != "MSG":
        return str(c.cmd(command))
    r = c.cmd("DATA")
    if r.code != 354:
        return str(r)
    c.raw(MAIL + b".\r\n")
    return re.sub("queued as.*", "queued", str(c.reply()))


def test_dialogues_as_recorded():
    wrong = []
    for one in RECORDED["cases"]:
        with Hub({**RECORDED["main"], **one["main"]}) as hub, hub.client(greet=False) as c:
            c.reply()
            for command, want in one["dialogue"]:
                try:
                    got = say(c, command)
                except (EOFError, ConnectionError):
                    got = "EOF"
                if want in ("250 EHLO", "220") and got.startswith(want[:3]):
                    continue
                if got != want:
                    wrong.append(f"{one['name']}: {command}: {got}, recorded was {want}")
                if got == "EOF":
                    break
    assert not wrong, "\n" + "\n".join(wrong)


def xclient(hub, **attrs):
    c = hub.client()
    c.cmd("XCLIENT " + " ".join(f"{k}={v}" for k, v in attrs.items()), 220)
    c.cmd("EHLO c.example.org", 250)
    return c


TRUSTED = {"smtpd_authorized_xclient_hosts": "127.0.0.1"}


def ask(c, sender, rcpt=RCPT):
    c.cmd("RSET", 250)
    c.cmd(f"MAIL FROM:<{sender}>", 250)
    return c.cmd(rcpt)


def test_sender_login():
    conf = {**TRUSTED, "smtpd_sasl_auth_enable": "yes", "smtpd_sender_restrictions": "reject_sender_login_mismatch",
            "smtpd_sender_login_maps": "inline:{ joe@own.example=joe, @all.example=ann }"}
    with Hub(conf) as hub:
        with xclient(hub, LOGIN="joe") as c:
            assert ask(c, "joe@own.example").code == 250
            r = ask(c, "x@all.example")
            assert str(r) == "553 5.7.1 <x@all.example>: Sender address rejected: not owned by user joe", r
        with hub.client() as c:
            r = ask(c, "joe@own.example")
            assert str(r) == "553 5.7.1 <joe@own.example>: Sender address rejected: not logged in", r
            assert ask(c, "a@b.example").code == 250


def test_multi_recipient_bounce():
    with Hub({"smtpd_data_restrictions": "reject_multi_recipient_bounce", "multi_recipient_bounce_reject_code": "551"}) as hub, hub.client() as c:
        c.envelope("", ["user@example.com", "other@example.com"])
        assert str(c.cmd("DATA")) == "551 5.5.3 <DATA>: Data command rejected: Multi-recipient bounce"
        c.cmd("RSET", 250)
        c.send_mail("", ["user@example.com"], MAIL)


def test_certificates_without_tls():
    conf = {"relay_clientcerts": "static:x", "smtpd_client_restrictions": "check_ccert_access static:REJECT, permit_tls_clientcerts, "
            "permit_tls_all_clientcerts, reject_plaintext_session"}
    with Hub(conf) as hub, hub.client() as c:
        assert str(ask(c, "a@b.example")) == "450 4.7.1 Session encryption is required"
        hub.wait_log(r'warning: check_ccert_access is requested, but "smtpd_tls_ask_ccert = no"')


def test_permissions_are_logged():
    conf = {"smtpd_log_access_permit_actions": "permit_auth_destination, OK", "smtpd_helo_restrictions": "check_helo_access static:OK",
            "smtpd_recipient_restrictions": "permit_auth_destination", "smtpd_client_restrictions": "permit_mynetworks"}
    with Hub(conf) as hub, hub.client() as c:
        ask(c, "a@b.example")
        hub.wait_log(r"NOQUEUE: permit: RCPT from unknown\[127\.0\.0\.1\]: action=permit_auth_destination for Recipient address=user@example\.com ; "
                     r"from=<a@b\.example> to=<user@example\.com> proto=ESMTP helo=<client\.example\.org>")
        hub.wait_log(r"action=OK for Helo command=client\.example\.org from static:OK; from=")
        assert "permit_mynetworks" not in hub.log()


def hub_with_dns(stub, **main):
    return Hub({"disable_dns_lookups": "no", "dns_resolver_addresses": stub.address, "mynetworks": "192.0.2.0/24",
                "smtpd_relay_restrictions": "reject_unauth_destination", **main})


def test_expansion_filter():
    zone = {"1.0.0.127.bl.test": {"A": ["127.0.0.2"], "TXT": ["a{b}c"]}}
    with DnsStub(zone) as stub:
        for allowed, shown in ((None, "a{b}c"), ("abcdefghijklmnopqrstuvwxyz0123456789.\\173", "a{b_c")):
            extra = {"smtpd_expansion_filter": allowed} if allowed else {}
            with hub_with_dns(stub, smtpd_client_restrictions="reject_rbl_client bl.test", **extra) as hub, hub.client() as c:
                r = ask(c, "a@b.example")
                assert r.text.endswith("blocked using bl.test; " + shown), r


def test_server_ignores_dns_records():
    zone = {"1.0.0.127.bl.test": {"A": ["127.0.0.2"]}, "1.0.0.127.bm.test": {"A": ["127.0.0.3"], "TXT": ["m"]}, "good.test": {"A": ["127.0.0.1"]},
            "bad.test": {"A": ["192.0.2.66"]}}
    drop = "regexp:{ {/ IN A 192\\.0\\.2\\.66$$/ IGNORE} {/^1\\.0\\.0\\.127\\.bl\\.test\\. [0-9]+ IN A 127\\.0\\.0\\.2$$/ ignore} }"
    with DnsStub(zone) as stub, hub_with_dns(stub, smtpd_client_restrictions="reject_rbl_client bl.test, reject_rbl_client bm.test=127.0.0.9",
                                             smtpd_sender_restrictions="reject_unknown_sender_domain", smtpd_dns_reply_filter=drop) as hub:
        with hub.client() as c:
            assert ask(c, "a@good.test").code == 250
            r = ask(c, "a@bad.test")
            assert str(r) == "450 4.1.8 <a@bad.test>: Sender address rejected: Domain not found", r
        hub.wait_log(r"ignoring DNS RR: bad\.test\. \d+ IN A 192\.0\.2\.66")
        hub.main["smtpd_dns_reply_filter"] = "fail:x"
        hub.write_conf()
        hub.reload()
        with hub.client() as c:
            r = ask(c, "a@good.test")
            assert r.code == 450, r


def test_client_ignores_dns_records():
    with Sink() as sink:
        zone = {"r.test": {"MX": [(5, "no.r.test"), (10, "yes.r.test")]}, "no.r.test": {"A": ["127.0.0.99"]}, "yes.r.test": {"A": ["127.0.0.98", "127.0.0.1"]},
                "gone.test": {"A": ["127.0.0.99"]}}
        drop = "regexp:{ {/^r\\.test\\. [0-9]+ IN MX 5 no\\.r\\.test\\.$$/ IGNORE} {/ A 127\\.0\\.0\\.9[89]$$/ IGNORE} }"
        with DnsStub(zone) as stub, hub_with_dns(stub, mynetworks="127.0.0.0/8", smtpd_relay_restrictions="permit_mynetworks, reject",
                                                 smtp_tcp_port=str(sink.port), smtp_dns_reply_filter=drop) as hub:
            with hub.client() as c:
                c.send_mail("a@b.example", ["u@r.test"], MAIL)
                c.send_mail("a@b.example", ["u@gone.test"], MAIL)
            hub.wait_log(r"to=<u@r\.test>, relay=yes\.r\.test\[127\.0\.0\.1\]:\d+, .*status=sent")
            hub.wait_log(r"to=<u@gone\.test>, .*dsn=4\.4\.3, status=deferred .*DNS reply filter drops all results")
            assert "127.0.0.99]" not in hub.log() and "127.0.0.98]" not in hub.log()


def test_lmtp_client_ignores_dns_records():
    with Sink(lmtp=True) as sink:
        with DnsStub({"store.test": {"A": ["127.0.0.98", "127.0.0.1"]}}) as stub:
            drop = "regexp:{ {/ A 127\\.0\\.0\\.98$$/ IGNORE} }"
            with hub_with_dns(stub, mynetworks="127.0.0.0/8", smtpd_relay_restrictions="permit_mynetworks, reject", lmtp_dns_reply_filter=drop,
                              relay_domains="r.test", relay_transport=f"lmtp:store.test:{sink.port}") as hub, hub.client() as c:
                c.send_mail("a@b.example", ["u@r.test"], MAIL)
                hub.wait_log(r"to=<u@r\.test>, relay=store\.test\[127\.0\.0\.1\]:\d+, .*status=sent")
                assert "127.0.0.98]" not in hub.log() and "ignoring DNS RR: store.test." in hub.log()


if __name__ == "__main__":
    cases.main(globals())

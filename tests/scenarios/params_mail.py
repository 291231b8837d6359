#!/usr/bin/env python3
"""Parameters that change a message, its envelope or its way: each is changed once and seen to work."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from dnsstub import DnsStub
from hub import Hub, wait_for
from sink import Sink

TEXT = b"From: a@example.org\r\nSubject: s\r\nBcc: b@example.org\r\nX-Secret: x\r\n y\r\nReturn-Path: <old@example.org>\r\n\r\nhi\r\n"


def test_message_drop_headers():
    with Hub() as hub:
        with hub.client() as c:
            c.send_mail("a@example.org", ["user@example.com"], TEXT)
        hub.sendmail("user@example.com", stdin=TEXT.replace(b"\r\n", b"\n"))
        for mail in hub.wait_mails(2):
            assert b"Bcc:" not in mail and mail.count(b"Return-Path:") == 1 and b"\nX-Secret: x\n y\n" in mail, mail
    with Hub({"message_drop_headers": "x-secret"}) as hub:
        with hub.client() as c:
            c.send_mail("a@example.org", ["user@example.com"], TEXT)
        hub.sendmail("user@example.com", stdin=TEXT.replace(b"\r\n", b"\n"))
        for mail in hub.wait_mails(2):
            assert b"\nBcc: b@example.org\n" in mail and b"X-Secret" not in mail and b"\n y\n" not in mail, mail


def test_header_from_format():
    with Hub({"header_from_format": "obsolete"}) as hub:
        hub.sendmail("-F", "Joe User", "-f", "joe@example.org", "user@example.com", stdin=b"Subject: x\n\nhi\n")
        assert b"\nFrom: joe@example.org (Joe User)\n" in hub.wait_mails(1)[0]
    with Hub() as hub:
        hub.sendmail("-F", "Joe User", "-f", "joe@example.org", "user@example.com", stdin=b"Subject: x\n\nhi\n")
        assert b"\nFrom: Joe User <joe@example.org>\n" in hub.wait_mails(1)[0]


def test_smtputf8_autodetect_classes():
    text = "Subject: Grüße\n\nhi\n".encode()
    for classes, want in [("sendmail", True), ("all", True), ("bounce", False)]:
        with Sink(keywords=("PIPELINING", "8BITMIME", "SMTPUTF8")) as sink, Hub({"smtputf8_autodetect_classes": classes}, routes={
                "r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
            hub.sendmail("-f", "a@example.org", "u@r.example", stdin=text)
            mail = wait_for("the mail", lambda: sink.mails)[0]
            assert ("SMTPUTF8" in mail["mail_args"]) == want, (classes, mail)



def test_best_mx_transport():
    zone = {"ours.example": {"MX": [(10, "hub.example.net")]}, "hub.example.net": {"A": ["127.0.0.1"]}}
    with Sink() as sink, DnsStub(zone) as stub:
        here = {"disable_dns_lookups": "no", "dns_resolver_addresses": stub.address}
        with Hub({**here, "best_mx_transport": f"smtp:[127.0.0.1]:{sink.port}"}) as hub, hub.client() as c:
            c.send_mail("a@example.org", ["u@ours.example"], TEXT)
            assert wait_for("the mail", lambda: sink.mails)[0]["rcpts"] == ["u@ours.example"]
        with Hub(here) as hub, hub.client() as c:
            qid = c.send_mail("user@example.com", ["u@ours.example"], TEXT)
            hub.wait_log(rf"{qid}: to=<u@ours\.example>, .*status=bounced \(mail for ours\.example loops back to myself\)")


def test_proxy_interfaces():
    """An address that leads here although no interface has it: mail for it would come back."""
    zone = {"ours.example": {"MX": [(10, "outside.example")]}, "outside.example": {"A": ["192.0.2.88"]}}
    with DnsStub(zone) as stub, Hub({"disable_dns_lookups": "no", "dns_resolver_addresses": stub.address, "smtp_connect_timeout": "1s",
                                     "proxy_interfaces": "192.0.2.88"}) as hub, hub.client() as c:
        qid = c.send_mail("user@example.com", ["u@ours.example"], TEXT)
        hub.wait_log(rf"{qid}: to=<u@ours\.example>, .*status=bounced \(mail for ours\.example loops back to myself\)")


def test_receive_override_options():
    """What a content filter's way back says: no aliases a second time, and any recipient will do."""
    here = {"virtual_alias_maps": "inline:{ user@example.com=other@example.com }"}
    with Hub(here) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], TEXT)
        c.cmd("MAIL FROM:<a@example.org>", 250)
        c.cmd("RCPT TO:<nosuch@example.com>", 550)
        hub.wait_mails(1, "other")
    with Hub({**here, "receive_override_options": "no_address_mappings, no_unknown_recipient_checks"}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], TEXT)
        hub.wait_mails(1, "user")
        c.cmd("MAIL FROM:<a@example.org>", 250)
        c.cmd("RCPT TO:<nosuch@example.com>", 250)


def test_use_srv_lookup():
    with Sink() as sink:
        zone = {"_submission._tcp.isp.example": {"SRV": [(0, 0, sink.port, "out.isp.example")]}, "out.isp.example": {"A": ["127.0.0.1"]},
                "fallback.example": {"A": ["127.0.0.1"]}, "_submission._tcp.broken.example": "SERVFAIL", "broken.example": {"A": ["127.0.0.1"]}}
        with DnsStub(zone) as stub, Hub({"disable_dns_lookups": "no", "dns_resolver_addresses": stub.address,
                                         "use_srv_lookup": "submission", "relayhost": "isp.example:submission"}) as hub:
            with hub.client() as c:
                c.send_mail("a@example.org", ["u@anywhere.example"], TEXT)
            wait_for("the mail", lambda: sink.mails)
            assert stub.count("_submission._tcp.isp.example", "SRV") == 1


if __name__ == "__main__":
    cases.main(globals())

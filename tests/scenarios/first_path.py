#!/usr/bin/env python3
"""The thinnest whole path: SMTP in, and out to a Maildir, an SMTP and an LMTP next hop."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import Sink

BODY = b"From: a@example.org\r\nTo: user@example.com\r\nSubject: first\r\nMessage-ID: <1@example.org>\r\n\r\nhello\r\n.dot\r\n"


def test_to_a_maildir():
    with Hub() as hub:
        with hub.client() as c:
            qid = c.send_mail("a@example.org", ["user@example.com"], BODY)
            c.quit()
        mail = hub.wait_mails(1)[0]
        assert mail.startswith(b"Return-Path: <a@example.org>\n"), mail
        assert b"\nDelivered-To: user@example.com\n" in mail
        assert b"\nReceived: from client.example.org" in mail and qid.encode() in mail
        assert mail.endswith(b"\n\nhello\n.dot\n"), mail
        hub.wait_log(rf"virtual\[\d+\]: {qid}: to=<user@example.com>, relay=virtual, .*status=sent")
        hub.wait_log(rf"qmgr\[\d+\]: {qid}: removed")


def relay(lmtp):
    scheme = "lmtp:inet" if lmtp else "smtp"
    with Sink(lmtp=lmtp) as sink, Hub({
            "relay_domains": "relay.example",
            "transport_maps": f"inline:{{ relay.example={scheme}:[127.0.0.1]:{0} }}"}, start=False) as hub:
        hub.main["transport_maps"] = f"inline:{{ {{ relay.example = {scheme}:[127.0.0.1]:{sink.port} }} }}"
        hub.write_conf()
        hub.start()
        with hub.client() as c:
            for i in range(5):
                c.send_mail("a@example.org", [f"r{i}@relay.example", "s@relay.example"], BODY)
        wait_for("five messages at the next hop", lambda: len(sink.mails) >= (10 if lmtp else 5))
        for m in sink.mails:
            assert m["sender"] == "a@example.org"
            assert m["data"].endswith(b"\r\n\r\nhello\r\n.dot\r\n"), m
        if lmtp:
            assert sorted(m["rcpts"][0] for m in sink.mails) == sorted(
                [f"r{i}@relay.example" for i in range(5)] + ["s@relay.example"] * 5)
        hub.wait_log(r"status=sent \(250 2\.0\.0 Ok: queued as SINK\)", 10)
        hub.wait_log(r": removed$", 5)
        assert hub.queue() == []


def test_to_smtp():
    relay(lmtp=False)


def test_to_lmtp():
    relay(lmtp=True)


def test_not_an_open_relay():
    with Hub({"mynetworks": "192.0.2.1"}) as hub, hub.client() as c:
        c.cmd("MAIL FROM:<a@example.org>", 250)
        r = c.cmd("RCPT TO:<victim@elsewhere.example>")
        assert r.code in (454, 554) and "Relay access denied" in r.text, r
        c.cmd("RCPT TO:<nobody@example.com>", 550)
        c.cmd("RCPT TO:<user@example.com>", 250)


def test_queued_mail_survives_a_restart():
    with Sink() as sink:
        port = sink.port
    with Hub({"relay_domains": "relay.example"}, start=False) as hub:
        hub.main["transport_maps"] = f"inline:{{ {{ relay.example = smtp:[127.0.0.1]:{port} }} }}"
        hub.write_conf()
        hub.start()
        with hub.client() as c:
            qid = c.send_mail("a@example.org", ["r@relay.example"], BODY)
        hub.wait_log(rf"{qid}: to=<r@relay.example>, .*status=deferred \(connect to .*Connection refused\)")
        hub.kill()
        hub.start()
        assert [m["queue_id"] for m in hub.queue()] == [qid]
        with Sink(port=port) as again:
            hub.ctl("queue", "flush")
            wait_for("the message at the next hop", lambda: again.mails)
        hub.wait_log(rf"{qid}: removed")


if __name__ == "__main__":
    cases.main(globals())

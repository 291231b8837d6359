#!/usr/bin/env python3
"""XCLIENT and XFORWARD, the server's side. Replies and log lines as Postfix 3.7 gave them, unless noted."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub
from sink import Sink

MAIL = b"From: a@example.org\r\nSubject: s\r\n\r\nhi\r\n"
XCLIENT = "XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT"
XFORWARD = "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT"


def hub_for(main=None, **kw):
    return Hub(dict({"smtpd_authorized_xclient_hosts": "127.0.0.1", "mynetworks": "10.0.0.0/8",
                     "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination", "relay_domains": "relay.example",
                     "defer_transports": "relay smtp", "smtpd_error_sleep_time": "0"}, **(main or {})), **kw)


def keywords(c):
    return c.cmd("EHLO client.example", 250).text.split("\n")[1:]


def test_announced_to_the_authorized():
    with hub_for({"smtpd_authorized_xforward_hosts": "127.0.0.1"}) as hub, hub.client() as c:
        got = keywords(c)
        at = got.index("ETRN")
        assert got[at + 1:at + 3] == [XCLIENT, XFORWARD], got
        c.cmd("XCLIENT NAME=x.example ADDR=192.0.2.9", 220)
        got = keywords(c)
        assert XCLIENT not in got, "announced to whoever XCLIENT made of us"
        assert XFORWARD in got, "who may XFORWARD is who really connected"
        assert c.cmd("XCLIENT ADDR=127.0.0.1", 550).text == "5.7.0 Error: insufficient authorization"
    with hub_for({"smtpd_authorized_xclient_hosts": ""}) as hub, hub.client() as c:
        assert not [k for k in keywords(c) if k.startswith("X")]
        for verb in ("XCLIENT", "XFORWARD"):
            assert c.cmd(f"{verb} NAME=x.example", 550).text == "5.7.0 Error: insufficient authorization"
            assert c.cmd(verb, 501).text == f"5.5.4 Syntax: {verb} attribute=value..."


def test_authorized_by_name():
    with hub_for({"smtpd_authorized_xclient_hosts": "localhost", "smtpd_peername_lookup": "yes"}) as hub, hub.client() as c:
        assert XCLIENT in keywords(c)
        c.cmd("XCLIENT ADDR=192.0.2.9", 220)  # still of that name
        assert XCLIENT in keywords(c)
        c.cmd("XCLIENT NAME=x.example", 220)
        assert XCLIENT not in keywords(c)


def test_discarded_keyword_is_only_not_announced():
    with hub_for({"smtpd_discard_ehlo_keywords": "xclient"}) as hub, hub.client() as c:
        assert XCLIENT not in keywords(c)
        c.cmd("XCLIENT NAME=x.example", 220)


def test_restrictions_see_the_new_client():
    with hub_for({"smtpd_client_restrictions": "check_client_access inline:{ {192.0.2.1=REJECT by address},"
                  " {bad.example=REJECT by name}, {192.0.2.6=521 gone} }", "smtpd_delay_reject": "no"}) as hub:
        with hub.client() as c:
            r = c.cmd("XCLIENT ADDR=192.0.2.1 NAME=good.example", 554)
            assert r.text == "5.7.1 <good.example[192.0.2.1]>: Client host rejected: by address", r
            c.cmd("EHLO x", 503)
            hub.wait_log(r"NOQUEUE: reject: XCLIENT from good\.example\[192\.0\.2\.1\]: 554 5\.7\.1 .*; proto=SMTP$")
        with hub.client() as c:
            c.cmd("XCLIENT ADDR=192.0.2.2 NAME=bad.example", 554)
        with hub.client() as c:
            c.cmd("XCLIENT ADDR=192.0.2.6", 521)
            assert c.is_closed()


def test_mynetworks():
    with hub_for() as hub, hub.client() as c:
        c.cmd("MAIL FROM:<a@example.org>", 250)
        c.cmd("RCPT TO:<x@far.example>", 554)
        assert c.cmd("XCLIENT ADDR=10.1.2.3", 503).text == "5.5.1 Error: MAIL transaction in progress"
        c.cmd("RSET", 250)
        c.cmd("XCLIENT ADDR=10.1.2.3", 220)
        c.cmd("EHLO x", 250)
        c.cmd("MAIL FROM:<a@example.org>", 250)
        c.cmd("RCPT TO:<x@far.example>", 250)


def test_name_status():
    """[TEMPUNAVAIL] is answered 450 whatever the reply code parameter says."""
    with hub_for({"smtpd_client_restrictions": "reject_unknown_client_hostname", "unknown_client_reject_code": "550"}) as hub:
        for name, code in (("[TEMPUNAVAIL]", 450), ("[UNAVAILABLE]", 550), ("ok.example", 250)):
            with hub.client() as c:
                c.cmd(f"XCLIENT NAME={name} ADDR=192.0.2.1 HELO=x", 220)
                c.cmd("MAIL FROM:<a@example.org>", 250)
                r = c.cmd("RCPT TO:<user@example.com>", code)
                assert code == 250 or f"{code // 100}.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]" in r.text
    with hub_for({"smtpd_client_restrictions": "reject_unknown_reverse_client_hostname", "unknown_client_reject_code": "550"}) as hub:
        for attributes, code in (("NAME=ok.example", 250), ("NAME=ok.example REVERSE_NAME=[TEMPUNAVAIL]", 450),
                                 ("NAME=[UNAVAILABLE] REVERSE_NAME=rev.example", 250), ("REVERSE_NAME=[UNAVAILABLE]", 550)):
            with hub.client() as c:
                c.cmd(f"XCLIENT {attributes} HELO=x", 220)
                c.cmd("MAIL FROM:<a@example.org>", 250)
                c.cmd("RCPT TO:<user@example.com>", code)


def test_helo_and_protocol_hold_when_given_last():
    with hub_for({"smtpd_helo_required": "yes"}) as hub, hub.client() as c:
        c.cmd("XCLIENT HELO=helo.example PROTO=ESMTP", 220)
        c.cmd("XCLIENT NAME=x.example", 220)
        c.cmd("MAIL FROM:<a@example.org>", 503)
        c.cmd("XCLIENT HELO=helo.example PROTO=ESMTP ADDR=192.0.2.7", 220)
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
        mail = hub.wait_mails(1)[0]
        mail = mail if isinstance(mail, bytes) else mail.read_bytes()
        assert b"Received: from helo.example (x.example [192.0.2.7])" in mail and b"with ESMTP id" in mail, mail
        hub.wait_log(r"client=x\.example\[192\.0\.2\.7\]$")


def test_login():
    """Postfix heeds it only with smtpd_sasl_auth_enable = yes."""
    with hub_for({"smtpd_relay_restrictions": "permit_sasl_authenticated, reject_unauth_destination",
                  "smtpd_sasl_auth_enable": "yes", "smtpd_sender_restrictions": "check_sasl_access inline:{ {evil=REJECT not you} }"}) as hub:
        with hub.client() as c:
            c.cmd("XCLIENT LOGIN=joe+2Bx ADDR=192.0.2.1 HELO=x", 220)
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<x@far.example>", 250)
            c.content(MAIL)
            hub.wait_log(r"client=unknown\[192\.0\.2\.1\], sasl_method=XCLIENT, sasl_username=joe\+x$")
            assert re.search(r"SASL user: +joe\+x", hub.ctl("queue", "show", hub.queue()[0]["queue_id"]).stdout)
        with hub.client() as c:
            c.cmd("XCLIENT LOGIN=evil HELO=x", 220)
            c.cmd("MAIL FROM:<a@example.org>", 250)
            assert "not you" in c.cmd("RCPT TO:<x@far.example>", 554).text
        with hub.client() as c:
            c.cmd("XCLIENT LOGIN=joe HELO=x", 220)
            c.cmd("XCLIENT ADDR=192.0.2.1 HELO=x", 220)  # LOGIN is not of this command
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<x@far.example>", 554)
        hub.main["smtpd_sasl_auth_enable"] = "no"
        hub.write_conf()
        hub.reload()
        with hub.client() as c:
            c.cmd("XCLIENT LOGIN=joe ADDR=192.0.2.1 HELO=x", 220)
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<x@far.example>", 554)


def test_nothing_changes_when_a_value_is_wrong():
    """Postfix keeps what stood in front of the wrong one."""
    with hub_for() as hub, hub.client() as c:
        c.cmd("XCLIENT NAME=x.example ADDR=999.1.1.1", 501)
        c.cmd("MAIL FROM:<a@example.org>", 250)
        c.cmd("RCPT TO:<x@far.example>", 554)
        hub.wait_log(r"reject: RCPT from unknown\[127\.0\.0\.1\]")


def test_rate_limits_are_those_of_the_named_client():
    with hub_for({"smtpd_client_message_rate_limit": "2", "smtpd_client_event_limit_exceptions": ""}) as hub:
        for address in ("192.0.2.1", "192.0.2.2"):
            for i in range(3):
                with hub.client() as c:
                    c.cmd(f"XCLIENT ADDR={address} HELO=x", 220)
                    r = c.cmd("MAIL FROM:<a@example.org>", 250 if i < 2 else 450)
            assert r.text == f"4.7.1 Error: too much mail from {address}", r
        with hub.client() as c:
            for _ in range(4):
                c.cmd("MAIL FROM:<a@example.org>", 250)  # we ourselves are not counted
                c.cmd("RSET", 250)


def test_unknown_whether_authorized():
    with hub_for({"smtpd_authorized_xclient_hosts": "fail:x"}) as hub:
        for first in ("EHLO x", "XCLIENT NAME=x.example"):
            with hub.client(helo=None) as c:
                assert c.cmd(first, 421).text == "4.3.0 hub.example.net Server local data error"
        with hub.client(helo=None) as c:
            c.cmd("HELO x", 250)


def test_ipv6():
    with hub_for({"inet_protocols": "ipv4, ipv6"}) as hub, hub.client() as c:
        c.cmd("XCLIENT ADDR=2001:db8::1", 501)
        c.cmd("XCLIENT ADDR=ipv6:2001:DB8::1 HELO=x", 220)
        c.cmd("MAIL FROM:<a@example.org>", 250)
        c.cmd("RCPT TO:<x@far.example>", 554)
        hub.wait_log(r"reject: RCPT from unknown\[2001:db8::1\]")
    with hub_for({"inet_protocols": "ipv4"}) as hub, hub.client() as c:
        assert c.cmd("XCLIENT ADDR=IPV6:2001:db8::1", 501).text == "5.5.4 Bad ADDR syntax: IPV6:2001:db8::1"


def test_xforward_is_stored_logged_and_sent_on():
    said = []
    with Sink(keywords=("PIPELINING", "ENHANCEDSTATUSCODES", XFORWARD)) as sink, \
            Hub({"smtpd_authorized_xforward_hosts": "127.0.0.1", "smtp_send_xforward_command": "yes",
                 "smtpd_client_restrictions": "check_client_access inline:{ {192.0.2.77=REJECT no} }"},
                routes={"relay.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub, hub.client() as c:
        sink.on["XFORWARD"] = lambda s, arg: said.extend(arg.split())
        c.cmd("XFORWARD NAME=orig.example ADDR=192.0.2.77 PORT=2525 SOURCE=LOCAL", 250)
        c.cmd("XFORWARD HELO=helo+5Fx.example PROTO=ESMTP IDENT=3CF6B2AAE8", 250)
        c.send_mail("a@example.org", ["user@relay.example"], MAIL)
        hub.wait_log(r"client=unknown\[127\.0\.0\.1\], orig_queue_id=3CF6B2AAE8, orig_client=orig\.example\[192\.0\.2\.77\]$")
        hub.wait_log("status=sent")
        assert sorted(said) == ["ADDR=192.0.2.77", "HELO=helo_x.example", "IDENT=3CF6B2AAE8", "NAME=orig.example", "PORT=2525",
                                "PROTO=ESMTP", "SOURCE=LOCAL"], said
        said.clear()
        c.cmd("XFORWARD NAME=orig.example", 250)
        c.cmd("RSET", 250)
        c.send_mail("a@example.org", ["user@relay.example"], MAIL)  # what was said before belongs to another message
        hub.wait_log(r"client=unknown\[127\.0\.0\.1\]$")
        hub.wait_log("status=sent", count=2)
        assert "ADDR=127.0.0.1" in said and "SOURCE=LOCAL" in said and "HELO=client.example.org" in said, said


def test_xforward_holds_while_a_restriction_waits():
    with Hub({"smtpd_authorized_xforward_hosts": "127.0.0.1", "smtpd_delay_reject": "no", "smtpd_sender_restrictions": "sleep 1"}) as hub, \
            hub.client() as c:
        c.cmd("XFORWARD ADDR=192.0.2.77 IDENT=3CF6B2AAE8", 250)
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_log(r"client=unknown\[127\.0\.0\.1\], orig_queue_id=3CF6B2AAE8, orig_client=unknown\[192\.0\.2\.77\]$")
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_log(r"client=unknown\[127\.0\.0\.1\]$")


def test_xforward_of_what_is_not_known():
    """The first command makes the rest unavailable; nothing of the session stands in."""
    said = []
    with Sink(keywords=("ENHANCEDSTATUSCODES", XFORWARD)) as sink, \
            Hub({"smtpd_authorized_xforward_hosts": "127.0.0.1", "smtp_send_xforward_command": "yes"},
                routes={"relay.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub, hub.client() as c:
        sink.on["XFORWARD"] = lambda s, arg: said.extend(arg.split())
        c.cmd("XFORWARD NAME=orig.example", 250)
        c.send_mail("a@example.org", ["user@relay.example"], MAIL)
        hub.wait_log("status=sent")
        assert "ADDR=[UNAVAILABLE]" in said and "HELO=[UNAVAILABLE]" in said and "PORT=[UNAVAILABLE]" in said, said
        assert not [s for s in said if s == "IDENT=[UNAVAILABLE]"], "without an identifier of another host it is ours"


def test_xforward_survives_a_restart():
    said = []
    with Sink(keywords=("ENHANCEDSTATUSCODES", XFORWARD)) as sink:
        with Hub({"smtpd_authorized_xforward_hosts": "127.0.0.1", "smtp_send_xforward_command": "yes", "defer_transports": "smtp"},
                 routes={"relay.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
            with hub.client() as c:
                c.cmd("XFORWARD IDENT=3CF6B2AAE8", 250)
                c.send_mail("a@example.org", ["user@relay.example"], MAIL)
            hub.wait_log("status=deferred")
            hub.stop()
            sink.on["XFORWARD"] = lambda s, arg: said.extend(arg.split())
            hub.main["defer_transports"] = ""
            hub.write_conf()
            hub.start()
            hub.ctl("queue", "flush")
            hub.wait_log("status=sent")
            assert "IDENT=3CF6B2AAE8" in said, said


if __name__ == "__main__":
    cases.main(globals())

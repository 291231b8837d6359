#!/usr/bin/env python3
"""The verbs and extensions of the SMTP server, as a client sees them. RFC 5321, 1870, 2920, 3030, 3461, 6531; smtpd(8)."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from client import Client
from hub import Hub

MAIL = b"From: a@example.org\r\nSubject: s\r\nMessage-ID: <1@example.org>\r\nDate: Fri, 1 Jan 2021 00:00:00 +0000\r\n\r\nhi\r\n"


def test_banner_and_ehlo():
    with Hub({"message_size_limit": "12345"}) as hub, hub.client(helo=None) as c:
        assert c.banner.text == "hub.example.net ESMTP Posthouse", c.banner
        r = c.cmd("EHLO me.example.org", 250)
        assert r.lines == ["250-hub.example.net", "250-PIPELINING", "250-SIZE 12345", "250-VRFY", "250-ETRN",
                           "250-ENHANCEDSTATUSCODES", "250-8BITMIME", "250-DSN", "250-SMTPUTF8", "250 CHUNKING"], r.lines


def test_ehlo_keywords_can_be_discarded():
    with Hub({"smtpd_discard_ehlo_keywords": "chunking, silent-discard, dsn", "disable_vrfy_command": "yes",
              "smtputf8_enable": "no"}) as hub, hub.client() as c:
        words = [line[4:].split()[0] for line in c.ehlo.lines[1:]]
        assert words == ["PIPELINING", "SIZE", "ETRN", "ENHANCEDSTATUSCODES", "8BITMIME"], words
        c.cmd("VRFY <user@example.com>", 502)
        c.cmd("MAIL FROM:<a@example.org> RET=FULL", 501)
        c.cmd("MAIL FROM:<a@example.org> SMTPUTF8", 555)
        c.envelope()
        c.raw(b"BDAT 3 LAST\r\nhi\n")  # refused, and its chunk is not read as a command
        c.ends_with(521)


def test_plain_verbs():
    with Hub() as hub, hub.client(helo=None) as c:
        c.cmd("HELO", 501)
        c.cmd("EHLO", 501)
        assert c.cmd("HELO me.example.org", 250).lines == ["250 hub.example.net"]
        c.cmd("NOOP", 250)
        c.cmd("noop with words", 250)
        assert "5321" in c.cmd("HELP", 214).text
        assert c.cmd("VRFY user@example.com", 252).text.startswith("2.0.0 "), "VRFY"
        c.cmd("VRFY nosuch@example.com", 550)
        c.cmd("VRFY", 501)
        c.cmd("EXPN list", 500)
        r = c.cmd("ETRN example.com")
        assert r.code in (458, 459) and not re.match(r"\d\.\d\.\d ", r.text), r
        c.cmd("ETRN", 500)
        c.cmd("BOGUS", 500)
        c.cmd("RSET", 250)
        c.cmd("RSET now", 501)
        assert c.cmd("QUIT", 221).text == "2.0.0 Bye" and c.is_closed()


def test_order_of_commands():
    with Hub() as hub, hub.client(helo=None) as c:
        c.cmd("EHLO c.example.org", 250)
        c.cmd("RCPT TO:<user@example.com>", 503)
        c.cmd("DATA", 503)
        c.cmd("MAIL FROM:<a@example.org>", 250)
        c.cmd("MAIL FROM:<a@example.org>", 503)
        c.cmd("DATA", 554)
        c.cmd("RCPT TO:<nosuch@example.com>", 550)
        c.cmd("DATA", 554)
        c.cmd("RCPT TO:<user@example.com>", 250)
        c.cmd("EHLO again.example.org", 250)  # ends the transaction
        c.cmd("RCPT TO:<user@example.com>", 503)
        c.cmd("MAIL FROM:<a@example.org>", 250)
        c.cmd("RSET", 250)
        c.cmd("DATA", 503)
        c.send_mail("", ["user@example.com"], MAIL)
        assert hub.wait_mails(1)[0].startswith(b"Return-Path: <>\n")


def test_helo_required():
    with Hub({"smtpd_helo_required": "yes"}) as hub, hub.client(helo=None) as c:
        c.cmd("MAIL FROM:<a@example.org>", 503)
        c.cmd("HELO c.example.org", 250)
        c.cmd("MAIL FROM:<a@example.org>", 250)


def test_addresses_that_are_none():
    bad = ["<u@12345>", "<u@1.2.3.4>", "<u@x..y>", "<u@" + "a" * 64 + ".example>", "<u@-x.example>", "<@>",
           "<u@example.com", "<u@[300.1.1.1]>", "<u@exam ple.com>", "<a b@example.com>", "<>", "", "<\"x@example.com>"]
    with Hub({"smtpd_error_sleep_time": "0", "smtpd_hard_error_limit": "100"}) as hub, hub.client() as c:
        c.cmd("MAIL FROM:<a@example.org>", 250)
        for rcpt in bad:
            r = c.cmd(f"RCPT TO:{rcpt}")
            assert r.code in (501, 555) and re.match(r"5\.(1\.3|5\.4) ", r.text), f"{rcpt}: {r}"
        assert c.cmd("RCPT TO:<u@1.2.3.4>", 501).text.startswith("5.1.3")
        c.cmd("RCPT TO: <user@example.com>", 250)
        c.cmd("RCPT TO:user@example.com", 250)
        c.cmd("rcpt to:<USER@Example.COM>", 250)
        c.cmd("RCPT TO:<@a.example,@b.example:user@example.com>", 250)
        c.cmd('RCPT TO:<"user"@example.com>', 250)
        c.cmd("RSET", 250)
        for sender in ["<u@12345>", "<u@x..y>", "<u", "u v@example.org"]:
            r = c.cmd(f"MAIL FROM:{sender}")
            assert r.code in (501, 555), f"{sender}: {r}"
        c.cmd("MAIL FROM:<.u@under_score.example.org>", 250)


def test_parameters_of_mail_and_rcpt():
    with Hub({"smtpd_error_sleep_time": "0", "smtpd_hard_error_limit": "100"}) as hub, hub.client() as c:
        good = ["SIZE=100 BODY=8BITMIME", "BODY=7BIT", "RET=HDRS ENVID=a+2Bb", "RET=full", "AUTH=<>", "SMTPUTF8"]
        for args in good:
            c.cmd(f"MAIL FROM:<a@example.org> {args}", 250)
            c.cmd("RSET", 250)
        for args, code in {"SIZE=x": 501, "SIZE=-1": 501, "SIZE=": 501, "BODY=BINARYMIME": 555, "RET=ALL": 501, "RET=FULL RET=HDRS": 501,
                           "ENVID=a+2": 501, "ENVID=" + "x" * 101: 501, "FOO=BAR": 555, "BY=5;R": 555}.items():
            r = c.cmd(f"MAIL FROM:<a@example.org> {args}")
            assert r.code == code, f"{args}: {r}"
            if r.code == 250:
                c.cmd("RSET", 250)
        c.cmd("MAIL FROM:<a@example.org>", 250)
        for args in ["NOTIFY=NEVER", "NOTIFY=SUCCESS,FAILURE,DELAY", "ORCPT=rfc822;u+2Bx@example.com", "ORCPT=rfc822;a NOTIFY=DELAY"]:
            c.cmd(f"RCPT TO:<user@example.com> {args}", 250)
        for args, code in {"NOTIFY=NEVER,SUCCESS": 501, "NOTIFY=": 501, "NOTIFY=OFTEN": 501, "ORCPT=x": 501, "ORCPT=;x": 501,
                           "ORCPT=rfc822;a+4": 501, "ORCPT=rfc822;a ORCPT=rfc822;b": 501, "WHAT": 555}.items():
            c.cmd(f"RCPT TO:<user@example.com> {args}", code)


def test_size_at_mail_starts_no_transaction():
    with Hub({"message_size_limit": "1000"}) as hub, hub.client() as c:
        r = c.cmd("MAIL FROM:<a@example.org> SIZE=1001", 552)
        assert r.text.startswith("5.3.4 Message size exceeds fixed limit"), r
        c.envelope()
        c.content(b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" * 500, 552)
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
        assert len(hub.wait_mails(1)) == 1


def test_smtputf8():
    with Hub({"virtual_mailbox_maps": "inline:{ { jörg@example.com = user/ } { user@example.com = user/ } }"}) as hub, \
            hub.client() as c:
        c.cmd("MAIL FROM:<jürgen@münchen.example> SMTPUTF8", 250)
        c.cmd("RCPT TO:<jörg@example.com>", 250)
        c.content("Subject: Grüße\r\n\r\nüüü\r\n".encode())
        c.cmd("VRFY jörg@example.com SMTPUTF8", 252)
        c.raw(b"MAIL FROM:<j\xf6rg@example.com> SMTPUTF8\r\n")
        assert c.reply().code in (500, 501)
        mail = hub.wait_mails(1)[0]
        assert "Return-Path: <jürgen@münchen.example>".encode() in mail, mail
        assert b"with UTF8SMTP id" in mail, mail


def test_bdat():
    with Hub() as hub, hub.client() as c:
        c.envelope()
        half = len(MAIL) // 2
        c.raw(b"BDAT %d\r\n" % half + MAIL[:half])
        assert c.reply().text == f"2.0.0 Ok: {half} bytes"
        c.cmd("DATA", 503)
        c.cmd("RCPT TO:<other@example.com>", 503)
        c.raw(b"BDAT %d LAST\r\n" % (len(MAIL) - half) + MAIL[half:])
        r = c.reply()
        assert r.code == 250 and re.match(rf"2\.0\.0 Ok: {len(MAIL)} bytes queued as \w+$", r.text), r
        # pipelined whole, dots stay as they are, an empty last chunk
        c.raw(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<user@example.com>\r\nBDAT 17\r\nSubject: y\r\n\r\n.\r\nBDAT 6\r\n..\r\n.\nBDAT 0 LAST\r\n")
        assert [c.reply().code for _ in range(5)] == [250] * 5
        mails = hub.wait_mails(2)
        assert mails[0].endswith(b"\n\nhi\n") and mails[1].endswith(b"\n\n.\n..\n.\n"), mails
        # a refused chunk is consumed
        c.raw(b"BDAT 10 LAST\r\nQUIT\r\nQUI\n")
        assert c.reply().code == 503
        c.cmd("NOOP", 250)
        c.cmd("MAIL FROM:<a@example.org>", 250)
        c.raw(b"BDAT 6 LAST\r\nQUIT\r\n")
        assert c.reply().code == 554
        c.cmd("RSET", 250)
        c.raw(b"BDAT many\r\n")  # where the stream continues is unknown
        c.ends_with(521)


def test_bdat_over_the_size_limit():
    with Hub({"message_size_limit": "1000"}) as hub, hub.client() as c:
        c.envelope()
        c.raw(b"BDAT 900\r\n" + b"x" * 898 + b"\r\n")
        assert c.reply().code == 250
        c.raw(b"BDAT 900\r\n" + b"x" * 900 + b"BDAT 1 LAST\r\nx")
        assert [c.reply().code, c.reply().code] == [552, 551]
        c.cmd("RSET", 250)
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)


def test_received_header():
    with Hub({"smtpd_peername_lookup": "yes"}) as hub:
        with hub.client(helo=None) as c:
            c.cmd("HELO [192.0.2.1]", 250)
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<user@example.com>", 250)
            qid = c.content(MAIL).text.rsplit(" ", 1)[-1]
        with hub.client() as c:
            c.send_mail("a@example.org", ["user@example.com", "other@example.com"], MAIL)
        one, two = hub.wait_mails(2)
        assert re.search(rb"\nReceived: from \[192\.0\.2\.1\] \(localhost \[127\.0\.0\.1\]\)\n"
                         rb"\tby hub\.example\.net \(Posthouse\) with SMTP id " + qid.encode() +
                         rb"\n\tfor <user@example\.com>; \w{3}, [ \d]\d? \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4} \(\w+\)\n", one), one
        assert re.search(rb"\n\tby hub\.example\.net \(Posthouse\) with ESMTP id \w+; \w{3}, ", two), two


def test_relay_control_from_outside():
    """Nothing that is not ours is accepted from a stranger, in any disguise."""
    with Hub({"mynetworks": "127.0.0.1/32", "relay_domains": "ours.example", "smtpd_error_sleep_time": "0",
              "smtpd_hard_error_limit": "1000", "smtpd_soft_error_limit": "1000"}) as hub:
        with Client("127.0.0.1", hub.port, source="127.0.0.2") as c:
            c.cmd("MAIL FROM:<user@example.com>", 250)
            for rcpt in ["v@victim.example", "v%victim.example@example.com", "victim.example!v@example.com",
                         "@example.com:v@victim.example", '"v@victim.example"@example.com', "v@victim.example@example.com",
                         "v@[192.0.2.1]", "v%victim.example@[127.0.0.1]", "v@sub.example.com", "user@example.com.victim.example",
                         "v%victim.example", "v@victim.example%hub.example.net", '"v@victim.example"', "v!victim.example"]:
                r = c.cmd(f"RCPT TO:<{rcpt}>")
                assert r.code >= 450, f"{rcpt}: {r}"
            r = c.cmd("RCPT TO:<v@victim.example>")
            assert r.code == 454 and r.text == "4.7.1 <v@victim.example>: Relay access denied", r
            c.cmd("RCPT TO:<user@example.com>", 250)
            c.cmd("RCPT TO:<any@ours.example>", 250)
            c.cmd("RCPT TO:<any@sub.ours.example>", 250)  # parent_domain_matches_subdomains
        with hub.client() as c:
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<v@victim.example>", 250)
    with Hub({"mynetworks": "127.0.0.1/32", "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination"}) as hub, \
            Client("127.0.0.1", hub.port, source="127.0.0.2") as c:
        c.cmd("MAIL FROM:<a@example.org>", 250)
        assert c.cmd("RCPT TO:<v@victim.example>", 554).text == "5.7.1 <v@victim.example>: Relay access denied"
        hub.wait_log(r"smtpd\[\d+\]: \w+: reject: RCPT from unknown\[127\.0\.0\.2\]: 554 5\.7\.1 <v@victim\.example>: "
                     r"Relay access denied; from=<a@example\.org> to=<v@victim\.example> proto=ESMTP helo=<client\.example\.org>$")


if __name__ == "__main__":
    cases.main(globals())

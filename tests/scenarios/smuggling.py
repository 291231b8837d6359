#!/usr/bin/env python3
"""Ends of data that are not one, and commands that come too early. CVE-2023-51764; smtpd(8) "security controls"."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import Sink

HEAD = b"From: a@example.org\r\nSubject: one\r\n\r\nfirst\r\n"
SECOND = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<other@example.com>\r\nDATA\r\nSubject: two\r\n\r\nsmuggled\r\n.\r\n"
STRANGER = {"smtpd_forbid_bare_newline_exclusions": ""}  # by default mynetworks may do what they like
FALSE_ENDS = {
    "LF.LF": b"\n.\n", "LF.CRLF": b"\n.\r\n", "CRLF.LF": b"\r\n.\n", "CR.CR": b"\r.\r", "CR.CRLF": b"\r.\r\n", "CRLF.CR": b"\r\n.\r",
    "LF.CR": b"\n.\r", "CR.LF": b"\r.\n", "CRLF.CRCRLF": b"\r\n.\r\r\n", "NUL": b"\r\n.\0\r\n", "CRLF.SPCRLF": b"\r\n. \r\n",
    "CRCRLF.CRLF half": b"\r\r\n.\r\r\n",
}


def smuggle(hub, end):
    """One message with a false end inside; returns the replies after the real end."""
    with hub.client() as c:
        c.envelope()
        c.cmd("DATA", 354)
        c.raw(HEAD + b"x" + end + SECOND)
        first = c.reply()
        c.quit()
        return first


def test_a_false_end_is_content():
    """smtpd_forbid_bare_newline = normalize: one message, no other recipient, whatever the false end."""
    with Hub({"smtpd_forbid_bare_newline": "normalize", **STRANGER}) as hub:
        for n, (name, end) in enumerate(FALSE_ENDS.items()):
            r = smuggle(hub, end)
            assert r.code == 250, f"{name}: {r}"
            mails = hub.wait_mails(n + 1)
            assert mails[-1].count(b"smuggled") == 1 and b"MAIL FROM:<evil" in mails[-1], (name, mails[-1])
        assert hub.mails("other") == []
        hub.wait_log(r"disconnect from .* notes=bare_lf$")


def test_the_next_hop_sees_no_false_end():
    """What goes on to another server has CRLF line ends only and no dot that could end it early."""
    with Sink() as sink, Hub(routes={"example.com": f"smtp:[127.0.0.1]:{sink.port}"},
                             main={"virtual_mailbox_domains": "", **STRANGER}) as hub:
        for n, (name, end) in enumerate(FALSE_ENDS.items()):
            assert smuggle(hub, end).code == 250, name
            wait_for(f"the message with {name}", lambda n=n: len(sink.mails) > n)
            data = sink.mails[-1]["data"]
            assert data.replace(b"\r\n", b"").count(b"\n") == 0, (name, data)
            assert data.replace(b"\r\n", b"").count(b"\r") == 0, (name, data)
        assert sink.attempts == len(FALSE_ENDS)
        assert all(m["rcpts"] == ["user@example.com"] for m in sink.mails)


def test_reject():
    with Hub({"smtpd_forbid_bare_newline": "reject", **STRANGER}) as hub:
        for name, end in FALSE_ENDS.items():
            r = smuggle(hub, end)
            want = (550,) if b"\n" in end.replace(b"\r\n", b"") else (250,)
            assert r.code in want, f"{name}: {r}"
        with hub.client(helo=None) as c:
            c.raw(b"EHLO x.example\n")
            c.ends_with(550)
        hub.wait_log(r"reject: END-OF-MESSAGE from .*bare <LF> received; ")
        assert hub.mails("other") == []
    with Hub({"smtpd_forbid_bare_newline": "reject", "smtpd_forbid_bare_newline_reject_code": "521", **STRANGER}) as hub, hub.client() as c:
        c.envelope()
        c.cmd("DATA", 354)
        c.raw(b"Subject: x\n\r\nx\r\n.\r\n")
        c.ends_with(521)
    with Hub({"smtpd_forbid_bare_newline": "reject", "smtpd_forbid_bare_newline_exclusions": "127.0.0.0/8"}) as hub, hub.client() as c:
        c.envelope()
        c.data(b"Subject: x\n\nhello\n.\n", 250)


def test_no():
    """With `no` every old form of the end of data is one, as before 2023."""
    with Hub({"smtpd_forbid_bare_newline": "no"}) as hub:
        for end in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r\n"):
            with hub.client() as c:
                c.envelope()
                c.data(b"Subject: x\r\n\r\nhello" + end, 250)
        assert all(m.endswith(b"\n\nhello\n") for m in hub.wait_mails(4))


def test_pipelining_where_it_is_forbidden():
    with Hub() as hub:
        with hub.client(greet=False) as c:
            c.raw(b"EHLO early.example\r\n")  # before the greeting: seen only when it comes in time
            first = c.reply()
            assert first.code in (220, 554), first
        with hub.client(helo=None) as c:
            c.raw(b"EHLO c.example\r\nMAIL FROM:<a@example.org>\r\n")
            c.ends_with(554)
        with hub.client() as c:
            c.raw(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<user@example.com>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n")
            assert [c.reply().code, c.reply().code] == [250, 250]
            c.ends_with(554)
        hub.wait_log(r"improper command pipelining after EHLO from unknown\[127\.0\.0\.1\]: MAIL FROM:<a@example\.org>\\r\\n$")
        hub.wait_log(r"improper command pipelining after DATA from unknown\[127\.0\.0\.1\]: Subject: x")
    with Hub({"smtpd_forbid_unauth_pipelining": "no"}) as hub, hub.client(helo=None) as c:
        c.raw(b"EHLO c.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<user@example.com>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT\r\n")
        assert [c.reply().code for _ in range(6)] == [250, 250, 250, 354, 250, 221]
        assert len(hub.wait_mails(1)) == 1


def test_pipelining_split_everywhere():
    """The same conversation with the bytes cut at every place."""
    text = (b"MAIL FROM:<a@example.org>\r\nRCPT TO:<user@example.com>\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<other@example.com>\r\n"
            b"RCPT TO:<nosuch@example.com>\r\nDATA\r\n")
    body = b"Subject: x\r\n\r\n..dot\r\n.\r\n"
    with Hub({"smtpd_junk_command_limit": "1000"}) as hub, hub.client() as c:
        sent = 0
        for cut in range(1, len(text), 7):
            c.raw(text[:cut])
            c.raw(text[cut:])
            assert [c.reply().code for _ in range(7)] == [250, 250, 250, 250, 250, 550, 354], cut
            k = 1 + cut % (len(body) - 1)
            c.raw(body[:k])
            c.raw(body[k:])
            assert c.reply().code == 250, cut
            sent += 1
        assert all(m.endswith(b"\n\n.dot\n") for m in hub.wait_mails(sent, "other"))


if __name__ == "__main__":
    cases.main(globals())

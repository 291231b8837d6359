#!/usr/bin/env python3
"""What goes in comes out: awkward contents through DATA and BDAT into a Maildir, an SMTP and an LMTP next hop, byte for byte."""
import hashlib
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import Sink

FULL = b"From: a@example.org\r\nTo: u@example.com\r\nDate: Fri, 1 Jan 2021 00:00:00 +0000\r\nMessage-ID: <c@example.org>\r\n"
BODIES = {
    "empty body": b"\r\n",
    "one dot": b"\r\n.\r\n",
    "dots": b"\r\n.\r\n..\r\n...\r\n.x\r\n. \r\n x.\r\n",
    "blank lines at the end": b"\r\nx\r\n\r\n\r\n\r\n",
    "8-bit": b"\r\n" + bytes(range(128, 256)) + b"\r\n",
    "utf-8 header": "Subject: Grüße\r\n\r\nü\r\n".encode(),
    "controls": b"\r\n" + bytes(b for b in range(1, 128) if b not in (10, 13)) + b"\r\n",
    "NUL": b"\r\na\0b\0\r\n\0\r\n",
    "line of 998": b"\r\n" + b"x" * 998 + b"\r\n",
    "dot and line of 997": b"\r\n." + b"x" * 997 + b"\r\n",
    "folded header": b"Subject: a\r\n b\r\n\tc\r\nX-Empty:\r\n\r\nbody\r\n",
    "From line in the body": b"\r\nFrom here on\r\n>From there\r\n",
    "MIME": b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
    "many short lines": b"\r\n" + b"\r\n".join(b"%d" % i for i in range(5000)) + b"\r\n",
    "300 KiB": b"\r\n" + b"".join(b"line %06d of the message, somewhat longer than before\r\n" % i for i in range(5400)),
    "8 MiB": b"\r\n" + b"".join(b"%070d\r\n" % (i * i) for i in range(116509)),
    "300 KiB of dots": b"\r\n" + b"...\r\n" * 61440,
}


def wanted(body):
    return FULL + body


def strip_trace(data, eol):
    """Without the header lines that delivery and reception put in front."""
    at = data.index(b"From: a@example.org" + eol)
    head = data[:at]
    assert re.fullmatch(rb"((Return-Path|X-Original-To|Delivered-To|Received): .*(\r?\n[ \t].*)*\r?\n)*", head), head
    return data[at:]


def show(data):
    return f"{len(data)} bytes, {hashlib.md5(data).hexdigest()}, {data[:200]!r}...{data[-80:]!r}"


def send_all(hub, rcpt, bdat):
    with hub.client() as c:
        for name, body in BODIES.items():
            message = wanted(body)
            c.cmd("MAIL FROM:<a@example.org> BODY=8BITMIME", 250)
            c.cmd(f"RCPT TO:<{rcpt}>", 250)
            if not bdat:
                c.content(message)
                continue
            size = 65521 if len(message) > 100000 else 37
            pieces = [message[i:i + size] for i in range(0, min(len(message), 40 * size), size)]
            pieces.append(message[40 * size:])
            c.raw(b"".join(b"BDAT %d%s\r\n" % (len(p), b" LAST" if p is pieces[-1] else b"") + p
                           for p in pieces if p or p is pieces[-1]))
            for _ in range(len([p for p in pieces if p or p is pieces[-1]])):
                r = c.reply()
                assert r.code == 250, f"{name}: {r}"


def compare(got, eol):
    got = sorted(strip_trace(g, eol) for g in got)
    want = sorted(wanted(b).replace(b"\r\n", eol) for b in BODIES.values())
    assert len(got) == len(want), (len(got), len(want))
    for name, body in BODIES.items():
        text = wanted(body).replace(b"\r\n", eol)
        if text not in got:
            odd = [g for g in got if g not in want]
            near = min(odd, key=lambda g: abs(len(g) - len(text)))
            raise AssertionError(f"{name} arrived changed:\nwanted {show(text)}\n   got {show(near)}")


def maildir(bdat):
    with Hub() as hub:
        send_all(hub, "user@example.com", bdat)
        compare(hub.wait_mails(len(BODIES)), b"\n")


def test_data_to_a_maildir():
    maildir(bdat=False)


def test_bdat_to_a_maildir():
    maildir(bdat=True)


def next_hop(lmtp, keywords, bdat=False, main=None):
    with Sink(lmtp=lmtp, keywords=keywords) as sink, \
            Hub(dict(main or {}), routes={"relay.example": f"{'lmtp:inet' if lmtp else 'smtp'}:[127.0.0.1]:{sink.port}"}) as hub:
        send_all(hub, "u@relay.example", bdat)
        wait_for("every message at the next hop", lambda: len(sink.mails) >= len(BODIES))
        compare([m["data"] for m in sink.mails], b"\r\n")
        return [c for s in sink.sessions for c in s.commands]


BASIC = ["PIPELINING", "SIZE 50000000", "8BITMIME", "ENHANCEDSTATUSCODES"]


def test_to_smtp_by_data():
    commands = next_hop(False, BASIC)
    assert not any(c.startswith("BDAT") for c in commands)


def test_to_smtp_by_bdat():
    commands = next_hop(False, BASIC + ["CHUNKING"], bdat=True)
    assert any(c.startswith("BDAT") for c in commands), commands[:20]


def test_to_smtp_without_pipelining():
    next_hop(False, ["8BITMIME"])


def test_to_lmtp():
    next_hop(True, BASIC)


def test_bare_line_ends_and_no_last_one():
    """A bare LF is a line end, a bare CR a space (cleanup_replace_stray_cr_lf), the last line gets an end."""
    with Hub() as hub, hub.client() as c:
        c.envelope()
        c.data(FULL + b"\r\na\nb\rc\r\rd\r\n\r\n.\r\n")
        c.envelope()
        text = FULL + b"\r\nlast line"
        c.raw(b"BDAT %d LAST\r\n" % len(text) + text)
        assert c.reply().code == 250
        c.envelope()
        c.raw(b"BDAT 0 LAST\r\n")
        assert c.reply().code == 250
        one, two, three = hub.wait_mails(3)
        assert strip_trace(one, b"\n").endswith(b"\n\na\nb c  d\n\n"), one
        assert strip_trace(two, b"\n").endswith(b"\n\nlast line\n"), two
        assert b"Message-Id: " in three and b"\nFrom: " in three, three


def test_stray_cr_stays_when_asked():
    """As postconf(5) says of cleanup_replace_stray_cr_lf = no: a bare CR is content."""
    with Hub({"cleanup_replace_stray_cr_lf": "no"}) as hub, hub.client() as c:
        c.envelope()
        c.data(FULL + b"\r\na\rb\r\rc\r\n.\r\n")
        assert strip_trace(hub.wait_mails(1)[0], b"\n").endswith(b"\n\na\rb\r\rc\n"), hub.mails()


def test_long_lines_are_split_for_smtp():
    with Sink() as sink, Hub(routes={"relay.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["u@relay.example"], FULL + b"\r\n" + b"x" * 5000 + b"\r\n." + b"y" * 2000 + b"\r\nend\r\n")
        wait_for("the message", lambda: sink.mails)
        data = sink.mails[0]["data"]
        lines = data.split(b"\r\n")
        assert max(len(line) for line in lines) <= 998, max(len(line) for line in lines)
        assert data.replace(b"\r\n ", b"").endswith(b"\r\n\r\n" + b"x" * 5000 + b"\r\n." + b"y" * 2000 + b"\r\nend\r\n")


def test_nul_and_stripped_characters():
    with Hub({"message_strip_characters": "\\0", "message_reject_characters": "\\7"}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], FULL + b"\r\na\0b\r\n")
        c.envelope()
        assert "content rejected" in c.content(FULL + b"\r\nbell \a\r\n", 550).text
        assert hub.wait_mails(1)[0].endswith(b"\n\nab\n")


def test_no_header_at_all():
    with Hub() as hub, hub.client() as c:
        c.envelope()
        c.data(b".\r\n")
        c.envelope()
        c.data(b"just text\r\nmore\r\n.\r\n")
        c.envelope()
        c.data(b"\r\n\r\n.\r\n")
        mails = hub.wait_mails(3)
        assert any(m.endswith(b"\n\njust text\nmore\n") for m in mails), mails


if __name__ == "__main__":
    cases.main(globals())

#!/usr/bin/env python3
"""8-bit MIME mail to next hops without 8BITMIME: what Python's email package decodes there is what was sent."""
import email
import email.message
import email.policy
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import Sink

FULL = b"From: a@example.org\r\nTo: u@example.com\r\nDate: Fri, 1 Jan 2021 00:00:00 +0000\r\nMessage-ID: <c@example.org>\r\n"
EIGHT = b"Content-Transfer-Encoding: 8bit\r\n"
TEXT = "Grüße aus Köln = Straße \r\n.\r\n..x\r\n-- \r\n\ttab\t\r\n".encode() + "ü".encode() * 450 + b"\r\n" + b"w" * 990 + b"\r\nFrom me\r\n"
SEVEN = ["PIPELINING", "SIZE 50000000", "ENHANCEDSTATUSCODES", "CHUNKING"]


def part(body, *headers, label=EIGHT):
    return b"".join(h.encode() + b"\r\n" for h in headers) + label + b"\r\n" + body


def multi(kind, boundary, *parts):
    inner = b"".join(b"--" + boundary + b"\r\n" + p + b"\r\n" for p in parts)
    return b"Content-Type: multipart/" + kind + b"; boundary=\"" + boundary + b"\"\r\n\r\n" + inner + b"--" + boundary + b"--\r\n"


def noise(seed, n):
    r = random.Random(seed)
    lines = [bytes(r.choice(b"abc =\t-.\xfc\xe4\x01\x7f") for _ in range(r.randrange(0, 300))) for _ in range(n // 150)]
    return b"\r\n".join(lines) + b"\r\n"


TEXT_TYPE = "Content-Type: text/plain; charset=utf-8"
MESSAGES = {
    "one part": part(TEXT, TEXT_TYPE),
    "binary label": part(TEXT, TEXT_TYPE, label=b"Content-Transfer-Encoding: binary\r\n"),
    "alternatives in a mixture": multi(b"mixed", b"out", multi(b"alternative", b"in", part(TEXT, TEXT_TYPE), part(b"<p>\xc3\xbc</p>\r\n", "Content-Type: text/html")),
                                       part(noise(1, 3000), "Content-Type: application/octet-stream")),
    "a message inside": multi(b"mixed", b"b", part(FULL + part(TEXT, TEXT_TYPE), "Content-Type: message/rfc822")),
    "with encoded neighbours": multi(b"mixed", b"b", part(b"w7w=\r\n", label=b"Content-Transfer-Encoding: base64\r\n"),
                                     part(b"=C3=BC\r\n", label=b"Content-Transfer-Encoding: quoted-printable\r\n"), part(TEXT)),
    "two MiB": multi(b"mixed", b"=_two_MiB", part(noise(2, 2 << 20)), part(noise(3, 3000))),
}


def leaves(data):
    """Type and decoded bytes of every leaf; the encoding is gone."""
    message = email.message_from_bytes(data, policy=email.policy.compat32)
    return [(p.get_content_type(), p.get_payload(decode=True)) for p in message.walk() if not p.is_multipart()]


def send(hub, body):
    with hub.client() as c:
        c.cmd("MAIL FROM:<a@example.org> BODY=8BITMIME", 250)
        c.cmd("RCPT TO:<u@relay.example>", 250)
        c.content(FULL + b"MIME-Version: 1.0\r\n" + body)


def arrived(body, keywords=SEVEN, lmtp=False, main=None):
    """The data as the next hop got it, and the commands."""
    with Sink(lmtp=lmtp, keywords=keywords) as sink, \
            Hub(dict(main or {}), routes={"relay.example": f"{'lmtp:inet' if lmtp else 'smtp'}:[127.0.0.1]:{sink.port}"}) as hub:
        send(hub, body)
        wait_for("the message", lambda: sink.mails)
        return sink.mails[0]["data"], sink.mails[0]["mail_args"]


def round_trip(lmtp):
    for name, body in MESSAGES.items():
        data, mail_args = arrived(body, lmtp=lmtp)
        assert max(data) < 128, f"{name}: 8-bit at the next hop"
        assert "BODY=" not in mail_args, mail_args
        assert b"8bit" not in data and b"binary" not in data, name
        assert max(len(line) for line in data.split(b"\r\n")) <= 998
        sent, got = leaves(FULL + body), leaves(data)
        assert sent == got, f"{name}: decoded to something else:\n{sent!r:.2000}\n{got!r:.2000}"


def test_smtp_round_trip():
    round_trip(lmtp=False)


def test_lmtp_round_trip():
    round_trip(lmtp=True)


def test_no_conversion_when_offered_or_turned_off():
    body = MESSAGES["one part"]
    data, mail_args = arrived(body, keywords=SEVEN + ["8BITMIME"])
    assert data.endswith(body) and "BODY=8BITMIME" in mail_args, (mail_args, data[-300:])
    data, mail_args = arrived(body, main={"disable_mime_output_conversion": "yes"})
    assert data.endswith(body) and "BODY=" not in mail_args, (mail_args, data[-300:])


def test_unlabelled_8bit_stays():
    body = TEXT_TYPE.encode() + b"\r\n\r\n" + TEXT
    data, _ = arrived(body)
    assert data.endswith(body), data[-300:]


def test_boundary_length_limit():
    """Only so many characters of a boundary count."""
    body = b"Content-Type: multipart/mixed; boundary=abcdef\r\n\r\n--abcXXX\r\n" + part(b"\xc3\xbc\r\n")
    data, _ = arrived(body, main={"mime_boundary_length_limit": "3"})
    assert data.endswith(b"quoted-printable\r\n\r\n=C3=BC\r\n"), data[-300:]
    data, _ = arrived(body)
    assert data.endswith(body), data[-300:]


def test_too_deep_is_returned():
    def nested(levels):
        body = part(b"\xc3\xbc\r\n")
        for i in range(levels):
            body = multi(b"mixed", b"b%d" % i, body)
        return body
    with Sink(keywords=SEVEN) as sink, Hub({"mime_nesting_limit": "3"}, routes={
            "relay.example": f"smtp:[127.0.0.1]:{sink.port}", "example.org": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        send(hub, nested(5))
        wait_for("the message", lambda: sink.mails)
        assert sink.mails[0]["rcpts"] == ["u@relay.example"]
        send(hub, nested(6))
        hub.wait_log(r"to=<u@relay\.example>.* dsn=5\.6\.0, status=bounced \(MIME nesting exceeds safety limit\)")
        wait_for("the notice", lambda: len(sink.mails) > 1)
        assert sink.mails[1]["rcpts"] == ["a@example.org"] and sink.mails[1]["sender"] == "", sink.mails[1]
        assert b"Status: 5.6.0" in sink.mails[1]["data"]


if __name__ == "__main__":
    cases.main(globals())

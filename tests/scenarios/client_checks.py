#!/usr/bin/env python3
"""smtp_header_checks, smtp_mime_header_checks, smtp_nested_header_checks, smtp_body_checks and their lmtp_ forms.

What is expected was seen of Postfix 3.7 with the same tables and message.
"""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import Sink

LONG = "0123456789" * 7
ACTIONS = [
    ("warn", "WARN hey", "warning", "hey"), ("info", "INFO", "info", ""), ("repl", "REPLACE X-New: 1", "replace", "X-New: 1"),
    ("prep", "PREPEND X-Pre: 1", "prepend", "X-Pre: 1"), ("strip", "STRIP gone", "strip", "gone"), ("ign", "IGNORE", None, None), ("dunno", "DUNNO", None, None),
]
UNSUPPORTED = ["REJECT no", "HOLD", "DISCARD x", "FILTER smtp:x", "BCC a@b", "REDIRECT a@b", "PASS", "FOO"]


def table(rows):
    return "regexp:{ " + " ".join(f"{{/{pattern}/ {action}}}" for pattern, action in rows).replace("$", "$$") + " }"


def relay(sink, main, lmtp=False):
    return Hub({"smtp_tls_security_level": "none", **main}, routes={"relay.example": f"{'lmtp:inet' if lmtp else 'smtp'}:[127.0.0.1]:{sink.port}"})


def send(hub, content, rcpt="u@relay.example"):
    with hub.client() as c:
        return c.send_mail("a@example.org", [rcpt], content)


def got(sink, n=1):
    return wait_for(f"{n} mails", lambda: len(sink.mails) >= n and sink.mails)[n - 1]["data"]


def test_actions():
    rows = [(f"^X-{name}:", action) for name, action, *_ in ACTIONS] + [(f"^Y-{i}:", action) for i, action in enumerate(UNSUPPORTED)]
    for lmtp in False, True:
        with Sink(lmtp=lmtp) as sink, relay(sink, {("lmtp" if lmtp else "smtp") + "_header_checks": table(rows)}, lmtp) as hub:
            fields = [f"X-{name}: {LONG}\r\n folded\r\n" for name, *_ in ACTIONS] + [f"Y-{i}: {LONG}\r\n" for i in range(len(UNSUPPORTED))]
            qid = send(hub, "".join(fields).encode() + b"\r\nX-warn: body\r\n.dot\r\n")
            content = got(sink)
            for name, _, word, text in ACTIONS:
                if word:
                    hub.wait_log(rf"{'lmtp' if lmtp else 'smtp'}\[\d+\]: {qid}: {word}: header {f'X-{name}: {LONG}'[:60]}" + (f": {text}" if text else "") + "$")
            for action in UNSUPPORTED:
                hub.wait_log(rf"warning: {qid}: unsupported action \"{re.escape(action)}\" in {'lmtp' if lmtp else 'smtp'}_header_checks -- the line is kept$")
            changed = "".join(fields)
            for name, new in ("repl", "X-New: 1\r\n"), ("strip", ""), ("ign", ""):
                changed = changed.replace(f"X-{name}: {LONG}\r\n folded\r\n", new)
            changed = changed.replace("X-prep", "X-Pre: 1\r\nX-prep").encode()
            assert changed in content and content.endswith(b"\r\n\r\nX-warn: body\r\n.dot\r\n"), content


def test_classes():
    content = b"Subject: s\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\npre\r\n--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: nested\r\n\r\nx\r\n--a--\r\nepi\r\n"
    of_smtp = ("smtp_header_checks", "smtp_mime_header_checks", "smtp_nested_header_checks", "smtp_body_checks")
    of_lmtp = ("lmtp_header_checks", "lmtp_mime_header_checks", "lmtp_nested_header_checks", "lmtp_body_checks")
    for names in of_smtp, of_lmtp:
        rules = [("^(Subject|Content)", "WARN H")], [(".", "WARN M")], [(".", "WARN N")], [(".", "WARN B")]
        with Sink(lmtp=names is of_lmtp) as sink, relay(sink, dict(zip(names, map(table, rules))), names is of_lmtp) as hub:
            qid = send(hub, content)
            assert got(sink).endswith(content[content.index(b"\r\n\r\n"):]), "nothing was changed"
            hub.wait_log("body epi: B$")
            assert re.findall(rf"{qid}: warning: (?:header|body) (.*): ([HMNB])$", hub.log(), re.M) == [
                ("Subject: s", "H"), ("Content-Type: multipart/mixed; boundary=a", "M"), ("pre", "B"), ("--a", "B"), ("Content-Type: message/rfc822", "M"),
                ("Subject: nested", "N"), ("x", "B"), ("--a--", "B"), ("epi", "B")], hub.log()
    with Sink() as sink, relay(sink, {"smtp_header_checks": table([("^Subject", "WARN H")])}) as hub: # the other tables are none, unless they are set
        send(hub, content)
        got(sink)
        assert len(hub.wait_log("warning: header Subject: s: H$")) == 1 and "nested: H" not in hub.log()


def test_content_that_is_changed():
    """Sizes, dots, long lines, 8-bit text and encoding for a host that takes 7 bits are those of the changed content."""
    body = [("^gone", "IGNORE"), ("^new", "REPLACE .dot"), ("^long", "REPLACE " + "y" * 1500)]
    for keywords in ("PIPELINING", "8BITMIME", "SIZE 50000000"), ("PIPELINING", "8BITMIME", "CHUNKING"):
        with Sink(keywords=keywords) as sink, relay(sink, {"smtp_body_checks": table(body)}) as hub:
            send(hub, b"Subject: s\r\n\r\none\r\ngone\r\nnew\r\nmore\r\n" + b"z" * 100000 + b"\r\n")
            assert got(sink).replace(b"\r\n ", b"").endswith(b"\r\n\r\none\r\n.dot\r\nmore\r\n" + b"z" * 100000 + b"\r\n"), got(sink)[-300:]
            send(hub, b"Subject: s\r\n\r\nlong\r\nend\r\n")
            lines = got(sink, 2).split(b"\r\n\r\n", 1)[1].split(b"\r\n")
            assert max(len(x) for x in lines) == 998 and sum(x.count(b"y") for x in lines) == 1500, lines
    with Sink(keywords=("PIPELINING",)) as sink, relay(sink, {"smtp_header_checks": table([("^Subject", "REPLACE X-Other: 1")])}) as hub:
        send(hub, b"Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xb6\r\n")
        content = got(sink)
        assert b"\r\nX-Other: 1\r\n" in content and b"quoted-printable" in content and content.endswith(b"\r\n=C3=B6\r\n") and b"Subject" not in content, content


def test_lines_of_any_bytes():
    with Sink() as sink, relay(sink, {"smtp_header_checks": table([("^Subject: .+x", "REPLACE X-Found: 1")]), "smtp_body_checks": table([("^b.+y", "REPLACE found")])}) as hub:
        send(hub, b"Subject: caf\xe9 x\r\n\r\nb\xe9\xff y\r\n")
        content = got(sink)
        assert b"\r\nX-Found: 1\r\n" in content and content.endswith(b"\r\n\r\nfound\r\n"), content


def test_each_transport_its_own():
    from hub import MASTER
    master = MASTER + "plain unix - - n - - smtp -o smtp_header_checks=\n"
    with Sink() as sink:
        with Hub({"smtp_header_checks": table([("^Subject", "IGNORE")])}, master=master,
                 routes={"relay.example": f"smtp:[127.0.0.1]:{sink.port}", "plain.example": f"plain:[127.0.0.1]:{sink.port}"}) as hub:
            send(hub, b"Subject: s\r\n\r\nx\r\n")
            assert b"Subject" not in got(sink)
            send(hub, b"Subject: s\r\n\r\nx\r\n", "u@plain.example")
            assert b"Subject" in got(sink, 2)


def test_a_table_that_fails_defers():
    with Sink() as sink, relay(sink, {"smtp_header_checks": "fail:x", "minimal_backoff_time": "1h"}) as hub:
        qid = send(hub, b"Subject: s\r\n\r\nx\r\n")
        hub.wait_log(rf"warning: {qid}: smtp_header_checks map lookup problem -- message not sent, try again later")
        hub.wait_log(rf"{qid}: to=<u@relay\.example>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:{sink.port}, .*dsn=4\.3\.0, status=deferred \(local data error while talking to 127\.0\.0\.1\[127\.0\.0\.1\]\)")
        assert not sink.mails


if __name__ == "__main__":
    cases.main(globals())

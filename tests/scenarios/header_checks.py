#!/usr/bin/env python3
"""header_checks, mime_header_checks, nested_header_checks, body_checks: what each action does, says and logs.

What is expected was seen of Postfix 3.7 with the same tables and messages.
"""
import os
import re
import select
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import MASTER, Hub, wait_for
from sink import Sink

# Subject: what the table says; then what comes of it: reply, log word, log text. "-": nothing is logged.
ACTIONS = [
    ("rej1", "REJECT", "550 5.7.1 message content rejected", "reject", "5.7.1 message content rejected"),
    ("rej2", "reject too bad", "550 5.7.1 too bad", "reject", "5.7.1 too bad"),
    ("rej3", "REJECT 5.7.9 own code", "550 5.7.9 own code", "reject", "5.7.9 own code"),
    ("rej4", "REJECT 4.7.9 temp code", "451 4.7.9 temp code", "reject", "4.7.9 temp code"),
    ("rej5", "REJECT 550 5.7.9 nope", "550 5.7.1 550 5.7.9 nope", "reject", "5.7.1 550 5.7.9 nope"),
    ("hold1", "HOLD", "250", "hold", ""),
    ("hold2", "HOLD because", "250", "hold", "because"),
    ("disc1", "DISCARD", "250", "discard", ""),
    ("disc2", "DISCARD because", "250", "discard", "because"),
    ("info1", "INFO", "250", "info", ""),
    ("info2", "INFO because", "250", "info", "because"),
    ("warn1", "WARN", "250", "warning", ""),
    ("warn2", "WARN because", "250", "warning", "because"),
    ("pass1", "PASS", "250", "pass", ""),
    ("pass2", "PASS because", "250", "pass", "because"),
    ("strip1", "STRIP", "250", "strip", ""),
    ("strip2", "STRIP because", "250", "strip", "because"),
    ("ign", "IGNORE", "250", "-", ""),
    ("dunno", "DUNNO", "250", "-", ""),
    ("ok", "OK", "250", "-", ""),
    ("red1", "REDIRECT third@example.com", "250", "redirect", "third@example.com"),
    ("bcc1", "BCC third@example.com", "250", "bcc", "third@example.com"),
    ("prep1", "PREPEND X-New: one", "250", "prepend", "X-New: one"),
    ("repl1", "REPLACE Subject: new", "250", "replace", "Subject: new"),
]
ENDS = {"rej1", "rej2", "rej3", "rej4", "rej5", "disc1", "disc2", "pass1", "pass2", "red1"} # nothing behind it is looked at
NOWHERE = {"rej1", "rej2", "rej3", "rej4", "rej5", "disc1", "disc2", "hold1", "hold2"}
NONSENSE = [
    ("red2", "REDIRECT nonsense", 'bad REDIRECT target "nonsense" in header_checks -- need user@domain'),
    ("bcc2", "BCC nonsense", 'bad BCC address "nonsense" in header_checks -- need user@domain'),
    ("filt1", "FILTER nonsense", 'bad FILTER command "nonsense" in header_checks -- need transport:destination'),
    ("prep2", "PREPEND nonsense", 'bad PREPEND header text "nonsense" in header_checks -- need "headername: headervalue"'),
    ("prep3", "PREPEND", "PREPEND action without text in header_checks"),
    ("repl2", "REPLACE nonsense", 'bad REPLACE header text "nonsense" in header_checks -- need "headername: headervalue"'),
    ("repl3", "REPLACE", "REPLACE action without text in header_checks"),
    ("unknown", "FOO bar", 'unknown action "FOO bar" in header_checks -- the line is kept'),
]
USERS = {"virtual_mailbox_maps": "inline:{ user@example.com=user/ other@example.com=other/ third@example.com=third/ }"}


def table(rows, kind="regexp"):
    """In main.cf a dollar is written twice."""
    return kind + ":{ " + " ".join(f"{{/{pattern}/ {action}}}" for pattern, action in rows).replace("$", "$$") + " }"


def mail(subject):
    return f"Subject: {subject} folded\r\n text\r\nX-Last: y\r\nTo: x@y\r\n\r\nbody\r\n".encode()


def test_actions():
    rows = [(f"^Subject: {name} ", action) for name, action, *_ in ACTIONS] + [("^X-Last: ", "WARN last")]
    about = r" from unknown\[127\.0\.0\.1\]; from=<a@example\.org> to=<other@example\.com> proto=ESMTP helo=<client\.example\.org>"
    with Hub({**USERS, "header_checks": table(rows)}) as hub, hub.client() as c:
        for name, action, reply, word, text in ACTIONS:
            c.envelope("a@example.org", ["user@example.com", "other@example.com"])
            got = c.content(mail(name), code=None)
            assert str(got.text).startswith(reply) or f"{got.code} {got.text}".startswith(reply), (name, got)
            if word != "-":
                hub.wait_log(rf"cleanup\[\d+\]: [0-9A-F]+: {word}: header Subject: {name} folded\? text{about}" + (f": {re.escape(text)}" if text else "") + "$")
        goes_on = [name for name, *_ in ACTIONS if name not in ENDS]
        assert len(hub.wait_log("warning: header X-Last: y" + about + ": last$", count=len(goes_on))) == len(goes_on)
        wanted = [n for n, *_ in ACTIONS if n not in NOWHERE | {"red1"}]
        by_name = {}
        for m in hub.wait_mails(len(wanted)):
            found = re.search(rb"^Subject: (\w+) folded\n text$", m, re.M)
            by_name[found[1].decode() if found else len(by_name)] = m
        assert set(wanted) - {"strip1", "strip2", "ign", "repl1"} <= set(by_name), by_name.keys()
        assert sum(b"\nSubject:" not in m for m in by_name.values()) == 3
        assert sum(b"\nSubject: new\n" in m for m in by_name.values()) == 1
        assert b"\nX-New: one\nSubject: prep1" in by_name["prep1"], by_name["prep1"]
        assert len(hub.wait_mails(2, "third")) == 2
        wait_for("two held messages", lambda: sorted(q["queue_name"] for q in hub.queue()) == ["hold", "hold"])


def test_nonsense_is_told_and_ignored():
    rows = [(f"^Subject: {name} ", action) for name, action, _ in NONSENSE] + [("^X-Last: ", "WARN last")]
    with Hub({**USERS, "header_checks": table(rows)}) as hub, hub.client() as c:
        for name, action, text in NONSENSE:
            c.send_mail("a@example.org", ["user@example.com"], mail(name))
            hub.wait_log("warning: [0-9A-F]+: " + re.escape(text) + "$")
        hub.wait_log("warning: header X-Last", count=len(NONSENSE))
        assert all(b"folded\n text\nX-Last" in m for m in hub.wait_mails(len(NONSENSE)))


STRUCTURE = b"""Subject: a
X-Fold: one
 two
\tthree
Mime-Version: 1.0
Content-Type: multipart/mixed; boundary="bb"
Content-Length: 3
Bcc: hidden@x

preamble
--bb
Content-Type: message/rfc822
X-Part: p

Subject: inner
Content-Type: multipart/alternative; boundary=cc
X-Inner: i

--cc
X-Alt: a

alt text

after blank
--cc--
--bb
No-Blank: x
not a header
--bb--
epilogue
""".replace(b"\n", b"\r\n")
SEEN = ["H header Received: from client.example.org (unknown [127.0.0.1])", "H header Subject: a", "H header X-Fold: one? two??three", "M header Mime-Version: 1.0",
        'M header Content-Type: multipart/mixed; boundary="bb"', "H header Content-Length: 3", "H header Bcc: hidden@x", "B body preamble", "B body --bb",
        "M header Content-Type: message/rfc822", "M header X-Part: p", "N header Subject: inner", "M header Content-Type: multipart/alternative; boundary=cc",
        "N header X-Inner: i", "B body --cc", "M header X-Alt: a", "B body alt text", "B body after blank", "B body --cc--", "B body --bb",
        "M header No-Blank: x", "B body not a header", "B body --bb--", "B body epilogue"]


def classes(**more):
    every = "{{/./ WARN {}}}"
    return {"header_checks": "regexp:{ " + every.format("H") + " }", "mime_header_checks": "regexp:{ " + every.format("M") + " }",
            "nested_header_checks": "regexp:{ " + every.format("N") + " }", "body_checks": "regexp:{ " + every.format("B") + " }", **more}


def seen(hub):
    found = re.findall(r"warning: ((?:header|body) .*?) from unknown\[127\.0\.0\.1\]; .*: ([HMNB])$", hub.log(), re.M)
    return [f"{letter} {re.sub(r'[?][?]by .*', '', what)}" for what, letter in found]


def test_classes():
    with Hub(classes()) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], STRUCTURE)
        got = hub.wait_mails(1)[0]
        assert seen(hub) == SEEN, "\n".join(seen(hub))
        assert STRUCTURE.split(b"\r\n\r\n", 1)[1].replace(b"\r\n", b"\n") == got.split(b"\n\n", 1)[1], "what nobody changes stays as it is"
        assert b"hidden@x" not in got and b"Content-Length" not in got, "dropped, after the tables have seen them"
    with Hub(classes(disable_mime_input_processing="yes")) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], STRUCTURE)
        hub.wait_mails(1)
        assert all(x[0] in "HB" for x in seen(hub)) and "B body Subject: inner" in seen(hub) and "H header Mime-Version: 1.0" in seen(hub)
    with Hub({"header_checks": table([("^X-", "WARN H")])}) as hub, hub.client() as c: # the other two are as header_checks unless they are set
        c.send_mail("a@example.org", ["user@example.com"], STRUCTURE)
        hub.wait_mails(1)
        hub.wait_log("warning: header X-(Fold|Part|Inner|Alt): ", count=4)
    with Hub({"header_checks": table([("^X-", "WARN H")]), "mime_header_checks": "", "nested_header_checks": ""}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], STRUCTURE)
        hub.wait_mails(1)
        assert len(hub.wait_log("warning: header X-")) == 1


def test_body_actions():
    rows = [("^cut", "IGNORE"), ("^swap", "REPLACE instead"), ("^before", "PREPEND in front"), ("^bad", "REJECT no such words"), ("^.dot", "REPLACE .dots")]
    with Hub({"body_checks": table(rows)}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], b"Subject: s\r\n\r\none\r\ncut\r\nswap\r\nbefore\r\nxdot\r\nlast\r\n")
        c.envelope()
        r = c.content(b"Subject: s\r\n\r\none\r\nbad\r\n", code=550)
        assert "5.7.1 no such words" in str(r), r
        c.envelope()
        c.raw(b"BDAT 20\r\nSubject: s\r\n\r\nthis\r\n")
        assert c.reply().code == 250
        c.raw(b"BDAT 3\r\nbad")
        assert c.reply().code == 250
        c.raw(b"BDAT 6 LAST\r\nness\r\n")
        assert c.reply().code == 550
        hub.wait_log(r"reject: body badness from unknown")
        assert hub.wait_mails(1)[0].endswith(b"\n\none\ninstead\nin front\nbefore\n.dots\nlast\n"), hub.mails()


def test_body_size_limit():
    parts = b"Subject: a\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\npre\r\n--a\r\n\r\nabc\r\nde\r\nfg\r\n--a\r\nX: y\r\n\r\n12\r\n345\r\n67\r\n--a--\r\nepi\r\nlogue\r\n"
    with Hub({"body_checks": table([(".", "WARN B")]), "body_checks_size_limit": "5"}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], parts)
        hub.wait_mails(1)
        assert [x[7:] for x in seen(hub)] == ["pre", "abc", "12", "345", "--a--"], seen(hub)
    with Hub({"body_checks": table([("^after", "WARN B"), ("^0+1*2*$", "WARN B")]), "line_length_limit": "512", "body_checks_size_limit": "0"}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], b"Subject: a\r\n\r\n" + b"0" * 512 + b"1" * 512 + b"0" + b"2" * 10 + b"\r\nafter\r\n")
        hub.wait_mails(1)
        assert [len(x) for x in re.findall("warning: body (\\S+) from", hub.log())] == [200, 11, 5], hub.log()


def test_header_size_limit():
    with Hub({"header_checks": table([("^X-Long:.*(.)$", "WARN ends in $1")]), "header_size_limit": "200"}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], b"Subject: a\r\nX-Long: " + b"a" * 191 + b"bcd\r\n efg\r\nX-After: y\r\n\r\nx\r\n")
        hub.wait_log("warning: header X-Long: .*ends in b")
        got = hub.wait_mails(1)[0]
        assert b"\nX-Long: " + b"a" * 191 + b"b\nX-After: y\n" in got, got


def test_missing_headers_after_checks():
    """A field that was taken out is added again; what is added is not looked at."""
    with Hub({"header_checks": table([("^(Date|Message-Id|From): ", "IGNORE")]), "always_add_missing_headers": "yes"}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], b"Date: old\r\nMessage-Id: <old@x>\r\nFrom: old@x\r\nTo: x\r\n\r\nx\r\n")
        got = hub.wait_mails(1)[0]
        assert b"old" not in got and b"\nFrom: a@example.org\n" in got and b"\nDate: " in got, got
        assert b"old@x" not in hub.log().encode()


def test_strict():
    part = b"Subject: a\r\nContent-Type: multipart/mixed; boundary=a\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--a\r\nContent-Type: text/plain; name=\xc3\xb6\r\n"
    header, body = b"Subject: \xc3\xb6\r\n\r\nx\r\n", b"Subject: a\r\n\r\n\xc3\xb6\r\n"
    announced = b"Subject: a\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xb6\r\n"
    kind = b"Subject: a\r\nContent-Type: %s; boundary=a\r\nContent-Transfer-Encoding: %s\r\n\r\nx\r\n"
    deep = b"Subject: a\r\n" + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(6)) + b"\r\n"
    in_header, in_body = "improper use of 8-bit data in message header", "improper use of 8-bit data in message body"
    encoding, nesting = "invalid message/* or multipart/* encoding domain", "MIME nesting exceeds safety limit"
    for settings, content, fault, where in [
            ({"strict_7bit_headers": "yes"}, header, in_header, "Subject: .+"),
            ({"strict_7bit_headers": "yes"}, body, None, None),
            ({"strict_7bit_headers": "yes"}, part, in_header, "Content-Type: text/plain; name=.+"),
            ({"strict_8bitmime_body": "yes"}, header, None, None),
            ({"strict_8bitmime_body": "yes"}, body, in_body, ".+"),
            ({"strict_8bitmime_body": "yes"}, announced, None, None),
            ({"strict_8bitmime": "yes"}, header, in_header, ".+"),
            ({"strict_8bitmime": "yes"}, body, in_body, ".+"),
            ({"strict_8bitmime": "yes", "disable_mime_input_processing": "yes"}, body, None, None),
            ({"strict_mime_encoding_domain": "yes"}, kind % (b"multipart/mixed", b"base64"), encoding, "base64"),
            ({"strict_mime_encoding_domain": "yes"}, kind % (b"message/rfc822", b"quoted-printable"), encoding, "quoted-printable"),
            ({"strict_mime_encoding_domain": "yes"}, kind % (b"message/partial", b"8bit"), encoding, "8bit"),
            ({"strict_mime_encoding_domain": "yes"}, kind % (b"message/partial", b"base64"), None, None),
            ({"strict_mime_encoding_domain": "yes"}, kind % (b"multipart/mixed", b"8bit"), None, None),
            ({"strict_mime_encoding_domain": "yes"}, kind % (b"multipart/mixed", b"x-foo"), None, None),
            ({"strict_mime_encoding_domain": "yes", "mime_nesting_limit": "3"}, deep, nesting, "Content-Type: multipart/mixed; boundary=b5"),
            ({"mime_nesting_limit": "3"}, deep, None, None)]:
        with Hub(settings) as hub, hub.client() as c:
            c.envelope()
            r = c.content(content, code=550 if fault else 250)
            if fault:
                assert f"5.6.0 {fault}" in str(r), r
                hub.wait_log(rf"cleanup\[\d+\]: [0-9A-F]+: reject: mime-error {re.escape(fault)}: {where} from unknown\[127\.0\.0\.1\]; from=<a@example\.org> to=<user@example\.com>$")


def test_origin_that_was_forwarded():
    with Hub({"header_checks": table([("^Subject", "WARN")]), "smtpd_authorized_xforward_hosts": "127.0.0.1"}) as hub, hub.client() as c:
        c.cmd("XFORWARD NAME=spike.example ADDR=10.1.2.3 HELO=fwd.helo PROTO=SMTP", 250)
        c.send_mail("a@example.org", ["user@example.com"], b"Subject: w\r\n\r\nx\r\n")
        hub.wait_log(r"warning: header Subject: w from spike\.example\[10\.1\.2\.3\]; from=<a@example\.org> to=<user@example\.com> proto=SMTP helo=<fwd\.helo>$")


def test_a_broken_table_defers():
    with Hub({"header_checks": "fail:no such table"}) as hub, hub.client() as c:
        c.envelope()
        assert "4.3.0" in str(c.content(b"Subject: s\r\n\r\nx\r\n", code=451))
        hub.wait_log("warning: [0-9A-F]+: header_checks map lookup problem -- message not accepted, try again later")


def test_local_mail():
    """From sendmail, while the daemon runs and from maildrop/."""
    rows = [("^Subject: rej", "REJECT not here"), ("^Subject: hold", "HOLD"), ("^Subject: disc", "DISCARD"), ("^Subject: red", "REDIRECT third@example.com"),
            ("^Subject: bcc", "BCC third@example.com"), ("^Subject: repl", "REPLACE Subject: new")]
    with Hub({**USERS, "header_checks": table(rows), "body_checks": table([("^bad", "IGNORE")])}) as hub:
        def submit(subject, check=True):
            return hub.sendmail("-f", "a@example.org", "user@example.com", stdin=f"Subject: {subject}\n\nbad\ngood\n".encode(), check=check)
        r = submit("rej", check=False)
        assert r.returncode == 65 and b"5.7.1 not here" in r.stderr, r
        hub.wait_log(r"cleanup\[\d+\]: [0-9A-F]+: reject: header Subject: rej from local; from=<a@example\.org> to=<user@example\.com>: 5\.7\.1 not here$")
        for subject in "disc", "hold", "red", "bcc", "repl":
            submit(subject)
        wait_for("one held", lambda: [q["queue_name"] for q in hub.queue()] == ["hold"])
        assert sorted(re.search(rb"^Subject: (.*)$", m, re.M)[1] for m in hub.wait_mails(2)) == [b"bcc", b"new"]
        assert sorted(re.search(rb"^Subject: (.*)$", m, re.M)[1] for m in hub.wait_mails(2, "third")) == [b"bcc", b"red"]
        assert all(m.endswith(b"\n\ngood\n") for m in hub.mails()) # after REDIRECT nothing is looked at
        hub.stop()
        submit("disc")
        submit("last")
        hub.start()
        assert b"\nSubject: last\n" in hub.wait_mails(3)[-1]
        hub.wait_log("discard: header Subject: disc from local", count=2)
        wait_for("maildrop/ to be empty", lambda: not any(p.is_file() for p in (hub.dir / "spool" / "maildrop").rglob("*")))


def test_how_many_copies():
    """A pattern that takes addresses from the message cannot ask for more than smtpd_recipient_limit of them, each counted once."""
    rows = [("^X-Copy: (.*)", "BCC $1@example.com"), ("^X-Filter: (.*)", "FILTER discard:$1")]
    maps = "inline:{ user@example.com=user/ " + " ".join(f"c{i}@example.com=c{i}/" for i in range(3)) + " }"
    with Hub({"header_checks": table(rows), "virtual_mailbox_maps": maps, "smtpd_recipient_limit": "3"}) as hub, hub.client() as c:
        def copies(*numbers, name="Copy"):
            return "".join(f"X-{name}: c{i}\r\n" for i in numbers).encode() + b"Subject: s\r\n\r\nx\r\n"
        c.envelope()
        assert "5.5.3 content checks ask for too many copies" in str(c.content(copies(0, 1, 2, 3), code=550))
        hub.wait_log(r"reject: header X-Copy: c3 from .*: 5\.5\.3 content checks ask for too many copies \(smtpd_recipient_limit\)$")
        c.envelope()
        assert "too many filters" in str(c.content(copies(0, 1, 2, 3, name="Filter"), code=550))
        assert hub.sendmail("-f", "a@example.org", "user@example.com", stdin=copies(0, 1, 2, 3).replace(b"\r", b""), check=False).returncode == 65
        c.send_mail("a@example.org", ["user@example.com"], copies(0, 1, 2, 1, 0))
        for user in "user", "c0", "c1", "c2":
            assert len(hub.wait_mails(1, user)) == 1
        hub.wait_queue([])
        assert len(hub.mails("c1")) == 1


def test_whose_values_hold():
    """-o of a cleanup line, by cleanup_service_name; a listener's own -o header_checks is Postfix's cleanup's business, not its."""
    master = MASTER.replace("smtpd\n", "smtpd -o cleanup_service_name=other -o header_checks=\n", 1) + \
        "cleanup unix n - n - 0 cleanup\nother unix n - n - 0 cleanup -o { header_checks = regexp:{ {/^Subject: second/ REJECT other} } }\n"
    with Hub({"header_checks": table([("^Subject: first", "REJECT")])}, master=master) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], b"Subject: first\r\n\r\nx\r\n")
        c.envelope()
        assert "other" in str(c.content(b"Subject: second\r\n\r\nx\r\n", code=550))
        hub.sendmail("-f", "a@example.org", "user@example.com", stdin=b"Subject: second\n\nx\n") # pickup names none
        hub.wait_mails(2)
    master = MASTER.replace("smtpd\n", "smtpd -o receive_override_options=no_header_body_checks\n", 1)
    with Hub({"header_checks": table([("^Subject: first", "REJECT")])}, master=master) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], b"Subject: first\r\n\r\nx\r\n")


def test_rest_of_a_line_is_no_end_of_data():
    """A long line is looked at in pieces. What stays when its beginning goes must not end the message at the next hop."""
    long = b"DROP".ljust(2048, b"x")
    inner = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<user@relay.example>\r\nDATA\r\nevil\r\n"
    with Sink(keywords=()) as sink, Hub({"body_checks": table([("^DROP", "IGNORE")])},
                                        routes={"relay.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub, hub.client() as c:
        for body in (b"x\r\n" + long + b".\r\n" + inner + b"last\r\n", b"x\r\n" + b"y" * 2048 + b"DROP\r\n"):
            c.send_mail("a@example.org", ["user@relay.example"], b"Subject: s\r\n\r\n" + body)
        hub.wait_log("status=sent", count=2)
        assert [m["sender"] for m in sink.mails] == ["a@example.org"] * 2, sink.mails
        assert sorted(m["data"].endswith(b"last\r\n") for m in sink.mails) == [False, True], sink.mails
        assert b"\r\n.\r\nMAIL FROM" in b"".join(m["data"] for m in sink.mails)


def test_unfinished_headers_count_against_the_memory_limit():
    """A header field is kept until it is complete: that is memory that clients can ask for."""
    with Hub({"header_checks": table([("^X", "WARN")]), "spool_memory_limit": "1M", "smtpd_client_connection_count_limit": "0"}) as hub:
        clients = [hub.client() for _ in range(25)]
        for c in clients:
            c.envelope("a@example.org", ["user@example.com"])
            c.cmd("DATA", 354)
        for c in clients:
            c.sock.sendall(b"X: " + b"y" * 90000)
        wait_for("a refusal", lambda: any(select.select([c.sock], [], [], 0)[0] for c in clients))
        refused = [c for c in clients if select.select([c.sock], [], [], 0)[0]]
        assert refused[0].reply().code == 421
        assert len(refused) < len(clients)
        for c in clients:
            c.close()


if __name__ == "__main__":
    cases.main(globals())

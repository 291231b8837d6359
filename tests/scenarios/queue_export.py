#!/usr/bin/env python3
"""posthousectl queue export and import: a message out of one queue and back into another, exactly."""
import json
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import BUILD, Hub, wait_for
from sink import Sink

BODY = b"Subject: caf\xc3\xa9\r\nTo: x@a.example\r\n\r\n.dot\r\n..two\r\nlong " + b"x" * 2000 + b"\r\n8bit \xe9\r\nlast\r\n"


def later():
    return Hub(routes={"a.example": "smtp:[127.0.0.1]:1"})


def detail(hub, i=0):
    return json.loads(hub.ctl("queue", "show", "-j", sorted(q["queue_id"] for q in hub.queue())[i]).stdout)


def content(hub, i=0):
    return subprocess.run([str(BUILD / "posthousectl"), "-c", str(hub.dir / "etc"), "queue", "cat",
                           sorted(q["queue_id"] for q in hub.queue())[i]], capture_output=True, check=True).stdout


def same(m):
    """What import must restore."""
    keep = {k: m.get(k) for k in ("arrival_time", "message_size", "sender", "message_id", "client_name", "client_address", "client_port",
                                  "helo", "protocol", "envelope_id", "return", "flags")}
    keep["hold"] = m["queue_name"] == "hold"
    keep["recipients"] = [{k: r.get(k) for k in ("address", "orig_address", "orcpt", "notify")} for r in m["recipients"]]
    return keep


def out_dir(hub):
    d = tempfile.mkdtemp(dir=hub.dir)
    os.chmod(d, 0o777)
    return d


def send_rich(hub):
    with hub.client() as c:
        c.send_mail("joe@example.org", ["u@a.example", '"odd name"@a.example'], BODY,
                    mail_args=" BODY=8BITMIME RET=HDRS ENVID=x+2By", rcpt_args=" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;first@a.example")
        c.send_mail("", ["v@a.example"], b"Subject: bounce\r\n\r\nno end of line" + b"\r\n", rcpt_args=" NOTIFY=NEVER")
        c.send_mail("big@example.org", ["w@a.example"], b"Subject: big\r\n\r\n" + (b"y" * 76 + b"\r\n") * 8000)
    hub.wait_log("status=deferred", 4)


def test_there_and_back():
    with later() as hub, later() as other:
        send_rich(hub)
        hub.ctl("queue", "hold", sorted(q["queue_id"] for q in hub.queue())[1])
        for mode in ("running", "stopped"):
            if mode == "stopped":
                hub.stop()
            before = [(same(detail(hub, i)), content(hub, i)) for i in range(3)]
            d = out_dir(hub)
            r = hub.ctl("queue", "export", d, "ALL")
            files = sorted(os.listdir(d))
            assert len(files) == 3 and all(f.endswith(".eml") for f in files) and "3 messages exported" in r.stderr, (files, r)
            text = open(f"{d}/{files[0]}", "rb").read()
            assert text.startswith(b"X-Posthouse-Envelope: {\r\n") and b"\r\nReceived: from" in text and text.endswith(b"8bit \xe9\r\nlast\r\n")
            r = other.ctl("queue", "import", *[f"{d}/{f}" for f in files])
            assert "3 messages imported" in r.stderr and len(r.stdout.split()) == 3, r
            wait_for("the attempts", lambda: sum(q["queue_name"] == "deferred" for q in other.queue()) == 2)
            after = [(same(detail(other, i)), content(other, i)) for i in range(3)]
            assert after == before, (before, after)
            assert len(re.findall(r"postsuper\[\d+\]: \w+: imported \(exported as \w+\)", other.log())) == (3 if mode == "running" else 6)
            other.kill()  # what was said to be imported is durable
            other.start()
            assert len(other.queue()) == 3
            other.ctl("queue", "delete", "ALL")


def test_some_and_delivered():
    with Sink() as sink, later() as hub, Hub(routes={"a.example": f"smtp:[127.0.0.1]:{sink.port}"}) as other:
        send_rich(hub)
        d = out_dir(hub)
        hub.ctl("queue", "export", d, "--sender", "joe@example.org")
        name, = os.listdir(d)
        path = f"{d}/{name}"
        text = open(path, "rb").read().replace(b"\r\n", b"\n")
        open(path, "wb").write(text)  # a copy whose line ends an editor has changed
        other.ctl("queue", "import", path)
        wait_for("the delivery", lambda: len(sink.mails) == 1 and other.queue() == [])
        mail = sink.mails[0]
        assert mail["sender"] == "joe@example.org" and sorted(mail["rcpts"]) == ['"odd name"@a.example', "u@a.example"], mail
        assert "RET=HDRS" in mail["mail_args"] and "ENVID=x+2By" in mail["mail_args"], mail["mail_args"]
        assert all("NOTIFY=SUCCESS,DELAY" in a and "ORCPT=rfc822;first@a.example" in a for a in mail["rcpt_args"]), mail["rcpt_args"]
        assert b"\r\n\r\n.dot\r\n..two\r\nlong xxx" in mail["data"] and mail["data"].endswith(b"8bit \xe9\r\nlast\r\n"), mail["data"][-200:]
        r = hub.ctl("queue", "export", d, "F00D", check=False)
        assert r.returncode == 1 and "no message with queue id F00D" in r.stderr and len(os.listdir(d)) == 1, r
        r = hub.ctl("queue", "export", d, "../x", check=False)
        assert r.returncode == 1 and "no message" in r.stderr, r
        r = hub.ctl("queue", "export", d + "/nothing", "ALL", check=False)
        assert r.returncode == 73 and "No such file" in r.stderr, r
        mine = hub.dir / "mine"
        mine.mkdir(mode=0o700)
        hub.stop()
        r = hub.ctl("queue", "export", str(mine), "ALL", check=False)
        if os.geteuid() == 0:  # who is the owner of the spool by then
            assert r.returncode == 73 and "as the owner of the spool" in r.stderr and "Permission denied" not in r.stderr, r
        assert len(list(mine.iterdir())) == (0 if os.geteuid() == 0 else len(hub.queue()))
        for args in ([], [d], [d, "--sender"]):
            r = hub.ctl("queue", "export", *args, check=False)
            assert r.returncode == 64 and "usage" in r.stderr, (args, r)


def test_plain_message():
    with Hub() as hub:
        path = hub.dir / "m.eml"
        path.write_bytes(b"Subject: plain\r\nTo: user@example.com\r\nFrom: joe@example.org\r\n\r\nhello\r\n")
        r = hub.ctl("queue", "import", str(path), check=False)
        assert r.returncode == 65 and "no envelope: say to whom" in r.stderr, r
        hub.ctl("queue", "import", "--sender", "s@example.org", "--recipient", "user@example.com", str(path))
        assert b"Return-Path: <s@example.org>" in hub.wait_mails(1)[0]
        hub.ctl("queue", "import", "--sender", "s@example.org", "-t", str(path))
        hub.wait_mails(2)
        hub.stop()
        r = hub.ctl("queue", "import", "--sender", "<>", "-t", str(path))  # waits in maildrop/
        assert "1 message imported" in r.stderr, r
        hub.start()
        hub.wait_mails(3)


def test_what_is_refused():
    with later() as hub:
        send_rich(hub)
        d = out_dir(hub)
        hub.ctl("queue", "export", d, "--sender", "joe@example.org")
        good = open(f"{d}/{os.listdir(d)[0]}", "rb").read()
        hub.ctl("queue", "delete", "--final", "ALL")
        bad = hub.dir / "bad.eml"
        head, rest = good.split(b"\r\nReceived:", 1)
        for text, words in (
                (b"", "it is empty"), (b"\x1f\x8b\x08\x00\x00", "line 1 is not a header field"), (b"hello world\nhow are you\n", "line 1 is not"),
                (b"Subject: x\nnot a header line\n\nbody\n", "line 2 is not a header field"),
                (b"From joe@example.org Mon Jan  1 00:00:00 2024\nSubject: x\n\nhi\n", "it is a mailbox"),
                (good.replace(b"{", b"[", 1), "is not JSON"), (head + b"\r\n\x00\x01binary", "not a header field"), (head + b"\r\n", "it is empty"),
                (good.replace(b'"posthouse_envelope": 1', b'"posthouse_envelope": 9'), "not of version 1"),
                (good.replace(b'"sender": "joe@example.org"', b'"sender": 7'), "has no sender"),
                (good.replace(b"u@a.example", b"u\\r\\nRSET@a.example", 1), "control characters"),
                (good.replace(b'"address": "u@a.example"', b'"address": ""', 1), "without an address"),
                (good.replace(b'"success"', b'"sometimes"', 1), 'unknown word "sometimes"'),
                (good.replace(b'"arrival_us"', b'"arrival"'), "no time of arrival"),
                (re.sub(rb'"recipients": \[.*?\r\n  \]', b'"recipients": []', good, flags=re.S), "no recipients")):
            assert text != good, words
            bad.write_bytes(text)
            r = hub.ctl("queue", "import", str(bad), check=False)
            assert r.returncode == 65 and words in r.stderr and "0 messages imported" in r.stderr, (words, r)
        assert hub.queue() == []
        r = hub.ctl("queue", "import", str(hub.dir / "nothing.eml"), check=False)
        assert r.returncode == 66 and "No such file" in r.stderr, r
        for args in ([], ["-t", "--recipient", "a@b.example", "x"], ["--recipient", "not an address", "x"], ["-x"]):
            r = hub.ctl("queue", "import", *args, check=False)
            assert r.returncode == 64 and "usage" in r.stderr, (args, r)
        bad.write_bytes(good)
        r = hub.ctl("queue", "import", str(bad), str(hub.dir / "nothing.eml"), check=False)  # the good one is in, and said to be
        assert r.returncode == 66 and "1 message imported" in r.stderr and len(hub.queue()) == 1, r
        hub.stop()
        r = hub.ctl("queue", "import", str(bad), check=False)
        assert r.returncode == 69 and "not running" in r.stderr, r


if __name__ == "__main__":
    cases.main(globals())

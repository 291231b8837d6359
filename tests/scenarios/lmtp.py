#!/usr/bin/env python3
"""LMTP: one reply per recipient, and what happens when the connection dies between two of them. RFC 2033; lmtp(8)."""
import collections
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import CLOSE, HANG, Sink

MAIL = b"From: user@example.com\r\nSubject: s\r\n\r\nhi\r\n"
RCPTS = [f"u{i}@r.example" for i in range(5)]
QUICK = {"minimal_backoff_time": "1s", "maximal_backoff_time": "1s", "queue_run_delay": "1s",
         "default_destination_concurrency_failed_cohort_limit": "1000"}


def send(hub, rcpts=RCPTS):
    with hub.client() as c:
        qid = c.send_mail("user@example.com", rcpts, MAIL)
        c.quit()
    return qid


def received(sink):
    return collections.Counter(r for m in sink.mails for r in m["rcpts"])


def test_a_reply_for_each_recipient():
    with Sink(lmtp=True) as sink, Hub(QUICK, routes={"r.example": f"lmtp:inet:[127.0.0.1]:{sink.port}"}) as hub:
        first = ["250 2.1.5 stored", "452 4.2.2 over quota", "550 5.2.1 disabled", "250 2.1.5 stored too", "451 4.3.0 later"]
        replies = [first]
        sink.on["END"] = lambda s, mail: replies.pop(0) if replies else None
        sink.on["RCPT"] = lambda s, a: "550 5.1.1 unknown" if "nosuch" in a else None
        qid = send(hub, RCPTS[:2] + ["nosuch@r.example"] + RCPTS[2:])
        hub.wait_log(rf"{qid}: removed")
        log = hub.log()
        for rcpt, dsn, status, text in [("u0", "2.1.5", "sent", "250 2.1.5 stored"), ("u1", "4.2.2", "deferred", "452 4.2.2 over quota"),
                                        ("u2", "5.2.1", "bounced", "550 5.2.1 disabled"), ("u3", "2.1.5", "sent", "stored too"),
                                        ("u4", "4.3.0", "deferred", "451 4.3.0 later"), ("nosuch", "5.1.1", "bounced", "RCPT TO")]:
            lines = [line for line in log.splitlines() if f"{qid}: to=<{rcpt}@r.example>" in line]
            assert f"dsn={dsn}, status={status} (" in lines[0] and text in lines[0], lines
            assert len(lines) == (2 if status == "deferred" else 1), lines
        assert received(sink) == {r: 1 for r in (RCPTS[0], RCPTS[1], RCPTS[3], RCPTS[4])}, received(sink)
        assert all(s.commands[0] == "LHLO hub.example.net" for s in sink.sessions)


def test_connection_lost_between_replies():
    """Who was answered is never sent again; the others each get the message exactly once."""
    cases_of = {f"{how}{n}": ["250 2.1.5 ok"] * n + [end] for how, end in (("close", CLOSE), ("hang", HANG)) for n in range(len(RCPTS))}
    with Sink(lmtp=True) as sink, Hub(dict(QUICK, lmtp_data_done_timeout="3s"),
                                      routes={"r.example": f"lmtp:inet:[127.0.0.1]:{sink.port}"}) as hub:
        once = dict(cases_of)
        sink.on["END"] = lambda s, mail: once.pop(mail["rcpts"][0].split("-")[0], None)
        qids = {case: send(hub, [f"{case}-{r}" for r in RCPTS]) for case in cases_of}
        for case, qid in qids.items():
            hub.wait_log(rf"{qid}: removed")
            lines = [line for line in hub.log().splitlines() if f"{qid}: to=<" in line]
            assert sum("status=sent" in line for line in lines) == len(RCPTS), lines
            assert sum("status=deferred" in line for line in lines) == len(RCPTS) - int(case[-1]), lines
        assert received(sink) == {f"{case}-{r}": 1 for case in cases_of for r in RCPTS}, received(sink)


def test_the_rest_is_sent_singly_after_a_loss():
    """The unanswered are retried one by one, so that one poisoned mailbox cannot hold the others."""
    with Sink(lmtp=True) as sink, Hub(QUICK, routes={"r.example": f"lmtp:inet:[127.0.0.1]:{sink.port}"}) as hub:
        def end(s, mail):
            if RCPTS[2] in mail["rcpts"] and sink.attempts < 5:
                return [("250 2.1.5 ok" if r != RCPTS[2] else CLOSE) for r in mail["rcpts"]]
        sink.on["END"] = end
        qid = send(hub)
        wait_for("the others", lambda: set(received(sink)) >= set(RCPTS) - {RCPTS[2]})
        hub.wait_log(rf"{qid}: removed", seconds=60)
        assert received(sink) == {r: 1 for r in RCPTS}, received(sink)
        retries = [c for s in sink.sessions[1:] for c in s.commands if c.startswith("RCPT")]
        assert len(retries) >= 3


def test_unix_socket():
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        path = os.path.join(d, "lmtp")
        with Sink(lmtp=True, path=path) as sink, Hub(QUICK, routes={"r.example": f"lmtp:unix:{path}"}) as hub:
            qid = send(hub)
            hub.wait_log(rf"{qid}: removed")
            assert received(sink) == {r: 1 for r in RCPTS}
            hub.wait_log(rf"lmtp\[\d+\]: {qid}: to=<u0@r\.example>, relay=hub\.example\.net\[{path}\], .*status=sent")
        qid = send_to_dead_socket(path)
        assert qid


def send_to_dead_socket(path):
    with Hub(QUICK, routes={"r.example": f"lmtp:unix:{path}x"}) as hub:
        qid = send(hub, RCPTS[:1])
        hub.wait_log(rf"{qid}: to=<u0@r\.example>, relay=none, .*dsn=4\.4\.1, status=deferred \(connect to hub\.example\.net\[{path}x\]: No such file or directory\)$")
        return qid


def test_virtual_mailboxes_over_lmtp():
    """virtual_transport = lmtp: the usual feeder of a mail store; unknown users are refused at RCPT."""
    with Sink(lmtp=True) as sink, Hub(QUICK, start=False) as hub:
        hub.main["virtual_transport"] = f"lmtp:inet:[127.0.0.1]:{sink.port}"
        hub.write_conf()
        hub.start()
        with hub.client() as c:
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<nobody@example.com>", 550)
            c.cmd("RCPT TO:<user@example.com>", 250)
            c.cmd("RCPT TO:<other@example.com>", 250)
            c.content(MAIL)
        wait_for("both", lambda: len(sink.mails) == 2)
        assert received(sink) == {"user@example.com": 1, "other@example.com": 1}
        assert all(b"Received: " in m["data"] for m in sink.mails)


if __name__ == "__main__":
    cases.main(globals())

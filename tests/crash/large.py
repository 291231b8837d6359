#!/usr/bin/env python3
"""kill -9 while large messages arrive and leave: what was answered 250 is there whole, half a message never is.

$POSTHOUSE_KILLS (default 8) kills while clients send messages of 300 KiB to 3 MiB; then a queue that was built up while the next
hop was away must survive a kill, and no delivery whose result was written before the kill may be repeated.
"""
import hashlib
import os
import random
import re
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from client import Client
from hub import Hub, wait_for
from sink import Sink

KILLS = int(os.environ.get("POSTHOUSE_KILLS", "8"))
SEED = int(os.environ.get("POSTHOUSE_SEED", str(random.randrange(1 << 30))))


def message(n):
    """Content that can be checked by itself: its number gives size and bytes."""
    rng = random.Random(n)
    line = b"%064x" % rng.getrandbits(256)
    body = b"".join(line + b"%08d\r\n" % i for i in range(rng.randrange(4200, 42000)))
    digest = hashlib.md5(body).hexdigest().encode()
    return b"From: a@example.org\r\nX-Number: %d\r\nX-Digest: %s\r\n\r\n" % (n, digest) + body


def check(data, eol):
    head, body = data.split(eol + eol, 1)
    number = int(re.search(rb"^X-Number: (\d+)", head, re.M).group(1))
    want = re.search(rb"^X-Digest: (\w+)", head, re.M).group(1).decode()
    assert hashlib.md5(body.replace(eol, b"\r\n")).hexdigest() == want, f"message {number} is not whole: {len(body)} bytes"
    return number


def test_large_messages():
    rng = random.Random(SEED)
    print(f"seed {SEED}, {KILLS} kills", flush=True)
    with Sink() as sink, Hub({"minimal_backoff_time": "1s", "maximal_backoff_time": "1s", "queue_run_delay": "1s",
                              "journal_segment_size": "1M", "smtpd_client_connection_count_limit": "0"},
                             routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        accepted, over, count = set(), threading.Event(), iter(range(1, 1 << 30))

        def load():
            while not over.is_set():
                n = next(count)
                try:
                    with Client("127.0.0.1", hub.port, timeout=20) as c:
                        c.send_mail("a@example.org", ["user@example.com", "x@r.example"], message(n))
                        accepted.add(n)
                except (OSError, EOFError, ValueError, AssertionError):
                    over.wait(0.005)
        threads = [threading.Thread(target=load, daemon=True) for _ in range(2)]
        for t in threads:
            t.start()
        for _ in range(KILLS):
            before = len(accepted)
            time.sleep(rng.uniform(0.01, 0.4))  # the random moment is what this test is about
            hub.kill()
            hub.start()
            wait_for("mail to be accepted again", lambda: len(accepted) > before)
        over.set()
        for t in threads:
            t.join(60)
        wait_for("the queue to drain", lambda: not hub.queue(), 120)
        for place, found in (("Maildir", [check(m, b"\n") for m in hub.mails()]),
                             ("SMTP", [check(m["data"], b"\r\n") for m in sink.mails])):
            lost = sorted(accepted - set(found))
            assert not lost, f"{place}: acknowledged messages are missing: {lost[:20]}"
        left = list((hub.dir / "spool" / "large").rglob("*")) if (hub.dir / "spool" / "large").is_dir() else []
        hub.stop()
        hub.start()  # what a kill left half written is swept away at a start
        wait_for("no file in large/", lambda: not [p for p in (hub.dir / "spool" / "large").rglob("*") if p.is_file()])
        print(f"{len(accepted)} acknowledged, none lost; files in large/ before the last start: {len(left)}", flush=True)


def test_a_written_result_is_not_repeated():
    """Two places, one away: after the kill only that one gets the message."""
    with Sink() as dead:
        port = dead.port
    with Sink() as sink, Hub({"minimal_backoff_time": "300s", "maximal_backoff_time": "300s", "queue_run_delay": "300s"},
                             routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}", "dead.example": f"smtp:[127.0.0.1]:{port}"}) as hub:
        with hub.client() as c:
            for _ in range(100):
                c.send_mail("a@example.org", ["x@r.example", "y@dead.example", "user@example.com"], b"Subject: x\r\n\r\nx\r\n")
        wait_for("what can be delivered", lambda: len(sink.mails) == 100 and len(hub.mails()) == 100)
        hub.wait_log(r"to=<y@dead\.example>, .*status=deferred", 100)
        hub.wait_log(r"to=<x@r\.example>, .*status=sent", 100)
        hub.wait_log(r"to=<user@example\.com>, .*status=sent", 100)
        hub.kill()
        hub.start()
        assert len(hub.queue()) == 100
        assert all([r["address"] for r in m["recipients"]] == ["y@dead.example"] for m in hub.queue())
        with Sink(port=port) as back:
            hub.ctl("queue", "flush")
            wait_for("the rest", lambda: len(back.mails) >= 100)
            wait_for("an empty queue", lambda: not hub.queue())
            assert (len(sink.mails), len(hub.mails()), len(back.mails)) == (100, 100, 100)


if __name__ == "__main__":
    cases.main(globals())

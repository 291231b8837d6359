#!/usr/bin/env python3
"""What grows, in short: a backlog, slow flushes, large mailings, long lines, next hops that hang. tests/bench/scale has the long forms.

Nothing here measures time: every limit is the one at which a test counts as hanging.
"""
import json
import os
import pathlib
import re
import socket
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
import shims
from hub import Hub, wait_for
from sink import Sink

LONG_S = 240
BACKLOG = 20000
SANITIZED_BACKLOG = 4000
NO_RETRY = {"minimal_backoff_time": "3000s", "maximal_backoff_time": "4000s", "queue_run_delay": "1000s"}


class Blast:
    """Many small messages over a few connections, each command group in one write."""

    def __init__(self, hub, sender="a@example.org"):
        self.hub, self.sender = hub, sender

    def _one(self, rcpts):
        with socket.create_connection(("127.0.0.1", self.hub.port), LONG_S) as s:
            f = s.makefile("rb")

            def expect(*codes):
                for code in codes:
                    while (line := f.readline())[3:4] == b"-":
                        pass
                    assert line.startswith(code), line
            expect(b"220")
            s.sendall(b"EHLO client.example.org\r\n")
            expect(b"250")
            for n, rcpt in enumerate(rcpts):
                s.sendall(f"MAIL FROM:<{self.sender}>\r\nRCPT TO:<{rcpt}>\r\nDATA\r\n".encode())
                expect(b"250", b"250", b"354")
                s.sendall(b"Subject: %d\r\n\r\nhi\r\n.\r\n" % n)
                expect(b"250")
            s.sendall(b"QUIT\r\n")

    def send(self, rcpts, connections=4):
        failed = []

        def run(part):
            try:
                self._one(part)
            except Exception as e:  # told on the test's own thread
                failed.append(e)
        threads = [threading.Thread(target=run, args=(rcpts[i::connections],)) for i in range(connections)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failed, failed


def free_port():
    with Sink() as s:
        return s.port


def count(hub, what):
    return json.loads(hub.ctl("status", "-j").stdout)["queue"][what]


def rcpts_of(sink):
    return [r for m in sink.mails for r in m["rcpts"]]


def memory_kib(hub):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{hub.proc.pid}/status").read_text()).group(1))


def is_sanitized(hub):
    """Sanitizers multiply memory; Python cannot know the build better than by its size."""
    return b"__asan_" in (pathlib.Path(hub.command()[0]).read_bytes()) or b"__tsan_" in pathlib.Path(hub.command()[0]).read_bytes()


def test_a_backlog_of_deferred_mail():
    """Into the index, over a restart, asked about, flushed, drained; every message once."""
    port = free_port()
    with Hub(dict(NO_RETRY), routes={"r.example": f"smtp:[127.0.0.1]:{port}"}) as hub:
        sanitized = is_sanitized(hub)
        backlog = SANITIZED_BACKLOG if sanitized else BACKLOG
        addresses = [f"u{i}@r.example" for i in range(backlog)]
        Blast(hub).send(addresses)
        wait_for("all to be deferred", lambda: count(hub, "deferred") == backlog, LONG_S)
        if not sanitized:
            assert memory_kib(hub) < 150_000, memory_kib(hub)
        hub.stop()
        hub.start()
        Blast(hub, "other@example.org").send(["late@r.example"], 1)
        hub.ctl("queue", "stats")
        found = hub.ctl("queue", "list", "--sender", "other@example.org").stdout
        assert "late@r.example" in found and "u1@r.example" not in found
        with Sink(port=port) as sink:
            hub.ctl("queue", "flush")
            wait_for("the backlog to drain", lambda: len(sink.mails) >= backlog + 1, LONG_S)
            wait_for("an empty queue", lambda: count(hub, "deferred") + count(hub, "active") == 0, LONG_S)
            got = rcpts_of(sink)
            assert len(got) == backlog + 1 and set(got) == set(addresses) | {"late@r.example"}


def test_one_sender_does_not_delay_another():
    """5,000 of one sender wait for a slow next hop; the one of another is there long before them, also after a kill."""
    may_answer = threading.Event()
    with Sink() as sink, Hub(routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        sink.on["MAIL"] = lambda s, arg: None if may_answer.wait(LONG_S) else None
        Blast(hub, "many@example.org").send([f"u{i}@r.example" for i in range(5000)])
        Blast(hub, "one@example.org").send(["only@r.example"], 1)
        may_answer.set()
        wait_for("the one message", lambda: "only@r.example" in rcpts_of(sink), LONG_S)
        before = rcpts_of(sink).index("only@r.example")
        assert before < 200, before
        wait_for("the others", lambda: len(sink.mails) >= 5001, LONG_S)
        assert len(set(rcpts_of(sink))) == 5001 == len(sink.mails)


def test_a_line_survives_a_kill():
    """What waits in line is nowhere but in the journal: killed at once, all of it is still delivered."""
    may_answer = threading.Event()
    with Sink() as sink, Hub({"index_flush_interval": "100ms"}, routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        sink.on["MAIL"] = lambda s, arg: None if may_answer.wait(LONG_S) else None
        blast = Blast(hub)
        blast.send([f"u{i}@r.example" for i in range(2000)])
        hub.kill()
        hub.start()
        blast.send([f"v{i}@r.example" for i in range(1000)])
        hub.kill()
        hub.start()
        may_answer.set()
        wanted = {f"u{i}@r.example" for i in range(2000)} | {f"v{i}@r.example" for i in range(1000)}
        wait_for("all of them", lambda: set(rcpts_of(sink)) >= wanted, LONG_S)
        wait_for("an empty queue", lambda: not hub.queue(), LONG_S)


def test_next_hops_that_hang():
    """20 next hops, ten of which take connections and say nothing: the others get all their mail meanwhile."""
    silent = [socket.create_server(("127.0.0.1", 0), backlog=64) for _ in range(10)]
    sinks = [Sink() for _ in range(10)]
    try:
        routes = {f"h{i}.example": f"smtp:[127.0.0.1]:{s.getsockname()[1]}" for i, s in enumerate(silent)}
        routes |= {f"g{i}.example": f"smtp:[127.0.0.1]:{s.port}" for i, s in enumerate(sinks)}
        with Hub(routes=routes) as hub:
            Blast(hub).send([f"u{n}@{kind}{i}.example" for n in range(100) for i in range(10) for kind in "hg"])
            for i, s in enumerate(sinks):
                wait_for(f"the mail of g{i}", lambda s=s: len(s.mails) >= 100, LONG_S)
                assert len(set(rcpts_of(s))) == 100
            assert count(hub, "active") > 0
            for s in silent:  # a stop would wait for them
                s.close()
    finally:
        for s in silent + sinks:
            s.close()


def test_mailings():
    """One message to 1,000 at one next hop, one to 2,000 in 200 domains: each recipient once, and one message of another first."""
    with Sink() as sink:
        to = f"smtp:[127.0.0.1]:{sink.port}"
        routes = {"r.example": to, "other.example": to} | {f"d{i}.example": to for i in range(200)}
        with Hub({"smtpd_recipient_limit": "5000"}, routes=routes) as hub:
            wanted = [f"u{i}@r.example" for i in range(1000)] + [f"u{i}@d{i % 200}.example" for i in range(2000)]
            with hub.client() as c:
                c.send_mail("list@example.org", wanted[:1000], b"Subject: one\r\n\r\nhi\r\n")
                c.send_mail("list@example.org", wanted[1000:], b"Subject: many\r\n\r\nhi\r\n")
                c.send_mail("a@example.org", ["x@other.example"], b"Subject: other\r\n\r\nhi\r\n")
                c.quit()
            wait_for("all recipients", lambda: len(rcpts_of(sink)) >= len(wanted) + 1, LONG_S)
            assert sorted(rcpts_of(sink)) == sorted(wanted + ["x@other.example"])
            wait_for("an empty queue", lambda: not hub.queue(), LONG_S)


def test_slow_flushes_are_shared():
    """A flush of 50 ms and twenty sessions: 400 messages do not take 400 flushes."""
    with tempfile.TemporaryDirectory(prefix="posthouse-shim-") as d:
        shim, flushes = shims.build("shim_flush", d), pathlib.Path(d) / "flushes"
        flushes.touch()
        flushes.chmod(0o666)
        with Hub(start=False, routes={"r.example": "discard:"},
                 env={"LD_PRELOAD": str(shim), "SHIM_FLUSH_US": "50000", "SHIM_FLUSH_LOG": str(flushes)}) as hub:
            if is_sanitized(hub):
                raise cases.Skip("a sanitizer wants to be loaded first")
            hub.start()
            before = flushes.stat().st_size
            Blast(hub).send([f"u{i}@r.example" for i in range(400)], connections=20)
            assert before < flushes.stat().st_size < before + 300, flushes.stat().st_size - before
            wait_for("an empty queue", lambda: not hub.queue(), LONG_S)


if __name__ == "__main__":
    cases.main(globals())

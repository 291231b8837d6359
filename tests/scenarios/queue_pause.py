#!/usr/bin/env python3
"""posthousectl queue pause and resume, and the delivery of one destination now."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from hub import MASTER
from sink import Sink

BODY = b"Subject: x\r\n\r\nhello\r\n"


def send(hub, *rcpts, n=1):
    with hub.client() as c:
        for _ in range(n):
            c.send_mail("joe@example.org", list(rcpts), BODY)


def two_ways(a, b, **main):
    return Hub({"index_flush_interval": "100ms", **main},
               routes={"a.example": f"smtp:[127.0.0.1]:{a.port}", "b.example": f"relay:[127.0.0.1]:{b.port}"})


def show(hub, i=0):
    return json.loads(hub.ctl("queue", "show", "-j", hub.queue()[i]["queue_id"]).stdout)


def rcpt(m, address):
    return next(r for r in m["recipients"] if r["address"] == address)


def test_destination():
    with Sink() as a, Sink() as b, two_ways(a, b) as hub:
        hop = f"[127.0.0.1]:{a.port}"
        assert hub.ctl("queue", "pause").stdout == "nothing is paused\n"
        hub.ctl("queue", "pause", "--destination", hop)
        send(hub, "u@a.example", "u@b.example")
        send(hub, "v@a.example")
        hub.wait_log("to=<u@b.example>.*status=sent")
        wait_for("both to rest", lambda: "active" not in {q["queue_name"] for q in hub.queue()} and len(hub.queue()) == 2)
        reason = f"delivery is paused by the administrator: destination {hop}"

        def as_told():
            m = next(q for q in hub.queue() if any(r["address"] == "u@a.example" for r in q["recipients"]))
            assert [r.get("delay_reason") for r in m["recipients"]] == [reason], m
            r = rcpt(json.loads(hub.ctl("queue", "show", "-j", m["queue_id"]).stdout), "u@a.example")
            assert r["state"] == "waiting" and r["attempts"] == 0 and r["delay_reason"] == reason and r["nexthop"] == hop, r
            status = hub.ctl("status").stdout
            assert f"paused           destination {hop}\n" in status, status
            assert hub.ctl("queue", "pause").stdout.startswith(f"destination {hop} "), hub.ctl("queue", "pause").stdout
            return True
        as_told()
        hub.ctl("queue", "flush")
        hub.ctl("queue", "flush", hub.queue()[0]["queue_id"])
        hub.ctl("reload")
        wait_for("the queue to rest", lambda: "active" not in {q["queue_name"] for q in hub.queue()})
        as_told()
        hub.stop()
        r = hub.ctl("queue", "pause")
        assert f"destination {hop} " in r.stdout and "not running" in r.stderr, r
        assert reason in hub.ctl("queue", "list").stdout
        hub.start()
        assert f"destination {hop} is paused" in hub.log()[hub.log_from:]
        as_told()
        hub.kill()
        hub.start()
        as_told()
        send(hub, "w@b.example")
        hub.wait_log("to=<w@b.example>.*status=sent")
        assert a.attempts == 0 and "to=<u@a.example>" not in hub.log()
        hub.ctl("queue", "resume", "--destination", hop)
        wait_for("the rest to be delivered", lambda: len(a.mails) == 2 and hub.queue() == [])
        assert f"destination {hop} is resumed" in hub.log()
        assert len(b.mails) == 2
        assert hub.ctl("queue", "pause", "-j").stdout == ""


def test_transport():
    with Sink() as a, Sink() as b, two_ways(a, b) as hub:
        hub.ctl("queue", "pause", "--transport", "relay")
        send(hub, "u@a.example", "u@b.example", n=3)
        hub.wait_log("to=<u@a.example>.*status=sent", 3)
        assert rcpt(show(hub), "u@b.example")["delay_reason"] == "delivery is paused by the administrator: transport relay"
        assert json.loads(hub.ctl("queue", "pause", "-j").stdout)["name"] == "relay"
        wait_for("the rows to be written", lambda: "relay" in json.dumps(show(hub)))
        hub.ctl("queue", "resume", "--all")
        wait_for("the rest to be delivered", lambda: len(b.mails) == 3 and hub.queue() == [])
        assert a.attempts == 3


def rows(hub):
    import sqlite3
    db = sqlite3.connect(f"file:{hub.dir}/spool/index.db?mode=ro", uri=True)
    n = db.execute("SELECT count(*) FROM recipients WHERE nexthop <> ''").fetchone()[0]
    db.close()
    return n


def test_backlog_does_not_delay_others():
    """More mail for what is paused than may be active, some of it queued before the pause."""
    with Sink() as a, Sink() as b, two_ways(a, b, qmgr_message_active_limit="20", smtp_destination_concurrency_limit="2") as hub:
        hop = f"[127.0.0.1]:{a.port}"
        go = []
        a.on["MAIL"] = lambda s, arg: None if go else wait_for("the word", lambda: go, 60) and None
        send(hub, "u@a.example", n=30)
        wait_for("some to be in delivery", lambda: json.loads(hub.ctl("status", "-j").stdout)["queue"]["in_delivery"] >= 1)
        hub.ctl("queue", "pause", "--destination", hop)
        send(hub, "u@a.example", n=40)
        for i in range(5):
            send(hub, f"u{i}@b.example", n=5)
        wait_for("the others to be delivered", lambda: len(b.mails) == 25, 10)
        counts = json.loads(hub.ctl("status", "-j").stdout)["queue"]
        assert counts["active"] <= 2, counts  # what was in delivery already
        go.append(1)
        wait_for("what was under way to end", lambda: json.loads(hub.ctl("status", "-j").stdout)["queue"]["in_delivery"] == 0)
        done = len(a.mails)
        assert done <= 3, done
        wait_for("the rest to have rows", lambda: rows(hub) == 70 - done)
        hub.ctl("queue", "resume", "--destination", hop.upper())  # names are compared without case
        wait_for("all of it", lambda: len(a.mails) == 70 and hub.queue() == [])
        assert a.attempts == 70


def test_deliver_one_destination_now():
    with Sink() as a, Sink() as b, two_ways(a, b, minimal_backoff_time="1000s", index_flush_interval="100ms") as hub:
        later = lambda s, arg: "450 4.2.1 later"
        a.on["RCPT"] = b.on["RCPT"] = later
        send(hub, "u@a.example", "u@b.example")
        send(hub, "v@a.example")
        send(hub, "v@b.example")
        hub.wait_log("status=deferred", 4)
        wait_for("the rows", lambda: rows(hub) == 4)
        for where in ("memory", "index"):
            if where == "index":
                hub.stop()
                hub.start()
            before = len(a.sessions), len(b.sessions)
            at = len(hub.log())
            hub.ctl("queue", "flush", "--destination", f"[127.0.0.1]:{b.port}")
            wait_for("two attempts", lambda: hub.log()[at:].count("status=deferred") == 2)
            assert "@a.example" not in hub.log()[at:], hub.log()[at:]
            assert len(a.sessions) == before[0]
            tries = {r["address"]: r["attempts"] for i in range(3) for r in show(hub, i)["recipients"]}
            n = 2 if where == "memory" else 3
            assert tries == {"u@a.example": 1, "v@a.example": 1, "u@b.example": n, "v@b.example": n}, tries
        b.on.clear()
        r = hub.ctl("queue", "flush", "-s", "nobody.example", check=False)
        assert r.returncode == 1 and "no mail waits for nobody.example" in r.stderr, r
        hub.ctl("queue", "flush", "-s", f"[127.0.0.1]:{b.port}")
        wait_for("b's mail", lambda: len(b.mails) == 2)
        hub.wait_queue(["u@a.example", "v@a.example"])
        a.on.clear()
        hub.ctl("queue", "flush", "--destination", "127.0.0.1")  # a host alone means it with brackets and port too
        wait_for("a's mail", lambda: len(a.mails) == 2)


def test_bad_input():
    with Hub(routes={"x.example": "smtp:[127.0.0.1]:1"}, master=MASTER) as hub:
        send(hub, "u@x.example")
        hub.wait_log("status=deferred")
        assert hub.ctl("queue", "pause", "--destination", "[127.0.0.1]:1").stderr == ""
        r = hub.ctl("queue", "pause", "--destination", "127.0.0.1")
        assert 'no mail waits for "127.0.0.1"' in r.stderr and "as queue show prints it" in r.stderr, r
        hub.ctl("queue", "resume", "--all")
        for args in (["pause", "x"], ["pause", "--destination", "a", "--transport", "smtp"], ["resume"], ["resume", "--all", "-d", "x"],
                     ["pause", "--all"], ["pause", "--nothing"]):
            r = hub.ctl("queue", *args, check=False)
            assert r.returncode == 64 and "usage" in r.stderr, (args, r)
        r = hub.ctl("queue", "pause", "--transport", "pigeon", check=False)
        assert r.returncode == 65 and 'no transport "pigeon"' in r.stderr, r
        r = hub.ctl("queue", "pause", "--destination", "*.example", check=False)
        assert r.returncode == 65 and "is a pattern" in r.stderr, r
        r = hub.ctl("queue", "resume", "--destination", "x.example", check=False)
        assert r.returncode == 1 and "is not paused" in r.stderr, r
        for bad in ("", " x", "a\nb", "x" * 2000):
            r = hub.ctl("queue", "pause", "--destination", bad, check=False)
            assert r.returncode == 65 and "no name of a destination" in r.stderr, (bad[:10], r)
        r = hub.ctl("queue", "pause", "--destination", "x.example")
        assert 'no mail waits for "x.example"' in r.stderr, r
        r = hub.ctl("queue", "pause", "--destination", "X.example", check=False)
        assert r.returncode == 1 and "paused already" in r.stderr, r
        os.chmod(hub.dir / "spool", 0o500)
        try:
            if os.geteuid() != 0:  # nobody stops root
                r = hub.ctl("queue", "pause", "--destination", "y.example", check=False)
                assert r.returncode == 74 and "paused" in r.stderr, r
        finally:
            os.chmod(hub.dir / "spool", 0o711)
        hub.stop()
        with open(hub.dir / "spool" / "paused", "a") as f:
            f.write("what is this\ndestination 12 z.example\n")
        r = hub.ctl("queue", "pause", "--destination", "y.example", check=False)
        assert r.returncode == 69 and "not running" in r.stderr, r
        hub.start()
        assert "1 lines that make no sense" in hub.log()
        assert len(hub.ctl("queue", "pause").stdout.splitlines()) == 2


if __name__ == "__main__":
    cases.main(globals())

#!/usr/bin/env python3
"""When the next attempt is made: back-off, dead next hops, defer_transports, hold and flush. qmgr(8)."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import Sink

MAIL = b"From: a@example.org\r\nSubject: s\r\n\r\nhi\r\n"
SLOW = {"minimal_backoff_time": "1000s", "maximal_backoff_time": "1000s", "queue_run_delay": "1000s"}
QUICK = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s"}


def free_port():
    with Sink() as s:
        return s.port


def send(hub, *rcpts):
    with hub.client() as c:
        qid = c.send_mail("a@example.org", rcpts or ["x@r.example"], MAIL)
        c.quit()
    return qid


def status(hub, qid, word, count=1):
    return hub.wait_log(rf"{qid}: to=<[^>]*>, .*status={word} \((.*)\)$", count)


def test_a_dead_next_hop_comes_back():
    port = free_port()
    with Hub(QUICK, routes={"r.example": f"smtp:[127.0.0.1]:{port}"}) as hub:
        ids = [send(hub) for _ in range(10)]
        status(hub, ids[0], "deferred")
        assert len(hub.queue()) == 10
        with Sink(port=port) as sink:
            for qid in ids:
                hub.wait_log(rf"{qid}: removed$")
            assert len(sink.mails) == 10
            assert hub.queue() == []


def test_mail_for_a_dead_site_is_not_tried_each_time():
    port = free_port()
    with Hub(dict(SLOW, initial_destination_concurrency="1"), routes={"r.example": f"smtp:[127.0.0.1]:{port}"}) as hub:
        first = send(hub)
        status(hub, first, "deferred")
        second = send(hub)
        assert status(hub, second, "deferred")[0].startswith("delivery temporarily suspended: connect to "), hub.log()
        assert hub.log().count("]: connect to 127.0.0.1") == 1


def test_one_dead_site_does_not_hold_up_another():
    port = free_port()
    with Sink() as sink, Hub(SLOW, routes={"dead.example": f"smtp:[127.0.0.1]:{port}", "r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        for _ in range(20):
            send(hub, "x@dead.example", "x@r.example")
        wait_for("what can be delivered", lambda: len(sink.mails) == 20)
        left = hub.queue()
        assert len(left) == 20 and all([r["address"] for r in m["recipients"]] == ["x@dead.example"] for m in left)
        assert all("Connection refused" in m["recipients"][0]["delay_reason"] for m in left), left[0]


def test_flush_by_id_and_site():
    port = free_port()
    with Hub(SLOW, routes={d: f"smtp:[127.0.0.1]:{port}" for d in ("r.example", "s.example")}) as hub:
        one, two = send(hub, "x@r.example"), send(hub, "x@s.example")
        status(hub, one, "deferred")
        status(hub, two, "deferred")
        with Sink(port=port) as sink:
            hub.ctl("queue", "flush", one)
            hub.wait_log(rf"{one}: removed$")
            assert len(sink.mails) == 1 and [m["queue_id"] for m in hub.queue()] == [two]
            hub.ctl("queue", "flush")
            hub.wait_log(rf"{two}: removed$")


def test_defer_transports():
    with Sink() as sink, Hub(dict(SLOW, defer_transports="smtp"), routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        qid = send(hub, "x@r.example", "user@example.com")
        hub.wait_mails(1)
        assert "deferred transport" in status(hub, qid, "deferred")[0]
        assert not sink.mails
        hub.main["defer_transports"] = ""
        hub.write_conf()
        hub.reload()
        hub.ctl("queue", "flush")
        hub.wait_log(rf"{qid}: removed$")


def test_hold_survives_a_restart_and_a_flush():
    with Sink() as sink:
        port = sink.port
    with Hub(SLOW, routes={"r.example": f"smtp:[127.0.0.1]:{port}"}) as hub:
        qid = send(hub)
        status(hub, qid, "deferred")
        hub.ctl("queue", "hold", qid)
        hub.kill()
        hub.start()
        assert [(m["queue_id"], m["queue_name"]) for m in hub.queue()] == [(qid, "hold")]
        with Sink(port=port) as sink:
            other = send(hub)
            hub.ctl("queue", "flush")
            hub.wait_log(rf"{other}: removed$")
            assert len(sink.mails) == 1 and len(hub.queue()) == 1
            hub.ctl("queue", "release", qid)
            hub.ctl("queue", "flush")
            hub.wait_log(rf"{qid}: removed$")
            assert len(sink.mails) == 2


def test_back_off_grows():
    """Attempts at 1, 2 and again 2 seconds distance at most: never faster than minimal_backoff_time."""
    port = free_port()
    with Hub(dict(QUICK, maximal_backoff_time="3s"), routes={"r.example": f"smtp:[127.0.0.1]:{port}"}) as hub:
        qid = send(hub)
        status(hub, qid, "deferred", 3)
        delays = [float(d) for d in re.findall(rf"{qid}: to=.*delay=([\d.]+),", hub.log())]
        gaps = [b - a for a, b in zip(delays, delays[1:])]
        assert all(g >= 0.7 for g in gaps), delays


def test_rate_delay():
    with Sink() as sink, Hub({"smtp_destination_rate_delay": "1s"}, routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        first = send(hub)
        hub.wait_log(rf"{first}: removed$")
        second = send(hub)
        hub.wait_log(rf"{second}: removed$")
        assert float(re.search(rf"{second}: to=.*delay=([\d.]+),", hub.log()).group(1)) >= 0.7


def test_a_backlog_is_there_after_a_restart():
    port = free_port()
    with Hub(dict(SLOW, index_flush_interval="100ms"), routes={"r.example": f"smtp:[127.0.0.1]:{port}"}) as hub:
        with hub.client() as c:
            ids = {c.send_mail("a@example.org", ["x@r.example"], MAIL) for _ in range(300)}
        status(hub, r"\w+", "deferred", 300)
        for end in (hub.kill, hub.stop):
            end()
            hub.start()
            assert {m["queue_id"] for m in hub.queue()} == ids
        with Sink(port=port) as sink:
            hub.ctl("queue", "flush")
            wait_for("all", lambda: len(sink.mails) >= 300)
            wait_for("an empty queue", lambda: not hub.queue())
            assert len(sink.mails) == 300


if __name__ == "__main__":
    cases.main(globals())

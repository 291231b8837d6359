#!/usr/bin/env python3
"""public/showq: the queue as Postfix's own programs read it (interop/postqueue.py runs the real one)."""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import wait_for
from waiting import fill, later


def read_showq(hub):
    """A reader of our own: returns the protocol's name and the messages."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(str(hub.dir / "spool" / "public" / "showq"))
        data = b""
        while piece := s.recv(65536):
            data += piece
    assert data.endswith(b"\0")
    items = iter(data[:-1].decode().split("\0"))
    assert next(items) == "protocol"
    assert next(items) == "mail_queue_list_protocol" and next(items) == ""
    messages, m = [], None
    for name in items:
        if name == "":
            if m is None:
                break
            messages.append(m)
            m = None
            continue
        if m is None:
            m = {"recipients": []}
        value = next(items)
        if name == "recipient":
            m["recipients"].append({})
        (m["recipients"][-1] if m["recipients"] else m)[name] = value
    assert list(items) == []
    return messages


def test_own_reader():
    with later() as hub:
        assert read_showq(hub) == []
        fill(hub)
        got = sorted(read_showq(hub), key=lambda m: m["queue_id"])
        want = sorted(hub.queue(), key=lambda m: m["queue_id"])
        assert len(got) == 2
        for g, w in zip(got, want):
            assert [g[k] for k in ("queue_name", "queue_id", "time", "size", "forced_expire", "sender")] == \
                [w["queue_name"], w["queue_id"], str(w["arrival_time"]), str(w["message_size"]), "0", w["sender"]], (g, w)
            assert [(r["recipient"], r["reason"]) for r in g["recipients"]] == \
                [(r["address"], r["delay_reason"]) for r in w["recipients"]], (g, w)
        assert {m["queue_name"] for m in got} == {"deferred", "hold"}
        hub.stop()
        assert not (hub.dir / "spool" / "public" / "showq").exists()


def test_reader_that_goes_away():
    with later() as hub:
        fill(hub)
        path = str(hub.dir / "spool" / "public" / "showq")
        for _ in range(20):
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            s.close()
        assert len(wait_for("an answer", lambda: read_showq(hub))) == 2
        assert os.stat(path).st_mode & 0o777 == 0o666


if __name__ == "__main__":
    cases.main(globals())

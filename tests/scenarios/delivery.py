#!/usr/bin/env python3
"""Conversations with a next hop that refuses, loses, hangs or wants less: what becomes of each recipient. smtp(8), lmtp(8)."""
import os
import re
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import CLOSE, HANG, Sink

MAIL = b"From: user@example.com\r\nSubject: s\r\n\r\nhi\r\n"
SLOW = {"default_destination_concurrency_failed_cohort_limit": "1000",
        "minimal_backoff_time": "300s", "maximal_backoff_time": "300s", "queue_run_delay": "300s"}


def hub_for(sink, main=None, lmtp=False):
    return Hub(main, routes={"r.example": f"{'lmtp:inet' if lmtp else 'smtp'}:[127.0.0.1]:{sink.port}"})


def send(hub, *rcpts, body=MAIL, **kw):
    with hub.client() as c:
        qid = c.send_mail("user@example.com", rcpts or ["a@r.example"], body, **kw)
        c.quit()
    return qid


def result(hub, qid, rcpt="a@r.example"):
    return hub.wait_log(rf"{qid}: to=<{re.escape(rcpt)}>, .*dsn=(\S+), status=(\w+) \((.*)\)$")[0]


def test_replies_at_each_stage():
    stages = {"MAIL": "MAIL FROM command", "RCPT": "RCPT TO command", "DATA": "DATA command", "END": "end of DATA command"}
    for keywords in (["PIPELINING", "ENHANCEDSTATUSCODES"], ["ENHANCEDSTATUSCODES"]):
        with Sink(keywords=keywords) as sink, hub_for(sink, SLOW) as hub:
            for stage, words in stages.items():
                for code, dsn, status in (("450 4.2.3 not now", "4.2.3", "deferred"), ("550 5.2.4 never", "5.2.4", "bounced"),
                                          ("550 plain", "5.0.0", "bounced")):
                    sink.on = {stage: lambda s, a, code=code: code}
                    qid = send(hub)
                    got = result(hub, qid)
                    assert got[0] == dsn and got[1] == status, (stage, code, got)
                    assert got[2] == f"host 127.0.0.1[127.0.0.1] said: {code} (in reply to {words})", (stage, got)
            assert sink.mails == []
            hub.wait_queue(["a@r.example"] * len(stages))


def test_one_recipient_of_three():
    """A refused recipient does not hold up the others, and 552 to RCPT is only for now."""
    with Sink() as sink, hub_for(sink, SLOW) as hub:
        sink.on["RCPT"] = lambda s, a: {"b": "550 5.1.1 who", "c": "552 5.5.3 too many"}.get(a[4])
        qid = send(hub, "a@r.example", "b@r.example", "c@r.example")
        assert result(hub, qid, "a@r.example")[1] == "sent"
        assert result(hub, qid, "b@r.example")[:2] == ("5.1.1", "bounced")
        assert result(hub, qid, "c@r.example")[1] == "deferred"
        assert [m["rcpts"] for m in sink.mails] == [["a@r.example"]]
        hub.wait_queue(["c@r.example"])


def test_helo_when_ehlo_is_refused():
    with Sink() as sink, hub_for(sink) as hub:
        sink.on["EHLO"] = lambda s, a: "502 5.5.1 what"
        qid = send(hub)
        assert result(hub, qid)[1] == "sent"
        assert sink.sessions[0].commands[:2] == ["EHLO hub.example.net", "HELO hub.example.net"], sink.sessions[0].commands


def test_lost_connections_and_silence():
    words = {"CONNECT": "receiving the initial server greeting", "EHLO": "performing the EHLO handshake", "MAIL": "sending MAIL FROM",
             "RCPT": "sending RCPT TO", "DATA": "sending DATA command", "END": "sending end of data -- message may be sent more than once"}
    quick = {f"smtp_{n}_timeout": "1s" for n in ("helo", "mail", "rcpt", "data_init", "data_done", "connect")}
    with Sink(keywords=[]) as sink, hub_for(sink, dict(SLOW, **quick)) as hub:
        for stage, text in words.items():
            for how, said in ((CLOSE, "lost connection with 127.0.0.1[127.0.0.1] while "),
                              (HANG, "conversation with 127.0.0.1[127.0.0.1] timed out while ")):
                sink.on = {stage: lambda s, a, how=how: how}
                qid = send(hub)
                got = result(hub, qid)
                assert got == ("4.4.2", "deferred", said + text), (stage, got)


def test_connections_are_used_again():
    with Sink() as sink, hub_for(sink, {"smtp_destination_concurrency_limit": "1"}) as hub:
        for _ in range(8):
            send(hub)
        wait_for("8 messages", lambda: len(sink.mails) == 8)
        uses = [int(n) for n in hub.wait_log(r"relay=127\.0\.0\.1\[127\.0\.0\.1\]:\d+, conn_use=(\d+), delay=")]
        assert sink.connections < 8 and uses and min(uses) == 2, (sink.connections, uses)
    with Sink() as sink, hub_for(sink, {"smtp_connection_reuse_count_limit": "2", "smtp_connection_reuse_time_limit": "300s",
                                        "smtp_destination_concurrency_limit": "1"}) as hub:
        for _ in range(8):
            send(hub)
        wait_for("8 messages", lambda: len(sink.mails) == 8)
        per = [sum(c.startswith("MAIL") for c in s.commands) for s in sink.sessions]
        assert max(per) <= 2, per
    with Sink() as sink, hub_for(sink, {"smtp_connection_cache_on_demand": "no", "smtp_destination_concurrency_limit": "1"}) as hub:
        for i in range(3):
            send(hub)
            wait_for("the message", lambda i=i: len(sink.mails) == i + 1)
        assert sink.connections == 3


def test_a_dead_cached_connection_is_no_failure():
    with Sink() as sink, hub_for(sink, {"smtp_connection_cache_destinations": "127.0.0.1", "smtp_connection_cache_time_limit": "60s",
                                        **SLOW}) as hub:
        send(hub)
        wait_for("the first message", lambda: sink.mails)
        wait_for("the end of its log", lambda: "status=sent" in hub.log())
        sink.sessions[0].sock.shutdown(2)
        qid = send(hub)
        assert result(hub, qid)[1] == "sent"


def test_concurrency_limit():
    for limit in (1, 3):
        now, most, lock = [0], [0], threading.Lock()

        def end(s, mail):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.02)  # so that they would overlap
            with lock:
                now[0] -= 1
        with Sink() as sink, hub_for(sink, {"smtp_destination_concurrency_limit": str(limit)}) as hub:
            sink.on["END"] = end
            for _ in range(20):
                send(hub)
            wait_for("20 messages", lambda: len(sink.mails) == 20)
            assert most[0] <= limit, (limit, most)
            assert limit == 1 or most[0] > 1, most


def test_recipient_limit_splits_a_message():
    with Sink() as sink, hub_for(sink, {"smtp_destination_recipient_limit": "2"}) as hub:
        rcpts = [f"u{i}@r.example" for i in range(5)]
        send(hub, *rcpts)
        wait_for("5 recipients", lambda: sum(len(m["rcpts"]) for m in sink.mails) == 5)
        assert sorted(len(m["rcpts"]) for m in sink.mails) == [1, 2, 2]
        assert sorted(r for m in sink.mails for r in m["rcpts"]) == rcpts


def test_what_the_next_hop_is_told():
    """SIZE, BODY, DSN parameters, only where they are offered."""
    eight = MAIL[:-4] + "ü\r\n".encode()
    args = dict(mail_args=" RET=HDRS ENVID=id+2B1 BODY=8BITMIME", rcpt_args=" NOTIFY=FAILURE,DELAY ORCPT=rfc822;x+2By@r.example")
    with Sink(keywords=["SIZE", "8BITMIME", "DSN"]) as sink, hub_for(sink) as hub:
        send(hub, body=eight, **args)
        m = wait_for("the message", lambda: sink.mails)[0]
        assert re.fullmatch(r"(?=.*\bSIZE=\d+)(?=.*\bBODY=8BITMIME)(?=.*\bRET=HDRS)(?=.*\bENVID=id\+2B1).*", m["mail_args"]), m
        assert sorted(re.split("[ =]", m["rcpt_args"][0])) == sorted(["NOTIFY", "FAILURE,DELAY", "ORCPT", "rfc822;x+2By@r.example"]), m
    with Sink(keywords=[]) as sink, hub_for(sink) as hub:
        send(hub, **args)
        m = wait_for("the message", lambda: sink.mails)[0]
        assert m["mail_args"] == "" and m["rcpt_args"] == [""], m
    with Sink(keywords=["SIZE 100"]) as sink, hub_for(sink) as hub:
        qid = send(hub, body=MAIL + b"x" * 500)
        got = result(hub, qid)
        assert got[:2] == ("5.3.4", "bounced") and "size" in got[2], got
        assert sink.attempts == 0
    with Sink(keywords=["8BITMIME"]) as sink, hub_for(sink) as hub:
        with hub.client() as c:
            qid = c.send_mail("user@example.com", ["jörg@r.example"], MAIL, mail_args=" SMTPUTF8")
        assert hub.wait_log(rf"{qid}: to=<.*>, .*dsn=(\S+), status=bounced \(.*SMTPUTF8") == ["5.6.7"]
    with Sink(keywords=["8BITMIME", "SMTPUTF8"]) as sink, hub_for(sink) as hub:
        with hub.client() as c:
            c.send_mail("user@example.com", ["jörg@r.example"], MAIL, mail_args=" SMTPUTF8")
        m = wait_for("the message", lambda: sink.mails)[0]
        assert "SMTPUTF8" in m["mail_args"] and m["rcpts"] == ["jörg@r.example"], m


def test_greylisting_then_delivery():
    seen = set()

    def grey(s, arg):
        if arg in seen:
            return None
        seen.add(arg)
        return "450 4.2.0 greylisted"
    with Sink() as sink, hub_for(sink, {"minimal_backoff_time": "1s", "maximal_backoff_time": "1s", "queue_run_delay": "1s"}) as hub:
        sink.on["RCPT"] = grey
        qid = send(hub, "a@r.example", "b@r.example")
        hub.wait_log(rf"{qid}: removed")
        assert sorted(r for m in sink.mails for r in m["rcpts"]) == ["a@r.example", "b@r.example"]


if __name__ == "__main__":
    cases.main(globals())

#!/usr/bin/env python3
"""Where a message goes: transport maps, relayhost, MX records and what may be wrong with them. smtp(8), transport(5)."""
import contextlib
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from dnsstub import DnsStub
from hub import Hub, wait_for
from sink import Sink, several

MAIL = b"From: user@example.com\r\nSubject: s\r\n\r\nhi\r\n"


@contextlib.contextmanager
def world(zone, main=None, routes=None):
    """A hub that asks our name server."""
    with DnsStub(zone) as stub:
        settings = {"disable_dns_lookups": None, "dns_resolver_addresses": stub.address, "smtp_connection_cache_on_demand": "no"}
        with Hub(dict(settings, **(main or {})), routes=routes) as hub:
            hub.stub = stub
            yield hub


def send(hub, *rcpts, sender="user@example.com"):
    with hub.client() as c:
        qid = c.send_mail(sender, rcpts, MAIL)
        c.quit()
    return qid


def outcome(hub, qid, rcpt):
    """dsn, status, relay and reason of the first attempt."""
    m = hub.wait_log(rf"{qid}: to=<{re.escape(rcpt)}>, (?:orig_to=<[^>]*>, )?relay=(\S+), .*dsn=(\S+), status=(\w+) \((.*)\)$")
    relay, dsn, status, reason = m[0]
    return dsn, status, relay, reason


def bounced(hub, text):
    return wait_for("the bounce", lambda: [m for m in hub.mails() if text in m])[0]


def test_mx_by_preference_then_the_next():
    one, two = several(["127.0.0.2", "127.0.0.3"])
    zone = {"dest.example": {"MX": [(20, "mx2.dest.example"), (10, "mx1.dest.example")]},
            "mx1.dest.example": {"A": ["127.0.0.2"]}, "mx2.dest.example": {"CNAME": "real.dest.example"},
            "real.dest.example": {"A": ["127.0.0.3"]}}
    with one, two, world(zone, routes={"dest.example": f"smtp:dest.example:{one.port}"}) as hub:
        qid = send(hub, "r@dest.example")
        assert outcome(hub, qid, "r@dest.example")[:3] == ("2.0.0", "sent", f"mx1.dest.example[127.0.0.2]:{one.port}")
        assert len(one.mails) == 1 and not two.mails
        one.close()
        qid = send(hub, "r@dest.example")
        dsn, status, relay, _ = outcome(hub, qid, "r@dest.example")
        assert status == "sent" and re.fullmatch(rf"(mx2|real)\.dest\.example\[127\.0\.0\.3\]:{one.port}", relay), relay
        hub.wait_log(rf"smtp\[\d+\]: connect to mx1\.dest\.example\[127\.0\.0\.2\]:{one.port}: Connection refused$")


def test_equal_preferences_share():
    one, two = several(["127.0.0.2", "127.0.0.3"])
    zone = {"dest.example": {"MX": [(10, "mx1.dest.example"), (10, "mx2.dest.example")]},
            "mx1.dest.example": {"A": ["127.0.0.2"]}, "mx2.dest.example": {"A": ["127.0.0.3"]}}
    with one, two, world(zone, routes={"dest.example": f"smtp:dest.example:{one.port}"}) as hub:
        for _ in range(30):
            send(hub, "r@dest.example")
        wait_for("30 messages", lambda: len(one.mails) + len(two.mails) >= 30)
        assert one.mails and two.mails, (len(one.mails), len(two.mails))


def test_a_refusing_greeting_means_the_next_mx_never_a_bounce():
    for code in ("554 no service", "421 busy"):
        one, two = several(["127.0.0.2", "127.0.0.3"])
        one.on["CONNECT"] = lambda s, a, code=code: code
        zone = {"dest.example": {"MX": [(10, "mx1.dest.example"), (20, "mx2.dest.example")]},
                "mx1.dest.example": {"A": ["127.0.0.2"]}, "mx2.dest.example": {"A": ["127.0.0.3"]}}
        with one, two, world(zone, routes={"dest.example": f"smtp:dest.example:{one.port}"}) as hub:
            qid = send(hub, "r@dest.example")
            assert outcome(hub, qid, "r@dest.example")[1] == "sent"
            two.on["CONNECT"] = one.on["CONNECT"]
            qid = send(hub, "r@dest.example")
            dsn, status, _, reason = outcome(hub, qid, "r@dest.example")
            assert status == "deferred" and dsn[0] == "4" and f"refused to talk to me: {code}" in reason, (dsn, status, reason)
            assert [m["queue_id"] for m in hub.queue()] == [qid]


def test_domains_without_mail_service():
    zone = {"null.example": {"MX": [(0, "")]}, "servfail.example": "SERVFAIL",
            "noaddr.example": {"MX": [(10, "gone.example")]}, "nothing.example": {"TXT": ["x"]},
            "mxfail.example": {"MX": [(10, "servfail.example")]}}
    with world(zone, {"default_destination_concurrency_limit": "20"}) as hub:
        for domain, dsn, status, text in [
                ("null.example", "5.1.", "bounced", "null"), ("nx.example", "5.4.4", "bounced", "Host or domain name not found"),
                ("noaddr.example", "5.4.4", "bounced", "not found"), ("nothing.example", "5.4.4", "bounced", "not found"),
                ("servfail.example", "4.4.3", "deferred", "Host or domain name not found"),
                ("mxfail.example", "4.4.3", "deferred", "not found")]:
            qid = send(hub, f"r@{domain}")
            got = outcome(hub, qid, f"r@{domain}")
            assert got[0].startswith(dsn) and got[1] == status and got[2] == "none" and text.lower() in got[3].lower(), (domain, got)
            if status == "bounced":
                assert b"Action: failed" in bounced(hub, f"r@{domain}".encode())
        assert sorted(m["recipients"][0]["address"] for m in hub.queue()) == ["r@mxfail.example", "r@servfail.example"]


def test_no_answer_from_the_name_server():
    with world({"drop.example": "DROP"}, {"dns_timeout": "300ms"}) as hub:
        qid = send(hub, "r@drop.example")
        assert outcome(hub, qid, "r@drop.example")[:2] == ("4.4.3", "deferred")


def test_mail_that_loops_back():
    zone = {"loop.example": {"MX": [(10, "me.example")]}, "me.example": {"A": ["127.0.0.1"]},
            "second.example": {"MX": [(10, "first.example"), (20, "me.example"), (30, "behind.example")]},
            "first.example": {"A": ["127.0.0.9"]}, "behind.example": {"A": ["127.0.0.8"]}}
    with world(zone) as hub:
        qid = send(hub, "r@loop.example")
        dsn, status, _, reason = outcome(hub, qid, "r@loop.example")
        assert (dsn, status) == ("5.4.6", "bounced") and reason == "mail for loop.example loops back to myself", (dsn, status, reason)
        qid = send(hub, "r@second.example")  # only those before us are tried
        assert outcome(hub, qid, "r@second.example")[1] == "deferred"
        assert "127.0.0.8" not in hub.log()


def test_address_without_mx_and_literals():
    with Sink() as sink, Sink(host="::1") as six, world(
            {"plain.example": {"A": ["127.0.0.1"]}, "six.example": {"AAAA": ["::1"]}},
            {"inet_protocols": "all"},
            routes={"plain.example": f"smtp:plain.example:{sink.port}", "six.example": f"smtp:six.example:{six.port}",
                    "lit.example": f"smtp:[127.0.0.1]:{sink.port}", "lit6.example": f"smtp:[::1]:{six.port}",
                    "name.example": f"smtp:[plain.example]:{sink.port}", "localname.example": f"smtp:[localhost]:{sink.port}"}) as hub:
        for domain in ["plain.example", "six.example", "lit.example", "lit6.example", "name.example"]:
            qid = send(hub, f"r@{domain}")
            got = outcome(hub, qid, f"r@{domain}")
            assert got[1] == "sent", (domain, got)
        assert (len(sink.mails), len(six.mails)) == (3, 2)
        assert hub.stub.count("plain.example", "MX") == 1  # brackets: no MX


def test_address_limit_and_session_limit():
    zone = {"dest.example": {"MX": [(10 * i, f"mx{i}.dest.example") for i in range(1, 5)]}}
    zone.update({f"mx{i}.dest.example": {"A": [f"127.0.0.{i + 1}"]} for i in range(1, 5)})
    sinks = several([f"127.0.0.{i}" for i in range(2, 6)])
    for s in sinks[:3]:
        s.on["CONNECT"] = lambda s, a: "421 busy"
    sinks[2].on = {"MAIL": lambda s, a: "451 4.3.0 no"}  # a whole session, unlike a greeting
    with contextlib.ExitStack() as stack:
        for s in sinks:
            stack.enter_context(s)
        routes = {"dest.example": f"smtp:dest.example:{sinks[0].port}"}
        with world(zone, {"smtp_mx_session_limit": "1"}, routes=routes) as hub:
            qid = send(hub, "r@dest.example")
            assert outcome(hub, qid, "r@dest.example")[1] == "deferred"
            assert [s.connections for s in sinks] == [1, 1, 1, 0]
        with world(zone, {"smtp_mx_session_limit": "0", "smtp_mx_address_limit": "3"}, routes=routes) as hub:
            qid = send(hub, "r@dest.example")
            assert outcome(hub, qid, "r@dest.example")[1] == "deferred"
            assert [s.connections for s in sinks] == [2, 2, 2, 0]
        with world(zone, {"smtp_mx_session_limit": "0", "smtp_mx_address_limit": "0"}, routes=routes) as hub:
            qid = send(hub, "r@dest.example")
            assert outcome(hub, qid, "r@dest.example")[1] == "sent"


def test_transport_maps_relayhost_and_classes():
    sinks = [Sink() for _ in range(5)]
    with contextlib.ExitStack() as stack:
        for s in sinks:
            stack.enter_context(s)
        to = [f"smtp:[127.0.0.1]:{s.port}" for s in sinks]
        with Hub({"relay_domains": "relay.example t.example", "relayhost": to[4][5:], "relay_transport": to[3]},
                 start=False) as hub:
            hub.main["transport_maps"] = ("inline:{ { u@t.example = " + to[0] + " } { t.example = " + to[1] + " } { .t.example = " +
                                          to[2] + " } { drop.example = discard: } { no.example = error:5.7.1 closed }"
                                          " { later.example = retry:4.7.1 not now } { :x = smtp: } }")
            hub.write_conf()
            hub.start()
            for rcpt, n in {"u@t.example": 0, "v@t.example": 1, "x@sub.t.example": 2, "y@relay.example": 3, "z@other.example": 4}.items():
                before = len(sinks[n].mails)
                qid = send(hub, rcpt)
                got = outcome(hub, qid, rcpt)
                assert got[1] == "sent" and got[2].endswith(f":{sinks[n].port}") and len(sinks[n].mails) == before + 1, (rcpt, got)
            qid = send(hub, "a@drop.example")
            got = outcome(hub, qid, "a@drop.example")
            assert got[:2] == ("2.0.0", "sent"), got
            with hub.client() as c:
                c.cmd("MAIL FROM:<user@example.com>", 250)
                assert c.cmd("RCPT TO:<a@no.example>").code // 100 == 5
                r = c.cmd("RCPT TO:<a@later.example>")
                assert r.code == 450 or r.code == 250, r


def test_several_next_hops_and_the_fallback():
    with Sink() as dead:
        port = dead.port
    with Sink() as sink, Sink() as fallback, Hub(
            {"smtp_fallback_relay": f"[127.0.0.1]:{fallback.port}"},
            routes={"two.example": f"smtp:[127.0.0.1]:{port}, [127.0.0.1]:{sink.port}",
                    "fall.example": f"smtp:[127.0.0.1]:{port}"}) as hub:
        qid = send(hub, "r@two.example")
        assert outcome(hub, qid, "r@two.example")[1] == "sent" and len(sink.mails) == 1
        qid = send(hub, "r@fall.example")
        assert outcome(hub, qid, "r@fall.example")[1] == "sent" and len(fallback.mails) == 1


if __name__ == "__main__":
    cases.main(globals())

#!/usr/bin/env python3
"""check_policy_service: what the server is told, what its answers do, and what happens when it is ill."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from dnsstub import DnsStub
from hub import Hub, wait_for
from policyserver import Hangup, PolicyServer, Stay, Trickle

MAIL = b"Subject: s\r\n\r\nhi\r\n"


def rcpt(server, extra=""):
    address = server if isinstance(server, str) else server.address
    return {"smtpd_recipient_restrictions": f"check_policy_service {address}{extra}"}


def test_what_is_told():
    with PolicyServer() as server:
        every = f"check_policy_service {server.address}"
        with Hub({"smtpd_delay_reject": "no", "smtpd_client_restrictions": every, "smtpd_helo_restrictions": every,
                  "smtpd_sender_restrictions": every, "smtpd_recipient_restrictions": every, "smtpd_data_restrictions": every,
                  "smtpd_end_of_data_restrictions": every, "smtpd_etrn_restrictions": every,
                  "smtpd_policy_service_policy_context": "hub one"}) as hub, hub.client(helo="me.example.org") as c:
            c.cmd("ETRN example.com")
            c.cmd("MAIL FROM:<Ann@example.org> SIZE=1234", 250)
            c.cmd("RCPT TO:<user@example.com>", 250)
            c.content(MAIL)
            c.cmd("MAIL FROM:<>", 250)
            c.cmd("RCPT TO:<user@example.com>", 250)
            c.cmd("RCPT TO:<other@example.com>", 250)
            c.raw(b"BDAT 4 LAST\r\nhi\r\n")
            assert c.reply().code == 250
            port = c.sock.getsockname()[1]
        r = server.requests
        assert [x["protocol_state"] for x in r] == ["CONNECT", "EHLO", "ETRN", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE", "MAIL", "RCPT",
                                                   "RCPT", "DATA", "END-OF-MESSAGE"], [x["protocol_state"] for x in r]
        for x in r:
            assert x["request"] == "smtpd_access_policy" and x["client_address"] == "127.0.0.1" and x["client_name"] == "unknown", x
            assert x["client_port"] == str(port) and x["server_address"] == "127.0.0.1" and x["server_port"] == str(hub.port), x
            assert x["policy_context"] == "hub one" and x["stress"] == "" and x["reverse_client_name"] == "unknown", x
            assert x["encryption_keysize"] == "0" and x["compatibility_level"] and x["sasl_username"] == "", x
        assert r[1]["helo_name"] == "me.example.org" and r[2]["etrn_domain"] == "example.com" and r[2]["recipient"] == ""
        assert r[3]["sender"] == "Ann@example.org" and r[3]["size"] == "1234" and r[3]["recipient"] == "" and r[3]["protocol_name"] == "ESMTP"
        assert r[4]["recipient"] == "user@example.com" and r[4]["recipient_count"] == "0" and r[4]["queue_id"] == ""
        assert r[5]["recipient_count"] == "1" and r[5]["recipient"] == "user@example.com" and r[5]["queue_id"], r[5]
        assert int(r[6]["size"]) >= len(MAIL) and r[6]["recipient_count"] == "1"
        assert r[7]["sender"] == "" and r[10]["recipient"] == "" and r[10]["recipient_count"] == "2"
        assert len({x["instance"] for x in r[3:7]}) == 1 and len({x["instance"] for x in r[7:]}) == 1
        assert r[3]["instance"] != r[7]["instance"] and all(int(part, 16) >= 0 for part in r[3]["instance"].split("."))
        assert server.connections == 1, "one connection serves them all"


def test_what_answers_do():
    answers = {"a": "DUNNO", "b": "REJECT go away", "c": "450 4.7.77 later", "d": "DEFER_IF_PERMIT greylisted", "e": "reject_unauth_destination",
               "f": "OK", "g": "WARN watch this", "h": "nonsense"}
    want = {"a": (554, "5.7.1 <user@example.com>: Recipient address rejected: Access denied"),
            "b": (554, "5.7.1 <user@example.com>: Recipient address rejected: go away"),
            "c": (450, "4.7.77 <user@example.com>: Recipient address rejected: later"),
            "d": (554, "5.7.1 <user@example.com>: Recipient address rejected: Access denied"),
            "f": (250, "2.1.5 Ok"), "g": (554, "5.7.1 "), "h": (451, "4.3.5 ")}
    with PolicyServer(lambda r: answers[r["sender"][0]]) as server, Hub(rcpt(server, ", reject")) as hub, hub.client() as c:
        for key, (code, text) in want.items():
            c.cmd(f"MAIL FROM:<{key}@example.org>", 250)
            r = c.cmd("RCPT TO:<user@example.com>", code)
            assert r.text.startswith(text), (key, r)
            c.cmd("RSET", 250)
        hub.wait_log(r"NOQUEUE: warn: RCPT from unknown\[127\.0\.0\.1\]: watch this;")
    with PolicyServer(lambda r: "DEFER_IF_PERMIT greylisted") as server, Hub(rcpt(server)) as hub, hub.client() as c:
        c.cmd("MAIL FROM:<a@example.org>", 250)
        r = c.cmd("RCPT TO:<user@example.com>", 450)
        assert r.text == "4.7.1 <user@example.com>: Recipient address rejected: greylisted", r


def test_dead_server():
    with PolicyServer() as server:
        gone = server.address
    with Hub({**rcpt(gone), "smtpd_policy_service_retry_delay": "2s"}) as hub, hub.client() as c:
        c.cmd("MAIL FROM:<a@example.org>", 250)
        begin = time.monotonic()
        r = c.cmd("RCPT TO:<user@example.com>", 451)
        assert r.text == "4.3.5 <user@example.com>: Recipient address rejected: Server configuration problem", r
        assert time.monotonic() - begin > 1.9, "no pause before the second try"
        hub.wait_log(r"warning: policy server inet:127\.0\.0\.1:\d+: Connection refused; using its default action")
    with Hub({**rcpt(f"{{ {gone}, try_limit=1, default_action=DUNNO }}")}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)
    with PolicyServer(lambda request: None) as mute:
        with Hub({**rcpt(mute), "smtpd_policy_service_default_action": "450 4.9.9 ill", "smtpd_policy_service_try_limit": "1"}) as hub, hub.client() as c:
            c.cmd("MAIL FROM:<a@example.org>", 250)
            assert c.cmd("RCPT TO:<user@example.com>", 450).text == "4.9.9 <user@example.com>: Recipient address rejected: ill"
            assert len(mute.requests) == 1, "asked once more"


def test_server_that_hangs_up_or_talks_nonsense():
    """A second attempt gets the answer; a server that never gives a whole one is as good as dead."""
    count = [0]

    def every_other(request):
        count[0] += 1
        return None if count[0] % 2 else "DUNNO"
    with PolicyServer(every_other) as server, Hub({**rcpt(server), "smtpd_policy_service_retry_delay": "1s"}) as hub, hub.client() as c:
        c.envelope("a@example.org", ["user@example.com"])
        assert len(server.requests) == 2 and server.connections == 2
    for bad in (b"\n", b"hello\n\n", b"action=DUNNO\n", b"x" * 20000 + b"\n\n"):
        with PolicyServer(lambda r, bad=bad: bad) as server:
            with Hub(rcpt(f"{{ {server.address}, try_limit=1, timeout=1s }}")) as hub, hub.client() as c:
                c.cmd("MAIL FROM:<a@example.org>", 250)
                c.cmd("RCPT TO:<user@example.com>", 451)


NONSENSE = [b"", b"\n\n", b"action=\n\n", b"action=  \t\n\n", b"action\n\n", b"action OK\n\n", b"=OK\n\n", b"ACTION=OK\n\n", b"xaction=OK\n\n", b" action=OK\n\n",
            b"\0action=OK\n\n", b"action=OK\0\n\n", b"action=O\0K\n\n", b"action=\0\n\n", b"action=OKAY\n\n", b"action=PERMIT_ALL\n\n", b"action=\xff\xfe\n\n",
            b"action=OK", b"action=OK\n", b"action=OK\r\n", b"action=REJECT\n", b"action=REJECT\naction=OK\n\n", b"action=OK\naction=OK\n\n",
            b"action=check_client_access hash:/nonexistent\n\n", b"action=check_policy_service\n\n", b"action={\n\n", b"action=$action\n\n",
            b"action=OK\n" + b"x" * 70000 + b"\n\n", b"action=" + b"OK " * 30000 + b"\n\n", b"x=y\n" * 20000 + b"\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50,
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", b"220 mail.example.com ESMTP\r\n", b"8:OK value,", b"-ERR\r\n", b"{\"action\": \"OK\"}\n\n",
            bytes(range(256)) * 16]


def test_nonsense_is_never_acceptance():
    """Whatever comes, and the connection closed behind it or kept open: a temporary answer; and the next request is answered properly."""
    for kind in (Hangup, Stay):
        def answer(request, kind=kind):
            number = request["sender"].split("@")[0]
            return kind(NONSENSE[int(number)]) if number.isdigit() else "DUNNO"
        with PolicyServer(answer) as server, Hub(rcpt(f"{{ {server.address}, try_limit=1, timeout=1s }}")) as hub:
            clients = [hub.client() for _ in NONSENSE]
            for i, c in enumerate(clients):
                c.cmd(f"MAIL FROM:<{i}@example.org>", 250)
                c.raw(b"RCPT TO:<user@example.com>\r\n")
            for i, c in enumerate(clients):
                r = c.reply()
                assert r.code == 451 and r.text.startswith("4.3.5 "), (kind, NONSENSE[i][:60], r)
                c.cmd("RSET", 250)
                wait_for("a proper answer", lambda c=c: sender_code(c, "good@example.org") == 250)
                c.close()


def sender_code(c, sender):
    c.cmd(f"MAIL FROM:<{sender}>", 250)
    r = c.cmd("RCPT TO:<user@example.com>")
    c.cmd("RSET", 250)
    return r.code


def test_an_answer_belongs_to_its_request():
    """What a server says beyond its answer, or too late, answers no other request."""
    answers = {"more": b"action=DUNNO\n\naction=OK\n\n", "no": b"action=REJECT\n\n", "half": b"action=DUNNO\n\nacti"}
    with PolicyServer(lambda r: answers[r["sender"].split("@")[0]]) as server, Hub(rcpt(server)) as hub, hub.client() as c:
        for first in ("more", "half", "more"):
            assert sender_code(c, f"{first}@example.org") == 250
            assert sender_code(c, "no@example.org") == 554, first
    release = threading.Event()

    def late(request):
        if request["sender"].startswith("late"):
            release.wait(30)
            return "OK"
        return "REJECT"
    with PolicyServer(late) as server, Hub(rcpt(f"{{ {server.address}, try_limit=1, timeout=1s }}")) as hub, hub.client() as c:
        assert sender_code(c, "late@example.org") == 451
        release.set()
        assert sender_code(c, "no@example.org") == 554

    def trickle(request):
        return Trickle(b"action=OK\n\n", release)
    release.clear()
    with PolicyServer(trickle) as server, Hub(rcpt(f"{{ {server.address}, try_limit=1, timeout=1s }}")) as hub, hub.client() as c:
        assert sender_code(c, "slow@example.org") == 451  # one byte at a time, each of them in time
        release.set()


def test_a_hanging_server_stops_nobody_else():
    release = []

    def slow(request):
        wait_for("the release", lambda: release, 20)
        return "DUNNO"
    with PolicyServer(slow) as server, Hub({**rcpt(server), "default_process_limit": "10"}) as hub:
        waiting = [hub.client() for _ in range(4)]
        for c in waiting:
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.raw(b"RCPT TO:<user@example.com>\r\n")
        wait_for("four questions", lambda: len(server.requests) == 4)
        with hub.client() as other:
            other.cmd("NOOP", 250)
        release.append(True)
        for c in waiting:
            assert c.reply().code == 250
            c.close()


def test_limits_of_a_connection():
    with PolicyServer() as server, Hub({**rcpt(server), "smtpd_policy_service_request_limit": "2"}) as hub, hub.client() as c:
        for _ in range(5):
            c.envelope("a@example.org", ["user@example.com"])
            c.cmd("RSET", 250)
        assert server.connections == 3, server.connections
    for option in ("smtpd_policy_service_max_idle", "smtpd_policy_service_max_ttl"):
        with PolicyServer() as server, Hub({**rcpt(server), option: "1s"}) as hub, hub.client() as c:
            c.envelope("a@example.org", ["user@example.com"])
            time.sleep(1.2)
            c.cmd("RSET", 250)
            c.envelope("a@example.org", ["user@example.com"])
            assert server.connections == 2, (option, server.connections)
    with PolicyServer(lambda r: time.sleep(60)) as server:
        with Hub({**rcpt(server), "smtpd_policy_service_timeout": "1s", "smtpd_policy_service_try_limit": "1"}) as hub, hub.client() as c:
            c.cmd("MAIL FROM:<a@example.org>", 250)
            begin = time.monotonic()
            c.cmd("RCPT TO:<user@example.com>", 451)
            assert time.monotonic() - begin < 30


def test_unix_socket():
    with Hub(rcpt("unix:private/policy")) as hub:
        (hub.dir / "spool" / "private").mkdir(mode=0o755)
        with PolicyServer(path=hub.dir / "spool" / "private" / "policy") as server, hub.client() as c:
            c.envelope("a@example.org", ["user@example.com"])
            assert len(server.requests) == 1


def test_asked_once_although_dns_is_waited_for():
    zone = {"slow.test": {"DELAY": 0.2, "A": ["127.0.0.1"]}, "dead.test": {"DELAY": 0.2, "TXT": ["x"]}}
    with DnsStub(zone) as stub, PolicyServer() as server:
        with Hub({**rcpt(server, ", reject_unknown_recipient_domain, check_sender_mx_access inline:{x=y}"), "disable_dns_lookups": "no",
                  "dns_resolver_addresses": stub.address, "smtpd_sender_restrictions": "reject_unknown_sender_domain"}) as hub, hub.client() as c:
            c.envelope("a@slow.test", ["user@example.com"])
            assert len(server.requests) == 1
            c.cmd("RSET", 250)
            c.cmd("MAIL FROM:<a@dead.test>", 250)
            c.cmd("RCPT TO:<user@example.com>", 450)
            assert len(server.requests) == 1, "not asked of mail that was refused before"


def test_bad_configuration():
    for bad, word in (("nowhere", "expected inet:host:port or unix:path"), ("inet:host", "expected inet:host:port"),
                      ("{ inet:127.0.0.1:9, timeout=soon }", "expected timeout"), ("{ inet:127.0.0.1:9, colour=red }", "expected timeout")):
        with Hub(rcpt(bad), start=False) as hub:
            r = hub.ctl("check", check=False)
            assert r.returncode != 0 and word in r.stdout + r.stderr, (bad, r.stdout, r.stderr)


if __name__ == "__main__":
    cases.main(globals())

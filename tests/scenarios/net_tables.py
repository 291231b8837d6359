#!/usr/bin/env python3
"""Lookup tables on servers (socketmap, tcp, memcache): used in restrictions and aliases; dead, slow and broken servers."""
import json
import os
import pathlib
import re
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from tableserver import Failure, TableServer

MAIL = b"Subject: s\r\n\r\nhi\r\n"


class Place:
    """A table of one kind: the server, and the text that names it in main.cf."""

    def __init__(self, kind, answer, **settings):
        self.server = TableServer(kind, answer)
        self.dir = tempfile.TemporaryDirectory(prefix="posthouse-test-")
        os.chmod(self.dir.name, 0o755)
        self.cf = pathlib.Path(self.dir.name) / "memcache.cf"
        if kind == "socketmap":
            self.spec = f"socketmap:{self.server.place}:access"
        elif kind == "tcp":
            self.spec = f"tcp:127.0.0.1:{self.server.port}"
        else:
            lines = {"memcache": self.server.place, **settings}
            self.cf.write_text("".join(f"{k} = {v}\n" for k, v in lines.items()))
            self.spec = f"memcache:{self.cf}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.__exit__()
        self.dir.cleanup()


KINDS = ("socketmap", "tcp", "memcache")
SENDERS = {"good@example.org": "OK", "bad@example.org": "550 5.7.9 go away: 100% sure"}


def sender(c, address, code):
    c.cmd(f"MAIL FROM:<{address}>", 250)
    r = c.cmd("RCPT TO:<user@example.com>", code)
    c.cmd("RSET", 250)
    return r


def check(spec):
    return {"smtpd_recipient_restrictions": f"check_sender_access {spec}, reject", "smtpd_error_sleep_time": "0", "smtpd_hard_error_limit": "100000"}


def test_access_tables():
    for kind in KINDS:
        with Place(kind, dict(SENDERS)) as place, Hub(check(place.spec)) as hub, hub.client() as c:
            sender(c, "good@example.org", 250)
            r = sender(c, "bad@example.org", 550)
            assert r.text == "5.7.9 <bad@example.org>: Sender address rejected: go away: 100% sure", (kind, r)
            sender(c, "other@example.org", 554)
            partial = [k for k in place.server.asked if "@" not in k]
            assert bool(partial) == (kind == "memcache"), (kind, partial)  # like pattern tables the others see whole keys
            assert place.server.connections == 1, (kind, "one connection serves them all")
            if kind == "socketmap":
                assert set(place.server.maps) == {"access"}


def test_proxy_needs_no_process():
    with Place("socketmap", dict(SENDERS)) as place:
        with Hub({**check("proxy:" + place.spec), "proxy_read_maps": "$smtpd_recipient_restrictions"}) as hub, hub.client() as c:
            sender(c, "good@example.org", 250)
            sender(c, "bad@example.org", 550)


def test_virtual_aliases():
    for kind in KINDS:
        answers = {"sales@example.com": "user@example.com, other@example.com", "a%b@example.com": "user@example.com"}
        with Place(kind, answers) as place, Hub({"virtual_alias_maps": place.spec}) as hub, hub.client() as c:
            c.send_mail("a@example.org", ["sales@example.com", "a%b@example.com"], MAIL)
            hub.wait_log(r"to=<other@example\.com>, orig_to=<sales@example\.com>.*status=sent")
            hub.wait_log(r"to=<user@example\.com>.*status=sent")
            assert "a%b@example.com" in place.server.asked, place.server.asked


def test_dead_server_then_back():
    for kind in KINDS:
        with Place(kind, dict(SENDERS), retry_pause="1") as place:
            place.server.stop()
            with Hub(check(place.spec)) as hub, hub.client() as c:
                for _ in range(3):
                    r = sender(c, "good@example.org", 451)
                    assert r.text == "4.3.0 <good@example.org>: Temporary lookup failure" or "4.3." in r.text, (kind, r)
                hub.wait_log(rf"warning: table {kind}:.*Connection refused")
                assert hub.log().count(f"warning: table {kind}:") == 1, "the warning is not repeated within a minute"
                place.server.start()
                sender(c, "good@example.org", 250)
                place.server.stop()  # in the middle of a connection that is kept
                sender(c, "good@example.org", 451)
                place.server.start()
                sender(c, "good@example.org", 250)


def test_dead_server_and_aliases():
    for kind in KINDS:
        with Place(kind, {"sales@example.com": "user@example.com"}) as place:
            place.server.stop()
            with Hub({"virtual_alias_maps": place.spec}) as hub, hub.client() as c:
                c.cmd("MAIL FROM:<a@example.org>", 250)
                r = c.cmd("RCPT TO:<sales@example.com>")
                if r.code == 250:
                    c.cmd("DATA", 354)
                    r = c.cmd("Subject: x\r\n\r\nhi\r\n.")
                assert r.code == 451, (kind, r)
                assert "status=sent" not in hub.log(), kind


def test_servers_own_failure_and_hang_up():
    answers = {"ill@example.org": Failure("ill today"), "gone@example.org": b"", "good@example.org": "OK"}
    for kind in KINDS:
        with Place(kind, answers) as place, Hub(check(place.spec)) as hub, hub.client() as c:
            sender(c, "ill@example.org", 451)
            hub.wait_log(rf"warning: table {kind}:.*ill today")
            sender(c, "good@example.org", 250)
            before = place.server.asked.count("gone@example.org")
            sender(c, "gone@example.org", 451)
            assert place.server.asked.count("gone@example.org") - before >= 2, "no second attempt"
            sender(c, "good@example.org", 250)


GARBAGE = {"socketmap": [b"x" * 10 + b":", b"3:OK ;", b"05:OK ok,", b"999999999:", b"2:HI,", b"5:OK ok,junk", b"3:OK ,", b"-5:OK ok,", b"5:OK ok;",
                         b"5:ok ok,", b"2:OK,", b"1:O,", b"0:,", b",", b"\n", b"5:OK\0ok,", b"\x16\x03\x01\x02\x00", b"HTTP/1.1 200 OK\r\n\r\n", b"220 hi\r\n"],
           "tcp": [b"hello\n", b"200\n", b"200 %4\n", b"200 %zz\n", b"200 OK\nmore\n", b"x" * 5000 + b"\n", b"200 \n", b"600 x\n", b"200OK\n", b"\n", b"-1 OK\n", b"2000 OK\n", b"20 OK\n",
                   b" 200 OK\n", b"200 %00\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\x16\x03\x01\x02\x00\n", b"5:OK ok,\n"],
           "memcache": [b"VALUE other 0 2\r\nOK\r\nEND\r\n", b"VALUE good@example.org 0 9\r\nOK\r\nEND\r\nxxxxxxx",
                        b"VALUE good@example.org 0 99999999\r\n", b"ERROR\r\n", b"VALUE good@example.org 0 0\r\n\r\nEND\r\n",
                        b"x" * 3000 + b"\r\n", b"VALUE good@example.org 0 -2\r\nOK\r\nEND\r\n", b"VALUE good@example.org 0 2\r\nOKx\r\nEND\r\n",
                        b"VALUE good@example.org 0 2\r\nOK\r\nVALUE good@example.org 0 2\r\nNO\r\nEND\r\n", b"VALUE good@example.org 2\r\nOK\r\nEND\r\n",
                        b"VALUE good@example.org 0 0x2\r\nOK\r\nEND\r\n", b"STORED\r\n", b"\r\n", b"END\r\nVALUE good@example.org 0 2\r\nOK\r\nEND\r\n",
                        b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n"]}


def test_garbage_is_a_temporary_failure():
    """Never found, never "not found"; what comes behind an answer is not the answer to the next question."""
    for kind, replies in GARBAGE.items():
        bad = {f"bad{i}@example.org": r.replace(b"good@example.org", f"bad{i}@example.org".encode()) for i, r in enumerate(replies)}
        with Place(kind, {"good@example.org": "OK", **bad}, retry_pause="0") as place, Hub(check(place.spec)) as hub, hub.client() as c:
            for key in bad:
                sender(c, key, 451)
                sender(c, "good@example.org", 250)
                sender(c, "none@example.org", 554)


def test_a_slow_server_holds_nobody_else():
    """Each waits for its own answer; the connections are no more than the table may have."""
    release = threading.Event()

    def slow(key):
        release.wait(20)
        return "OK"
    with Place("socketmap", slow) as place, Hub({**check(place.spec), "smtpd_helo_required": "no"}) as hub:
        waiting = [hub.client() for _ in range(4)]
        for c in waiting:
            c.cmd("MAIL FROM:<good@example.org>", 250)
            c.raw(b"RCPT TO:<user@example.com>\r\n")
        wait_for("four questions", lambda: len(place.server.asked) == 4)
        with hub.client() as other:
            other.cmd("NOOP", 250)
            other.cmd("MAIL FROM:<x@example.org>", 250)
        release.set()
        for c in waiting:
            assert c.reply().code == 250
            c.close()
        assert place.server.connections == 4


def test_memcache_time_limit():
    """A server that says nothing: max_try times timeout, then 451, and not longer."""
    hold = threading.Event()

    def silent(key):
        hold.wait(60)
        return None
    with Place("memcache", silent, timeout="1", max_try="2", retry_pause="1") as place, Hub(check(place.spec)) as hub, hub.client() as c:
        begin = time.monotonic()
        sender(c, "good@example.org", 451)
        took = time.monotonic() - begin
        assert 0.9 < took < 30, took
        hub.wait_log(r"warning: table memcache:.*timed out")
        hold.set()


def test_memcache_backup_and_key_format():
    with Place("memcache", {}, backup="inline:{ good@example.org=OK }", key_format="acc:%s", flags="7", ttl="60") as place:
        with Hub(check(place.spec)) as hub, hub.client() as c:
            sender(c, "good@example.org", 250)
            assert place.server.asked[0] == "acc:good@example.org"
            wait_for("the update", lambda: place.server.stored)
            assert place.server.stored == {"acc:good@example.org": (7, 60, "OK")}, place.server.stored
            place.server.stored["acc:good@example.org"] = (0, 0, "REJECT now memcached knows it")
            sender(c, "good@example.org", 554)
            place.server.stop()
            sender(c, "good@example.org", 250)  # the backup alone


def test_memcache_domain_and_settings_file():
    with Place("memcache", {"u@in.example": "REJECT in", "u@out.example": "REJECT out"}, domain="in.example") as place:
        main = {**check(place.spec), "smtpd_recipient_restrictions": f"check_sender_access {place.spec}, permit_mynetworks, reject"}
        with Hub(main) as hub, hub.client() as c:
            sender(c, "u@in.example", 554)
            sender(c, "u@out.example", 250)
            assert place.server.asked == ["u@in.example"], place.server.asked  # no domains, no other addresses
            place.cf.write_text(place.cf.read_text().replace("in.example", "out.example"))
            wait_for("the new settings", lambda: sender_code(c, "u@out.example") == 554)
            sender(c, "u@in.example", 250)
            place.cf.write_text("memcache = nonsense\n")  # a mistake: what was read before stays
            said = r"table memcache:.*keeping the old content.*expected inet:host:port"
            wait_for("the complaint", lambda: sender_code(c, "u@out.example") == 554 and re.search(said, hub.log()))


def sender_code(c, address):
    c.cmd(f"MAIL FROM:<{address}>", 250)
    r = c.cmd("RCPT TO:<user@example.com>")
    c.cmd("RSET", 250)
    return r.code


def test_memcache_settings_in_main_cf():
    with TableServer("memcache", dict(SENDERS)) as server:
        with Hub({**check("memcache:mc"), "mc_memcache": server.place, "mc_key_format": "%s"}) as hub, hub.client() as c:
            sender(c, "bad@example.org", 550)
            sender(c, "good@example.org", 250)
            with TableServer("memcache", {"good@example.org": "REJECT"}) as second:
                hub.main["mc_memcache"] = second.place
                hub.write_conf()
                hub.reload()
                with hub.client() as d:
                    sender(d, "good@example.org", 554)


def counts(hub, name):
    rows = [json.loads(line) for line in hub.ctl("tables", "-j").stdout.splitlines()]
    return next(r for r in rows if r["table"].startswith(name))


def test_what_is_counted():
    with Place("socketmap", dict(SENDERS)) as place, Hub(check(place.spec)) as hub, hub.client() as c:
        for who, code in (("good", 250), ("bad", 550), ("good", 250), ("nobody", 554)):
            sender(c, f"{who}@example.org", code)
        place.server.stop()
        sender(c, "good@example.org", 451)
        n = counts(hub, "socketmap:")
        assert (n["found"], n["failed"], n["cached"]) == (3, 1, 0) and n["not_found"] >= 1 and n["asked_ms"] >= 0, n
        assert n["lookups"] == n["found"] + n["not_found"] + n["failed"], n
        local = counts(hub, "inline:")
        assert local["found"] >= 2 and "cached" not in local, local
        text = hub.ctl("tables").stdout
        assert re.search(rf"\n *{n['lookups']} +3 +{n['not_found']} +1 +0 +[0-9.]+  socketmap:", text), text


def test_answers_are_asked_for_again_unless_told_otherwise():
    with Place("socketmap", {"good@example.org": "OK"}) as place:
        with Hub(check(place.spec)) as hub, hub.client() as c:
            sender(c, "good@example.org", 250)
            place.server.content["good@example.org"] = "REJECT"
            sender(c, "good@example.org", 554)
        place.server.asked.clear()
        place.server.content["good@example.org"] = "OK"
        with Hub({**check(place.spec), "remote_table_cache_time": "2s"}) as hub, hub.client() as c:
            sender(c, "good@example.org", 250)
            sender(c, "new@example.org", 554)
            place.server.content.update({"good@example.org": "REJECT", "new@example.org": "OK"})
            asked = len(place.server.asked)
            sender(c, "good@example.org", 250)  # as it was
            sender(c, "new@example.org", 554)
            assert len(place.server.asked) == asked and counts(hub, "socketmap:")["cached"] >= 2
            wait_for("the answer to grow old", lambda: sender_code(c, "good@example.org") == 554, 10)
            wait_for("the answer to grow old", lambda: sender_code(c, "new@example.org") == 250, 10)
            place.server.stop()  # failures are not kept, and nothing is older than the time says
            wait_for("the failure", lambda: sender_code(c, "good@example.org") == 451, 10)
            place.server.start()
            sender(c, "good@example.org", 554)


def test_posthousectl_map():
    """The command asks the same servers, also by settings in main.cf."""
    for kind in KINDS:
        with Place(kind, {"good@example.org": "OK"}) as place, Hub({"mc_memcache": place.server.place}, start=False) as hub:
            for spec in [place.spec] + (["memcache:mc"] if kind == "memcache" else []):
                r = hub.ctl("map", "-q", "good@example.org", spec)
                assert r.stdout == "OK\n", (spec, r)
                assert hub.ctl("map", "-q", "none@example.org", spec, check=False).returncode == 1
            place.server.stop()
            r = hub.ctl("map", "-q", "good@example.org", place.spec, check=False)
            assert r.returncode not in (0, 1) and "Connection refused" in r.stderr, (kind, r)


def test_a_module_that_is_not_there():
    """table_module_directory: the table fails, temporarily, and says what it needs; the rest of the daemon works."""
    with Hub({**check("pgsql:nowhere"), "nowhere_query": "SELECT '%s'", "table_module_directory": "/nonexistent"}) as hub, hub.client() as c:
        sender(c, "good@example.org", 451)
        hub.wait_log(r"warning: .*pgsql tables need a module: /nonexistent/pgsql\.so: ")
        assert "need a module" in hub.ctl("check", check=False).stdout + hub.ctl("check", check=False).stderr


if __name__ == "__main__":
    cases.main(globals())

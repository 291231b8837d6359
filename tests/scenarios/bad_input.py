#!/usr/bin/env python3
"""Wrong configurations, spools and commands: a clear message, a non-zero exit, and nothing lost."""
import os
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import BUILD, MASTER, Hub, lines_of
from sink import Sink

MAIL = b"From: a@example.org\r\nSubject: s\r\n\r\nhi\r\n"


def fails(hub, *words, status=None):
    """posthoused must refuse to start, quickly, and say why."""
    r = subprocess.run(hub.command(), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=hub.env)
    assert r.returncode > 0, f"status {r.returncode}: {r.stdout}{r.stderr}"
    assert status is None or r.returncode == status, f"status {r.returncode}, expected {status}: {r.stderr}"
    for word in words:
        assert word in r.stderr, f"no {word!r} in: {r.stderr}"
    assert not lines_of(r.stderr), r.stderr
    return r.stderr


def one_deferred(hub):
    """A message that waits for a next hop that is not there."""
    hub.start()
    with hub.client() as c:
        qid = c.send_mail("a@example.org", ["x@r.example"], MAIL)
    hub.wait_log(rf"{qid}: .*status=deferred")
    hub.stop()
    return qid


def dead_route():
    with Sink() as s:
        return {"r.example": f"smtp:[127.0.0.1]:{s.port}"}


def test_wrong_configurations():
    cases_ = [({"message_size_limit": "lots"}, None, ["main.cf, line ", "message_size_limit"]),
              ({"smtpd_timeout": "5 parsecs"}, None, ["smtpd_timeout"]),
              ({"soft_bounce": "maybe"}, None, ["soft_bounce"]),
              ({"smtpd_recipient_limit": "-1"}, None, ["smtpd_recipient_limit"]),
              ({"smtpd_recipient_restrictions": "permit_mynetworkz"}, None, ["smtpd_recipient_restrictions", "permit_mynetworkz"]),
              ({"smtpd_relay_restrictions": "permit"}, None, ["smtpd_relay_restrictions"]),
              ({"transport_maps": "sqlmagic:/x"}, None, ["transport_maps", "sqlmagic"]),
              ({"mynetworks": "300.1.2.3/8"}, None, ["mynetworks"]),
              ({"queue_directory": "$queue_directory/x"}, None, ["queue_directory"]),
              ({}, MASTER + "smtp inet n\n", ["master.cf, line "]),
              ({}, MASTER + "[127.0.0.1:25 inet n - n - - smtpd\n", ["master.cf, line "]),
              ({}, MASTER + "127.0.0.1:notaservice inet n - n - - smtpd\n", ["notaservice"])]
    missed = []
    for change, master, words in cases_:
        with Hub(change, master=master or MASTER, start=False) as hub:
            try:
                fails(hub, *words)
            except (AssertionError, subprocess.TimeoutExpired) as why:
                missed.append(f"{change or master}: {why}")
    assert not missed, "\n".join(missed)


def test_unknown_names_are_only_warned_of():
    with Hub({"mynetwerks": "127.0.0.0/8"}) as hub, hub.client() as c:
        assert "mynetwerks" in hub.errors() and "mynetworks" in hub.errors(), hub.errors()
        c.cmd("NOOP", 250)
        r = hub.ctl("check", check=False)
        assert "mynetwerks" in r.stdout + r.stderr


def test_missing_files():
    with Hub(start=False) as hub:
        (hub.dir / "etc" / "master.cf").unlink()
        fails(hub, "master.cf")
        shutil.rmtree(hub.dir / "etc")
        fails(hub, str(hub.dir / "etc"))
    r = subprocess.run([str(BUILD / "posthoused"), "-Z"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 64 and "usage" in r.stderr, r
    r = subprocess.run([str(BUILD / "posthoused"), "--version"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0 and r.stdout.startswith("posthoused "), r


def test_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        with Hub(master=MASTER.replace("127.0.0.1:0", f"127.0.0.1:{port}"), start=False) as hub:
            fails(hub, str(port), "in use")
            assert not (hub.dir / "spool" / "journal").exists()
            r = hub.ctl("check", check=False)
            assert r.returncode != 0 and str(port) in r.stdout + r.stderr, r


def test_second_daemon_on_the_spool():
    with Hub() as hub, Hub({"queue_directory": str(hub.dir / "spool")}, start=False) as second:
        taken = MASTER.replace("127.0.0.1:0", f"127.0.0.1:{hub.port}")
        with Hub({"queue_directory": str(hub.dir / "spool")}, master=taken, start=False) as same:
            fails(same, "runs already", str(hub.proc.pid), "in use", status=69)
        text = fails(second, str(hub.dir / "spool"))
        assert "another" in text or "in use" in text or str(hub.proc.pid) in text, text
        with hub.client() as c:
            c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)


def test_spool_of_a_newer_format():
    with Hub(routes=dead_route(), start=False) as hub:
        qid = one_deferred(hub)
        path = hub.dir / "spool" / "format"
        good = path.read_text()
        name = good.split()[0]
        for bad in (f"{name} 999\n", "something else\n", ""):
            path.write_text(bad)
            text = fails(hub, "spool")
            assert "999" not in bad or "999" in text, text
        path.write_text(good)
        hub.start()
        assert [m["queue_id"] for m in hub.queue()] == [qid]


def test_spool_of_somebody_else():
    if os.geteuid() != 0:
        raise cases.Skip("only root can give a spool away")
    with Hub(routes=dead_route(), start=False) as hub:
        qid = one_deferred(hub)
        files = [hub.dir / "spool"] + list((hub.dir / "spool").rglob("*"))
        before = {p: (p.lstat().st_uid, p.lstat().st_gid) for p in files}
        for p in files:
            os.chown(p, 12345, 12345, follow_symlinks=False)
        fails(hub, str(hub.dir / "spool"))
        assert all(p.lstat().st_uid == 12345 for p in files), "it changed the owner of what is not its own"
        for p, (uid, gid) in before.items():
            os.chown(p, uid, gid, follow_symlinks=False)
        hub.start()
        assert [m["queue_id"] for m in hub.queue()] == [qid]


def test_a_spool_directory_that_cannot_be():
    with Hub(start=False) as hub:
        (hub.dir / "file").write_text("x")
        hub.main["queue_directory"] = str(hub.dir / "file")
        hub.write_conf()
        fails(hub, str(hub.dir / "file"))
        hub.main["queue_directory"] = "relative/spool"
        hub.write_conf()
        fails(hub, "queue_directory")
        hub.main["queue_directory"] = str(hub.dir / "spool")
        hub.main["mail_owner"] = "no-such-user-here"
        if os.geteuid() == 0:
            (hub.dir / "etc" / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in hub.main.items() if v is not None))
            fails(hub, "mail_owner", "no-such-user-here")
        hub.main["mail_owner"] = "nobody"


def test_commands_without_a_daemon():
    with Hub(start=False) as hub:
        for args in (["reload"], ["stop"], ["status"], ["queue", "flush"], ["queue", "delete", "ABCDEF123456"]):
            r = hub.ctl(*args, check=False)
            assert r.returncode != 0 and r.stderr.strip(), (args, r)
        r = hub.ctl("nonsense", check=False)
        assert r.returncode == 64 and "nonsense" in r.stderr, r


def test_queue_ids_and_addresses_that_are_none():
    with Hub(routes=dead_route()) as hub:
        with hub.client() as c:
            qid = c.send_mail("a@example.org", ["x@r.example"], MAIL)
        hub.wait_log(rf"{qid}: .*status=deferred")
        for args in (["delete", "ABCDEF123456"], ["show", "nothing"], ["cat", "../../etc/passwd"], ["hold", ""], ["flush", "0"],
                     ["release", "F" * 400], ["requeue", "%s%n"], ["delete", "all"]):
            r = hub.ctl("queue", *args, check=False)
            assert r.returncode != 0 and r.stderr.strip(), (args, r)
        for args, text in ((["not an address"], b"Subject: x\n\nx\n"), (["@"], b"x\n"), (["-t"], b"Subject: nobody\n\nx\n"), ([], b"x\n")):
            r = hub.sendmail(*args, stdin=text, check=False)
            assert r.returncode != 0 and r.stderr.strip(), (args, r)
        assert [m["queue_id"] for m in hub.queue()] == [qid]


if __name__ == "__main__":
    cases.main(globals())

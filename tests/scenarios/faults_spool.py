#!/usr/bin/env python3
"""The spool's trouble as an administrator meets it: a full disk, one that became read-only, an index that is missing, damaged,
locked or of another version, damaged journal files. DESIGN "The spool"; the failing calls come from tests/faults."""
import errno
import json
import os
import pathlib
import re
import sqlite3
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "faults"))
import cases
from faults import FaultHub, Shim
from hub import Hub, wait_for
from sink import Sink

WAITING = {"defer_transports": "virtual", "index_flush_interval": "100ms", "journal_segment_size": "1M",
           "error_notice_recipient": "other@example.com", "notify_classes": "resource, software"}
QUICK = {"minimal_backoff_time": "1s", "maximal_backoff_time": "1s", "queue_run_delay": "1s"}


def mail(n, size=300):
    return f"From: a@example.org\r\nSubject: message {n}\r\n\r\n".encode() + (b"z" * 70 + b"\r\n") * (size // 72 + 1)


def send(c, n, size=300):
    return c.send_mail("a@example.org", ["user@example.com"], mail(n, size))


def delivered(hub):
    return sorted(int(re.search(rb"Subject: message (\d+)", m).group(1)) for m in hub.mails())


def let_go(hub):
    """What waits is delivered: the transport is no longer deferred."""
    hub.main["defer_transports"] = ""
    hub.write_conf()
    hub.reload()
    hub.ctl("queue", "flush")


def rows(hub):
    with sqlite3.connect(f"file:{hub.dir}/spool/index.db?mode=ro", uri=True) as db:
        return db.execute("SELECT count(*) FROM messages").fetchone()[0]


def backlog(hub, n=4):
    """n messages that wait and have their rows in the index."""
    with hub.client() as c:
        for i in range(1, n + 1):
            send(c, i)
    wait_for("rows in the index", lambda: rows(hub) == n)


def waiting(hub):
    """Without the postmaster's notices."""
    return [m for m in hub.queue() if m["sender"] == "a@example.org"]


def code_of_mail(hub):
    with hub.client() as c:
        return c.cmd("MAIL FROM:<a@example.org>").code


def select_on_a_full_disk(hub):
    """The index cannot be written, and selections know of every change all the same; what needs room says so."""
    def ids(*args):
        return [json.loads(line)["queue_id"] for line in hub.ctl("queue", *args, "-j", check=False).stdout.splitlines()]
    hub.wait_log("the queue index cannot be written")
    four = sorted(m["queue_id"] for m in waiting(hub))
    ours = ["--sender", "a@example.org"]
    for verb, done in (("hold", "4 messages placed on hold"), ("delete", "4 messages deleted"), ("undelete", "4 messages restored")):
        r = hub.ctl("queue", verb, *ours)
        assert done in r.stderr, (verb, r)
        where = "deleted" if verb == "delete" else "list"
        assert ids(where, *ours) == four and ids("list" if where == "deleted" else "deleted", *ours) == [], verb
        assert verb == "delete" or ids("list", "--state", "hold", *ours) == four, verb
    hub.ctl("queue", "release", four[0])
    assert ids("list", "--state", "hold", *ours) == four[1:] and ids("list", "--where", "on_hold = 0", *ours) == four[:1]
    assert "3 messages released" in hub.ctl("queue", "release", *ours).stderr
    r = hub.ctl("queue", "compact", check=False)
    assert r.returncode == 74 and "see the log" in r.stderr, r
    assert "index.db cannot be brought up to date" in hub.log()
    (hub.dir / "one.eml").write_text("Subject: x\n\nhello\n")
    r = hub.ctl("queue", "import", "--recipient", "user@example.com", str(hub.dir / "one.eml"), check=False)
    assert r.returncode == 75 and "not running" not in r.stderr and "No space left" in r.stderr, r


def test_a_full_file_system():
    """452 while it is full; accepted mail is delivered; new mail is accepted by itself when there is space again."""
    base = tempfile.mkdtemp(prefix="posthouse-test-")
    os.chmod(base, 0o755)
    spool = pathlib.Path(base) / "spool"
    spool.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700,uid=65534", "tmpfs", str(spool)],
                                           capture_output=True).returncode != 0:
        spool.rmdir()
        raise cases.Skip("a file system cannot be mounted here")
    try:
        with Hub(dict(WAITING, **QUICK), directory=base) as hub:
            backlog(hub)
            filler = spool / "filler"
            with open(filler, "wb", buffering=0) as f:
                try:
                    while True:
                        f.write(b"x" * 4096)
                except OSError as e:
                    assert e.errno == errno.ENOSPC
            wait_for("MAIL to be refused", lambda: code_of_mail(hub) == 452)
            select_on_a_full_disk(hub)
            let_go(hub)
            wait_for("accepted mail to be delivered", lambda: delivered(hub) == [1, 2, 3, 4])
            hub.wait_log("the queue index cannot be written", 5)  # the rows stay, and are not taken for mail that waits
            assert delivered(hub) == [1, 2, 3, 4]
            assert re.search(r"error: .*(bytes are free|No space left on device)", hub.log())
            filler.unlink()
            wait_for("MAIL to be accepted", lambda: code_of_mail(hub) == 250)
            with hub.client() as c:
                send(c, 5)
                send(c, 6, 600_000)
            hub.wait_mails(6)
            hub.stop()
            hub.start()
            assert delivered(hub) == [1, 2, 3, 4, 5, 6] and not hub.queue()
    finally:
        subprocess.run(["umount", "-l", str(spool)], check=True)
        subprocess.run(["rm", "-rf", base], check=True)


def test_a_file_system_that_becomes_read_only():
    with tempfile.TemporaryDirectory(prefix="posthouse-shim-") as d:
        os.chmod(d, 0o755)
        with FaultHub(Shim(d), main=WAITING, start=True) as hub:
            backlog(hub)
            for cls in ("write", "space", "name", "flush"):
                hub.block.order(cls, "ON", errno.EROFS, n=1)
            with hub.client() as c:
                codes = []
                for n in range(90, 94):
                    r = c.cmd("MAIL FROM:<a@example.org>")
                    if r.code == 250:
                        c.cmd("RCPT TO:<user@example.com>", 250)
                        r = c.content(mail(n), code=None)
                    codes.append(r.code)
                assert set(codes) <= {451, 452}, codes
            hub.wait_log(r"error: .*Read-only file system")
            assert hub.proc.poll() is None
            assert len(waiting(hub)) == 4  # it can be asked
            r = hub.ctl("queue", "list", "-j", "--sender", "a@example.org", "--where", "on_hold = 0")
            assert len(r.stdout.splitlines()) == 4, r
            r = hub.ctl("queue", "hold", "--sender", "a@example.org", check=False)
            assert r.returncode == 74 and "0 messages placed on hold" in r.stderr and "journal" in r.stderr, r
            r = hub.ctl("queue", "pause", "--transport", "virtual", check=False)
            assert r.returncode == 74 and "Read-only file system" in r.stderr, r
            hub.block.heal()
            wait_for("MAIL to be accepted", lambda: code_of_mail(hub) == 250)
            let_go(hub)
            with hub.client() as c:
                send(c, 5)
            wait_for("all of it", lambda: set(range(1, 6)) <= set(delivered(hub)))
            assert set(delivered(hub)) <= {1, 2, 3, 4, 5, 90, 91, 92, 93}
            hub.stop()
            hub.start()
            wait_for("an empty queue", lambda: not hub.queue())
            assert len(delivered(hub)) == len(set(delivered(hub)))


def other_schema(version):
    def change(path):
        with sqlite3.connect(path) as db:
            db.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (version,))
        db.close()
    return change


def damage_pages(path):
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data), 4096):
        data[at:at + 64] = b"\xa5" * 64
    path.write_bytes(data)


def no_database(path):
    path.write_bytes(b"this is no database " * 400)


def test_an_index_that_cannot_be_used():
    """Missing, damaged, older, newer: a new one is made from the journal, no message is lost or repeated."""
    for change, says in ((lambda path: path.unlink(), None), (no_database, "set aside as"), (damage_pages, None),
                         (other_schema(0), "schema version 0"), (other_schema(99), "schema version 99")):
        with Hub(WAITING) as hub:
            backlog(hub)
            hub.stop()
            change(hub.dir / "spool" / "index.db")
            hub.start()
            if says:
                hub.wait_log(rf"error: .*{says}.*a new index is made from the journal")
            wait_for("the queue", lambda: len(waiting(hub)) == 4)
            let_go(hub)
            wait_for("all of it", lambda: delivered(hub) == [1, 2, 3, 4])
            hub.stop()
            hub.start()
            assert delivered(hub) == [1, 2, 3, 4] and not hub.queue()


def test_damage_of_the_index_that_shows_in_use():
    """Mail goes on; the next start makes a new index."""
    with Hub(WAITING) as hub:
        backlog(hub, 300)
        hub.stop()
        path = hub.dir / "spool" / "index.db"
        data = bytearray(path.read_bytes())
        for at in range(4096 * 4, len(data), 4096):  # what a start reads stays
            data[at:at + 16] = b"\xa5" * 16
        path.write_bytes(data)
        hub.start()
        with hub.client() as c:
            send(c, 1000)
        let_go(hub)
        hub.stop()
        hub.start()
        wait_for("all of it", lambda: set(delivered(hub)) == {*range(1, 301), 1000}, 60)
        assert len(delivered(hub)) == 301


def test_an_index_that_somebody_else_has_locked():
    with Hub(dict(WAITING, defer_transports="")) as hub:
        db = sqlite3.connect(hub.dir / "spool" / "index.db", isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        with hub.client() as c:
            for n in range(1, 4):
                send(c, n)
        wait_for("delivery meanwhile", lambda: delivered(hub) == [1, 2, 3])
        db.execute("ROLLBACK")
        hub.main["defer_transports"] = "virtual"
        hub.write_conf()
        hub.reload()
        with hub.client() as c:
            send(c, 4)
        wait_for("the index to follow", lambda: rows(hub) == 1)
        # At a start, too, mail is what counts: it waits a while, and then does without.
        hub.stop()
        db.close()
        db = sqlite3.connect(hub.dir / "spool" / "index.db", isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        hub.start()
        let_go(hub)
        wait_for("the message", lambda: delivered(hub) == [1, 2, 3, 4])
        db.close()


def records(path):
    """Where the records of a journal file begin: after the mark of the first, every other is 8 bytes aligned."""
    data = path.read_bytes()
    mark = data[8192:8196]
    return [at for at in range(8192, len(data) - 8, 8) if data[at:at + 4] == mark], data


def journal_with(hub, text):
    for path in sorted((hub.dir / "spool" / "journal").glob("*.jnl")):
        if text in path.read_bytes():
            return path
    raise AssertionError(f"no journal file has {text}")


def test_damaged_places_of_the_journal():
    """One record in the middle and the end of the last: quarantined, logged, the rest delivered, the postmaster told."""
    with Hub(WAITING) as hub:
        with hub.client() as c:
            for n in range(1, 6):
                send(c, n)
        hub.kill()  # before the index has them
        for tail in ("", "-wal", "-shm"):
            (hub.dir / "spool" / f"index.db{tail}").unlink(missing_ok=True)
        path = journal_with(hub, b"Subject: message 3")
        data = bytearray(path.read_bytes())
        at = data.index(b"Subject: message 3")
        data[at:at + 8] = b"\0\xff" * 4
        end = data.index(b"Subject: message 5") + 30  # torn: the last record ends in the middle
        data[end:] = b"\0" * (len(data) - end)
        path.write_bytes(data)
        hub.start()
        hub.wait_log(r"error: journal segment [0-9a-f]{16}: \d+ bytes at \d+ are damaged; kept in corrupt/, the rest was read")
        hub.wait_log(r"warning: journal segment [0-9a-f]{16} ends with an unfinished record at \d+; kept in corrupt/")
        kept = b"".join(p.read_bytes() for p in (hub.dir / "spool" / "corrupt").iterdir())
        assert b" message 3" in kept and b"Subject: message 5" in kept
        let_go(hub)
        wait_for("the rest", lambda: delivered(hub) == [1, 2, 4])
        notice = wait_for("the postmaster's notice", lambda: hub.mails("other"))[0]
        assert b"damaged" in notice and b"corrupt/" in notice, notice
        hub.stop()
        hub.start()
        assert delivered(hub) == [1, 2, 4] and not hub.queue()


def test_a_large_file_that_is_damaged():
    """Its message is deferred with the reason, and the others go."""
    with Sink() as sink, Hub(WAITING, routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        hub.main["defer_transports"] = "virtual smtp"
        hub.write_conf()
        hub.reload()
        with hub.client() as c:
            bad = c.send_mail("a@example.org", ["x@r.example"], mail(1, 400_000))
            good = c.send_mail("a@example.org", ["x@r.example"], mail(2, 400_000))
        wait_for("rows", lambda: rows(hub) == 2)
        path = hub.dir / "spool" / "large" / f"{int(bad, 16):016x}"
        with open(path, "r+b") as f:
            f.seek(200_000)
            f.write(b"\xff" * 100)
        let_go(hub)
        wait_for("the good one", lambda: len(sink.mails) == 1)
        hub.wait_log(rf"warning: .*checksum of \S+/large/0*{bad.lower()} is wrong")
        hub.wait_log(rf"{bad}: to=<x@r.example>.*status=deferred \(local data error")
        os.truncate(path, 1000)
        hub.ctl("queue", "flush")
        hub.wait_log(rf"warning: .*/large/0*{bad.lower()} has 1000 bytes, not \d+")
        assert [m["recipients"][0]["address"] for m in hub.queue()] == ["x@r.example"] and good


if __name__ == "__main__":
    cases.main(globals())

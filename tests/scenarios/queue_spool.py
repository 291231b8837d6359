#!/usr/bin/env python3
"""posthousectl queue check, rebuild, compact: the spool's files, sound and damaged, with and without a daemon."""
import json
import os
import re
import shutil
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for

LATER = {"relay_domains": "later.example", "transport_maps": "inline:{ { later.example = smtp:[127.0.0.1]:1 } }",
         "index_flush_interval": "100ms"}
SMALL = {**LATER, "journal_segment_size": "1M"}


def send(hub, n=1, size=100, rcpt="u@later.example", sender="joe@example.org"):
    with hub.client() as c:
        for i in range(n):
            c.send_mail(sender, [rcpt], b"Subject: %d\r\n\r\n" % i + (b"x" * 70 + b"\r\n") * (size // 72 + 1))


def index(hub):
    db = sqlite3.connect(f"file:{hub.dir}/spool/index.db?mode=ro", uri=True)
    return db


def rows(hub):
    db = index(hub)
    try:
        return db.execute("SELECT count(*) FROM messages").fetchone()[0]
    except sqlite3.OperationalError:
        return -1
    finally:
        db.close()


def findings(hub, status):
    r = hub.ctl("queue", "check", "-j", check=False)
    assert r.returncode == status, r
    lines = [json.loads(x) for x in r.stdout.splitlines()]
    return [x for x in lines if "kind" in x], lines[-1]


def write_at(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def place(hub, which=0):
    db = index(hub)
    row = db.execute("SELECT id, segment, offset FROM messages ORDER BY id LIMIT 1 OFFSET ?", (which,)).fetchone()
    db.close()
    return row[0], hub.dir / "spool" / "journal" / f"{row[1]:016x}.jnl", row[2]


def stopped_hub(n=3, **kw):
    """A hub that is down, with n messages in its index."""
    hub = Hub({**LATER, **kw})
    send(hub, n)
    hub.wait_log("status=deferred", n)
    wait_for("the rows", lambda: rows(hub) == n)
    hub.stop()
    return hub


def test_check_sound():
    with Hub(LATER) as hub:
        send(hub, 5)
        r = hub.ctl("queue", "check")  # beside the running daemon
        assert r.stdout.endswith("no errors found\n"), r
        hub.wait_log("status=deferred", 5)
        send(hub, 3, size=1_000_000)  # large files
        hub.wait_log("status=deferred", 8)
        found, totals = findings(hub, 0)
        assert not found and totals["daemon_runs"] and totals["messages"] >= 8, (found, totals)
        hub.ctl("queue", "delete", "--final", hub.queue()[0]["queue_id"])
        hub.stop()
        found, totals = findings(hub, 0)
        assert not found and not totals["daemon_runs"] and totals["rows"] == 7 and totals["administrative"] == 1, (found, totals)
        assert totals["large_files"] in (2, 3)
        hub.start()
        hub.kill()
        found, totals = findings(hub, 0)
        assert not found


def test_check_under_load():
    with Hub({**SMALL, "virtual_mailbox_maps": "static:user/"}) as hub:
        for i in range(6):
            send(hub, 40, size=20_000, rcpt="user@example.com")
            send(hub, 20, size=20_000)
            found, _ = findings(hub, 0)
            assert not found, found


def test_check_damaged_record():
    with stopped_hub() as hub:
        number, path, offset = place(hub, 1)
        write_at(path, offset + 40, b"\xff\xff\xff\xff")
        found, totals = findings(hub, 65)
        assert totals["errors"] == 2, found
        assert found[0]["kind"] == "damage" and found[0]["file"] == f"journal/{path.name}" and found[0]["offset"] == offset, found
        assert found[1]["queue_id"] == f"{number:X}" and "cannot be delivered" in found[1]["text"], found
        text = hub.ctl("queue", "check", check=False).stdout
        assert f"error: journal/{path.name}, offset {offset}: " in text and "posthousectl queue delete" in text, text
        hub.start()  # the others are there, and what is damaged is told
        assert len(hub.queue()) == 2
        r = hub.ctl("queue", "check", check=False)
        assert r.returncode == 65 and "damaged" in r.stdout, r


def test_check_content_and_large():
    with stopped_hub(1) as hub:
        hub.start()
        send(hub, 1, size=1_000_000)
        hub.wait_log("status=deferred", 2)
        hub.stop()
        large = next((hub.dir / "spool" / "large").iterdir())
        write_at(large, 500_000, b"!")
        found, _ = findings(hub, 65)
        assert [f["kind"] for f in found] == ["large-file"] and "another checksum" in found[0]["text"], found
        assert found[0]["file"] == f"large/{large.name}"
        large.unlink()
        found, _ = findings(hub, 65)
        assert [f["kind"] for f in found] == ["large-file"] and "cannot be opened" in found[0]["text"], found
        (hub.dir / "spool" / "large" / ("0" * 15 + "7")).write_bytes(b"x")
        found, totals = findings(hub, 65)
        assert totals["notes"] == 1 and any(f["kind"] == "stray-file" for f in found), found


def test_check_both_ways():
    with stopped_hub() as hub:
        path = hub.dir / "spool" / "index.db"
        db = sqlite3.connect(path)
        number = db.execute("SELECT max(id) FROM messages").fetchone()[0]
        saved = db.execute("SELECT * FROM messages WHERE id = ?", (number,)).fetchone()
        db.execute("DELETE FROM messages WHERE id = ?", (number,))
        db.commit()
        found, _ = findings(hub, 65)
        assert [f["kind"] for f in found] == ["not-indexed"] and found[0]["queue_id"] == f"{number:X}", found
        assert found[0]["advice"] == "posthousectl queue rebuild"
        db.execute(f"INSERT INTO messages VALUES ({','.join('?' * len(saved))})", saved)
        db.execute("INSERT INTO messages SELECT id + 1, segment, offset + 8, size, is_large, arrival_us, sender, message_id, client_name,"
                   " client_addr, rcpt_count, on_hold, due_us, delay_warned, forced_expire FROM messages WHERE id = ?", (number,))
        db.commit()
        found, _ = findings(hub, 65)
        assert [f["kind"] for f in found] == ["no-record"] and found[0]["queue_id"] == f"{number + 1:X}", found
        db.execute("DELETE FROM messages WHERE id = ?", (number + 1,))
        db.execute("UPDATE messages SET segment = segment + 100 WHERE id = ?", (number,))
        db.commit()
        db.close()
        found, _ = findings(hub, 65)
        assert [f["kind"] for f in found] == ["no-record"] and "is missing; 1 message" in found[0]["text"], found


def test_check_finished_but_indexed():
    with Hub(LATER) as hub:
        send(hub)
        hub.wait_log("status=deferred")
        wait_for("the row", lambda: rows(hub) == 1)
        db = index(hub)
        saved = db.execute("SELECT * FROM messages").fetchone(), db.execute("SELECT * FROM recipients").fetchone()
        db.close()
        hub.main["transport_maps"] = "inline:{ { later.example = discard: } }"
        hub.write_conf()
        hub.ctl("reload")
        hub.ctl("queue", "requeue", "ALL")
        wait_for("an empty queue", lambda: hub.queue() == [])
        hub.stop()
        assert findings(hub, 0)[0] == []
        db = sqlite3.connect(hub.dir / "spool" / "index.db")
        db.execute(f"INSERT INTO messages VALUES ({','.join('?' * len(saved[0]))})", saved[0])
        db.execute(f"INSERT INTO recipients VALUES ({','.join('?' * len(saved[1]))})", saved[1])
        db.commit()
        db.close()
        found, _ = findings(hub, 65)
        assert [f["kind"] for f in found] == ["finished"] and "still has it" in found[0]["text"], found
        r = hub.ctl("queue", "rebuild")
        assert "with 0 messages" in r.stdout, r
        assert findings(hub, 0)[0] == []


def test_check_deleted_and_restored():
    with Hub(LATER) as hub:
        send(hub, 4)
        hub.wait_log("status=deferred", 4)
        wait_for("the rows", lambda: rows(hub) == 4)
        a, b, c, d = sorted(q["queue_id"] for q in hub.queue())
        hub.ctl("queue", "delete", a, b)
        hub.ctl("queue", "delete", "--final", c)
        hub.ctl("queue", "undelete", b)
        for when in ("running", "killed", "started", "rebuilt"):
            if when == "killed":
                hub.kill()
            elif when == "started":
                hub.start()
                hub.ctl("queue", "compact")  # writes a checkpoint too
                hub.stop()
            elif when == "rebuilt":
                hub.ctl("queue", "rebuild")
            found, totals = findings(hub, 0)
            assert not found, (when, found)
            assert sorted(q["queue_id"] for q in hub.queue()) == [b, d], when
        hub.start()
        hub.ctl("queue", "undelete", a)
        hub.stop()
        assert findings(hub, 0)[0] == []
        assert sorted(q["queue_id"] for q in hub.queue()) == [a, b, d]


def test_check_index_and_others():
    with stopped_hub() as hub:
        spool = hub.dir / "spool"
        db = sqlite3.connect(spool / "index.db")
        version = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()[0]
        db.execute("UPDATE meta SET value = 99 WHERE key = 'schema_version'")
        db.commit()
        found, _ = findings(hub, 65)
        assert found[0]["kind"] == "index" and "schema version 99" in found[0]["text"], found
        db.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (version,))
        db.commit()
        sql = db.execute("SELECT sql FROM sqlite_master WHERE name = 'meta'").fetchone()[0]
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = 'CREATE \x1b[2J' WHERE name = 'meta'")  # SQLite's words about it have it
        db.commit()
        found, _ = findings(hub, 65)
        assert any('"?"' in f["text"] for f in found) and all(f["text"].isprintable() for f in found), found
        db.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'meta'", (sql,))
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        size = (spool / "index.db").stat().st_size
        write_at(spool / "index.db", size // 2, b"\x55" * 3000)
        found, _ = findings(hub, 65)
        assert found and found[0]["kind"] == "index" and found[0]["advice"] == "posthousectl queue rebuild", found
        assert all(f["text"].isprintable() for f in found), found
        hub.ctl("queue", "rebuild")
        assert findings(hub, 0)[0] == []
        assert rows(hub) == 3
        (spool / "checkpoint").write_bytes(b"PHchkp1\n" + b"\0" * 60)
        found, _ = findings(hub, 65)
        assert [f["kind"] for f in found] == ["checkpoint"], found
        (spool / "checkpoint").unlink()
        segment = max((spool / "journal").glob("*.jnl"))
        first = segment.read_bytes()[:8192]
        write_at(segment, 0, b"\0" * 8192)
        found, _ = findings(hub, 65)
        assert any(f["kind"] == "header" and f["file"] == f"journal/{segment.name}" for f in found), found
        write_at(segment, 0, first)
        assert findings(hub, 0)[0] == []
        (spool / "format").write_text("posthouse-spool 9\n")
        r = hub.ctl("queue", "check", check=False)
        assert r.returncode == 66 and "format 9" in r.stderr, r
        (spool / "format").write_text("something else\n")
        r = hub.ctl("queue", "check", check=False)
        assert r.returncode == 66 and "not a spool" in r.stderr, r
        (spool / "format").write_text("posthouse-spool 1\n")
    with Hub(start=False) as hub:
        r = hub.ctl("queue", "check", check=False)
        assert r.returncode == 66 and str(hub.dir / "spool") in r.stderr, r


def test_rebuild():
    with Hub({**LATER, "notify_classes": ""}) as hub:  # a notice of the new index would be one more in the queue
        send(hub, 3)
        send(hub, 1, size=600_000)
        hub.wait_log("status=deferred", 4)
        held = hub.queue()[0]["queue_id"]
        hub.ctl("queue", "hold", held)
        wait_for("the rows", lambda: rows(hub) == 4)
        r = hub.ctl("queue", "rebuild", check=False)
        assert r.returncode == 75 and "in use by process" in r.stderr and "stop posthoused first" in r.stderr, r
        before = sorted(hub.queue(), key=lambda q: q["queue_id"])
        hub.stop()
        (hub.dir / "spool" / "index.db.new").write_bytes(b"left over")
        r = hub.ctl("queue", "rebuild", "-v")
        assert "with 4 messages; the old one is" in r.stdout and "index.db.old" in r.stdout, r
        assert not (hub.dir / "spool" / "index.db.new").exists()
        db = index(hub)
        assert db.execute("SELECT count(*) FROM attempts").fetchone()[0] == 4
        db.close()
        assert sorted(hub.queue(), key=lambda q: q["queue_id"]) == before
        hub.start()
        assert sorted(hub.queue(), key=lambda q: q["queue_id"]) == before
        hub.ctl("queue", "rebuild", "--at-start")
        hub.stop()
        hub.start()
        assert "set aside" in hub.log() and len(hub.queue()) == 4
        r = hub.ctl("queue", "rebuild", "now", check=False)
        assert r.returncode == 64, r


def test_rebuild_without_index():
    with stopped_hub() as hub:
        (hub.dir / "spool" / "index.db").unlink()
        r = hub.ctl("queue", "rebuild")
        assert "with 3 messages" in r.stdout and "there was none" in r.stdout and "index.db.old" not in r.stdout, r
        hub.start()
        assert len(hub.queue()) == 3
    with Hub(start=False) as hub:
        r = hub.ctl("queue", "rebuild", check=False)
        assert r.returncode == 66 and str(hub.dir / "spool") in r.stderr, r
        # a directory that is something else, by a mistyped queue_directory for instance, stays as it is
        (hub.dir / "spool").mkdir()
        shutil.chown(hub.dir / "spool", hub.main["mail_owner"] if os.geteuid() == 0 else os.geteuid())
        for args in (["queue", "rebuild"], ["queue", "rebuild", "-j"], ["queue", "rebuild", "--at-start"]):
            r = hub.ctl(*args, check=False)
            assert r.returncode == 66 and not r.stdout and "there is no spool in" in r.stderr, (args, r)
        assert not list((hub.dir / "spool").iterdir())


def test_rebuild_keeps_addresses_private():
    """The new index has the daemon's permissions, whatever the umask of the administrator."""
    with stopped_hub() as hub:
        path = hub.dir / "spool" / "index.db"
        mode = path.stat().st_mode
        before = os.umask(0o022)
        try:
            r = hub.ctl("queue", "rebuild", "-j")
        finally:
            os.umask(before)
        assert json.loads(r.stdout) == {"messages": 3, "history": True}
        assert path.stat().st_mode == mode and mode & 0o077 == 0, oct(path.stat().st_mode)


def used(hub):
    return sum(p.stat().st_blocks * 512 for p in (hub.dir / "spool" / "journal").iterdir())


def test_compact():
    with Hub({**SMALL, "maximal_backoff_time": "4000s"}) as hub:
        # in each segment one message of another destination stays, and most of the others go
        for _ in range(12):
            send(hub, 1, size=8000, sender="stays@example.org")
            send(hub, 30, size=25_000, sender="goes@example.org")
        hub.wait_log("status=deferred", 12 * 31)
        ids = {q["queue_id"]: q["sender"] for q in hub.queue()}
        going = "\n".join(i for i, s in ids.items() if s.startswith("goes"))
        before = used(hub)
        hub.ctl("queue", "delete", "--final", "-", stdin=going)
        r = hub.ctl("queue", "compact", "-v")
        m = re.search(r"(\d+) segments emptied, (\d+) messages moved", r.stdout)
        assert m, r
        assert used(hub) < before / 2, (before, used(hub), r.stdout)
        assert {q["sender"] for q in hub.queue()} == {"stays@example.org"} and len(hub.queue()) == 12
        found, _ = findings(hub, 0)
        assert not found
        qid = hub.queue()[0]["queue_id"]
        assert "xxxx" in hub.ctl("queue", "cat", qid).stdout
        r = hub.ctl("queue", "compact", "-j")
        outcome = json.loads(r.stdout)
        assert outcome["segments_left"] == 0 and outcome["bytes_now"] <= outcome["bytes_before"] and "ok" not in outcome, r
        hub.kill()
        assert len(hub.queue()) == 12
        r = hub.ctl("queue", "compact", check=False)
        assert r.returncode == 69 and "not running" in r.stderr, r
        hub.start()
        assert len(hub.queue()) == 12


if __name__ == "__main__":
    cases.main(globals())

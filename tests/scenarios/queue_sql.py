#!/usr/bin/env python3
"""posthousectl queue sql and queue stats, with and without a daemon."""
import json
import os
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import Sink

BODY = b"Subject: x\r\n\r\nhello\r\n"


def send(hub, *rcpts, sender="joe@example.org", n=1):
    with hub.client() as c:
        for _ in range(n):
            c.send_mail(sender, list(rcpts), BODY)


def later(**main):
    return Hub(main, routes={"a.example": "smtp:[127.0.0.1]:1", "b.example": "relay:[127.0.0.1]:2"})


def sql(hub, text, *args, check=True, **kw):
    return hub.ctl("queue", "sql", *args, text, check=check, **kw)


def test_sql():
    with later() as hub:
        send(hub, "u@a.example", "v@b.example")
        send(hub, "w@a.example", sender="")
        hub.wait_log("status=deferred", 3)
        r = sql(hub, "SELECT recipient, attempts FROM queue ORDER BY recipient")  # what came a moment ago is there
        assert r.stdout == ("recipient    attempts\n-----------  --------\nu@a.example         1\n"
                            "v@b.example         1\nw@a.example         1\n"), r.stdout
        rows = [json.loads(x) for x in sql(hub, "SELECT sender, size, NULL AS empty, 1.5 AS x, sender FROM queue_messages ORDER BY queue_id;", "-j").stdout.splitlines()]
        assert len(rows) == 2 and rows[0]["sender"] == "joe@example.org" and rows[0]["x"] == 1.5 and rows[0]["empty"] is None
        assert rows[0]["sender_5"] == "joe@example.org" and rows[0]["size"] > 0
        r = hub.ctl("queue", "sql", "-", stdin="SELECT count(*) AS n\nFROM queue_destinations -- all of them\n")
        assert r.stdout == "n\n-\n2\n", r.stdout
        assert "CREATE TABLE messages" in sql(hub, "SELECT sql FROM sqlite_schema WHERE name = 'messages'").stdout
        assert sql(hub, "SELECT 1 WHERE 0").stdout == "1\n-\n"
        row = json.loads(sql(hub, "SELECT 1e999 AS x, -1e999 AS y, 'a' || char(0) AS z, 'q\"' AS \"na\"\"me\"", "-j").stdout)
        assert row == {"x": None, "y": None, "z": "a\0", 'na"me': 'q"'}, row
        big = sql(hub, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3000) SELECT n FROM c").stdout.splitlines()
        assert len(big) == 3002 and big[-1] == "3000" and big[2].endswith("  1")
        before = [q["queue_id"] for q in hub.queue()]
        for bad, status, words in (
                ("DELETE FROM messages", 77, "only reading is allowed"), ("UPDATE messages SET on_hold = 1", 77, "only reading"),
                ("INSERT INTO meta VALUES ('x', 1)", 77, "only reading"), ("DROP TABLE messages", 77, "only reading"),
                ("ATTACH '/tmp/x' AS x", 77, "only reading"), ("PRAGMA journal_mode = DELETE", 77, "only reading"),
                ("VACUUM", 77, "only reading"), ("SELECT load_extension('x')", 77, "only reading"),
                ("SELEC 1", 65, "syntax error"), ("SELECT nowhere FROM queue", 65, "no such column"), ("", 65, ""),
                ("SELECT 1; SELECT 2", 65, ""), ("SELECT 1; DELETE FROM messages", 65, "")):
            r = sql(hub, bad, check=False)
            assert r.returncode == status and words in r.stderr and r.stderr.startswith("posthousectl: "), (bad, r)
        assert [q["queue_id"] for q in hub.queue()] == before
        r = sql(hub, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c", "--time-limit", "1", check=False)
        assert r.returncode == 75 and "after 1 seconds" in r.stderr, r
        for args in ([], ["--time-limit", "0", "SELECT 1"], ["--time-limit", "x", "SELECT 1"], ["SELECT 1", "SELECT 2"], ["-x", "SELECT 1"]):
            r = hub.ctl("queue", "sql", *args, check=False)
            assert r.returncode == 64 and "usage" in r.stderr, (args, r)


def test_sql_without_daemon():
    with later() as hub:
        send(hub, "u@a.example")
        hub.wait_log("status=deferred")
        hub.kill()  # the index may not have it yet
        r = sql(hub, "SELECT recipient, reason FROM queue")
        assert "u@a.example" in r.stdout and "refused" in r.stdout and "not running" in r.stderr, r
        r = hub.ctl("queue", "stats")
        assert "1 messages of" in r.stdout and "connect to ...: Connection refused" in r.stdout and "Per minute" not in r.stdout, r.stdout
        hub.start()
        hub.stop()
        db = sqlite3.connect(hub.dir / "spool" / "index.db")
        db.execute("UPDATE meta SET value = 77 WHERE key = 'schema_version'")
        db.commit()
        db.close()
        r = sql(hub, "SELECT 1", check=False)
        assert r.returncode == 66 and "schema version 77" in r.stderr and "queue rebuild" in r.stderr, r
        assert hub.ctl("queue", "list", check=False).returncode == 66


def test_wrong_schema_beside_daemon():
    with later() as hub:
        db = sqlite3.connect(hub.dir / "spool" / "index.db")
        version = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()[0]
        db.execute("UPDATE meta SET value = 77 WHERE key = 'schema_version'")
        db.commit()
        r = sql(hub, "SELECT 1", check=False)
        assert r.returncode == 74 and "schema version 77" in r.stderr, r
        db.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (version,))
        db.commit()
        db.close()


def test_stats():
    with Sink() as sink, Hub(routes={"a.example": "smtp:[127.0.0.1]:1", "b.example": "relay:[127.0.0.1]:2",
                                     "ok.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        assert "0 messages of 0 bytes" in hub.ctl("queue", "stats").stdout
        send(hub, "u@a.example", n=3)
        send(hub, "u@a.example", "v@b.example", sender="Ann@Other.Example")
        send(hub, "v@b.example", sender="")
        send(hub, "u@ok.example", n=4)
        hub.wait_log("status=deferred", 6)
        hub.wait_log("status=sent", 4)
        text = hub.ctl("queue", "stats").stdout
        for words in ("5 messages of", "6 recipients waiting", "Per minute", "Recipients by next hop", "other.example", "example.org", "<>"):
            assert words in text, (words, text)
        lines = [json.loads(x) for x in hub.ctl("queue", "stats", "-j").stdout.splitlines()]
        by = {}
        for x in lines:
            by.setdefault(x["kind"], {})[x.get("name", x.get("minutes"))] = x
        assert by["totals"][None]["messages"] == 5 and by["totals"][None]["recipients"] == 6, by["totals"]
        assert {k: v["total"] for k, v in by["destination"].items()} == {"[127.0.0.1]:1": 4, "[127.0.0.1]:2": 2}
        assert all(v["ages"] == [v["total"]] + [0] * 9 for v in by["destination"].values())
        assert {k: v["total"] for k, v in by["sender_domain"].items()} == {"example.org": 3, "other.example": 1, "": 1}
        assert {k: v["total"] for k, v in by["reason"].items()} == {"connect to ...: Connection refused": 6}, by["reason"]
        rate = by["rate"][1]
        assert rate["accepted"] == 9 and rate["recipients"] == 10 and rate["sent"] == 4 and rate["deferred"] == 6, rate
        assert set(by["rate"]) == {1, 5, 15}
        hub.ctl("queue", "hold", hub.queue()[0]["queue_id"])
        assert "1 messages on hold" in hub.ctl("queue", "stats").stdout
        assert "(and 1 more: --top)" in hub.ctl("queue", "stats", "--top", "1").stdout
        r = hub.ctl("queue", "stats", "--top", "0", check=False)
        assert r.returncode == 64, r


def test_stats_ages():
    """Rows of many ages, put into the index of a hub that is down."""
    with later() as hub:
        send(hub, "u@a.example")
        hub.wait_log("status=deferred")
        wait_for("the row", lambda: sql(hub, "SELECT count(*) FROM messages").stdout)
        hub.stop()
        db = sqlite3.connect(hub.dir / "spool" / "index.db")
        number, = db.execute("SELECT id FROM messages").fetchone()
        minutes = [7, 15, 30, 70, 150, 300, 600, 1200, 2000, 9000]
        for m in minutes:
            for table, key in (("messages", "id"), ("recipients", "message")):
                columns = [c[1] for c in db.execute(f"PRAGMA table_info({table})")]
                values = ", ".join(f"{key} - {m * 60_000_000}" if c == key else c for c in columns)
                db.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE {key} = ?", (number,))
        db.commit()
        db.close()
        lines = [json.loads(x) for x in hub.ctl("queue", "stats", "-j").stdout.splitlines()]
        for kind in ("destination", "sender_domain"):
            row = next(x for x in lines if x["kind"] == kind)
            assert row["ages"] == [1, 1, 1, 1, 1, 1, 1, 1, 1, 2], row


if __name__ == "__main__":
    cases.main(globals())

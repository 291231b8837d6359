#!/usr/bin/env python3
"""Selections of queued messages, what is done to them, and undoing it: over restarts and kills."""
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import BUILD, Hub, wait_for
from sink import Sink

REPLIES = {"later": "450 4.7.0 come back later", "busy": "451 4.4.1 line is busy", "slow": "450 4.2.0 slow down"}
DOMAINS = [f"{d}.example" for d in ("later", "busy", "slow", "good")]


class World:
    """A hub whose next hop defers by domain; good.example is taken."""

    def __init__(self, **main):
        self.sink = Sink()
        self.sink.on["RCPT"] = lambda s, arg: next((r for d, r in REPLIES.items() if f"@{d}.example>" in arg.split(" ")[0]), None)
        self.hub = Hub(main, routes={d: f"smtp:[127.0.0.1]:{self.sink.port}" for d in DOMAINS})

    def __enter__(self):
        self.hub.__enter__()
        self.hub.sink = self.sink
        return self.hub

    def __exit__(self, *exc):
        self.hub.__exit__(*exc)
        self.sink.close()


def put(hub, sender, *rcpts, body=b"Subject: waiting\r\n\r\nhello\r\n"):
    """Sends, waits until every recipient was tried; the queue id."""
    with hub.client() as c:
        qid = c.send_mail(sender, list(rcpts), body)
    hub.wait_log(rf"{qid}: to=.*status=deferred", len(rcpts))
    wait_for("the message to be deferred", lambda: any(q["queue_id"] == qid and q["queue_name"] == "deferred" for q in hub.queue()))
    return qid


def ids(hub, *selection, check=True):
    return sorted(json.loads(line)["queue_id"] for line in hub.ctl("queue", "list", "-j", *selection, check=check).stdout.splitlines())


def show(hub, qid):
    return json.loads(hub.ctl("queue", "show", "-j", qid).stdout)


def names(hub):
    return {q["queue_id"]: q["queue_name"] for q in hub.queue()}


def fill(hub):
    a = put(hub, "ann@example.org", "u@later.example")
    b = put(hub, "Bob@example.org", "u@later.example", "v@busy.example", body=b"Subject: big\r\n\r\n" + b"x" * 60 + b"\r\n" * 2000)
    c = put(hub, "", "w@slow.example")
    return a, b, c


def test_each_option_selects():
    with World() as hub:
        a, b, c = fill(hub)
        hub.ctl("queue", "hold", c)
        cases_ = [
            (["--sender", "ANN@example.org"], [a]), (["--sender", "*@example.org"], [a, b]), (["--sender", "<>"], [c]),
            (["--recipient", "u@later.example"], [a, b]), (["--recipient", "@busy.example"], [b]),
            (["--transport", "smtp"], [a, b, c]), (["--destination", "127.0.0.1"], [a, b, c]), (["--code", "451"], [b]), (["--reason", "BUSY"], [b]), (["--code", "4.7.0"], [a, b]), (["--code", "4.2"], [c]),
            (["--larger", "2k"], [b]), (["--smaller", "2k"], [a, c]), (["--newer", "1h"], [a, b, c]), (["--state", "hold"], [c]),
            (["--state", "deferred"], [a, b]), (["--where", "attempts = 1 AND host <> ''"], [a, b, c]), (["--where", "size > 2000"], [b]),
            (["--client", "127.0.0.1"], [a, b, c]), (["--sender", "ann@*", "--sender", "<>"], [a, c]),
            (["--recipient", "u@later.example", "--sender", "bob@example.org"], [b]),
            (["--recipient", "u@later.example", "--reason", "busy"], None), (["--older", "1h"], None), (["--sender", "nobody@example.org"], None),
            ([a, c], [a, c]), ([a, c, "--sender", "<>"], [c]),
        ]
        for running in (True, False):
            if not running:
                hub.kill()  # the index does not have the end of the journal
            for sel, want in cases_:
                r = hub.ctl("queue", "list", "-j", *sel, check=False)
                got = [json.loads(line)["queue_id"] for line in r.stdout.splitlines()]
                assert got == (want or []), (running, sel, got, r.stderr)
                assert r.returncode == (0 if want else 1) and ("no message matches" in r.stderr) == (not want), (running, sel, r)
            assert hub.ctl("queue", "show", "--sender", "<>").stdout.count("Queue ID:") == 1
            text = hub.ctl("queue", "cat", "--sender", "*@example.org").stdout
            assert text.count("==> ") == 2 and f"==> {b} <==\n" in text and text.endswith("\n"), text[:200]
            assert hub.ctl("queue", "cat", "--sender", "<>").stdout.endswith("\n\nhello\n")


def test_unusual_addresses():
    """As a listing shows them, and as they are in SQL; and what a shell, LIKE or JSON could take for special."""
    with World() as hub:
        hub.sink.on["RCPT"] = lambda s, arg: "450 4.7.0 come back later"
        a = put(hub, '"odd user%"@example.org', '"a b"@later.example', "it's@later.example", "100%@later.example")
        b = put(hub, "j\u00f6_1@example.org", '"q\\"uote"@later.example', "a_b@later.example")
        c = put(hub, "jxx1@example.org", "axb@later.example", "100x@later.example")
        for m in hub.queue():
            for r in m["recipients"]:
                assert ids(hub, "--recipient", r["address"]) == [m["queue_id"]], r
            assert ids(hub, "--sender", m["sender"]) == ids(hub, "--sender", f"<{m['sender']}>") == [m["queue_id"]], m["sender"]
        want = {("--sender", "odd user%@example.org"): [a], ("--sender", '"odd *"@example.org'): [a], ("--sender", "j\u00f6_1@*"): [b],
                ("--recipient", "a_*"): [b], ("--recipient", "100%*"): [a], ("--recipient", '"a b@later.example'): [], ("--recipient", '"'): [],
                ("--where", "recipient = 'a b@later.example'"): [a], ("--where", "sender LIKE 'j%1@%'"): [b, c]}
        for sel, have in want.items():
            assert ids(hub, *sel, check=False) == have, sel
        assert hub.ctl("queue", "readdress", '"a b"@later.example', '"c d"@busy.example').stderr == "1 message readdressed\n"
        assert '"c d"@busy.example' in [r["address"] for r in show(hub, a)["recipients"]]
        for bad in ("c d@busy.example", '"c d"', '"c d"@', 'x"y@busy.example', '"c d"@busy example', "a\nb@busy.example"):
            for pair in ((bad, "x@busy.example"), ("x@busy.example", bad)):
                r = hub.ctl("queue", "readdress", *pair, check=False)
                assert r.returncode == 64 and "expected two addresses" in r.stderr, (pair, r)
        hub.wait_log(r'to=<"c d"@busy\.example>, orig_to=<"a b"@later\.example>')


def test_wrong_selections():
    with World() as hub:
        a = put(hub, "ann@example.org", "u@later.example")
        wrong_sql = [(["--where", "nonsense = 1"], 65, "no such column: nonsense"), (["--where", "id = (DELETE FROM messages)"], 65, "syntax error"),
                     (["--where", "load_extension('x')"], 77, "only reading")]
        bad = [(["--older", "soon"], "expected an age"), (["--larger", "big"], "expected a size"), (["--code", "99"], "expected a status"),
               (["--state", "frozen"], "expected active"), (["--colour", "red"], "unrecognized option"), (["--sender"], "requires an argument"),
               (["--where", "1; DELETE FROM messages"], "one SQL condition"),
               (["x!", "--sender", "a@b"], "expected a queue id"), (["ALL", "--sender", "a@b"], "ALL stands alone")]
        for verb in ("list", "hold", "delete", "show"):
            for sel, text in bad:
                r = hub.ctl("queue", verb, *sel, check=False)
                assert r.returncode == 64 and text in r.stderr, (verb, sel, r)
            for sel, status, text in wrong_sql:
                r = hub.ctl("queue", verb, *sel, check=False)
                assert r.returncode == status and text in r.stderr, (verb, sel, r)
        for args in (["queue", "readdress"], ["queue", "readdress", "a@b.example"], ["queue", "readdress", "nonsense", "a@b.example"],
                     ["queue", "readdress", "@a.example", "x@b.example"], ["queue", "undelete"], ["queue", "expire"]):
            r = hub.ctl(*args, check=False)
            assert r.returncode == 64 and r.stderr, (args, r)
        for verb in ("hold", "release", "delete", "requeue", "expire", "flush", "undelete"):
            r = hub.ctl("queue", verb, "--sender", "nobody@example.org", check=False)
            assert r.returncode == 1 and "matches" in r.stderr, (verb, r)
        assert names(hub) == {a: "deferred"}
        hub.stop()
        for sel, status, text in wrong_sql:  # also of the files
            r = hub.ctl("queue", "list", *sel, check=False)
            assert r.returncode == status and text in r.stderr, (sel, r)
        for verb in ("hold", "delete", "undelete", "flush"):
            r = hub.ctl("queue", verb, a, check=False)
            assert r.returncode == 69 and "nobody listens" in r.stderr or "not running" in r.stderr, (verb, r)


def test_dry_run_changes_nothing():
    with World() as hub:
        a, b, c = fill(hub)
        before = hub.ctl("queue", "show", "-j", a, b, c).stdout
        for verb in ("hold", "delete", "requeue", "expire"):
            r = hub.ctl("queue", verb, "--dry-run", "--sender", "*@example.org")
            assert r.stdout.split() == [a, b] and r.stderr.startswith("2 messages would be "), (verb, r)
            r = hub.ctl("queue", verb, "-n", a, "F00D")
            assert r.stdout.split() == [a], (verb, r)
        r = hub.ctl("queue", "readdress", "-n", "-j", "u@later.example", "u@new.example")
        assert [json.loads(line) for line in r.stdout.splitlines()] == [{"queue_id": i, "result": "selected"} for i in (a, b)]
        assert hub.ctl("queue", "flush", "-n", "--sender", "<>").stdout.split() == [c]
        assert hub.ctl("queue", "hold", "-n", "ALL").stdout.split() == [a, b, c]
        assert hub.ctl("queue", "release", "-n", "ALL").stderr == "0 messages would be released\n"
        after = hub.ctl("queue", "show", "-j", a, b, c).stdout
        assert before == after, (before, after)


def test_hold_release_flush_by_selection():
    with World() as hub:
        a, b, c = fill(hub)
        assert hub.ctl("queue", "hold", "--reason", "come back").stderr == "2 messages placed on hold\n"
        assert names(hub) == {a: "hold", b: "hold", c: "deferred"}
        r = hub.ctl("queue", "hold", "--reason", "come back", check=False)
        assert r.returncode == 1 and "not on hold matches" in r.stderr, r
        assert show(hub, a)["recipients"][0]["wait"] == "hold"
        r = hub.ctl("queue", "release", "-j", "--sender", "ann@*")
        assert json.loads(r.stdout) == {"queue_id": a, "result": "done"} and r.stderr == "1 message released\n"
        hub.wait_log(rf"{a}: to=.*status=deferred", 2)
        hub.ctl("queue", "flush", "--sender", "<>")
        hub.wait_log(rf"{c}: to=.*status=deferred", 2)
        assert names(hub)[b] == "hold"
        hub.ctl("queue", "requeue", "--state", "hold")
        hub.wait_log(rf"{b}: to=.*status=deferred", 4)


def test_show_tells_each_attempt_and_why_it_waits():
    with World() as hub:
        a = put(hub, "ann@example.org", "u@later.example")
        began = time.time()
        for n in (2, 3):
            hub.ctl("queue", "flush", a)
            hub.wait_log(rf"{a}: to=.*status=deferred", n)
            wait_for("the attempt to be seen", lambda n=n: show(hub, a)["recipients"][0]["attempts"] == n)
        r = show(hub, a)["recipients"][0]
        assert [h["attempt"] for h in r["history"]][-1] == 3 and r["history"][-1]["reply"].endswith("450 4.7.0 come back later (in reply to RCPT TO command)"), r
        assert abs(r["history"][-1]["time"] - began) < 20 and r["history"][-1]["dsn"] == "4.7.0", r
        assert r["wait"] == "back-off" and r["wait_until"] > time.time() + 60 and "attempt 3" in r["wait_reason"], r
        hub.ctl("queue", "hold", a)  # the rows are written again: the time stays
        assert show(hub, a)["recipients"][0]["history"] == r["history"]
        text = hub.ctl("queue", "show", a).stdout
        assert "Waits:       on hold until it is released\n" in text and re.search(r"Attempt 3: +.*450 4\.7\.0 come back later \(in reply to RCPT TO command\)\n", text), text
        hub.kill()
        assert "on hold until it is released" in hub.ctl("queue", "show", a).stdout


def test_expire_bounces_now_and_stays_so():
    with World() as hub:
        a = put(hub, "user@example.com", "u@later.example")
        assert hub.ctl("queue", "expire", "--sender", "user@example.com").stderr == "1 message expired\n"
        m = hub.wait_mails(1)[0]
        assert b"come back later" in m and b"u@later.example" in m
        hub.wait_log(rf"{a}: from=<user@example.com>, status=force-expired, returned to sender")
        wait_for("the queue to be empty", lambda: hub.queue() == [])


def test_delete_can_be_undone():
    with World(index_flush_interval="100ms") as hub:
        a, b, c = fill(hub)
        hub.ctl("queue", "hold", b)
        before = {i: show(hub, i) for i in (a, b, c)}
        assert hub.ctl("queue", "delete", "--sender", "*@example.org").stderr == "2 messages deleted\n"
        assert ids(hub) == [c]
        r = hub.ctl("queue", "show", a, check=False)
        assert r.returncode == 1, r
        hub.ctl("queue", "flush")  # what is deleted is not tried
        hub.wait_log(rf"{c}: to=.*status=deferred", 2)
        for turn in ("running", "restarted", "killed"):
            gone = [json.loads(line) for line in hub.ctl("queue", "deleted", "-j").stdout.splitlines()]
            assert [g["queue_id"] for g in gone] == [a, b] and gone[1]["recipients"] == ["u@later.example", "v@busy.example"], (turn, gone)
            assert gone[0]["until_time"] - gone[0]["deleted_time"] == 3600, gone
            assert ids(hub) == [c], turn
            if turn == "running":
                hub.stop()
                assert hub.ctl("queue", "deleted").stdout.count("    deleted ") == 2
                hub.start()
            elif turn == "restarted":
                hub.kill()
                assert hub.ctl("queue", "deleted").stdout.count("    deleted ") == 2 and ids(hub) == [c]
                hub.start()
        r = hub.ctl("queue", "undelete", a, c, check=False)
        assert r.returncode == 0 and r.stderr.endswith("1 message restored\n") and f"{c}: was not deleted" in r.stderr, r
        hub.wait_log(rf"postsuper\[\d+\]: {a}: restored")
        assert hub.ctl("queue", "undelete", "--sender", "bob@example.org").stderr == "1 message restored\n"
        assert ids(hub) == [a, b, c] and names(hub)[b] == "hold"
        assert hub.ctl("queue", "deleted").stdout == "Nothing can be restored\n"
        hub.kill()  # the rows may not be back yet: the journal has it
        hub.start()
        assert ids(hub) == [a, b, c] and names(hub)[b] == "hold"
        assert [r["address"] for r in show(hub, b)["recipients"]] == [r["address"] for r in before[b]["recipients"]]
        assert hub.ctl("queue", "cat", a).stdout.endswith("\n\nhello\n")
        assert hub.ctl("queue", "check", check=False).returncode == 0


def test_queue_undelete_time():
    with World(queue_undelete_time="2s", index_flush_interval="100ms") as hub:
        a, b, c = fill(hub)
        assert hub.ctl("queue", "delete", a).stderr == "1 message deleted\n"
        wait_for("the time to be over", lambda: hub.ctl("queue", "deleted").stdout == "Nothing can be restored\n")
        r = hub.ctl("queue", "undelete", a, check=False)
        assert r.returncode == 1 and "gone for good" in r.stderr, r
        hub.ctl("queue", "delete", "--final", b)
        assert hub.ctl("queue", "undelete", b, check=False).returncode == 1
        hub.main["queue_undelete_time"] = "0"
        hub.write_conf()
        hub.ctl("reload")
        hub.ctl("queue", "delete", c)
        assert hub.ctl("queue", "undelete", c, check=False).returncode == 1 and hub.queue() == []
        hub.stop()
        hub.start()
        assert hub.queue() == [] and hub.ctl("queue", "deleted").stdout == "Nothing can be restored\n"
        assert hub.ctl("queue", "check", check=False).returncode == 0


def test_readdress():
    with World(index_flush_interval="100ms") as hub:
        with hub.client() as c:
            a = c.send_mail("ann@example.org", ["done@good.example", "u@later.example", "v@busy.example"], b"Subject: x\r\n\r\nhi\r\n")
        hub.wait_log(rf"{a}: to=.*status=(deferred|sent)", 3)
        b = put(hub, "bob@example.org", "x@later.example")
        hub.ctl("queue", "hold", "ALL")
        assert hub.ctl("queue", "readdress", "U@later.example", "new@good.example").stderr == "1 message readdressed\n"
        hub.wait_log(rf"{a}: readdressed: to=<new@good\.example>, orig_to=<u@later\.example>")
        hub.kill()  # held: not tried yet; the record is in the journal
        assert "new@good.example" in hub.ctl("queue", "show", a).stdout
        hub.start()
        rcpts = {r["address"]: r for r in show(hub, a)["recipients"]}
        assert set(rcpts) == {"done@good.example", "new@good.example", "v@busy.example"}, rcpts
        assert rcpts["new@good.example"]["orig_address"] == "u@later.example", rcpts
        assert rcpts["done@good.example"]["state"] == "done" and rcpts["v@busy.example"]["orig_address"] == ""
        hub.stop()
        (hub.dir / "spool" / "index.db").unlink()  # the checkpoint or the journal has it too
        hub.start()
        assert "new@good.example" in hub.ctl("queue", "show", a).stdout
        assert hub.ctl("queue", "readdress", "@later.example", "@good.example").stderr == "1 message readdressed\n"
        assert [r["address"] for r in show(hub, b)["recipients"]] == ["x@good.example"]
        hub.ctl("queue", "release", "ALL")
        hub.wait_log(rf"{a}: to=<new@good\.example>, orig_to=<u@later\.example>, .*status=sent")
        hub.wait_log(rf"{b}: to=<x@good\.example>, orig_to=<x@later\.example>, .*status=sent")
        sent = sorted(r for m in hub.sink.mails for r in m["rcpts"])
        assert sent == ["done@good.example", "new@good.example", "x@good.example"], sent
        r = hub.ctl("queue", "readdress", "u@later.example", "z@good.example", a, check=False)
        assert r.returncode == 1 and "no such recipient" in r.stderr, r


def test_what_is_being_delivered():
    """A deletion waits for the end of the attempt; readdressing does not, and its exit status says so."""
    with World() as hub:
        go = threading.Event()
        usual = hub.sink.on["RCPT"]
        hub.sink.on["RCPT"] = lambda s, arg: go.wait(60) and "450 4.7.0 later" if "slow@good" in arg else usual(s, arg)
        try:
            with hub.client() as c:
                a = c.send_mail("ann@example.org", ["slow@good.example"], b"Subject: x\r\n\r\nhi\r\n")
            wait_for("the attempt", lambda: show(hub, a)["recipients"][0].get("wait") == "delivery")
            r = hub.ctl("queue", "readdress", "slow@good.example", "new@good.example", check=False)
            assert r.returncode == 75 and "try again" in r.stderr and "0 messages readdressed" in r.stderr, r
            r = hub.ctl("queue", "readdress", "-j", "@good.example", "@later.example", a, check=False)
            assert r.returncode == 75 and json.loads(r.stdout) == {"queue_id": a, "result": "busy"}, r
            r = hub.ctl("queue", "delete", a)
            assert "takes effect after the attempt" in r.stderr and ids(hub) == [a], r
        finally:
            go.set()
        wait_for("its end", lambda: not ids(hub))
        assert json.loads(hub.ctl("queue", "deleted", "-j").stdout)["recipients"] == ["slow@good.example"]


def test_readdressed_recipient_bounces_with_its_origin():
    with World() as hub:
        a = put(hub, "user@example.com", "u@later.example")
        hub.ctl("queue", "readdress", "u@later.example", "u@busy.example", a)
        hub.wait_log(rf"{a}: to=<u@busy\.example>, orig_to=<u@later\.example>.*line is busy")
        hub.ctl("queue", "expire", a)
        m = hub.wait_mails(1)[0]
        assert re.search(rb"\nOriginal-Recipient: rfc822; ?u@later\.example\r?\n", m), m
        assert re.search(rb"\nFinal-Recipient: rfc822; ?u@busy\.example\r?\n", m), m


def send_many(hub, n):
    with hub.client() as c:
        for i in range(n):
            c.send_mail(f"s{i % 10}@example.org", ["u@later.example"], b"Subject: x\r\n\r\nhi\r\n")


def test_many_at_once():
    n = 3000
    with World(defer_transports="smtp", index_flush_interval="100ms") as hub:
        send_many(hub, n)
        flushes = json.loads(hub.ctl("status", "-j").stdout)
        began = time.monotonic()
        assert hub.ctl("queue", "hold", "ALL").stderr == f"{n} messages placed on hold\n"
        assert time.monotonic() - began < 20, "a flush for each message?"
        assert set(names(hub).values()) == {"hold"}, flushes
        assert len(ids(hub, "--sender", "s3@example.org")) == n // 10
        assert hub.ctl("queue", "delete", "--sender", "s3@example.org").stderr == f"{n // 10} messages deleted\n"
        hub.kill()
        hub.start()
        assert len(hub.queue()) == n - n // 10 and set(names(hub).values()) == {"hold"}
        assert hub.ctl("queue", "undelete", "ALL").stderr == f"{n // 10} messages restored\n"
        assert len(hub.queue()) == n and set(names(hub).values()) == {"hold"}


def test_a_query_ends_with_who_asked_it():
    """Whoever presses Ctrl-C on an endless condition leaves no thread of the daemon at it."""
    def clients():
        names = []
        for task in os.listdir(f"/proc/{hub.proc.pid}/task"):
            try:
                names.append(open(f"/proc/{hub.proc.pid}/task/{task}/comm").read().strip())
            except FileNotFoundError:
                pass
        return names.count("control-client")
    with World() as hub:
        put(hub, "ann@example.org", "u@later.example")
        endless = "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c) > 0"
        p = subprocess.Popen([str(BUILD / "posthousectl"), "-c", str(hub.dir / "etc"), "queue", "delete", "--where", endless], env=hub.env,
                             stderr=subprocess.DEVNULL)
        wait_for("the query to run", clients)
        time.sleep(0.2)  # or it has only connected, which is over at once in any case
        p.send_signal(signal.SIGINT)
        assert p.wait(timeout=60) == -signal.SIGINT
        wait_for("the query to end", lambda: clients() == 0)  # its own limit is a minute


def test_a_listing_goes_on_behind_what_it_passes_over():
    """The index has rows of messages that the journal says are gone: the daemon was killed before the index heard of it."""
    with World(index_flush_interval="1000s") as hub:
        hub.ctl("queue", "pause", "--transport", "smtp")
        send_many(hub, 600)
        hub.ctl("queue", "sql", "SELECT 1")  # all have rows
        have = ids(hub)
        assert len(have) == 600
        gone = have[3:10] + have[300:310]
        hub.ctl("queue", "delete", *gone)
        hub.kill()
        want = [i for i in have if i not in gone]
        assert ids(hub) == want, len(ids(hub))
        assert len(re.findall("^[0-9A-F]+ ", hub.ctl("queue", "list").stdout, re.M)) == len(want)
        hub.start()
        assert ids(hub) == want


def test_an_interruption_between_two_batches():
    n = 3000
    with World(defer_transports="smtp") as hub:
        send_many(hub, n)
        p = subprocess.Popen([str(BUILD / "posthousectl"), "-c", str(hub.dir / "etc"), "queue", "hold", "ALL"], stderr=subprocess.PIPE, text=True)
        time.sleep(0.02)  # wherever it is: before, between or after
        p.send_signal(signal.SIGINT)
        err = p.communicate(timeout=60)[1]
        held = sum(1 for w in names(hub).values() if w == "hold")
        m = re.search(r"^interrupted: (\d+) of 3000", err)
        if m:
            assert p.returncode == 130 and held == int(m.group(1)) and held % 1000 == 0, (err, held)
        elif p.returncode == 0:
            assert held == n and err == f"{n} messages placed on hold\n", (err, held)
        else:
            assert held == 0, (err, held)  # before it began to listen


if __name__ == "__main__":
    cases.main(globals())

#!/usr/bin/env python3
"""posthousectl: the queue and the daemon, while it runs and while it does not."""
import base64
import json
import os
import pathlib
import re
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import BUILD, Hub, wait_for
from sink import Sink

LATER = {"relay_domains": "later.example", "transport_maps": "inline:{ { later.example = retry:4.7.0 come back later } }"}


def queue_one(hub, *rcpts, sender="joe@example.org", body=b"Subject: waiting\n\nhello\n"):
    """Submits, waits until every recipient was tried and deferred, returns the queue id."""
    at = len(hub.log())
    hub.sendmail("-f", sender, *(rcpts or ["u@later.example"]), stdin=body)
    m = wait_for("the id", lambda: re.search(r"pickup\[\d+\]: (\w+): uid=", hub.log()[at:]))
    qid = m.group(1)
    hub.wait_log(rf"{qid}: to=.*status=deferred", len(rcpts) or 1)
    wait_for("the message to be deferred", lambda: any(q["queue_id"] == qid and q["queue_name"] == "deferred" for q in hub.queue()))
    return qid


def attempts(hub, qid):
    return json.loads(hub.ctl("queue", "show", "-j", qid).stdout)["recipients"][0]["attempts"]


def test_list_as_mailq_prints_it():
    with Hub(LATER) as hub:
        assert hub.ctl("queue", "list").stdout == "Mail queue is empty\n"
        assert hub.ctl("queue", "list", "-j").stdout == ""
        qid = queue_one(hub, "u@later.example", "v@later.example")
        hub.ctl("queue", "hold", qid)
        text = hub.ctl("queue", "list").stdout
        size = hub.queue()[0]["message_size"]
        want = (r"-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
                rf"{qid}! +{size} \w{{3}} \w{{3}} [ \d]\d \d\d:\d\d:\d\d  joe@example\.org\n"
                r" {61}\(come back later\)\n"
                r" {41}u@later\.example\n {41}v@later\.example\n"
                r"\n-- 0 Kbytes in 1 Request\.\n")
        assert re.fullmatch(want, text), text
        assert hub.sendmail("-bp").stdout.decode() == text
        q = hub.queue()[0]
        assert list(q) == ["queue_name", "queue_id", "arrival_time", "message_size", "forced_expire", "sender", "recipients"]
        assert q["queue_name"] == "hold" and q["sender"] == "joe@example.org"
        assert q["recipients"] == [{"orig_address": "", "address": a, "delay_reason": "come back later"}
                                   for a in ("u@later.example", "v@later.example")]


def test_show_and_cat():
    with Hub(LATER) as hub:
        qid = queue_one(hub, sender="<>")
        text = hub.ctl("queue", "show", qid).stdout
        assert f"Queue ID:        {qid}\n" in text and "Sender:          MAILER-DAEMON\n" in text
        assert "waiting, 1 attempt\n" in text and "Next attempt: " in text and "Last status: 4.7.0\n" in text, text
        content = hub.ctl("queue", "cat", qid).stdout
        assert content.startswith("Received: by hub.example.net (") and content.endswith("\n\nhello\n") and "\r" not in content
        r = hub.ctl("queue", "show", qid, "F00", check=False)
        assert r.returncode == 0 and "no message with queue id F00" in r.stderr, r


def test_hold_release_requeue_delete():
    with Hub(LATER) as hub:
        a, b = queue_one(hub), queue_one(hub)
        hub.ctl("queue", "hold", a)
        hub.ctl("queue", "flush")
        wait_for("b to be tried again", lambda: attempts(hub, b) == 2)
        assert attempts(hub, a) == 1  # on hold: not tried
        hub.ctl("queue", "release", "-", stdin=f"{a}\n\n")
        wait_for("a to be tried again", lambda: attempts(hub, a) == 2)
        hub.ctl("queue", "flush", a)
        wait_for("a to be tried by id", lambda: attempts(hub, a) == 3)
        assert attempts(hub, b) == 2
        r = hub.ctl("queue", "delete", b)
        assert r.stderr == "1 message deleted\n"
        assert [q["queue_id"] for q in hub.queue()] == [a]
        hub.wait_log(rf"postsuper\[\d+\]: {b}: removed")
        # a new route, and the message follows it when it is requeued
        hub.main["transport_maps"] = "inline:{ { later.example = discard: } }"
        hub.write_conf()
        hub.ctl("reload")
        hub.ctl("queue", "requeue", a)
        wait_for("the queue to be empty", lambda: hub.queue() == [])
        hub.wait_log(rf"{a}: to=<u@later.example>, .*status=sent")


def test_requeue_takes_the_present_configuration():
    """Content filter, rewriting and aliases, as postsuper -r: a new message where they make a difference."""
    maps = "inline:{ { team@v.example = a@later.example, b@later.example } }"
    with Sink() as sink, Hub({"content_filter": "smtp:[127.0.0.1]:1", "virtual_alias_domains": "v.example", "virtual_alias_maps": maps,
                              "mydestination": "hub.example.net", "local_recipient_maps": "$alias_maps",
                              "alias_maps": "inline:{ { staff=d@later.example }, { owner-staff=keeper@hub.example.net } }"},
                             routes={"later.example": f"smtp:[127.0.0.1]:{sink.port}"}) as hub:
        def send(*rcpts, **kw):
            with hub.client() as c:
                return c.send_mail("s@example.org", rcpts, b"Subject: s\r\n\r\nhello\r\n", **kw)

        def change(**main):
            hub.main.update(main)
            hub.write_conf()
            hub.ctl("reload")
        filtered, held = send("user@example.com", "x@later.example"), send("team@v.example", rcpt_args=" NOTIFY=FAILURE ORCPT=rfc822;t@v.example", mail_args=" ENVID=e1")
        hub.wait_log(r"status=deferred", count=4)
        hub.ctl("queue", "hold", held)
        # The filter is gone; aliases say something else; a list with an owner among them.
        change(content_filter="", virtual_alias_maps="inline:{ { a@later.example = c@later.example, staff@hub.example.net } }")
        assert hub.ctl("queue", "requeue", filtered, held).stderr == "2 messages requeued\n"
        hub.wait_log(rf"postsuper\[\d+\]: {held}: requeued as (\w+)$")
        assert len(hub.wait_mails(1)) == 1
        wait_for("all of them", lambda: sum(len(m["rcpts"]) for m in sink.mails) == 4)
        hub.wait_queue([])
        by = {to: (m["sender"], a) for m in sink.mails for to, a in zip(m["rcpts"], m["rcpt_args"])}
        assert set(by) == {f"{u}@later.example" for u in "xbcd"}, by
        assert by["b@later.example"][0] == "s@example.org" and by["d@later.example"][0] == "owner-staff@hub.example.net", by
        assert "NOTIFY=FAILURE ORCPT=rfc822;t@v.example" in by["c@later.example"][1] and "FAILURE" not in by["d@later.example"][1], by
        hub.wait_log(rf"{held}: removed$")
        # Nothing to change: it stays what it is. What is delivered is not sent again.
        sink.on["RCPT"] = lambda s, a: "450 4.2.0 later" if "<y@" in a else None
        qid = send("y@later.example", "z@later.example")
        hub.wait_log(rf"{qid}: to=<y@later.example>.*status=deferred")
        change(content_filter="smtp:[127.0.0.1]:2")
        hub.ctl("queue", "requeue", qid)
        only = wait_for("the filtered one", lambda: [q for q in hub.queue() if q["queue_id"] != qid and q["queue_name"] == "deferred"])[0]
        assert [r["address"] for r in only["recipients"]] == ["y@later.example"] and ":2" in only["recipients"][0]["delay_reason"], only
        hub.ctl("queue", "requeue", "ALL")
        wait_for("another attempt", lambda: attempts(hub, only["queue_id"]) == 2)
        # A table that fails changes nothing.
        change(content_filter="", virtual_alias_maps="fail:broken")
        r = hub.ctl("queue", "requeue", only["queue_id"], check=False)
        assert "broken" in r.stderr or "lookup" in r.stderr, r
        assert [(q["queue_id"], q["queue_name"]) for q in hub.queue()] == [(only["queue_id"], "deferred")]


def test_all():
    with Hub(LATER) as hub:
        ids = {queue_one(hub) for _ in range(3)}
        assert hub.ctl("queue", "hold", "ALL").stderr == "3 messages placed on hold\n"
        assert hub.ctl("queue", "hold", "ALL").stderr == "0 messages placed on hold\n"
        assert {q["queue_name"] for q in hub.queue()} == {"hold"}
        assert hub.ctl("queue", "release", "ALL").stderr == "3 messages released\n"
        assert hub.ctl("queue", "release", "ALL").stderr == "0 messages released\n"
        assert {q["queue_id"] for q in hub.queue()} == ids
        wait_for("the attempts to end", lambda: {q["queue_name"] for q in hub.queue()} == {"deferred"})
        assert hub.ctl("queue", "delete", "ALL").stderr == "3 messages deleted\n"
        assert hub.queue() == []


def test_unknown_ids():
    with Hub(LATER) as hub:
        verbs = ["list", "show", "cat", "hold", "release", "delete", "requeue", "expire", "flush", "undelete", "deleted"]
        for verb in verbs:
            for bad in ("F00D", "no-such-id", "x" * 300):
                r = hub.ctl("queue", verb, bad, check=False)
                assert r.returncode == 1 and (bad[:64] in r.stderr or verb == "deleted"), (verb, r)
        for verb in [*verbs, f"export {hub.dir}", "readdress a@b.example c@d.example"]:
            for text, words in (("", "standard input has no queue id"), ("\n \n", "no queue id"), ("F00D\n" + "y" * 1000 + "\n", "yyyy")):
                r = hub.ctl("queue", *verb.split(), "-", stdin=text, check=False)
                assert r.returncode == 1 and (words in r.stderr or verb == "deleted"), (verb, text, r)
        qid = queue_one(hub)
        for verb in ("list", "show", "cat"):
            r = hub.ctl("queue", verb, "no-such-id", qid, "F00D")
            by_stdin = hub.ctl("queue", verb, "-", stdin=f"no-such-id\n{qid}\nF00D\n")
            assert qid in r.stdout and r.stderr.count("no message with queue id") == 2, (verb, r)
            assert (by_stdin.stdout, by_stdin.stderr) == (r.stdout, r.stderr), (verb, by_stdin)
        assert hub.ctl("queue", "flush", "-n", "-", stdin=qid).stdout == f"{qid}\n"
        r = hub.ctl("queue", "hold", "F00D", qid, check=False)
        assert r.returncode == 0 and "F00D: no such message" in r.stderr, r


def test_usage():
    with Hub() as hub:
        for args in ([], ["queue"], ["queue", "dance"], ["dance"], ["queue", "hold"], ["queue", "hold", "-x"], ["queue", "cat"],
                     ["queue", "list", "-x"], ["queue", "flush", "-s", "a", "b"], ["status", "-x"], ["stop", "now"], ["-x"]):
            r = hub.ctl(*args, check=False)
            assert r.returncode == 64 and r.stderr, (args, r)


def test_json_of_every_command():
    """-j: each line an object, with the members that the manual names."""
    def lines(*args, **kw):
        return [json.loads(line) for line in hub.ctl("queue", *args, **kw).stdout.splitlines()]
    with Hub(LATER) as hub:
        a = queue_one(hub, body=b"Subject: x\n\ncaf\xc3\xa9\n")
        b = queue_one(hub, body=b"Subject: x\n\ncaf\xe9\n")
        both = [{"queue_id": a, "result": "done"}, {"queue_id": b, "result": "done"}]
        text, raw = lines("cat", "-j", a, b)
        assert text["queue_id"] == a and text["content"] == hub.ctl("queue", "cat", a).stdout, text
        assert base64.b64decode(raw["content_base64"]) == hub.ctl("queue", "cat", b, text=False).stdout, raw
        assert lines("flush", "-j", a, b) == both and lines("flush", "-j") == [{"result": "done"}]
        assert lines("flush", "-j", "F00D", check=False) == [{"queue_id": "F00D", "result": "missing"}]
        assert lines("flush", "-j", "-n", "--sender", "joe@*") == [{"queue_id": i, "result": "selected"} for i in (a, b)]
        site = json.loads(hub.ctl("queue", "show", "-j", a).stdout)["recipients"][0]["nexthop"]
        assert lines("flush", "-j", "-s", site) == [{"result": "done"}]
        for verb in ("hold", "release", "requeue", "delete", "undelete"):
            assert lines(verb, "-j", a, b) == both, verb
        out = hub.dir / "out"
        out.mkdir(mode=0o777)
        assert lines("export", "-j", str(out), a) == [{"queue_id": a, "file": f"{out}/{a}.eml"}]
        plain = hub.dir / "plain.eml"
        plain.write_text("Subject: plain\nTo: u@later.example\n\nhello\n")
        before = len(hub.queue())
        files = [str(out / f"{a}.eml"), str(plain)]
        assert lines("import", "-j", "-n", "-t", *files) == [{"file": f, "result": "selected"} for f in files]
        assert lines("import", "-j", "--dry-run", str(hub.dir / "etc" / "main.cf"), check=False) == [] and len(hub.queue()) == before
        new = lines("import", "-j", "-t", *files)
        assert [m["file"] for m in new] == files and len(hub.queue()) == before + 2
        assert {m["queue_id"] for m in new} <= {m["queue_id"] for m in hub.queue()}
        what = {"kind": "transport", "name": "smtp"}
        assert lines("pause", "-j", "--transport", "smtp") == [{**what, "result": "done"}]
        assert [{k: p[k] for k in what} for p in lines("pause", "-j")] == [what]
        assert lines("resume", "-j", "--all") == [{**what, "result": "done"}]


def members(value):
    """The names of all members in it, without those of objects whose names are data."""
    if isinstance(value, list):
        return {m for v in value for m in members(v)}
    if not isinstance(value, dict):
        return set()
    return {m for k, v in value.items() for m in {k} | (members(v) if k not in ("limits_reached",) else set())}


def test_the_manual_has_every_member():
    """Programs rely on the names: each that -j prints stands in posthousectl(8)."""
    page = (pathlib.Path(__file__).resolve().parents[2] / "man" / "posthousectl.8").read_text().replace("\\", "")
    with Hub({**LATER, "address_verify_map": "", "transport_maps": "inline:{ { later.example = smtp:[127.0.0.1]:1 } }"}) as hub:
        qid = queue_one(hub, "u@later.example", "v@later.example")
        gone = queue_one(hub)
        hub.ctl("queue", "hold", qid)
        hub.ctl("queue", "delete", gone)
        hub.ctl("queue", "pause", "--transport", "smtp")
        undocumented = {}
        for args in (["queue", "list"], ["queue", "show", qid], ["queue", "deleted"], ["queue", "stats"], ["queue", "check"], ["queue", "compact"],
                     ["queue", "pause"], ["queue", "hold", qid, "F00D"], ["status"], ["tables"], ["restrictions"], ["verify", "list"]):
            at = 2 if args[0] in ("queue", "verify") else 1
            lines = [json.loads(line) for line in hub.ctl(*args[:at], "-j", *args[at:]).stdout.splitlines()]
            assert lines or args[0] == "verify", args
            bad = {m for m in members(lines) if not re.search(rf"\b{m}\b", page)}
            if bad:
                undocumented[" ".join(args)] = sorted(bad)
        assert not undocumented, undocumented


def test_requests_that_no_command_makes():
    """What another version, or a program of one's own, may send to the control socket: refused, and nothing is changed."""
    with Hub(LATER) as hub:
        qid = queue_one(hub)
        for op, members, status in (("queue-dance", {}, 76), ("queue-hold", {}, 76), ("queue-hold", {"ids": qid}, 76), ("queue-select", {"select": 5}, 76),
                                    ("queue-select", {"select": {"colour": "red"}}, 64), ("queue-pause", {"kind": "smtp", "name": "x"}, 76),
                                    ("queue-pause", {"kind": "destination", "name": 5}, 76), ("queue-import", {"envelope": {}, "content_bytes": -5}, 76),
                                    ("queue-readdress", {"ids": [qid], "from": "u@later.example", "to": "x@b.example>\r\nRSET"}, 64)):
            last = hub.request(op, **members)[-1]
            assert last["ok"] is False and last["status"] == status and last["error"], (op, members, last)
        assert hub.request("queue-hold", ids=[None, 5, {}, "x\u00e9"])[-1] == {"ok": True, "done": 0, "missing": 4, "busy": 0, "failed": 0}
        assert [m["queue_name"] for m in hub.queue()] == ["deferred"] and not hub.ctl("queue", "pause", "-j").stdout


def test_output_that_goes_nowhere():
    """A full disk behind standard output is told; a reader that has seen enough is not."""
    with Hub(LATER) as hub:
        qid = queue_one(hub)
        commands = [["queue", "list"], ["queue", "list", "-j"], ["queue", "show", qid], ["queue", "cat", "-j", qid], ["queue", "hold", "-n", "ALL"],
                    ["queue", "sql", "SELECT 1"], ["queue", "stats", "-j"], ["status", "-j"]]
        for args in commands:
            command = [str(BUILD / "posthousectl"), "-c", str(hub.dir / "etc"), *args]
            with open("/dev/full", "w") as full:
                r = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env=hub.env)
            assert r.returncode == 74 and "standard output" in r.stderr, (args, r)
            here, there = os.pipe()
            os.close(here)
            r = subprocess.run(command, stdout=there, stderr=subprocess.PIPE, text=True, timeout=60, env=hub.env)
            os.close(there)
            assert r.returncode == 74 and "standard output" not in r.stderr, (args, r)


def test_daemon_not_running():
    with Hub(LATER) as hub:
        qid = queue_one(hub, "u@later.example", "v@later.example")
        held = queue_one(hub)
        hub.ctl("queue", "hold", held)
        before = hub.ctl("queue", "list", "-j").stdout.splitlines(), hub.ctl("queue", "cat", qid).stdout
        for kill in (False, True):
            if kill:  # the index has not seen the end of the journal
                last = queue_one(hub)
                hub.kill()
                assert last in [q["queue_id"] for q in hub.queue()]
            else:
                hub.stop()
            r = hub.ctl("queue", "list", "-j")
            assert "not running: reading the files" in r.stderr, r
            assert set(before[0]) <= set(r.stdout.splitlines()), (before[0], r.stdout)
            assert hub.ctl("queue", "cat", qid).stdout == before[1]
            assert "waiting, 1 attempt\n" in hub.ctl("queue", "show", qid).stdout
            assert qid in hub.sendmail("-bp").stdout.decode()
            r = hub.ctl("queue", "show", "F00D", check=False)
            assert r.returncode == 1, r
            for args in (["queue", "hold", qid], ["queue", "flush"], ["queue", "delete", "ALL"], ["status"], ["reload"], ["stop"]):
                r = hub.ctl(*args, check=False)
                assert r.returncode == 69 and str(hub.dir / "data" / "control") in r.stderr, (args, r)
            hub.start()  # what root read has not locked the daemon out
            assert qid in [q["queue_id"] for q in hub.queue()]


def test_status_reload_stop():
    with Hub() as hub:
        text = hub.ctl("status").stdout
        assert f"process {hub.proc.pid}" in text and "0 active, 0 deferred" in text, text
        j = json.loads(hub.ctl("status", "-j").stdout)
        assert j["pid"] == hub.proc.pid and j["queue"]["deferred"] == 0 and j["configuration"] == str(hub.dir / "etc")
        generation = j["configuration_generation"]
        hub.ctl("reload")
        assert json.loads(hub.ctl("status", "-j").stdout)["configuration_generation"] > generation
        hub.main["message_size_limit"] = "many"
        hub.write_conf()
        r = hub.ctl("reload", check=False)
        assert r.returncode == 78 and "message_size_limit" in r.stderr and "stays in force" in r.stderr, r
        hub.ctl("status")  # also with the broken files
        hub.ctl("stop")
        assert hub.proc.wait(timeout=1) == 0  # it is gone when the command returns
        hub.proc = None


def test_control_socket_elsewhere():
    with Hub(start=False) as hub:
        where = hub.dir / "talk"
        hub.main["control_socket"] = str(where)
        hub.write_conf()
        if os.geteuid() == 0:
            os.chmod(hub.dir, 0o777)  # mail_owner makes the socket
        hub.start()
        assert f"process {hub.proc.pid}" in hub.ctl("status").stdout
        assert where.is_socket() and where.stat().st_mode & 0o777 == 0o600
        hub.main["control_socket"] = None  # where nobody listens: in data_directory
        hub.write_conf()
        r = hub.ctl("status", check=False)
        assert r.returncode == 69 and str(hub.dir / "data" / "control") in r.stderr, r


def test_long_queue_ids():
    with Hub({**LATER, "enable_long_queue_ids": "yes"}) as hub:
        qid = queue_one(hub)
        assert re.fullmatch(r"[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,}z[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-y]+", qid), qid
        text = hub.ctl("queue", "list").stdout
        assert text.startswith("----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n" + qid), text
        assert f"Queue ID:        {qid}\n" in hub.ctl("queue", "show", qid).stdout
        hub.ctl("queue", "delete", qid)
        assert hub.queue() == []


def test_check():
    with Hub(start=False) as hub:
        r = hub.ctl("check")
        assert "no errors found" in r.stdout, r
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            port = s.getsockname()[1]
            hub.master = hub.master.replace("127.0.0.1:0", f"127.0.0.1:{port}")
            hub.write_conf()
            r = hub.ctl("check", check=False)
            assert r.returncode == 78 and str(port) in r.stdout and "in use" in r.stdout, r
        hub.main["smtpd_recipient_restrictions"] = "permit_mynetwroks, reject"
        hub.write_conf()
        r = hub.ctl("check", check=False)
        assert r.returncode == 78 and "permit_mynetwroks" in r.stdout and "main.cf, line " in r.stdout, r
        hub.main["smtpd_recipient_restrictions"] = None
        hub.main["message_size_limit"] = "many"
        hub.write_conf()
        r = hub.ctl("check", check=False)
        assert r.returncode == 78 and "main.cf, line" in r.stdout and "message_size_limit" in r.stdout, r


def test_check_finds_what_the_start_would_refuse():
    with Hub() as hub:
        hub.stop()
        good = dict(hub.main)
        (hub.dir / "file").write_text("x")
        for change, words in (({"maillog_file": str(hub.dir / "log"), "maillog_file_prefixes": "/no/such"}, "maillog_file_prefixes"),
                              ({"maillog_file": str(hub.dir / "no" / "log")}, "No such file"),
                              ({"syslog_facility": "nowhere"}, "syslog_facility"),
                              ({"dns_resolver_addresses": "somewhere"}, "dns_resolver_addresses"),
                              ({"queue_directory": str(hub.dir / "file")}, "not a directory")):
            hub.main = {**good, **change}
            hub.write_conf()
            r = hub.ctl("check", check=False)
            assert r.returncode == 78 and "error" in r.stdout and words in r.stdout, (change, r)
        hub.main = good
        hub.write_conf()
        path = hub.dir / "spool" / "format"
        text = path.read_text()
        path.write_text("posthouse-spool 99\n")
        r = hub.ctl("check", check=False)
        assert r.returncode == 78 and "format 99" in r.stdout, r
        path.write_text(text)
        r = hub.ctl("check")
        assert "no errors found" in r.stdout, r


if __name__ == "__main__":
    cases.main(globals())

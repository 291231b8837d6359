#!/usr/bin/env python3
"""Log lines in Postfix's shape: every line has a known form, and pflogsumm's totals agree with what was sent."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub
from sink import Sink

MAIL = b"From: a@example.org\r\nSubject: s\r\nMessage-ID: <l@example.org>\r\n\r\nhi\r\n"
NAMADDR = r"[\w.-]+\[[\w.:]+\]"
QID = r"[0-9A-F]{10,}"
TIMES = r"delay=[\d.]+, delays=[\d.]+/[\d.]+/[\d.]+/[\d.]+"
STAGE = r"(CONNECT|HELO|EHLO|MAIL|RCPT|DATA|END-OF-MESSAGE|VRFY|ETRN|BDAT)"
SHAPES = {
    "smtpd": [rf"connect from {NAMADDR}$", rf"{QID}: client={NAMADDR}$",
              rf"({QID}|NOQUEUE): reject: {STAGE} from {NAMADDR}: [45]\d\d [45]\.\d\.\d+ .*; from=<\S*>( to=<\S+>)? proto=E?SMTP helo=<\S+>$",
              rf"((NOQUEUE|{QID}): )?(lost connection|timeout|too many errors) after {STAGE}( \(\d+ bytes\))? from {NAMADDR}$",
              rf"disconnect from {NAMADDR}( \w+=\d+(/\d+)?)* commands=\d+(/\d+)?$", r"warning: "],
    "cleanup": [rf"{QID}: message-id=<\S*>$"],
    "qmgr": [rf"{QID}: from=<\S*>, size=\d+, nrcpt=\d+ \(queue active\)$", rf"{QID}: removed$"],
    "smtp": [rf"{QID}: to=<\S+>, relay=(none|{NAMADDR}:\d+), (conn_use=\d+, )?{TIMES}, dsn=\d\.\d\.\d+, status=(sent|deferred|bounced) \(.+\)$",
             rf"connect to {NAMADDR}:\d+: .+$"],
    "virtual": [rf"{QID}: to=<\S+>, relay=virtual, {TIMES}, dsn=\d\.\d\.\d+, status=(sent|deferred|bounced) \(.+\)$"],
    "bounce": [rf"{QID}: sender non-delivery notification: {QID}$"],
    "master": [r"daemon started -- version \S+, configuration \S+$", r"listening on ", r"terminating on signal 15$", r"stopped$"],
    "spool": [r"spool "],
    "anvil": [r"statistics: max (connection|message|recipient) (rate|count) \d+(/60s)? for \(smtp:[0-9.]+\) at ",
              r"statistics: max cache size \d+ at "],
}
SHAPES["lmtp"] = SHAPES["smtp"]


def traffic(hub, sink_fails, counts):
    """Sends a little of everything and counts it."""
    for i in range(3):
        with hub.client() as c:
            c.send_mail("a@example.org", ["user@example.com", "x@r.example"], MAIL)
            c.quit()
    with hub.client() as c:
        for i in range(2):
            c.send_mail("b@example.org", ["y@l.example"], MAIL)
        c.cmd("MAIL FROM:<c@example.org>", 250)
        c.cmd("RCPT TO:<nobody@example.com>", 550)
        c.cmd("RCPT TO:<nobody2@example.com>", 550)
        c.quit()
    with hub.client() as c:
        c.send_mail("user@example.com", ["bounce@r.example"], MAIL)
        c.send_mail("a@example.org", ["later@r.example"], MAIL)
        c.send_mail("a@example.org", ["z@dead.example"], MAIL)


def world(body):
    with Sink() as dead:
        port = dead.port
    with Sink() as sink, Sink(lmtp=True) as store, Hub(
            {"mynetworks": "127.0.0.0/8"},
            routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}", "l.example": f"lmtp:inet:[127.0.0.1]:{store.port}",
                    "dead.example": f"smtp:[127.0.0.1]:{port}"}) as hub:
        sink.on["RCPT"] = lambda s, a: "550 5.1.1 no" if "bounce@" in a else "450 4.2.0 wait" if "later@" in a else None
        traffic(hub, sink, None)
        hub.wait_log(r"status=deferred", 2)
        hub.wait_log(r": removed$", 7)
        hub.stop()
        body(hub, hub.log())


def test_every_line_has_its_shape():
    def check(hub, log):
        for line in log.splitlines():
            m = re.fullmatch(r"\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ posthouse/(\w+)\[(\d+)\]: (.*)", line)
            assert m, line
            prog, _, text = m.groups()
            assert prog in SHAPES and any(re.match(s, text) for s in SHAPES[prog]), line
    world(check)


def test_numbers_pair_the_lines_of_a_session():
    def check(hub, log):
        open_, seen = {}, set()
        for prog, pid, text in re.findall(r"posthouse/(\w+)\[(\d+)\]: (.*)", log):
            if prog != "smtpd":
                continue
            if text.startswith("connect "):
                assert pid not in open_ and pid not in seen, text
                open_[pid] = 1
            else:
                assert pid in open_, (pid, text)
            if text.startswith("disconnect "):
                del open_[pid]
                seen.add(pid)
        assert not open_ and len(seen) == 5
    world(check)


def test_pflogsumm_agrees():
    tool = shutil.which("pflogsumm", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not tool:
        raise cases.Skip("pflogsumm is not installed")

    def check(hub, log):
        # as posthoused(8) tells an administrator; -d is not used, so any day counts
        r = subprocess.run([tool, "--smtpd-stats", "--verbose-msg-detail", "--syslog-name=posthouse"], input=log, capture_output=True,
                           text=True, timeout=60)
        assert r.returncode == 0 and not r.stderr, r.stderr
        out = r.stdout

        def total(word):
            return int(re.search(rf"^\s*(\d+)k?\s+{word}", out, re.M).group(1))
        # 8 over SMTP, as for Postfix the notification is not counted; 3 users, 3 x@, 2 y@ and the notification delivered
        assert total("received") == 8, out
        assert total("delivered") == 9, out
        assert total("deferred") == 2, out
        assert total("bounced") == 1, out
        assert re.search(r"^\s*2\s+rejected", out, re.M), out
        assert re.search(r"^\s*3\s+senders", out, re.M) and re.search(r"^\s*2\s+sending hosts/domains", out, re.M), out
        assert re.search(r"^\s*3\s+recipients", out, re.M), out
        assert re.search(r"connections\s*\n?", out), out
        assert "User unknown" in out and "Connection refused" in out and "unprocessed" not in out.lower(), out
    world(check)


def test_syslog_name_and_service_overrides():
    master = "127.0.0.1:0 inet n - n - - smtpd\n  -o syslog_name=postfix/submission\nvirtual unix - n n - - virtual\n"
    with Hub({"syslog_name": "postfix"}, master=master) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_log(r" postfix/submission/smtpd\[\d+\]: connect from ")
        hub.wait_log(r" postfix/virtual\[\d+\]: .*status=sent")


def test_what_clients_send_cannot_forge_a_line():
    with Hub() as hub, hub.client(helo=None) as c:
        c.raw(b"EHLO x\x1b[31m\x00\x07.example\r\n")
        c.reply()
        c.raw(b"MAIL FROM:<a\rb@example.org>\r\n")
        c.reply()
        c.raw(b"RCPT TO:<\"x\\\x0by\"@elsewhere.example>\r\n")
        c.reply()
        c.raw(b"GARBAGE \x80\xff\x01 status=sent\r\n")
        c.reply()
        c.cmd("QUIT", 221)
        hub.wait_log(r"disconnect from")
        raw = (hub.dir / "log").read_bytes()
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", raw), raw


if __name__ == "__main__":
    cases.main(globals())

#!/usr/bin/env python3
"""content_filter and FILTER: mail that visits a filter after it was queued and comes back through another listener."""
import os
import re
import socketserver
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from client import Client
from hub import MASTER, Hub, wait_for
from sink import Sink

MAIL = b"Subject: %s\r\n\r\nhi\r\n"
# The listener for what comes back: no filter again, no checks again, recipients are known.
BACK = """\
localhost:0 inet n - n - - smtpd -o syslog_name=back -o content_filter= -o smtpd_recipient_restrictions=permit_mynetworks,reject
    -o receive_override_options=no_header_body_checks,no_unknown_recipient_checks
scan unix - - n - 10 smtp -o smtp_send_xforward_command=yes
"""


class Filter:
    """An after-queue filter as FILTER_README describes the advanced one: takes mail by SMTP, changes it, gives it back."""

    def __init__(self):
        self.seen, self.back = [], None
        outer = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self):
                outer.talk(self.rfile, self.wfile)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Session)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()

    def talk(self, rfile, wfile):
        def say(text):
            wfile.write(text.encode() + b"\r\n")
        say("220 filter")
        envelope = []
        for line in rfile:
            verb = line[:4].upper()
            if verb == b"EHLO":
                say("250-filter\r\n250-8BITMIME\r\n250-XFORWARD NAME ADDR PROTO HELO\r\n250 PIPELINING")
            elif verb == b"DATA":
                say("354 go on")
                content = b""
                for text in rfile:
                    if text == b".\r\n":
                        break
                    content += text[1:] if text.startswith(b".") else text
                say(self.scan(envelope, content))
                envelope = []
            elif verb == b"QUIT":
                say("221 bye")
                return
            else:
                if verb in (b"MAIL", b"RCPT", b"XFOR"):
                    envelope.append(line.strip().decode())
                say("250 ok")

    def scan(self, envelope, content):
        self.seen.append((envelope, content))
        if b"virus" in content:
            return "550 5.7.1 infected"
        with Client("127.0.0.1", self.back) as c:
            for line in envelope:
                if not line.startswith("XFOR"):
                    c.cmd(re.sub(r"^(MAIL FROM:<[^>]*>|RCPT TO:<[^>]*>).*", r"\1", line), 250)
            c.content(b"X-Scanned: clean\r\n" + content)
        return "250 2.0.0 scanned"


def hub_with(filter_port, main=None, master=MASTER + BACK):
    hub = Hub({"content_filter": f"scan:[127.0.0.1]:{filter_port}", "smtp_tls_security_level": "none", **(main or {})}, master=master)
    ports = wait_for("both listeners", lambda: (p := re.findall(r"listening on \[127\.0\.0\.1\] port (\d+)", hub.log())) if len(
        re.findall(r"listening on \[127\.0\.0\.1\] port (\d+)", hub.log())) >= 2 else None)
    return hub, int(ports[1])


def test_round_trip():
    """By SMTP and from sendmail; aliases are expanded before the filter, header checks are made once."""
    with Filter() as f:
        hub, f.back = hub_with(f.port, {"virtual_alias_maps": "inline:{ {list@example.com = user@example.com, other@example.com} }",
                                        "header_checks": "regexp:{ {/^Subject: / WARN} }"})
        with hub, hub.client() as c:
            c.send_mail("a@example.org", ["list@example.com"], MAIL % b"one")
            one = hub.wait_mails(1)[0]
            hub.wait_mails(1, "other")
            assert one.count(b"\nX-Scanned: clean\n") == 1 and one.count(b"\nReceived: ") + one.startswith(b"Received: ") >= 2, one
            assert len(f.seen) == 1 and f.seen[0][0][-2:] == ["RCPT TO:<user@example.com>", "RCPT TO:<other@example.com>"], f.seen
            assert any(x.startswith("XFORWARD") and "ADDR=127.0.0.1" in x for x in f.seen[0][0]), f.seen
            hub.wait_log(r"posthouse/smtp\[\d+\]: [0-9A-F]+: to=<user@example\.com>, orig_to=<list@example\.com>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:\d+, .*status=sent \(250 2\.0\.0 scanned\)")
            hub.sendmail("-f", "a@example.org", "user@example.com", stdin=b"Subject: two\n\nhi\n")
            assert all(b"\nX-Scanned: clean\n" in m for m in hub.wait_mails(2))
            assert len(hub.wait_log("warning: header Subject: ")) == 2
            c.envelope()
            c.content(MAIL % b"virus") # it is queued before it is scanned; the sender is told by a bounce
            hub.wait_log(r"status=bounced \(host 127\.0\.0\.1\[127\.0\.0\.1\] said: 550 5\.7\.1 infected")


def test_the_filter_is_down():
    """What waits for the filter goes to the filter, also after a restart and after content_filter has changed."""
    with Filter() as f:
        port = f.port
    with Sink() as elsewhere:
        hub, back = hub_with(port, {"minimal_backoff_time": "1h"})
        with hub:
            with hub.client() as c:
                qid = c.send_mail("a@example.org", ["user@example.com", "other@example.com"], MAIL % b"x")
            hub.wait_log(rf"{qid}: to=<other@example\.com>, relay=none, .*status=deferred \(connect to 127\.0\.0\.1\[127\.0\.0\.1\]:{port}: Connection refused\)")
            assert f"scan:[127.0.0.1]:{port}" in hub.ctl("queue", "show", qid).stdout
            hub.main["content_filter"] = ""
            hub.stop()
            hub.write_conf()
            hub.start()
            shown = hub.request("queue-show", ids=[qid])[0]
            assert shown["content_filter"] == f"scan:[127.0.0.1]:{port}", shown
            hub.ctl("queue", "flush", qid)
            hub.wait_log(rf"{qid}: to=<user@example\.com>, .*status=deferred \(connect to 127\.0\.0\.1\[127\.0\.0\.1\]:{port}", count=2)
            assert not hub.mails()


def test_members_of_lists():
    """A list with an owner gets a message of its own, which visits the filter like any other."""
    with Sink() as scan, Sink() as elsewhere:
        to = f"smtp:[127.0.0.1]:{elsewhere.port}"
        with Hub({"content_filter": f"smtp:[127.0.0.1]:{scan.port}", "mydestination": "here.example", "myorigin": "here.example",
                  "local_recipient_maps": "", "default_transport": to}, start=False) as hub:
            (hub.dir / "aliases").write_text("staff: one@x.example, two@x.example\nowner-staff: keeper@z.example\n")
            hub.main["alias_maps"] = f"hash:{hub.dir}/aliases"
            hub.write_conf()
            hub.start()
            with hub.client() as c:
                for rcpts in (["staff@here.example"], ["staff@here.example", "user@example.com"]):
                    c.send_mail("a@example.org", rcpts, MAIL % b"x")
            wait_for("an empty queue", lambda: not hub.queue())
            assert sorted(r for m in scan.mails for r in m["rcpts"]) == ["one@x.example"] * 2 + ["two@x.example"] * 2 + ["user@example.com"], scan.mails
            assert not elsewhere.mails, "past the filter"


def test_filter_actions():
    """FILTER of an access table goes before content_filter, that of header_checks before both, REDIRECT before all."""
    with Sink() as first, Sink() as second, Sink() as third:
        users = "inline:{ user@example.com=user/ other@example.com=other/ third@example.com=third/ }"
        with Hub({"content_filter": f"smtp:[127.0.0.1]:{first.port}", "virtual_mailbox_maps": users,
                  "smtpd_sender_restrictions": f"check_sender_access inline:{{ {{ marked@example.org = FILTER smtp:[127.0.0.1]:{second.port} }} {{ odd@example.org = FILTER nonsense }} }}",
                  "header_checks": f"regexp:{{ {{/^Subject: f/ FILTER smtp:[127.0.0.1]:{third.port}}} {{/^Subject: r/ REDIRECT third@example.com}} }}"}) as hub:
            with hub.client() as c:
                c.send_mail("plain@example.org", ["user@example.com"], MAIL % b"x")
                wait_for("the first", lambda: len(first.mails) == 1)
                c.send_mail("marked@example.org", ["user@example.com"], MAIL % b"x")
                wait_for("the second", lambda: len(second.mails) == 1)
                c.send_mail("marked@example.org", ["user@example.com", "other@example.com"], MAIL % b"f")
                wait_for("the third", lambda: len(third.mails) == 1)
                c.send_mail("marked@example.org", ["user@example.com", "other@example.com"], MAIL % b"r")
                hub.wait_mails(1, "third")
                c.send_mail("odd@example.org", ["user@example.com"], MAIL % b"x")
                wait_for("the first again", lambda: len(first.mails) == 2)
                hub.sendmail("-f", "a@example.org", "user@example.com", stdin=b"Subject: f\n\nhi\n")
                wait_for("the third again", lambda: len(third.mails) == 2)
            hub.wait_log(r"NOQUEUE: filter: RCPT from unknown\[127\.0\.0\.1\]: <marked@example\.org>: Sender address triggers FILTER smtp:\[127\.0\.0\.1\]:\d+; from=<marked@example\.org> to=<user@example\.com>")
            hub.wait_log(r"cleanup\[\d+\]: [0-9A-F]+: filter: header Subject: f from local; from=<a@example\.org> to=<user@example\.com>: smtp:\[127")
            hub.wait_log('warning: check_sender_access: action FILTER is ignored: "nonsense" is no transport:destination')
            hub.stop()
            assert len(second.mails) == 1 and not hub.mails()


def test_next_hop_of_a_filter_that_names_none():
    with Sink() as sink:
        main = {"content_filter": "scan:", "relay_domains": "a.example b.example"}
        with Hub(main, master=MASTER + BACK) as hub, hub.client() as c:
            c.send_mail("x@example.org", ["u@a.example", "u@b.example"], MAIL % b"x")
            hub.wait_log(r"to=<u@a\.example>, relay=none, .*\(unable to look up host a\.example: ")
            hub.wait_log(r"to=<u@b\.example>, relay=none, .*\(unable to look up host b\.example: ")
        with Hub({**main, "default_filter_nexthop": f"[127.0.0.1]:{sink.port}"}, master=MASTER + BACK) as hub, hub.client() as c:
            c.send_mail("x@example.org", ["u@a.example", "u@b.example"], MAIL % b"x")
            wait_for("one mail for both", lambda: len(sink.mails) == 1)


def test_what_check_says():
    """A filter that does not exist, or that runs a program, is found before mail waits for it."""
    pipe = "simple unix - n n - 10 pipe flags=Rq user=nobody argv=/bin/true\n"
    with Hub({"content_filter": "simple:x"}, master=MASTER + pipe, start=False) as hub:
        said = hub.ctl("check", check=False)
        assert re.search(r'content_filter: "simple": no usable transport of that name in master\.cf', said.stdout + said.stderr), said


def test_each_listener_its_own():
    """By -o for a listener and for pickup."""
    master = MASTER.replace("smtpd\n", "smtpd -o content_filter=smtp:[127.0.0.1]:PORT\n", 1) + BACK + "pickup unix n - n 60 1 pickup -o content_filter=discard:\n"
    with Sink() as sink:
        hub, back = hub_with(0, {"content_filter": "error:main.cf says so"}, master=master.replace("PORT", str(sink.port)))
        with hub:
            with hub.client() as c:
                c.send_mail("a@example.org", ["user@example.com"], MAIL % b"x")
            wait_for("the filter", lambda: len(sink.mails) == 1)
            with Client("127.0.0.1", back) as c:
                c.send_mail("a@example.org", ["user@example.com"], MAIL % b"x")
            hub.wait_mails(1)
            hub.sendmail("-f", "a@example.org", "user@example.com", stdin=b"Subject: f\n\nhi\n")
            hub.wait_log(r"posthouse/discard\[\d+\]: .*to=<user@example\.com>")


if __name__ == "__main__":
    cases.main(globals())

#!/usr/bin/env python3
"""internal_mail_filter_classes: header and body checks of the mail that the hub writes itself. postconf(5), cleanup(8)."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import Sink

USERS = "inline:{ " + " ".join(f"{u}@example.com={u}/" for u in ("user", "other", "third", "pm")) + " }"
CHECKS = r"""
/^Subject: Undeliverable/ PREPEND X-Seen: yes
/^To: other/            BCC third@example.com
/^To: refused/          REJECT not this one
/^To: dropped/          DISCARD
/^To: moved/            REDIRECT third@example.com
/^To: slow/             REJECT 4.7.1 later
/^Subject: .*SMTP server: errors/ REPLACE Subject: changed
/^Subject: harmless/    REJECT
"""


def hub_for(sink, classes, checks=CHECKS, **more):
    hub = Hub({"virtual_mailbox_maps": USERS, "internal_mail_filter_classes": classes, **more},
              routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}, start=False)
    (hub.dir / "etc/checks").write_text(checks)
    (hub.dir / "etc/body").write_text("/secret/ REPLACE [gone]\n")
    hub.main.update(header_checks=f"regexp:{hub.dir}/etc/checks", body_checks=f"regexp:{hub.dir}/etc/body")
    hub.write_conf()
    hub.start()
    return hub


def send(hub, sender, subject="s", body=b"text"):
    with hub.client() as c:
        qid = c.send_mail(sender, ["a@r.example"], f"From: x@example.com\r\nSubject: {subject}\r\n\r\n".encode() + body + b"\r\n")
        c.quit()
    return qid


def test_bounces():
    with Sink() as sink:
        sink.on["RCPT"] = lambda s, a: "550 5.1.1 no"
        with hub_for(sink, "bounce, notify", notify_classes="protocol", error_notice_recipient="pm@example.com") as hub:
            with hub.client() as c:
                c.cmd("NOOP first", 250)
                c.cmd("BOGUS", 500)
                c.quit()
            assert b"\nSubject: changed\n" in hub.wait_mails(1, "pm")[0]

            send(hub, "user@example.com")
            got = hub.wait_mails(1)[0]
            assert b"\nX-Seen: yes\nSubject: Undeliverable" in got, got
            hub.wait_log(r"cleanup\[\d+\]: \w+: prepend: header Subject: Undeliverable mail returned to sender from local; from=<> to=<user@example\.com>: X-Seen: yes$")

            send(hub, "other@example.com")
            assert hub.wait_mails(1, "other") and hub.wait_mails(1, "third")

            send(hub, "moved@r.example")
            assert b"\nTo: moved@r.example\n" in hub.wait_mails(2, "third")[1]
            assert len(sink.mails) == 0

            # Nobody is told, and the message is done.
            qid = send(hub, "dropped@r.example")
            hub.wait_log(rf"qmgr\[\d+\]: {qid}: removed$")
            assert not re.search(rf"{qid}: sender non-delivery", hub.log())

            # What is refused waits for somebody to look at it, whole.
            qid = send(hub, "refused@example.com")
            hub.wait_log(rf"qmgr\[\d+\]: {qid}: removed$")
            hub.wait_log(r"bounce\[\d+\]: warning: \w+: a notification is put on hold, since content inspection refuses it: 5\.7\.1 not this one$")
            held = [m for m in hub.queue() if m["queue_name"] == "hold"]
            assert [r["address"] for m in held for r in m["recipients"]] == ["refused@example.com"], held
            text = hub.ctl("queue", "cat", held[0]["queue_id"]).stdout
            assert "To: refused@example.com" in text and re.search(r"\n--.*--\r?\n$", text), text

            # A temporary answer: the message waits with its recipients.
            qid = send(hub, "slow@example.com")
            hub.wait_log(rf"bounce\[\d+\]: warning: {qid}: a notification cannot be inspected now: 4\.7\.1 later$")
            hub.wait_log(rf"{qid}: the sender's notification cannot be queued; the failed recipients are tried again$")
            assert any(m["queue_id"] == qid for m in hub.queue())


def test_only_the_classes_that_are_named():
    with Sink() as sink:
        sink.on["RCPT"] = lambda s, a: "550 5.1.1 no"
        with hub_for(sink, "notify", notify_classes="protocol", error_notice_recipient="pm@example.com") as hub:
            send(hub, "user@example.com")
            assert b"X-Seen" not in hub.wait_mails(1)[0]
            with hub.client() as c:
                c.cmd("BOGUS", 500)
                c.quit()
            assert b"\nSubject: changed\n" in hub.wait_mails(1, "pm")[0]
            hub.main["internal_mail_filter_classes"] = "bounce"
            hub.write_conf()
            hub.reload()
            send(hub, "user@example.com")
            assert b"X-Seen" in hub.wait_mails(2)[1]
            with hub.client() as c:
                c.cmd("BOGUS", 500)
                c.quit()
            assert hub.wait_log(r"left out|class protocol")


def test_body_and_filter():
    """body_checks look at the returned text; a FILTER of the checks sends a notification that way."""
    with Sink() as sink, Sink() as scanner:
        sink.on["RCPT"] = lambda s, a: "550 5.1.1 no"
        checks = f"/^Subject: Undeliverable/ FILTER smtp:[127.0.0.1]:{scanner.port}\n"
        with hub_for(sink, "bounce", checks) as hub:
            send(hub, "user@example.com", body=b"a secret word")
            got = wait_for("the notification", lambda: scanner.mails)[0]
            assert b"[gone]" in got["data"] and b"secret" not in got["data"], got
            assert got["sender"] == "" and got["rcpts"] == ["user@example.com"], got


def test_header_is_rewritten():
    """As that of local mail, whatever the classes."""
    with Sink() as sink:
        sink.on["RCPT"] = lambda s, a: "550 5.1.1 no"
        with hub_for(sink, "", "", canonical_maps="inline:{ MAILER-DAEMON@hub.example.net=robot@example.net, third@example.com=user@example.com }") as hub:
            send(hub, "user@example.com")
            got = hub.wait_mails(1)[0]
            assert b"\nFrom: Mail Delivery System <robot@example.net>\n" in got, got


if __name__ == "__main__":
    cases.main(globals())

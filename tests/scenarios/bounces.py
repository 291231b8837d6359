#!/usr/bin/env python3
"""Notifications: failure, delay, success, double bounces, and who gets none. RFC 3461 to 3464, 6533; bounce(8)."""
import email
import email.policy
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import Sink

MAIL = b"From: user@example.com\r\nTo: a@r.example\r\nSubject: original\r\nMessage-ID: <orig@example.com>\r\n\r\nsecret body\r\n"
REFUSE = "550-5.1.1 no such user\r\n550 5.1.1 really"


def hub_for(sink, main=None):
    return Hub(main, routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"})


def send(hub, *rcpts, sender="user@example.com", body=MAIL, **kw):
    with hub.client() as c:
        qid = c.send_mail(sender, rcpts or ["a@r.example"], body, **kw)
        c.quit()
    return qid


class Report:
    def __init__(self, raw):
        self.raw = raw
        self.mail = email.message_from_bytes(raw, policy=email.policy.compat32)
        assert self.mail.get_content_type() == "multipart/report", raw
        assert self.mail.get_param("report-type") in ("delivery-status", "global-delivery-status"), raw
        self.parts = self.mail.get_payload()
        self.text, self.status, self.original = self.parts
        self.about = self.status.get_payload()[0]
        self.rcpts = self.status.get_payload()[1:]


def report(hub, n=1, user="user"):
    return Report(hub.wait_mails(n, user)[-1])


def test_failure():
    with Sink() as sink, hub_for(sink) as hub:
        sink.on["RCPT"] = lambda s, a: REFUSE if "b@" in a else None
        qid = send(hub, "a@r.example", "b@r.example", mail_args=" ENVID=env+2B1 RET=FULL", rcpt_args=" ORCPT=rfc822;o+2Bo@r.example")
        r = report(hub)
        head = r.mail
        assert r.raw.startswith(b"Return-Path: <>\n"), r.raw
        assert head["To"] == "user@example.com" and "ndeliver" in head["Subject"] and head["Auto-Submitted"] == "auto-replied"
        assert re.fullmatch(r'(MAILER-DAEMON@hub\.example\.net|"?MAILER-DAEMON.*) \(.*\)|.*<MAILER-DAEMON@.*>', head["From"]), head["From"]
        assert head["Message-Id"] and head["Date"] and head["MIME-Version"] == "1.0"
        assert r.text.get_content_type() == "text/plain" and "really" in r.text.get_payload()
        assert r.status.get_content_type() == "message/delivery-status" and r.original.get_content_type() == "message/rfc822"
        assert r.about["Reporting-MTA"] == "dns; hub.example.net" and r.about["Original-Envelope-Id"] == "env+1"
        assert r.about["X-Posthouse-Queue-ID"] == qid or r.about["X-Postfix-Queue-ID"] == qid, str(r.about)
        assert r.about["Arrival-Date"]
        assert len(r.rcpts) == 1
        one = r.rcpts[0]
        assert one["Final-Recipient"] == "rfc822; b@r.example" and one["Original-Recipient"] in ("rfc822;o+o@r.example", "rfc822; o+o@r.example"), str(one)
        assert one["Action"] == "failed" and one["Status"] == "5.1.1" and one["Remote-MTA"] == "dns; 127.0.0.1", str(one)
        assert re.match(r"smtp; 550[- ]5\.1\.1", one["Diagnostic-Code"]) and "really" in one["Diagnostic-Code"], str(one)
        assert b"secret body" in r.raw and b"Subject: original" in r.raw
        hub.wait_log(rf"bounce\[\d+\]: {qid}: sender non-delivery notification: \w+$")
        hub.wait_log(rf"qmgr\[\d+\]: {qid}: removed$")
        hub.wait_queue([])


def test_headers_only():
    with Sink() as sink, hub_for(sink) as hub:
        sink.on["RCPT"] = lambda s, a: REFUSE
        send(hub, mail_args=" RET=HDRS")
        r = report(hub)
        assert r.original.get_content_type() == "text/rfc822-headers"
        assert b"Subject: original" in r.raw and b"secret body" not in r.raw


def test_size_limit_of_the_returned_text():
    with Sink() as sink, hub_for(sink, {"bounce_size_limit": "1000"}) as hub:
        sink.on["RCPT"] = lambda s, a: REFUSE
        send(hub, body=MAIL + b"x" * 70 + b"\r\n" + b"y" * 50000 + b"\r\n")
        assert len(report(hub).raw) < 8000


def test_who_wants_none():
    with Sink() as sink, hub_for(sink) as hub:
        sink.on["RCPT"] = lambda s, a: REFUSE
        one = send(hub, rcpt_args=" NOTIFY=NEVER")
        two = send(hub, rcpt_args=" NOTIFY=SUCCESS,DELAY")
        for qid in (one, two):
            hub.wait_log(rf"{qid}: removed$")
        send(hub, rcpt_args=" NOTIFY=FAILURE")
        assert len(hub.wait_mails(1)) == 1
        hub.wait_log("sender non-delivery notification")
        assert hub.log().count("sender non-delivery notification") == 1


def test_success():
    """Delivered by ourselves; relayed where the next hop does not know of DSN; silence where it does."""
    with Sink(keywords=["PIPELINING"]) as plain, Sink() as knowing, Hub(routes={
            "plain.example": f"smtp:[127.0.0.1]:{plain.port}", "knowing.example": f"smtp:[127.0.0.1]:{knowing.port}"}) as hub:
        qid = send(hub, "other@example.com", "a@plain.example", "a@knowing.example", rcpt_args=" NOTIFY=SUCCESS,FAILURE")
        hub.wait_log(rf"{qid}: removed$")
        mails = [Report(m) for m in hub.wait_mails(2)]
        actions = {x["Final-Recipient"]: (x["Action"], x["Status"][0]) for m in mails for x in m.rcpts}
        assert actions == {"rfc822; other@example.com": ("delivered", "2"), "rfc822; a@plain.example": ("relayed", "2")}, actions
        assert knowing.mails[0]["rcpt_args"][0].startswith("NOTIFY=SUCCESS,FAILURE"), knowing.mails
        hub.wait_log(rf"{qid}: sender delivery status notification: \w+$")


def test_aliases_are_expanded():
    """That the address stands for others is all that the sender is told; a list with an owner has got the mail. As Postfix does it."""
    aliases = "inline:{ { plain=a@r.example, other@example.com }, { owned=b@r.example }, { owner-owned=keeper@example.com } }"
    virtual = "inline:{ one@v.example=v@r.example, same@r.example=same@r.example, tolist@v.example=owned@hub.example.net }"
    with Sink() as sink, hub_for(sink, {"mydestination": "hub.example.net", "alias_maps": aliases, "local_recipient_maps": "$alias_maps",
                                        "virtual_alias_domains": "v.example", "virtual_alias_maps": virtual}) as hub:
        want = {"plain@hub.example.net": "expanded", "owned@hub.example.net": "delivered", "one@v.example": "expanded",
                "tolist@v.example": "expanded"}
        qid = send(hub, *want, "same@r.example", rcpt_args=" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;asked@x.example", mail_args=" ENVID=e1")
        r = report(hub)
        assert {x["Final-Recipient"]: x["Action"] for x in r.rcpts} == {f"rfc822; {a}": action for a, action in want.items()}, str(r.status)
        assert all(x["Original-Recipient"] == "rfc822; asked@x.example" and x["Status"] == "2.0.0" for x in r.rcpts), str(r.status)
        assert "alias expanded" in r.text.get_payload() and r.about["Original-Envelope-Id"] == "e1" and r.about["X-Postfix-Queue-ID"] == qid
        assert b"Subject: original" in r.raw and b"secret body" not in r.raw
        hub.wait_log(rf"bounce\[\d+\]: {qid}: sender delivery status notification: \w+$")
        wait_for("all members", lambda: sum(len(m["rcpts"]) for m in sink.mails) == 5)
        args = {to: a for m in sink.mails for to, a in zip(m["rcpts"], m["rcpt_args"])}
        assert "NOTIFY=FAILURE" in args["a@r.example"] and "NOTIFY=FAILURE" in args["v@r.example"], args
        assert "NOTIFY" not in args["b@r.example"] and "asked" not in args["b@r.example"], args
        assert "NOTIFY=SUCCESS,FAILURE" in args["same@r.example"], args
        # Only success was asked for: nothing is left to tell. A second time for the same address is not told again.
        send(hub, "one@v.example", "one@v.example", rcpt_args=" NOTIFY=SUCCESS")
        assert len(report(hub, 2).rcpts) == 1
        wait_for("the member", lambda: len(sink.mails[-1]["rcpts"]) == 1 and "NOTIFY=NEVER" in sink.mails[-1]["rcpt_args"][0])
        # The null sender hears nothing, nor does who did not ask.
        send(hub, "one@v.example", sender="", rcpt_args=" NOTIFY=SUCCESS")
        send(hub, "one@v.example", rcpt_args=" NOTIFY=FAILURE")
        # sendmail -N
        hub.sendmail("-N", "success", "-f", "user@example.com", "plain", stdin=b"Subject: original\n\nx\n")
        r = report(hub, 3)
        assert [(x["Final-Recipient"], x["Action"]) for x in r.rcpts] == [("rfc822; plain@hub.example.net", "expanded")], str(r.status)
        hub.sendmail("-bs", stdin=b"EHLO x\r\nMAIL FROM:<user@example.com>\r\nRCPT TO:<plain@hub.example.net> NOTIFY=SUCCESS\r\n"
                                  b"DATA\r\nSubject: original\r\n\r\nx\r\n.\r\nQUIT\r\n")
        assert report(hub, 4).rcpts[0]["Action"] == "expanded"
        hub.wait_queue([])
        assert len(hub.mails()) == 4


def test_null_sender_and_double_bounce():
    """A notification that cannot be delivered is told to the postmaster when notify_classes asks, and never to itself."""
    maps = "inline:{ user@example.com=user/, pm@example.com=pm/ }"
    with Sink() as sink, hub_for(sink, {"notify_classes": "2bounce", "2bounce_notice_recipient": "pm@example.com",
                                        "virtual_mailbox_maps": maps}) as hub:
        sink.on["RCPT"] = lambda s, a: REFUSE
        qid = send(hub, sender="x@r.example")  # the notification bounces too
        r = report(hub, user="pm")
        assert "ostmaster" in r.mail["Subject"] or "double" in r.mail["Subject"].lower(), r.mail["Subject"]
        assert "x@r.example" in r.rcpts[0]["Final-Recipient"]
        direct = send(hub, sender="")
        report(hub, 2, user="pm")
        hub.wait_log(rf"{direct}: removed$")
        wait_for("an empty queue", lambda: not hub.queue())
        assert len(hub.mails("pm")) == 2 and qid
    with Sink() as sink, hub_for(sink, {"notify_classes": "2bounce", "2bounce_notice_recipient": "pm@r.example"}) as hub:
        sink.on["RCPT"] = lambda s, a: REFUSE
        send(hub, sender="x@r.example")
        hub.wait_log(r"undeliverable postmaster notification discarded|undeliverable notification to the postmaster discarded")
        wait_for("an empty queue", lambda: not hub.queue())


def test_postmaster_copies():
    maps = "inline:{ user@example.com=user/, pm@example.com=pm/ }"
    with Sink() as sink, hub_for(sink, {"notify_classes": "bounce", "bounce_notice_recipient": "pm@example.com",
                                        "virtual_mailbox_maps": maps}) as hub:
        sink.on["RCPT"] = lambda s, a: REFUSE
        send(hub)
        report(hub)
        copy = report(hub, user="pm")
        assert b"secret body" not in copy.raw and b"Subject: original" in copy.raw


def test_delay_warning_and_expiry():
    with Sink() as sink, hub_for(sink, {"delay_warning_time": "1s", "maximal_queue_lifetime": "4s", "bounce_queue_lifetime": "4s",
                                        "minimal_backoff_time": "1s", "maximal_backoff_time": "1s", "queue_run_delay": "1s"}) as hub:
        sink.on["RCPT"] = lambda s, a: "451 4.3.0 maybe later"
        qid = send(hub)
        warn = report(hub)
        assert "elayed" in warn.mail["Subject"] and warn.rcpts[0]["Action"] == "delayed" and warn.rcpts[0]["Status"][0] == "4"
        assert warn.rcpts[0]["Will-Retry-Until"] and warn.original.get_content_type() == "text/rfc822-headers", str(warn.rcpts[0])
        hub.wait_log(rf"{qid}: sender delay notification: \w+$")
        last = report(hub, 2)
        assert last.rcpts[0]["Action"] == "failed" and last.rcpts[0]["Status"] in ("4.3.0", "4.4.7"), str(last.rcpts[0])
        hub.wait_log(rf"{qid}: from=<user@example\.com>, status=expired, returned to sender$")
        hub.wait_log(rf"{qid}: removed$")
        assert len(hub.mails()) == 2


def test_soft_bounce():
    with Sink() as sink, hub_for(sink, {"soft_bounce": "yes"}) as hub:
        sink.on["RCPT"] = lambda s, a: REFUSE
        qid = send(hub)
        assert hub.wait_log(rf"{qid}: to=<a@r\.example>, .*dsn=(\S+), status=(\w+)")[0] == ("4.1.1", "SOFTBOUNCE")
        assert [m["queue_id"] for m in hub.queue()] == [qid] and hub.mails() == []
        with hub.client() as c:
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<nobody@example.com>", 450)


def test_international():
    maps = "inline:{ { jörg@example.com = user/ } }"
    with Sink(keywords=["SMTPUTF8", "8BITMIME"]) as sink, hub_for(sink, {"virtual_mailbox_maps": maps}) as hub:
        sink.on["RCPT"] = lambda s, a: REFUSE
        send(hub, "ü@r.example", sender="jörg@example.com", mail_args=" SMTPUTF8 RET=HDRS", body="Subject: ö\r\n\r\nx\r\n".encode())
        r = report(hub)
        assert r.status.get_content_type() == "message/global-delivery-status", r.raw
        assert r.mail.get_param("report-type") == "global-delivery-status", r.raw
        assert r.original.get_content_type() == "message/global-headers", r.raw
        assert "Final-Recipient: utf-8; ü@r.example".encode() in r.raw, r.raw


ALIASES = {"virtual_alias_domains": "alias.example"}


def test_a_sender_that_is_an_alias():
    """A notification is mapped like other mail. It does not visit the content filter, which here refused the message itself."""
    maps = "inline:{ { joe@alias.example = user@example.com, ann@alias.example }, { ann@alias.example = other@example.com, user@example.com } }"
    with Sink() as scan, Hub({"virtual_alias_maps": maps, "content_filter": f"smtp:[127.0.0.1]:{scan.port}", **ALIASES}) as hub:
        scan.on["RCPT"] = lambda s, a: REFUSE
        qid = send(hub, "other@example.com", sender="joe@alias.example")
        for user in ("user", "other"):
            r = report(hub, user=user)
            assert r.raw.startswith(b"Return-Path: <>\n") and r.mail["To"] == "joe@alias.example", r.raw
            hub.wait_log(rf"to=<{user}@example\.com>, orig_to=<joe@alias\.example>, relay=virtual, .*status=sent")
        hub.wait_log(rf"qmgr\[\d+\]: {qid}: removed$")
        hub.wait_queue([])
        assert len(hub.mails("user")) == len(hub.mails("other")) == 1 and scan.mails == []
        assert hub.log().count("sender non-delivery notification") == 1


def test_a_sender_that_is_written_otherwise():
    """Completed and made canonical as any recipient, in the header too."""
    with Sink() as sink, hub_for(sink, {"recipient_canonical_maps": "inline:{ joe@old.example.net=user@example.com }"}) as hub:
        sink.on["RCPT"] = lambda s, a: REFUSE
        send(hub, sender="joe@old.example.net")
        assert report(hub).mail["To"] == "user@example.com"


def bounce_when_mapping_fails(hub, sink, sender):
    """A message whose failure cannot be told yet: it stays, as often as it is tried."""
    sink.on["RCPT"] = lambda s, a: "450 4.2.0 later"
    qid = send(hub, sender=sender)
    hub.wait_log(rf"{qid}: to=<a@r\.example>.*status=deferred")
    return qid


def refused_now(hub, sink, qid):
    sink.on["RCPT"] = lambda s, a: REFUSE
    for count in (1, 2):
        hub.ctl("queue", "flush", qid)
        hub.wait_log(rf"bounce\[\d+\]: warning: {qid}: the recipient of a notification cannot be mapped: ", count=count)
        hub.wait_log(rf"{qid}: the sender's notification cannot be queued; the failed recipients are tried again", count=count)
        wait_for("the message to wait", lambda: hub.queue() and hub.queue()[0]["queue_id"] == qid)
    assert not hub.mails() and "non-delivery notification: " not in hub.log()


def test_a_table_that_fails():
    with Sink() as sink, hub_for(sink, {"notify_classes": "bounce", "bounce_notice_recipient": "other@example.com", **ALIASES}) as hub:
        qid = bounce_when_mapping_fails(hub, sink, "joe@alias.example")
        hub.main["virtual_alias_maps"] = f"hash:{hub.dir}/virtual"
        hub.write_conf()
        hub.reload()
        refused_now(hub, sink, qid)
        (hub.dir / "virtual").write_text("joe@alias.example user@example.com\n")
        hub.reload()
        hub.ctl("queue", "flush", qid)
        assert report(hub).rcpts[0]["Final-Recipient"] == "rfc822; a@r.example"
        report(hub, user="other")
        hub.wait_queue([])
        assert len(hub.mails()) == 1 and len(hub.mails("other")) == 1


def test_aliases_that_go_round():
    with Sink() as sink, hub_for(sink, {"virtual_alias_maps": "inline:{ a@alias.example=b@alias.example, b@alias.example=a@alias.example }",
                                        **ALIASES}) as hub:
        qid = bounce_when_mapping_fails(hub, sink, "a@alias.example")
        refused_now(hub, sink, qid)
        assert "virtual_alias_recursion_limit" in hub.log()
        hub.main["virtual_alias_maps"] = "inline:{ a@alias.example=user@example.com }"
        hub.write_conf()
        hub.reload()
        hub.ctl("queue", "flush", qid)
        report(hub)
        hub.wait_queue([])


def test_copies_that_cannot_be_mapped():
    """The sender is told all the same; what will not be made a second time waits on hold."""
    with Sink() as sink, hub_for(sink, {"notify_classes": "bounce", "bounce_notice_recipient": "pm@alias.example", "virtual_alias_maps":
                                        "inline:{ pm@alias.example=mp@alias.example, mp@alias.example=pm@alias.example }", **ALIASES}) as hub:
        sink.on["RCPT"] = lambda s, a: REFUSE
        send(hub)
        report(hub)
        held = hub.wait_log(r"(\w+): a notification is put on hold, since its recipient cannot be mapped: ")[0]
        wait_for("one message on hold", lambda: [(m["queue_id"], m["queue_name"]) for m in hub.queue()] == [(held, "hold")])


def test_members_of_a_list():
    """An owner does not become the sender: a notification has none, so that it never causes another."""
    with Sink() as sink, hub_for(sink, {"mydestination": "here.example", "myorigin": "here.example", "local_recipient_maps": ""}) as hub:
        (hub.dir / "aliases").write_text("staff: user@example.com, other@example.com\nowner-staff: keeper@example.com\nroot: staff\nround: square\nsquare: round\n")
        hub.main["alias_maps"] = f"hash:{hub.dir}/aliases"
        hub.write_conf()
        hub.reload()
        sink.on["RCPT"] = lambda s, a: REFUSE
        send(hub, sender="root@here.example")
        for user in ("user", "other"):
            assert report(hub, user=user).raw.startswith(b"Return-Path: <>\n")
        hub.wait_queue([])
        send(hub, sender="round@here.example")
        hub.wait_log("sender non-delivery notification", count=2)


def test_postmaster_is_an_alias():
    """2bounce_notice_recipient as it is by default."""
    with Sink() as sink, Hub({"notify_classes": "2bounce", "mydestination": "here.example", "myorigin": "here.example", "local_recipient_maps": ""},
                             routes={"r.example": f"smtp:[127.0.0.1]:{sink.port}"}, start=False) as hub:
        (hub.dir / "aliases").write_text("postmaster: root\nroot: user@example.com\n")
        hub.main["alias_maps"] = f"hash:{hub.dir}/aliases"
        hub.write_conf()
        hub.start()
        sink.on["RCPT"] = lambda s, a: REFUSE
        send(hub, sender="x@r.example")
        assert report(hub).raw.startswith(b"Return-Path: <double-bounce@here.example>\n")
        hub.wait_queue([])


def test_a_warning_that_cannot_be_mapped_at_first():
    """It comes with one of the next attempts, once."""
    with Sink() as sink, hub_for(sink, {"delay_warning_time": "0", "minimal_backoff_time": "1s", "maximal_backoff_time": "1s",
                                        "queue_run_delay": "1s", **ALIASES}) as hub:
        qid = bounce_when_mapping_fails(hub, sink, "joe@alias.example")
        hub.main.update({"delay_warning_time": "1s", "virtual_alias_maps": f"hash:{hub.dir}/virtual"})
        hub.write_conf()
        hub.reload()
        hub.wait_log(rf"{qid}: the recipient of a notification cannot be mapped: ")
        (hub.dir / "virtual").write_text("joe@alias.example user@example.com\n")
        hub.reload()
        assert report(hub).rcpts[0]["Action"] == "delayed"
        hub.wait_log(rf"{qid}: to=<a@r\.example>.*status=deferred", count=5)
        assert len(hub.mails()) == 1


if __name__ == "__main__":
    cases.main(globals())

#!/usr/bin/env python3
"""notify_classes: transcripts of sessions with errors go to the postmaster, once, without secrets. postconf(5), smtpd(8), smtp(8)."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from sink import Sink

MAIL = b"From: a@example.org\r\nSubject: s\r\n\r\nthe body\r\n"
TO_OTHER = {"error_notice_recipient": "other@example.com", "smtpd_error_sleep_time": "0"}


def hub_with(classes, **more):
    routes = more.pop("routes", None)
    return Hub(dict(TO_OTHER, notify_classes=classes, **more), routes=routes)


def notice(hub, number=1):
    return hub.wait_mails(number, "other")[number - 1].replace(b"\r\n", b"\n").decode()


def said(text):
    """The transcript's lines."""
    return [line for line in text.splitlines() if line.startswith(("In: ", "Out: ", "     "))]


def nothing_came(hub):
    """A mail that is sent after everything else has arrived, and no notice has."""
    with hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
    hub.wait_mails(1)
    hub.stop()
    hub.start()
    assert hub.mails("other") == [], hub.mails("other")
    assert "notice to the postmaster" not in hub.log()


def test_protocol_errors_of_a_client():
    with hub_with("protocol") as hub:
        with hub.client() as c:
            c.cmd("BOGUS command", 500)
            c.cmd("RCPT TO:<x@example.com>", 503)
            c.quit()
        text = notice(hub)
        assert re.search(r"^Subject: SMTP server: errors from unknown\[127\.0\.0\.1\]$", text, re.M), text
        assert re.search(r"^Auto-Submitted: auto-replied$", text, re.M), text
        assert re.search(r"^Return-Path: <double-bounce@hub\.example\.net>$", text, re.M), text
        lines = said(text)
        assert lines[0].startswith("Out: 220 hub.example.net ESMTP"), lines
        assert lines[1] == "In:  EHLO client.example.org", lines
        at = lines.index("In:  BOGUS command")
        assert lines[at + 1:] == ["Out: 500 5.5.2 Error: command not recognized", "In:  RCPT TO:<x@example.com>",
                                  "Out: 503 5.5.1 Error: need MAIL command", "In:  QUIT", "Out: 221 2.0.0 Bye"], lines
        hub.wait_log(r"notice\[\d+\]: \w+: notice to the postmaster, class protocol: ")


def test_policy_and_what_is_not_asked_for():
    with hub_with("policy", mynetworks="192.0.2.1/32") as hub:
        with hub.client() as c:
            c.cmd("BOGUS", 500)
            c.quit()
        with hub.client() as c:
            c.cmd("MAIL FROM:<a@example.org>", 250)
            assert c.cmd("RCPT TO:<x@elsewhere.example>").code in (454, 554)
            assert c.cmd("RCPT TO:<nobody-here@example.com>").code in (450, 550)
            c.quit()
        text = notice(hub)
        assert "In:  RCPT TO:<x@elsewhere.example>" in text and "BOGUS" not in text, text
        assert "or was refused: policy.\n" in text, text
        assert len(hub.mails("other")) == 1


def test_no_class_no_transcript():
    with hub_with("resource, software") as hub:
        with hub.client() as c:
            c.cmd("BOGUS", 500)
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<nobody-here@example.com>", 550)
            c.quit()
        nothing_came(hub)


def test_a_good_session_is_not_told():
    with hub_with("protocol, policy, data, bounce") as hub:
        nothing_came(hub)


def test_bounce_goes_to_its_own_recipient():
    with hub_with("bounce, protocol", bounce_notice_recipient="user@example.com") as hub:
        with hub.client() as c:
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<nobody-here@example.com>", 550)
            c.quit()
        text = hub.wait_mails(1)[0].decode()
        assert "or was refused: bounce." in text, text
        assert hub.mails("other") == []


def test_a_table_that_fails():
    with hub_with("data", smtpd_command_filter="fail:broken") as hub:
        with hub.client(helo=None) as c:
            c.cmd("EHLO x", 451)
            c.cmd("QUIT", 451)
        text = notice(hub)
        assert "Out: 451 4.3.0 Temporary lookup failure" in text, text
        assert "of these kinds, or was refused: data.\n" in text, text


def test_secrets_are_cut():
    with hub_with("protocol") as hub:
        with hub.client() as c:
            c.cmd("AUTH PLAIN AHVzZXIAc2VjcmV0", 503)
            c.cmd("auth login dXNlcg==", 503)
            c.cmd("c2VjcmV0", 500)
            c.cmd("SECRETWORD", 500)
            c.send_mail("a@example.org", ["user@example.com"], MAIL)
            c.cmd("BOGUS", 500)
            c.quit()
        text = notice(hub)
        for secret in ("AHVzZXIAc2VjcmV0", "dXNlcg", "c2VjcmV0", "SECRETWORD", "the body"):
            assert secret not in text, (secret, text)
        assert "In:  AUTH PLAIN [not shown]" in text and "In:  [not shown]" in text, text
        assert re.search(r"^     \[\d+ bytes of content\]$", text, re.M) and "In:  BOGUS" in text, text


def test_a_long_session_is_bounded():
    with hub_with("protocol", smtpd_hard_error_limit="3000", smtpd_soft_error_limit="3000") as hub:
        with hub.client() as c:
            for i in range(900):
                c.raw(f"X{i}\r\n".encode())
                c.reply()
            c.quit()
        text = notice(hub)
        assert len(text) < 20000, len(text)
        assert "In:  X0\n" in text and "In:  X899\n" in text and "In:  X300\n" not in text, text
        assert re.search(r"^     \[\d+ lines left out\]$", text, re.M), text


def test_history_flush_threshold():
    """Longer than this, it goes out at EHLO, RSET or the end of a message and begins again; a good one is forgotten."""
    with hub_with("protocol", smtpd_history_flush_threshold="12") as hub, hub.client() as c:
        c.cmd("BOGUS one", 500)
        c.cmd("RSET", 250)
        assert hub.mails("other") == []
        for _ in range(6):
            c.cmd("NOOP", 250)
        c.cmd("RSET", 250)
        text = notice(hub)
        assert "In:  BOGUS one" in text, text


def test_a_flood_of_bad_clients():
    """One notice of a client a minute; the rest is counted."""
    with hub_with("protocol", smtpd_client_connection_count_limit="0") as hub:
        for _ in range(40):
            with hub.client() as c:
                c.cmd("BOGUS", 500)
        notice(hub)
        hub.wait_log(r"warning: too many notices to the postmaster: one of class protocol was left out")
        # Others are told of too, up to a number for all.
        for i in range(2, 40):
            with hub.client(source=f"127.0.0.{i}") as c:
                c.cmd("BOGUS", 500)
        hub.wait_mails(20, "other")
        hub.stop()
        hub.start()
        assert len(hub.mails("other")) == 20, len(hub.mails("other"))


def test_a_notice_causes_none():
    """Its sender is refused: no transcript of that."""
    with hub_with("policy, protocol, bounce") as hub:
        with hub.client() as c:
            c.cmd("MAIL FROM:<double-bounce@hub.example.net>", 250)
            c.cmd("RCPT TO:<nobody-here@example.com>", 550)
            c.cmd("RSET", 250)
            c.quit()
        nothing_came(hub)


def delivery(classes, **hooks):
    sink = Sink()
    sink.on.update(hooks)
    return sink, hub_with(classes, routes={"relay.example": f"smtp:[127.0.0.1]:{sink.port}"}, maximal_queue_lifetime="0")


def test_protocol_errors_of_a_server():
    sink, hub = delivery("protocol", RCPT=lambda s, arg: "501 5.5.4 what is that" if "odd@" in arg else "550 5.1.1 no such user")
    with hub:
        with hub.client() as c:
            c.send_mail("a@example.org", ["refused@relay.example"], MAIL)
            hub.wait_log("status=bounced")
            c.send_mail("a@example.org", ["odd@relay.example"], MAIL)
        text = notice(hub)
        assert re.search(r"^Subject: SMTP client: errors from .*\[127\.0\.0\.1\]$", text, re.M), text
        assert "Out: RCPT TO:<odd@relay.example>" in text and "In:  501 5.5.4 what is that" in text, text
        assert "In:  220 sink.example.com ESMTP" in text and "refused@" not in text and "the body" not in text, text
        assert len(hub.mails("other")) == 1
    sink.close()


def test_an_unreadable_reply():
    sink, hub = delivery("protocol", MAIL=lambda s, arg: "hello there")
    with hub:
        with hub.client() as c:
            c.send_mail("a@example.org", ["x@relay.example"], MAIL)
        text = notice(hub)
        assert "In:  hello there" in text and "protocol error: unreadable reply" in text, text
    sink.close()


def test_a_server_that_is_not_told_of():
    sink, hub = delivery("policy, resource, software", MAIL=lambda s, arg: "500 5.5.1 what")
    with hub:
        with hub.client() as c:
            c.send_mail("a@example.org", ["x@relay.example"], MAIL)
        hub.wait_log("status=bounced")
        nothing_came(hub)
    sink.close()


def test_a_notice_that_a_server_refuses():
    """The postmaster's own server breaks the protocol: no notice about the notice."""
    sink, hub = delivery("protocol", MAIL=lambda s, arg: "500 5.5.1 what")
    hub.main["error_notice_recipient"] = "pm@relay.example"
    hub.write_conf()
    with hub:
        hub.reload()
        with hub.client() as c:
            c.cmd("BOGUS", 500)
            c.quit()
        hub.wait_log(r"to=<pm@relay\.example>.* status=bounced")
        hub.wait_log("undeliverable notification to the postmaster discarded")
        wait_for("an empty queue", lambda: hub.queue() == [])
        assert len(re.findall("notice to the postmaster", hub.log())) == 1, hub.log()
    sink.close()


def hub_with_aliases(text):
    """Local names are aliases; the notice goes to the default recipient, postmaster."""
    hub = Hub({"notify_classes": "protocol", "mydestination": "here.example", "myorigin": "here.example", "local_recipient_maps": "",
               "smtpd_error_sleep_time": "0"}, start=False)
    if text:
        (hub.dir / "aliases").write_text(text)
    hub.main["alias_maps"] = f"hash:{hub.dir}/aliases"
    hub.write_conf()
    hub.start()
    with hub.client() as c:
        c.cmd("BOGUS", 500)
        c.quit()
    return hub


def test_postmaster_is_an_alias():
    with hub_with_aliases("postmaster: root\nroot: user@example.com, other@example.com\n") as hub:
        for user in ("user", "other"):
            text = hub.wait_mails(1, user)[0].decode()
            assert re.search(r"^To: postmaster@here\.example$", text, re.M), text
            assert re.search(r"^Return-Path: <double-bounce@here\.example>$", text, re.M), text


def test_postmaster_while_aliases_cannot_be_read():
    with hub_with_aliases(None) as hub:
        hub.wait_log(r"notice\[\d+\]: warning: a notice to the postmaster waits, since its recipient cannot be mapped: ")
        assert not hub.queue() and "notice to the postmaster, class" not in hub.log()
        (hub.dir / "aliases").write_text("postmaster: user@example.com\n")
        hub.reload()
        assert b"In:  BOGUS" in hub.wait_mails(1)[0]
        wait_for("an empty queue", lambda: hub.queue() == [])


def test_stop_while_aliases_cannot_be_read():
    with hub_with_aliases(None) as hub:
        hub.wait_log(r"a notice to the postmaster waits")
        hub.stop()
        held = hub.wait_log(r"(\w+): a notice to the postmaster is put on hold, since its recipient cannot be mapped: ")[0]
        hub.start()
        queue = wait_for("the notice in the queue", hub.queue)
        assert [(m["queue_id"], m["queue_name"]) for m in queue] == [(held, "hold")], queue


if __name__ == "__main__":
    cases.main(globals())

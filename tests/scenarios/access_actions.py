#!/usr/bin/env python3
"""access(5) actions that do something with the message: HOLD, DISCARD, REDIRECT, BCC, PREPEND. FILTER is in content_filter.py."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for
from policyserver import PolicyServer

MAIL = b"Subject: s\r\n\r\nhi\r\n"
USERS = {"virtual_mailbox_maps": "inline:{ user@example.com=user/ other@example.com=other/ third@example.com=third/ }"}


def sender(action):
    return {**USERS, "smtpd_sender_restrictions": f"check_sender_access inline:{{ {{ marked@example.org = {action} }} }}"}


def test_hold():
    with Hub(sender("HOLD looks odd")) as hub, hub.client() as c:
        c.send_mail("marked@example.org", ["user@example.com"], MAIL)
        c.send_mail("plain@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)
        hub.wait_log(r"NOQUEUE: hold: RCPT from unknown\[127\.0\.0\.1\]: <marked@example\.org>: Sender address looks odd; from=<marked@example\.org> "
                     r"to=<user@example\.com>")
        q = hub.queue()
        assert [m["queue_name"] for m in q] == ["hold"], q
        hub.stop()
        hub.start()
        assert [m["queue_name"] for m in hub.queue()] == ["hold"], "a hold survives a restart"
        hub.ctl("queue", "release", q[0]["queue_id"])
        hub.wait_mails(2)


def test_discard():
    with Hub({**sender("DISCARD"), "smtpd_recipient_restrictions": "check_recipient_access inline:{ other@example.com=REJECT }"}) as hub:
        with hub.client() as c:
            c.cmd("MAIL FROM:<marked@example.org>", 250)
            c.cmd("RCPT TO:<user@example.com>", 250)
            c.cmd("RCPT TO:<other@example.com>", 250)
            c.content(MAIL)
            c.envelope("marked@example.org", ["user@example.com"])
            c.raw(b"BDAT 4 LAST\r\nhi\r\n")
            assert c.reply().code == 250
            c.cmd("MAIL FROM:<plain@example.org>", 250)
            c.cmd("RCPT TO:<other@example.com>", 554)
            c.cmd("RSET", 250)
            c.send_mail("plain@example.org", ["user@example.com"], MAIL)
        hub.wait_log(r"discard: RCPT from unknown\[127\.0\.0\.1\]: <marked@example\.org>: Sender address triggers DISCARD action;", count=2)
        hub.wait_mails(1)
        hub.stop()
        assert len(hub.mails()) == 1 and not hub.mails("other")


def test_redirect():
    with Hub(sender("REDIRECT third@example.com")) as hub, hub.client() as c:
        c.send_mail("marked@example.org", ["user@example.com", "other@example.com"], MAIL)
        mail = hub.wait_mails(1, "third")[0]
        assert b"Delivered-To: third@example.com" in mail
        c.send_mail("plain@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)
        hub.wait_log(r"redirect: RCPT from unknown\[127\.0\.0\.1\]: <marked@example\.org>: Sender address triggers REDIRECT third@example\.com;")
        hub.stop()
        assert len(hub.mails("third")) == 1 and len(hub.mails()) == 1 and not hub.mails("other")


def test_bcc():
    with Hub({**sender("BCC third@example.com"), "virtual_alias_maps": "inline:{ third@example.com=other@example.com }"}) as hub:
        with hub.client() as c:
            c.send_mail("marked@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)
        hub.wait_mails(1, "other")
        hub.stop()
        assert not hub.mails("third")


def test_prepend():
    with PolicyServer(lambda r: {"RCPT": "PREPEND X-One: 1", "DATA": "PREPEND X-Two: 2", "END-OF-MESSAGE": "PREPEND X-Late: 3"}[r["protocol_state"]]) as s:
        every = f"check_policy_service {s.address}"
        with Hub({**USERS, "smtpd_recipient_restrictions": every, "smtpd_data_restrictions": every, "smtpd_end_of_data_restrictions": every}) as hub:
            with hub.client() as c:
                c.send_mail("a@example.org", ["user@example.com", "other@example.com"], MAIL)
            mail = hub.wait_mails(1)[0]
            one, two, received = mail.index(b"X-One: 1\n"), mail.index(b"X-Two: 2\n"), mail.index(b"Received: from")
            assert one < two < received and mail.count(b"X-One") == 1 and b"X-Late" not in mail, mail
            hub.wait_log(r"warning: check_policy_service: action PREPEND is ignored: the header is written already")


def test_what_makes_no_sense_is_ignored_aloud():
    for action, words in (("BCC nobody", '"nobody" is no address user@domain'), ("REDIRECT", '"" is no address user@domain'),
                          ("PREPEND not a header", '"not a header" is no header field')):
        with Hub(sender(action)) as hub, hub.client() as c:
            c.send_mail("marked@example.org", ["user@example.com"], MAIL)
            hub.wait_mails(1)
            hub.wait_log("warning: check_sender_access: action " + action.split()[0] + " is ignored: " + words)
    with Hub({**USERS, "smtpd_delay_reject": "no", "smtpd_client_restrictions": "check_client_access static:HOLD"}) as hub, hub.client() as c:
        c.send_mail("a@example.org", ["user@example.com"], MAIL)
        hub.wait_mails(1)
        hub.wait_log(r"warning: check_client_access: action HOLD is ignored: there is no message yet")


if __name__ == "__main__":
    cases.main(globals())

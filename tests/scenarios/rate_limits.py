#!/usr/bin/env python3
"""Limits by client, account and sender domain, and the status lines. anvil(8), TUNING_README."""
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub

MAIL = b"From: a@example.org\r\nSubject: s\r\n\r\nhi\r\n"


def hub_for(main=None):
    return Hub(dict({"smtpd_authorized_xclient_hosts": "127.0.0.1", "smtpd_client_event_limit_exceptions": "192.0.2.99",
                     "inet_protocols": "ipv4, ipv6", "smtpd_error_sleep_time": "0", "smtpd_hard_error_limit": "1000",
                     "smtpd_sasl_auth_enable": "yes"}, **(main or {})))


def become(hub, address, more="", code=220):
    """A session of that client."""
    c = hub.client()
    r = c.cmd(f"XCLIENT ADDR={address} HELO=x {more}".strip(), code)
    return c, r


def mails(c, n, sender="a@example.org"):
    """Codes of so many MAIL commands."""
    got = []
    for _ in range(n):
        r = c.cmd(f"MAIL FROM:<{sender}>")
        got.append(r.code)
        if r.code == 250:
            c.cmd("RSET", 250)
    return got


def test_concurrency():
    with hub_for({"smtpd_client_connection_count_limit": "2"}) as hub:
        held = [become(hub, "192.0.2.1")[0] for _ in range(2)]
        c, r = become(hub, "192.0.2.1", code=421)
        assert r.text == "4.7.0 hub.example.net Error: too many connections from 192.0.2.1" and c.is_closed()
        hub.wait_log(r"warning: Connection concurrency limit exceeded: 3 from unknown\[192\.0\.2\.1\] for service 127\.0\.0\.1:0$")
        become(hub, "192.0.2.2")[0].close()
        held[0].quit()
        become(hub, "192.0.2.1")
        for _ in range(5):  # exempt
            held.append(become(hub, "192.0.2.99")[0])
        for c in held:
            c.close()


def test_connection_rate_and_time_unit():
    with hub_for({"smtpd_client_connection_rate_limit": "2", "anvil_rate_time_unit": "3s"}) as hub:
        begin = time.monotonic()
        for _ in range(2):
            become(hub, "192.0.2.1")[0].quit()
        c, r = become(hub, "192.0.2.1", code=421)
        assert time.monotonic() - begin < 3, "too slow to see a window of 3 s"
        assert "too many connections" in r.text
        hub.wait_log("Connection rate limit exceeded: 3 from ")
        time.sleep(max(0, begin + 3.2 - time.monotonic()))
        become(hub, "192.0.2.1")[0].quit()


def test_message_and_recipient_rate():
    with hub_for({"smtpd_client_message_rate_limit": "3", "smtpd_client_recipient_rate_limit": "2"}) as hub:
        c, _ = become(hub, "192.0.2.1")
        c.cmd("MAIL FROM:<a@example.org>", 250)
        for code in (250, 250, 450, 450):
            r = c.cmd("RCPT TO:<user@example.com>", code)
        assert r.text == "4.7.1 Error: too many recipients from 192.0.2.1"
        hub.wait_log(r"Recipient address rate limit exceeded: 4 from unknown\[192\.0\.2\.1\] for service")
        c.cmd("RSET", 250)
        assert mails(c, 4) == [250, 250, 450, 450]
        hub.wait_log(r"Message delivery request rate limit exceeded: 5 from unknown\[192\.0\.2\.1\] for service")
        c, _ = become(hub, "192.0.2.1")  # another session of the same client
        assert mails(c, 1) == [450]
        c, _ = become(hub, "192.0.2.2")
        assert mails(c, 1) == [250]


def test_networks_count_as_one():
    with hub_for({"smtpd_client_message_rate_limit": "2", "smtpd_client_ipv4_prefix_length": "24"}) as hub:
        assert [mails(become(hub, f"192.0.2.{i}")[0], 1)[0] for i in range(3)] == [250, 250, 450]
        assert mails(become(hub, "192.0.3.1")[0], 1) == [250]
        # by default 84 bits of IPv6
        assert [mails(become(hub, f"IPV6:2001:db8::{i}")[0], 1)[0] for i in range(1, 4)] == [250, 250, 450]
        assert mails(become(hub, "IPV6:2001:db8:0:0:0:1000::1")[0], 1) == [250]
    with hub_for({"smtpd_client_message_rate_limit": "1", "smtpd_client_ipv6_prefix_length": "128"}) as hub:
        assert [mails(become(hub, f"IPV6:2001:db8::{i}")[0], 1)[0] for i in (1, 2, 1)] == [250, 250, 450]


def test_accounts():
    with hub_for({"account_message_rate_limit": "3", "account_recipient_rate_limit": "2"}) as hub:
        # wherever it is used, exempt clients included
        seen = [mails(become(hub, a, "LOGIN=joe")[0], 1)[0] for a in ("192.0.2.1", "192.0.2.2", "192.0.2.99", "192.0.2.4")]
        assert seen == [250, 250, 250, 450]
        r = become(hub, "192.0.2.5", "LOGIN=JOE")[0].cmd("MAIL FROM:<a@example.org>", 450)
        assert r.text == "4.7.1 Error: too much mail from JOE", r
        hub.wait_log(r"Message delivery request rate limit exceeded: 5 from sasl_username=JOE for service")
        assert mails(become(hub, "192.0.2.1", "LOGIN=ann")[0], 1) == [250]
        assert mails(become(hub, "192.0.2.1")[0], 5) == [250] * 5
        for code in (250, 450):
            c, _ = become(hub, "192.0.2.1", "LOGIN=eve")
            c.cmd("MAIL FROM:<a@example.org>", 250)
            c.cmd("RCPT TO:<user@example.com>", 250 if code == 250 else 450)
            c.cmd("RCPT TO:<user@example.com>", code)
        hub.wait_log("Recipient address rate limit exceeded: 3 from sasl_username=eve")


def test_sender_domains():
    with hub_for({"sender_domain_message_rate_limit": "2", "sender_domain_recipient_rate_limit": "3"}) as hub:
        assert mails(become(hub, "192.0.2.1")[0], 2, "a@bulk.example") == [250, 250]
        c, _ = become(hub, "192.0.2.2")
        r = c.cmd("MAIL FROM:<b@Bulk.Example>", 450)
        assert r.text == "4.7.1 Error: too much mail from Bulk.Example", r
        hub.wait_log(r"Message delivery request rate limit exceeded: 3 from sender_domain=Bulk\.Example for service")
        assert mails(c, 1, "a@other.example") == [250]
        assert mails(c, 4, "") == [250] * 4
        assert mails(become(hub, "192.0.2.99")[0], 3, "a@bulk.example") == [250] * 3
        c.cmd("MAIL FROM:<a@third.example>", 250)
        for code in (250, 250, 250, 450):
            c.cmd("RCPT TO:<user@example.com>", code)


def test_status_lines():
    with hub_for({"smtpd_client_message_rate_limit": "100", "smtpd_client_recipient_rate_limit": "100", "anvil_status_update_time": "1s",
                  "account_message_rate_limit": "100", "sender_domain_message_rate_limit": "100"}) as hub:
        for i in range(3):
            become(hub, "192.0.2.1")[0].quit()
        c, _ = become(hub, "192.0.2.2", "LOGIN=joe")
        mails(c, 4, "a@bulk.example")
        when = r" at \w{3} [ \d]\d \d\d:\d\d:\d\d$"
        at = r"\(127\.0\.0\.1:0:"
        for line in (rf"max connection rate 3/60s for {at}192\.0\.2\.1\)", rf"max connection count \d for {at}192\.0\.2\.\d\)",
                     rf"max message rate 4/60s for {at}192\.0\.2\.2\)", rf"max message rate 4/60s for {at}sasl_username=joe\)",
                     rf"max message rate 4/60s for {at}sender_domain=bulk\.example\)", r"max cache size \d+"):
            hub.wait_log(r"posthouse/anvil\[\d+\]: statistics: " + line + when)
        before = len(re.findall("statistics: max message rate", hub.log()))
        mails(c, 1, "a@bulk.example")
        hub.wait_log(r"max message rate 5/60s", count=3)
        assert len(re.findall("statistics: max message rate", hub.log())) >= before
    with hub_for() as hub:
        become(hub, "192.0.2.1")
        hub.stop()
        assert "statistics: max connection count 1 for (127.0.0.1:0:192.0.2.1)" in hub.log()


def test_reload_changes_the_limits():
    with hub_for({"smtpd_client_message_rate_limit": "1"}) as hub:
        assert mails(become(hub, "192.0.2.1")[0], 2) == [250, 450]
        hub.main["smtpd_client_message_rate_limit"] = "4"
        hub.write_conf()
        hub.reload()
        assert mails(become(hub, "192.0.2.1")[0], 3) == [250, 250, 450]


if __name__ == "__main__":
    cases.main(globals())

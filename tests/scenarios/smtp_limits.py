#!/usr/bin/env python3
"""What the SMTP server does with clients that ask too much, too long or too slowly. smtpd(8) "resource and rate controls"."""
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cases
from hub import Hub, wait_for

MAIL = b"From: a@example.org\r\nSubject: s\r\n\r\nhi\r\n"


def test_too_many_errors():
    with Hub({"smtpd_soft_error_limit": "2", "smtpd_hard_error_limit": "4", "smtpd_error_sleep_time": "1s"}) as hub, \
            hub.client() as c:
        c.cmd("BOGUS", 500)
        c.cmd("BOGUS", 500)
        begin = time.monotonic()
        c.cmd("BOGUS", 500)
        assert time.monotonic() - begin >= 0.95, "no delay after smtpd_soft_error_limit"
        c.cmd("BOGUS", 500)
        r = c.ends_with(421)
        assert r.text == "4.7.0 hub.example.net Error: too many errors", r
        hub.wait_log(r"too many errors after UNKNOWN from unknown\[127\.0\.0\.1\]$")
        hub.wait_log(r"disconnect from unknown\[127\.0\.0\.1\] ehlo=1 unknown=0/4 commands=1/5$")


def test_errors_without_delay():
    with Hub({"smtpd_soft_error_limit": "1", "smtpd_hard_error_limit": "100", "smtpd_error_sleep_time": "0"}) as hub, hub.client() as c:
        begin = time.monotonic()
        for _ in range(8):
            c.cmd("BOGUS", 500)
        assert time.monotonic() - begin < 6, "a delay although smtpd_error_sleep_time is 0"


def test_a_delivered_message_clears_the_errors():
    with Hub({"smtpd_hard_error_limit": "3", "smtpd_error_sleep_time": "0"}) as hub, hub.client() as c:
        for _ in range(3):
            c.cmd("BOGUS", 500)
            c.cmd("BOGUS", 500)
            c.send_mail("a@example.org", ["user@example.com"], MAIL)


def test_junk_commands():
    with Hub({"smtpd_junk_command_limit": "3", "smtpd_hard_error_limit": "2", "smtpd_error_sleep_time": "0"}) as hub, \
            hub.client() as c:
        seen = 0
        while c.cmd("NOOP").code == 250 and seen < 20:
            seen += 1
            if seen == 6:
                c.ends_with(421)
                break
        assert 5 <= seen <= 6, seen


def test_recipient_limits():
    with Hub({"smtpd_recipient_limit": "3", "smtpd_recipient_overshoot_limit": "2", "smtpd_hard_error_limit": "2",
              "smtpd_error_sleep_time": "0", "relay_domains": "relay.example", "defer_transports": "relay"}) as hub, hub.client() as c:
        c.cmd("MAIL FROM:<a@example.org>", 250)
        for i in range(3):
            c.cmd(f"RCPT TO:<r{i}@relay.example>", 250)
        for i in range(2):
            assert c.cmd("RCPT TO:<more@relay.example>", 452).text == "4.5.3 Error: too many recipients"
        c.content(MAIL)  # what fitted is accepted
        c.cmd("MAIL FROM:<a@example.org>", 250)
        for i in range(3):
            c.cmd(f"RCPT TO:<r{i}@relay.example>", 250)
        for i in range(4):
            c.cmd("RCPT TO:<more@relay.example>", 452)
        c.ends_with(421)
        assert [len(m["recipients"]) for m in hub.queue()] == [3]


def test_long_lines():
    with Hub({"line_length_limit": "100"}) as hub, hub.client() as c:
        c.cmd("NOOP " + "x" * 90, 250)
        c.cmd("NOOP " + "x" * 200, 500)
        c.cmd("NOOP " + "x" * 100000, 500)
        c.cmd("NOOP", 250)
        c.send_mail("a@example.org", ["user@example.com"], MAIL + b"y" * 5000 + b"\r\n")  # content has its own rules
        hub.wait_mails(1)


def test_connections_per_client():
    with Hub({"smtpd_client_connection_count_limit": "2", "smtpd_client_event_limit_exceptions": ""}) as hub:
        with hub.client(), hub.client():
            with hub.client(greet=False) as third:
                r = third.ends_with(421)
                assert r.text == "4.7.0 hub.example.net Error: too many connections from 127.0.0.1", r
            hub.wait_log(r"warning: Connection concurrency limit exceeded: 3 from unknown\[127\.0\.0\.1\] for service ")

        def welcome():
            with hub.client(greet=False) as c:
                return c.reply().code == 220
        wait_for("room for another connection", welcome)


def test_rates_per_client():
    with Hub({"smtpd_client_message_rate_limit": "2", "smtpd_client_recipient_rate_limit": "4",
              "smtpd_client_connection_rate_limit": "2", "smtpd_client_event_limit_exceptions": ""}) as hub:
        with hub.client() as c:
            for _ in range(2):
                c.send_mail("a@example.org", ["user@example.com"], MAIL)
            r = c.cmd("MAIL FROM:<a@example.org>", 450)
            assert r.text == "4.7.1 Error: too much mail from 127.0.0.1", r
        with hub.client():
            pass
        with hub.client(greet=False) as c:
            c.ends_with(421)
        hub.wait_log(r"warning: Connection rate limit exceeded: 3 from ")
        hub.wait_log(r"warning: Message delivery request rate limit exceeded: 3 from ")
    with Hub({"smtpd_client_recipient_rate_limit": "1", "smtpd_client_event_limit_exceptions": ""}) as hub, hub.client() as c:
        c.cmd("MAIL FROM:<a@example.org>", 250)
        c.cmd("RCPT TO:<user@example.com>", 250)
        assert "too many recipients from 127.0.0.1" in c.cmd("RCPT TO:<other@example.com>", 450).text


def test_mynetworks_are_not_counted():
    with Hub({"smtpd_client_connection_count_limit": "1"}) as hub, hub.client(), hub.client():
        pass


def test_silence_ends_a_session():
    with Hub({"smtpd_timeout": "1s"}) as hub:
        with hub.client() as c:
            assert "timeout exceeded" in c.ends_with(421).text
        with hub.client() as c:
            c.envelope()
            c.cmd("DATA", 354)
            c.raw(b"Subject: half\r\n")
            assert "timeout exceeded" in c.ends_with(421).text
        hub.wait_log(r" timeout after EHLO from unknown\[127\.0\.0\.1\]$")
        hub.wait_log(r" timeout after DATA \(\d+ bytes\) from unknown\[127\.0\.0\.1\]$")
        assert hub.queue() == []


def test_one_byte_at_a_time_is_too_slow():
    with Hub({"smtpd_timeout": "1s", "smtpd_per_request_deadline": "yes"}) as hub, hub.client() as c:
        begin = time.monotonic()
        try:
            for byte in b"NOOP " + b"x" * 1000:
                c.raw(bytes([byte]))
                time.sleep(0.05)  # the slowness is what this test is about
                if time.monotonic() - begin > 10:
                    break
        except OSError:
            pass
        assert time.monotonic() - begin < 9, "the request had no deadline"


def test_commands_that_are_no_smtp():
    with Hub() as hub:
        for line in ["GET / HTTP/1.1", "POST / HTTP/1.1", "CONNECT x:25 HTTP/1.1", "Subject: hello", "From:x"]:
            with hub.client() as c:
                c.raw(line.encode() + b"\r\n")
                c.ends_with(221)
        hub.wait_log(r"warning: non-SMTP command from unknown\[127\.0\.0\.1\]: GET / HTTP/1\.1$")
        with hub.client(helo=None) as c:
            c.raw(bytes(range(128, 256)) + b"\0\r\n")
            assert c.reply().code == 500
            c.cmd("NOOP", 250)


def test_disk_without_room():
    with Hub({"queue_minfree": "9000000000000000"}) as hub, hub.client() as c:
        r = c.cmd("MAIL FROM:<a@example.org>", 452)
        assert r.text == "4.3.1 Insufficient system storage", r
        c.cmd("NOOP", 250)
        hub.wait_log(r"NOQUEUE: reject: MAIL from unknown\[127\.0\.0\.1\]: 452 4\.3\.1 Insufficient system storage; ")


def test_too_many_hops():
    with Hub({"hopcount_limit": "5"}) as hub, hub.client() as c:
        c.envelope()
        r = c.content(b"Received: by a\r\n" * 5 + MAIL, 554)
        assert "too many hops" in r.text, r
        c.send_mail("a@example.org", ["user@example.com"], b"Received: by a\r\n" * 3 + MAIL)


def test_many_parked_clients_do_not_shut_others_out():
    """More idle clients than there are workers."""
    with Hub({"default_process_limit": "4"}) as hub:
        idle = [hub.client() for _ in range(200)]
        with hub.client() as c:
            c.send_mail("a@example.org", ["user@example.com"], MAIL)
        for c in idle:
            c.cmd("NOOP", 250)
            c.close()
        hub.wait_mails(1)
        assert not re.search(r"panic|Assertion", hub.log())


if __name__ == "__main__":
    cases.main(globals())
